//! Zip archives as checkpoints have them. The `zip` crate reads the directory and compares each local header with it;
//! here is what it does not check and readers of checkpoints disagree on: flags, gaps, prefix, comment, extra fields,
//! names that differ in letter case alone, trailing data.
//!
//! Format: APPNOTE.TXT of PKWARE. What torch's reader (miniz) and Python's `zipfile` take differently is listed in
//! `docs/threat-model.md`.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::io::{self, Read, Seek};
use std::sync::Arc;

use zip::read::{ArchiveOffset, Config, ZipArchive, ZipReadOptions};

use crate::bytes::{Cursor, Positioned, ReadAt, Span, index, length, read_vec};
use crate::limits::{LimitKind, Limits, check};

use super::error::{Error, ErrorKind};

/// How a member is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// As it is.
    Stored,
    /// Deflated.
    Deflated,
}

/// A member of an archive, its headers checked against each other.
#[derive(Debug, Clone)]
pub struct Member {
    /// Full name.
    pub name: Box<str>,
    /// How it is stored.
    pub method: Method,
    /// Where its stored bytes are.
    pub data: Span,
    /// Bytes, once inflated.
    pub size: u64,
    /// CRC-32 of the inflated bytes, as stated.
    pub crc32: u32,
    /// Where its local header begins.
    pub header: u64,
    /// Position in the directory.
    index: usize,
}

/// Bytes where none belong: dropped by a conversion, and recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Where.
    pub span: Span,
    /// What kind of place.
    pub what: &'static str,
    /// Member that they belong to, if any.
    pub entry: Option<Box<str>>,
}

impl std::fmt::Display for Stray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, n, at) = (self.what, self.span.len(), crate::bytes::Offset(self.span.start()));
        match &self.entry {
            Some(entry) => write!(f, "{}: {what} of {n} bytes at {at}", entry.escape_debug()),
            None => write!(f, "{what} of {n} bytes at {at}"),
        }
    }
}

/// A zip archive, opened and checked; no weights are read.
#[derive(Debug)]
pub struct Archive {
    members: Vec<Member>,
    by_name: HashMap<Box<str>, usize>,
    strays: Vec<Stray>,
    /// Where the archive ends; what follows is trailing data.
    end: u64,
    checksums: bool,
}

const END_RECORD: &[u8] = b"PK\x05\x06";
const END_RECORD_LEN: u64 = 22;
const ZIP64_LOCATOR: &[u8] = b"PK\x06\x07";
const ZIP64_RECORD: &[u8] = b"PK\x06\x06";
const LOCAL_HEADER_LEN: u64 = 30;
/// Data descriptor, UTF-8 name, and the two bits that say how hard deflate tried.
const KNOWN_FLAGS: u16 = 0x080e;
const DESCRIPTOR_FLAG: u16 = 0x0008;

impl Archive {
    /// Reads the directory and every local header.
    ///
    /// # Errors
    /// Whatever two readers could take differently, with both sides; limits; I/O.
    pub fn open(source: &dyn ReadAt, limits: &Limits) -> Result<Self, Error> {
        let end = EndRecord::find(source)?;
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let mut zip = ZipArchive::with_config(config, Positioned::new(source))
            .map_err(|e| Error::new(None, end.at, ErrorKind::Archive(Arc::new(e))))?;
        check(LimitKind::Entries, length(limits.entries), length(zip.len()))
            .map_err(|e| Error::new(None, end.at, e))?;
        if zip.has_duplicate_names() {
            return Err(duplicate_of_the_directory(&mut zip, end.at));
        }
        let mut archive = Self {
            members: Vec::with_capacity(zip.len()),
            by_name: HashMap::with_capacity(zip.len()),
            strays: Vec::new(),
            end: end.end,
            checksums: false,
        };
        let mut headers = Vec::with_capacity(zip.len());
        for position in 0..zip.len() {
            let (member, header) = member(source, &mut zip, position, limits)?;
            archive.checksums |= member.size > 0 && member.crc32 != 0;
            archive.strays.extend(header.strays(&member));
            headers.push(header);
            archive.members.push(member);
        }
        archive.check_inner_ends(&end)?;
        archive.index_names()?;
        let strays = end.directory.walk(source, &archive.members)?;
        archive.strays.extend(strays);
        archive.check_gaps(source, &headers, zip.central_directory_start())?;
        if end.comment > 0 {
            let span = Span::between(end.end.saturating_sub(end.comment), end.end);
            archive.strays.push(Stray { span, what: "archive comment", entry: None });
        }
        Ok(archive)
    }

