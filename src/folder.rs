//! Folders that are one checkpoint, whatever their layout: their models, each opened as one source, and the files beside.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use crate::bytes::{FileSource, ReadAt};
use crate::checkpoint::{self, Folder, MEGATRON, OpenOptions, Opened};
use crate::error::{Error, ErrorKind};
use crate::hub::{self, WeightSet};
use crate::tensor::{Kind, Leaf, Step, Tree};

/// What [`OpenedFolder::layout`] says of a folder in one of Hugging Face's layouts.
pub const HUGGING_FACE: &str = "hugging-face";

/// Why a file that may hold a model is none of a folder's: [`OpenedFolder::left_out`].
pub const UNOPENED: &str = "no file of this checkpoint, and not opened: convert it by itself";

/// A folder that is open.
#[derive(Debug)]
pub struct OpenedFolder {
    /// Its layout: `hugging-face`, `dcp`, `deepspeed` and others.
    pub layout: &'static str,
    /// Its models, in the order of their names.
    pub models: Vec<Model>,
    /// Files that a converted copy needs too, by their names: configs, vocabularies, text. What they hold is not checked.
    pub others: Vec<String>,
    /// Files that are no part of a model, and why.
    pub left_out: Vec<(String, String)>,
}

/// One model of a folder.
#[derive(Debug)]
pub struct Model {
    /// Its name, and of Hugging Face's layouts its shards.
    pub set: WeightSet,
    /// What it holds.
    pub opened: Opened,
}

/// Is told of each file, by its path from the folder, before any byte of it is parsed, and may refuse it. The index of shards,
/// which says which files those are, comes before them.
pub type Admit<'a> = &'a mut dyn FnMut(&str, &Arc<dyn ReadAt>) -> Result<(), Error>;

/// Whether a folder is one checkpoint, and not just a place where checkpoints are.
pub fn is_checkpoint(path: &Path) -> bool {
    hub::is_here(path).unwrap_or(false) || is_of_ranks(path)
}

/// Whether a folder is a checkpoint whose files are the parts of one model.
pub(crate) fn is_of_ranks(path: &Path) -> bool {
    Folder::list(path, &OpenOptions::default()).is_ok_and(|folder| folder.is_checkpoint())
}

/// Whether a folder is a checkpoint of which each rank is a model.
pub(crate) fn has_ranks(path: &Path) -> bool {
    Folder::list(path, &OpenOptions::default()).is_ok_and(|folder| folder.layout() == Some(MEGATRON))
}

/// Opens every model of a folder.
///
/// # Errors
/// [`checkpoint::Error::NotApplicable`] for a folder that is no checkpoint; files that do not fit together; whatever
/// keeps one from being read.
pub fn open(path: &Path, options: &OpenOptions, admit: Admit<'_>) -> Result<OpenedFolder, Error> {
    if !hub::is_here(path).unwrap_or(false) {
        return of_ranks(path, options, admit);
    }
    let repository = hub::open(path).map_err(|error| Error::new(path, error))?;
    let mut models = Vec::with_capacity(repository.sets.len());
    for set in repository.sets {
        let opened = open_set(path, &set, options, admit)?;
        models.push(Model { set, opened });
    }
    let left_out = repository.left_out.into_iter().map(|(path, reason)| (path, reason.to_owned()));
    let (others, left_out) = (repository.others, left_out.collect());
    Ok(OpenedFolder { layout: HUGGING_FACE, models, others, left_out })
}

/// Opens the model of a folder that has one: of variants the one without a name, which is what loaders take.
///
/// # Errors
/// As [`open`]; [`ErrorKind::SeveralModels`].
pub fn open_one(path: &Path, options: &OpenOptions, admit: Admit<'_>) -> Result<Opened, Error> {
    if !hub::is_here(path).unwrap_or(false) {
        let mut folder = of_ranks(path, options, admit)?;
        if let [first, second, ..] = folder.models.as_slice() {
            let (first, second) = (first.set.stem.clone(), second.set.stem.clone());
            return Err(Error::new(path, ErrorKind::SeveralModels { first, second }));
        }
        let model = folder.models.pop();
        return model.map(|model| model.opened).ok_or_else(|| not_applicable(path));
    }
    let repository = hub::open(path).map_err(|error| Error::new(path, error))?;
    match preferred(&repository.sets).as_slice() {
        [] => Err(not_applicable(path)),
        [set] => open_set(path, set, options, admit),
        [first, second, ..] => {
            let name = |set: &WeightSet| format!("{}{}", set.folder, set.stem);
            Err(Error::new(path, ErrorKind::SeveralModels { first: name(first), second: name(second) }))
        }
    }
}

fn not_applicable(path: &Path) -> Error {
    Error::new(path, checkpoint::Error::NotApplicable)
}

/// The models that loaders take where nothing else is asked for: of several variants the one without a name.
pub(crate) fn preferred(sets: &[WeightSet]) -> Vec<&WeightSet> {
    let bare = |set: &WeightSet| {
        let stem = set.variant.as_ref().and_then(|variant| set.stem.strip_suffix(&format!(".{variant}")));
        stem.unwrap_or(&set.stem).to_owned()
    };
    let stands_for =
        |set: &WeightSet, other: &WeightSet| set.folder == other.folder && bare(set) == other.stem;
    let is_variant_of_another =
        |set: &WeightSet| sets.iter().any(|other| other.variant.is_none() && stands_for(set, other));
    sets.iter().filter(|set| set.variant.is_none() || !is_variant_of_another(set)).collect()
}

