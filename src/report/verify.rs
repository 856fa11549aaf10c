//! What `verify --json` prints.

use serde::Serialize;

/// The value of `schema`.
pub const VERIFY_SCHEMA: &str = "depickle-verify/1";

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// [`VERIFY_SCHEMA`]
    pub schema: &'static str,
    /// Path of the manifest; null where only a signature was checked.
    pub manifest: Option<String>,
    /// Whether all matches.
    pub matches: bool,
    /// Files that were checked.
    pub files: u64,
    /// Tensors that were checked.
    pub tensors: u64,
    /// Things of the source that were checked; null without `--source`.
    pub source: Option<u64>,
    /// Files that were written once more and compared; null without `--reconvert`.
    pub reconversion: Option<u64>,
    /// `unsigned` or `not checked`: the manifest shows integrity, and not who made it; `good` or `bad`.
    pub signature: &'static str,
    /// Everything that does not match.
    pub mismatches: Vec<Mismatch>,
}

/// Something that does not match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// `files`, `tensors`, `source`, `reconversion`, `signature` or `provenance`.
    pub level: &'static str,
    /// Name of the file or tensor.
    pub name: String,
    /// What does not match.
    pub mismatch: String,
}
