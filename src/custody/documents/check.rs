//! The provenance level of `verify`: does the provenance speak of these files, and who says so?

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::bytes::{FileSource, ReadAt, Span, hex, read_vec};
use crate::custody::manifest::OutputRecord;
use crate::custody::oms::{self, Fault, Verified};
use crate::custody::statement::{STATEMENT_TYPE, Statement};
use crate::custody::strict;

use super::provenance::{ENVELOPE, PREDICATE, PREDICATE_TYPE, PROVENANCE, Provenance};

/// What is wrong with a provenance.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvenanceFault {
    /// It is larger than any.
    #[error("is {size} bytes, of {LARGEST} that are read")]
    TooLarge {
        /// Bytes.
        size: u64,
    },
    /// It is no such document.
    #[error("{0}")]
    Malformed(#[from] serde_json::Error),
    /// It states something else.
    #[error("{field} is {found:?}, {expected:?} expected")]
    Type {
        /// `_type` or `predicateType`.
        field: &'static str,
        /// Its value.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// It has another digest for a file.
    #[error("has another digest for {0}")]
    Digest(String),
    /// It says nothing of an output.
    #[error("says nothing of {0}")]
    Missing(String),
    /// It is a copy that differs.
    #[error("differs from {PROVENANCE}")]
    Differs,
    /// The folder is signed, and it is not.
    #[error("is not signed")]
    Unsigned,
    /// Its signature is not good.
    #[error(transparent)]
    Signature(#[from] Fault),
}

/// The largest document that is read: one that lists ten thousand outputs has about 2 MB.
const LARGEST: u64 = 64 << 20;

/// What the provenance level showed.
#[derive(Debug, Default)]
pub struct ProvenanceReport {
    /// Whether the holder of the folder's key signed it.
    pub is_signed: bool,
    /// Files that are not as they should be.
    pub mismatches: Vec<(&'static str, ProvenanceFault)>,
}

/// Checks the provenance beside a manifest, and with it that it is signed where the folder is; `None` where there is none.
///
/// # Errors
/// Where files cannot be read.
pub fn check_provenance(manifest: &Path, signed: Option<&Verified>) -> io::Result<Option<ProvenanceReport>> {
    let folder = manifest.parent().unwrap_or(Path::new(""));
    let read = |name: &str| read(&folder.join(name));
    let mut report = ProvenanceReport::default();
    let Some(statement) = read(PROVENANCE)? else {
        // What else there is of it would pass for checked.
        let rest = [PREDICATE, ENVELOPE].into_iter().filter(|name| folder.join(name).exists());
        report.mismatches.extend(rest.map(|name| (name, ProvenanceFault::Missing(PROVENANCE.to_owned()))));
        return Ok(if report.mismatches.is_empty() { None } else { Some(report) });
    };
    let (predicate, envelope) = (read(PREDICATE)?, read(ENVELOPE)?);
    let mut add = |name, result: Result<(), ProvenanceFault>| {
        report.mismatches.extend(result.err().map(|fault| (name, fault)));
    };
    let own = std::fs::read(manifest)?;
    add(
        PROVENANCE,
        statement.as_ref().map_or_else(
            |size| Err(too_large(*size)),
            |bytes| check_statement(bytes, &own, manifest, signed),
        ),
    );
    let statement = statement.unwrap_or_default();
    if let Some(predicate) = predicate {
        add(PREDICATE, predicate.map_err(too_large).and_then(|bytes| check_predicate(&bytes, &statement)));
    }
    let Some(signed) = signed else { return Ok(Some(report)) };
    let covered = signed.files.contains_key(PROVENANCE);
    match envelope {
        Some(envelope) => {
            let result = envelope.map_err(too_large).and_then(|bytes| {
                let payload = oms::verify_envelope(&bytes, &signed.key)?;
                if payload == statement { Ok(()) } else { Err(ProvenanceFault::Differs) }
            });
            add(ENVELOPE, result);
        }
        None if covered => {}
        None => add(PROVENANCE, Err(ProvenanceFault::Unsigned)),
    }
    report.is_signed = report.mismatches.is_empty();
    Ok(Some(report))
}

/// The bytes of a file, its size where that is too large, and none where there is no file.
fn read(path: &Path) -> io::Result<Option<Result<Vec<u8>, u64>>> {
    let file = match FileSource::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    if file.size() > LARGEST {
        return Ok(Some(Err(file.size())));
    }
    read_vec(&file, Span::between(0, file.size())).map(|bytes| Some(Ok(bytes)))
}

fn too_large(size: u64) -> ProvenanceFault {
    ProvenanceFault::TooLarge { size }
}

fn check_statement(
    bytes: &[u8],
    manifest: &[u8],
    path: &Path,
    signed: Option<&Verified>,
) -> Result<(), ProvenanceFault> {
    #[derive(Deserialize)]
    struct Outputs {
        outputs: Vec<OutputRecord>,
    }
    let statement: Statement<Provenance> = strict::from_slice(bytes)?;
    for (field, found, expected) in [
        ("_type", &statement.statement_type, STATEMENT_TYPE),
        ("predicateType", &statement.predicate_type, PREDICATE_TYPE),
    ] {
        if found != expected {
            return Err(ProvenanceFault::Type { field, found: found.clone(), expected });
        }
    }
    let outputs = serde_json::from_slice::<Outputs>(manifest)?.outputs;
    let mut outputs: BTreeMap<&str, &str> =
        outputs.iter().map(|output| (&*output.path, &*output.sha256)).collect();
    for subject in &statement.subject {
        // Besides the outputs there is the folder, by the digest that is signed.
        let known = outputs.remove(&*subject.name);
        let expected = known.or(signed.map(|signed| &*signed.root));
        if expected.is_some_and(|digest| subject.digest.get("sha256").is_none_or(|own| own != digest)) {
            return Err(ProvenanceFault::Digest(subject.name.clone()));
        }
    }
    if let Some(missing) = outputs.into_keys().next() {
        return Err(ProvenanceFault::Missing(missing.to_owned()));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match statement.predicate.byproduct(&name) {
        None => Err(ProvenanceFault::Missing(name.into_owned())),
        Some(digest) if digest == hex(&Sha256::digest(manifest)) => Ok(()),
        Some(_) => Err(ProvenanceFault::Digest(name.into_owned())),
    }
}

fn check_predicate(bytes: &[u8], statement: &[u8]) -> Result<(), ProvenanceFault> {
    let own: Value = strict::from_slice(bytes)?;
    // Where the statement is malformed, that is told of it.
    let whole = serde_json::from_slice::<Statement<Value>>(statement);
    if whole.is_ok_and(|whole| whole.predicate != own) {
        return Err(ProvenanceFault::Differs);
    }
    Ok(())
}
