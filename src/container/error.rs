//! What can be wrong with a container.

use std::sync::Arc;

use crate::bytes::{self, Offset};
use crate::limits::LimitExceeded;

/// Where a container is broken, and how.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{} at {offset}: {kind}", entry.as_deref().unwrap_or(""), if entry.is_some() { "" } else { "archive" })]
pub struct Error {
    /// Member of the archive, where it is about one.
    pub entry: Option<Box<str>>,
    /// Position in the source.
    pub offset: Offset,
    /// What is wrong.
    pub kind: ErrorKind,
}

/// How a container is broken.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes end too early or could not be read.
    #[error(transparent)]
    Read(#[from] bytes::ErrorKind),
    /// The archive crate refuses the archive: a broken directory, or headers that contradict each other.
    #[error("{0}")]
    Archive(Arc<::zip::result::ZipError>),
    /// No end-of-directory record, or more than one.
    #[error("{found} end-of-directory records, 1 expected")]
    EndRecords {
        /// How many there are.
        found: usize,
    },
    /// The directory does not end where the end record begins, as in an archive appended to another file.
    #[error(
        "directory ends at {got:#x}, end record begins at {expected:#x}: archives or foreign data are joined"
    )]
    Displaced {
        /// Where the directory ends by its own account.
        got: u64,
        /// Where it has to end.
        expected: u64,
    },
    /// Data before the first member.
    #[error("first member begins at {0:#x}, 0 expected: data precedes the archive")]
    Prefix(u64),
    /// Two members of one name, letter case aside. Readers choose different ones.
    #[error("doubled name: also at {0}")]
    Duplicate(Offset),
    /// Members that share bytes.
    #[error("overlaps the member {0:?}")]
    Overlap(Box<str>),
    /// Local header and directory disagree.
    #[error("{field}: {local:#x} in the local header, {central:#x} in the directory")]
    Disagreement {
        /// Which field.
        field: &'static str,
        /// What the local header or data descriptor says.
        local: u64,
        /// What the directory says.
        central: u64,
    },
    /// The two end-of-directory records of a zip64 archive disagree.
    #[error("{field}: {end:#x} in the end record, {zip64:#x} in the zip64 record")]
    EndDisagreement {
        /// Which field.
        field: &'static str,
        /// What the end record says.
        end: u64,
        /// What the zip64 end record says.
        zip64: u64,
    },
    /// Flag bits that change how a member is read and that no checkpoint has.
    #[error("flag bits {0:#06x}")]
    Flags(u16),
    /// A compression method other than stored and deflate.
    #[error("compression method {0}, 0 (stored) or 8 (deflate) expected")]
    Method(u16),
    /// A name that is not UTF-8, leaves the archive, or holds characters that readers treat differently.
    #[error("unsafe member name")]
    Name,
    /// A symbolic link.
    #[error("symbolic link")]
    Link,
    /// A record that says something else than it may.
    #[error("{got:?} found, {expected} expected")]
    Record {
        /// What stands there, bounded.
        got: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// A member that must be there and is not.
    #[error("missing")]
    Missing,
    /// More than one candidate for the one pickle that holds the checkpoint.
    #[error("second pickle of the checkpoint, the first is {0:?}")]
    SecondPickle(Box<str>),
    /// The checksum does not match the bytes.
    #[error("CRC-32 is {got:#010x}, {stated:#010x} stated")]
    Crc {
        /// Computed.
        got: u32,
        /// Stated.
        stated: u32,
    },
    /// The length of a storage differs between its two accounts.
    #[error("{got} bytes found, {expected} expected")]
    Length {
        /// In the file.
        got: u64,
        /// As declared.
        expected: u64,
    },
    /// A safetensors header that is longer than it may be.
    #[error("a header of {got} bytes, at most {most} fit")]
    HeaderLength {
        /// As declared.
        got: u64,
        /// What the file and the format have room for.
        most: u64,
    },
    /// A safetensors header that is no JSON of its form.
    #[error("{0}")]
    Json(Arc<serde_json::Error>),
    /// Tensors of a safetensors file that do not fit together.
    #[error("{0}")]
    Safetensors(Arc<::safetensors::SafeTensorError>),
    /// A limit was met.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
}

impl Error {
    /// Whether reading failed, as opposed to what was read.
    pub fn is_io(&self) -> bool {
        match &self.kind {
            ErrorKind::Read(bytes::ErrorKind::Io(_)) => true,
            ErrorKind::Archive(error) => matches!(&**error, ::zip::result::ZipError::Io(_)),
            _ => false,
        }
    }

    pub(super) fn new(entry: Option<&str>, offset: u64, kind: impl Into<ErrorKind>) -> Self {
        Self { entry: entry.map(Box::from), offset: Offset(offset), kind: kind.into() }
    }

    pub(super) fn io(entry: Option<&str>, offset: u64, error: std::io::Error) -> Self {
        Self::new(entry, offset, bytes::ErrorKind::Io(Arc::new(error)))
    }
}
