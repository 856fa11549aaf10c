//! The whole pipeline: open, plan, write, record.

mod before;
mod documents;
mod folder;
mod job;
mod journal;
mod model;
mod others;
mod recheck;
mod record;
mod recorded;
mod stage;
mod summary;
mod target;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bytes::{ReadAt, folder_of};
use crate::checkpoint::{self, OpenOptions};
use crate::container::{Format, detect};
use crate::custody::documents::Documents;
use crate::custody::{self, Checked, Expect, Expected};
use crate::error::{Error, ErrorKind};
use crate::plan::{self, Note};
use crate::progress::Progress;

use self::job::Job;
use self::model::{Model, Naming, Spread};

pub use crate::custody::manifest_name;
pub use crate::folder::is_checkpoint as is_checkpoint_folder;
pub use folder::convert_folder;
pub use recheck::{Level, check_source, reconvert};
pub use target::{metadata_name, output_name};

/// Whether a conversion into a folder was interrupted, which [`Options::resume`] goes on with.
pub fn is_interrupted(output: &Path) -> bool {
    journal::Journal::is_left(output)
}

/// How to convert.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that a user gives or not")]
pub struct Options {
    /// How to open the source.
    pub open: OpenOptions,
    /// What to take, and under which names.
    pub plan: plan::Options,
    /// What the source has to be, before it is parsed.
    pub expect: Expect,
    /// Where the manifest goes.
    pub manifest: ManifestAt,
    /// What the manifest calls the source: its path relative to the input folder. Its file name where `None`.
    pub recorded: Option<PathBuf>,
    /// Bytes of tensors in a file; what has more becomes several files and an index. The outputs can then be resumed.
    pub max_shard_size: Option<u64>,
    /// Of a folder, copies what its weights need beside them: configs, vocabularies, text.
    pub copy_others: bool,
    /// Goes on with what an interrupted run has finished.
    pub resume: bool,
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
    /// The safetensors file, or the folder of several.
    pub output: PathBuf,
    /// The manifest, if one was written.
    pub manifest: Option<PathBuf>,
    /// The values of a model that are no tensors, if they were written.
    pub metadata: Option<PathBuf>,
    /// The outputs with their digests, and the manifest; empty without one.
    pub files: Vec<(PathBuf, String)>,
    /// Files of weights.
    pub shards: u64,
    /// Files that were copied.
    pub copied: u64,
    /// Files of weights that an interrupted run had finished.
    pub taken_over: u64,
    /// Tensors in the output.
    pub tensors: u64,
    /// Names that were recorded instead of written.
    pub aliases: u64,
    /// Tensors left out, by place.
    pub left_out: Vec<plan::LeftOut>,
    /// Files of the input folder that were neither opened nor copied, and why.
    pub left_out_files: Vec<(String, String)>,
    /// Bytes of the weights; 0 in a dry run.
    pub bytes: u64,
    /// `bit-exact`, `lossless` or `lossy`.
    pub claim: &'static str,
    /// What should be said.
    pub notes: Vec<Note>,
    /// Digests that the source was compared with.
    pub expected: Vec<Expected>,
    /// What was dropped that does not belong in such a file.
    pub strays: Vec<String>,
    /// Names that were kept as inert data because the user said so.
    pub overridden: Vec<String>,
    /// Names in the output, with their type and shape, in a dry run.
    pub planned: Vec<(String, String, Vec<u64>)>,
}

/// Converts the checkpoint at `input` to a safetensors file at `output`, and records it in a manifest. Nothing that
/// looks finished is left behind when it fails. With [`Options::max_shard_size`] the tensors may go to several files, which
/// are called after `output`, in the same folder.
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
    let stem =
        output.file_name().and_then(|name| name.to_str()).ok_or_else(|| error(ErrorKind::PathNotUtf8))?;
    let stem = stem.strip_suffix(".safetensors").unwrap_or(stem);
    // Beside the output there is room for what is expanded; a temporary folder is often in memory.
    let model = open_model(source, name, stem, folder_of(output), options)?;
    let manifest = match &options.manifest {
        ManifestAt::Beside => Some(manifest_name(output)),
        ManifestAt::Path(path) => Some(path.clone()),
        ManifestAt::Nowhere => None,
    };
    let root = output.parent().unwrap_or(Path::new(""));
    let mut job = Job::new(vec![model], name, root, manifest, options);
    job.is_folder = options.max_shard_size.is_some();
    job.run(progress)
}

/// Opens a source, if it is what it has to be, and plans what is written of it. What has to be expanded goes to `spool`.
fn open_model(
    source: &Arc<dyn ReadAt>,
    name: &Path,
    stem: &str,
    spool: &Path,
    options: &Options,
) -> Result<Model, Error> {
    let error = |kind: ErrorKind| Error::new(name, kind);
    let mut checked = vec![check(source, name, &options.expect).map_err(error)?];
    let mut open = options.open.clone();
    open.spool = open.spool.or_else(|| spool.is_dir().then(|| spool.to_owned()));
    open.values = options.plan.metadata && !options.dry_run;
    let mut opened = checkpoint::open(source, &open).map_err(|e| error(e.into()))?;
    let recorded = options.recorded.as_deref().or(name.file_name().map(Path::new));
    for file in opened.files.iter().skip(1) {
        // The pickle says which files are beside it, so that they are open already; nothing is written yet.
        let path = name.with_file_name(&*file.name);
        let companion = check_companion(opened.streams.stream(file.stream), &path, &options.expect);
        checked.push(companion.map_err(|kind| Error::new(&path, kind))?);
    }
    opened.name(&recorded.and_then(slashed).ok_or_else(|| error(ErrorKind::PathNotUtf8))?);
    let naming = Naming { folder: String::new(), stem: stem.to_owned(), variant: None };
    let spread = options.max_shard_size.map_or(Spread::One, Spread::BySize);
    let mut model = Model::new(opened, naming, &spread, &options.plan).map_err(error)?;
    model.checked = checked;
    Ok(model)
}

/// Compares a source with what is expected of it, unless it is nothing that would be parsed.
fn check(source: &Arc<dyn ReadAt>, path: &Path, expect: &Expect) -> Result<Checked, ErrorKind> {
    if detect(source).map_err(checkpoint::Error::Io)? == Format::Unknown {
        return Ok(Checked::default());
    }
    Ok(custody::check(source, &expect.of(path)?)?)
}

/// Compares a file that comes with a source with what is expected of it.
fn check_companion(source: &dyn ReadAt, path: &Path, expect: &Expect) -> Result<Checked, ErrorKind> {
    Ok(custody::check(source, &expect.of_companion(path)?)?)
}

/// A relative path as documents have it: with forward slashes on every system.
fn slashed(path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = path.components().map(|part| part.as_os_str().to_str()).collect();
    parts.map(|parts| parts.join("/"))
}

/// Whether two paths are one file, through links too.
fn is_same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
