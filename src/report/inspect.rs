//! What `inspect --json` prints.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::accounting::Accounting;

use super::piece::Piece;

/// The value of `schema`.
pub const INSPECT_SCHEMA: &str = "depickle-inspect/1";

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspected {
    /// [`INSPECT_SCHEMA`]
    pub schema: &'static str,
    /// Every file, in the order of the inputs.
    pub files: Vec<InspectedFile>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct InspectedFile {
    /// As it was named or found; `-` for standard input.
    pub path: String,
    /// The exit code that it would have by itself.
    pub exit: u8,
    /// Why its structure cannot be shown; null where it is.
    pub error: Option<String>,
    /// Bytes; null where the file cannot be opened.
    pub size: Option<u64>,
    /// Such as `torch-zip`; of a folder its layout, such as `dcp`; null where that was not found out.
    pub container: Option<&'static str>,
    /// Of a folder with several models, which: the path that its weights get in the output, up to shard number and suffix.
    pub model: Option<String>,
    /// `little` or `big`.
    pub byteorder: Option<&'static str>,
    /// The files that it is made of: itself, those beside it that hold some of its arrays, those of a folder.
    pub sources: Vec<InspectedSource>,
    /// Its pickles, in the order in which Python would load them.
    pub pickles: Vec<InspectedPickle>,
    /// Uses of names that refuse a conversion.
    pub refusals: Vec<RefusedCall>,
    /// Where its bytes went, of a folder those of all its sources; null for a safetensors file.
    pub accounting: Option<Accounting>,
    /// Of a folder, files beside the weights that `convert` copies to another folder, if they hold what their names say.
    pub other_files: Vec<String>,
    /// Of a folder, files that are no part of a model and are not copied.
    pub left_out_files: Vec<LeftOutFile>,
    /// What does not belong in such a file, in words.
    pub strays: Vec<String>,
    /// What `convert` without flags would do; null where it would refuse.
    pub plan: Option<Planned>,
    /// Every tensor, in the source's order.
    pub tensors: Vec<InspectedTensor>,
    /// Values that are no tensors, by place.
    pub values: Vec<ValueGroup>,
    /// `__metadata__` of a safetensors file; null where it has none.
    pub metadata: Option<BTreeMap<String, String>>,
}

/// A file that a checkpoint is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InspectedSource {
    /// Its name, or its path relative to the folder.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Such as `torch-zip`, with what is around it.
    pub container: String,
    /// `little` or `big`.
    pub byteorder: &'static str,
    /// Where its bytes went.
    pub accounting: Accounting,
}

/// A file that is no part of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOutFile {
    /// Its path relative to the folder.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// A pickle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InspectedPickle {
    /// Position of its file in `sources`; a scan has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<u64>,
    /// Member of the archive; null where the container names none.
    pub entry: Option<String>,
    /// Of its bytes.
    pub sha256: String,
    /// The highest protocol that it declares.
    pub protocol: u8,
    /// Every name that it refers to.
    pub globals: Vec<NamedGlobal>,
}

/// A name that a pickle refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedGlobal {
    /// `module.name`
    pub name: String,
    /// How often.
    pub count: u64,
    /// `allowed`, `inert`, `unknown` or `dangerous`.
    pub verdict: &'static str,
}

/// A use that refuses a conversion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedCall {
    /// Member of the archive; null where the container names none.
    pub entry: Option<String>,
    /// Position, from the start of the pickle.
    pub offset: u64,
    /// `module.name`
    pub name: String,
    /// The call as text, cut where it is long.
    pub call: String,
    /// `unknown` or `dangerous`.
    pub verdict: &'static str,
    /// How many tensors depend on it; null where that cannot be told.
    pub dependents: Option<u64>,
}

/// What `convert` without flags would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Planned {
    /// Why it would fail; null where it would not.
    pub error: Option<String>,
    /// The place whose tensors it takes; null for the whole source.
    pub root: Option<String>,
    /// Other places that it could take.
    pub candidates: Vec<Place>,
    /// Tensors that it would write.
    pub tensors: u64,
    /// Tensors that it would not, by place.
    pub left_out: Vec<LeftOutGroup>,
    /// What it would say.
    pub notes: Vec<String>,
}

/// A place with tensors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// As `--root` takes it.
    pub root: String,
    /// Tensors below it.
    pub tensors: u64,
}

/// Tensors that are not written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOutGroup {
    /// Steps from the root of the source.
    pub path: Vec<String>,
    /// How many.
    pub tensors: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Why.
    pub reason: String,
}

/// A tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InspectedTensor {
    /// Steps from the root of the source.
    pub path: Vec<String>,
    /// The name that `convert` would give it; null where it is not written.
    pub name: Option<String>,
    /// Element type, as safetensors names it.
    pub dtype: String,
    /// Element type of the source, such as `torch.float32`; null for a safetensors file.
    pub source_dtype: Option<String>,
    /// Shape, in elements of `dtype`.
    pub shape: Vec<u64>,
    /// Bytes of the contiguous tensor.
    pub nbytes: u64,
    /// Position in `sources` of the file that it lies in, of one in parts the first; null for a safetensors file.
    pub source: Option<u64>,
    /// Member of the archive that holds the storage; null where the container names none.
    pub entry: Option<String>,
    /// Key of the storage; null where it has none.
    pub storage: Option<String>,
    /// First element in the storage, in elements; null for a safetensors file.
    pub offset: Option<u64>,
    /// Strides, in elements; null for a safetensors file.
    pub stride: Option<Vec<u64>>,
    /// Whether its elements lie row-major and without gaps.
    pub contiguous: bool,
    /// What it is put together of, where its source holds it in parts, as `from` of the manifest; null where it is whole.
    pub parts: Option<Vec<Piece>>,
    /// How it stands for what safetensors has no type for, or is cast by its library; null where it is as it is.
    pub encoding: Option<InspectedEncoding>,
    /// Path of the first tensor that is the same view of the same storage; null where there is none before it.
    pub same_as: Option<Vec<String>>,
}

/// How a tensor is re-encoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InspectedEncoding {
    /// `cast`, or as in the manifest.
    pub kind: &'static str,
    /// Of a cast, the element type of the source, as safetensors names it; null for others.
    pub from: Option<String>,
    /// Which part of the re-encoded tensor it is; null for a cast.
    pub part: Option<&'static str>,
}

/// Values that are no tensors, at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValueGroup {
    /// Steps from the root of the source.
    pub path: Vec<String>,
    /// Python type of the outermost.
    #[serde(rename = "type")]
    pub type_name: String,
    /// How many.
    pub count: u64,
}
