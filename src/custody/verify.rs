//! `verify`: do the outputs of a manifest still match it? Files by size and digest, tensors by name, element type,
//! shape and digest, all read again from the file.

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use safetensors::tensor::Metadata;
use serde::Serialize;

use crate::bytes::{FileSource, ReadAt, Span, read_vec};

use super::digest::{TensorSet, digest_of};
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

/// Checks the outputs of a manifest. `path` is the manifest, a folder with a `manifest.json`, or an output.
///
/// # Errors
/// Where there is no manifest to check.
pub fn verify(path: &Path) -> Result<Report, VerifyError> {
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
    drop(bytes);
    let mut report = Report { manifest: shown.clone(), files: 0, tensors: 0, mismatches: Vec::new() };
    let folder = path.parent().unwrap_or(Path::new(""));
    for (i, output) in manifest.outputs.iter().enumerate() {
        let inside = Path::new(&output.path).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside {
            return Err(VerifyError::Outside { path: shown, output: output.path.clone() });
        }
        report.files = report.files.saturating_add(1);
        let expected = manifest.tensors.iter().filter(|tensor| tensor.to.output == crate::bytes::length(i));
        let expected: Vec<&TensorRecord> = expected.collect();
        report.tensors = report.tensors.saturating_add(crate::bytes::length(expected.len()));
        let mut checked = Checked { name: &output.path, mismatches: Vec::new() };
        if let Err(error) = checked.output(&folder.join(&output.path), output, &expected) {
            checked.file(format!("cannot be read: {error}"));
        }
        report.mismatches.append(&mut checked.mismatches);
    }
    let outputs = crate::bytes::length(manifest.outputs.len());
    for tensor in manifest.tensors.iter().filter(|tensor| tensor.to.output >= outputs) {
        let mismatch = Some(format!("is said to be in output {}, of {outputs}", tensor.to.output));
        report.mismatches.push(Check { level: "tensors", name: tensor.name.clone(), mismatch });
    }
    check_set(&manifest, &mut report);
    Ok(report)
}

#[derive(serde::Deserialize)]
struct Schema {
    schema: String,
}

/// The manifest that belongs to an output: `<stem>.manifest.json` beside it.
pub fn manifest_name(output: &Path) -> PathBuf {
    let name = output.file_name().map(std::ffi::OsStr::to_string_lossy).unwrap_or_default();
    let stem = name.strip_suffix(".safetensors").unwrap_or(&name);
    output.with_file_name(format!("{stem}.manifest.json"))
}

/// The manifest that is meant by a path: itself, that of a folder, or that of an output.
pub fn find_manifest(path: &Path) -> Option<PathBuf> {
    let found = match () {
        () if path.is_dir() => manifest_in(path)?,
        () if path.extension().is_some_and(|suffix| suffix == "safetensors") => {
            let own = manifest_name(path);
            if own.is_file() { own } else { path.with_file_name("manifest.json") }
        }
        () => path.to_owned(),
    };
    found.is_file().then_some(found)
}

/// The manifest of a folder: `manifest.json`, or the only one of an output.
fn manifest_in(folder: &Path) -> Option<PathBuf> {
    let whole = folder.join("manifest.json");
    if whole.is_file() {
        return Some(whole);
    }
    let names =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut own = names.filter(|name| name.ends_with(".manifest.json"));
    let one = own.next()?;
    own.next().is_none().then(|| folder.join(one))
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
        let (start, header) = match header(file) {
            Ok(header) => header,
            Err(error) => {
                self.file(format!("is no safetensors file: {error}"));
                return Ok(());
            }
        };
        let mut found = header.tensors();
        for tensor in expected {
            let Some(info) = found.remove(&tensor.name) else {
                self.tensor(&tensor.name, "is missing".to_owned());
                continue;
            };
            let shape: Vec<u64> = info.shape.iter().map(|n| crate::bytes::length(*n)).collect();
            if info.dtype.to_string() != tensor.dtype || shape != tensor.shape {
                let expected = format!("{} {:?}", tensor.dtype, tensor.shape);
                self.tensor(&tensor.name, format!("is {} {shape:?}, {expected} in the manifest", info.dtype));
                continue;
            }
            let (from, to) = info.data_offsets;
            let offsets = [crate::bytes::length(from), crate::bytes::length(to)];
            if offsets != tensor.to.offsets {
                self.tensor(
                    &tensor.name,
                    format!("lies at {offsets:?}, {:?} in the manifest", tensor.to.offsets),
                );
            }
            let at = |n: usize| start.saturating_add(crate::bytes::length(n));
            let digest = digest_of(file, Span::between(at(from), at(to)))?;
            if digest != tensor.sha256 {
                self.tensor(&tensor.name, format!("sha256 is {digest}, {} in the manifest", tensor.sha256));
            }
        }
        let mut extra: Vec<&String> = found.keys().collect();
        extra.sort();
        for name in extra {
            self.tensor(name, "is not in the manifest".to_owned());
        }
        Ok(())
    }
}

/// The header of a safetensors file, and where its data begins.
fn header(file: &FileSource) -> io::Result<(u64, Metadata)> {
    /// What the format allows.
    const LONGEST: u64 = 100_000_000;
    let mut length = [0; 8];
    file.read_exact_at(&mut length, 0)?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "header longer than the format allows"));
    }
    let start = length.saturating_add(8);
    let json = read_vec(file, Span::between(8, start))?;
    Ok((start, serde_json::from_slice(&json)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_stands_beside_its_output() {
        assert_eq!(manifest_name(Path::new("d/model.safetensors")), Path::new("d/model.manifest.json"));
    }
}
