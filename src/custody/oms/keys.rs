//! Keys on the three curves of the specification. Each has its hash: P-256 SHA-256, P-384 SHA-384, P-521 SHA-512.

use std::fmt;
use std::path::Path;

use der::oid::ObjectIdentifier;
use der::pem::LineEnding;
use der::{Decode, SecretDocument};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::elliptic_curve::ALGORITHM_OID as EC;
use p256::pkcs8::{AssociatedOid, DecodePublicKey, EncodePublicKey};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use sec1::{EcParameters, EcPrivateKey};
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use crate::bytes::hex;

use super::error::Error;
use super::pem;

/// Why a file gives no key or certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A file that is larger than any such file.
    #[error("is {size} bytes, of {allowed} that are read")]
    TooLarge {
        /// Bytes.
        size: u64,
        /// The limit.
        allowed: u64,
    },
    /// A block that does not end.
    #[error("a PEM block has no end")]
    Unterminated,
    /// A block that is no base64.
    #[error("PEM block {label:?}: {error}")]
    Pem {
        /// Which.
        label: String,
        /// Why.
        error: der::pem::Error,
    },
    /// No block of the kind that is needed.
    #[error("no PEM block {}; {}", one_of(expected), found_blocks(found))]
    Label {
        /// What would do.
        expected: &'static [&'static str],
        /// What is there.
        found: Vec<String>,
    },
    /// A block whose contents are malformed.
    #[error("malformed: {0}")]
    Der(#[from] der::Error),
    /// A key for another algorithm.
    #[error("the key is for the algorithm {0}; elliptic curves P-256, P-384 and P-521 can be used")]
    Algorithm(ObjectIdentifier),
    /// A key on another curve, or on one that is not named.
    #[error("the key is on the curve {}; P-256, P-384 and P-521 can be used", curve(*.0))]
    Curve(Option<ObjectIdentifier>),
    /// A key that is no point or number of its curve.
    #[error("the key does not fit its curve")]
    Invalid,
    /// A key that is encrypted, and no password.
    #[error("the key is encrypted; its password is needed")]
    Encrypted,
    /// A key that the password does not open.
    #[error("the key cannot be decrypted: {0}; is the password right?")]
    Password(pkcs8::Error),
    /// The certificate of another key.
    #[error("the certificate is for another key than the private one")]
    OtherKey,
}

fn one_of(labels: &[&str]) -> String {
    labels.iter().map(|label| format!("{label:?}")).collect::<Vec<_>>().join(" or ")
}

fn found_blocks(found: &[String]) -> String {
    match found {
        [] => "there is none at all".to_owned(),
        found => format!("there is {found:?}"),
    }
}

fn curve(oid: Option<ObjectIdentifier>) -> String {
    oid.map_or_else(|| "that it spells out".to_owned(), |oid| oid.to_string())
}

/// A key that signs. Signatures are deterministic (RFC 6979): the same key and bytes give the same signature.
pub struct PrivateKey(Private);

enum Private {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PrivateKey").field(&self.public()).finish()
    }
}

impl PrivateKey {
    /// Reads a PEM file, as [`PrivateKey::from_pem`] does.
    ///
    /// # Errors
    /// Where it cannot be read, or there is no such key in it.
    pub fn open(path: &Path, password: Option<&[u8]>) -> Result<Self, Error> {
        pem::open(path, |text| Self::from_pem(text, password))
    }

    /// Reads the text of a PEM file with a PKCS#8 or SEC 1 key. `password` opens an encrypted PKCS#8 key.
    ///
    /// # Errors
    /// Where there is no such key in it.
    pub fn from_pem(text: &str, password: Option<&[u8]>) -> Result<Self, KeyError> {
        const LABELS: &[&str] = &["PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"];
        let block = pem::first(text, LABELS)?;
        match block.label.as_str() {
            "PRIVATE KEY" => Self::from_pkcs8(&block.der),
            "EC PRIVATE KEY" => Self::from_sec1(&block.der, None),
            _ => {
                let password = password.ok_or(KeyError::Encrypted)?;
                let encrypted = EncryptedPrivateKeyInfoRef::from_der(&block.der)?;
                let opened: SecretDocument = encrypted.decrypt(password).map_err(KeyError::Password)?;
                Self::from_pkcs8(opened.as_bytes())
            }
        }
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let info = PrivateKeyInfoRef::from_der(der)?;
        if info.algorithm.oid != EC {
            return Err(KeyError::Algorithm(info.algorithm.oid));
        }
        let named = info.algorithm.parameters_oid().map_err(|_| KeyError::Curve(None))?;
        Self::from_sec1(info.private_key.as_bytes(), Some(named))
    }

