//! Which files of a folder hold its weights: those that loaders would take.
//!
//! An index decides, that of safetensors before that of pickles; without one all safetensors files, without those the
//! one checkpoint. A folder as the Hugging Face cache has it, of links, is read as the files that they show.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::DiffError;
use crate::bytes::FileSource;
use crate::checkpoint;
use crate::container::{Format, detect};
use crate::error::Error;

/// The files that hold the weights.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Each with what it is called.
    pub(super) files: Vec<(PathBuf, String)>,
    /// The index that names them, with the file of each tensor.
    pub(super) index: Option<(PathBuf, BTreeMap<String, String>)>,
}

impl Files {
    fn in_folder(folder: &Path, names: &[&String]) -> Self {
        let files = names.iter().map(|name| (folder.join(name), (*name).clone()));
        Self { files: files.collect(), index: None }
    }
}

/// Bytes of an index: as many as a safetensors header may have.
const LONGEST: u64 = 100_000_000;

/// An index of shards.
#[derive(Debug, Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// What goes by the name of an index.
const INDEX: &str = ".index.json";

/// The files that a named file stands for: itself, or the shards of an index.
pub(super) fn named(path: &Path) -> Result<Files, DiffError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name.ends_with(INDEX) {
        return shards(path, index(path)?);
    }
    Ok(Files { files: vec![(path.to_owned(), name)], index: None })
}

/// The files of a folder that hold its weights.
pub(super) fn files(folder: &Path) -> Result<Files, DiffError> {
    let io = |error| Error::new(folder, checkpoint::Error::Io(error));
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.path().is_file() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    let indexes = names.iter().filter(|name| name.ends_with(INDEX));
    let (stock, others): (Vec<&String>, Vec<&String>) =
        indexes.partition(|name| name.ends_with(".safetensors.index.json"));
    if let Some(index) = one(folder, &stock)? {
        return named(&folder.join(index));
    }
    let (mut tensors, mut pickles) = (Vec::new(), Vec::new());
    for name in &names {
        let path = folder.join(name);
        let source = FileSource::open(&path).map_err(io)?;
        match detect(&source).map_err(io)? {
            Format::Safetensors => tensors.push(name),
            Format::Unknown | Format::Foreign(_) | Format::Packed(_) => {}
            _ if BESIDE.iter().any(|(begin, end)| name.starts_with(begin) && name.ends_with(end)) => {}
            _ => pickles.push(name),
        }
    }
    if !tensors.is_empty() {
        return Ok(Files::in_folder(folder, &tensors));
    }
    if let Some(index) = one(folder, &others)? {
        return named(&folder.join(index));
    }
    one(folder, &pickles)?;
    Ok(Files::in_folder(folder, &pickles))
}

/// What trainers write beside the weights, by the beginnings and ends of its names.
const BESIDE: &[(&str, &str)] = &[
    ("training_args", ".bin"),
    ("optimizer", ".pt"),
    ("optimizer", ".bin"),
    ("scheduler", ".pt"),
    ("scheduler", ".bin"),
    ("scaler", ".pt"),
    ("rng_state", ".pth"),
    ("random_states_", ".pkl"),
];

/// The one of several candidates, if there is one.
fn one<'a>(folder: &Path, names: &[&'a String]) -> Result<Option<&'a String>, DiffError> {
    match names {
        [] => Ok(None),
        [name] => Ok(Some(name)),
        [first, second, ..] => Err(DiffError::Several {
            path: folder.display().to_string(),
            first: (*first).clone(),
            second: (*second).clone(),
        }),
    }
}

fn index(path: &Path) -> Result<Index, DiffError> {
    let io = |error| Error::new(path, checkpoint::Error::Io(error));
    let size = std::fs::metadata(path).map_err(io)?.len();
    let most = LONGEST;
    if size > most {
        return Err(DiffError::LongIndex { path: path.display().to_string(), size, most });
    }
    let json = std::fs::read(path).map_err(io)?;
    serde_json::from_slice(&json)
        .map_err(|error| DiffError::Index { path: path.display().to_string(), error })
}

/// The files of an index, which lie beside it.
fn shards(path: &Path, index: Index) -> Result<Files, DiffError> {
    let files: BTreeSet<&String> = index.weight_map.values().collect();
    let shard = |file: &&String| {
        let inside = matches!(Path::new(file).components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
        let outside = || DiffError::Outside { path: path.display().to_string(), file: (*file).clone() };
        if inside { Ok((of(path).join(file), (*file).clone())) } else { Err(outside()) }
    };
    let files = files.iter().map(shard).collect::<Result<_, DiffError>>()?;
    Ok(Files { files, index: Some((path.to_owned(), index.weight_map)) })
}

/// The folder that a file lies in.
pub(super) fn of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
