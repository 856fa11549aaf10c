//! Torch's tar archive (torch before 0.1.10).
//!
//! ```text
//! sys_info   pickle  {"protocol_version", "little_endian", "type_sizes"}
//! pickle     pickle  the object; persistent ids are the numbers, as text, of the tensors and storages below
//! tensors    pickle  count; for each tensor:   pickle (number, number of its storage, class)
//!            i32 dimensions, 4 bytes unused, i64 sizes, i64 strides, i64 offset
//! storages   pickle  count; for each storage:  pickle (number, location, class), i64 elements, the elements
//!            pickle  [(number, number of its root, offset, elements), …]: storages that are part of others
//! ```
//!
//! Source: `legacy_load` in `_legacy_load` of `torch/serialization.py`. The pickles between the records are read by
//! `checkpoint`; here are the archive's members, the records' layout, and the tables.

use std::collections::HashMap;

use tar::{EntryType, PaxExtensions};

use crate::bytes::{Cursor, Positioned, ReadAt, Span, length, read_vec};
use crate::limits::{LimitKind, Limits, check};
use crate::tensor::{Dtype, Place, Storage, StreamId};

use super::error::{Error, ErrorKind};
use super::storages::{Numbered, Storages};

/// The members of an archive: names and where their bytes are.
#[derive(Debug)]
pub struct Tar {
    members: Vec<(Box<str>, Span)>,
    /// Bytes of the members without their padding.
    end: u64,
}

/// Headers and padding are in blocks of this many bytes.
const BLOCK: u64 = 512;

impl Tar {
    /// Reads every header. `None` where the archive is not torch's: without `pickle` and `storages`.
    ///
    /// # Errors
    /// Links, devices, names that leave the archive or stand twice, extensions that change a name or a size.
    pub fn open(source: &dyn ReadAt, limits: &Limits) -> Result<Option<Self>, Error> {
        let mut archive = tar::Archive::new(Positioned::new(source));
        let mut members: Vec<(Box<str>, Span)> = Vec::new();
        let mut seen = HashMap::new();
        let mut end = 0_u64;
        for entry in archive.entries_with_seek().map_err(|e| fail(0, e))?.raw(true) {
            let entry = entry.map_err(|e| fail(end, e))?;
            let at = entry.raw_header_position();
            let data = Span::new(entry.raw_file_position(), entry.size());
            let data = data.filter(|data| data.end() <= source.size());
            let data = data.ok_or_else(|| truncated(source, at, entry.size()))?;
            end = data.end().checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX).min(source.size());
            if entry.header().entry_type() == EntryType::XHeader {
                check_extensions(source, data, at)?;
                continue;
            }
            let name = name(&entry.path_bytes()).ok_or_else(|| Error::new(None, at, ErrorKind::Name))?;
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {}
                EntryType::Directory => continue,
                EntryType::Link | EntryType::Symlink => {
                    return Err(Error::new(Some(&name), at, ErrorKind::Link));
                }
                _ => return Err(Error::new(Some(&name), at, ErrorKind::Name)),
            }
            check(LimitKind::Entries, length(limits.entries), length(members.len()))
                .map_err(|e| Error::new(None, at, e))?;
            if let Some(first) = seen.insert(name.to_lowercase(), at) {
                let kind = ErrorKind::Duplicate(crate::bytes::Offset(first));
                return Err(Error::new(Some(&name), at, kind));
            }
            members.push((name, data));
        }
        let tar = Self { members, end };
        Ok((tar.member("pickle").is_some() && tar.member("storages").is_some()).then_some(tar))
    }

    /// Where the bytes of a member are.
    pub fn member(&self, name: &str) -> Option<Span> {
        self.members.iter().find(|(member, _)| &**member == name).map(|(_, span)| *span)
    }

    /// Every member.
    pub fn members(&self) -> impl Iterator<Item = (&str, Span)> {
        self.members.iter().map(|(name, span)| (&**name, *span))
    }

    /// One past the last member; blocks of zeros follow.
    pub fn end(&self) -> u64 {
        self.end
    }
}

