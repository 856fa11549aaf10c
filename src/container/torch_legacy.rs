//! Torch's legacy stream (torch 0.1.10 to 1.5, and later with `_use_new_zipfile_serialization=False`).
//!
//! ```text
//! pickle  magic number
//! pickle  protocol version, 1001
//! pickle  {"protocol_version", "little_endian", "type_sizes"}
//! pickle  the object; storages are persistent ids
//! pickle  [key, …]
//! for each key of the list, in its order:  i64 number of elements, then the elements
//! ```
//!
//! Source: `_legacy_save` and `_legacy_load` in `torch/serialization.py`. Elements are little-endian whatever the
//! writer's machine was: the C++ writer swaps them.

use std::collections::HashMap;

use crate::bytes::{Cursor, ReadAt, Span};
use crate::tensor::{Place, Storage, StreamId};

use super::error::{Error, ErrorKind};
use super::storages::Storages;

/// The magic number's bytes, little-endian.
pub const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The storages of a legacy stream.
#[derive(Debug)]
pub struct TorchLegacy {
    stream: StreamId,
    storages: HashMap<Box<str>, Record>,
    /// Byte counts before the elements.
    counts: u64,
    end: u64,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    data: Span,
}

impl TorchLegacy {
    /// Reads the records after the last pickle. `sizes` gives, for each key of the list and in its order, the bytes of
    /// one element; the stream itself only counts elements.
    ///
    /// # Errors
    /// Truncation, a negative count, a key that stands twice.
    pub fn open(
        source: &dyn ReadAt,
        stream: StreamId,
        start: u64,
        sizes: &[(Box<str>, Option<u64>)],
    ) -> Result<Self, Error> {
        let mut cursor = Cursor::new(source, Span::between(start, source.size()));
        let mut storages = HashMap::with_capacity(sizes.len());
        let mut counts = 0_u64;
        for (key, element) in sizes {
            let at = cursor.position().0;
            let error = |kind: ErrorKind| Error::new(Some(key), at, kind);
            let count = i64::from_le_bytes(cursor.array().map_err(|e| error(e.kind.into()))?);
            counts = counts.saturating_add(8);
            let wrong = || ErrorKind::Record { got: count.to_string(), expected: "a number of elements" };
            let count = u64::try_from(count).map_err(|_| error(wrong()))?;
            // A storage that no tensor of the pickle refers to: its element size is unknown, so that an empty one is
            // the only one that can be passed over.
            let element = match element {
                Some(element) => *element,
                None if count == 0 => 1,
                None => return Err(error(ErrorKind::Missing)),
            };
            let nbytes = count.checked_mul(element).ok_or_else(|| error(wrong()))?;
            let data = cursor.skip(nbytes).map_err(|e| error(e.kind.into()))?;
            if storages.insert(key.clone(), Record { data }).is_some() {
                return Err(error(ErrorKind::Duplicate(crate::bytes::Offset(at))));
            }
        }
        Ok(Self { stream, storages, counts, end: cursor.position().0 })
    }

    /// One past the last record.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes that the records spend on their counts.
    pub fn count_bytes(&self) -> u64 {
        self.counts
    }

    /// Every record.
    pub fn records(&self) -> impl Iterator<Item = Span> + '_ {
        self.storages.values().map(|record| record.data)
    }
}

impl Storages for TorchLegacy {
    fn storage(&self, key: &str, nbytes: u64) -> Result<Storage, Error> {
        let record =
            self.storages.get(key).ok_or_else(|| Error::new(Some(key), self.end, ErrorKind::Missing))?;
        if record.data.len() != nbytes {
            let kind = ErrorKind::Length { got: record.data.len(), expected: nbytes };
            return Err(Error::new(Some(key), record.data.start(), kind));
        }
        Ok(Storage {
            key: key.into(),
            entry: None,
            place: Place::Stored { stream: self.stream, span: record.data },
            len: record.data.len(),
            big_endian: false,
            crc32: None,
        })
    }
}
