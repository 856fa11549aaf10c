//! What `diff --json` prints.

use serde::Serialize;

/// The value of `schema`.
pub const DIFF_SCHEMA: &str = "depickle-diff/1";

/// How two sets of tensors differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diff {
    /// [`DIFF_SCHEMA`]
    pub schema: &'static str,
    /// Whether every name is on both sides, with the same type, shape and bytes.
    pub same: bool,
    /// What was named first.
    pub left: DiffSide,
    /// What was named second.
    pub right: DiffSide,
    /// How many names are what.
    pub counts: DiffCounts,
    /// Every name: those of the left in their order, then those that only the right has.
    pub tensors: Vec<DiffTensor>,
}

/// One of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiffSide {
    /// As it was named.
    pub path: String,
    /// The files that were read: the one, or those of the folder, relative to it.
    pub files: Vec<DiffFile>,
    /// How many names it has.
    pub tensors: u64,
    /// Digest over its names, types, shapes and bytes, as in the manifest.
    pub tensor_set: String,
}

/// A file of a side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiffFile {
    /// Its name, or its path relative to the folder.
    pub path: String,
    /// Such as `torch-zip` or `safetensors`.
    pub container: String,
    /// The place whose tensors were taken; null for the whole file.
    pub root: Option<String>,
}

/// How many names are what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct DiffCounts {
    /// On both sides, with the same type, shape and bytes.
    pub same: u64,
    /// On both sides, and not the same.
    pub changed: u64,
    /// On the left alone.
    pub only_left: u64,
    /// On the right alone.
    pub only_right: u64,
}

/// What became of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiffStatus {
    /// Type, shape and bytes are the same.
    Same,
    /// One of them is not.
    Changed,
    /// The right does not have it.
    OnlyLeft,
    /// The left does not have it.
    OnlyRight,
}

/// A name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DiffTensor {
    /// The name.
    pub name: String,
    /// What became of it.
    pub status: DiffStatus,
    /// The tensor on the left; null where it has none.
    pub left: Option<DiffCopy>,
    /// The tensor on the right; null where it has none.
    pub right: Option<DiffCopy>,
    /// How far apart the values are, where type and shape allow to say so; null where they are the same.
    pub distance: Option<DiffDistance>,
    /// A name that only the other side has, with the same type, shape and bytes: this one under another name.
    pub same_as: Option<String>,
}

/// A tensor of one side.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct DiffCopy {
    /// Element type, as safetensors names it.
    pub dtype: String,
    /// Shape.
    pub shape: Vec<u64>,
    /// Over its contiguous row-major little-endian bytes.
    pub sha256: String,
}

/// How far apart the values of two tensors of one shape are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DiffDistance {
    /// Values that differ.
    pub values: u64,
    /// Of those, pairs of which one is infinite or no number, while the other is not the same.
    pub incomparable: u64,
    /// The largest difference of two finite floats; null where there are none.
    pub absolute: Option<f64>,
    /// Where it is.
    pub at: Option<Vec<u64>>,
    /// The largest difference of two finite floats, divided by the larger of their magnitudes.
    pub relative: Option<f64>,
}
