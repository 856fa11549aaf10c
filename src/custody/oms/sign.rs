//! Signs a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::custody::statement::{Statement, Subject};

use super::SIGNATURE;
use super::bundle::Bundle;
use super::certificate::Certificate;
use super::dsse::Envelope;
use super::error::Error;
use super::folder::{Links, list, name_inside, relative};
use super::hash::hash;
use super::keys::{KeyError, PrivateKey};
use super::predicate::{ALWAYS_IGNORED, PREDICATE_TYPE, Predicate, root, root_by_components};

/// What goes into a signature.
#[derive(Debug, Clone, Default)]
pub struct SignOptions {
    /// Where the signature will stand. It does not sign itself.
    pub signature: PathBuf,
    /// What is left out: relative to the folder, or absolute and inside it.
    pub ignore: Vec<PathBuf>,
    /// The signer's certificate and those above it; none to sign with the key alone.
    pub certificates: Vec<Certificate>,
}

/// A signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The bytes of its file.
    pub bundle: Vec<u8>,
    /// How many files it is over.
    pub files: u64,
    /// The digest over all of them.
    pub root: String,
    /// The same in the order of the reference implementation, where it is another.
    pub root_by_components: Option<String>,
}

/// Signs the files of a folder. The same files, key and options give the same bytes.
///
/// # Errors
/// Where the folder has nothing to sign or something that cannot be signed, or the key does not belong to the
/// certificate.
pub fn sign(folder: &Path, key: &PrivateKey, options: &SignOptions) -> Result<Signed, Error> {
    let io = Error::io(folder);
    let absolute = folder.canonicalize().map_err(io)?;
    if !absolute.is_dir() {
        return Err(Error::NotAFolder(folder.to_owned()));
    }
    let mut ignored: BTreeSet<String> = ALWAYS_IGNORED.map(str::to_owned).into();
    for path in &options.ignore {
        ignored.insert(relative(folder, path)?);
    }
    ignored.extend(name_inside(folder, &options.signature));
    let links = Links::of(folder, false).map_err(Error::io(folder))?;
    let contents = list(folder, &ignored, &links)?;
    if let Some((name, stray)) = contents.strays.into_iter().next() {
        return Err(Error::Stray { name, stray });
    }
    if contents.files.is_empty() {
        return Err(Error::Empty(folder.to_owned()));
    }
    let files = hash(&contents.files)?;
    // Informational; the root of a file system has none.
    let name = absolute.file_name().and_then(|name| name.to_str()).unwrap_or("model");
    let claim = Claim { name, files: &files, linked: contents.linked, ignored };
    claim
        .sign(key, &options.certificates)
        .map_err(|error| Error::Key { path: options.signature.clone(), error })
}

/// Signs files whose digests are known, in a folder of this name; besides them there may be those that are `ignored`.
///
/// # Errors
/// Those of the key.
pub fn sign_files(
    folder: &str,
    files: &BTreeMap<String, String>,
    ignored: BTreeSet<String>,
    key: &PrivateKey,
) -> Result<Signed, KeyError> {
    let always = ALWAYS_IGNORED.iter().chain([&SIGNATURE]).map(|name| (*name).to_owned());
    Claim { name: folder, files, linked: false, ignored: always.chain(ignored).collect() }.sign(key, &[])
}

/// What is to be signed.
struct Claim<'a> {
    name: &'a str,
    files: &'a BTreeMap<String, String>,
    linked: bool,
    ignored: BTreeSet<String>,
}

impl Claim<'_> {
    fn sign(self, key: &PrivateKey, certificates: &[Certificate]) -> Result<Signed, KeyError> {
        let (root, other) = (root(self.files), root_by_components(self.files));
        let predicate = Predicate::new(self.files, self.linked, self.ignored);
        let statement = Statement::new(vec![Subject::sha256(self.name, &root)], PREDICATE_TYPE, predicate);
        Ok(Signed {
            bundle: bundle(&statement, key, certificates)?.to_bytes(),
            files: crate::bytes::length(self.files.len()),
            root_by_components: (other != root).then_some(other),
            root,
        })
    }
}

fn bundle(
    statement: &Statement<Predicate>,
    key: &PrivateKey,
    certificates: &[Certificate],
) -> Result<Bundle, KeyError> {
    let payload = serde_json::to_vec(statement).unwrap_or_default();
    // What others write: the key is named outside of the envelope.
    let envelope = Envelope::sign(&payload, key, "")?;
    match certificates {
        [] => Ok(Bundle::of_key(key.public().hint()?, envelope)),
        [leaf, ..] if leaf.key().is_ok_and(|certified| certified == key.public()) => {
            Ok(Bundle::of_certificates(certificates, envelope))
        }
        _ => Err(KeyError::OtherKey),
    }
}
