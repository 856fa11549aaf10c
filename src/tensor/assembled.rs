//! [`Assembled`]: the contiguous bytes of a tensor whose pieces lie in different places.
//!
//! A piece is a box of the tensor, in row-major order in a source of its own. In the order of the whole its bytes form
//! runs at a fixed pitch along each dimension, and a piece that comes first stays first: the bytes of a piece that fall
//! into any range of the whole are one range of the piece. So a block of the output costs one read for each piece
//! that it meets, however short the runs are, and nothing is kept between reads.

use std::io;
use std::sync::Arc;

use crate::bytes::{ReadAt, Span, index, length};

use super::tiling::{Region, TilingError, prove};

/// Bytes of the whole that are put together at a time.
const BLOCK: usize = 1 << 20;

/// A part of a tensor: a box of it, and a source that holds the box's bytes and nothing else, in row-major order.
pub struct Fragment {
    /// The bytes of the box.
    pub source: Arc<dyn ReadAt>,
    /// The box.
    pub region: Region,
}

impl std::fmt::Debug for Fragment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fragment").field("region", &self.region).finish_non_exhaustive()
    }
}

/// A tensor put together from pieces that were proven to tile it.
pub struct Assembled {
    /// In the order of their first bytes.
    pieces: Vec<Laid>,
    /// For each piece the furthest end of those up to it.
    reach: Vec<u64>,
    size: u64,
}

impl std::fmt::Debug for Assembled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assembled").field("pieces", &self.pieces.len()).finish_non_exhaustive()
    }
}

/// A piece and where its bytes are in the whole.
struct Laid {
    source: Arc<dyn ReadAt>,
    /// First byte in the whole, and one past the last.
    first: u64,
    end: u64,
    /// Bytes that follow each other in the whole as they do in the piece.
    run: u64,
    /// Dimensions around the runs, outermost first.
    around: Box<[Around]>,
}

/// A dimension around the runs.
#[derive(Debug, Clone, Copy)]
struct Around {
    count: u64,
    /// Bytes from one index to the next in the whole.
    pitch: u64,
    /// The same in the piece.
    block: u64,
}

impl Assembled {
    /// Puts together a tensor of this shape whose elements have `width` bytes.
    ///
    /// # Errors
    /// Pieces that do not tile the tensor, or whose data has another length.
    pub fn new(shape: &[u64], width: u64, pieces: Vec<Fragment>) -> Result<Self, TilingError> {
        let regions: Vec<&Region> = pieces.iter().map(|piece| &piece.region).collect();
        prove(shape, &regions)?;
        let too_large = || TilingError::TooLarge(shape.into());
        let size = shape.iter().try_fold(width, |n, size| n.checked_mul(*size)).ok_or_else(too_large)?;
        let mut laid = Vec::with_capacity(pieces.len());
        for (i, Fragment { source, region }) in pieces.into_iter().enumerate() {
            let expected = region.elements().and_then(|n| n.checked_mul(width)).ok_or_else(too_large)?;
            if source.size() != expected {
                return Err(TilingError::Length { piece: i, found: source.size(), expected });
            }
            if expected > 0 {
                laid.push(Laid::new(source, shape, &region, width).ok_or_else(too_large)?);
            }
        }
        laid.sort_by_key(|piece| piece.first);
        let reach = laid.iter().scan(0_u64, |reach, piece| {
            *reach = (*reach).max(piece.end);
            Some(*reach)
        });
        let reach = reach.collect();
        Ok(Self { pieces: laid, reach, size })
    }

    /// The pieces that have bytes in a range of the whole, and which bytes of theirs these are.
    fn meeting(&self, start: u64, end: u64) -> impl Iterator<Item = (&Laid, Span)> {
        let from = self.reach.partition_point(|reach| *reach <= start);
        let to = self.pieces.partition_point(|piece| piece.first < end);
        let pieces = self.pieces.get(from..to).unwrap_or_default().iter();
        pieces
            .map(move |piece| (piece, Span::between(piece.before(start), piece.before(end))))
            .filter(|(_, span)| !span.is_empty())
    }
}