    /// Every member, in the order of the directory.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member of this exact name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.by_name.get(name).and_then(|i| self.members.get(*i))
    }

    /// Bytes where none belong.
    pub fn strays(&self) -> &[Stray] {
        &self.strays
    }

    /// One past the last byte of the archive.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The checksum that a member's bytes must have. None where the writer was told to leave them out: then every
    /// non-empty member states zero.
    pub fn checksum(&self, member: &Member) -> Option<u32> {
        (self.checksums && member.size > 0).then_some(member.crc32)
    }

    /// The bytes of a small member in memory, inflated and with their checksum verified.
    ///
    /// # Errors
    /// Above `limit` bytes, on a wrong checksum or length, or where reading fails.
    pub fn read(&self, source: &dyn ReadAt, member: &Member, limit: u64) -> Result<Vec<u8>, Error> {
        let error = |kind: ErrorKind| Error::new(Some(&member.name), member.data.start(), kind);
        check(LimitKind::InflatedPickle, limit, member.size).map_err(|e| error(e.into()))?;
        let bytes = match member.method {
            Method::Stored => read_vec(source, member.data),
            Method::Deflated => inflate(source, member),
        };
        let bytes = bytes.map_err(|e| Error::io(Some(&member.name), member.data.start(), e))?;
        if length(bytes.len()) != member.size {
            return Err(error(ErrorKind::Length { got: length(bytes.len()), expected: member.size }));
        }
        let got = crc32fast::hash(&bytes);
        match self.checksum(member) {
            Some(stated) if stated != got => Err(error(ErrorKind::Crc { got, stated })),
            _ => Ok(bytes),
        }
    }

    /// The first bytes of a member, inflated, at most `n`. They are not verified.
    ///
    /// # Errors
    /// Where reading fails or the compressed data is damaged.
    pub fn head(&self, source: &dyn ReadAt, member: &Member, n: u64) -> Result<Vec<u8>, Error> {
        let n = n.min(member.size);
        let fail = |e| Error::io(Some(&member.name), member.data.start(), e);
        match member.method {
            Method::Stored => {
                let start = member.data.start();
                read_vec(source, Span::between(start, start.saturating_add(n))).map_err(fail)
            }
            Method::Deflated => {
                let mut reader = Positioned::new(source);
                reader.seek(io::SeekFrom::Start(member.data.start())).map_err(fail)?;
                let mut bytes = Vec::new();
                let mut inflated = flate2::read::DeflateDecoder::new(reader.take(member.data.len()));
                inflated.by_ref().take(n).read_to_end(&mut bytes).map_err(|e| {
                    Error::new(
                        Some(&member.name),
                        member.data.start(),
                        ErrorKind::Archive(Arc::new(e.into())),
                    )
                })?;
                Ok(bytes)
            }
        }
    }

    /// Checks the bytes of a stored member against its checksum, in fixed memory.
    ///
    /// # Errors
    /// A wrong checksum; I/O.
    pub fn verify(&self, source: &dyn ReadAt, member: &Member) -> Result<(), Error> {
        /// Bytes read at a time.
        const BLOCK: u64 = 256 * 1024;
        let Some(stated) = self.checksum(member) else { return Ok(()) };
        let mut hasher = crc32fast::Hasher::new();
        let mut at = member.data.start();
        while at < member.data.end() {
            let next = at.saturating_add(BLOCK).min(member.data.end());
            let block = read_vec(source, Span::between(at, next));
            hasher.update(&block.map_err(|e| Error::io(Some(&member.name), at, e))?);
            at = next;
        }
        let got = hasher.finalize();
        let wrong = || Error::new(Some(&member.name), member.data.start(), ErrorKind::Crc { got, stated });
        if got == stated { Ok(()) } else { Err(wrong()) }
    }

    /// Further end records are data of a stored member, or else a second archive that some reader may take.
    fn check_inner_ends(&self, end: &EndRecord) -> Result<(), Error> {
        let inside = |at: &u64| {
            self.members.iter().any(|member| {
                let data = member.data;
                let end = at.saturating_add(END_RECORD_LEN);
                member.method == Method::Stored && data.start() <= *at && end <= data.end()
            })
        };
        if end.inner.iter().all(inside) {
            return Ok(());
        }
        let found = end.inner.len().saturating_add(1);
        Err(Error::new(None, end.at, ErrorKind::EndRecords { found }))
    }

    /// Torch finds records whatever their letter case; Python's reader does not. Names that differ in it alone, or not
    /// at all, are therefore refused.
    fn index_names(&mut self) -> Result<(), Error> {
        let mut folded: HashMap<String, usize> = HashMap::with_capacity(self.members.len());
        for (i, member) in self.members.iter().enumerate() {
            match folded.entry(member.name.to_lowercase()) {
                Slot::Vacant(slot) => _ = slot.insert(i),
                Slot::Occupied(slot) => {
                    let first = self.members.get(*slot.get()).map_or(0, |m| m.header);
                    let kind = ErrorKind::Duplicate(crate::bytes::Offset(first));
                    return Err(Error::new(Some(&member.name), member.header, kind));
                }
            }
            self.by_name.insert(member.name.clone(), i);
        }
        Ok(())
    }

    /// Members must tile the archive: the first begins at byte 0, none overlap, and between one's end and the next
    /// header stands its data descriptor and nothing else. Anything else there is stray.
    fn check_gaps(
        &mut self,
        source: &dyn ReadAt,
        headers: &[LocalHeader],
        directory: u64,
    ) -> Result<(), Error> {
        let mut order: Vec<(&Member, &LocalHeader)> = self.members.iter().zip(headers).collect();
        order.sort_by_key(|(member, _)| member.header);
        if let Some((first, _)) = order.first()
            && first.header != 0
        {
            return Err(Error::new(Some(&first.name), first.header, ErrorKind::Prefix(first.header)));
        }
        let mut strays = Vec::new();
        let starts = order.iter().skip(1).map(|(next, _)| next.header).chain([directory]);
        let following = order.iter().skip(1).map(|(next, _)| &*next.name).chain(["directory"]);
        for (((member, header), next), next_name) in order.iter().zip(starts).zip(following) {
            let descriptor = header.descriptor(source, member, next)?;
            let end = member.data.end().saturating_add(descriptor);
            if end > next {
                return Err(Error::new(
                    Some(&member.name),
                    member.header,
                    ErrorKind::Overlap(next_name.into()),
                ));
            }
            if end < next {
                let entry = Some(member.name.clone());
                strays.push(Stray { span: Span::between(end, next), what: "gap between members", entry });
            }
        }
        self.strays.extend(strays);
        Ok(())
    }
}