    /// `named` is the curve of the PKCS#8 envelope; without one, the key names it itself.
    fn from_sec1(der: &[u8], named: Option<ObjectIdentifier>) -> Result<Self, KeyError> {
        let key = EcPrivateKey::from_der(der)?;
        let own = key.parameters.map(|EcParameters::NamedCurve(oid)| oid);
        let curve = match (named, own) {
            (Some(named), Some(own)) if named != own => return Err(KeyError::Curve(Some(own))),
            (named, own) => named.or(own).ok_or(KeyError::Curve(None))?,
        };
        Ok(Self(match curve {
            p256::NistP256::OID => Private::P256(p256::SecretKey::try_from(key)?.into()),
            p384::NistP384::OID => Private::P384(p384::SecretKey::try_from(key)?.into()),
            p521::NistP521::OID => Private::P521(p521::SecretKey::try_from(key)?.into()),
            other => return Err(KeyError::Curve(Some(other))),
        }))
    }

    /// The key that checks its signatures.
    pub fn public(&self) -> PublicKey {
        match &self.0 {
            Private::P256(key) => PublicKey::P256(*key.verifying_key()),
            Private::P384(key) => PublicKey::P384(*key.verifying_key()),
            Private::P521(key) => PublicKey::P521(*key.verifying_key()),
        }
    }

    /// The signature of a message, in DER.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let invalid = |_| KeyError::Invalid;
        Ok(match &self.0 {
            Private::P256(key) => Signer::<p256::ecdsa::DerSignature>::try_sign(key, message)
                .map_err(invalid)?
                .as_bytes()
                .to_vec(),
            Private::P384(key) => Signer::<p384::ecdsa::DerSignature>::try_sign(key, message)
                .map_err(invalid)?
                .as_bytes()
                .to_vec(),
            Private::P521(key) => Signer::<p521::ecdsa::DerSignature>::try_sign(key, message)
                .map_err(invalid)?
                .as_bytes()
                .to_vec(),
        })
    }
}

/// A key that checks signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicKey {
    /// On P-256, with SHA-256.
    P256(p256::ecdsa::VerifyingKey),
    /// On P-384, with SHA-384.
    P384(p384::ecdsa::VerifyingKey),
    /// On P-521, with SHA-512.
    P521(p521::ecdsa::VerifyingKey),
}

