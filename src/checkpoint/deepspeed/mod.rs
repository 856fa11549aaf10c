//! Checkpoints of DeepSpeed, with or without ZeRO.
//!
//! ```text
//! latest                                            the name of the folder of the last save
//! global_step2/mp_rank_00_model_states.pt           the module; shapes and names of parameters (stage 0 to 2)
//! global_step2/zero_pp_rank_0_mp_rank_00_model_states.pt                            the same by each rank (stage 3)
//! global_step2/[bf16_]zero_pp_rank_0_mp_rank_00_optim_states.pt                     master weights of each rank
//! global_step2_universal/zero/NAME/fp32.pt          the same of each parameter: see `universal`
//! ```
//!
//! The weights are those of `zero_to_fp32.py`, to the bit: the fp32 master weights of trained parameters, put together from
//! their partitions; buffers as singles; frozen parameters as they are. Source: `deepspeed/utils/zero_to_fp32.py`.

mod names;
mod partitions;
mod states;
mod universal;

use crate::tensor::{Step, TensorId};

use super::folder::{Folder, FolderError, Merge, RankFile, said};
use super::{Error, OpenOptions, Opened};

use names::natural;
use partitions::Flat;
use states::{ModelStates, OptimStates, Shaped};
use universal::Universal;

const LATEST: &str = "latest";
const MODEL: &str = "_model_states.pt";
const OPTIM: &str = "_optim_states.pt";

/// What cannot be put together without the code of the model, by a part of a file's name.
const FOREIGN: &[(&str, &str)] = &[
    ("expert_", "a DeepSpeed checkpoint with experts in files of their own (convert the files one by one)"),
    ("-model_", "a DeepSpeed checkpoint of pipeline stages (convert the files one by one)"),
    ("-model-", "a DeepSpeed checkpoint of pipeline stages (convert the files one by one)"),
    ("mp_rank_01", "a DeepSpeed checkpoint of several tensor-parallel ranks (convert the files one by one)"),
];

/// Whether a folder is such a checkpoint, or holds the folder of one save and the file that names the last.
pub(super) fn is_here(folder: &Folder) -> bool {
    let below = |name: &str| name.ends_with(MODEL) && name.matches('/').count() == 1;
    let latest = folder.has(LATEST) || folder.has(universal::LATEST);
    is_save(folder) || latest && folder.files().any(below)
}

/// Whether a folder is that of one save.
fn is_save(folder: &Folder) -> bool {
    folder.beside("").any(|name| name.ends_with(MODEL)) || universal::is_at(folder, "")
}

/// Opens the last save of a folder.
///
/// # Errors
/// Files that are missing or do not fit together; forms that need the model to be merged.
pub(super) fn open(folder: &Folder, options: &OpenOptions) -> Result<Opened, Error> {
    let below = if is_save(folder) { String::new() } else { latest(folder)? };
    let mut names: Vec<&str> = folder.beside(&below).collect();
    names.sort_by_cached_key(|name| natural(name));
    let states = |name: &&&str| name.ends_with(MODEL) || name.ends_with(OPTIM);
    let foreign =
        FOREIGN.iter().find(|(part, _)| names.iter().filter(states).any(|name| name.contains(part)));
    if let Some((_, form)) = foreign {
        return Err(Error::Unsupported(form));
    }
    let ending = |suffix: &str| -> Vec<String> {
        names.iter().filter(|name| name.ends_with(suffix)).map(|name| format!("{below}{name}")).collect()
    };
    let mut merge = Merge::new(&options.limits);
    let (model_files, optims) = (ending(MODEL), ending(OPTIM));
    names::check_all(&model_files)?;
    names::check_all(&optims)?;
    let models = read_all(folder, &model_files, &mut merge, options, ModelStates::read)?;
    if universal::is_at(folder, &below) {
        let is_sharded = model_files.iter().any(|path| path.contains("zero_pp_rank_"));
        let universal = Universal::read(folder, &below, &models, is_sharded, &mut merge, options)?;
        with_zero(&models, &Master::Universal(universal), &mut merge)?;
        return Ok(merge.finish());
    }
    let Some(first) = models.first() else {
        return Err(FolderError::missing(&format!("{below}*{MODEL}")).into());
    };
    if optims.is_empty() {
        without_zero(first, models.len(), &mut merge)?;
    } else {
        let states = read_all(folder, &optims, &mut merge, options, OptimStates::read)?;
        let flat = Flat::new(&states, &merge)?;
        with_zero(&models, &Master::Flat(flat), &mut merge)?;
    }
    Ok(merge.finish())
}

