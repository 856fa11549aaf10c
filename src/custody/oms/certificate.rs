//! One X.509 certificate, reduced to what decides whether it vouches for a signature.

use std::path::Path;
use std::time::Duration;

use der::asn1::ObjectIdentifier;
use der::oid::AssociatedOid;
use der::oid::db::rfc5280::{ANY_EXTENDED_KEY_USAGE, ID_KP_CODE_SIGNING};
use der::{Decode, Encode, Reader, SliceReader};
use rsa::pkcs1v15;
use rsa::pkcs8::DecodePublicKey;
use rsa::signature::Verifier;
use rsa::traits::PublicKeyParts;
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, NameConstraints, PolicyConstraints, SubjectAltName,
};

use super::chain::CertificateError;
use super::error::Error;
use super::keys::{KeyError, PublicKey};
use super::pem;

/// A certificate.
#[derive(Debug, Clone)]
pub struct Certificate {
    der: Vec<u8>,
    parsed: x509_cert::Certificate,
    /// The part that is signed, as it stands in `der`.
    signed: Vec<u8>,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl Certificate {
    /// Reads DER.
    ///
    /// # Errors
    /// Where it is no certificate.
    pub fn from_der(der: Vec<u8>) -> Result<Self, CertificateError> {
        let parsed = x509_cert::Certificate::from_der(&der)?;
        let signed = SliceReader::new(&der)?.sequence(|inner| {
            let signed = inner.tlv_bytes()?.to_vec();
            inner.tlv_bytes()?;
            inner.tlv_bytes()?;
            Ok::<_, der::Error>(signed)
        })?;
        Ok(Self { der, parsed, signed })
    }

    /// Reads all certificates of a PEM file.
    ///
    /// # Errors
    /// Where it cannot be read, has none in it, or one is malformed.
    pub fn open_all(path: &Path) -> Result<Vec<Self>, Error> {
        pem::open(path, Self::all_from_pem)
    }

    fn all_from_pem(text: &str) -> Result<Vec<Self>, KeyError> {
        const LABEL: &str = "CERTIFICATE";
        pem::first(text, &[LABEL])?;
        let blocks = pem::blocks(text)?.into_iter().filter(|block| block.label == LABEL);
        blocks
            .map(|block| {
                Self::from_der(block.der.to_vec()).map_err(|error| match error {
                    CertificateError::Der(error) => KeyError::Der(error),
                    _ => KeyError::Invalid,
                })
            })
            .collect()
    }

    /// Its bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its subject, for messages.
    pub(super) fn subject(&self) -> String {
        self.parsed.tbs_certificate().subject().to_string()
    }

    /// Its key, if it is one for signatures.
    pub(super) fn key(&self) -> Result<PublicKey, CertificateError> {
        let spki = self.parsed.tbs_certificate().subject_public_key_info().to_der()?;
        PublicKey::from_spki(&spki).map_err(|error| CertificateError::Key { subject: self.subject(), error })
    }

    /// Whether it is an authority, and how many authorities may stand below it.
    pub(super) fn authority(&self) -> Result<Option<u8>, CertificateError> {
        let constraints = self.extension::<BasicConstraints>()?;
        Ok(constraints.filter(|is| is.ca).map(|is| is.path_len_constraint.unwrap_or(u8::MAX)))
    }

    pub(super) fn usage(&self) -> Result<Option<KeyUsage>, CertificateError> {
        self.extension()
    }

    /// Whether its purposes include the signing of code. `None` where it does not limit them.
    pub(super) fn signs_code(&self) -> Result<Option<bool>, CertificateError> {
        Ok(self.extension::<ExtendedKeyUsage>()?.map(|usage| usage.0.contains(&ID_KP_CODE_SIGNING)))
    }

    /// Whether it is for any purpose, which is enough for an authority and not for a signer.
    pub(super) fn serves_any_purpose(&self) -> Result<bool, CertificateError> {
        Ok(self
            .extension::<ExtendedKeyUsage>()?
            .is_some_and(|usage| usage.0.contains(&ANY_EXTENDED_KEY_USAGE)))
    }

    /// The names that it vouches for: mail addresses, URIs and host names.
    pub(super) fn identities(&self) -> Result<Vec<String>, CertificateError> {
        let names = self.extension::<SubjectAltName>()?.map(|names| names.0).unwrap_or_default();
        let text = |name: &GeneralName| match name {
            GeneralName::Rfc822Name(name)
            | GeneralName::DnsName(name)
            | GeneralName::UniformResourceIdentifier(name) => Some(name.as_str().to_owned()),
            _ => None,
        };
        Ok(names.iter().filter_map(text).collect())
    }

    /// Seconds since 1970 from when and until when it is valid.
    pub(super) fn validity(&self) -> (Duration, Duration) {
        let validity = self.parsed.tbs_certificate().validity();
        (validity.not_before.to_unix_duration(), validity.not_after.to_unix_duration())
    }

    /// Fails where it restricts what it may be used for in a way that is not understood here.
    pub(super) fn check_critical(&self) -> Result<(), CertificateError> {
        const UNDERSTOOD: [ObjectIdentifier; 4] =
            [BasicConstraints::OID, KeyUsage::OID, ExtendedKeyUsage::OID, SubjectAltName::OID];
        // These two are to be critical, and bind all the same where an authority forgot to say so.
        const BINDING: [ObjectIdentifier; 2] = [NameConstraints::OID, PolicyConstraints::OID];
        let extensions = self.parsed.tbs_certificate().extensions().into_iter().flatten();
        let mut unknown = extensions.filter(|extension| {
            let is_understood = UNDERSTOOD.contains(&extension.extn_id);
            (extension.critical && !is_understood) || BINDING.contains(&extension.extn_id)
        });
        match unknown.next() {
            None => Ok(()),
            Some(extension) => {
                Err(CertificateError::Restricted { subject: self.subject(), extension: extension.extn_id })
            }
        }
    }

    fn extension<'a, T>(&'a self) -> Result<Option<T>, CertificateError>
    where
        T: Decode<'a, Error = der::Error> + AssociatedOid,
    {
        Ok(self.parsed.tbs_certificate().get_extension::<T>()?.map(|(_, value)| value))
    }

