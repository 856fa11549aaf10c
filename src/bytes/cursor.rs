//! [`Cursor`]: a reader over part of a source that checks every claim of length before it acts on it.

use std::io;
use std::sync::Arc;

use super::{Offset, ReadAt, Span, index, length};

/// Bytes are fetched in blocks of this size, so that a pickle of any length is read in bounded memory.
const WINDOW: u64 = 256 * 1024;

/// Where reading failed, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{kind} at {offset}")]
pub struct Error {
    /// Position in the source.
    pub offset: Offset,
    /// What is wrong there.
    pub kind: ErrorKind,
}

/// Why reading failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// More bytes were declared or needed than are left.
    #[error("truncated: {wanted} bytes wanted, {left} left")]
    Truncated {
        /// Bytes that the structure asks for.
        wanted: u64,
        /// Bytes that there are.
        left: u64,
    },
    /// A text line without an end within its bound.
    #[error("no newline within {0} bytes")]
    UnterminatedLine(u64),
    /// The source could not be read.
    #[error("read failed: {0}")]
    Io(Arc<io::Error>),
}

/// A forward reader over one span of a source.
pub struct Cursor<'a> {
    source: &'a dyn ReadAt,
    position: u64,
    end: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl std::fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor")
            .field("position", &self.position)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl<'a> Cursor<'a> {
    /// Reads `span` of `source`; what lies outside is never touched. A span beyond the source ends where it ends.
    pub fn new(source: &'a dyn ReadAt, span: Span) -> Self {
        let end = span.end().min(source.size());
        Self { source, position: span.start(), end, window: Vec::new(), window_start: 0 }
    }

    /// Position of the next byte, in the source.
    pub fn position(&self) -> Offset {
        Offset(self.position)
    }

    /// Bytes left.
    pub fn remaining(&self) -> u64 {
        self.end.saturating_sub(self.position)
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] at the end.
    pub fn byte(&mut self) -> Result<u8, Error> {
        let at = index(self.position.wrapping_sub(self.window_start));
        let byte = match self.window.get(at) {
            Some(byte) => *byte,
            None => *self.fill(1)?.first().unwrap_or(&0),
        };
        self.position = self.position.saturating_add(1);
        Ok(byte)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] where fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let array = self.fill(length(N))?.first_chunk().copied().unwrap_or([0; N]);
        self.position = self.position.saturating_add(length(N));
        Ok(array)
    }

    /// The next `n` bytes. The caller has compared `n` with a limit; it is compared with what is left here.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] where fewer are left.
    pub fn take(&mut self, n: u64) -> Result<&[u8], Error> {
        self.fill(n)?;
        let at = index(self.position.saturating_sub(self.window_start));
        self.position = self.position.saturating_add(n);
        Ok(self.window.get(at..).and_then(|rest| rest.get(..index(n))).unwrap_or_default())
    }

    /// Passes over `n` bytes without reading them and says where they were.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] where fewer are left.
    pub fn skip(&mut self, n: u64) -> Result<Span, Error> {
        self.require(n)?;
        let span = Span::between(self.position, self.position.saturating_add(n));
        self.position = span.end();
        Ok(span)
    }

    /// The bytes up to the next newline, which is consumed and not returned.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] where the source ends first, [`ErrorKind::UnterminatedLine`] beyond `max` bytes.
    pub fn line(&mut self, max: u64) -> Result<Vec<u8>, Error> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Ok(line),
                _ if length(line.len()) >= max => return Err(self.error(ErrorKind::UnterminatedLine(max))),
                byte => line.push(byte),
            }
        }
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error { offset: Offset(self.position), kind }
    }

    fn require(&self, n: u64) -> Result<(), Error> {
        let left = self.remaining();
        if n > left { Err(self.error(ErrorKind::Truncated { wanted: n, left })) } else { Ok(()) }
    }

    /// Makes sure that the next `n` bytes are in the window and returns what the window holds from here on.
    fn fill(&mut self, n: u64) -> Result<&[u8], Error> {
        self.require(n)?;
        let at = index(self.position.wrapping_sub(self.window_start));
        let ready = self.window.len().saturating_sub(at);
        if length(ready) < n {
            let fetch = self.remaining().min(n.max(WINDOW));
            self.window.clear();
            self.window.resize(index(fetch), 0);
            self.window_start = self.position;
            if let Err(e) = self.source.read_exact_at(&mut self.window, self.position) {
                self.window.clear();
                return Err(self.error(ErrorKind::Io(Arc::new(e))));
            }
            // One large string must not keep a large window for good.
            return Ok(&self.window);
        }
        Ok(self.window.get(at..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &Vec<u8>) -> Cursor<'_> {
        Cursor::new(bytes, Span::between(0, bytes.size()))
    }

    #[test]
    fn a_declared_length_beyond_the_end_is_refused_before_memory_is_taken() {
        let bytes = vec![0; 10];
        let error = whole(&bytes).take(u64::MAX).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Truncated { wanted: u64::MAX, left: 10 }));
    }

    #[test]
    fn reads_across_windows() {
        let bytes: Vec<u8> = (0..600_000u32).map(|i| u8::try_from(i % 253).unwrap()).collect();
        let mut cursor = whole(&bytes);
        assert_eq!(cursor.skip(262_140).unwrap(), Span::between(0, 262_140));
        assert_eq!(cursor.take(10).unwrap(), &bytes[262_140..262_150]);
        assert_eq!(cursor.byte().unwrap(), bytes[262_150]);
        assert_eq!(cursor.take(300_000).unwrap(), &bytes[262_151..562_151]);
        assert_eq!(cursor.array::<4>().unwrap(), bytes[562_151..562_155]);
    }

    #[test]
    fn a_line_ends_at_its_newline_or_at_its_bound() {
        let bytes = b"ab\ncdef".to_vec();
        let mut cursor = whole(&bytes);
        assert_eq!(cursor.line(10).unwrap(), b"ab");
        assert!(matches!(cursor.line(2).unwrap_err().kind, ErrorKind::UnterminatedLine(2)));
        assert!(whole(&bytes).skip(3).and_then(|_| whole(&bytes).line(9)).is_ok());
    }
}
