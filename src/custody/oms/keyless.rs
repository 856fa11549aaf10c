//! Keyless signatures of Sigstore, without a network: a certificate of minutes from Fulcio, for a person or a workflow that an
//! identity provider vouches for, and an entry in the transparency log Rekor that shows that it was used in time.
//!
//! What is trusted are the keys of both, the trusted root, which come with the crate or in a file of one's own. The crate that
//! checks is that of the Sigstore project; nothing of it that fetches anything is compiled in.

use std::fmt;
use std::path::{Path, PathBuf};

use sigstore_verify::trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot};
use sigstore_verify::types::{Artifact, Bundle, Sha256Hash};
use sigstore_verify::{VerificationPolicy, Verifier, trust_root, types};

use super::error::{Error, Fault};

/// Why a trusted root cannot be used, or a keyless signature is not accepted; in the words of the crate that checks it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeylessError {
    /// A file that is no trusted root.
    #[error("no trusted root: {0}")]
    Root(Box<trust_root::Error>),
    /// Another document of Sigstore.
    #[error("no trusted root: its media type is {0:?}")]
    RootType(String),
    /// A file that is larger than any trusted root.
    #[error("is {size} bytes, of {allowed} that are read")]
    TooLarge {
        /// Bytes.
        size: u64,
        /// The limit.
        allowed: u64,
    },
    /// Its certificate or its entry in the log is malformed.
    #[error("malformed: {0}")]
    Malformed(Box<types::Error>),
    /// It is not good, or someone else's.
    #[error(transparent)]
    Refused(Box<sigstore_verify::Error>),
}

impl From<sigstore_verify::Error> for KeylessError {
    fn from(error: sigstore_verify::Error) -> Self {
        Self::Refused(Box::new(error))
    }
}

/// Whose keyless signatures are accepted.
pub struct Keyless {
    verifier: Verifier,
    policy: VerificationPolicy,
}

impl fmt::Debug for Keyless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyless").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Keyless {
    /// Those of an identity (a mail address or a URI, exactly) that an issuer (the URL of an identity provider) vouches for.
    /// `trusted_root` is the file with the keys of another Sigstore than the public one, or of that one at a later time.
    ///
    /// # Errors
    /// Where the trusted root cannot be used.
    pub fn new(identity: &str, issuer: &str, trusted_root: Option<&Path>) -> Result<Self, Error> {
        let path = trusted_root.map_or_else(|| PathBuf::from("the public trusted root"), Path::to_owned);
        let text = trusted_root.map(read).transpose()?;
        let text = text.as_deref().unwrap_or(SIGSTORE_PRODUCTION_TRUSTED_ROOT);
        let verifier = verifier(text).map_err(|error| Error::TrustedRoot { path, error })?;
        Ok(Self { verifier, policy: VerificationPolicy::new(identity, issuer) })
    }

    /// Checks a bundle whose statement has this digest for its subject. That the statement is what was signed is checked here
    /// too, and that the log's entry is of this signature.
    pub(super) fn check(&self, bundle: &[u8], root: &str) -> Result<(), Fault> {
        let malformed = |error: types::Error| KeylessError::Malformed(Box::new(error));
        let bundle = Bundle::from_json(&String::from_utf8_lossy(bundle)).map_err(malformed)?;
        let digest = Sha256Hash::from_hex(root).map_err(malformed)?;
        let verified = self.verifier.verify(Artifact::from_digest(digest), &bundle, &self.policy);
        verified.map_err(KeylessError::from)?;
        Ok(())
    }
}

fn verifier(text: &str) -> Result<Verifier, KeylessError> {
    let root = TrustedRoot::from_json(text).map_err(|error| KeylessError::Root(Box::new(error)))?;
    // The fields of another document would be passed over, and what is left trusts nobody.
    if !root.media_type.starts_with("application/vnd.dev.sigstore.trustedroot") {
        return Err(KeylessError::RootType(root.media_type));
    }
    Ok(Verifier::new(&root)?)
}

fn read(path: &Path) -> Result<String, Error> {
    /// The public one has 20 kB.
    const LARGEST: u64 = 4 << 20;
    let size = std::fs::metadata(path).map_err(Error::io(path))?.len();
    if size > LARGEST {
        let error = KeylessError::TooLarge { size, allowed: LARGEST };
        return Err(Error::TrustedRoot { path: path.to_owned(), error });
    }
    std::fs::read_to_string(path).map_err(Error::io(path))
}
