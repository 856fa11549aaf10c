//! `verify`: do the outputs of a manifest still match it? Files by size and digest, tensors by name, element type,
//! shape and digest, all read again from the file.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Component, Path, PathBuf};

use safetensors::tensor::TensorInfo;
use serde::Serialize;

use crate::bytes::{FileSource, ReadAt, Span, index, length};
use crate::container::Safetensors;

use super::digest::{TensorSet, digest_of};
use super::documents::SUMS;
use super::find::{FOLDER, find_manifest};
use super::listed::{check_sums, check_unlisted};
use super::manifest::{Manifest, OutputRecord, SCHEMA, TensorRecord};

/// Why a manifest cannot be checked at all. That something does not match is no error but a [`Report`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A file could not be read.
    #[error("{path}: cannot be read: {error}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// It is no manifest.
    #[error("{path}: no manifest: {error}")]
    Malformed {
        /// Which file.
        path: String,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// A manifest of a schema that this version does not know.
    #[error("{path}: schema {found:?}, {SCHEMA:?} expected; a newer depickle may know it")]
    Schema {
        /// Which file.
        path: String,
        /// Its schema.
        found: String,
    },
    /// No manifest belongs to the path.
    #[error("{path}: no manifest found; give the manifest itself")]
    NoManifest {
        /// What was given.
        path: String,
    },
    /// A path in the manifest that leaves its folder.
    #[error("{path}: names the output {output:?}, which lies outside its folder")]
    Outside {
        /// Which manifest.
        path: String,
        /// The output.
        output: String,
    },
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `files` or `tensors`.
    pub level: &'static str,
    /// Name of the file or tensor.
    pub name: String,
    /// What does not match; null where it does.
    pub mismatch: Option<String>,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The manifest.
    pub manifest: String,
    /// Files that were checked.
    pub files: u64,
    /// Tensors that were checked.
    pub tensors: u64,
    /// Everything that does not match.
    pub mismatches: Vec<Check>,
}

impl Report {
    /// Whether all matches.
    pub fn is_match(&self) -> bool {
        self.mismatches.is_empty()
    }
}

/// Reads the manifest that belongs to a path, see [`find_manifest`], and says where it is.
///
/// # Errors
/// Where there is none, or none that can be read.
pub fn read_manifest(path: &Path) -> Result<(PathBuf, Manifest), VerifyError> {
    let none = || VerifyError::NoManifest { path: path.display().to_string() };
    let path = find_manifest(path).ok_or_else(none)?;
    let shown = path.display().to_string();
    let io = |error: io::Error| VerifyError::Io { path: shown.clone(), error };
    let bytes = std::fs::read(&path).map_err(io)?;
    let malformed = |error| VerifyError::Malformed { path: shown.clone(), error };
    let schema: Schema = serde_json::from_slice(&bytes).map_err(malformed)?;
    if schema.schema != SCHEMA {
        return Err(VerifyError::Schema { path: shown, found: schema.schema });
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(malformed)?;
    let inside = |path: &str| Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if let Some(output) = manifest.outputs.iter().find(|output| !inside(&output.path)) {
        return Err(VerifyError::Outside { path: shown, output: output.path.clone() });
    }
    Ok((path, manifest))
}

/// Checks the outputs of a manifest. `path` is the manifest, a folder with a `manifest.json`, or an output.
///
/// # Errors
/// Where there is no manifest to check.
pub fn verify(path: &Path) -> Result<Report, VerifyError> {
    let (path, manifest) = read_manifest(path)?;
    Ok(verify_manifest(&path, &manifest))
}

/// Checks the outputs of a manifest that was read from `path`.
pub fn verify_manifest(path: &Path, manifest: &Manifest) -> Report {
    let shown = path.display().to_string();
    let mut report = Report { manifest: shown, files: 0, tensors: 0, mismatches: Vec::new() };
    let folder = path.parent().unwrap_or(Path::new(""));
    for (i, output) in manifest.outputs.iter().enumerate() {
        report.files = report.files.saturating_add(1);
        let expected = manifest.tensors.iter().filter(|tensor| tensor.to.output == length(i));
        let expected: Vec<&TensorRecord> = expected.collect();
        report.tensors = report.tensors.saturating_add(length(expected.len()));
        let mut checked = Checked { name: &output.path, mismatches: Vec::new() };
        let at = folder.join(&output.path);
        if let Err(error) = checked.output(&at, output, &expected) {
            checked.file(format!("cannot be read: {error}"));
        }
        if output.role == "index" {
            checked.index(&at, manifest);
        }
        report.mismatches.append(&mut checked.mismatches);
    }
    let outputs = length(manifest.outputs.len());
    for tensor in manifest.tensors.iter().filter(|tensor| tensor.to.output >= outputs) {
        let mismatch = Some(format!("is said to be in output {}, of {outputs}", tensor.to.output));
        report.mismatches.push(Check { level: "tensors", name: tensor.name.clone(), mismatch });
    }
    if path.file_name().is_some_and(|name| name == FOLDER) {
        check_unlisted(folder, manifest, &mut report);
    }
    if let Err(error) = check_sums(path, manifest, &mut report) {
        let mismatch = Some(format!("cannot be read: {error}"));
        report.mismatches.push(Check { level: "files", name: SUMS.to_owned(), mismatch });
    }
    check_set(manifest, &mut report);
    report
}

#[derive(serde::Deserialize)]
struct Schema {
    schema: String,
}

/// The digest over all tensors binds names that were recorded and not written, too.
fn check_set(manifest: &Manifest, report: &mut Report) {
    let mut set = TensorSet::default();
    let mut by_name: HashMap<&str, Vec<&TensorRecord>> = HashMap::new();
    for tensor in &manifest.tensors {
        by_name.entry(tensor.name.as_str()).or_default().push(tensor);
    }
    for tensor in &manifest.tensors {
        set.add(&tensor.name, &tensor.dtype, &tensor.shape, &tensor.sha256);
    }
    for alias in &manifest.aliases {
        // Several models may have tensors of one name; what an alias shows lies in the same file.
        let same = |tensor: &&&TensorRecord| tensor.from.iter().any(|piece| piece.source == alias.source);
        let named = by_name.get(alias.of.as_str()).map(Vec::as_slice).unwrap_or_default();
        match named.iter().find(same).or(named.first()) {
            Some(of) => set.add(&alias.name, &of.dtype, &of.shape, &of.sha256),
            None => report.mismatches.push(Check {
                level: "tensors",
                name: alias.name.clone(),
                mismatch: Some(format!("is recorded as {:?}, which is not written", alias.of)),
            }),
        }
    }
    let got = set.digest();
    if got != manifest.digests.tensor_set {
        let mismatch = Some(format!("tensor set is {got}, {} in the manifest", manifest.digests.tensor_set));
        report.mismatches.push(Check { level: "tensors", name: "tensor_set".to_owned(), mismatch });
    }
}

struct Checked<'a> {
    name: &'a str,
    mismatches: Vec<Check>,
}

