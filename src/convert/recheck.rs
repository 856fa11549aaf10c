//! A conversion, checked against its source: does the source still give the tensors of a manifest, and does the same
//! conversion still give the same files?

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::model::Model;
use super::{
    ManifestAt, Options, convert, convert_folder, folder, is_checkpoint_folder, open_model, recorded,
};
use crate::bytes::{FileSource, ReadAt, Span, folder_of, read_vec};
use crate::checkpoint;
use crate::custody::{
    self, AliasRecord, Check, Expect, Expectation, Expected, Manifest, SourceRecord, TensorSet,
};
use crate::error::{Class, Error};
use crate::output::{self, WriteOptions};
use crate::progress::Progress;
use crate::report::Tool;

/// What one level of a verification showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// `source` or `reconversion`.
    pub level: &'static str,
    /// Things that were checked.
    pub checked: u64,
    /// What does not match.
    pub mismatches: Vec<Check>,
    /// What is no mismatch and should be known.
    pub notes: Vec<String>,
}

impl Level {
    fn new(level: &'static str) -> Self {
        Self { level, checked: 0, mismatches: Vec::new(), notes: Vec::new() }
    }

    /// Whether all matches.
    pub fn is_match(&self) -> bool {
        self.mismatches.is_empty()
    }

    fn differs(&mut self, name: &str, mismatch: String) {
        self.mismatches.push(Check { level: self.level, name: name.to_owned(), mismatch: Some(mismatch) });
    }

    /// Counts one more thing, and what is wrong with it.
    fn check(&mut self, name: &str, mismatch: Option<String>) {
        self.checked = self.checked.saturating_add(1);
        if let Some(mismatch) = mismatch {
            self.differs(name, mismatch);
        }
    }
}

/// Checks the source of a manifest: its files by size and digest, what was expected of them once more, and the tensors,
/// which are derived again with the options that are recorded. Nothing is written but what has to be expanded.
///
/// # Errors
/// Where the source cannot be read.
pub fn check_source(
    manifest: &Manifest,
    source: &Path,
    jobs: Option<usize>,
    progress: &dyn Progress,
) -> Result<Level, Error> {
    let mut level = Level::new("source");
    for (i, record) in manifest.sources.iter().enumerate() {
        let path = file_of(i, record, source);
        if path != source && !path.exists() {
            level.check(&record.path, Some("is not there".to_owned()));
            continue;
        }
        check_file(&mut level, record, &path)?;
        // Files are renamed for good reasons, and the digest says whether it is the same one.
        let recorded = Path::new(&record.path).file_name();
        if path.file_name() != recorded {
            level.notes.push(format!("{} is called {} in the manifest", path.display(), record.path));
        }
    }
    let given = main_file(manifest, source);
    match derive(manifest, &given, jobs, progress) {
        Ok(derived) => compare(&mut level, manifest, &derived),
        Err(error) if error.class() == Class::Environment => return Err(error),
        Err(error) => {
            level.check(&given.display().to_string(), Some(format!("gives no tensors: {}", error.kind)));
        }
    }
    Ok(level)
}

/// Converts the source of a manifest again, with the options that are recorded and in a place that vanishes, and
/// compares the files and the manifest byte by byte.
///
/// # Errors
/// Where the source or the outputs cannot be read, or there is no room for another copy.
pub fn reconvert(
    manifest: &Manifest,
    at: &Path,
    source: &Path,
    jobs: Option<usize>,
    progress: &dyn Progress,
) -> Result<Level, Error> {
    let mut level = Level::new("reconversion");
    let given = main_file(manifest, source);
    let fail = |error: io::Error| {
        Error::new(at, output::Error { path: at.to_owned(), kind: output::ErrorKind::Write(error) })
    };
    let folder = folder_of(at);
    // Beside the outputs there was room for them once; where nothing can be written, the system has a place.
    let mut place = tempfile::Builder::new();
    place.prefix(".depickle.").suffix(".partial");
    let again = place.tempdir_in(folder).or_else(|_| place.tempdir()).map_err(fail)?;
    let target = |path: &str| again.path().join(path);
    let Some(first) = manifest.outputs.first() else { return Ok(level) };
    let record = target("reconverted.manifest.json");
    let mut options = recorded::options(manifest);
    (options.jobs, options.manifest) = (jobs, ManifestAt::Path(record.clone()));
    let converted = if is_checkpoint_folder(&given) {
        convert_folder(&given, again.path(), &options, progress)
    } else {
        convert(&given, &target(&unnumbered(&first.path)), &options, progress)
    };
    if let Err(error) = converted {
        if error.class() == Class::Environment {
            return Err(error);
        }
        level.check(&given.display().to_string(), Some(format!("cannot be converted: {}", error.kind)));
        return Ok(level);
    }
    let pairs = manifest
        .outputs
        .iter()
        .map(|output| (output.path.as_str(), folder.join(&output.path), target(&output.path)));
    let name = at.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let own = (name.as_str(), at.to_owned(), record);
    for (name, there, again) in pairs.chain([own]) {
        let mismatch = first_difference(&there, &again).map_err(fail)?;
        level.check(name, mismatch);
    }
    let this = Tool::this().version;
    if manifest.tool.version != this && !level.is_match() {
        level.differs(&name, format!("was written by version {}, this is {this}", manifest.tool.version));
    }
    Ok(level)
}

