//! The manifest, `depickle-manifest/1`: typed data that is written and read back. Field by field in
//! `docs/manifest.md`, as a JSON Schema in `docs/manifest.schema.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use crate::accounting::Accounted;
use crate::report::Tool;
pub use crate::report::{Piece, Region};

/// The value of `schema`.
pub const SCHEMA: &str = "depickle-manifest/1";

/// What a conversion did. `T` is the sequence of tensors: a vector where a manifest was read, and a sequence made on
/// the fly where one is written, because a checkpoint may hold a million.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest<T = Vec<TensorRecord>, A = Vec<AliasRecord>> {
    /// [`SCHEMA`]; readers refuse another number after the slash.
    pub schema: String,
    /// What wrote it.
    pub tool: Tool,
    /// Every option that changes bytes.
    pub options: OptionsRecord,
    /// Files that were read.
    pub sources: Vec<SourceRecord>,
    /// Tensors that were written.
    pub tensors: T,
    /// Names that were recorded instead of written.
    pub aliases: A,
    /// Tensors that were neither.
    pub left_out: Vec<LeftOutRecord>,
    /// Values that are no tensors and were not written.
    pub values_left_out: Vec<ValuesRecord>,
    /// Files of the input folder that were not opened.
    pub left_out_files: Vec<LeftOutFile>,
    /// Files that were written.
    pub outputs: Vec<OutputRecord>,
    /// Digests over the whole.
    pub digests: Digests,
    /// `bit-exact`, `lossless` or `lossy`.
    pub claim: String,
}

impl<T, A> Manifest<T, A> {
    /// The same without its tensors, for documents that are not about them.
    pub fn without_tensors(self) -> Manifest<(), ()> {
        Manifest {
            schema: self.schema,
            tool: self.tool,
            options: self.options,
            sources: self.sources,
            tensors: (),
            aliases: (),
            left_out: self.left_out,
            values_left_out: self.values_left_out,
            left_out_files: self.left_out_files,
            outputs: self.outputs,
            digests: self.digests,
            claim: self.claim,
        }
    }
}

/// Every option that changes bytes.
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OptionsRecord {
    /// `--strict`
    pub strict: bool,
    /// The place whose tensors were taken, by `--root` or by rule; null for the whole source.
    pub root: Option<String>,
    /// Whether `--root` was given, so that the place is not found by rule when the source is converted again.
    pub root_given: bool,
    /// `--all`
    pub all: bool,
    /// `--include`
    pub include: Vec<String>,
    /// `--exclude`
    pub exclude: Vec<String>,
    /// `--strip-prefix` and `--rename`, in their order.
    pub names: Vec<String>,
    /// `--dtype`
    pub dtype: Option<String>,
    /// `--max-shard-size` in bytes.
    #[serde(default)]
    pub max_shard_size: Option<u64>,
    /// What was done with names of the same data: `once`, `copy` or `refuse`.
    pub aliases: String,
    /// `--inert`, and what the policy keeps as data.
    pub inert: Vec<String>,
    /// What the policy denies.
    pub denied: Vec<String>,
    /// SHA-256 of the policy file; null without one.
    pub policy: Option<String>,
    /// `--skip-unresolved`
    pub skip_unresolved: bool,
    /// `--paddle-bf16`
    #[serde(default)]
    pub paddle_bf16: bool,
    /// `--metadata`
    #[serde(default)]
    pub metadata: bool,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Its name, or its path relative to the input folder.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Of the whole file.
    pub sha256: String,
    /// Container, such as `torch-zip`.
    pub container: String,
    /// `little` or `big`.
    pub byteorder: String,
    /// What the file was compared with before it was parsed.
    pub expected: Vec<Expected>,
    /// Its pickles.
    pub pickles: Vec<PickleRecord>,
    /// Where its bytes went.
    pub accounting: Accounted,
}

