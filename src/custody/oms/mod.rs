//! OpenSSF Model Signing v1.0: a signature over every file of a folder, in a file beside them.
//!
//! ```text
//! model.sig: Sigstore bundle (JSON)
//!   verificationMaterial   which key, or which certificates
//!   dsseEnvelope           signature over the payload and its type
//!     payload: in-toto statement (JSON)
//!       subject            the folder, and one digest over the digests of its files
//!       predicate          its files, each with its digest, and how they were found
//! ```
//!
//! The specification is <https://github.com/ossf/model-signing-spec>, the reference implementation the Python package
//! `model-signing`. Where they differ, a comment says so.

mod bundle;
mod certificate;
mod chain;
mod dsse;
mod error;
mod folder;
mod hash;
#[cfg(feature = "keyless")]
mod keyless;
mod keys;
mod legacy;
mod pem;
mod predicate;
mod sign;
mod verify;

pub use certificate::Certificate;
pub use chain::{CertificateError, Profile, Roots};
pub use dsse::{Envelope, sign_statement, verify_envelope};
pub use error::{Error, Fault};
pub use folder::Stray;
#[cfg(feature = "keyless")]
pub use keyless::{Keyless, KeylessError};
pub use keys::{KeyError, PrivateKey, PublicKey};
pub use sign::{SignOptions, Signed, sign, sign_files};
pub use verify::{Mismatch, Trust, Verified, VerifyOptions, verify};

/// The name under which a signature stands in the folder that it signs.
pub const SIGNATURE: &str = "model.sig";