/// The file that was converted: what was given, or its place in the folder that was given.
fn main_file(manifest: &Manifest, given: &Path) -> PathBuf {
    match manifest.sources.first() {
        Some(record) if given.is_dir() && !is_checkpoint_folder(given) => given.join(&record.path),
        _ => given.to_owned(),
    }
}

/// Where a file of the source is; those beside the first lie in its folder.
fn file_of(i: usize, record: &SourceRecord, given: &Path) -> PathBuf {
    match i {
        _ if given.is_dir() => given.join(&record.path),
        0 => given.to_owned(),
        _ => given.with_file_name(Path::new(&record.path).file_name().unwrap_or_default()),
    }
}

/// A file of the source, by its size, its digest and whatever else was expected of it.
fn check_file(level: &mut Level, record: &SourceRecord, path: &Path) -> Result<(), Error> {
    let fail = |error| Error::new(path, checkpoint::Error::Io(error));
    let file = FileSource::open(path).map_err(fail)?;
    let size = file.size();
    level.check(
        &record.path,
        (size != record.size).then(|| format!("has {size} bytes, {} in the manifest", record.size)),
    );
    let said =
        record.expected.iter().map(|expected| (Expectation::recorded(expected), expected.result.as_str()));
    let said = std::iter::once((Expectation::of_manifest("sha256", &record.sha256), "match")).chain(said);
    let said = said.filter_map(|(expectation, then)| Some((expectation?, then)));
    let (said, results): (Vec<Expectation>, Vec<&str>) = said.unzip();
    let checked = custody::check(&file, &said).map_err(|error| Error::new(path, error))?;
    for (expected, then) in checked.expected.iter().zip(results) {
        let Expected { origin, algorithm, value, result, .. } = expected;
        let mismatch = format!("{result} of {algorithm} {value}, said by {origin}; {then} in the manifest");
        level.check(&record.path, (result != then).then_some(mismatch));
    }
    Ok(())
}

/// The name that shards are called after: `a-00001-of-00002.safetensors` is of `a.safetensors`.
fn unnumbered(path: &str) -> String {
    let stem = path.strip_suffix(".safetensors").unwrap_or(path);
    let (head, of) = stem.rsplit_once("-of-").unwrap_or((stem, ""));
    let (bare, number) = head.rsplit_once('-').unwrap_or((head, ""));
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let stem = if is_number(of) && is_number(number) { bare } else { stem };
    format!("{stem}.safetensors")
}

/// A tensor that the source gives: element type, shape and digest.
type Form = (String, Vec<u64>, String);

/// The tensors that a source gives, and the names that show the data of others.
struct Derived {
    /// By model and name: models of one folder may have the same names.
    tensors: BTreeMap<(usize, String), Form>,
    /// For each model the number of source files up to its last.
    ends: Vec<u64>,
    /// Each with its model, and what it is the same as.
    aliases: BTreeSet<(usize, String, String)>,
}

fn derive(
    manifest: &Manifest,
    given: &Path,
    jobs: Option<usize>,
    progress: &dyn Progress,
) -> Result<Derived, Error> {
    let mut options = recorded::options(manifest);
    options.expect = Expect::nothing();
    let folder = std::env::temp_dir();
    let mut models = if is_checkpoint_folder(given) {
        folder::models(given, &folder, &options)?
    } else {
        let source = FileSource::open(given).map_err(|e| Error::new(given, checkpoint::Error::Io(e)))?;
        let source: Arc<dyn ReadAt> = Arc::new(source);
        options.open.siblings = Some(folder_of(given).to_owned());
        vec![open_model(&source, given, "derived", &folder, &options)?]
    };
    let jobs = jobs.unwrap_or(WriteOptions::default().jobs);
    progress
        .begin(&given.display().to_string(), models.iter().map(Model::bytes).fold(0, u64::saturating_add));
    let mut derived = Derived { tensors: BTreeMap::new(), ends: Vec::new(), aliases: BTreeSet::new() };
    let done = models.iter_mut().try_for_each(|model| {
        model.spool(&folder, jobs, progress)?;
        derived.add(model, &options, jobs, progress)
    });
    progress.finish();
    done.map_err(|error| Error::new(given, error))?;
    Ok(derived)
}

