//! Where a tensor, or a part of one, lies in a source: `from` of the manifest, `parts` of what `inspect` shows.

use serde::{Deserialize, Serialize};

/// One piece of a tensor, in its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Position in `sources`.
    pub source: u64,
    /// Steps from the root of the source.
    pub path: Vec<String>,
    /// Member of the archive; null where the container names none.
    pub entry: Option<String>,
    /// Key of the storage; null for data embedded in the pickle.
    pub storage: Option<String>,
    /// First element, in elements.
    pub offset: u64,
    /// Strides, in elements.
    pub stride: Vec<u64>,
    /// Element type of the source.
    pub dtype: String,
    /// Part of the output tensor; null for the whole.
    pub region: Option<Region>,
}

/// A part of a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// First index in each dimension.
    pub start: Vec<u64>,
    /// Size in each dimension.
    pub size: Vec<u64>,
}
