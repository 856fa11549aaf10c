//! in-toto statements: a claim (`predicate`) about files (`subject`).
//! <https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `_type` of a statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// A claim about files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement<P> {
    /// [`STATEMENT_TYPE`]
    #[serde(rename = "_type")]
    pub statement_type: String,
    /// What the claim is about.
    pub subject: Vec<Subject>,
    /// What kind of claim it is, a URI.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// The claim.
    pub predicate: P,
}

impl<P> Statement<P> {
    /// A statement of this version.
    pub fn new(subject: Vec<Subject>, predicate_type: &str, predicate: P) -> Self {
        let (statement_type, predicate_type) = (STATEMENT_TYPE.to_owned(), predicate_type.to_owned());
        Self { statement_type, subject, predicate_type, predicate }
    }
}

/// Something that a claim is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// Its digests, by algorithm.
    pub digest: BTreeMap<String, String>,
}

impl Subject {
    /// A file, or a set of files, by its SHA-256.
    pub fn sha256(name: &str, digest: &str) -> Self {
        Self { name: name.to_owned(), digest: BTreeMap::from([("sha256".to_owned(), digest.to_owned())]) }
    }
}