impl ReadAt for Assembled {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(length(buf.len())).filter(|end| *end <= self.size);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut scratch = Vec::new();
        let mut at = offset;
        for block in buf.chunks_mut(BLOCK) {
            let next = at.saturating_add(length(block.len()));
            for (piece, span) in self.meeting(at, next) {
                piece.read(span, block, at, &mut scratch)?;
            }
            at = next;
        }
        Ok(())
    }

    fn borrow(&self, span: Span) -> Option<&[u8]> {
        let mut pieces = self.meeting(span.start(), span.end());
        let (piece, within) = pieces.next()?;
        let one_run = within.len() == span.len() && piece.run_at(within.start())?.len() >= span.len();
        one_run.then(|| piece.source.borrow(within)).flatten()
    }

    fn check_unchanged(&self) -> io::Result<()> {
        self.pieces.iter().try_for_each(|piece| piece.source.check_unchanged())
    }
}

impl Laid {
    fn new(source: Arc<dyn ReadAt>, shape: &[u64], region: &Region, width: u64) -> Option<Self> {
        let (mut run, mut first) = (width, 0_u64);
        let (mut pitch, mut block) = (width, width);
        let mut around: Vec<Around> = Vec::new();
        let dimensions = shape.iter().zip(&region.start).zip(&region.size);
        for ((extent, start), count) in dimensions.rev() {
            first = first.checked_add(start.checked_mul(pitch)?)?;
            match around.last_mut() {
                // Every inner dimension is whole so far: the runs of this one join.
                None if run == pitch => run = run.checked_mul(*count)?,
                // The same, of the dimensions around the runs.
                Some(inner) if inner.count.checked_mul(inner.pitch) == Some(pitch) => {
                    inner.count = inner.count.checked_mul(*count)?;
                }
                _ => around.push(Around { count: *count, pitch, block }),
            }
            pitch = pitch.checked_mul(*extent)?;
            block = block.checked_mul(*count)?;
        }
        around.reverse();
        let mut laid = Self { source, first, end: 0, run, around: around.into() };
        laid.end = laid.place(block.checked_sub(1)?).checked_add(1)?;
        Some(laid)
    }

    /// Where in the whole a byte of the piece is.
    fn place(&self, mut at: u64) -> u64 {
        let mut place = self.first;
        for around in &self.around {
            let i = at.checked_div(around.block).unwrap_or(0);
            place = place.saturating_add(i.saturating_mul(around.pitch));
            at = at.saturating_sub(i.saturating_mul(around.block));
        }
        place.saturating_add(at)
    }

    /// How many bytes of the piece come before a place in the whole.
    fn before(&self, place: u64) -> u64 {
        let mut left = place.saturating_sub(self.first);
        let mut before = 0_u64;
        for around in &self.around {
            let i = left.checked_div(around.pitch).unwrap_or(0).min(around.count);
            before = before.saturating_add(i.saturating_mul(around.block));
            if i == around.count {
                return before;
            }
            left = left.saturating_sub(i.saturating_mul(around.pitch));
        }
        before.saturating_add(left.min(self.run))
    }

    /// From a byte of the piece to the end of its run.
    fn run_at(&self, from: u64) -> Option<Span> {
        let left = self.run.checked_sub(from.checked_rem(self.run)?)?;
        Span::new(from, left)
    }

    /// Reads bytes of the piece to where they are in a block of the whole that begins at `start`.
    fn read(&self, span: Span, block: &mut [u8], start: u64, scratch: &mut Vec<u8>) -> io::Result<()> {
        let offset = |at: u64| index(self.place(at).saturating_sub(start));
        let mut at = span.start();
        if self.run_at(at).is_some_and(|run| run.len() >= span.len()) {
            return self.source.read_exact_at(part(block, offset(at), index(span.len()))?, at);
        }
        scratch.resize(index(span.len()), 0);
        self.source.read_exact_at(scratch, at)?;
        let mut rest = scratch.as_slice();
        while let Some(run) = self.run_at(at).filter(|_| !rest.is_empty()) {
            let len = run.len().min(length(rest.len()));
            let (head, tail) = rest.split_at(index(len));
            part(block, offset(at), head.len())?.copy_from_slice(head);
            rest = tail;
            at = at.saturating_add(len);
        }
        Ok(())
    }
}