impl PublicKey {
    /// Reads a PEM file with a public key.
    ///
    /// # Errors
    /// Where it cannot be read, or there is no such key in it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        pem::open(path, Self::from_pem)
    }

    /// Reads the text of a PEM file with a public key.
    ///
    /// # Errors
    /// Where there is no such key in it.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        Self::from_spki(&pem::first(text, &["PUBLIC KEY"])?.der)
    }

    /// From a `SubjectPublicKeyInfo` in DER.
    pub(super) fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfoRef::from_der(der)?;
        if info.algorithm.oid != EC {
            return Err(KeyError::Algorithm(info.algorithm.oid));
        }
        let curve = info.algorithm.parameters_oid().map_err(|_| KeyError::Curve(None))?;
        let invalid = |_| KeyError::Invalid;
        Ok(match curve {
            p256::NistP256::OID => {
                Self::P256(p256::PublicKey::from_public_key_der(der).map_err(invalid)?.into())
            }
            p384::NistP384::OID => {
                Self::P384(p384::PublicKey::from_public_key_der(der).map_err(invalid)?.into())
            }
            p521::NistP521::OID => {
                Self::P521(p521::PublicKey::from_public_key_der(der).map_err(invalid)?.into())
            }
            other => return Err(KeyError::Curve(Some(other))),
        })
    }

    /// As a PEM file: 64 columns, line feeds.
    ///
    /// # Errors
    /// [`KeyError::Invalid`], for no key that was read.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let pem = match self {
            Self::P256(key) => p256::PublicKey::from(key).to_public_key_pem(LineEnding::LF),
            Self::P384(key) => p384::PublicKey::from(key).to_public_key_pem(LineEnding::LF),
            Self::P521(key) => p521::PublicKey::from(key).to_public_key_pem(LineEnding::LF),
        };
        pem.map_err(|_| KeyError::Invalid)
    }

    /// How a bundle refers to the key: SHA-256 of the *text* of its PEM file. The specification says no more than
    /// fingerprint; this is what the reference implementation takes, and it refuses the digest of the DER.
    ///
    /// # Errors
    /// [`KeyError::Invalid`], for no key that was read.
    pub fn hint(&self) -> Result<String, KeyError> {
        Ok(hex(&Sha256::digest(self.to_pem()?)))
    }

    /// Whether `signature`, in DER, is this key's signature of the message, with the hash of the curve.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::P256(_) => self.verifies_digest(&Sha256::digest(message), signature),
            Self::P384(_) => self.verifies_digest(&Sha384::digest(message), signature),
            Self::P521(_) => self.verifies_digest(&Sha512::digest(message), signature),
        }
    }

    /// The same for a digest that was made with any hash.
    pub(super) fn verifies_digest(&self, digest: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::P256(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok()),
            Self::P384(key) => p384::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok()),
            Self::P521(key) => p521::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use der::Encode;

    use super::*;

    /// The key, message and signature of RFC 6979, A.2.5 and A.2.7.
    fn signs(curve: ObjectIdentifier, private: &str, r_and_s: &str) {
        let unhex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let private_key = unhex(private);
        let key =
            EcPrivateKey { private_key: &private_key, parameters: Some(curve.into()), public_key: None };
        let key = PrivateKey::from_sec1(&key.to_der().unwrap(), None).unwrap();
        let signature = key.sign(b"sample").unwrap();
        let raw = match key.public() {
            PublicKey::P256(_) => p256::ecdsa::Signature::from_der(&signature).unwrap().to_bytes().to_vec(),
            PublicKey::P384(_) => p384::ecdsa::Signature::from_der(&signature).unwrap().to_bytes().to_vec(),
            PublicKey::P521(_) => p521::ecdsa::Signature::from_der(&signature).unwrap().to_bytes().to_vec(),
        };
        assert_eq!(hex(&raw), r_and_s.to_lowercase());
        assert!(key.public().verifies(b"sample", &signature));
        assert!(!key.public().verifies(b"samples", &signature));
    }

    #[test]
    fn signatures_are_those_of_rfc_6979() {
        signs(
            p256::NistP256::OID,
            "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721",
            "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716\
             F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
        );
        signs(
            p521::NistP521::OID,
            "00FAD06DAA62BA3B25D2FB40133DA757205DE67F5BB0018FEE8C86E1B68C7E75\
             CAA896EB32F1F47C70855836A6D16FCC1466F6D8FBEC67DB89EC0C08B0E996B83538",
            "00C328FAFCBD79DD77850370C46325D987CB525569FB63C5D3BC53950E6D4C5F174E\
             25A1EE9017B5D450606ADD152B534931D7D4E8455CC91F9B15BF05EC36E377FA\
             00617CCE7CF5064806C467F678D3B4080D6F1CC50AF26CA209417308281B68AF2826\
             23EAA63E5B5C0723D8B8C37FF0777B1A20F8CCB1DCCC43997F1EE0E44DA4A67A",
        );
    }

    #[test]
    fn a_key_without_a_curve_is_refused() {
        let key = EcPrivateKey { private_key: &[1; 32], parameters: None, public_key: None };
        let der = key.to_der().unwrap();
        assert!(matches!(PrivateKey::from_sec1(&der, None), Err(KeyError::Curve(None))));
        assert!(PrivateKey::from_sec1(&der, Some(p256::NistP256::OID)).is_ok());
    }
}
