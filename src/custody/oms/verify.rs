//! Checks a signature, and the files against it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bytes::{FileSource, ReadAt, Span, read_vec};
use crate::custody::statement::{STATEMENT_TYPE, Statement};
use crate::custody::strict;

use super::bundle::Bundle;
use super::chain::{Profile, Roots};
use super::error::{Error, Fault};
use super::folder::{Contents, Links, Stray, list, name_inside, relative};
use super::hash::hash;
use super::keys::PublicKey;
use super::legacy;
use super::predicate::{ALWAYS_IGNORED, PREDICATE_TYPE, Predicate, Serialization, root, root_by_components};

/// The largest signature that is read: one over a hundred thousand files has about 30 MB.
const LARGEST: u64 = 256 << 20;

/// Whose signatures are accepted.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Those of one key.
    Key(PublicKey),
    /// Those of whom an authority certifies.
    Certificates(Roots),
    /// Those of whom an identity provider vouches for.
    #[cfg(feature = "keyless")]
    Keyless(std::sync::Arc<super::keyless::Keyless>),
}

/// What is passed over.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// Paths besides those in the signature: relative to the folder, or absolute and inside it. Signatures of the
    /// reference implementation before version 1.1 do not record theirs.
    pub ignore: Vec<PathBuf>,
    /// Files that are not signed are no mismatch.
    pub ignore_unsigned: bool,
}

/// A good signature, and how the files compare with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The key that it was made with.
    pub key: PublicKey,
    /// The digest over all files, as it was signed.
    pub root: String,
    /// The files that are signed, with their digests.
    pub files: BTreeMap<String, String>,
    /// Files that are not as they were signed.
    pub mismatches: Vec<(String, Mismatch)>,
    /// Parts of the folder that are there and that no signature of this kind covers.
    pub ignored: Vec<String>,
}

/// How a file differs from what was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// It is not there.
    Missing,
    /// It has other bytes.
    Digest {
        /// Its digest.
        found: String,
        /// The one that was signed.
        signed: String,
    },
    /// It is not signed.
    Unsigned,
    /// It is something else than a file.
    Stray(Stray),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is signed and missing"),
            Self::Digest { found, signed } => write!(f, "sha256 is {found}, {signed} is signed"),
            Self::Unsigned => f.write_str("is not signed"),
            Self::Stray(stray) => write!(f, "{stray}"),
        }
    }
}

/// Checks a signature against who is trusted, and a folder (or the one file that a model is) against the signature.
///
/// # Errors
/// [`Error::Fault`] where the signature is not good, [`Error::Io`] where files cannot be read.
pub fn verify(
    model: &Path,
    signature: &Path,
    trust: &Trust,
    options: &VerifyOptions,
) -> Result<Verified, Error> {
    let bytes = read(signature).map_err(Error::io(signature))?;
    let claim = bytes.and_then(|bytes| Claim::open(&bytes, trust));
    let claim = claim.map_err(|fault| Error::Fault { path: signature.to_owned(), fault })?;
    claim.compare(model, signature, options)
}

fn read(signature: &Path) -> std::io::Result<Result<Vec<u8>, Fault>> {
    let file = match FileSource::open(signature) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Err(Fault::Missing)),
        file => file?,
    };
    let size = file.size();
    if size > LARGEST {
        return Ok(Err(Fault::TooLarge { size, allowed: LARGEST }));
    }
    read_vec(&file, Span::between(0, size)).map(Ok)
}

/// What a good signature states.
struct Claim {
    key: PublicKey,
    root: String,
    files: BTreeMap<String, String>,
    allow_symlinks: bool,
    ignored: Vec<String>,
}

impl Claim {
    /// Checks everything of a signature that does not depend on files.
    fn open(bytes: &[u8], trust: &Trust) -> Result<Self, Fault> {
        let bundle = Bundle::from_bytes(bytes)?;
        let (key, profile) = match trust {
            Trust::Key(key) => {
                bundle.check_key(key)?;
                (*key, Profile::Strict)
            }
            #[cfg(feature = "keyless")]
            Trust::Keyless(keyless) => {
                let key = bundle.keyless()?.key()?;
                let payload = bundle.dsse_envelope.open(&key)?;
                let claim = Self::from_statement(&payload, key, Profile::Strict)?;
                keyless.check(bytes, &claim.root)?;
                return Ok(claim);
            }
            Trust::Certificates(roots) => (roots.check(&bundle.certificates()?)?, roots.profile),
        };
        let payload = match bundle.dsse_envelope.open(&key) {
            Err(Fault::Signature) if profile == Profile::Compatible => {
                bundle.dsse_envelope.open_legacy(&key)?
            }
            payload => payload?,
        };
        Self::from_statement(&payload, key, profile)
    }