fn part(block: &mut [u8], from: usize, len: usize) -> io::Result<&mut [u8]> {
    let part = block.get_mut(from..).and_then(|rest| rest.get_mut(..len));
    part.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tensor of counted elements, cut into a grid, and each piece copied out element by element.
    fn cut(shape: &[u64], width: u64, cuts: &[&[u64]]) -> (Vec<u8>, Vec<Fragment>) {
        let elements: u64 = shape.iter().product();
        let whole: Vec<u8> = (0..elements * width).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let mut regions = vec![Region { start: Box::new([]), size: Box::new([]) }];
        for (extent, cuts) in shape.iter().zip(cuts) {
            let ends = || cuts.iter().copied().chain([*extent]);
            let starts = [0].into_iter().chain(cuts.iter().copied());
            let sides: Vec<(u64, u64)> = starts.zip(ends()).collect();
            let grow = |region: &Region| {
                let grown = sides.iter().map(|(from, to)| Region {
                    start: region.start.iter().copied().chain([*from]).collect(),
                    size: region.size.iter().copied().chain([to - from]).collect(),
                });
                grown.collect::<Vec<_>>()
            };
            regions = regions.iter().flat_map(grow).collect();
        }
        let fragments = regions.into_iter().map(|region| {
            let mut bytes = Vec::new();
            for i in 0..region.elements().unwrap() {
                let (mut rest, mut at, mut pitch) = (i, 0, 1);
                for d in (0..shape.len()).rev() {
                    at += (region.start[d] + rest % region.size[d]) * pitch;
                    rest /= region.size[d];
                    pitch *= shape[d];
                }
                let from = usize::try_from(at * width).unwrap();
                bytes.extend_from_slice(&whole[from..from + usize::try_from(width).unwrap()]);
            }
            Fragment { source: Arc::new(bytes), region }
        });
        let fragments = fragments.collect();
        (whole, fragments)
    }

    fn check(shape: &[u64], width: u64, cuts: &[&[u64]]) {
        let (whole, mut pieces) = cut(shape, width, cuts);
        pieces.reverse();
        let assembled = Assembled::new(shape, width, pieces).unwrap();
        assert_eq!(assembled.size(), whole.size());
        for block in [1, 3, 7, 64, whole.len()] {
            let mut read = vec![0; whole.len()];
            for (i, part) in read.chunks_mut(block).enumerate() {
                assembled.read_exact_at(part, u64::try_from(i * block).unwrap()).unwrap();
            }
            assert_eq!(read, whole, "{shape:?} cut at {cuts:?}, blocks of {block}");
        }
    }

    #[test]
    fn pieces_of_every_cut_give_the_whole() {
        check(&[6, 5], 4, &[&[2, 3], &[]]);
        check(&[6, 5], 4, &[&[], &[1, 4]]);
        check(&[6, 5], 2, &[&[1], &[2]]);
        check(&[2, 6, 3], 8, &[&[], &[2, 5], &[]]);
        check(&[3, 2, 4], 1, &[&[], &[], &[1, 3]]);
        check(&[3, 2, 4], 1, &[&[1], &[1], &[3]]);
        check(&[2, 3, 1, 4], 4, &[&[1], &[], &[], &[2]]);
        check(&[7], 16, &[&[1, 2, 6]]);
        check(&[], 4, &[]);
    }

    #[test]
    fn blocks_larger_than_the_buffer_are_read_in_steps() {
        check(&[1300, 1000], 2, &[&[], &[3, 500]]);
    }

    #[test]
    fn a_whole_is_read_to_its_end_and_not_beyond() {
        let (_, pieces) = cut(&[4, 4], 1, &[&[2], &[]]);
        let assembled = Assembled::new(&[4, 4], 1, pieces).unwrap();
        assert!(assembled.read_exact_at(&mut [0; 2], 15).is_err());
        assert!(assembled.read_exact_at(&mut [], 16).is_ok());
    }

    #[test]
    fn bytes_of_one_run_are_lent() {
        let (whole, pieces) = cut(&[4, 4], 1, &[&[2], &[]]);
        let rows = Assembled::new(&[4, 4], 1, pieces).unwrap();
        assert_eq!(rows.borrow(Span::between(9, 16)), Some(&whole[9..16]));
        assert_eq!(rows.borrow(Span::between(7, 9)), None);
        let (whole, pieces) = cut(&[4, 4], 1, &[&[], &[3]]);
        let columns = Assembled::new(&[4, 4], 1, pieces).unwrap();
        assert_eq!(columns.borrow(Span::between(4, 7)), Some(&whole[4..7]));
        assert_eq!(columns.borrow(Span::between(4, 8)), None);
    }

    #[test]
    fn data_of_another_length_is_refused() {
        let (_, mut pieces) = cut(&[4], 2, &[&[2]]);
        pieces[1].source = Arc::new(vec![0; 5]);
        let error = Assembled::new(&[4], 2, pieces).err();
        assert_eq!(error, Some(TilingError::Length { piece: 1, found: 5, expected: 4 }));
    }
}
