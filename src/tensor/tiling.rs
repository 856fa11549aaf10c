//! [`Region`]: a box of a tensor's indices, and the proof that boxes fill a tensor without holes and overlaps.

/// A box of the indices of a tensor: first index and size along each dimension, in elements.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Region {
    /// First index along each dimension.
    pub start: Box<[u64]>,
    /// Size along each dimension.
    pub size: Box<[u64]>,
}

impl Region {
    /// All of a tensor.
    pub fn whole(shape: &[u64]) -> Self {
        Self { start: vec![0; shape.len()].into(), size: shape.into() }
    }

    /// Number of elements; `None` where 64 bits cannot count them.
    pub fn elements(&self) -> Option<u64> {
        self.size.iter().try_fold(1_u64, |n, size| n.checked_mul(*size))
    }

    /// Whether it is all of a tensor.
    pub fn is_whole(&self, shape: &[u64]) -> bool {
        *self.size == *shape && self.start.iter().all(|start| *start == 0)
    }

    fn end(&self, dimension: usize) -> u64 {
        self.from(dimension).saturating_add(self.size.get(dimension).copied().unwrap_or(0))
    }

    fn from(&self, dimension: usize) -> u64 {
        self.start.get(dimension).copied().unwrap_or(0)
    }

    /// Whether it lies inside a tensor of this shape, of as many dimensions.
    pub fn is_inside(&self, shape: &[u64]) -> bool {
        self.start
            .iter()
            .zip(&self.size)
            .zip(shape)
            .all(|((start, size), extent)| start.checked_add(*size).is_some_and(|end| end <= *extent))
    }

    fn overlaps(&self, other: &Self) -> bool {
        let apart = |d| self.from(d) >= other.end(d) || other.from(d) >= self.end(d);
        !(0..self.start.len()).any(apart)
    }
}

/// Why pieces do not make up a tensor. Pieces are named by their position in the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TilingError {
    /// A piece of another number of dimensions.
    #[error("piece {piece} has {found} dimensions, the tensor {expected}")]
    Rank {
        /// Which piece.
        piece: usize,
        /// Its dimensions.
        found: usize,
        /// Those of the tensor.
        expected: usize,
    },
    /// A piece that reaches beyond the tensor.
    #[error("piece {piece} at {start:?} of size {size:?} reaches beyond the tensor of shape {shape:?}")]
    Outside {
        /// Which piece.
        piece: usize,
        /// Where it begins.
        start: Box<[u64]>,
        /// Its size.
        size: Box<[u64]>,
        /// Shape of the tensor.
        shape: Box<[u64]>,
    },
    /// Two pieces that claim the same elements.
    #[error("pieces {first} and {second} overlap")]
    Overlap {
        /// The one.
        first: usize,
        /// The other.
        second: usize,
    },
    /// Elements that no piece has.
    #[error("pieces cover {covered} of {elements} elements")]
    Hole {
        /// Elements that the pieces have.
        covered: u64,
        /// Elements of the tensor.
        elements: u64,
    },
    /// A piece of which the data has another length.
    #[error("piece {piece} has {found} bytes, {expected} expected")]
    Length {
        /// Which piece.
        piece: usize,
        /// Bytes that there are.
        found: u64,
        /// Bytes that its size takes.
        expected: u64,
    },
    /// More elements than 64 bits can count.
    #[error("shape {0:?} has more elements than 64 bits can count")]
    TooLarge(Box<[u64]>),
    /// Pieces that lie so criss-cross that to compare them would take too long.
    #[error("{0} pieces lie in no order")]
    Disorder(usize),
}

/// Pairs of pieces that are compared at most. A grid of a hundred thousand pieces needs some thirty million, and one along
/// a single dimension none; pieces made to be compared each with each would take the square.
const MOST_PAIRS: u64 = 1 << 25;

/// Proves that the regions lie inside a tensor of this shape and cover each of its elements once.
///
/// # Errors
/// The first [`TilingError`].
pub(super) fn prove(shape: &[u64], regions: &[&Region]) -> Result<(), TilingError> {
    let too_large = || TilingError::TooLarge(shape.into());
    let elements = shape.iter().try_fold(1_u64, |n, size| n.checked_mul(*size)).ok_or_else(too_large)?;
    let mut covered = 0_u64;
    for (piece, region) in regions.iter().enumerate() {
        if region.start.len() != shape.len() || region.size.len() != shape.len() {
            return Err(TilingError::Rank { piece, found: region.start.len(), expected: shape.len() });
        }
        if !region.is_inside(shape) {
            let (start, size) = (region.start.clone(), region.size.clone());
            return Err(TilingError::Outside { piece, start, size, shape: shape.into() });
        }
        // Inside the tensor, so that its elements can be counted; their sum may still be anything.
        covered = covered.saturating_add(region.elements().ok_or_else(too_large)?);
    }
    overlaps(shape.len(), regions)?;
    // Inside, and none twice: all are there if there are as many.
    if covered == elements { Ok(()) } else { Err(TilingError::Hole { covered, elements }) }
}

