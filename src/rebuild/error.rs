//! Why a graph cannot be turned into tensors.

use crate::bytes::Offset;
use crate::container;
use crate::limits::LimitExceeded;
use crate::tensor;

/// Which call cannot be interpreted, where, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{callable} at {offset}: {kind}")]
pub struct Error {
    /// Name of the callable or of the place.
    pub callable: Box<str>,
    /// Position of the call, from the start of the pickle.
    pub offset: Offset,
    /// What is wrong.
    pub kind: ErrorKind,
}

/// Why a call cannot be interpreted.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument of another type than the callable takes.
    #[error("argument {position} is {found}, {expected} expected")]
    Argument {
        /// Counted from 0.
        position: usize,
        /// What it is.
        found: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// More or fewer arguments than any version of the library passes.
    #[error("{found} arguments, {expected} expected")]
    ArgumentCount {
        /// How many there are.
        found: usize,
        /// How many there may be.
        expected: &'static str,
    },
    /// An interpreted callable needs a value that only an uninterpreted call would give.
    #[error("needs the result of {callable} at {at}, which is not interpreted")]
    Unresolved {
        /// The uninterpreted call.
        callable: Box<str>,
        /// Its position.
        at: Offset,
    },
    /// A persistent id that is no storage.
    #[error("persistent id is no storage: {0}")]
    PersistentId(&'static str),
    /// A storage key that could name something else than a record.
    #[error("storage key {0:?} is not plain")]
    StorageKey(Box<str>),
    /// One storage key with two element types.
    #[error("storage {key:?} is {second} here and {first} elsewhere")]
    StorageType {
        /// Key.
        key: Box<str>,
        /// Type at first.
        first: tensor::Dtype,
        /// Type here.
        second: tensor::Dtype,
    },
    /// Hooks that would run on the tensor: no honest file has them.
    #[error("backward hooks are not empty")]
    Hooks,
    /// A property of a tensor that is not known here, so that its bytes cannot be trusted to mean what they did.
    #[error("unknown tensor metadata {0:?}")]
    Metadata(Box<str>),
    /// An encoding other than Latin-1.
    #[error("text encoded as {0:?}, \"latin1\" expected")]
    Codec(Box<str>),
    /// Something changed on an object that does not change so.
    #[error("items or state set where the class takes none")]
    Changed,
    /// A list or dictionary that was changed after the call took what was in it.
    #[error(
        "an argument was changed after the call: Python sees what it held before, other readers what it holds now"
    )]
    ChangedAfter,
    /// Data of another length than shape and element type ask for.
    #[error("{got} bytes of data, {expected} expected")]
    DataLength {
        /// Bytes there are.
        got: u64,
        /// Bytes wanted.
        expected: u64,
    },
    /// A part of a sparse or nested tensor that does not fit the others.
    #[error("{part}: {rule}")]
    Part {
        /// Which part.
        part: &'static str,
        /// What it has to be.
        rule: &'static str,
    },
    /// An index of a sparse or nested tensor that points outside it.
    #[error("{part}: element {element} is {value}, {least} to {most} expected")]
    Index {
        /// Which part.
        part: &'static str,
        /// Position in the part, row-major.
        element: u64,
        /// What stands there.
        value: i64,
        /// The least that may stand there.
        least: i64,
        /// The most that may stand there.
        most: i64,
    },
    /// A value that the type of the tensor cannot hold, so that it would change.
    #[error("element {element} does not fit {dtype}")]
    Inexact {
        /// Position in the tensor, row-major.
        element: u64,
        /// The type that the tensor has to have.
        dtype: tensor::Dtype,
    },
    /// The data of a tensor could not be read.
    #[error(transparent)]
    Read(std::sync::Arc<tensor::ReadError>),
    /// A shard of a tensor that is spread over ranks, in a file that is read by itself.
    #[error("one rank's part of a tensor, the rest of which is in the files of the other ranks")]
    Shard,
    /// A recognised kind of tensor that cannot be converted.
    #[error("{0} cannot be converted")]
    Unsupported(&'static str),
    /// A tensor that leaves its storage.
    #[error(transparent)]
    Tensor(#[from] tensor::Error),
    /// A storage that the container does not have as the pickle says.
    #[error(transparent)]
    Container(#[from] container::Error),
    /// Embedded data could not be read.
    #[error("read failed: {0}")]
    Io(std::sync::Arc<std::io::Error>),
    /// A limit was met.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
}

impl ErrorKind {
    /// Whether reading failed, as opposed to what was read.
    pub fn is_io(&self) -> bool {
        match self {
            Self::Io(_) => true,
            Self::Container(error) => error.is_io(),
            _ => false,
        }
    }

    /// Whether `--skip-unresolved` may list the tensor and go on.
    pub fn is_unresolved(&self) -> bool {
        matches!(self, Self::Unresolved { .. })
    }
}
