//! The plan: which tensors of a source are written, and under which names. It reads the tree of places and the
//! options, and knows no files.
//!
//! `select` chooses places by the root that was given, the table of known writers (`writers`) or by form; `names`
//! spells and changes names; `aliases` finds the names of one view; `left_out` tells what is not written; `shards` splits
//! what is written into files. Every tensor
//! of the tree stands in exactly one of [`Plan::tensors`], [`Plan::aliases`] and [`Plan::left_out`].

mod aliases;
mod error;
mod filter;
mod index;
mod left_out;
mod names;
mod notes;
mod reason;
mod select;
mod shards;
#[cfg(test)]
mod tests;
mod writers;

use std::collections::{BTreeMap, HashMap};

pub use self::error::{Error, Misuse, Refused, Structure};
pub use self::left_out::LeftOut;
pub use self::names::NameRule;
pub use self::notes::{Aliased, Found, Note};
pub use self::reason::{Reason, Rule};
pub use self::shards::by_size;

pub(crate) use self::filter::Filter;
pub(crate) use self::names::rename_both;

use self::index::Index;
use self::names::{Purse, short_path};
use self::select::{Selection, Status};
use crate::tensor::{Dtype, EntryId, Kind, Layout, Leaf, Tensor, TensorId, Tree};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that a user gives or not")]
pub struct Options {
    /// Dotted path of the place whose tensors are taken; empty for the whole source. `None`: the source decides.
    pub root: Option<String>,
    /// Every tensor (below the root, if one is given): optimizer state, non-persistent buffers, plain attributes too.
    pub all: bool,
    /// Patterns of final names; empty for all. `*` matches dots too.
    pub include: Vec<String>,
    /// Patterns of final names.
    pub exclude: Vec<String>,
    /// Changes of names, in this order.
    pub names: Vec<NameRule>,
    /// What floating tensors are cast to: F32, F16 or BF16.
    pub dtype: Option<Dtype>,
    /// What becomes of names of the same data.
    pub aliases: Aliases,
    /// What [`Aliases::Auto`] means: once for layouts whose loaders tie by their config.
    pub prefer_once: bool,
    /// Refuse tensors that can only be written re-encoded.
    pub strict: bool,
    /// Values that are no tensors are written too, so that none is left out.
    pub metadata: bool,
}

/// What becomes of names that are the same view of the same storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aliases {
    /// As [`Options::prefer_once`] says.
    #[default]
    Auto,
    /// Written once, the other names recorded.
    Once,
    /// Each written.
    Copy,
    /// An error.
    Refuse,
}

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Tensors to write, in the source's order.
    pub tensors: Vec<Planned>,
    /// Names that are recorded and not written, in the source's order.
    pub aliases: Vec<Alias>,
    /// Tensors that are neither, in the source's order.
    pub left_out: Vec<LeftOut>,
    /// Values that are no tensors, of the whole source; none with [`Options::metadata`].
    pub values_left_out: Vec<ValuesLeftOut>,
    /// `__metadata__` of the safetensors header: `format`, and each dropped name with the one that was kept.
    pub metadata: BTreeMap<String, String>,
    /// Dotted path of the place whose tensors are taken, if it is one place and not the whole source.
    pub root: Option<String>,
    /// What must be said.
    pub notes: Vec<Note>,
}

/// A tensor to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its name in the output.
    pub name: String,
    /// What is written.
    pub tensor: TensorId,
    /// Where it stands in the source.
    pub entry: EntryId,
    /// Whether it is cast to [`Options::dtype`], which is another than its own.
    pub cast: bool,
}

/// A name that shows the data of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The name that is not written.
    pub name: String,
    /// Position in [`Plan::tensors`] of what is written in its place.
    pub of: usize,
    /// Where it stands in the source.
    pub entry: EntryId,
}

/// Values that are no tensors, at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValuesLeftOut {
    /// The place.
    pub entry: EntryId,
    /// Steps to it from the root of the source.
    pub path: Vec<String>,
    /// Python type of the outermost.
    pub type_name: Box<str>,
    /// How many.
    pub count: u64,
}

