//! What `sign --json` prints.

use serde::Serialize;

/// The value of `schema`.
pub const SIGN_SCHEMA: &str = "depickle-sign/1";

/// A signature that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignatureRecord {
    /// [`SIGN_SCHEMA`]
    pub schema: &'static str,
    /// Its path.
    pub signature: String,
    /// Files that it is over.
    pub files: u64,
    /// The digest over all of them, `sha256:…`.
    pub root: String,
    /// The same in the order of the reference implementation; null where that is the same order.
    pub root_by_components: Option<String>,
}