/// Sweeps along the dimension that tells most pieces apart, and compares each with those that are open there.
fn overlaps(rank: usize, regions: &[&Region]) -> Result<(), TilingError> {
    let starts = |d: usize| {
        let mut starts: Vec<u64> = regions.iter().map(|region| region.from(d)).collect();
        starts.sort_unstable();
        starts.dedup();
        starts.len()
    };
    let along = (0..rank).max_by_key(|d| starts(*d)).unwrap_or(0);
    let mut order: Vec<usize> = (0..regions.len()).collect();
    order.sort_by_key(|i| regions.get(*i).map(|region| region.from(along)));
    let mut open: Vec<(usize, &Region)> = Vec::new();
    let mut pairs = 0_u64;
    for second in order {
        let Some(region) = regions.get(second) else { continue };
        if region.size.contains(&0) {
            continue;
        }
        open.retain(|(_, other)| other.end(along) > region.from(along));
        pairs = pairs.saturating_add(crate::bytes::length(open.len()));
        if pairs > MOST_PAIRS {
            return Err(TilingError::Disorder(regions.len()));
        }
        if let Some((first, _)) = open.iter().find(|(_, other)| other.overlaps(region)) {
            let (first, second) = (*first.min(&second), *first.max(&second));
            return Err(TilingError::Overlap { first, second });
        }
        open.push((second, region));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: &[u64], size: &[u64]) -> Region {
        Region { start: start.into(), size: size.into() }
    }

    fn proven(shape: &[u64], regions: &[Region]) -> Result<(), TilingError> {
        prove(shape, &regions.iter().collect::<Vec<_>>())
    }

    #[test]
    fn grids_and_uneven_pieces_tile() {
        let grid = [region(&[0, 0], &[2, 3]), region(&[0, 3], &[2, 1]), region(&[2, 0], &[1, 4])];
        assert_eq!(proven(&[3, 4], &grid), Ok(()));
        assert_eq!(proven(&[], &[region(&[], &[])]), Ok(()));
        assert_eq!(proven(&[0, 4], &[]), Ok(()));
        assert_eq!(proven(&[2], &[region(&[0], &[2]), region(&[2], &[0])]), Ok(()));
    }

    #[test]
    fn holes_and_overlaps_are_found_even_where_the_sizes_add_up() {
        let hole = [region(&[0], &[2]), region(&[3], &[1])];
        assert_eq!(proven(&[4], &hole), Err(TilingError::Hole { covered: 3, elements: 4 }));
        let twice = [region(&[0, 0], &[2, 2]), region(&[0, 1], &[2, 2])];
        assert_eq!(proven(&[2, 4], &twice), Err(TilingError::Overlap { first: 0, second: 1 }));
        assert_eq!(proven(&[2], &[]), Err(TilingError::Hole { covered: 0, elements: 2 }));
        assert_eq!(proven(&[], &[]), Err(TilingError::Hole { covered: 0, elements: 1 }));
    }

    #[test]
    fn regions_beyond_the_tensor_are_refused() {
        assert!(matches!(proven(&[4], &[region(&[1], &[4])]), Err(TilingError::Outside { piece: 0, .. })));
        assert!(matches!(proven(&[4], &[region(&[u64::MAX], &[2])]), Err(TilingError::Outside { .. })));
        assert!(matches!(proven(&[4], &[region(&[0, 0], &[4, 1])]), Err(TilingError::Rank { found: 2, .. })));
        assert!(matches!(proven(&[u64::MAX, 2], &[]), Err(TilingError::TooLarge(_))));
    }

    #[test]
    fn pieces_made_to_be_compared_each_with_each_are_refused() {
        // In each of two dimensions all are open at once, and none overlaps.
        let n = 20_000_u64;
        let steps: Vec<Region> = (0..n).map(|i| region(&[i, i], &[1, 1])).collect();
        assert!(matches!(proven(&[n, n], &steps), Err(TilingError::Hole { .. })));
        // Long in both dimensions, half of them in each.
        let bars =
            (0..n).map(|i| if i % 2 == 0 { region(&[i, 0], &[1, n]) } else { region(&[n, i], &[n, 1]) });
        assert!(matches!(proven(&[2 * n, n], &bars.collect::<Vec<_>>()), Err(TilingError::Disorder(_))));
    }
}