/// The one end-of-directory record.
struct EndRecord {
    /// Others before it, which have to lie inside stored members: archives in the archive.
    inner: Vec<u64>,
    at: u64,
    end: u64,
    comment: u64,
    directory: Directory,
}

/// Where the directory is, and how many entries it says that it has.
#[derive(Debug, Clone, Copy, Default)]
struct Directory {
    span: Span,
    count: u64,
}

impl Directory {
    /// Its entries must fill it: readers that go by its size find more than those that go by the count. Reports what
    /// their extra fields and comments carry.
    fn walk(self, source: &dyn ReadAt, members: &[Member]) -> Result<Vec<Stray>, Error> {
        const HEADER: &[u8] = b"PK\x01\x02";
        let mut strays = Vec::new();
        let mut cursor = Cursor::new(source, self.span);
        for i in 0..self.count {
            let at = cursor.position().0;
            let truncated = |e: crate::bytes::Error| Error::new(None, at, e.kind);
            let fixed = cursor.array::<46>().map_err(truncated)?;
            if !fixed.starts_with(HEADER) {
                let got = fixed.get(..4).unwrap_or_default().escape_ascii().to_string();
                let kind = ErrorKind::Record { got, expected: "an entry of the directory" };
                return Err(Error::new(None, at, kind));
            }
            cursor.skip(u64::from(u16_at(&fixed, 28))).map_err(truncated)?;
            let entry = || members.get(index(i)).map(|member| member.name.clone());
            let extra = cursor.position().0;
            let bytes = cursor.take(u64::from(u16_at(&fixed, 30))).map_err(truncated)?;
            if !is_clean(bytes) {
                let span = Span::between(extra, extra.saturating_add(length(bytes.len())));
                strays.push(Stray { span, what: "extra field in the directory", entry: entry() });
            }
            let comment = cursor.skip(u64::from(u16_at(&fixed, 32))).map_err(truncated)?;
            if !comment.is_empty() {
                strays.push(Stray { span: comment, what: "member comment", entry: entry() });
            }
        }
        let (got, expected) = (cursor.position().0, self.span.end());
        if got != expected {
            return Err(Error::new(None, got, ErrorKind::Displaced { got, expected }));
        }
        Ok(strays)
    }
}

