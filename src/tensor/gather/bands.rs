//! Which part of a strided view to read at a time, and in which runs.

/// One dimension: how many steps, and how many bytes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dim {
    pub(super) n: u64,
    pub(super) stride: u64,
}

/// A read costs about as much as copying this many bytes, however few it returns.
const READ_COST: u64 = 2048;

/// Gaps that may be read through where that saves reads. Which one pays is found by comparing costs.
const GAPS: [u64; 4] = [0, 64, 512, 4096];

/// Dimensions of a view in bytes, outermost first, without those of size 1 and with neighbours joined where the
/// outer one goes on where the inner one ends.
pub(super) fn dims(shape: &[u64], strides: &[u64], width: u64) -> Vec<Dim> {
    join(shape.iter().zip(strides).map(|(n, stride)| Dim { n: *n, stride: stride.saturating_mul(width) }))
}

pub(super) fn join(dims: impl Iterator<Item = Dim>) -> Vec<Dim> {
    let mut joined: Vec<Dim> = Vec::new();
    for dim in dims.filter(|dim| dim.n != 1) {
        match joined.last_mut() {
            Some(last) if last.stride == dim.n.saturating_mul(dim.stride) => {
                *last = Dim { n: last.n.saturating_mul(dim.n), stride: dim.stride };
            }
            _ => joined.push(dim),
        }
    }
    joined
}

/// A box that follows on a position of the output without a gap: fixed outer indices, a range of one dimension, and
/// everything inside that dimension.
#[derive(Debug)]
pub(super) struct Cut {
    level: usize,
    rows: u64,
    /// Bytes from the first element of the view to the first of the box.
    pub(super) offset: u64,
    pub(super) elements: u64,
}

impl Cut {
    /// Its dimensions.
    pub(super) fn dims(&self, dims: &[Dim]) -> Vec<Dim> {
        let mut boxed = dims.get(self.level..).unwrap_or_default().to_vec();
        if let Some(first) = boxed.first_mut() {
            first.n = self.rows;
        }
        boxed
    }
}

/// The largest box of at most `most` elements that begins at element `position` of the output.
pub(super) fn cut(dims: &[Dim], position: u64, most: u64) -> Cut {
    let mut best = Cut { level: dims.len(), rows: 1, offset: 0, elements: most.min(1) };
    let mut rest = position;
    let mut inner = 1_u64;
    let mut aligned = true;
    for (level, dim) in dims.iter().enumerate().rev() {
        let at = rest.checked_rem(dim.n).unwrap_or(0);
        rest = rest.checked_div(dim.n).unwrap_or(0);
        best.offset = best.offset.saturating_add(at.saturating_mul(dim.stride));
        let rows = most.checked_div(inner).unwrap_or(0).min(dim.n.saturating_sub(at));
        if aligned && rows > 0 {
            best = Cut { level, rows, elements: rows.saturating_mul(inner), ..best };
        }
        aligned &= at == 0;
        inner = inner.saturating_mul(dim.n);
    }
    best
}

/// How a box lies in the source and will lie in the scratch.
#[derive(Debug)]
pub(super) struct Footprint {
    /// Bytes of one run of the source.
    pub(super) run: u64,
    /// Bytes from one run to the next in the scratch.
    pub(super) pitch: u64,
    /// The dimensions that lead from run to run, with their strides in the source, largest first.
    pub(super) outer: Vec<Dim>,
    /// Scratch in all.
    pub(super) bytes: u64,
    runs: u64,
}

impl Footprint {
    /// Joins dimensions by ascending stride for as long as one goes on where the last one ends, overlaps it, or
    /// leaves a gap of at most `gap` bytes.
    pub(super) fn new(boxed: &[Dim], width: u64, gap: u64) -> Self {
        let mut outer: Vec<Dim> = boxed.iter().copied().filter(|dim| dim.stride != 0 && dim.n > 1).collect();
        outer.sort_unstable_by_key(|dim| dim.stride);
        let mut run = width;
        let joined = outer.iter().take_while(|dim| {
            let joins = dim.stride <= run.saturating_add(gap);
            if joins {
                run = run.saturating_add(dim.n.saturating_sub(1).saturating_mul(dim.stride));
            }
            joins
        });
        let joined = joined.count();
        outer.drain(..joined);
        outer.reverse();
        let pitch = pitch(run);
        let runs = outer.iter().fold(1_u64, |n, dim| n.saturating_mul(dim.n));
        let bytes = if runs == 1 { run } else { runs.saturating_mul(pitch) };
        Self { run, pitch: if runs == 1 { run } else { pitch }, outer, bytes, runs }
    }