fn of_ranks(path: &Path, options: &OpenOptions, admit: Admit<'_>) -> Result<OpenedFolder, Error> {
    let fail = |error: checkpoint::Error| Error::new(path, error);
    let folder = Folder::list(path, options).map_err(fail)?;
    let layout = folder.layout().ok_or_else(|| not_applicable(path))?;
    for name in folder.files() {
        admit(name, &folder.source(name).map_err(|error| Error::new(&path.join(name), error))?)?;
    }
    let models = checkpoint::open_folder(&folder, options).map_err(fail)?;
    if models.is_empty() {
        return Err(not_applicable(path));
    }
    let parts = models.iter().flat_map(|(_, opened)| &opened.files);
    let parts: HashSet<&str> = parts.map(|file| &*file.name).collect();
    let left_out = folder.files().filter(|name| !parts.contains(*name) && !name.split('/').any(hub::is_own));
    let left_out = left_out.map(|name| (name.to_owned(), reason(name).to_owned())).collect();
    let model = |(stem, opened): (Box<str>, Opened)| {
        let (folder, stem) = (String::new(), stem.into());
        Model { set: WeightSet { folder, stem, variant: None, shards: Vec::new(), index: None }, opened }
    };
    Ok(OpenedFolder { layout, models: models.into_iter().map(model).collect(), others: Vec::new(), left_out })
}

/// Why a file of a folder of ranks is no part of a model.
fn reason(name: &str) -> &'static str {
    /// By what is in its name.
    const REASONS: &[(&str, &str)] = &[
        ("model_optim_rng", "weights of another save"),
        ("model_states", "weights of another save"),
        ("optim", "optimizer state"),
        ("exp_avg", "optimizer state"),
        ("step.pt", "optimizer state"),
        ("fp32.pt", "a copy of what the model states hold"),
        ("rng", "random state"),
    ];
    /// Files that may hold a model, and were not opened.
    const MODELS: [&str; 7] = [".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".safetensors"];
    let name = name.to_ascii_lowercase();
    let is_model = MODELS.iter().any(|end| name.ends_with(end));
    let other = if is_model { UNOPENED } else { "no weights" };
    REASONS.iter().find(|(part, _)| name.contains(part)).map_or(other, |(_, reason)| reason)
}

/// Opens the shards of a model as one source.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_set(
    root: &Path,
    set: &WeightSet,
    options: &OpenOptions,
    admit: Admit<'_>,
) -> Result<Opened, Error> {
    if let Some(index) = &set.index {
        let path = root.join(&index.path);
        let source = FileSource::open(&path);
        let source: Arc<dyn ReadAt> =
            Arc::new(source.map_err(|error| Error::new(&path, checkpoint::Error::Io(error)))?);
        admit(&index.path, &source)?;
    }
    let mut whole: Option<Opened> = None;
    let mut names: HashMap<String, usize> = HashMap::new();
    for (number, path) in set.shards.iter().enumerate() {
        let file = root.join(path);
        let fail = |error: checkpoint::Error| Error::new(&file, error);
        let source = FileSource::open(&file).map_err(|error| fail(checkpoint::Error::Io(error)))?;
        let source: Arc<dyn ReadAt> = Arc::new(source);
        admit(path, &source)?;
        let mut opened = checkpoint::open(&source, options).map_err(fail)?;
        opened.name(path);
        for name in tensor_names(&opened.tree).into_iter().filter(|_| set.is_sharded()) {
            if let Some(first) = names.get(&name).filter(|first| **first != number) {
                let first = set.shards.get(*first).cloned().unwrap_or_default();
                let error = hub::Error::Doubled { name, first, second: path.clone() };
                return Err(Error::new(root, error));
            }
            names.insert(name, number);
        }
        match &mut whole {
            None => whole = Some(opened),
            Some(whole) => whole.join(opened, None),
        }
    }
    let mut whole = whole.ok_or_else(|| not_applicable(root))?;
    whole.strays.extend(check_index(set, &names).map_err(|error| Error::new(root, error))?);
    Ok(whole)
}

/// Every tensor that the index names stands in its shard. What it does not name is said: older loaders take it, too.
fn check_index(set: &WeightSet, names: &HashMap<String, usize>) -> Result<Option<String>, hub::Error> {
    let Some(index) = &set.index else { return Ok(None) };
    let mut listed = 0_usize;
    for (name, file) in index.tensors() {
        let shard = format!("{}{file}", set.folder);
        let holds = names.get(name).and_then(|number| set.shards.get(*number));
        if holds != Some(&shard) {
            return Err(hub::Error::Absent { name: name.to_owned(), shard, index: index.path.clone() });
        }
        listed = listed.saturating_add(1);
    }
    let beyond = names.len().saturating_sub(listed);
    Ok((beyond > 0).then(|| format!("{}: names {listed} of {} tensors", index.path, names.len())))
}

/// The names of all tensors, those in parts without their parts.
fn tensor_names(tree: &Tree) -> Vec<String> {
    let tensors = tree
        .iter()
        .filter(|(_, entry)| matches!(entry.kind, Kind::Leaf(Leaf::Tensor(_) | Leaf::LeftOut { .. })));
    let name = |id| {
        let steps = tree.ancestors(id).map(|(_, entry)| &entry.step);
        let mut steps: Vec<_> =
            steps.filter(|step| !matches!(step, Step::Root | Step::Part(_))).map(Step::text).collect();
        steps.reverse();
        steps.join(".")
    };
    tensors.map(|(id, _)| name(id)).collect()
}
