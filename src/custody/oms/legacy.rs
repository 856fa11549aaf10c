//! Statements of version 0.2 of the reference implementation: files were subjects, and there was no predicate to speak of.

use std::collections::BTreeMap;

use crate::custody::statement::Subject;

use super::error::Fault;
use super::predicate::{Predicate, Resource, Serialization};

/// `predicateType` of such a statement.
pub(super) const PREDICATE_TYPE: &str = "https://model_signing/Digests/v0.1";

/// The files, as the later versions state them.
pub(super) fn files(subjects: &[Subject]) -> Result<BTreeMap<String, String>, Fault> {
    let resource = |subject: &Subject| Resource {
        name: subject.name.clone(),
        algorithm: "sha256".to_owned(),
        digest: subject.digest.get("sha256").cloned().unwrap_or_default(),
    };
    let serialization = Serialization {
        method: "files".to_owned(),
        hash_type: "sha256".to_owned(),
        allow_symlinks: false,
        ignore_paths: Vec::new(),
    };
    Predicate { serialization, resources: subjects.iter().map(resource).collect() }.files()
}