    /// The dimensions of the box with the strides that they have in the scratch.
    pub(super) fn inside(&self, boxed: &[Dim]) -> Vec<Dim> {
        let mut inside = boxed.to_vec();
        let mut step = self.pitch;
        let mut taken = vec![false; inside.len()];
        for outer in self.outer.iter().rev() {
            // Equal dimensions are interchangeable, but each stands for one.
            let mut slots = inside.iter_mut().zip(boxed).zip(taken.iter_mut());
            if let Some(((dim, _), taken)) = slots.find(|((_, dim), taken)| *dim == outer && !**taken) {
                dim.stride = step;
                *taken = true;
            }
            step = step.saturating_mul(outer.n);
        }
        inside
    }

    fn cost(&self) -> u128 {
        u128::from(self.runs).saturating_mul(u128::from(self.run.saturating_add(READ_COST)))
    }
}

/// Rows a power of two apart would all fall on the same few lines of the cache; an odd number of lines spreads them.
fn pitch(run: u64) -> u64 {
    if run < 256 { run } else { (run.div_ceil(64) | 1).saturating_mul(64) }
}

/// How many elements of the output to gather at a time, and through which gaps to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) elements: u64,
    pub(super) gap: u64,
}

/// Compares bands over each dimension, and each gap, by what reading costs for an element of the output.
pub(super) fn plan(dims: &[Dim], width: u64, limit: u64) -> Plan {
    let total = dims.iter().fold(1_u64, |n, dim| n.saturating_mul(dim.n));
    let whole = Footprint::new(dims, width, 512);
    // The usual case, and the quick answer for small ones.
    if whole.bytes <= limit && (whole.runs == 1 || whole.bytes <= 64 * 1024) {
        return Plan { elements: total, gap: 512 };
    }
    let mut best = (Plan { elements: 1, gap: 0 }, u128::from(READ_COST.saturating_add(width)));
    for gap in GAPS {
        let mut inner = total;
        for (level, dim) in dims.iter().enumerate() {
            inner = inner.checked_div(dim.n).unwrap_or(0);
            let mut boxed = dims.get(level..).unwrap_or_default().to_vec();
            let Some((rows, cost)) = most_rows(&mut boxed, width, gap, limit) else { continue };
            let elements = rows.saturating_mul(inner);
            let better = cost.saturating_mul(u128::from(best.0.elements))
                < best.1.saturating_mul(u128::from(elements));
            if better {
                best = (Plan { elements, gap }, cost);
            }
        }
    }
    best.0
}

/// How many rows of the outermost dimension fit, and what reading them costs; `None` where not even one does.
fn most_rows(boxed: &mut [Dim], width: u64, gap: u64, limit: u64) -> Option<(u64, u128)> {
    let n = boxed.first()?.n;
    let mut fits = |rows: u64| {
        boxed.first_mut()?.n = rows;
        let footprint = Footprint::new(boxed, width, gap);
        (footprint.bytes <= limit).then(|| footprint.cost())
    };
    if let Some(cost) = fits(n) {
        return Some((n, cost));
    }
    let mut best = (1, fits(1)?);
    let (mut low, mut high) = (1, n);
    while high.saturating_sub(low) > 1 {
        let middle = low.midpoint(high);
        match fits(middle) {
            Some(cost) => (low, best) = (middle, (middle, cost)),
            None => high = middle,
        }
    }
    // Bands of equal size, not large ones and a rest that costs as many reads as they do.
    let count = n.div_ceil(best.0);
    let even = n.div_ceil(count);
    if let Some(cost) = fits(even) {
        best = (even, cost);
    }
    Some(best)
}

/// Calls `visit` with the two offsets of every combination of indices, the last dimension fastest: one by the strides
/// of the dimensions, one by the strides `others`, which may be fewer and then count as 0.
pub(super) fn walk(dims: &[Dim], others: &[u64], mut visit: impl FnMut(u64, u64)) {
    let mut at = vec![0_u64; dims.len()];
    let (mut offset, mut other) = (0_u64, 0_u64);
    loop {
        visit(offset, other);
        let mut level = dims.len();
        loop {
            let Some(next) = level.checked_sub(1) else { return };
            level = next;
            let (Some(dim), Some(i)) = (dims.get(level), at.get_mut(level)) else { return };
            let step = others.get(level).copied().unwrap_or(0);
            *i = i.saturating_add(1);
            if *i < dim.n {
                offset = offset.saturating_add(dim.stride);
                other = other.saturating_add(step);
                break;
            }
            let back = dim.n.saturating_sub(1);
            offset = offset.saturating_sub(back.saturating_mul(dim.stride));
            other = other.saturating_sub(back.saturating_mul(step));
            *i = 0;
        }
    }
}