    /// Whether its subject is the issuer of `other`.
    pub(super) fn is_named_by(&self, other: &Self) -> bool {
        self.parsed.tbs_certificate().subject() == other.parsed.tbs_certificate().issuer()
    }

    /// Fails unless its key signed `other`.
    pub(super) fn check_signed(&self, other: &Self) -> Result<(), CertificateError> {
        use der::oid::db::rfc5912 as oid;
        let algorithm = other.parsed.signature_algorithm();
        if other.parsed.tbs_certificate().signature() != algorithm {
            return Err(CertificateError::Signature(other.subject()));
        }
        let message = other.signed.as_slice();
        let signature = other.parsed.signature().as_bytes().unwrap_or_default();
        let spki = self.parsed.tbs_certificate().subject_public_key_info().to_der()?;
        let ecdsa = |digest: &[u8]| {
            PublicKey::from_spki(&spki).is_ok_and(|key| key.verifies_digest(digest, signature))
        };
        let is_good = match algorithm.oid {
            oid::ECDSA_WITH_SHA_256 => ecdsa(&Sha256::digest(message)),
            oid::ECDSA_WITH_SHA_384 => ecdsa(&Sha384::digest(message)),
            oid::ECDSA_WITH_SHA_512 => ecdsa(&Sha512::digest(message)),
            oid::SHA_256_WITH_RSA_ENCRYPTION => rsa(&spki)
                .is_some_and(|key| verifies(&pkcs1v15::VerifyingKey::<Sha256>::new(key), message, signature)),
            oid::SHA_384_WITH_RSA_ENCRYPTION => rsa(&spki)
                .is_some_and(|key| verifies(&pkcs1v15::VerifyingKey::<Sha384>::new(key), message, signature)),
            oid::SHA_512_WITH_RSA_ENCRYPTION => rsa(&spki)
                .is_some_and(|key| verifies(&pkcs1v15::VerifyingKey::<Sha512>::new(key), message, signature)),
            algorithm => {
                return Err(CertificateError::Algorithm { subject: other.subject(), algorithm });
            }
        };
        if is_good { Ok(()) } else { Err(CertificateError::Signature(other.subject())) }
    }
}

/// An RSA key of a size that still holds.
fn rsa(spki: &[u8]) -> Option<rsa::PublicKey> {
    /// What NIST and webpki ask for; larger keys than 8192 bits only cost time.
    const BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
    rsa::PublicKey::from_public_key_der(spki).ok().filter(|key| BYTES.contains(&key.size()))
}

fn verifies<K: Verifier<pkcs1v15::Signature>>(key: &K, message: &[u8], signature: &[u8]) -> bool {
    pkcs1v15::Signature::try_from(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
}