/// Plans what is written of a source.
///
/// Takes time and memory linear in the entries of the tree: about 28 bytes for each while it works, 40 for each tensor
/// that is planned, and the names.
///
/// # Errors
/// [`Misuse`] where the options do not fit, [`Structure`] where the source has nothing to write or names that cannot
/// stand side by side, [`Refused`] where the options say so.
pub fn plan(tree: &Tree, tensors: &[Tensor], options: &Options) -> Result<Plan, Error> {
    check_dtype(options.dtype)?;
    let wanted = Filter::new(&options.include, &options.exclude)?;
    let index = Index::new(tree);
    check_tensors(&index, tensors)?;
    let mut selection = select::select(&index, options)?;
    let mut statuses = selection.statuses(&index, options.all);
    let mut planned = taken(&index, &selection, &statuses, tensors, options)?;
    let nbytes = |id: EntryId| match index.kind(id) {
        Some(Kind::Leaf(Leaf::Tensor(id))) => {
            tensors.get(id.index()).map_or(0, |tensor| tensor.view.nbytes())
        }
        _ => 0,
    };
    if planned.is_empty() {
        let mut places = left_out::left_out(&index, &statuses, nbytes)?;
        places.retain(|place| matches!(place.reason, Reason::Rule(_)));
        return Err(Structure::NoWeights { places }.into());
    }
    filter(&mut planned, &mut statuses, wanted)?;
    check_names(tree, &planned)?;
    check_strict(&planned, tensors, options)?;
    let left_out = left_out::left_out(&index, &statuses, nbytes)?;
    let values_left_out = if options.metadata { Vec::new() } else { values(tree)? };

    let mut notes = std::mem::take(&mut selection.notes);
    notes.extend(name_notes(&planned, tensors, options));
    let resolved = aliases::resolve(planned, tensors, options)?;
    notes.extend(resolved.note);
    let count = values_left_out.iter().fold(0_u64, |sum, values| sum.saturating_add(values.count));
    notes.extend((count > 0).then_some(Note::Values { count }));
    let mut metadata = resolved.metadata;
    metadata.insert("format".to_owned(), "pt".to_owned());
    Ok(Plan {
        tensors: resolved.tensors,
        aliases: resolved.aliases,
        left_out,
        values_left_out,
        metadata,
        root: selection.root,
        notes,
    })
}

/// Bytes that a tensor takes in the output.
pub(crate) fn written_bytes(tensor: &Tensor, cast: Option<Dtype>) -> u64 {
    let size = cast.unwrap_or(tensor.view.dtype()).size();
    tensor.view.elements().saturating_mul(size)
}

fn check_dtype(dtype: Option<Dtype>) -> Result<(), Misuse> {
    match dtype {
        None | Some(Dtype::F32 | Dtype::F16 | Dtype::Bf16) => Ok(()),
        Some(other) => Err(Misuse::Uncastable(other)),
    }
}

/// There are tensors, and all of them are known.
fn check_tensors(index: &Index<'_>, tensors: &[Tensor]) -> Result<(), Structure> {
    let tree = index.tree();
    for (id, tensor) in tree.tensors() {
        if tensors.get(tensor.index()).is_none() {
            return Err(Structure::UnknownTensor { path: short_path(tree, id) });
        }
    }
    if index.tensors(EntryId::ROOT) > 0 {
        return Ok(());
    }
    let unwritable = tree.iter().filter(|(_, entry)| matches!(entry.kind, Kind::Leaf(Leaf::LeftOut { .. })));
    Err(Structure::NoTensors { unwritable: crate::bytes::length(unwritable.count()) })
}

/// The tensors that are taken, under their final names.
fn taken(
    index: &Index<'_>,
    selection: &Selection,
    statuses: &[Status],
    tensors: &[Tensor],
    options: &Options,
) -> Result<Vec<Planned>, Error> {
    let tree = index.tree();
    let is_taken = |id: EntryId| statuses.get(id.index()) == Some(&Status::Taken);
    let found: Vec<(EntryId, TensorId)> = tree.tensors().filter(|(id, _)| is_taken(*id)).collect();
    let mut purse = Purse::new(found.len());
    let mut names = Vec::with_capacity(found.len());
    for (id, _) in &found {
        names.push(purse.name(tree, &selection.mounts, *id)?);
    }
    if !names.is_empty() {
        names::apply(&options.names, &mut names)?;
    }
    // What the source itself does not call weights is nobody's to round.
    let kept_exact = |id| (options.all || options.root.is_some()) && index.rule(id) == Some(Rule::Optimizer);
    let planned = found.into_iter().zip(names).map(|((entry, tensor), name)| Planned {
        name,
        tensor,
        entry,
        cast: !kept_exact(entry)
            && tensors.get(tensor.index()).is_some_and(|data| is_cast(data, options.dtype)),
    });
    Ok(planned.collect())
}

