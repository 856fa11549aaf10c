//! [`ReadAt`]: random access by position, without a shared cursor, so that several threads can read at once.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use super::{Span, index, length};

/// Bytes that can be read at any position: a file, a slice, anything else with positions.
pub trait ReadAt: Send + Sync {
    /// Number of bytes, as it was when the source was opened.
    fn size(&self) -> u64;

    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where the source ends before `buf` is full: a source that shrank while it
    /// was read is an error, never a short result.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// The bytes of `span` without a copy, where the source has them in memory.
    fn borrow(&self, span: Span) -> Option<&[u8]> {
        let _ = span;
        None
    }

    /// Fails where the source is known to have changed since it was opened.
    ///
    /// # Errors
    /// An error that says what changed.
    fn check_unchanged(&self) -> io::Result<()> {
        Ok(())
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        length(self.len())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let wanted = Span::new(offset, length(buf.len())).and_then(|span| self.borrow(span));
        buf.copy_from_slice(wanted.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn borrow(&self, span: Span) -> Option<&[u8]> {
        self.get(index(span.start())..index(span.end()))
    }
}

/// Passes every method on to what `$inner` yields.
macro_rules! forward {
    ($($generics:ident)? , $type:ty, $self:ident => $inner:expr) => {
        impl $(<$generics: ReadAt + ?Sized>)? ReadAt for $type {
            fn size(&$self) -> u64 {
                ReadAt::size($inner)
            }
            fn read_exact_at(&$self, buf: &mut [u8], offset: u64) -> io::Result<()> {
                ReadAt::read_exact_at($inner, buf, offset)
            }
            fn borrow(&$self, span: Span) -> Option<&[u8]> {
                ReadAt::borrow($inner, span)
            }
            fn check_unchanged(&$self) -> io::Result<()> {
                ReadAt::check_unchanged($inner)
            }
        }
    };
}

forward!(, Vec<u8>, self => self.as_slice());
forward!(T, Arc<T>, self => &**self);
forward!(T, Box<T>, self => &**self);
forward!(T, &T, self => &**self);

/// All bytes of a span, in memory. The caller has compared the length with a limit.
pub(crate) fn read_vec(source: &dyn ReadAt, span: Span) -> io::Result<Vec<u8>> {
    if span.end() > source.size() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut buf = vec![0; index(span.len())];
    source.read_exact_at(&mut buf, span.start())?;
    Ok(buf)
}

/// A [`Read`] and [`Seek`] view of a source, for crates that want one. It keeps a small window, so that a parser
/// that reads field by field does not make a system call for each.
#[derive(Clone)]
pub(crate) struct Positioned<'a> {
    source: &'a dyn ReadAt,
    position: u64,
    window: Vec<u8>,
    window_start: u64,
}

/// Holds a local header of a torch archive with its padding; more would be read in vain for each member.
const WINDOW: u64 = 512;

impl<'a> Positioned<'a> {
    pub(crate) fn new(source: &'a dyn ReadAt) -> Self {
        Self { source, position: 0, window: Vec::new(), window_start: 0 }
    }

    fn buffered(&self) -> Option<&[u8]> {
        let at = index(self.position.checked_sub(self.window_start)?);
        self.window.get(at..).filter(|rest| !rest.is_empty())
    }
}

impl Read for Positioned<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.source.size().saturating_sub(self.position);
        let wanted = length(buf.len()).min(left);
        if wanted == 0 {
            return Ok(0);
        }
        if self.buffered().is_none() {
            if wanted >= WINDOW {
                let target = buf.get_mut(..index(wanted)).unwrap_or_default();
                self.source.read_exact_at(target, self.position)?;
                self.position = self.position.saturating_add(wanted);
                return Ok(index(wanted));
            }
            self.window.resize(index(left.min(WINDOW)), 0);
            self.window_start = self.position;
            self.source.read_exact_at(&mut self.window, self.position)?;
        }
        let ready = self.buffered().unwrap_or_default();
        let n = ready.len().min(buf.len());
        buf.iter_mut().zip(ready).for_each(|(to, from)| *to = *from);
        self.position = self.position.saturating_add(length(n));
        Ok(n)
    }
}

impl Seek for Positioned<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.source.size().checked_add_signed(by),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_beyond_the_end_is_an_error_and_not_short() {
        let source = vec![1, 2, 3];
        let mut buf = [0; 2];
        assert!(source.read_exact_at(&mut buf, 1).is_ok());
        assert_eq!(source.read_exact_at(&mut buf, 2).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(source.read_exact_at(&mut buf, u64::MAX).is_err());
    }

    #[test]
    fn positioned_reads_what_the_source_holds_across_windows() {
        let source: Vec<u8> = (0..20_000u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let mut reader = Positioned::new(&source);
        reader.seek(SeekFrom::Start(4000)).unwrap();
        let mut first = [0; 200];
        reader.read_exact(&mut first).unwrap();
        assert_eq!(first, source[4000..4200]);
        reader.seek(SeekFrom::End(-10_000)).unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, source[10_000..]);
    }
}
