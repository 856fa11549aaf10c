//! Keyless signatures of Sigstore, without a network: a certificate of minutes from Fulcio, for a person or a workflow that an
//! identity provider vouches for, and an entry in the transparency log Rekor that shows that it was used in time.
//!
//! What is trusted are the keys of both, which come with the crate or in a file of one's own.

use base64ct::{Base64, Encoding};
use sigstore_verify::trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot};
use sigstore_verify::types::{Artifact, Bundle, Sha256Hash};
use sigstore_verify::{Error, VerificationPolicy, Verifier};

use super::error::Fault;

/// Whose keyless signatures are accepted.
pub struct Keyless {
    verifier: Verifier,
    policy: VerificationPolicy,
}

impl std::fmt::Debug for Keyless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyless").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Keyless {
    /// Those of an identity (a mail address or a URI, exactly) that an issuer (the URL of an identity provider) vouches
    /// for. `trusted_root` is the JSON of another Sigstore than the public one, or of the same at a later time.
    ///
    /// # Errors
    /// Where the trusted root cannot be used.
    pub fn new(identity: &str, issuer: &str, trusted_root: Option<&str>) -> Result<Self, Fault> {
        let root = trusted_root.unwrap_or(SIGSTORE_PRODUCTION_TRUSTED_ROOT);
        let root = TrustedRoot::from_json(root).map_err(|error| Fault::Keyless(error.to_string()))?;
        let verifier = Verifier::new(&root).map_err(keyless)?;
        Ok(Self { verifier, policy: VerificationPolicy::new(identity, issuer) })
    }

    /// Checks a bundle whose statement has this digest for its subject. The statement is what was signed.
    pub(super) fn check(&self, bundle: &[u8], root: &str) -> Result<(), Fault> {
        let malformed = |error: sigstore_verify::types::Error| Fault::Keyless(error.to_string());
        let bundle = Bundle::from_json(&String::from_utf8_lossy(bundle)).map_err(malformed)?;
        let digest = Sha256Hash::from_hex(root).map_err(malformed)?;
        self.verifier.verify(Artifact::from_digest(digest), &bundle, &self.policy).map_err(keyless)?;
        Ok(())
    }
}

fn keyless(error: Error) -> Fault {
    Fault::Keyless(error.to_string())
}

/// The DER of the certificate in a keyless bundle.
pub(super) fn certificate(material: &serde_json::Value) -> Result<Vec<u8>, Fault> {
    let raw = material.get("rawBytes").and_then(serde_json::Value::as_str).unwrap_or_default();
    Base64::decode_vec(raw).map_err(|_| Fault::Base64("rawBytes"))
}
