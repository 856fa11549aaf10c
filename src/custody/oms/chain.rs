//! From a signer's certificate to an authority that the user trusts.
//!
//! Revocation is not looked up: nothing here uses a network. A certificate that must no longer count has to be replaced
//! together with its authority.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use der::asn1::ObjectIdentifier;

use super::certificate::Certificate;
use super::keys::{KeyError, PublicKey};

/// Why certificates do not vouch for a signature.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// One is malformed.
    #[error("malformed certificate: {0}")]
    Der(#[from] der::Error),
    /// There is none.
    #[error("carries no certificate")]
    None,
    /// There are more than any honest chain has.
    #[error("carries {0} certificates, of {LONGEST} that are looked at")]
    TooMany(usize),
    /// Its key cannot be used.
    #[error("certificate of {subject}: {error}")]
    Key {
        /// Whose.
        subject: String,
        /// Why.
        error: KeyError,
    },
    /// It is not valid now.
    #[error("certificate of {subject}: {}", if *expired { "has expired" } else { "is not valid yet" })]
    Time {
        /// Whose.
        subject: String,
        /// Or not valid yet.
        expired: bool,
    },
    /// Its purposes do not include the signing of code.
    #[error("certificate of {0}: is not for signing code (extended key usage)")]
    Purpose(String),
    /// Its key may not be used so.
    #[error("certificate of {subject}: its key is not for {wanted} (key usage)")]
    Usage {
        /// Whose.
        subject: String,
        /// `signatures` or `certificates`.
        wanted: &'static str,
    },
    /// A signer is no authority.
    #[error("certificate of {0}: belongs to an authority, not to a signer")]
    Authority(String),
    /// It has a restriction that is not understood.
    #[error("certificate of {subject}: has the restriction {extension}, which is not supported")]
    Restricted {
        /// Whose.
        subject: String,
        /// Its number.
        extension: ObjectIdentifier,
    },
    /// It is signed in a way that is not supported.
    #[error("certificate of {subject}: is signed with the algorithm {algorithm}, which is not supported")]
    Algorithm {
        /// Whose.
        subject: String,
        /// Its number.
        algorithm: ObjectIdentifier,
    },
    /// It was not signed by its issuer.
    #[error("certificate of {0}: its signature is not that of its issuer")]
    Signature(String),
    /// No trusted certificate stands at its end.
    #[error("certificate of {0}: no chain to a trusted certificate")]
    Untrusted(String),
    /// It vouches for someone else.
    #[error("certificate of {subject}: is for {found:?}, not for {expected:?}")]
    Identity {
        /// Whose.
        subject: String,
        /// Names in it.
        found: Vec<String>,
        /// The name that was asked for.
        expected: String,
    },
}

/// The longest chain that is looked at, which bounds how many signatures are computed for a hostile one.
const LONGEST: usize = 10;

/// How a signer's certificate has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// As RFC 5280 has it.
    Strict,
    /// The signer may be an authority at the same time, as it is in the public conformance suite. For tests.
    Compatible,
}

/// Who is trusted.
#[derive(Debug, Clone)]
pub struct Roots {
    /// Certificates at whose end a chain is trusted.
    pub certificates: Vec<Certificate>,
    /// Mail address, URI or host name that the signer's certificate has to be for.
    pub identity: Option<String>,
    /// How the signer's certificate has to look.
    pub profile: Profile,
    /// When everything has to be valid.
    pub now: SystemTime,
}

impl Roots {
    /// The key of the first certificate, if all of them lead to a trusted one.
    pub(super) fn check(&self, chain: &[Certificate]) -> Result<PublicKey, CertificateError> {
        let (leaf, others) = chain.split_first().ok_or(CertificateError::None)?;
        if chain.len() > LONGEST {
            return Err(CertificateError::TooMany(chain.len()));
        }
        self.check_leaf(leaf)?;
        self.check_path(leaf, others)?;
        leaf.key()
    }

    fn check_leaf(&self, leaf: &Certificate) -> Result<(), CertificateError> {
        self.check_one(leaf)?;
        if self.profile == Profile::Strict && leaf.authority()?.is_some() {
            return Err(CertificateError::Authority(leaf.subject()));
        }
        // The reference implementation of version 1.1.1 takes certificates of TLS servers for signers.
        if leaf.signs_code()? != Some(true) {
            return Err(CertificateError::Purpose(leaf.subject()));
        }
        if leaf.usage()?.is_some_and(|usage| !usage.digital_signature()) {
            return Err(CertificateError::Usage { subject: leaf.subject(), wanted: "signatures" });
        }
        let Some(expected) = &self.identity else { return Ok(()) };
        let found = leaf.identities()?;
        if found.contains(expected) {
            return Ok(());
        }
        Err(CertificateError::Identity { subject: leaf.subject(), found, expected: expected.clone() })
    }

    /// Looks for a way to a root, shortest first. Names do not tell: an authority and a signer may have the same.
    fn check_path(&self, leaf: &Certificate, others: &[Certificate]) -> Result<(), CertificateError> {
        if self.certificates.contains(leaf) {
            return Ok(());
        }
        // What was wrong with the last candidate says more than that there is no chain.
        let mut reason = CertificateError::Untrusted(leaf.subject());
        let mut left: Vec<&Certificate> = others.iter().collect();
        let mut open = VecDeque::from([(leaf, 0_u8)]);
        while let Some((below, authorities)) = open.pop_front() {
            for root in self.certificates.iter().filter(|root| root.is_named_by(below)) {
                match self.check_issuer(root, below, authorities) {
                    Ok(()) => return Ok(()),
                    Err(error) => reason = error,
                }
            }
            left.retain(|candidate| {
                if !candidate.is_named_by(below) || *candidate == below {
                    return true;
                }
                match self.check_issuer(candidate, below, authorities) {
                    Ok(()) => {
                        open.push_back((*candidate, authorities.saturating_add(1)));
                        false
                    }
                    Err(error) => {
                        reason = error;
                        true
                    }
                }
            });
        }
        Err(reason)
    }

    /// Fails unless `issuer` may have issued `below`, and has. `authorities` is how many stand between it and the signer.
    fn check_issuer(
        &self,
        issuer: &Certificate,
        below: &Certificate,
        authorities: u8,
    ) -> Result<(), CertificateError> {
        self.check_one(issuer)?;
        if issuer.authority()?.is_none_or(|allowed| authorities > allowed) {
            return Err(CertificateError::Usage { subject: issuer.subject(), wanted: "certificates" });
        }
        if issuer.usage()?.is_some_and(|usage| !usage.key_cert_sign()) {
            return Err(CertificateError::Usage { subject: issuer.subject(), wanted: "certificates" });
        }
        if issuer.signs_code()? == Some(false) && !issuer.serves_any_purpose()? {
            return Err(CertificateError::Purpose(issuer.subject()));
        }
        issuer.check_signed(below)
    }

    fn check_one(&self, certificate: &Certificate) -> Result<(), CertificateError> {
        let now = self.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let (from, until) = certificate.validity();
        if now < from || now > until {
            return Err(CertificateError::Time { subject: certificate.subject(), expired: now > until });
        }
        certificate.check_critical()
    }
}