impl EndRecord {
    fn find(source: &dyn ReadAt) -> Result<Self, Error> {
        /// A comment cannot be longer, so that an end record cannot lie further from the end of its archive.
        const LONGEST: u64 = 65_535 + END_RECORD_LEN;
        let size = source.size();
        let tail_start = size.saturating_sub(LONGEST);
        let tail =
            read_vec(source, Span::between(tail_start, size)).map_err(|e| Error::io(None, tail_start, e))?;
        let mut found = Vec::new();
        for (i, window) in tail.windows(index(END_RECORD_LEN)).enumerate() {
            if let Some(record) = window.strip_prefix(END_RECORD) {
                let at = tail_start.saturating_add(length(i));
                let comment = record.last_chunk::<2>().map_or(0, |c| u64::from(u16::from_le_bytes(*c)));
                let end = at.saturating_add(END_RECORD_LEN).saturating_add(comment);
                if end <= size {
                    let found_here =
                        Self { inner: Vec::new(), at, end, comment, directory: Directory::default() };
                    found.push((found_here, record.to_vec()));
                }
            }
        }
        let count = found.len();
        let several = || Error::new(None, size, ErrorKind::EndRecords { found: count });
        let (mut end, record) = found.pop().ok_or_else(several)?;
        end.inner = found.iter().map(|(other, _)| other.at).collect();
        // One that lies among the members may be part of one; the last must then end the file for every reader.
        let start = u64::from(u32_at(&record, 12));
        if !end.inner.is_empty() && (end.end != size || end.inner.iter().any(|at| *at >= start)) {
            return Err(several());
        }
        end.directory = end.check_directory(source, &record)?;
        Ok(end)
    }

    /// The directory must end where the end record (or the zip64 record before it) begins. In joined archives and
    /// behind foreign data it does not, and readers that trust offsets find another archive than those that search.
    fn check_directory(&self, source: &dyn ReadAt, record: &[u8]) -> Result<Directory, Error> {
        const FIELDS: [&str; 6] = [
            "disk",
            "disk of the directory",
            "members on this disk",
            "members",
            "directory size",
            "directory start",
        ];
        let word = |at: usize| u64::from(u16_at(record, at));
        let long = |at: usize| u64::from(u32_at(record, at));
        let narrow = [word(0), word(2), word(4), word(6), long(8), long(12)];
        let (numbers, expected) = match self.zip64(source)? {
            Some((zip64, at)) => {
                // What does not fit is all ones; anything else must be the same, because some readers take it.
                let widest = [0xffff, 0xffff, 0xffff, 0xffff, 0xffff_ffff, 0xffff_ffff];
                for (field, ((end, zip64), all_ones)) in
                    FIELDS.iter().zip(narrow.into_iter().zip(zip64).zip(widest))
                {
                    if end != zip64 && end != all_ones {
                        return Err(Error::new(
                            None,
                            self.at,
                            ErrorKind::EndDisagreement { field, end, zip64 },
                        ));
                    }
                }
                (zip64, at)
            }
            None => (narrow, self.at),
        };
        let [disk, first_disk, here, count, size, start] = numbers;
        if disk != 0 || first_disk != 0 || here != count {
            let got = format!("disk {disk}, {here} of {count} members");
            let kind = ErrorKind::Record { got, expected: "an archive of one disk" };
            return Err(Error::new(None, self.at, kind));
        }
        let got = start.saturating_add(size);
        if got != expected {
            return Err(Error::new(None, self.at, ErrorKind::Displaced { got, expected }));
        }
        Ok(Directory { span: Span::between(start, got), count })
    }

