//! The end of an archive: its end record, the zip64 record before that, and the directory that both point to.

use crate::bytes::{Cursor, ReadAt, Span, index, length, read_vec};

use super::fields::{is_clean, u16_at, u32_at, u64_at};
use super::{Error, ErrorKind, Member, Stray};

const END_RECORD: &[u8] = b"PK\x05\x06";
pub(super) const END_RECORD_LEN: u64 = 22;
const ZIP64_LOCATOR: &[u8] = b"PK\x06\x07";
const ZIP64_RECORD: &[u8] = b"PK\x06\x06";

/// The one end-of-directory record.
pub(super) struct EndRecord {
    /// Others before it, which have to lie inside stored members: archives in the archive.
    pub(super) inner: Vec<u64>,
    pub(super) at: u64,
    pub(super) end: u64,
    pub(super) comment: u64,
    pub(super) directory: Directory,
}

/// Where the directory is, and how many entries it says that it has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Directory {
    span: Span,
    count: u64,
}

impl Directory {
    /// Its entries must fill it: readers that go by its size find more than those that go by the count. Reports what
    /// their extra fields and comments carry.
    pub(super) fn walk(self, source: &dyn ReadAt, members: &[Member]) -> Result<Vec<Stray>, Error> {
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
    pub(super) fn find(source: &dyn ReadAt) -> Result<Self, Error> {
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