    fn from_statement(payload: &[u8], key: PublicKey, profile: Profile) -> Result<Self, Fault> {
        let json = |error| Fault::Json { part: "statement", error };
        let statement: Statement<Value> = strict::from_slice(payload).map_err(json)?;
        let Statement { statement_type, subject, predicate_type, predicate } = statement;
        if statement_type != STATEMENT_TYPE {
            return Err(Fault::Statement { field: "_type", found: statement_type, expected: STATEMENT_TYPE });
        }
        if predicate_type == legacy::PREDICATE_TYPE && profile == Profile::Compatible {
            let files = legacy::files(&subject)?;
            return Ok(Self { key, root: root(&files), files, allow_symlinks: false, ignored: Vec::new() });
        }
        if predicate_type != PREDICATE_TYPE {
            let (field, found, expected) = ("predicateType", predicate_type, PREDICATE_TYPE);
            return Err(Fault::Statement { field, found, expected });
        }
        let [subject] = subject.as_slice() else { return Err(Fault::Subjects(subject.len())) };
        let predicate: Predicate = serde_json::from_value(predicate).map_err(json)?;
        let files = predicate.files()?;
        let stated = subject.digest.get("sha256").cloned().unwrap_or_default();
        let computed = root(&files);
        if stated != computed && stated != root_by_components(&files) {
            return Err(Fault::Root { stated, computed });
        }
        let Serialization { allow_symlinks, ignore_paths, .. } = predicate.serialization;
        Ok(Self { key, root: stated, files, allow_symlinks, ignored: ignore_paths })
    }

    /// Compares the files that are there with those that were signed.
    fn compare(self, model: &Path, signature: &Path, options: &VerifyOptions) -> Result<Verified, Error> {
        let contents = self.find(model, signature, options)?;
        let mut mismatches: BTreeMap<String, Mismatch> = BTreeMap::new();
        let signed = contents.files.iter().filter(|(name, _)| self.files.contains_key(*name));
        let found = hash(&signed.map(|(name, path)| (name.clone(), path.clone())).collect())?;
        for (name, signed) in &self.files {
            match found.get(name) {
                Some(found) if found == signed => {}
                Some(found) => {
                    let (found, signed) = (found.clone(), signed.clone());
                    mismatches.insert(name.clone(), Mismatch::Digest { found, signed });
                }
                None => {
                    let stray = contents.strays.get(name).map(|stray| Mismatch::Stray(*stray));
                    mismatches.insert(name.clone(), stray.unwrap_or(Mismatch::Missing));
                }
            }
        }
        if !options.ignore_unsigned {
            let files = contents.files.keys().filter(|name| !self.files.contains_key(*name));
            mismatches.extend(files.map(|name| (name.clone(), Mismatch::Unsigned)));
            let strays = contents.strays.iter().filter(|(name, _)| !self.files.contains_key(*name));
            mismatches.extend(strays.map(|(name, stray)| (name.clone(), Mismatch::Stray(*stray))));
        }
        Ok(Verified {
            key: self.key,
            root: self.root,
            files: self.files,
            mismatches: mismatches.into_iter().collect(),
            ignored: contents.ignored.into_iter().collect(),
        })
    }

    fn find(&self, model: &Path, signature: &Path, options: &VerifyOptions) -> Result<Contents, Error> {
        if model.is_file() {
            // A model that is one file is `.` to the reference implementation, and its name to the specification.
            let name = model.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let name = if self.files.contains_key(name) { name } else { "." };
            let files = BTreeMap::from([(name.to_owned(), model.to_owned())]);
            return Ok(Contents { files, ..Contents::default() });
        }
        let mut ignored: BTreeSet<String> = self.ignored.iter().cloned().collect();
        ignored.extend(ALWAYS_IGNORED.map(str::to_owned));
        for path in &options.ignore {
            ignored.insert(relative(model, path)?);
        }
        let own = name_inside(model, signature);
        ignored.extend(own.clone());
        let links = Links::of(model, self.allow_symlinks).map_err(Error::io(model))?;
        let mut contents = list(model, &ignored, &links)?;
        own.map(|own| contents.ignored.remove(&own));
        Ok(contents)
    }
}
