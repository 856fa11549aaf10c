//! What can be wrong with a pickle: errors that end it, and anomalies that are recorded while it goes on.

use crate::bytes::{self, Offset};
use crate::limits::LimitExceeded;

use super::graph::MemoId;

/// Where a pickle is broken, and how.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{op} at {offset}: {kind}")]
pub struct Error {
    /// Position of the opcode, from the start of the pickle.
    pub offset: Offset,
    /// Name of the opcode; `?` where the byte is none.
    pub op: &'static str,
    /// What is wrong.
    pub kind: ErrorKind,
}

/// How a pickle is broken.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes end too early or could not be read.
    #[error(transparent)]
    Read(#[from] bytes::ErrorKind),
    /// A byte that is no opcode of protocols 0 to 5.
    #[error("byte {0:#04x} is no pickle opcode")]
    UnknownOpcode(u8),
    /// `PROTO` above 5.
    #[error("protocol {0} found, 0 to 5 expected")]
    UnsupportedProtocol(u8),
    /// An opcode that needs more than the stack holds above the last mark.
    #[error("stack underflow")]
    StackUnderflow,
    /// An opcode that needs a mark where there is none.
    #[error("no mark on the stack")]
    NoMark,
    /// A memo entry that was never stored.
    #[error("memo entry {0} was never stored")]
    MissingMemo(MemoId),
    /// Text that is not UTF-8 (lone surrogates are let through and escaped, as Python does).
    #[error("text is not UTF-8")]
    InvalidText,
    /// A number that Python does not read either.
    #[error("{0:?} is no number")]
    InvalidNumber(String),
    /// A quoted string without quotes, or with a broken escape.
    #[error("badly quoted string")]
    InvalidString,
    /// A negative length.
    #[error("negative length {0}")]
    NegativeLength(i32),
    /// Keys and values that do not pair up.
    #[error("odd number of items for a dictionary")]
    OddItems,
    /// An opcode that does not fit the object that it would change or call.
    #[error("cannot apply to {found}; {expected} expected")]
    Target {
        /// What stands on the stack.
        found: &'static str,
        /// What the opcode is for.
        expected: &'static str,
    },
    /// `EXT1`, `EXT2`, `EXT4`: names from a registry of the loading process, which no file can carry.
    #[error("extension registry code {0} cannot be resolved from the file")]
    Extension(i64),
    /// `NEXT_BUFFER`, `READONLY_BUFFER`: data outside the file.
    #[error("data outside the pickle is referred to")]
    OutOfBand,
    /// A limit was met.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
}

impl ErrorKind {
    /// Whether reading failed, as opposed to what was read.
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Read(bytes::ErrorKind::Io(_)))
    }
}

/// Something that a pickle writer never does, at an offset. The machine goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anomaly {
    /// Position of the opcode, from the start of the pickle.
    pub offset: Offset,
    /// What it is.
    pub kind: AnomalyKind,
}

/// What kind of anomaly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum AnomalyKind {
    /// A frame that begins inside another, is left in the middle of an opcode, or is longer than the pickle.
    #[error("frame does not match the opcodes in it")]
    Frame,
    /// A number in a form that Python's readers take differently (hexadecimal, underscores, NUL, white space).
    #[error("number in a form that readers disagree about")]
    Number,
    /// `PROTO` anywhere but first.
    #[error("PROTO that is not the first opcode")]
    Protocol,
    /// Objects left on the stack at `STOP`, which Python ignores.
    #[error("objects left on the stack at STOP")]
    StackLeft,
    /// A memo entry numbered far beyond those before it, for which `CPython` takes memory in proportion.
    #[error("memo entry numbered far beyond all others")]
    MemoGap,
    /// An integer of so many digits that working with it takes long.
    #[error("integer of more than 64 KiB")]
    HugeInteger,
    /// A lenient machine only: [`ErrorKind::Extension`].
    #[error("name from the extension registry of the loading process")]
    Extension,
    /// A lenient machine only: [`ErrorKind::OutOfBand`].
    #[error("data outside the pickle is referred to")]
    OutOfBand,
    /// A lenient machine only: [`ErrorKind::UnsupportedProtocol`].
    #[error("protocol above 5")]
    Newer,
    /// A lenient machine only: `BUILD` or items on a class or function, whose attributes Python then sets.
    #[error("a class or function is changed")]
    ChangedName,
    /// A lenient machine only: [`ErrorKind::Target`], an opcode that does not fit the object that it would change.
    #[error("opcode applied to an object that it does not fit")]
    Target,
    /// A lenient machine only: `STACK_GLOBAL` with a name that a call would give.
    #[error("name that is computed while the pickle is loaded")]
    ComputedName,
}

impl AnomalyKind {
    /// Whether readers of pickles disagree about what follows, so that nothing may be built on it.
    pub fn is_ambiguous(self) -> bool {
        !matches!(self, Self::Protocol | Self::StackLeft | Self::MemoGap | Self::HugeInteger)
    }
}
