//! Distributed checkpoints of torch (`torch.distributed.checkpoint`): a folder with metadata and files of entries.
//!
//! ```text
//! .metadata          what there is and where: see `metadata`
//! __0_0.metadata     the same by each rank, where the ranks did not talk to each other
//! __0_0.distcp       entries of rank 0, one after the other: see `entries`
//! ```
//!
//! Source: `torch/distributed/checkpoint/filesystem.py`.

mod entries;
mod metadata;
mod safetensors;
mod spool;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::accounting::Accounting;
use crate::bytes::Span;
use crate::policy::Verdict;
use crate::tensor::{Piece, Region, Step, StreamId, Streams, TensorId, View};

use super::folder::{Folder, FolderError, Merge, Named, one};
use super::ranks::Replica;
use super::run::{judge_bystander, run};
use super::{Error, OpenOptions, Opened, Source, SourceFile, megatron};

use entries::{Entries, Entry, What as Read};
use metadata::{Metadata, What};

const METADATA: &str = ".metadata";

/// What the folders are called in which Accelerate keeps the weights of a model, beside others for its optimizer:
/// `pytorch_model_fsdp_1` where it is the second (`accelerate/utils/fsdp_utils.py`, `save_fsdp_model`).
const ACCELERATE: &str = "pytorch_model_fsdp";

/// Whether a folder is such a checkpoint, one of a program that keeps its weights in one, or what is left of one: the parts
/// without their metadata are archives that another reader would take for models.
pub(super) fn is_here(folder: &Folder) -> bool {
    !bases(folder).is_empty() || folder.beside("").any(is_part)
}

fn is_part(name: &str) -> bool {
    name.ends_with(".distcp")
}

/// The folders that its models are in: this one, those of Accelerate, or that of Megatron's last save.
fn bases(folder: &Folder) -> Vec<String> {
    let below: BTreeSet<&str> =
        folder.files().filter_map(|path| path.split_once('/')).map(|it| it.0).collect();
    let accelerate = below.into_iter().filter(|name| {
        let number = name.strip_prefix(ACCELERATE).map(|rest| rest.strip_prefix('_').unwrap_or(rest));
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    });
    let candidates = [
        vec![String::new()],
        accelerate.map(|name| format!("{name}/")).collect(),
        megatron::last_save(folder).ok().flatten().into_iter().collect(),
    ];
    let there = candidates.into_iter().map(|mut below| {
        below.retain(|below| is_at(folder, below));
        below
    });
    there.into_iter().find(|below| !below.is_empty()).unwrap_or_default()
}

/// Whether such a checkpoint is in a folder below, whose path ends in a slash.
pub(super) fn is_at(folder: &Folder, below: &str) -> bool {
    !metadata_files(folder, below).is_empty() || safetensors::is_at(folder, below)
}

