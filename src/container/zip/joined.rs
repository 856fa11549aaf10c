//! Archives that follow each other in one file, each whole by itself, as `torch.distributed.checkpoint` writes the entries of
//! a rank: what one `torch.save` wrote ends where the next begins.
//!
//! Such a file is none that a reader of archives takes, and each that tries finds one of two: the last archive, if it
//! counts offsets from what stands before it (Python's `zipfile`), or what the last end record leads to if they are
//! taken as they stand (torch's miniz). The latter may lead anywhere in the first archives, into data of an
//! attacker's choice, which is why it has to lead nowhere, or to the directory of the very first archive.

use std::io;

use crate::bytes::{Part, ReadAt, Span, index, read_vec};
use crate::limits::Limits;

use super::Archive;
use super::fields::{u32_at, u64_at};

const END_RECORD_LEN: u64 = 22;
const LOCATOR_LEN: u64 = 20;
const RECORD_LEN: u64 = 56;

/// Where the end of an archive leads.
struct End {
    /// Where the archive begins, and where its directory and its zip64 record begin, from there.
    start: u64,
    directory: u64,
    record: Option<u64>,
}

/// The archives that a file consists of, in order, each opened and without a byte of no use; `None` for anything else than
/// two or more.
///
/// # Errors
/// Those of reading.
pub(crate) fn joined(
    source: &std::sync::Arc<dyn ReadAt>,
    limits: &Limits,
) -> io::Result<Option<Vec<(Span, Archive)>>> {
    let mut ends = Vec::new();
    let mut at = source.size();
    while at > 0 {
        let Some(end) = End::at(source, at)? else { return Ok(None) };
        if end.start >= at || ends.len() >= limits.entries {
            return Ok(None);
        }
        let span = Span::between(end.start, at);
        at = end.start;
        ends.push((span, end));
    }
    ends.reverse();
    let ([(_, first), .., (_, last)], false) = (ends.as_slice(), ends.len() < 2) else { return Ok(None) };
    if last.leads_astray(source, first)? {
        return Ok(None);
    }
    let mut archives = Vec::with_capacity(ends.len());
    for (span, _) in ends {
        let Some(part) = Part::new(source.clone(), span) else { return Ok(None) };
        match Archive::open(&part, limits) {
            Ok(archive) if archive.strays().is_empty() && archive.end() == span.len() => {
                archives.push((span, archive));
            }
            Ok(_) => return Ok(None),
            Err(error) if error.is_io() => return Err(io::Error::other(error.to_string())),
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(archives))
}

impl End {
    /// The end of an archive that ends at `end`, with no comment.
    fn at(source: &dyn ReadAt, end: u64) -> io::Result<Option<Self>> {
        let Some(at) = end.checked_sub(END_RECORD_LEN) else { return Ok(None) };
        let record = read_vec(source, Span::between(at, end))?;
        if !record.starts_with(b"PK\x05\x06") || record.last_chunk::<2>() != Some(&[0, 0]) {
            return Ok(None);
        }
        let (mut size, mut directory) = (u64::from(u32_at(&record, 12)), u64::from(u32_at(&record, 16)));
        let mut stop = at;
        let mut wide = None;
        if let Some(begin) = at.checked_sub(LOCATOR_LEN.saturating_add(RECORD_LEN)) {
            let bytes = read_vec(source, Span::between(begin, at))?;
            let (record, locator) = bytes.split_at_checked(index(RECORD_LEN)).unwrap_or_default();
            if record.starts_with(b"PK\x06\x06") && locator.starts_with(b"PK\x06\x07") {
                (size, directory) = (u64_at(record, 40), u64_at(record, 48));
                (stop, wide) = (begin, Some(u64_at(locator, 8)));
            }
        }
        let start = size.checked_add(directory).and_then(|len| stop.checked_sub(len));
        Ok(start.map(|start| Self { start, directory, record: wide }))
    }

    /// Whether offsets that are taken as they stand lead to another directory than that of the first archive.
    fn leads_astray(&self, source: &dyn ReadAt, first: &Self) -> io::Result<bool> {
        let places = [(b"PK\x01\x02", Some(self.directory), Some(first.directory))];
        let wide = (b"PK\x06\x06", self.record, first.record);
        for (signature, place, own) in places.into_iter().chain([wide]) {
            let Some(at) = place.filter(|_| place != own) else { continue };
            let Some(span) = Span::new(at, 4).filter(|span| span.end() <= source.size()) else { continue };
            if read_vec(source, span)?.starts_with(signature) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// An archive of one stored member.
    fn archive(name: &str, data: &[u8]) -> Vec<u8> {
        let long = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
        let crc = crc32fast::hash(data).to_le_bytes();
        let fixed =
            [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0], &crc[..], &long(data.len()), &long(data.len())].concat();
        let fixed = [&fixed[..], &long(name.len())].concat();
        let local = [b"PK\x03\x04", &fixed[..], name.as_bytes(), data].concat();
        let central = [b"PK\x01\x02\x14\0", &fixed[..], &[0; 14], name.as_bytes()].concat();
        let end = [b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &long(central.len())[..], &long(local.len()), &[0, 0]];
        [local, central, end.concat()].concat()
    }

    fn spans(bytes: Vec<u8>) -> Option<Vec<Span>> {
        let source: Arc<dyn ReadAt> = Arc::new(bytes);
        let joined = joined(&source, &Limits::default()).unwrap()?;
        Some(joined.into_iter().map(|(span, _)| span).collect())
    }

    #[test]
    fn archives_that_follow_each_other_are_told_apart() {
        let (a, b) = (archive("a", b"first"), archive("b", b"second one"));
        let (n, m) = (a.size(), b.size());
        assert_eq!(spans([&a[..], &b].concat()), Some(vec![Span::between(0, n), Span::between(n, n + m)]));
        assert_eq!(spans([&a[..], &a, &a].concat()).unwrap().len(), 3);
        assert_eq!(spans(a.clone()), None);
        assert_eq!(spans(Vec::new()), None);
        for other in [[&a[..], b"x", &b].concat(), [&a[..], &b, b"x"].concat(), [b"x", &a[..], &b].concat()] {
            assert_eq!(spans(other), None);
        }
    }

    #[test]
    fn a_directory_that_only_offsets_as_they_stand_lead_to_is_none_of_theirs() {
        // The last archive's directory begins at 48 in it, and 48 bytes into the file lies another.
        let last = archive("b", &[0; 17]);
        let hidden = archive("a", &[&[0; 17][..], b"PK\x01\x02", &[0; 60]].concat());
        assert_eq!(spans([&archive("a", &[0; 80])[..], &last].concat()).unwrap().len(), 2);
        assert_eq!(spans([&hidden[..], &last].concat()), None);
    }
}
