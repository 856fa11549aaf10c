//! [`Part`]: a run of a source, as a source of its own.

use std::io;
use std::sync::Arc;

use super::{ReadAt, Span};

/// The bytes of a span of another source: a checkpoint that lies in an archive as it is.
pub(crate) struct Part {
    source: Arc<dyn ReadAt>,
    span: Span,
}

impl Part {
    /// A span that lies inside its source.
    pub(crate) fn new(source: Arc<dyn ReadAt>, span: Span) -> Option<Self> {
        (span.end() <= source.size()).then_some(Self { source, span })
    }
}

impl ReadAt for Part {
    fn size(&self) -> u64 {
        self.span.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let span = self.span.sub(offset, super::length(buf.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.source.read_exact_at(buf, span.start())
    }

    fn borrow(&self, span: Span) -> Option<&[u8]> {
        self.source.borrow(self.span.sub(span.start(), span.len())?)
    }

    fn check_unchanged(&self) -> io::Result<()> {
        self.source.check_unchanged()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_does_not_reach_beyond_itself() {
        let whole: Arc<dyn ReadAt> = Arc::new((0..10).collect::<Vec<u8>>());
        let part = Part::new(whole.clone(), Span::between(2, 6)).unwrap();
        let mut buf = [0; 2];
        part.read_exact_at(&mut buf, 2).unwrap();
        assert_eq!((buf, part.size()), ([4, 5], 4));
        assert!(part.read_exact_at(&mut buf, 3).is_err());
        assert_eq!(part.borrow(Span::between(0, 5)), None);
        assert!(Part::new(whole, Span::between(2, 11)).is_none());
    }
}