/// The metadata of all, or of each rank in order.
fn metadata_files(folder: &Folder, below: &str) -> Vec<String> {
    if folder.has(&format!("{below}{METADATA}")) {
        return vec![METADATA.to_owned()];
    }
    let rank = |name: &str| name.strip_prefix("__")?.strip_suffix(METADATA)?.parse::<u32>().ok();
    let mut ranks: Vec<(u32, &str)> =
        folder.beside(below).filter_map(|name| Some((rank(name)?, name))).collect();
    ranks.sort_unstable();
    ranks.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// Opens the checkpoint of a folder. Several models are called as their folders.
///
/// # Errors
/// What is not as torch writes it, files that are missing or cut off, chunks that do not tile their tensor.
pub(super) fn open(folder: &Folder, options: &OpenOptions) -> Result<Vec<Named>, Error> {
    match bases(folder).as_slice() {
        [] => Ok(one(open_at(folder, "", options)?)),
        [below] => Ok(one(open_at(folder, below, options)?)),
        several => {
            let model =
                |below: &String| Ok((below.trim_end_matches('/').into(), open_at(folder, below, options)?));
            several.iter().map(model).collect()
        }
    }
}

/// Opens the checkpoint in a folder below.
///
/// # Errors
/// As [`open`].
pub(super) fn open_at(folder: &Folder, below: &str, options: &OpenOptions) -> Result<Opened, Error> {
    let names = metadata_files(folder, below);
    if names.is_empty() && safetensors::is_at(folder, below) {
        return safetensors::open_at(folder, below, options);
    }
    if names.is_empty() {
        return Err(FolderError::missing(&format!("{below}{METADATA}")).into());
    }
    let mut metadata = Metadata::default();
    let mut merge = Merge::new(&options.limits);
    for name in names {
        let path = format!("{below}{name}");
        let source = folder.source(&path)?;
        let file =
            read_metadata(&source, &path, &mut metadata, options).map_err(|error| error.inside(&path))?;
        merge.file(source, file);
    }
    let mut held = read_entries(folder, below, &metadata, &mut merge, options)?;
    let spare = held.split_off(metadata.items.len());
    let doubled = metadata.spares.iter().filter(|spare| spare.copy_of.is_some());
    let mut copies = Copies { of: doubled.map(|spare| &*spare.name).collect(), ..Copies::default() };
    for (item, held) in metadata.items.iter().zip(held) {
        place(&mut merge, item, held, &mut copies)?;
    }
    for (spare, held) in metadata.spares.iter().zip(spare) {
        place_spare(&mut merge, spare, held, &mut copies)?;
    }
    for name in folder.beside(below).filter(|name| is_part(name)) {
        let path = format!("{below}{name}");
        if !merge.files.iter().any(|file| *file.name == *path) {
            merge.strays.push(format!("{}: no part of the checkpoint", path.escape_debug()));
        }
    }
    Ok(Opened { replicas: copies.replicas, ..merge.finish() })
}

fn read_metadata(
    source: &Source,
    name: &str,
    metadata: &mut Metadata,
    options: &OpenOptions,
) -> Result<SourceFile, Error> {
    let mut streams = Streams::new(source.clone());
    let whole = Span::between(0, source.size());
    let ran = run(&streams, StreamId::SOURCE, whole, None, options)?;
    ran.admit(&mut streams, None, options)?;
    metadata.add(&ran.graph, ran.root)?;
    let rest = Span::between(ran.span.end(), source.size());
    judge_bystander(&streams, StreamId::SOURCE, rest, None, options)?;
    let accounting = Accounting { pickle: ran.span.len(), trailing: rest.len(), ..Accounting::default() };
    let mut info = ran.info(&streams)?;
    for global in info.globals.iter_mut().filter(|global| global.verdict == Verdict::Inert) {
        if metadata::is_known(&global.name) {
            global.verdict = Verdict::Allowed;
        }
    }
    Ok(SourceFile { name: name.into(), pickles: vec![info], ..SourceFile::new("dcp-metadata", accounting) })
}

/// Reads every entry, file by file: what each item of the metadata holds.
fn read_entries(
    folder: &Folder,
    below: &str,
    metadata: &Metadata,
    merge: &mut Merge<'_>,
    options: &OpenOptions,
) -> Result<Vec<Vec<Read>>, Error> {
    let mut files: BTreeMap<&str, Vec<Entry<'_>>> = BTreeMap::new();
    let mut held: Vec<Vec<Read>> = Vec::with_capacity(metadata.items.len());
    for (position, item) in metadata.items.iter().enumerate() {
        let stored = match &item.what {
            What::Object(stored) => vec![(stored, None)],
            What::Tensor { chunks, .. } => {
                chunks.iter().map(|chunk| (&chunk.stored, Some(&chunk.region))).collect()
            }
        };
        held.push(Vec::with_capacity(stored.len()));
        for (stored, region) in stored {
            let entry = Entry { item: position, name: &item.name, stored, region };
            files.entry(&stored.file).or_default().push(entry);
        }
    }
    for metadata::Spare { name, region, stored, .. } in &metadata.spares {
        let entry = Entry { item: held.len(), name, stored, region: region.as_ref() };
        files.entry(&stored.file).or_default().push(entry);
        held.push(Vec::new());
    }
    let mut spool = spool::Spool::default();
    for (name, entries) in files {
        let path = format!("{below}{name}");
        let source = folder.source(&path)?;
        let reader = Entries { path: &path, source, merge, spool: &mut spool, options };
        reader.read(entries, &mut held)?;
    }
    spool.finish(&mut merge.streams)?;
    Ok(held)
}

/// What several ranks wrote, which has to be the same.
#[derive(Default)]
struct Copies<'a> {
    /// The names of which there are copies.
    of: HashSet<&'a str>,
    /// Of these the parts that are taken, and the tensors that they belong to.
    kept: HashMap<(&'a str, Region), (TensorId, View)>,
    replicas: Vec<Replica>,
}

/// Gives an item its place in the tree.
fn place<'a>(
    merge: &mut Merge<'_>,
    item: &'a metadata::Item,
    held: Vec<Read>,
    copies: &mut Copies<'a>,
) -> Result<(), Error> {
    match &item.what {
        What::Tensor { dtype, shape, .. } => {
            let pieces: Vec<Piece> = held.into_iter().filter_map(Read::piece).collect();
            let doubled = if copies.of.contains(&*item.name) { pieces.clone() } else { Vec::new() };
            let tensor = merge.assemble(&item.name, *dtype, shape, pieces)?;
            let kept = doubled.into_iter().map(|Piece { view, start, size, .. }| {
                ((&*item.name, Region { start, size }), (tensor, view))
            });
            copies.kept.extend(kept);
            merge.put(&item.path, tensor)
        }
        What::Object(_) => match held.into_iter().next() {
            Some(Read::Object(held)) => Ok(merge.places.held(&item.path, held)?),
            _ => Ok(()),
        },
    }
}

