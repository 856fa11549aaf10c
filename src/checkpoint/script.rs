//! `TorchScript`: the pickle of the module, then those of constants, inputs and code.

use crate::container::{Classes, ScriptRecords, Storages, TorchZip};
use crate::rebuild::Rebuilt;
use crate::tensor::{Step, Streams};

use super::graft::graft;
use super::{Error, OpenOptions, Opened, Source, SourceFile, account, run, zip};

/// Pickles beside `data.pkl`: name, where its tensors stand in the tree, and the folder of its records.
const FURTHER: &[(&str, &str, &str)] = &[
    ("constants.pkl", "CONSTANTS", "constants/"),
    ("traced_inputs.pkl", "traced_inputs", "traced_inputs/"),
    ("bytecode.pkl", "bytecode", "constants/"),
];

/// Opens every pickle of the archive. Parameters and buffers have the names that `state_dict()` gives; what else there
/// is stands as attributes of the module.
pub(super) fn open(source: &Source, torch: &TorchZip, options: &OpenOptions) -> Result<Opened, Error> {
    let mut streams = Streams::new(source.clone());
    let classes =
        Classes::read(source, torch.archive(), &format!("{}code/", torch.prefix()), &options.limits)?;
    let mut pickles = Vec::new();
    let mut strays: Vec<String> = torch.archive().strays().iter().map(ToString::to_string).collect();
    let mut after_stop = 0_u64;
    let mut stored = 0_u64;
    let mut read =
        |name: &str, folder: &'static str, streams: &mut Streams| -> Result<Option<Rebuilt>, Error> {
            let Some(member) = torch.archive().member(&format!("{}{name}", torch.prefix())) else {
                return Ok(None);
            };
            let (stream, span) = zip::pickle(source, torch.archive(), member, streams, options)?;
            let mut ran = run::run(streams, stream, span, Some(&member.name), options)?;
            let records: &dyn Storages = &ScriptRecords { torch, folder, classes: &classes };
            let rebuilt = ran.rebuild(streams, Some(records), options)?;
            pickles.extend(ran.infos(streams)?);
            stored = stored.saturating_add(member.data.len());
            let rest = span.end().saturating_sub(ran.span.end());
            if rest > 0 {
                after_stop = after_stop.saturating_add(rest);
                strays.push(format!("{}: {rest} bytes follow the pickle", member.name.escape_debug()));
            }
            Ok(Some(rebuilt))
        };
    let mut rebuilt = read("data.pkl", "data/", &mut streams)?.unwrap_or_default();
    for (file, name, folder) in FURTHER {
        if let Some(further) = read(file, folder, &mut streams)?.filter(Rebuilt::holds_tensors) {
            let item = if *name == "CONSTANTS" { constant } else { Step::Index };
            graft(&mut rebuilt, further, name, item);
        }
    }
    for member in torch.bystanders().filter(|member| !is_further(torch, &member.name)) {
        zip::judge_member(torch.archive(), member, &mut streams, options)?;
    }
    let accounting = account::torch_zip(source.size(), torch, (stored, after_stop), &rebuilt);
    let big_endian = torch.big_endian();
    let file = SourceFile { big_endian, pickles, ..SourceFile::new("torchscript", accounting) };
    Ok(Opened::new(file, strays, streams, rebuilt))
}

/// The name by which the code knows a constant.
fn constant(i: u64) -> Step {
    Step::Attribute(format!("c{i}").into())
}

fn is_further(torch: &TorchZip, name: &str) -> bool {
    name.strip_prefix(torch.prefix()).is_some_and(|name| FURTHER.iter().any(|(file, ..)| *file == name))
}
