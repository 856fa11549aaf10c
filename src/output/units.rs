//! Units of work: one large tensor (or a part of it), or a run of small ones, in the order of the output.

use super::Item;
use super::layout::Layout;
use crate::bytes::index;

/// A run of small tensors is written with one call, from one buffer of this size.
pub(super) const RUN: u64 = 1 << 20;

/// Without digests a tensor can be copied in parts, by several threads at once.
const PART: u64 = 8 << 20;

/// One unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    /// Position of its first tensor in the order of the output.
    pub(super) first: usize,
    /// Number of tensors.
    pub(super) count: usize,
    /// Where it begins in the output file, and how many bytes it has.
    pub(super) start: u64,
    pub(super) len: u64,
    /// The elements that it covers, where it is a part of its tensor.
    pub(super) part: Option<(u64, u64)>,
}

/// Cuts the output into units. Every tensor is in one, an empty one as well.
pub(super) fn cut(items: &[Item<'_>], layout: &Layout, digests: bool) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let base = layout.data_start();
    let mut open = false;
    for (position, item) in layout.order.iter().filter_map(|i| items.get(index(u64::from(*i)))).enumerate() {
        let (start, end) = layout.offsets(position);
        let (start, len) = (base.saturating_add(start), end.saturating_sub(start));
        // A tensor that is cast takes twice its room at most while it is read.
        if len <= RUN >> 1 {
            match units.last_mut().filter(|unit| open && unit.len.saturating_add(len) <= RUN) {
                Some(unit) => {
                    unit.count = unit.count.saturating_add(1);
                    unit.len = unit.len.saturating_add(len);
                }
                None => units.push(Unit { first: position, count: 1, start, len, part: None }),
            }
            open = true;
            continue;
        }
        open = false;
        let whole = Unit { first: position, count: 1, start, len, part: None };
        if digests || !item.view.is_contiguous() {
            units.push(whole);
        } else {
            split(&mut units, whole, item.dtype().size());
        }
    }
    units
}

fn split(units: &mut Vec<Unit>, whole: Unit, width: u64) {
    let each = PART.checked_div(width).unwrap_or(1);
    let elements = whole.len.checked_div(width).unwrap_or(0);
    let mut from = 0_u64;
    while from < elements {
        let to = from.saturating_add(each).min(elements);
        units.push(Unit {
            start: whole.start.saturating_add(from.saturating_mul(width)),
            len: to.saturating_sub(from).saturating_mul(width),
            part: Some((from, to)),
            ..whole
        });
        from = to;
    }
}
