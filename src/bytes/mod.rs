//! Positions, spans and random access to bytes: the floor that everything else stands on.

mod cursor;
mod file;
mod folder;
mod part;
mod source;
mod span;
mod strided;
mod windowed;

pub use cursor::{Cursor, Error, ErrorKind};
pub use file::FileSource;
#[cfg(feature = "mmap")]
pub use file::Mapping;
pub(crate) use file::changed;
pub(crate) use folder::{folder_of, or_current};
pub(crate) use part::Part;
pub use source::ReadAt;
pub(crate) use source::{Positioned, read_vec};
pub use span::{Offset, Span};
pub(crate) use strided::Strided;
pub(crate) use windowed::Windowed;

/// A length as an index. Saturates on 32-bit machines, where the read that follows then fails.
pub(crate) fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// A length in memory as a length in a file.
pub(crate) fn length(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
