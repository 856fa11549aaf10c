//! Why an output could not be written.

use std::io;
use std::path::PathBuf;

use crate::tensor::ReadError;

/// The output, and what went wrong on the way to it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind}", path.display())]
pub struct Error {
    /// The file that was to be written.
    pub path: PathBuf,
    /// What went wrong.
    #[source]
    pub kind: ErrorKind,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is something at the output path, and it was not to be replaced.
    #[error("exists already")]
    Exists,
    /// What is at the output path is no file that could be replaced.
    #[error("exists and is not a regular file")]
    NotAFile,
    /// What an interrupted conversion has finished so far stands in the way.
    #[error("an interrupted conversion is there")]
    Interrupted,
    /// Another conversion works in the same folder.
    #[error("another conversion is at work there")]
    Busy,
    /// A file of an earlier conversion that loaders would take together with the new ones.
    #[error("a file of another conversion of this model is there")]
    Stale,
    /// The output, or a temporary file beside it, could not be written.
    #[error("write failed: {0}")]
    Write(#[source] io::Error),
    /// The source could not be read.
    #[error("source could not be read: {0}")]
    Source(#[source] io::Error),
    /// The source is not what it was when it was opened.
    #[error("{0}")]
    Changed(#[source] io::Error),
    /// A tensor could not be read or cast.
    #[error("tensor {name:?}: {error}")]
    Tensor {
        /// Name in the output.
        name: Box<str>,
        /// Why.
        #[source]
        error: ReadError,
    },
    /// A member of the archive does not have the CRC-32 that the archive states.
    #[error("{entry}: CRC-32 is {computed:08x}, the archive states {stated:08x}")]
    Crc {
        /// The member, or the storage's key.
        entry: Box<str>,
        /// What the archive states.
        stated: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A deflated member is no deflate stream, or has bytes after its end.
    #[error("{entry}: deflated data is damaged: {reason}")]
    Inflate {
        /// The member, or the storage's key.
        entry: Box<str>,
        /// What is wrong.
        reason: Box<str>,
    },
    /// A deflated member has another size than the archive states.
    #[error("{entry}: inflates to {} bytes, {expected} are stated", at_least(*got, *expected))]
    InflatedSize {
        /// The member, or the storage's key.
        entry: Box<str>,
        /// Bytes that came out; inflation stops at the first one too many.
        got: u64,
        /// Bytes stated.
        expected: u64,
    },
    /// The header would be larger than any reader accepts.
    #[error(
        "header of more than {allowed} bytes, which no reader accepts; write fewer tensors into one file"
    )]
    HeaderTooLarge {
        /// What readers accept.
        allowed: u64,
    },
    /// More bytes than 64 bits can count.
    #[error("more bytes than 64 bits can count")]
    TooLarge,
    /// Two tensors of one name.
    #[error("two tensors are named {0:?}")]
    DuplicateName(Box<str>),
    /// A tensor has the name that the format keeps for itself.
    #[error("a tensor cannot be named __metadata__; rename it")]
    ReservedName,
    /// A view of a storage that is not in the list (misuse).
    #[error("tensor {0:?} is a view of a storage that was not given")]
    NoStorage(Box<str>),
}

fn at_least(got: u64, expected: u64) -> String {
    if got > expected { format!("more than {expected}") } else { got.to_string() }
}