/// Where the master weights of trained parameters are.
enum Master {
    Flat(Flat),
    Universal(Universal),
}

impl Master {
    /// Whether each rank has a part of every parameter, and a file of model states.
    fn is_sharded(&self) -> bool {
        match self {
            Self::Flat(flat) => flat.is_sharded(),
            Self::Universal(universal) => universal.is_sharded,
        }
    }

    fn parameters(
        &self,
        groups: &[Vec<Shaped>],
        merge: &mut Merge<'_>,
    ) -> Result<Vec<(Box<str>, TensorId)>, Error> {
        match self {
            Self::Flat(flat) => flat.parameters(groups, merge),
            Self::Universal(universal) => universal.parameters(groups, merge),
        }
    }
}

/// The folder of the last save, with a slash.
fn latest(folder: &Folder) -> Result<String, Error> {
    let file = if folder.has(LATEST) { LATEST } else { universal::LATEST };
    let tag = said(folder, file)?;
    let below = format!("{tag}/");
    if tag.is_empty() || tag.contains('/') || folder.beside(&below).next().is_none() {
        return Err(FolderError::Tag { file: file.into(), name: tag.into() }.into());
    }
    Ok(below)
}

/// What each of several files says, in their order.
fn read_all<T>(
    folder: &Folder,
    paths: &[String],
    merge: &mut Merge<'_>,
    options: &OpenOptions,
    says: impl Fn(&RankFile) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let read = |path: &String| {
        let file = RankFile::open(folder, path, merge, options)?;
        names::check_own(path, file.archive())?;
        let said = says(&file)?;
        merge.keep_beside(file.into_held());
        Ok(said)
    };
    paths.iter().map(read).collect()
}

/// Without ZeRO every rank has the whole module, and rank 0 writes it.
fn without_zero(first: &ModelStates, files: usize, merge: &mut Merge<'_>) -> Result<(), Error> {
    if first.is_partitioned || files > 1 {
        let found = 0;
        return Err(FolderError::Count { suffix: OPTIM, expected: crate::bytes::length(files), found }.into());
    }
    first.module.iter().try_for_each(|(name, tensor)| merge.put(&[Step::Key(name.clone())], *tensor))
}

/// Buffers, frozen parameters, trained parameters, and further names of parameters.
fn with_zero(models: &[ModelStates], master: &Master, merge: &mut Merge<'_>) -> Result<(), Error> {
    let Some(first) = models.first() else { return Ok(()) };
    let found = crate::bytes::length(models.len());
    let expected = match master {
        Master::Flat(flat) if flat.is_sharded() => flat.ranks(),
        Master::Universal(universal) if universal.is_sharded => found,
        _ => 1,
    };
    if found != expected {
        return Err(FolderError::Count { suffix: MODEL, expected, found }.into());
    }
    let mut named = std::collections::HashMap::new();
    let mut order = Vec::new();
    let mut name = |name: &str, tensor| {
        if named.insert(Box::from(name), tensor).is_none() {
            order.push(Box::from(name));
        }
    };
    for (buffer, tensor) in &first.buffers {
        name(buffer, merge.singles(buffer, *tensor)?);
    }
    for (parameter, shape) in &first.frozen {
        name(parameter, partitions::frozen(parameter, shape, models, master.is_sharded(), merge)?);
    }
    for (parameter, tensor) in master.parameters(&first.groups, merge)? {
        name(&parameter, tensor);
    }
    for (further, of) in &first.shared {
        if let Some(tensor) = named.get(of).copied()
            && named.insert(further.clone(), tensor).is_none()
        {
            order.push(further.clone());
        }
    }
    for name in order {
        if let Some(tensor) = named.get(&name) {
            merge.put(&[Step::Key(name.clone())], *tensor)?;
        }
    }
    Ok(())
}