impl Checked<'_> {
    fn file(&mut self, mismatch: String) {
        self.mismatches.push(Check { level: "files", name: self.name.to_owned(), mismatch: Some(mismatch) });
    }

    fn tensor(&mut self, name: &str, mismatch: String) {
        self.mismatches.push(Check { level: "tensors", name: name.to_owned(), mismatch: Some(mismatch) });
    }

    fn output(&mut self, path: &Path, output: &OutputRecord, expected: &[&TensorRecord]) -> io::Result<()> {
        let OutputRecord { size, sha256, role, .. } = output;
        let file = FileSource::open(path)?;
        if file.size() != *size {
            self.file(format!("has {} bytes, {size} in the manifest", file.size()));
        }
        let whole = Span::between(0, file.size());
        // The file's digest and the tensors' digests cost the same and do not depend on each other.
        let (digest, tensors) = std::thread::scope(|scope| {
            let digest = scope.spawn(|| digest_of(&file, whole));
            // Only files of weights have tensors.
            let has_tensors = role == "weights" || !expected.is_empty();
            let tensors = if has_tensors { self.tensors(&file, expected) } else { Ok(()) };
            (digest.join().unwrap_or_else(|_| Err(io::Error::other("hashing failed"))), tensors)
        });
        let digest = digest?;
        if digest != *sha256 {
            self.file(format!("sha256 is {digest}, {sha256} in the manifest"));
        }
        tensors
    }

    fn tensors(&mut self, file: &FileSource, expected: &[&TensorRecord]) -> io::Result<()> {
        let header = match Safetensors::header(file) {
            Ok(header) => header,
            Err(error) if error.is_io() => return Err(io::Error::other(error)),
            Err(error) => {
                self.file(format!("is no safetensors file: {error}"));
                return Ok(());
            }
        };
        let mut found: HashMap<&str, &TensorInfo> = header.tensors().collect();
        for tensor in expected {
            let Some(info) = found.remove(tensor.name.as_str()) else {
                self.tensor(&tensor.name, "is missing".to_owned());
                continue;
            };
            let shape: Vec<u64> = info.shape.iter().map(|n| length(*n)).collect();
            if info.dtype.to_string() != tensor.dtype || shape != tensor.shape {
                let expected = format!("{} {:?}", tensor.dtype, tensor.shape);
                self.tensor(&tensor.name, format!("is {} {shape:?}, {expected} in the manifest", info.dtype));
                continue;
            }
            let (from, to) = info.data_offsets;
            let offsets = [length(from), length(to)];
            if offsets != tensor.to.offsets {
                self.tensor(
                    &tensor.name,
                    format!("lies at {offsets:?}, {:?} in the manifest", tensor.to.offsets),
                );
            }
            let at = |n: usize| header.data().saturating_add(length(n));
            let digest = digest_of(file, Span::between(at(from), at(to)))?;
            if digest != tensor.sha256 {
                self.tensor(&tensor.name, format!("sha256 is {digest}, {} in the manifest", tensor.sha256));
            }
        }
        let mut extra: Vec<&str> = found.into_keys().collect();
        extra.sort_unstable();
        for name in extra {
            self.tensor(name, "is not in the manifest".to_owned());
        }
        Ok(())
    }

    /// The index of shards places each tensor in the file that holds it.
    fn index(&mut self, path: &Path, manifest: &Manifest) {
        let read = std::fs::read(path).and_then(|bytes| Ok(serde_json::from_slice::<Index>(&bytes)?));
        let mut weight_map = match read {
            Ok(read) => read.weight_map,
            Err(error) => return self.file(format!("is no index of shards: {error}")),
        };
        // Files stand in it relative to the index.
        let below = self.name.rfind('/').and_then(|at| self.name.get(..=at)).unwrap_or_default();
        for tensor in &manifest.tensors {
            let output = manifest.outputs.get(index(tensor.to.output)).map(|output| output.path.as_str());
            let Some(output) = output.and_then(|output| output.strip_prefix(below)) else { continue };
            match weight_map.remove(&tensor.name) {
                Some(file) if file == output => {}
                Some(file) => self.file(format!("places {:?} in {file:?}, not in {output:?}", tensor.name)),
                None => self.file(format!("does not name {:?}", tensor.name)),
            }
        }
        for name in weight_map.keys() {
            self.file(format!("names {name:?}, which is not in the manifest"));
        }
    }
}

/// An index of shards.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}
