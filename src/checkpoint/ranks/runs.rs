//! [`Runs`]: which indices of a dimension a rank has, in the order in which its local part holds them.
//!
//! Placements are applied from the first dimension of the mesh to the last, each to what the one before left, as
//! `_compute_local_shape_and_global_offset` in `torch/distributed/tensor/_utils.py` does.

/// Runs that a dimension may be cut into. FSDP over tensor parallelism gives one, or as many as there are tensor-parallel
/// ranks; a file could ask for one an element. A factor, which is a product of sizes of the mesh, has the same bound: each of
/// its parts takes work, even where all become one run.
const MOST: usize = 1 << 10;

/// Indices of a dimension, as runs of first index and count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Runs(Vec<(u64, u64)>);

/// What one of several ranks has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) rank: u64,
    pub(super) of: u64,
}

impl Runs {
    /// Every index of a dimension.
    pub(super) fn all(size: u64) -> Self {
        Self(vec![(0, size)])
    }

    /// How many indices there are.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Each run: its first index in the local part, its first in the whole, and how many.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        self.0.iter().scan(0_u64, |at, (first, count)| {
            let local = *at;
            *at = at.saturating_add(*count);
            Some((local, *first, *count))
        })
    }

    /// `Shard`: one of equal parts, the last ones smaller or empty, as `torch.chunk` cuts.
    pub(super) fn shard(&self, share: Share) -> Self {
        let (start, end) = chunk(self.len(), share);
        let mut runs = Self(Vec::new());
        runs.append(self, start, end);
        runs
    }

    /// `_StridedShard`: of each of `factor` parts, which were sharded before, a part. `None` where that gives too many runs.
    pub(super) fn strided(&self, share: Share, factor: u64) -> Option<Self> {
        // There is nothing in more parts than elements.
        if factor.min(self.len()) > crate::bytes::length(MOST) {
            return None;
        }
        let mut runs = Self(Vec::new());
        for rank in 0..factor {
            let (start, end) = chunk(self.len(), Share { rank, of: factor });
            if start == end {
                break;
            }
            let (from, to) = chunk(end.saturating_sub(start), share);
            runs.append(self, start.saturating_add(from), start.saturating_add(to));
            if runs.0.len() > MOST {
                return None;
            }
        }
        Some(runs)
    }

    /// Adds what another has from one of its indices to another.
    fn append(&mut self, other: &Self, start: u64, end: u64) {
        for (local, first, count) in other.iter() {
            let (from, to) = (start.max(local), end.min(local.saturating_add(count)));
            if from >= to {
                continue;
            }
            let (first, count) = (first.saturating_add(from.saturating_sub(local)), to.saturating_sub(from));
            match self.0.last_mut() {
                Some((before, length)) if before.saturating_add(*length) == first => {
                    *length = length.saturating_add(count);
                }
                _ => self.0.push((first, count)),
            }
        }
    }
}

/// Where the part of a rank begins and ends.
fn chunk(size: u64, Share { rank, of }: Share) -> (u64, u64) {
    let most = size.div_ceil(of.max(1));
    let start = most.saturating_mul(rank).min(size);
    (start, start.saturating_add(most).min(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(rank: u64, of: u64) -> Share {
        Share { rank, of }
    }

    #[test]
    fn uneven_parts_are_cut_as_torch_cuts_them() {
        let parts: Vec<_> = (0..4).map(|rank| Runs::all(5).shard(share(rank, 4)).0).collect();
        assert_eq!(parts, [vec![(0, 2)], vec![(2, 2)], vec![(4, 1)], vec![]]);
        assert_eq!(Runs::all(8).shard(share(1, 2)).shard(share(1, 2)).0, [(6, 2)]);
        assert_eq!(Runs::all(0).shard(share(1, 2)).len(), 0);
    }

    #[test]
    fn a_strided_shard_is_a_part_of_each_part() {
        // FSDP over two tensor-parallel ranks: [_StridedShard(0, split_factor=2), Shard(0)] of 8 rows.
        let rows = |dp, tp| Runs::all(8).strided(share(dp, 2), 2).unwrap().shard(share(tp, 2)).0;
        assert_eq!(
            [rows(0, 0), rows(0, 1), rows(1, 0), rows(1, 1)],
            [[(0, 2)], [(4, 2)], [(2, 2)], [(6, 2)]]
        );
        let uneven = Runs::all(7).strided(share(0, 2), 2).unwrap();
        assert_eq!(uneven.iter().collect::<Vec<_>>(), [(0, 0, 2), (2, 4, 2)]);
    }

    #[test]
    fn a_factor_made_to_cut_each_element_is_refused() {
        assert_eq!(Runs::all(1 << 40).strided(share(0, 2), 1 << 39), None);
        // Nor one that a mesh of one rank gives all in one run.
        assert_eq!(Runs::all(1 << 40).strided(share(0, 1), 1 << 34), None);
        // More parts than elements are no more work than there are elements.
        assert_eq!(Runs::all(2).strided(share(0, 2), u64::MAX).unwrap().len(), 2);
    }
}
