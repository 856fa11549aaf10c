//! The whole pipeline: open, plan, write, record.

mod documents;
mod record;
mod target;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bytes::ReadAt;
use crate::checkpoint::{self, OpenOptions, Opened};
use crate::custody::documents::Documents;
use crate::error::{Error, ErrorKind};
use crate::output::{self, Item, Staged, WriteOptions, Written};
use crate::plan::{self, Note, Plan};
use crate::progress::Progress;
use crate::tensor::{Cast, Kind, Leaf, Place, StorageId, StreamId, TensorId, View};

pub use crate::custody::manifest_name;
pub use target::{metadata_name, output_name};

/// How to convert.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How to open the source.
    pub open: OpenOptions,
    /// What to take, and under which names.
    pub plan: plan::Options,
    /// Where the manifest goes.
    pub manifest: ManifestAt,
    /// What the manifest calls the source: its path relative to the input folder. Its file name where `None`.
    pub recorded: Option<PathBuf>,
    /// SHA-256 of the policy file that gave some of the overrides, for the manifest.
    pub policy: Option<String>,
    /// Threads; `None` for one a core.
    pub jobs: Option<usize>,
    /// Replaces outputs that exist.
    pub force: bool,
    /// Does everything but write.
    pub dry_run: bool,
    /// Documents beside the manifest, which they need; none where `None`. The folder should hold nothing else.
    pub documents: Option<Documents>,
}

/// Where the manifest goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ManifestAt {
    /// Beside the output, see [`manifest_name`].
    #[default]
    Beside,
    /// There.
    Path(PathBuf),
    /// Nowhere: no digests are computed.
    Nowhere,
}

/// What a conversion did, or would do.
#[derive(Debug, Clone)]
pub struct Converted {
    /// The safetensors file.
    pub output: PathBuf,
    /// The manifest, if one was written.
    pub manifest: Option<PathBuf>,
    /// The values that are no tensors, if they were written.
    pub metadata: Option<PathBuf>,
    /// The outputs with their digests, and the manifest; empty without one.
    pub files: Vec<(PathBuf, String)>,
    /// Tensors in the output.
    pub tensors: u64,
    /// Names that were recorded instead of written.
    pub aliases: u64,
    /// Tensors left out, by place.
    pub left_out: Vec<plan::LeftOut>,
    /// Bytes of the output; 0 in a dry run.
    pub bytes: u64,
    /// `bit-exact`, `lossless` or `lossy`.
    pub claim: &'static str,
    /// What should be said.
    pub notes: Vec<Note>,
    /// What was dropped that does not belong in such a file.
    pub strays: Vec<String>,
    /// Names that were kept as inert data because the user said so.
    pub overridden: Vec<String>,
    /// Names in the output, with their type and shape, in a dry run.
    pub planned: Vec<(String, String, Vec<u64>)>,
}

