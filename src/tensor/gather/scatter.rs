//! Copies a strided box of memory to contiguous memory, in blocks that fit the first cache.

use crate::bytes::index;

use super::bands::{Dim, join, walk};

/// Elements along each side of a block: with 8-byte elements its source lines and its target take 32 KiB each at most.
const TILE: usize = 64;

/// The two dimensions that the inner loops run over, in elements.
#[derive(Debug, Clone, Copy)]
struct Plane {
    rows: usize,
    row_from: usize,
    row_to: usize,
    columns: usize,
    column_from: usize,
}

/// Fills the front of `to` with the box `dims` of `from` in row-major order. Strides are in bytes, whole elements.
pub(super) fn scatter(width: u64, from: &[u8], dims: &[Dim], to: &mut [u8]) {
    match width {
        1 => elements(from.as_chunks::<1>().0, dims, 1, to.as_chunks_mut::<1>().0),
        2 => elements(from.as_chunks::<2>().0, dims, 2, to.as_chunks_mut::<2>().0),
        4 => elements(from.as_chunks::<4>().0, dims, 4, to.as_chunks_mut::<4>().0),
        8 => elements(from.as_chunks::<8>().0, dims, 8, to.as_chunks_mut::<8>().0),
        _ => elements(from.as_chunks::<16>().0, dims, 16, to.as_chunks_mut::<16>().0),
    }
}

fn elements<const W: usize>(from: &[[u8; W]], dims: &[Dim], width: u64, to: &mut [[u8; W]]) {
    let mut dims =
        join(dims.iter().map(|dim| Dim { stride: dim.stride.checked_div(width).unwrap_or(0), ..*dim }));
    let Some(inner) = dims.pop() else {
        to.iter_mut().zip(from).take(1).for_each(|(to, from)| *to = *from);
        return;
    };
    // Beside the innermost dimension, the inner loops take the one whose neighbours share lines of the cache.
    let closest = dims.iter().enumerate().filter(|(_, dim)| dim.stride != 0 && dim.stride < inner.stride);
    let row = closest.min_by_key(|(_, dim)| dim.stride).map(|(i, _)| i).or(dims.len().checked_sub(1));
    let mut targets = vec![0_u64; dims.len()];
    let mut step = inner.n;
    for (target, dim) in targets.iter_mut().zip(&dims).rev() {
        *target = step;
        step = step.saturating_mul(dim.n);
    }
    let (row, row_to) = match row {
        Some(i) => (dims.remove(i), targets.remove(i)),
        None => (Dim { n: 1, stride: 0 }, 0),
    };
    let plane = Plane {
        rows: index(row.n),
        row_from: index(row.stride),
        row_to: index(row_to),
        columns: index(inner.n),
        column_from: index(inner.stride),
    };
    walk(&dims, &targets, |source, target| {
        let from = from.get(index(source)..).unwrap_or_default();
        let to = to.get_mut(index(target)..).unwrap_or_default();
        copy(plane, from, to);
    });
}

fn copy<const W: usize>(plane: Plane, from: &[[u8; W]], to: &mut [[u8; W]]) {
    match plane.column_from {
        0 => rows(plane, from, to, |from, to| to.fill(from.first().copied().unwrap_or([0; W]))),
        1 => rows(plane, from, to, |from, to| to.copy_from_slice(from.get(..to.len()).unwrap_or_default())),
        step if plane.row_from >= step || plane.rows == 1 => {
            rows(plane, from, to, |from, to| stride(from, step, to));
        }
        step => tiles(plane, step, from, to),
    }
}

fn rows<T>(plane: Plane, from: &[T], to: &mut [T], copy: impl Fn(&[T], &mut [T])) {
    for row in 0..plane.rows {
        let from = from.get(row.saturating_mul(plane.row_from)..).unwrap_or_default();
        let to = to.get_mut(row.saturating_mul(plane.row_to)..).unwrap_or_default();
        copy(from, to.get_mut(..plane.columns).unwrap_or_default());
    }
}

fn stride<T: Copy>(from: &[T], step: usize, to: &mut [T]) {
    to.iter_mut().zip(from.iter().step_by(step)).for_each(|(to, from)| *to = *from);
}

/// A transposition, block by block: each line of the source is used up before it leaves the cache.
fn tiles<T: Copy>(plane: Plane, step: usize, from: &[T], to: &mut [T]) {
    for column in (0..plane.columns).step_by(TILE) {
        let width = TILE.min(plane.columns.saturating_sub(column));
        let from = from.get(column.saturating_mul(step)..).unwrap_or_default();
        for first in (0..plane.rows).step_by(TILE) {
            let last = first.saturating_add(TILE).min(plane.rows);
            for row in first..last {
                let from = from.get(row.saturating_mul(plane.row_from)..).unwrap_or_default();
                let start = row.saturating_mul(plane.row_to).saturating_add(column);
                let to = to.get_mut(start..).and_then(|to| to.get_mut(..width)).unwrap_or_default();
                stride(from, step, to);
            }
        }
    }
}