impl Derived {
    /// The model that a source file belongs to.
    fn model(&self, source: u64) -> usize {
        self.ends.partition_point(|end| *end <= source)
    }

    fn add(
        &mut self,
        model: &Model,
        options: &Options,
        jobs: usize,
        progress: &dyn Progress,
    ) -> Result<(), output::Error> {
        let number = self.ends.len();
        let before = self.ends.last().copied().unwrap_or(0);
        self.ends.push(before.saturating_add(crate::bytes::length(model.opened.files.len())));
        for shard in &model.shards {
            let items = model.items(shard, options);
            let (streams, storages) = (&model.opened.streams, &model.opened.storages);
            let digests = output::digest_all(streams, storages, &items, jobs, progress)?;
            for (item, digested) in items.iter().zip(&digests) {
                let (dtype, shape) = (item.dtype().stored().to_string(), item.view.stored_shape());
                let form = (dtype, shape, digested.sha256.to_string());
                self.tensors.insert((number, item.name.to_owned()), form);
            }
        }
        for alias in &model.plan.aliases {
            let Some(of) = model.plan.tensors.get(alias.of) else { continue };
            self.aliases.insert((number, alias.name.clone(), of.name.clone()));
        }
        Ok(())
    }
}

fn compare(level: &mut Level, manifest: &Manifest, derived: &Derived) {
    let mut left: BTreeMap<(usize, &str), &Form> =
        derived.tensors.iter().map(|((model, name), form)| ((*model, &**name), form)).collect();
    for tensor in &manifest.tensors {
        let source = tensor.from.first().map_or(0, |piece| piece.source);
        let mismatch = match left.remove(&(derived.model(source), &*tensor.name)) {
            None => Some("is not given by the source".to_owned()),
            Some((dtype, shape, _)) if *dtype != tensor.dtype || *shape != tensor.shape => {
                let recorded = format!("{} {:?}", tensor.dtype, tensor.shape);
                Some(format!("is {dtype} {shape:?} in the source, {recorded} in the manifest"))
            }
            Some((.., sha256)) => (*sha256 != tensor.sha256)
                .then(|| format!("sha256 is {sha256} in the source, {} in the manifest", tensor.sha256)),
        };
        level.check(&tensor.name, mismatch);
    }
    for (_, name) in left.keys() {
        level.check(name, Some("is given by the source and not in the manifest".to_owned()));
    }
    let alias = |alias: &AliasRecord| (derived.model(alias.source), alias.name.clone(), alias.of.clone());
    let recorded: BTreeSet<(usize, String, String)> = manifest.aliases.iter().map(alias).collect();
    if recorded != derived.aliases {
        level.differs(
            "aliases",
            format!("{} in the source, {} in the manifest", derived.aliases.len(), recorded.len()),
        );
    }
    let mut set = TensorSet::default();
    let aliases = derived
        .aliases
        .iter()
        .filter_map(|(model, name, of)| Some((name, derived.tensors.get(&(*model, of.clone()))?)));
    let tensors = derived.tensors.iter().map(|((_, name), form)| (name, form));
    for (name, (dtype, shape, sha256)) in tensors.chain(aliases) {
        set.add(name, dtype, shape, sha256);
    }
    let (got, recorded) = (set.digest(), &manifest.digests.tensor_set);
    level.check(
        "tensor_set",
        (got != *recorded).then(|| format!("is {got} in the source, {recorded} in the manifest")),
    );
}

/// Where two files differ first; `None` where they do not.
fn first_difference(there: &Path, again: &Path) -> io::Result<Option<String>> {
    /// Bytes compared at a time.
    const BLOCK: u64 = 1 << 20;
    let (there, again) = match (FileSource::open(there), FileSource::open(again)) {
        (Ok(there), Ok(again)) => (there, again),
        (Err(error), _) => return Ok(Some(format!("cannot be read: {error}"))),
        (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some("is not written by the same conversion".to_owned()));
        }
        (_, Err(error)) => return Err(error),
    };
    let (size, now) = (there.size(), again.size());
    let mut at = 0;
    while at < size.min(now) {
        let span = Span::between(at, at.saturating_add(BLOCK).min(size.min(now)));
        let (one, other) = (read_vec(&there, span)?, read_vec(&again, span)?);
        if let Some(first) = one.iter().zip(&other).position(|(a, b)| a != b) {
            let first = at.saturating_add(crate::bytes::length(first));
            return Ok(Some(format!("differs from the same conversion at {first:#x}")));
        }
        at = span.end();
    }
    Ok((size != now).then(|| format!("has {size} bytes, {now} by the same conversion")))
}
