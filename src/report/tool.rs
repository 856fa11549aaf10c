//! What wrote a document.

use serde::{Deserialize, Serialize};

/// What wrote a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// `depickle`
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Tool {
    /// This version of depickle.
    pub fn this() -> Self {
        Self { name: "depickle".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}
