//! [`Joined`]: runs of other sources one behind the other, as one source.

use std::io;
use std::sync::Arc;

use super::{Part, ReadAt, Span, index, length};

/// The bytes of several spans, in their order: a tensor that its file holds in pieces.
pub(crate) struct Joined {
    /// Each piece, and where it ends in the whole.
    pieces: Vec<(u64, Part)>,
}

impl Joined {
    /// Spans that lie inside their sources. `None` where one does not, or where 64 bits cannot count them all.
    pub(crate) fn new(pieces: impl IntoIterator<Item = (Arc<dyn ReadAt>, Span)>) -> Option<Self> {
        let mut end = 0_u64;
        let piece = |(source, span): (Arc<dyn ReadAt>, Span)| {
            end = end.checked_add(span.len())?;
            Some((end, Part::new(source, span)?))
        };
        Some(Self { pieces: pieces.into_iter().map(piece).collect::<Option<_>>()? })
    }
}

impl ReadAt for Joined {
    fn size(&self) -> u64 {
        self.pieces.last().map_or(0, |(end, _)| *end)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let (mut at, mut rest) = (offset, buf);
        let first = self.pieces.partition_point(|(end, _)| *end <= offset);
        for (end, piece) in self.pieces.get(first..).unwrap_or_default() {
            let left = end.saturating_sub(at);
            let n = left.min(length(rest.len()));
            let (now, later) = rest.split_at_mut_checked(index(n)).ok_or(io::ErrorKind::UnexpectedEof)?;
            piece.read_exact_at(now, piece.size().saturating_sub(left))?;
            (at, rest) = (at.saturating_add(n), later);
            if rest.is_empty() {
                break;
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn check_unchanged(&self) -> io::Result<()> {
        self.pieces.iter().try_for_each(|(_, piece)| piece.check_unchanged())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_crosses_the_pieces_and_not_the_end() {
        let whole: Arc<dyn ReadAt> = Arc::new((0..20).collect::<Vec<u8>>());
        let spans = [Span::between(8, 11), Span::between(5, 5), Span::between(0, 2), Span::between(19, 20)];
        let joined = Joined::new(spans.map(|span| (whole.clone(), span))).unwrap();
        let all = [8, 9, 10, 0, 1, 19];
        assert_eq!(joined.size(), 6);
        for start in 0..=6 {
            for end in start..=6 {
                let mut buf = vec![0; end - start];
                joined.read_exact_at(&mut buf, start as u64).unwrap();
                assert_eq!(buf, all[start..end], "{start}..{end}");
            }
        }
        assert!(joined.read_exact_at(&mut [0; 2], 5).is_err());
        assert!(joined.read_exact_at(&mut [0; 1], u64::MAX).is_err());
        assert!(Joined::new([(whole, Span::between(15, 21))]).is_none());
    }
}