    /// The numbers of the zip64 record in the order of the end record's, and where that record begins.
    fn zip64(&self, source: &dyn ReadAt) -> Result<Option<([u64; 6], u64)>, Error> {
        const LOCATOR_LEN: u64 = 20;
        const RECORD_LEN: u64 = 56;
        let Some(locator_at) = self.at.checked_sub(LOCATOR_LEN) else { return Ok(None) };
        let mut locator = [0; 20];
        source.read_exact_at(&mut locator, locator_at).map_err(|e| Error::io(None, locator_at, e))?;
        let Some(rest) = locator.strip_prefix(ZIP64_LOCATOR) else { return Ok(None) };
        let record_at = u64_at(rest, 4);
        let expected = locator_at.saturating_sub(RECORD_LEN);
        let mut record = [0; 56];
        let read = record_at.checked_add(RECORD_LEN).is_some_and(|end| end <= locator_at);
        if read {
            source.read_exact_at(&mut record, record_at).map_err(|e| Error::io(None, record_at, e))?;
        }
        match record.strip_prefix(ZIP64_RECORD) {
            Some(rest) if record_at == expected => {
                let disks = [u64::from(u32_at(rest, 12)), u64::from(u32_at(rest, 16))];
                let numbers = [20, 28, 36, 44].map(|at| u64_at(rest, at));
                let [disk, first_disk] = disks;
                let [here, count, size, start] = numbers;
                Ok(Some(([disk, first_disk, here, count, size, start], record_at)))
            }
            _ => Err(Error::new(None, locator_at, ErrorKind::Displaced { got: record_at, expected })),
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}

type Zip<'a> = ZipArchive<Positioned<'a>>;

/// The directory holds a name twice; the crate keeps the last. Says which, as far as can be told.
fn duplicate_of_the_directory(zip: &mut Zip<'_>, end: u64) -> Error {
    let first = zip.by_index_raw(0).ok().and_then(|file| file.name().ok().map(std::borrow::Cow::into_owned));
    Error::new(
        first.as_deref(),
        end,
        ErrorKind::Duplicate(crate::bytes::Offset(zip.central_directory_start())),
    )
}

fn member(
    source: &dyn ReadAt,
    zip: &mut Zip<'_>,
    position: usize,
    limits: &Limits,
) -> Result<(Member, LocalHeader), Error> {
    let (name, header, flags) = {
        let file = zip.by_index_raw(position).map_err(|e| archive_error(None, 0, e))?;
        let header = file.header_start();
        let raw = file.name_raw();
        let name = std::str::from_utf8(raw).ok().filter(|name| is_safe(name));
        let shown = String::from_utf8_lossy(raw).into_owned();
        let refuse = |kind: ErrorKind| Error::new(Some(&shown), header, kind);
        let name: Box<str> = name.ok_or_else(|| refuse(ErrorKind::Name))?.into();
        if file.is_symlink() {
            return Err(refuse(ErrorKind::Link));
        }
        (name, header, file.flags().as_u16())
    };
    let local = LocalHeader::read(source, &name, header)?;
    if local.flags != flags {
        let (local, central) = (u64::from(local.flags), u64::from(flags));
        return Err(Error::new(
            Some(&name),
            header,
            ErrorKind::Disagreement { field: "flags", local, central },
        ));
    }
    if flags & !KNOWN_FLAGS != 0 {
        return Err(Error::new(Some(&name), header, ErrorKind::Flags(flags)));
    }
    if !matches!(local.method, 0 | 8) {
        return Err(Error::new(Some(&name), header, ErrorKind::Method(local.method)));
    }
    let options = ZipReadOptions::new().enforce_header_consistency(true);
    let file =
        zip.by_index_with_options(position, options).map_err(|e| archive_error(Some(&name), header, e))?;
    let data = file.data_start().and_then(|start| Span::new(start, file.compressed_size()));
    let data = data.filter(|data| data.end() <= source.size());
    let left = source.size().saturating_sub(header);
    let truncated = crate::bytes::ErrorKind::Truncated { wanted: file.compressed_size(), left };
    let data = data.ok_or_else(|| Error::new(Some(&name), header, truncated))?;
    let method = if local.method == 0 { Method::Stored } else { Method::Deflated };
    let size = file.size();
    let ratio = size.checked_div(data.len()).unwrap_or(size);
    if method == Method::Deflated {
        check(LimitKind::InflateRatio, limits.inflate_ratio, ratio)
            .map_err(|e| Error::new(Some(&name), header, e))?;
    } else if size != data.len() {
        let kind = ErrorKind::Length { got: data.len(), expected: size };
        return Err(Error::new(Some(&name), header, kind));
    }
    let member =
        Member { method, data, size, crc32: file.crc32(), header, index: position, name: name.clone() };
    Ok((member, local))
}

fn archive_error(entry: Option<&str>, offset: u64, error: zip::result::ZipError) -> Error {
    match error {
        zip::result::ZipError::Io(io) if io.kind() != io::ErrorKind::UnexpectedEof => {
            Error::io(entry, offset, io)
        }
        other => Error::new(entry, offset, ErrorKind::Archive(Arc::new(other))),
    }
}

/// Relative, without parts that climb or that one reader cuts off and another keeps.
fn is_safe(name: &str) -> bool {
    let climbs = name.split('/').any(|part| part == "..");
    !name.is_empty() && !name.starts_with('/') && !climbs && !name.contains(['\0', '\\', '\r', '\n'])
}

/// Whether extra fields carry nothing but sizes, times, owners and torch's padding.
fn is_clean(extra: &[u8]) -> bool {
    let mut rest = extra;
    while let Some((head, after)) = rest.split_first_chunk::<4>() {
        let n = usize::from(u16_at(head, 2));
        let Some((body, next)) = after.split_at_checked(n) else { return false };
        let clean = match u16_at(head, 0) {
            // Torch pads with a field "FB" of the letter Z.
            0x4246 => body.iter().all(|b| *b == b'Z'),
            // Zip64 sizes, and torch's offset; times and owners of Info-ZIP.
            0x0001 => n <= 32,
            0x5455 | 0x7875 | 0x5855 => n <= 20,
            _ => false,
        };
        if !clean {
            return false;
        }
        rest = next;
    }
    rest.is_empty()
}

/// What the local header says that the crate does not pass on.
struct LocalHeader {
    flags: u16,
    method: u16,
    extra: Span,
    extra_bytes: Vec<u8>,
}

impl LocalHeader {
    fn read(source: &dyn ReadAt, name: &str, at: u64) -> Result<Self, Error> {
        let mut fixed = [0; 30];
        source.read_exact_at(&mut fixed, at).map_err(|e| Error::io(Some(name), at, e))?;
        let extra_at = at.saturating_add(LOCAL_HEADER_LEN).saturating_add(u64::from(u16_at(&fixed, 26)));
        let extra = Span::between(extra_at, extra_at.saturating_add(u64::from(u16_at(&fixed, 28))));
        let extra_bytes = read_vec(source, extra).map_err(|e| Error::io(Some(name), extra_at, e))?;
        Ok(Self { flags: u16_at(&fixed, 6), method: u16_at(&fixed, 8), extra, extra_bytes })
    }

    /// Extra fields that carry something.
    fn strays(&self, member: &Member) -> Option<Stray> {
        let entry = Some(member.name.clone());
        (!is_clean(&self.extra_bytes)).then_some(Stray { span: self.extra, what: "extra field", entry })
    }

    /// Length of the data descriptor that follows the data, its numbers checked against the directory.
    fn descriptor(&self, source: &dyn ReadAt, member: &Member, next: u64) -> Result<u64, Error> {
        if self.flags & DESCRIPTOR_FLAG == 0 {
            return Ok(0);
        }
        let at = member.data.end();
        let room = next.saturating_sub(at).min(24);
        let bytes = read_vec(source, Span::between(at, at.saturating_add(room)));
        let bytes = bytes.map_err(|e| Error::io(Some(&member.name), at, e))?;
        let signed: u64 = if bytes.starts_with(b"PK\x07\x08") { 4 } else { 0 };
        let body = bytes.get(index(signed)..).unwrap_or_default();
        let narrow = (u64::from(u32_at(body, 4)), u64::from(u32_at(body, 8)));
        let wide = (u64_at(body, 4), u64_at(body, 12));
        let sizes = (member.data.len(), member.size);
        let crc = u32_at(body, 0);
        // Torch writes the wide form for any member that begins beyond 4 GiB, however small it is.
        let len = match () {
            () if body.len() >= 20 && wide == sizes => signed.saturating_add(20),
            () if body.len() >= 12 && narrow == sizes => signed.saturating_add(12),
            () => {
                let kind = ErrorKind::Disagreement {
                    field: "size in the data descriptor",
                    local: narrow.0,
                    central: sizes.0,
                };
                return Err(Error::new(Some(&member.name), at, kind));
            }
        };
        if crc != member.crc32 {
            let (local, central) = (u64::from(crc), u64::from(member.crc32));
            let kind = ErrorKind::Disagreement { field: "CRC-32 in the data descriptor", local, central };
            return Err(Error::new(Some(&member.name), at, kind));
        }
        Ok(len)
    }
}

/// Inflates a member of bounded size through the crate, which stops at the stated size and checks the checksum.
fn inflate(source: &dyn ReadAt, member: &Member) -> io::Result<Vec<u8>> {
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut zip = ZipArchive::with_config(config, Positioned::new(source))?;
    let file = zip.by_index(member.index)?;
    let mut bytes = Vec::new();
    file.take(member.size.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