/// Says of what no item needs that it is left out, or has to be the same as what is taken. A part without elements is
/// neither.
fn place_spare(
    merge: &mut Merge<'_>,
    spare: &metadata::Spare,
    held: Vec<Read>,
    copies: &mut Copies<'_>,
) -> Result<(), Error> {
    let Some(held) = held.into_iter().next() else { return Ok(()) };
    let held = match held {
        Read::Piece(Piece { view, size, .. }) if *view.shape() != *size => {
            let (found, dtype) = (view.shape().into(), view.dtype());
            let name = spare.name.clone();
            return Err(FolderError::Part { name, found, dtype, expected: size, wanted: dtype }.into());
        }
        Read::Piece(piece) if piece.view.is_empty() => return Ok(()),
        Read::Piece(Piece { view, start, size, .. }) => {
            let region = Region { start, size };
            let Some((of, kept)) = copies.kept.get(&(&*spare.name, region)).cloned() else {
                return Err(FolderError::Ranks { name: spare.name.clone() }.into());
            };
            let (kept, other) = ((merge.file_of(&kept), kept), (merge.file_of(&view), view));
            copies.replicas.push(Replica { of, name: spare.name.clone(), kept, other });
            return Ok(());
        }
        Read::Object(held) => {
            let leaf = merge.left_out(if spare.copy_of.is_some() { COPY } else { UNNAMED }, &held.tree);
            held.at_leaf(leaf)
        }
    };
    let mut path = spare.copy_of.clone().unwrap_or_default();
    _ = path.pop();
    let metadata::Stored { file, offset, .. } = &spare.stored;
    path.push(Step::Key(format!("{} in {file} at {offset:#x}", spare.name).into()));
    Ok(merge.places.held(&path, held)?)
}

const COPY: &str = "another rank's object of this name";
const UNNAMED: &str = "stored without a name in the state";