/// Whether a tensor is cast: plain floats of another type only. The parts of a re-encoded tensor stay as they are, so
/// that it can be put together again, and their manifest entry tells of one encoding.
fn is_cast(tensor: &Tensor, target: Option<Dtype>) -> bool {
    let dtype = tensor.view.dtype();
    target.is_some_and(|target| target != dtype) && dtype.is_float() && tensor.encoding.is_none()
}

/// Applies `--include` and `--exclude`.
fn filter(planned: &mut Vec<Planned>, statuses: &mut [Status], mut wanted: Filter<'_>) -> Result<(), Misuse> {
    let before = planned.len();
    planned.retain(|tensor| {
        let keep = wanted.keeps(&tensor.name);
        if !keep && let Some(status) = statuses.get_mut(tensor.entry.index()) {
            *status = Status::Out(Rule::Excluded);
        }
        keep
    });
    wanted.check()?;
    if planned.is_empty() { Err(Misuse::NothingLeft(crate::bytes::length(before))) } else { Ok(()) }
}

/// No two names are one, and none is the format's own.
fn check_names(tree: &Tree, planned: &[Planned]) -> Result<(), Structure> {
    const HEADER: &str = "__metadata__";
    let mut seen: HashMap<&str, EntryId> = HashMap::with_capacity(planned.len());
    for Planned { name, entry, .. } in planned {
        if name == HEADER {
            return Err(Structure::ReservedName { name: name.clone(), path: short_path(tree, *entry) });
        }
        if let Some(first) = seen.insert(name, *entry) {
            let (first, second) = (short_path(tree, first), short_path(tree, *entry));
            return Err(Structure::Collision { name: name.clone(), first, second });
        }
    }
    Ok(())
}

fn check_strict(planned: &[Planned], tensors: &[Tensor], options: &Options) -> Result<(), Refused> {
    let reencoded = |planned: &&Planned| {
        tensors.get(planned.tensor.index()).is_some_and(|tensor| {
            let pairs = tensor.view.dtype().layout() == Layout::PairDimension;
            tensor.encoding.is_some() || tensor.cast_from.is_some() || pairs
        })
    };
    match planned.iter().find(reencoded).filter(|_| options.strict) {
        Some(planned) => Err(Refused::Reencoded { name: planned.name.clone() }),
        None => Ok(()),
    }
}

fn values(tree: &Tree) -> Result<Vec<ValuesLeftOut>, Structure> {
    let leaves = || tree.iter().filter(|(_, entry)| matches!(entry.kind, Kind::Leaf(Leaf::Values { .. })));
    let mut purse = Purse::new(leaves().count());
    let mut values = Vec::new();
    for (id, entry) in leaves() {
        if let Kind::Leaf(Leaf::Values { type_name, count }) = &entry.kind {
            let path = purse.path(tree, id)?;
            values.push(ValuesLeftOut { entry: id, path, type_name: type_name.clone(), count: *count });
        }
    }
    Ok(values)
}

/// What the names, and the types, are worth saying of.
fn name_notes(planned: &[Planned], tensors: &[Tensor], options: &Options) -> Vec<Note> {
    let mut notes = Vec::new();
    if let Some(dtype) = options.dtype.filter(|_| !planned.iter().any(|tensor| tensor.cast)) {
        notes.push(Note::NothingToCast(dtype));
    }
    if options.names.is_empty() {
        let carries = |prefix: &&str| planned.iter().all(|tensor| tensor.name.starts_with(*prefix));
        notes.extend(names::WRAPPERS.iter().copied().find(carries).map(Note::Prefix));
    }
    // torch/distributed/fsdp/_flat_param.py; `flat_param` before torch 2.1.
    let last = |planned: &Planned| planned.name.rsplit('.').next().map(str::to_owned);
    let is_flat = |planned: &&Planned| matches!(last(planned).as_deref(), Some("_flat_param" | "flat_param"));
    let flat = crate::bytes::length(planned.iter().filter(is_flat).count());
    notes.extend((flat > 0).then_some(Note::Flat { tensors: flat }));
    let (sign, prefix) = writers::LIT_EMA;
    if planned.iter().any(|tensor| tensor.name == sign) {
        let averaged = planned.iter().filter(|tensor| tensor.name.starts_with(prefix));
        let bytes = averaged
            .clone()
            .filter_map(|planned| tensors.get(planned.tensor.index()))
            .fold(0, |sum: u64, tensor| sum.saturating_add(tensor.view.nbytes()));
        notes.push(Note::Averaged { prefix, tensors: crate::bytes::length(averaged.count()), bytes });
    }
    notes
}
