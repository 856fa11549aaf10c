//! What `convert --json` prints of an input.

use serde::Serialize;

/// One input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConvertRecord {
    /// The file, as it was named or found; `-` for standard input.
    pub input: String,
    /// The exit code that it would have by itself.
    pub exit: u8,
    /// Why it was not converted; null where it was.
    pub error: Option<String>,
    /// Path of the manifest; null where none was written.
    pub manifest: Option<String>,
}
