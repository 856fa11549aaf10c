//! Aliases: names of one view of one storage. Views that merely overlap are none.

use std::collections::{BTreeMap, HashMap};

use super::error::{Error, Refused};
use super::notes::{Aliased, Note};
use super::{Alias, Aliases, Options, Planned, written_bytes};
use crate::tensor::Tensor;

/// Keys of a safetensors header or index that mean something else than a dropped name.
const RESERVED: &[&str] = &["format", "__metadata__", "total_size", "total_parameters"];

/// What becomes of aliases.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// What is written.
    pub(super) tensors: Vec<Planned>,
    /// Names that are not.
    pub(super) aliases: Vec<Alias>,
    /// Dropped name to kept name.
    pub(super) metadata: BTreeMap<String, String>,
    /// What to say.
    pub(super) note: Option<Note>,
}

/// Finds the names that show what an earlier one shows, in one pass, and writes them once or again.
pub(super) fn resolve(
    planned: Vec<Planned>,
    tensors: &[Tensor],
    options: &Options,
) -> Result<Resolved, Error> {
    let once = match options.aliases {
        Aliases::Auto => options.prefer_once,
        Aliases::Once => true,
        Aliases::Copy | Aliases::Refuse => false,
    };
    let mut resolved = Resolved { tensors: Vec::with_capacity(planned.len()), ..Resolved::default() };
    let (mut copied, mut dropped): (Option<Aliased>, Option<Aliased>) = (None, None);
    // A cast tensor and the same one uncast (among optimizer state) are two outputs.
    let mut first: HashMap<(&Tensor, bool), usize> = HashMap::with_capacity(planned.len());
    for tensor in planned {
        let at = resolved.tensors.len();
        let Some(data) = tensors.get(tensor.tensor.index()).filter(|data| data.view.nbytes() > 0) else {
            resolved.tensors.push(tensor);
            continue;
        };
        let of = *first.entry((data, tensor.cast)).or_insert(at);
        let Some(kept) = resolved.tensors.get(of) else {
            resolved.tensors.push(tensor);
            continue;
        };
        if options.aliases == Aliases::Refuse {
            return Err(Refused::Alias { name: tensor.name, of: kept.name.clone() }.into());
        }
        let bytes = written_bytes(data, tensor.cast.then_some(options.dtype).flatten());
        if once && !RESERVED.contains(&&*tensor.name) {
            count(&mut dropped, bytes, &tensor.name, &kept.name);
            resolved.metadata.insert(tensor.name.clone(), kept.name.clone());
            resolved.aliases.push(Alias { name: tensor.name, of, entry: tensor.entry });
        } else {
            count(&mut copied, bytes, &tensor.name, &kept.name);
            resolved.tensors.push(tensor);
        }
    }
    resolved.note = dropped.map(Note::AliasesOnce).or(copied.map(Note::AliasesCopied));
    Ok(resolved)
}

fn count(total: &mut Option<Aliased>, bytes: u64, name: &str, of: &str) {
    let total =
        total.get_or_insert_with(|| Aliased { names: 0, bytes: 0, first: name.into(), of: of.into() });
    total.names = total.names.saturating_add(1);
    total.bytes = total.bytes.saturating_add(bytes);
}
