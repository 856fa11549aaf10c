//! [`Windowed`]: few reads where many small ones lie close together.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::{ReadAt, Span, index, length};

/// A page, which is what a disk and its cache give in any case: a local header with its padding, or several of them.
const WINDOW: u64 = 4096;

/// A source of which the last page that was read is kept. An archive of 20,000 members is checked in three small
/// reads for each, of header, extra field and descriptor, and most of them lie in one page.
pub(crate) struct Windowed<'a> {
    source: &'a dyn ReadAt,
    last: Mutex<(u64, Vec<u8>)>,
}

impl<'a> Windowed<'a> {
    pub(crate) fn new(source: &'a dyn ReadAt) -> Self {
        Self { source, last: Mutex::new((0, Vec::new())) }
    }
}

impl ReadAt for Windowed<'_> {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let wanted = length(buf.len());
        let left = self.size().saturating_sub(offset);
        if wanted >= WINDOW || wanted > left {
            return self.source.read_exact_at(buf, offset);
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, page) = &mut *last;
        let end = start.saturating_add(length(page.len()));
        if offset < *start || offset.saturating_add(wanted) > end {
            // Of a page that cannot be read nothing may be taken for what is there.
            let mut fresh = std::mem::take(page);
            fresh.resize(index(left.min(WINDOW)), 0);
            self.source.read_exact_at(&mut fresh, offset)?;
            (*start, *page) = (offset, fresh);
        }
        let at = index(offset.saturating_sub(*start));
        let held = page.get(at..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(held.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn borrow(&self, span: Span) -> Option<&[u8]> {
        self.source.borrow(span)
    }

    fn check_unchanged(&self) -> io::Result<()> {
        self.source.check_unchanged()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts the reads, and fails from the given one on.
    struct Counted(Vec<u8>, AtomicUsize, usize);

    impl ReadAt for Counted {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
            if self.1.fetch_add(1, Ordering::Relaxed) >= self.2 {
                return Err(io::ErrorKind::Other.into());
            }
            self.0.read_exact_at(buf, offset)
        }
    }

    fn source(reads: usize) -> Counted {
        let bytes = (0..20_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        Counted(bytes, AtomicUsize::new(0), reads)
    }

    #[test]
    fn neighbours_come_from_one_read_and_are_what_the_source_holds() {
        let source = source(usize::MAX);
        let windowed = Windowed::new(&source);
        let mut buf = [0; 30];
        for offset in [100, 130, 4_100, 90, 19_970, 19_960, 5_000] {
            windowed.read_exact_at(&mut buf, offset).unwrap();
            assert_eq!(buf[..], source.0[index(offset)..][..30], "at {offset}");
        }
        // 100 and 130; 4,100 (which begins in the first page and ends in it too); 90; 19,970; 19,960; 5,000.
        assert_eq!(source.1.load(Ordering::Relaxed), 5);
        assert!(windowed.read_exact_at(&mut buf, 19_971).is_err());
        assert!(windowed.read_exact_at(&mut buf, u64::MAX).is_err());
    }

    #[test]
    fn after_a_failed_read_nothing_is_taken_from_the_window() {
        let source = source(1);
        let windowed = Windowed::new(&source);
        let mut buf = [0; 30];
        windowed.read_exact_at(&mut buf, 0).unwrap();
        assert!(windowed.read_exact_at(&mut buf, 10_000).is_err());
        assert!(windowed.read_exact_at(&mut buf, 0).is_err());
    }
}
