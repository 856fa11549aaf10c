//! Converting a folder that is one checkpoint: every shard is opened, joined and checked before anything is written.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bytes::{FileSource, ReadAt};
use crate::checkpoint::{self, OpenOptions, Opened};
use crate::custody::{Expect, Expected};
use crate::error::{Error, ErrorKind};
use crate::hub::{self, Repository, WeightSet};
use crate::plan;
use crate::progress::Progress;
use crate::tensor::{Kind, Leaf, Step, Tree};

use super::job::Job;
use super::model::{Model, Naming, Spread};
use super::others::{self, Other};
use super::{Converted, ManifestAt, Options, output_name, ranks};

/// Whether a folder is one checkpoint, and not just a place where checkpoints are.
pub fn is_checkpoint_folder(path: &Path) -> bool {
    hub::is_here(path).unwrap_or(false) || ranks::are_here(path)
}

/// Converts a folder that [is one checkpoint](is_checkpoint_folder) into another, or into itself: the new files then stand
/// beside the old. All of it is one commit: files are staged, and renamed together, the manifest last.
///
/// # Errors
/// As [`convert`](super::convert()); files that do not fit together.
pub fn convert_folder(
    input: &Path,
    output: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Converted, Error> {
    if !hub::is_here(input).unwrap_or(false) && ranks::are_here(input) {
        let (model, left_out_files) = ranks::model(input, output, options)?;
        let mut job = Job::new(vec![model], input, output, manifest_in(output, options), options);
        job.is_folder = true;
        job.left_out_files = left_out_files;
        return job.run(progress);
    }
    // The libraries of these layouts tie by the model's config.
    let plan = plan::Options { prefer_once: true, ..options.plan.clone() };
    let options = Options { plan, ..options.clone() };
    let (repository, models, open) = repository(input, output, &options)?;
    let manifest = manifest_in(output, &options);
    let mut job = Job::new(models, input, output, manifest, &options);
    job.is_folder = true;
    beside(&mut job, repository, output, &open)?;
    job.run(progress)
}

/// Where the manifest of a folder goes.
fn manifest_in(output: &Path, options: &Options) -> Option<PathBuf> {
    match &options.manifest {
        ManifestAt::Beside => Some(output.join("manifest.json")),
        ManifestAt::Path(path) => Some(path.clone()),
        ManifestAt::Nowhere => None,
    }
}

/// Opens and plans every model of a folder. What has to be expanded goes to `spool`.
pub(super) fn models(input: &Path, spool: &Path, options: &Options) -> Result<Vec<Model>, Error> {
    match hub::is_here(input) {
        Ok(false) => Ok(vec![ranks::model(input, spool, options)?.0]),
        _ => Ok(repository(input, spool, options)?.1),
    }
}

/// Opens and plans every model of a Hugging Face folder.
fn repository(
    input: &Path,
    spool: &Path,
    options: &Options,
) -> Result<(Repository, Vec<Model>, OpenOptions), Error> {
    let repository = hub::open(input).map_err(|error| Error::new(input, error))?;
    let mut open = options.open.clone();
    open.spool = open.spool.or_else(|| spool.is_dir().then(|| spool.to_owned()));
    open.values = options.plan.metadata && !options.dry_run;
    let mut opened = Vec::with_capacity(repository.sets.len());
    for set in &repository.sets {
        opened.push(open_set(&repository, set, &open, &options.expect)?);
    }
    let mut models = Vec::with_capacity(opened.len());
    for (set, (opened, expected)) in repository.sets.iter().zip(opened) {
        let model = Model::new(opened, naming(set), &spread(set, options), &options.plan);
        let mut model = model.map_err(|kind| Error::new(&input.join(&set.folder), kind))?;
        model.expected = expected;
        models.push(model);
    }
    Ok((repository, models, open))
}

/// Opens the shards of a model as one source, and says what each of its files was compared with before.
fn open_set(
    repository: &Repository,
    set: &WeightSet,
    options: &OpenOptions,
    expect: &Expect,
) -> Result<(Opened, Vec<Vec<Expected>>), Error> {
    let mut expected: Vec<Vec<Expected>> = Vec::new();
    let mut whole: Option<Opened> = None;
    let mut names: HashMap<String, usize> = HashMap::new();
    for (number, path) in set.shards.iter().enumerate() {
        let file = repository.root.join(path);
        let fail = |error: checkpoint::Error| Error::new(&file, error);
        let source = FileSource::open(&file).map_err(|error| fail(checkpoint::Error::Io(error)))?;
        let source: Arc<dyn ReadAt> = Arc::new(source);
        let said = super::check(&source, &file, expect).map_err(|kind| Error::new(&file, kind))?;
        expected.resize(whole.as_ref().map_or(0, |whole| whole.files.len()), Vec::new());
        expected.push(said);
        let mut opened = checkpoint::open(&source, options).map_err(fail)?;
        opened.name(path);
        for name in tensor_names(&opened.tree).into_iter().filter(|_| set.is_sharded()) {
            if let Some(first) = names.get(&name).filter(|first| **first != number) {
                let first = set.shards.get(*first).cloned().unwrap_or_default();
                let error = hub::Error::Doubled { name, first, second: path.clone() };
                return Err(Error::new(&repository.root, error));
            }
            names.insert(name, number);
        }
        match &mut whole {
            None => whole = Some(opened),
            Some(whole) => whole.join(opened, None),
        }
    }
    let mut whole = whole.ok_or_else(|| Error::new(&repository.root, checkpoint::Error::NotApplicable))?;
    whole.strays.extend(check_index(set, &names).map_err(|error| Error::new(&repository.root, error))?);
    Ok((whole, expected))
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

/// What the files of a model are called.
fn naming(set: &WeightSet) -> Naming {
    let stem = output_name(Path::new(&format!("{}.bin", set.stem)));
    let stem = stem.to_string_lossy();
    let stem = stem.strip_suffix(".safetensors").unwrap_or(&stem).to_owned();
    Naming { folder: set.folder.clone(), stem, variant: set.variant.clone() }
}

/// Shards stay what they are, unless a size is given.
fn spread(set: &WeightSet, options: &Options) -> Spread {
    let name = |path: &String| output_name(Path::new(path)).to_string_lossy().into_owned();
    match options.max_shard_size {
        Some(most) => Spread::BySize(most),
        None if set.is_sharded() => Spread::AsSources(set.shards.iter().map(name).collect()),
        None => Spread::One,
    }
}

/// Sorts the files beside the weights into those that are copied and those that are left out.
fn beside(job: &mut Job<'_>, repository: Repository, output: &Path, open: &OpenOptions) -> Result<(), Error> {
    let Repository { root, others, left_out, .. } = repository;
    let mut left_out: BTreeMap<String, &'static str> = left_out.into_iter().collect();
    let in_place = super::is_same_file(&root, output);
    // A copy inside of what is copied would be copied into itself the next time.
    let inside = root.canonicalize().ok().zip(output.canonicalize().ok());
    let inside = inside.and_then(|(root, output)| super::slashed(output.strip_prefix(root).ok()?));
    let is_output =
        |path: &String| inside.as_ref().is_some_and(|inside| path.starts_with(&format!("{inside}/")));
    for path in others.into_iter().filter(|path| job.options.copy_others && !in_place && !is_output(path)) {
        let source: PathBuf = root.join(&path);
        if job.models.iter().any(|model| model.naming.covers(&path)) {
            left_out.insert(path, "weights in safetensors, which the converted ones replace");
            continue;
        }
        let fail = |error| Error::new(&source, ErrorKind::Copy(error));
        match others::refusal(&source, open).map_err(fail)? {
            Some(reason) => _ = left_out.insert(path, reason),
            None => job.others.push(Other { path, source }),
        }
    }
    job.left_out_files = left_out.into_iter().map(|(path, reason)| (path, reason.to_owned())).collect();
    Ok(())
}
