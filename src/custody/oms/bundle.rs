//! The file of a signature: a Sigstore bundle of version 0.3.
//! <https://docs.sigstore.dev/about/bundle/>

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::custody::strict;

use super::certificate::Certificate;
use super::dsse::Envelope;
use super::error::Fault;
use super::keys::PublicKey;

/// `mediaType` of a bundle.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The file of a signature. The reference implementation refuses fields that it does not know, and so does this: what is
/// outside of the envelope is not signed, so that a field that was changed must not pass for one that is missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Bundle {
    media_type: String,
    verification_material: Material,
    pub(super) dsse_envelope: Envelope,
}

/// What the signature is to be checked with: exactly one of the first three.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Material {
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<KeyIdentifier>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "x509CertificateChain")]
    certificate_chain: Option<Chain>,
    /// Of a keyless signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Raw>,
    /// Entries of a transparency log; empty or absent unless the signature is keyless.
    tlog_entries: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp_verification_data: Option<Value>,
}

/// Which key. Before version 1.1 of the reference implementation the key itself (`rawBytes`) stood in place of the hint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyIdentifier {
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_bytes: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chain {
    certificates: Vec<Raw>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    /// DER, in base64.
    raw_bytes: String,
}

impl Raw {
    fn read(&self) -> Result<Certificate, Fault> {
        let der = Base64::decode_vec(&self.raw_bytes).map_err(|_| Fault::Base64("rawBytes"))?;
        Ok(Certificate::from_der(der)?)
    }
}

impl Bundle {
    /// A bundle that names its key.
    pub(super) fn of_key(hint: String, dsse_envelope: Envelope) -> Self {
        let public_key = Some(KeyIdentifier { hint: Some(hint), raw_bytes: None });
        Self::new(Material { public_key, ..Material::default() }, dsse_envelope)
    }

    /// A bundle that carries certificates, the signer's first.
    pub(super) fn of_certificates(chain: &[Certificate], dsse_envelope: Envelope) -> Self {
        let raw = |certificate: &Certificate| Raw { raw_bytes: Base64::encode_string(certificate.der()) };
        let certificate_chain = Some(Chain { certificates: chain.iter().map(raw).collect() });
        Self::new(Material { certificate_chain, ..Material::default() }, dsse_envelope)
    }

    fn new(verification_material: Material, dsse_envelope: Envelope) -> Self {
        Self { media_type: MEDIA_TYPE.to_owned(), verification_material, dsse_envelope }
    }

    /// The bytes of the file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// # Errors
    /// Where it is no such bundle.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Fault> {
        let bundle: Self =
            strict::from_slice(bytes).map_err(|error| Fault::Json { part: "bundle", error })?;
        if bundle.media_type != MEDIA_TYPE {
            return Err(Fault::MediaType(bundle.media_type));
        }
        Ok(bundle)
    }

    fn method(&self) -> &'static str {
        let Material { public_key, certificate_chain, certificate, .. } = &self.verification_material;
        match (public_key, certificate_chain, certificate) {
            (Some(_), None, None) => KEY,
            (None, Some(_), None) => CERTIFICATES,
            (None, None, Some(_)) => KEYLESS,
            (None, None, None) => "nothing",
            _ => "several kinds of keys",
        }
    }

    /// Fails unless it was made with this key.
    pub(super) fn check_key(&self, key: &PublicKey) -> Result<(), Fault> {
        let found = self.method();
        let Some(identifier) = self.verification_material.public_key.as_ref().filter(|_| found == KEY) else {
            return Err(Fault::Method { found, expected: KEY });
        };
        match (&identifier.hint, &identifier.raw_bytes) {
            (Some(hint), _) if !hint.is_empty() => {
                let expected = key.hint().unwrap_or_default();
                if *hint == expected { Ok(()) } else { Err(Fault::Hint { found: hint.clone(), expected }) }
            }
            // The key in an old bundle is anyone's claim: it is the given one that the signature has to match.
            (_, Some(_)) => Ok(()),
            _ => Err(Fault::NoHint),
        }
    }

    /// The certificate of a keyless signature.
    #[cfg(feature = "keyless")]
    pub(super) fn keyless(&self) -> Result<Certificate, Fault> {
        let found = self.method();
        match self.verification_material.certificate.as_ref().filter(|_| found == KEYLESS) {
            Some(certificate) => certificate.read(),
            None => Err(Fault::Method { found, expected: KEYLESS }),
        }
    }

    /// The certificates, the signer's first.
    pub(super) fn certificates(&self) -> Result<Vec<Certificate>, Fault> {
        let found = self.method();
        let Some(chain) =
            self.verification_material.certificate_chain.as_ref().filter(|_| found == CERTIFICATES)
        else {
            return Err(Fault::Method { found, expected: CERTIFICATES });
        };
        chain.certificates.iter().map(Raw::read).collect()
    }
}

const KEYLESS: &str = "a keyless certificate";
const KEY: &str = "a key";
const CERTIFICATES: &str = "certificates";