/// The crate reports a broken header as an I/O error of no kind.
fn fail(at: u64, error: std::io::Error) -> Error {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::Other | Kind::InvalidData | Kind::InvalidInput | Kind::UnexpectedEof => {
            let kind = ErrorKind::Record { got: error.to_string(), expected: "a tar header" };
            Error::new(None, at, kind)
        }
        _ => Error::io(None, at, error),
    }
}

fn truncated(source: &dyn ReadAt, at: u64, wanted: u64) -> Error {
    let left = source.size().saturating_sub(at).saturating_sub(BLOCK);
    Error::new(None, at, crate::bytes::ErrorKind::Truncated { wanted, left })
}

/// A relative name of plain parts, without `./` before it.
fn name(bytes: &[u8]) -> Option<Box<str>> {
    let name = std::str::from_utf8(bytes).ok()?;
    let name = name.strip_prefix("./").unwrap_or(name);
    let plain =
        |part: &str| part != ".." && part != "." && !part.chars().any(|c| c.is_control() || c == '\\');
    let name = name.strip_suffix('/').unwrap_or(name);
    (!name.starts_with('/') && name.split('/').all(plain)).then(|| name.into())
}

/// Python writes times and owners that do not fit the header as extensions. Any other could give the next member
/// another name or size than its header says, which not every reader takes.
fn check_extensions(source: &dyn ReadAt, data: Span, at: u64) -> Result<(), Error> {
    const HARMLESS: &[&[u8]] =
        &[b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname", b"comment"];
    const LONGEST: u64 = 64 * 1024;
    let odd = |got: String| ErrorKind::Record { got, expected: "an extension of times or owners" };
    if data.len() > LONGEST {
        return Err(Error::new(None, at, odd(format!("{} bytes", data.len()))));
    }
    let bytes = read_vec(source, data).map_err(|e| Error::io(None, at, e))?;
    for extension in PaxExtensions::new(&bytes) {
        let extension = extension.map_err(|e| fail(at, e))?;
        if !HARMLESS.contains(&extension.key_bytes()) {
            let key = extension.key_bytes().escape_ascii().take(64).map(char::from).collect();
            return Err(Error::new(None, at, odd(key)));
        }
    }
    Ok(())
}

/// A record of the member `storages`.
#[derive(Debug, Clone, Copy)]
struct Record {
    dtype: Dtype,
    data: Span,
}

/// A record of the member `tensors`.
#[derive(Debug, Clone)]
struct Shape {
    /// `None` for a tensor that never had one.
    storage: Option<Box<str>>,
    sizes: Vec<i64>,
    strides: Vec<i64>,
    offset: i64,
}

/// The tensors and storages of an archive, by number.
#[derive(Debug, Default)]
pub struct TorchTar {
    storages: HashMap<Box<str>, Record>,
    tensors: HashMap<Box<str>, Shape>,
    /// Bytes of the storages' elements.
    stored: u64,
}

impl TorchTar {
    /// Reads what follows the pickle of a storage: the number of its elements, and where they are. The position after
    /// them.
    ///
    /// # Errors
    /// Truncation, a negative count, a number that stands twice.
    pub fn storage(
        &mut self,
        source: &dyn ReadAt,
        span: Span,
        key: &str,
        dtype: Dtype,
    ) -> Result<u64, Error> {
        let mut cursor = Cursor::new(source, span);
        let error = |kind: ErrorKind| Error::new(Some("storages"), span.start(), kind);
        let count = i64::from_le_bytes(cursor.array().map_err(|e| error(e.kind.into()))?);
        let wrong = || ErrorKind::Record { got: count.to_string(), expected: "a number of elements" };
        let count = u64::try_from(count).map_err(|_| error(wrong()))?;
        let nbytes = count.checked_mul(dtype.size()).ok_or_else(|| error(wrong()))?;
        let data = cursor.skip(nbytes).map_err(|e| error(e.kind.into()))?;
        self.stored = self.stored.saturating_add(data.len());
        self.insert(key, Record { dtype, data }, span.start())?;
        Ok(data.end())
    }

    /// A storage that is part of another, in elements.
    ///
    /// # Errors
    /// A root that is missing, a part beyond it, a number that stands twice.
    pub fn view(&mut self, key: &str, root: &str, offset: u64, count: u64, at: u64) -> Result<(), Error> {
        let error = |kind: ErrorKind| Error::new(Some("storages"), at, kind);
        let root = *self.storages.get(root).ok_or_else(|| error(ErrorKind::Missing))?;
        let bytes = |n: u64| n.checked_mul(root.dtype.size());
        let data = bytes(offset).zip(bytes(count)).and_then(|(offset, len)| root.data.sub(offset, len));
        let outside = ErrorKind::Length { got: root.data.len(), expected: offset.saturating_add(count) };
        let data = data.ok_or_else(|| error(outside))?;
        self.insert(key, Record { dtype: root.dtype, data }, at)
    }

    fn insert(&mut self, key: &str, record: Record, at: u64) -> Result<(), Error> {
        let doubled = || Error::new(Some("storages"), at, ErrorKind::Duplicate(crate::bytes::Offset(at)));
        if self.storages.insert(key.into(), record).is_some() { Err(doubled()) } else { Ok(()) }
    }

    /// Reads what follows the pickle of a tensor: dimensions, sizes, strides and offset. The position after them.
    ///
    /// # Errors
    /// Truncation, more dimensions than the limit, a number that stands twice.
    pub fn tensor(
        &mut self,
        source: &dyn ReadAt,
        span: Span,
        key: &str,
        storage: Option<&str>,
        limits: &Limits,
    ) -> Result<u64, Error> {
        let mut cursor = Cursor::new(source, span);
        let error = |kind: ErrorKind| Error::new(Some("tensors"), span.start(), kind);
        let read = |e: crate::bytes::Error| error(e.kind.into());
        let rank = i32::from_le_bytes(cursor.array().map_err(read)?);
        let wrong = || ErrorKind::Record { got: rank.to_string(), expected: "a number of dimensions" };
        let rank = u64::try_from(rank).map_err(|_| error(wrong()))?;
        check(LimitKind::Rank, length(limits.rank), rank).map_err(|e| error(e.into()))?;
        // Written as the upper half of a wider number, and never read.
        cursor.array::<4>().map_err(read)?;
        let mut numbers = |n: u64| -> Result<Vec<i64>, Error> {
            (0..n).map(|_| cursor.array().map(i64::from_le_bytes).map_err(read)).collect()
        };
        let (sizes, strides, offset) = (numbers(rank)?, numbers(rank)?, numbers(1)?);
        let shape = Shape {
            storage: storage.map(Box::from),
            sizes,
            strides,
            offset: offset.first().copied().unwrap_or(0),
        };
        let end = cursor.position().0;
        let doubled = self.tensors.insert(key.into(), shape).is_some() || self.storages.contains_key(key);
        let kind = ErrorKind::Duplicate(crate::bytes::Offset(span.start()));
        if doubled { Err(error(kind)) } else { Ok(end) }
    }

    /// Bytes of the elements of all storages.
    pub fn stored(&self) -> u64 {
        self.stored
    }
}

impl Storages for TorchTar {
    fn storage(&self, key: &str, nbytes: u64) -> Result<Storage, Error> {
        let missing = || Error::new(Some("storages"), 0, ErrorKind::Missing);
        let record = self.storages.get(key).ok_or_else(missing)?;
        if record.data.len() != nbytes {
            let kind = ErrorKind::Length { got: record.data.len(), expected: nbytes };
            return Err(Error::new(Some("storages"), record.data.start(), kind));
        }
        Ok(Storage {
            key: key.into(),
            entry: Some("storages".into()),
            place: Place::Stored { stream: StreamId::SOURCE, span: record.data },
            len: nbytes,
            big_endian: false,
            crc32: None,
        })
    }

    fn numbered(&self, key: &str) -> Option<Numbered<'_>> {
        if let Some(shape) = self.tensors.get(key) {
            let Shape { storage, sizes, strides, offset } = shape;
            return Some(Numbered::Tensor { storage: storage.as_deref(), sizes, strides, offset: *offset });
        }
        let Record { dtype, data } = *self.storages.get(key)?;
        Some(Numbered::Storage { dtype, nbytes: data.len() })
    }

    fn is_numbered(&self) -> bool {
        true
    }
}
