//! Converting a folder that is one checkpoint: every shard is opened, joined and checked before anything is written.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bytes::ReadAt;
use crate::checkpoint::{self, OpenOptions};
use crate::container::{Format, detect};
use crate::custody::Checked;
use crate::error::{Error, ErrorKind};
use crate::folder::{self, HUGGING_FACE};
use crate::hub::WeightSet;
use crate::plan;
use crate::progress::Progress;

use super::job::Job;
use super::model::{Model, Naming, Spread};
use super::others::{self, Other};
use super::{Converted, ManifestAt, Options, output_name};

/// Converts a folder that [is one checkpoint](crate::folder::is_checkpoint) into another, or into itself: the new files then
/// stand beside the old. All of it is one commit: files are staged, and renamed together, the manifest last.
///
/// # Errors
/// As [`convert`](super::convert()); files that do not fit together.
pub fn convert_folder(
    input: &Path,
    output: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Converted, Error> {
    let Planned { models, layout, others, left_out, open } = planned(input, output, options)?;
    // The libraries of these layouts tie by the model's config.
    let mut options = options.clone();
    options.plan.prefer_once |= layout == HUGGING_FACE;
    let mut job = Job::new(models, input, output, manifest_in(output, &options), &options);
    job.is_folder = true;
    beside(&mut job, (others, left_out), output, &open)?;
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

/// A folder whose models are open and planned.
struct Planned {
    models: Vec<Model>,
    layout: &'static str,
    others: Vec<String>,
    left_out: Vec<(String, String)>,
    /// How it was opened.
    open: OpenOptions,
}

/// Opens and plans every model of a folder. What has to be expanded goes to `spool`.
pub(super) fn models(input: &Path, spool: &Path, options: &Options) -> Result<Vec<Model>, Error> {
    planned(input, spool, options).map(|planned| planned.models)
}

fn planned(input: &Path, spool: &Path, options: &Options) -> Result<Planned, Error> {
    let mut open = options.open.clone();
    open.spool = open.spool.or_else(|| spool.is_dir().then(|| spool.to_owned()));
    open.values = options.plan.metadata && !options.dry_run;
    let mut said: HashMap<String, Checked> = HashMap::new();
    let mut admit = |name: &str, source: &Arc<dyn ReadAt>| {
        let path = input.join(name);
        let fail = |kind| Error::new(&path, kind);
        let format = detect(source).map_err(|error| fail(checkpoint::Error::Io(error).into()))?;
        // An index or another text, which no list has to name.
        let checked = match format {
            Format::Unknown => super::check_companion(source, &path, &options.expect),
            _ => super::check(source, &path, &options.expect),
        };
        said.insert(name.to_owned(), checked.map_err(fail)?);
        Ok(())
    };
    let folder = folder::open(input, &open, &mut admit)?;
    let prefer_once = options.plan.prefer_once || folder.layout == HUGGING_FACE;
    let choice = plan::Options { prefer_once, ..options.plan.clone() };
    let mut models = Vec::with_capacity(folder.models.len());
    for folder::Model { set, opened } in folder.models {
        let checked = opened.files.iter().map(|file| said.get(&*file.name).cloned().unwrap_or_default());
        let checked = checked.collect();
        let model = Model::new(opened, naming(&set), &spread(&set, options), &choice);
        let model = model.map_err(|kind| Error::new(&input.join(&set.folder), kind))?;
        let taken = model.plan.tensors.iter().filter_map(|planned| model.view(planned.tensor));
        model.opened.check_replicas(taken).map_err(|error| Error::new(input, error))?;
        models.push(Model { checked, ..model });
    }
    let (others, left_out) = (folder.others, folder.left_out);
    Ok(Planned { models, layout: folder.layout, others, left_out, open })
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
fn beside(
    job: &mut Job<'_>,
    (others, left_out): (Vec<String>, Vec<(String, String)>),
    output: &Path,
    open: &OpenOptions,
) -> Result<(), Error> {
    let mut left_out: BTreeMap<String, String> = left_out.into_iter().collect();
    let root = job.input;
    let in_place = super::is_same_file(root, output);
    // A copy inside of what is copied would be copied into itself the next time.
    let inside = root.canonicalize().ok().zip(output.canonicalize().ok());
    let inside = inside.and_then(|(root, output)| super::slashed(output.strip_prefix(root).ok()?));
    let is_output = |path: &str| {
        inside.as_ref().is_some_and(|inside| path.strip_prefix(&**inside).is_some_and(|p| p.starts_with('/')))
    };
    let is_weights = |path: &str| job.models.iter().any(|model| model.naming.covers(path));
    let is_written = |path: &str| {
        let values = job.models.iter().any(|model| model.naming.metadata() == path);
        is_output(path) || in_place && (values || is_weights(path))
    };
    left_out.retain(|path, _| !is_written(path));
    for path in others.into_iter().filter(|path| job.options.copy_others && !in_place && !is_output(path)) {
        let source: PathBuf = root.join(&path);
        if is_weights(&path) {
            left_out.insert(path, "weights in safetensors, which the converted ones replace".to_owned());
            continue;
        }
        let fail = |error| Error::new(&source, ErrorKind::Copy(error));
        match others::refusal(&source, open).map_err(fail)? {
            Some(reason) => _ = left_out.insert(path, reason.to_owned()),
            None => job.others.push(Other { path, source }),
        }
    }
    job.left_out_files = left_out.into_iter().collect();
    Ok(())
}
