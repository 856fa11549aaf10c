//! Which files of a folder hold its weights: those that loaders would take.
//!
//! An index decides, that of safetensors before that of pickles; without one all safetensors files, without those the
//! one checkpoint, of any layout. A folder as the Hugging Face cache has it, of links, is read as the files that they show.
//! Of a pipeline, each of its folders is read like this.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::DiffError;
use crate::bytes::{FileSource, folder_of};
use crate::checkpoint::{self, OpenOptions, Opened};
use crate::container::{Format, detect};
use crate::error::{Error, ErrorKind};
use crate::folder::{self, has_ranks, is_of_ranks, open_one, open_set, preferred};
use crate::hub::{self, Index, WeightSet};

/// What is read as one: files, or a model that is open.
pub(super) struct Found {
    /// What its names begin with: the folder of a pipeline.
    pub(super) prefix: String,
    pub(super) what: What,
}

pub(super) enum What {
    /// Each file by itself, with what it is called, and the index that names them.
    Files(Vec<(PathBuf, String)>, Option<Index>),
    /// The model of a folder, or that of an index.
    Model(Box<Opened>),
}

/// What a side is read from: a file, the shards of an index, or what a folder holds.
pub(super) fn find(path: &Path, options: &OpenOptions) -> Result<Vec<Found>, DiffError> {
    if !path.is_dir() {
        return Ok(vec![Found { prefix: String::new(), what: named(path, options)? }]);
    }
    if let Some(ranks) = ranks(path, options)? {
        return Ok(ranks);
    }
    let below = hub::folders(path).map_err(|error| Error::new(path, checkpoint::Error::Io(error)))?;
    let is_whole = |folder: &String| !folder.is_empty();
    if !below.iter().any(is_whole) {
        return Ok(vec![Found { prefix: String::new(), what: held(path, options)? }]);
    }
    let folder = |prefix: String| Ok(Found { what: held(&path.join(&prefix), options)?, prefix });
    below.into_iter().map(folder).collect()
}

/// The ranks of a folder that cannot be merged, or the files that they were converted to.
fn ranks(path: &Path, options: &OpenOptions) -> Result<Option<Vec<Found>>, DiffError> {
    let io = |error| Error::new(path, checkpoint::Error::Io(error));
    let mut converted = BTreeSet::new();
    for entry in std::fs::read_dir(path).map_err(io)? {
        let name = entry.map_err(io)?.file_name().into_string().unwrap_or_default();
        let stem = name.strip_suffix(".safetensors").filter(|stem| checkpoint::is_name_of_rank(stem));
        converted.extend(stem.map(str::to_owned));
    }
    let prefix = |stem: &str| format!("{stem}/");
    if !converted.is_empty() {
        let file = |stem: &String| {
            let name = format!("{stem}.safetensors");
            Found { prefix: prefix(stem), what: What::Files(vec![(path.join(&name), name)], None) }
        };
        return Ok(Some(converted.iter().map(file).collect()));
    }
    if !has_ranks(path) {
        return Ok(None);
    }
    let models = folder::open(path, options, &mut |_, _| Ok(()))?.models.into_iter();
    let rank = |model: folder::Model| Found {
        prefix: prefix(&model.set.stem),
        what: What::Model(Box::new(model.opened)),
    };
    Ok(Some(models.map(rank).collect()))
}

/// The files that a named file stands for: itself, or the shards of an index.
fn named(path: &Path, options: &OpenOptions) -> Result<What, DiffError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !name.ends_with(INDEX) {
        return Ok(What::Files(vec![(path.to_owned(), name)], None));
    }
    let folder = folder_of(path);
    let fail = |error: hub::Error| Error::new(folder, error);
    if !name.ends_with(STOCK_INDEX) {
        let sets = hub::open(folder).map_err(fail)?.sets;
        let is_its = |set: &&WeightSet| set.index.as_ref().is_some_and(|index| index.path == name);
        if let Some(set) = sets.iter().find(is_its) {
            return Ok(What::Model(Box::new(open_set(folder, set, options, &mut |_, _| Ok(()))?)));
        }
    }
    let index = Index::read(folder, &name).map_err(fail)?;
    let files: BTreeSet<&str> = index.files().collect();
    let files = files.into_iter().map(|file| (folder.join(file), file.to_owned())).collect();
    Ok(What::Files(files, Some(index)))
}

/// What goes by the name of an index.
const INDEX: &str = ".index.json";

/// What goes by the name of one over safetensors files.
const STOCK_INDEX: &str = ".safetensors.index.json";

/// What a folder holds itself.
fn held(folder: &Path, options: &OpenOptions) -> Result<What, DiffError> {
    let io = |error| Error::new(folder, checkpoint::Error::Io(error));
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.path().is_file() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    let indexes: Vec<&String> = names.iter().filter(|name| name.ends_with(STOCK_INDEX)).collect();
    if let Some(index) = one(folder, &indexes)? {
        return named(&folder.join(index), options);
    }
    let ranks = if is_of_ranks(folder) { Some(open_one(folder, options, &mut |_, _| Ok(()))?) } else { None };
    let is_part =
        |name: &str| ranks.as_ref().is_some_and(|opened| opened.files.iter().any(|file| *file.name == *name));
    let (mut tensors, mut pickles) = (Vec::new(), Vec::new());
    for name in names.iter().filter(|name| !is_part(name)) {
        let source = FileSource::open(&folder.join(name)).map_err(io)?;
        match detect(&source).map_err(io)? {
            Format::Safetensors => tensors.push(name),
            Format::Unknown | Format::Foreign(_) | Format::Packed(_) => {}
            _ => pickles.push(name),
        }
    }
    let in_folder = |names: &[&String]| {
        What::Files(names.iter().map(|name| (folder.join(name), (*name).clone())).collect(), None)
    };
    if tensors.iter().any(|name| !hub::is_variant(name)) {
        tensors.retain(|name| !hub::is_variant(name));
    }
    if !tensors.is_empty() {
        return Ok(in_folder(&tensors));
    }
    if let Some(opened) = ranks {
        return Ok(What::Model(Box::new(opened)));
    }
    let repository = hub::open(folder).map_err(|error| Error::new(folder, error))?;
    let own = |set: &&WeightSet| set.folder.is_empty();
    match preferred(&repository.sets).into_iter().filter(own).collect::<Vec<_>>().as_slice() {
        [] => {}
        [set] => return Ok(What::Model(Box::new(open_set(folder, set, options, &mut |_, _| Ok(()))?))),
        [first, second, ..] => {
            let (first, second) = (first.stem.clone(), second.stem.clone());
            return Err(Error::new(folder, ErrorKind::SeveralModels { first, second }).into());
        }
    }
    pickles.retain(|name| !hub::is_training_state(name));
    one(folder, &pickles)?;
    Ok(in_folder(&pickles))
}

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