/// Converts the checkpoint at `input` to a safetensors file at `output`, and records it in a manifest. Nothing that
/// looks finished is left behind when it fails.
///
/// # Errors
/// An [`Error`] whose [`Class`](crate::Class) says what can be done about it.
pub fn convert(
    input: &Path,
    output: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Converted, Error> {
    let source =
        crate::bytes::FileSource::open(input).map_err(|e| Error::new(input, checkpoint::Error::Io(e)))?;
    if is_same_file(input, output) {
        return Err(Error::new(input, ErrorKind::OutputIsInput(output.display().to_string())));
    }
    let source: Arc<dyn ReadAt> = Arc::new(source);
    let mut options = options.clone();
    options.open.siblings.get_or_insert_with(|| folder_of(input).to_owned());
    convert_source(&source, input, output, &options, progress)
}

/// Converts a source that is open already. `name` is its path, for errors and the manifest.
///
/// # Errors
/// As [`convert`].
pub fn convert_source(
    source: &Arc<dyn ReadAt>,
    name: &Path,
    output: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Converted, Error> {
    let error = |kind: ErrorKind| Error::new(name, kind);
    let mut open = options.open.clone();
    // Beside the output there is room for what it takes; a temporary folder is often in memory.
    let beside = folder_of(output);
    open.spool = open.spool.or_else(|| beside.is_dir().then(|| beside.to_owned()));
    open.values = options.plan.metadata && !options.dry_run;
    let mut opened = checkpoint::open(source, &open).map_err(|e| error(e.into()))?;
    let recorded = options.recorded.as_deref().or(name.file_name().map(Path::new));
    opened.name(&recorded.and_then(slashed).ok_or_else(|| error(ErrorKind::PathNotUtf8))?);
    let mut planned =
        plan::plan(&opened.tree, &opened.tensors, &options.plan).map_err(|e| error(e.into()))?;
    planned.notes.extend(opened.library.map(Note::ArraysOnly));
    let needs = opened.files.iter().filter_map(|file| file.outer.as_ref()?.needs);
    planned.notes.extend(needs.map(|(writer, members)| {
        let keys = members.iter().map(ToString::to_string).collect();
        Note::Needed { writer, keys }
    }));
    let job = Job { opened, plan: planned, options };
    if options.dry_run {
        return Ok(job.summary(output));
    }
    progress.begin(&output.display().to_string(), job.bytes());
    let converted = job.write(name, output, progress);
    progress.finish();
    converted
}

/// A source that is open and planned.
struct Job<'a> {
    opened: Opened,
    plan: Plan,
    options: &'a Options,
}

impl Job<'_> {
    fn write(mut self, name: &Path, output: &Path, progress: &dyn Progress) -> Result<Converted, Error> {
        let fail = |e: output::Error| Error::new(name, e);
        let force = self.options.force;
        // All are staged before the work, so that a target in the way is met at once.
        let weights = Staged::create(output, force).map_err(fail)?;
        let stage = |path: PathBuf| Staged::create(&path, force).map_err(fail);
        let metadata = self.metadata_path(output).map(stage).transpose()?;
        let manifest = self.manifest_path(output).map(stage).transpose()?;
        let digests = manifest.is_some();
        let defaults = WriteOptions::default();
        let jobs = self.options.jobs.unwrap_or(defaults.jobs);
        self.spool(output, jobs, progress).map_err(fail)?;
        let cast = self.options.plan.dtype.and_then(Cast::new);
        let items = self.plan.tensors.iter().filter_map(|planned| {
            let cast = cast.filter(|_| planned.cast);
            Some(Item { name: &planned.name, view: self.view(planned.tensor)?, cast })
        });
        let items: Vec<Item<'_>> = items.collect();
        let sources = if digests { self.sources() } else { Vec::new() };
        let write = WriteOptions { jobs, digests, sources: &sources };
        let (streams, storages) = (&self.opened.streams, &self.opened.storages);
        let written =
            output::write(&weights, streams, storages, &items, &self.plan.metadata, write, progress);
        let written = written.map_err(fail)?;
        self.opened.on_disk().iter().try_for_each(ReadAt::check_unchanged).map_err(|error| {
            fail(output::Error { path: name.to_owned(), kind: output::ErrorKind::Changed(error) })
        })?;
        drop(items);
        let sidecar = metadata.as_ref().map(|staged| self.write_values(staged)).transpose().map_err(fail)?;
        let manifest_path = manifest.as_ref().map(|staged| staged.target().to_owned());
        let (mut documents, mut files) = (Vec::new(), Vec::new());
        if let Some(manifest) = &manifest {
            let (job, written, sidecar) = (&self, &written, sidecar.as_ref());
            let recorded = record::Record { job, written, sidecar, name, output }.write(manifest)?;
            documents = documents::Making { job, name, manifest: manifest.target() }.stage(&recorded)?;
            files = recorded.files(folder_of(output), manifest.target());
        }
        // The manifest last: where it stands, all that it tells of stands.
        for staged in std::iter::once(weights).chain(metadata).chain(documents).chain(manifest) {
            staged.commit(force).map_err(fail)?;
        }
        let mut summary = self.summary(output);
        summary.files = files;
        summary.manifest = manifest_path;
        summary.bytes = written.size;
        summary.claim = self.claim(Some(&written));
        Ok(summary)
    }

    /// Writes the values that are no tensors.
    fn write_values(&self, to: &Staged) -> Result<output::Sidecar, output::Error> {
        let opened = &self.opened;
        let Opened { streams, tree, values, .. } = opened;
        let mut names = HashMap::new();
        for planned in &self.plan.tensors {
            names.entry(planned.tensor).or_insert(&*planned.name);
        }
        for alias in &self.plan.aliases {
            let of = self.plan.tensors.get(alias.of).map(|of| &*of.name);
            if let (Some(Kind::Leaf(Leaf::Tensor(tensor))), Some(of)) =
                (tree.entry(alias.entry).map(|entry| &entry.kind), of)
            {
                names.entry(*tensor).or_insert(of);
            }
        }
        let name_of = |tensor| names.get(&tensor).copied();
        let place_of = |id| opened.place(id);
        let around = output::Surroundings { streams, tree, name_of: &name_of, place_of: &place_of };
        output::write_values(to, values, around)
    }

    fn metadata_path(&self, output: &Path) -> Option<PathBuf> {
        self.options.plan.metadata.then(|| metadata_name(output))
    }

    /// About how many bytes are to be inflated and written.
    fn bytes(&self) -> u64 {
        let planned = self.plan.tensors.iter();
        let views: Vec<&View> = planned.filter_map(|planned| self.view(planned.tensor)).collect();
        let deflated: BTreeSet<StorageId> = views.iter().map(|view| view.storage()).collect();
        let deflated = deflated.into_iter().filter_map(|id| self.opened.storages.get(id.index()));
        let deflated = deflated.filter(|storage| matches!(storage.place, Place::Deflated { .. }));
        let sizes = views.iter().map(|view| view.nbytes()).chain(deflated.map(|storage| storage.len));
        sizes.fold(0, u64::saturating_add)
    }

    /// Inflates what the plan needs into a nameless file beside the output.
    fn spool(&mut self, output: &Path, jobs: usize, progress: &dyn Progress) -> Result<(), output::Error> {
        let tensors = &self.opened.tensors;
        let view =
            |planned: &plan::Planned| tensors.get(planned.tensor.index()).map(|tensor| tensor.view.storage());
        let needed: BTreeSet<StorageId> = self.plan.tensors.iter().filter_map(view).collect();
        let folder = folder_of(output);
        output::spool(&mut self.opened.streams, &mut self.opened.storages, needed, folder, jobs, progress)
    }

    /// Files that are hashed while they are written from. Of a file around a checkpoint the digest is taken by itself.
    fn sources(&self) -> Vec<StreamId> {
        let files = self.opened.files.iter().filter(|file| file.outer.is_none());
        files.map(|file| file.stream).collect()
    }

    fn manifest_path(&self, output: &Path) -> Option<PathBuf> {
        match &self.options.manifest {
            ManifestAt::Beside => Some(manifest_name(output)),
            ManifestAt::Path(path) => Some(path.clone()),
            ManifestAt::Nowhere => None,
        }
    }

    fn view(&self, id: TensorId) -> Option<&View> {
        self.opened.tensors.get(id.index()).map(|tensor| &tensor.view)
    }

    /// What the output is, compared with the source.
    fn claim(&self, written: Option<&Written>) -> &'static str {
        let casts = self.plan.tensors.iter().any(|planned| planned.cast);
        let inexact = written.is_none_or(|written| written.tensors.iter().any(|tensor| !tensor.cast_exact));
        let tensors =
            self.plan.tensors.iter().filter_map(|planned| self.opened.tensors.get(planned.tensor.index()));
        let encoded = tensors.clone().any(|tensor| tensor.encoding.is_some());
        match () {
            () if casts && inexact => "lossy",
            () if casts || encoded => "lossless",
            () => "bit-exact",
        }
    }

    fn summary(&self, output: &Path) -> Converted {
        let shape = |id: TensorId| self.view(id).map(View::stored_shape).unwrap_or_default();
        let cast = self.options.plan.dtype.and_then(Cast::new);
        let dtype = |planned: &plan::Planned| {
            let own = self.view(planned.tensor).map(|view| view.dtype().stored().to_string());
            let cast = cast.filter(|_| planned.cast).map(|cast| cast.to().stored().to_string());
            cast.or(own).unwrap_or_default()
        };
        let planned = self
            .plan
            .tensors
            .iter()
            .map(|planned| (planned.name.clone(), dtype(planned), shape(planned.tensor)));
        Converted {
            output: output.to_owned(),
            manifest: None,
            metadata: self.metadata_path(output),
            files: Vec::new(),
            tensors: crate::bytes::length(self.plan.tensors.len()),
            aliases: crate::bytes::length(self.plan.aliases.len()),
            left_out: self.plan.left_out.clone(),
            bytes: 0,
            claim: self.claim(None),
            notes: self.plan.notes.clone(),
            strays: self.opened.strays.clone(),
            overridden: self.overridden(),
            planned: if self.options.dry_run { planned.collect() } else { Vec::new() },
        }
    }

    /// Names that the rule would refuse and the user kept.
    fn overridden(&self) -> Vec<String> {
        let named = |name: &String| {
            let mut globals = self.opened.pickles().flat_map(|pickle| &pickle.globals);
            globals.any(|global| global.name == *name)
        };
        self.options.open.overrides.names.iter().filter(|name| named(name)).cloned().collect()
    }
}

/// A relative path as documents have it: with forward slashes on every system.
fn slashed(path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = path.components().map(|part| part.as_os_str().to_str()).collect();
    parts.map(|parts| parts.join("/"))
}

/// The folder that a file lies in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether two paths are one file, through links too.
fn is_same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
