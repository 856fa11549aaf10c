//! Which bytes of its storage a tensor shows.

use crate::bytes::Span;
use crate::tensor::{Place, Storage, StreamId, Tensor, View};

/// Runs of a tensor that are told apart. One of more runs counts as one from its first to its last byte.
const RUNS: u64 = 65_536;

/// Runs that are told apart over all tensors: a file that shows one strided view a million times must not cost more.
const ALL_RUNS: u64 = 4_000_000;

/// Bytes of the file behind `file` that some tensor shows, each counted once, however many storages and views share it. A
/// deflated storage counts as a whole, with its stored size. Data that is embedded in a pickle, which has no key, and
/// what lies in other streams do not count.
pub fn shown(file: StreamId, storages: &[Storage], tensors: &[Tensor]) -> u64 {
    union(spans(file, storages, tensors)).iter().fold(0_u64, |n, span| n.saturating_add(span.len()))
}

/// Runs of the file behind `file` that lie in a storage and that no tensor shows, in the order of the file. Deflated
/// storages are left out.
pub fn unshown(file: StreamId, storages: &[Storage], tensors: &[Tensor]) -> Vec<Span> {
    let stored = storages.iter().filter(|storage| !storage.key.is_empty()).filter_map(|s| match s.place {
        Place::Stored { stream, span } if stream == file => Some(span),
        _ => None,
    });
    let mut shown = union(spans(file, storages, tensors)).into_iter().peekable();
    let mut hidden = Vec::new();
    for storage in union(stored.collect()) {
        let mut at = storage.start();
        while let Some(span) = shown.peek().filter(|span| span.start() < storage.end()) {
            if span.start() > at {
                hidden.push(Span::between(at, span.start()));
            }
            at = at.max(span.end());
            if span.end() > storage.end() {
                break;
            }
            shown.next();
        }
        if at < storage.end() {
            hidden.push(Span::between(at, storage.end()));
        }
    }
    hidden
}

fn spans<'a>(file: StreamId, storages: &[Storage], tensors: &'a [Tensor]) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut budget = ALL_RUNS;
    let pieces =
        |tensor: &'a Tensor| tensor.pieces.iter().flat_map(|pieces| pieces.iter().map(|piece| &piece.view));
    for view in tensors.iter().flat_map(|tensor| std::iter::once(&tensor.view).chain(pieces(tensor))) {
        let storage = storages.get(view.storage().index()).filter(|storage| !storage.key.is_empty());
        match storage.map(|storage| storage.place) {
            Some(Place::Deflated { stream, span }) if stream == file => spans.push(span),
            Some(Place::Stored { stream, span }) if stream == file => {
                runs(view, span.start(), &mut budget, &mut spans);
            }
            Some(_) | None => {}
        }
    }
    spans
}

/// The runs of bytes that a view of a storage at `base` shows.
fn runs(view: &View, base: u64, budget: &mut u64, out: &mut Vec<Span>) {
    if view.is_empty() {
        return;
    }
    let item = view.dtype().size();
    let start = base.saturating_add(view.offset().saturating_mul(item));
    let dims = view.strides().iter().zip(view.shape());
    let mut dims: Vec<(u64, u64)> = dims
        .filter(|(stride, size)| **stride > 0 && **size > 1)
        .map(|(t, z)| (t.saturating_mul(item), *z))
        .collect();
    dims.sort_unstable();
    let mut run = item;
    let mut outer = dims.as_slice();
    while let Some(((stride, size), rest)) = outer.split_first()
        && *stride <= run
    {
        run = run.saturating_add(size.saturating_sub(1).saturating_mul(*stride));
        outer = rest;
    }
    let count = outer.iter().fold(1_u64, |n, (_, size)| n.saturating_mul(*size));
    let left = budget.checked_sub(count).filter(|_| count <= RUNS);
    if let Some(left) = left {
        *budget = left;
    } else {
        let last =
            outer.iter().fold(run, |n, (t, z)| n.saturating_add(z.saturating_sub(1).saturating_mul(*t)));
        out.extend(Span::new(start, last));
        return;
    }
    for i in 0..count {
        let mut rest = i;
        let mut at = start;
        for (stride, size) in outer {
            at = at.saturating_add(rest.checked_rem(*size).unwrap_or(0).saturating_mul(*stride));
            rest = rest.checked_div(*size).unwrap_or(0);
        }
        out.extend(Span::new(at, run));
    }
}

/// The spans, sorted and joined where they touch.
fn union(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut joined: Vec<Span> = Vec::new();
    for span in spans.into_iter().filter(|span| !span.is_empty()) {
        match joined.last_mut() {
            Some(last) if span.start() <= last.end() => {
                *last = Span::between(last.start(), last.end().max(span.end()));
            }
            _ => joined.push(span),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::tensor::{Dtype, Family, StorageId, ViewSpec};

    fn shown_of(views: &[(i64, &[i64], &[i64])]) -> u64 {
        let (storage, tensors) = tensors_of(views);
        let storages = [storage];
        let hidden =
            unshown(StreamId::SOURCE, &storages, &tensors).iter().map(|span| span.len()).sum::<u64>();
        let shown = shown(StreamId::SOURCE, &storages, &tensors);
        assert_eq!(shown + hidden, 4000);
        shown
    }

    fn tensors_of(views: &[(i64, &[i64], &[i64])]) -> (Storage, Vec<Tensor>) {
        let place = Place::Stored { stream: StreamId::SOURCE, span: Span::between(0, 4000) };
        let storage =
            Storage { key: "0".into(), entry: None, place, len: 4000, big_endian: false, crc32: None };
        let tensors = views
            .iter()
            .map(|(offset, shape, strides)| {
                let spec = ViewSpec {
                    dtype: Dtype::F32,
                    family: Family::Torch,
                    offset: *offset,
                    shape: shape.to_vec(),
                    strides: strides.to_vec(),
                    negated: false,
                    conjugated: false,
                };
                let view = View::new(StorageId(0), &storage, &spec, &Limits::default()).unwrap();
                Tensor::new(view)
            })
            .collect();
        (storage, tensors)
    }

    #[test]
    fn overlaps_count_once_and_gaps_not_at_all() {
        assert_eq!(shown_of(&[(0, &[10, 100], &[100, 1])]), 4000);
        assert_eq!(shown_of(&[(0, &[100, 10], &[1, 100])]), 4000);
        assert_eq!(shown_of(&[(0, &[10], &[1]), (5, &[10], &[1])]), 60);
        assert_eq!(shown_of(&[(0, &[500], &[2])]), 2000);
        assert_eq!(shown_of(&[(3, &[7, 5], &[0, 0])]), 4);
        assert_eq!(shown_of(&[(0, &[10, 3], &[100, 1])]), 120);
        assert_eq!(shown_of(&[]), 0);
    }

    #[test]
    fn runs_are_told_apart_up_to_a_number_over_all_tensors() {
        let strided: (i64, &[i64], &[i64]) = (0, &[500], &[2]);
        let few = vec![strided; 8_000];
        assert_eq!(shown_of(&few), 2000);
        // Another has no runs left, and counts from its first to its last byte.
        assert_eq!(shown_of(&[few.as_slice(), &[strided]].concat()), 3996);
    }
}
