//! Zip archives as checkpoints have them. The `zip` crate reads the directory and compares each local header with it;
//! here is what it does not check and readers of checkpoints disagree on: flags, gaps, prefix, comment, extra fields,
//! names that differ in letter case alone, trailing data.
//!
//! Format: APPNOTE.TXT of PKWARE. What torch's reader (miniz) and Python's `zipfile` take differently is listed in
//! `docs/threat-model.md`.

mod directory;
mod fields;
mod joined;
mod local;
mod member;

pub(crate) use joined::joined;

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::io::{self, Read, Seek};
use std::sync::Arc;

use zip::read::{ArchiveOffset, Config, ZipArchive};

use crate::bytes::{Positioned, ReadAt, Span, Windowed, length, read_vec};
use crate::limits::{LimitKind, Limits, check};

use self::directory::{END_RECORD_LEN, EndRecord};
use self::local::LocalHeader;
use self::member::{duplicate_of_the_directory, member};
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

impl Archive {
    /// Reads the directory and every local header.
    ///
    /// # Errors
    /// Whatever two readers could take differently, with both sides; limits; I/O.
    pub fn open(source: &dyn ReadAt, limits: &Limits) -> Result<Self, Error> {
        let source = &Windowed::new(source);
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

/// Inflates a member of bounded size through the crate, which stops at the stated size and checks the checksum.
fn inflate(source: &dyn ReadAt, member: &Member) -> io::Result<Vec<u8>> {
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut zip = ZipArchive::with_config(config, Positioned::new(source))?;
    let file = zip.by_index(member.index)?;
    let mut bytes = Vec::new();
    file.take(member.size.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
