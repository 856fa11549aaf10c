//! What can be wrong with a signature, and what can go wrong on the way to it.

use std::io;
use std::path::PathBuf;

use super::chain::CertificateError;
use super::folder::Stray;
use super::keys::KeyError;

/// Why a folder cannot be signed, or a signature not be accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{}: cannot be read: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A key or certificate cannot be used.
    #[error("{}: {error}", path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// Why.
        error: KeyError,
    },
    /// A trusted root cannot be used.
    #[cfg(feature = "keyless")]
    #[error("{}: {error}", path.display())]
    TrustedRoot {
        /// Its file.
        path: PathBuf,
        /// Why.
        error: super::keyless::KeylessError,
    },
    /// A signature is over folders.
    #[error("{}: no folder; a signature is over a folder", .0.display())]
    NotAFolder(PathBuf),
    /// Something in the folder that has no place in a signature.
    #[error("{name}: {stray}; it cannot be signed")]
    Stray {
        /// Its path.
        name: String,
        /// What it is.
        stray: Stray,
    },
    /// There is nothing to sign.
    #[error("{}: no files in it to sign", .0.display())]
    Empty(PathBuf),
    /// A path to leave out that is not in the folder.
    #[error("{}: is not inside the folder that is signed", .0.display())]
    IgnoreOutside(PathBuf),
    /// The signature is not good.
    #[error("{}: {fault}", path.display())]
    Fault {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        fault: Fault,
    },
}

impl Error {
    pub(super) fn io(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { path: path.to_owned(), error }
    }
}

/// What is wrong with a signature, whatever the files are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// There is none.
    #[error("there is no signature")]
    Missing,
    /// It is larger than any honest one.
    #[error("is {size} bytes, of {allowed} that are read")]
    TooLarge {
        /// Bytes.
        size: u64,
        /// The limit.
        allowed: u64,
    },
    /// It is not the JSON that it should be.
    #[error("{part}: {error}")]
    Json {
        /// `bundle`, `envelope` or `statement`.
        part: &'static str,
        /// Where, and why.
        error: serde_json::Error,
    },
    /// It is another kind of bundle.
    #[error("media type {0:?}; a Sigstore bundle of version 0.3 is expected")]
    MediaType(String),
    /// It was made in another way than it is checked in.
    #[error("was made with {found}, and is checked with {expected}")]
    Method {
        /// What is in it.
        found: &'static str,
        /// What was given.
        expected: &'static str,
    },
    /// Neither the hint nor the key itself is in it.
    #[error("does not say with which key it was made")]
    NoHint,
    /// It says that it was made with another key.
    #[error("was made with the key {found}, not with {expected}")]
    Hint {
        /// Fingerprint in the bundle.
        found: String,
        /// Fingerprint of the key that was given.
        expected: String,
    },
    /// It has to have one signature.
    #[error("has {0} signatures, of which there has to be one")]
    Signatures(usize),
    /// It signs something else.
    #[error("signs {0:?}, no statement")]
    PayloadType(String),
    /// A field that is no base64.
    #[error("{0} is no base64")]
    Base64(&'static str),
    /// The certificates do not vouch for the key.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The signature is not that of the key.
    #[error("the signature does not match the key and the statement")]
    Signature,
    /// It states something else.
    #[error("{field} is {found:?}, {expected:?} expected")]
    Statement {
        /// `_type` or `predicateType`.
        field: &'static str,
        /// Its value.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// It has to be about one thing.
    #[error("has {0} subjects, of which there has to be one")]
    Subjects(usize),
    /// A way of listing files that is not supported.
    #[error("{what} {found:?} is not supported, {known:?} is")]
    Unsupported {
        /// `serialization` or `hash`.
        what: &'static str,
        /// What it asks for.
        found: String,
        /// What can be had.
        known: &'static str,
    },
    /// It signs no file.
    #[error("signs no file")]
    NoResources,
    /// A file that it has twice.
    #[error("lists {0:?} twice")]
    ResourceTwice(String),
    /// A path that leaves the folder or is spelled oddly.
    #[error("lists {0:?}, which is no plain relative path")]
    ResourceName(String),
    /// A digest that is none.
    #[error("lists {name:?} with the digest {digest:?}")]
    ResourceDigest {
        /// Which file.
        name: String,
        /// What it has for a digest.
        digest: String,
    },
    /// The digest over all files is not that of the files listed.
    #[error("states {stated} for all files, and the files that it lists give {computed}")]
    Root {
        /// In the statement.
        stated: String,
        /// Over the list.
        computed: String,
    },
    /// A keyless signature that is not good.
    #[cfg(feature = "keyless")]
    #[error("keyless: {0}")]
    Keyless(#[from] super::keyless::KeylessError),
}