/// A digest that a source was compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Where the digest came from.
    pub origin: String,
    /// Which digest.
    pub algorithm: String,
    /// In hexadecimal; its beginning where `bits` says so.
    pub value: String,
    /// Bits of `value`, where they are not the whole digest: so few show damage, and prove nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<u32>,
    /// `match` or `mismatch`; a whole digest that does not match stops the conversion.
    pub result: String,
}

/// A pickle of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PickleRecord {
    /// Member of the archive; null where the container names none.
    pub entry: Option<String>,
    /// Of its bytes.
    pub sha256: String,
    /// The highest protocol that it declares.
    pub protocol: u8,
    /// Every name that it refers to.
    pub globals: Vec<GlobalRecord>,
}

/// A name that a pickle refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalRecord {
    /// `module.name`
    pub name: String,
    /// How often.
    pub count: u64,
    /// `allowed`, `inert`, `unknown` or `dangerous`.
    pub verdict: String,
}

/// A tensor that was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorRecord {
    /// Its name.
    pub name: String,
    /// Element type, as safetensors names it.
    pub dtype: String,
    /// Shape.
    pub shape: Vec<u64>,
    /// Bytes.
    pub nbytes: u64,
    /// Over its contiguous row-major little-endian bytes.
    pub sha256: String,
    /// Where it came from.
    pub from: Vec<Piece>,
    /// Where it went.
    pub to: Target,
    /// How it was changed; null where it was not.
    pub encoding: Option<EncodingRecord>,
}

/// Where a tensor went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Position in `outputs`.
    pub output: u64,
    /// `data_offsets` of the header.
    pub offsets: [u64; 2],
}

/// How a tensor was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EncodingRecord {
    /// `--dtype`
    Cast {
        /// `cast`
        kind: String,
        /// Element type before.
        from: String,
        /// Digest before.
        source_sha256: String,
        /// Whether every element kept its value.
        exact: bool,
    },
    /// A tensor that safetensors has no type for, or one part of it.
    Part {
        /// `quantized`, `sparse`, `nested` or `complex`.
        kind: String,
        /// Which part.
        part: String,
        /// Quantization scheme or sparse layout.
        scheme: Option<String>,
        /// Axis of a per-channel quantization; the ragged dimension of a nested tensor.
        axis: Option<i64>,
        /// Shape of the whole, where its parts do not tell: that of a sparse tensor.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shape: Option<Vec<u64>>,
    },
}

/// A name that was recorded instead of written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasRecord {
    /// The name.
    pub name: String,
    /// The tensor that it shows.
    pub of: String,
    /// Position in `sources`.
    pub source: u64,
    /// Steps from the root of the source.
    pub path: Vec<String>,
}

/// Tensors that were not written, at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutRecord {
    /// Position in `sources`.
    pub source: u64,
    /// Steps from the root of the source.
    pub path: Vec<String>,
    /// How many.
    pub tensors: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Why.
    pub reason: String,
}

/// Values that are no tensors, at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValuesRecord {
    /// Position in `sources`.
    pub source: u64,
    /// Steps from the root of the source.
    pub path: Vec<String>,
    /// Python type of the outermost.
    #[serde(rename = "type")]
    pub type_name: String,
    /// How many.
    pub count: u64,
}

/// A file of the input folder that was not opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutFile {
    /// Relative to the input folder.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRecord {
    /// Relative to the output folder.
    pub path: String,
    /// What it is for: `weights`, or `metadata`.
    pub role: String,
    /// Bytes.
    pub size: u64,
    /// Of the whole file.
    pub sha256: String,
}

/// Digests over the whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// See [`TensorSet`](super::TensorSet).
    pub tensor_set: String,
    /// Others, of later versions.
    #[serde(flatten)]
    pub others: BTreeMap<String, String>,
}

/// A sequence that is made while it is written.
pub(crate) struct Lazy<F>(pub(crate) F);

impl<F, I> Serialize for Lazy<F>
where
    F: Fn() -> I,
    I: Iterator,
    I::Item: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}
