//! Sparse tensors of every layout: their components, checked against each other.
//!
//! | layout | parts | shapes, without batch and dense dimensions |
//! |---|---|---|
//! | `sparse_coo` | `indices`, `values` | `[sparse dimensions, n]`, `[n]` |
//! | `sparse_csr`, `sparse_bsr` | `crow_indices`, `col_indices`, `values` | `[rows + 1]`, `[n]`, `[n]` or `[n, block]` |
//! | `sparse_csc`, `sparse_bsc` | `ccol_indices`, `row_indices`, `values` | `[columns + 1]`, `[n]`, `[n]` or `[n, block]` |
//!
//! `_rebuild_sparse_tensor(layout, (parts…, size[, coalesced]))` in Python; `TorchScript`'s writer in C++ gives
//! `(layout number, size, requires_grad, parts…, hooks)`. Source: `torch/_utils.py`,
//! `torch/csrc/jit/serialization/pickler.cpp`. Indices that point outside the tensor make torch read or write beyond
//! its memory, so that they are read here and refused.

use crate::pickle::NodeId;
use crate::tensor::{Encoding, TensorId, View};

use super::allow::Callable;
use super::builder::{Builder, Kinded};
use super::error::ErrorKind;
use super::torch::{Made, Parts};

/// A sparse layout.
struct Layout {
    name: &'static str,
    /// Its number in `c10/core/Layout.h`.
    number: i64,
    /// What its parts are called, but for `values`.
    parts: &'static [&'static str],
    /// Whether the compressed dimension is that of the rows.
    rows: bool,
    /// Whether values are blocks.
    blocks: bool,
}

const ROWS: &[&str] = &["crow_indices", "col_indices"];
const COLUMNS: &[&str] = &["ccol_indices", "row_indices"];

const LAYOUTS: &[Layout] = &[
    Layout { name: "sparse_coo", number: 1, parts: &["indices"], rows: false, blocks: false },
    Layout { name: "sparse_csr", number: 2, parts: ROWS, rows: true, blocks: false },
    Layout { name: "sparse_csc", number: 4, parts: COLUMNS, rows: false, blocks: false },
    Layout { name: "sparse_bsr", number: 5, parts: ROWS, rows: true, blocks: true },
    Layout { name: "sparse_bsc", number: 6, parts: COLUMNS, rows: false, blocks: true },
];

/// The components of a sparse tensor, as the file has them.
struct Components<'a> {
    layout: &'static Layout,
    size: NodeId,
    parts: &'a [NodeId],
}

impl<'a> Builder<'a> {
    /// `_rebuild_sparse_tensor`, `_rebuild_sparse_csr_tensor`
    pub(super) fn sparse(&mut self, args: &'a [NodeId], depth: usize) -> Kinded<Made> {
        let Components { layout, size, parts } = self.components(args)?;
        let size = self.sizes(size)?;
        let mut made = Vec::with_capacity(parts.len());
        let names = layout.parts.iter().chain(&["values"]);
        for (name, id) in names.zip(parts) {
            made.push((*name, self.part(*id, 1, depth)?));
        }
        match made.as_slice() {
            [(_, indices), (_, values)] => self.check_coordinates(*indices, *values, &size)?,
            [compressed, plain, (_, values)] => {
                self.check_compressed(layout, *compressed, *plain, *values, &size)?;
            }
            _ => return Err(ErrorKind::ArgumentCount { found: parts.len(), expected: "2 or 3 parts" }),
        }
        for (part, tensor) in &made {
            let shape = Some(size.clone().into());
            let scheme = Some(layout.name.into());
            self.encode(*tensor, Encoding { kind: "sparse", part, scheme, axis: None, shape });
        }
        Ok(Made::Parts(Parts { whole: None, below: made, attributes: Vec::new() }))
    }

    fn components(&self, args: &'a [NodeId]) -> Kinded<Components<'a>> {
        let expected = "a sparse layout";
        let first = *args.first().ok_or(ErrorKind::ArgumentCount { found: 0, expected: "2" })?;
        let layout = self.layout(first).ok_or_else(|| self.wrong(first, 0, expected))?;
        let count = layout.parts.len().saturating_add(1);
        if self.graph.int(first).is_some() {
            // In C++ hooks follow; they are checked where they stand.
            let [_, size, _grad, parts @ ..] = args else {
                return Err(ErrorKind::ArgumentCount { found: args.len(), expected: "5 or more" });
            };
            let (parts, hooks) = parts.split_at_checked(count).unwrap_or((&[], &[]));
            hooks.iter().try_for_each(|hooks| self.check_hooks(*hooks))?;
            return Ok(Components { layout, size: *size, parts });
        }
        let [_, data] = args else {
            return Err(ErrorKind::ArgumentCount { found: args.len(), expected: "2" });
        };
        let data = self.graph.tuple(*data).ok_or_else(|| self.wrong(*data, 1, "a tuple of parts"))?;
        match data.split_at_checked(count) {
            // Newer versions say behind the size whether the indices are sorted and unique.
            Some((parts, [size] | [size, _])) => Ok(Components { layout, size: *size, parts }),
            _ => Err(ErrorKind::ArgumentCount { found: data.len(), expected: "3 to 5 parts" }),
        }
    }

    /// A layout: as `torch.serialization._get_layout(name)`, as the name itself, or as a number.
    fn layout(&self, id: NodeId) -> Option<&'static Layout> {
        let graph = self.graph;
        if let Some(number) = graph.int(id) {
            return LAYOUTS.iter().find(|layout| layout.number == number);
        }
        let named = |name: &str| LAYOUTS.iter().find(|layout| layout.name == name);
        if let Some(call) = graph.call(id) {
            let value = self.callable(call.callable) == Some(Callable::Value);
            let name =
                graph.tuple(call.args).filter(|_| value)?.first().and_then(|name| graph.text(*name))?;
            return named(name.strip_prefix("torch.")?);
        }
        match self.global_name(id)? {
            ("torch", name) => named(name),
            _ => None,
        }
    }

    fn sizes(&self, id: NodeId) -> Kinded<Vec<u64>> {
        let negative = ErrorKind::Part { part: "size", rule: "no number below zero expected" };
        let sizes = self.ints(id, 1)?;
        sizes.into_iter().map(|size| u64::try_from(size).map_err(|_| negative.clone())).collect()
    }

    fn check_coordinates(&mut self, indices: TensorId, values: TensorId, size: &[u64]) -> Kinded<()> {
        let part = "indices";
        let rule = |part, rule| Err(ErrorKind::Part { part, rule });
        let [dimensions, count] = *self.view(indices)?.shape() else {
            return rule(part, "two dimensions expected");
        };
        let shape = self.view(values)?;
        let Some((nonzero, dense)) = shape.shape().split_first() else {
            return rule("values", "a dimension of values expected");
        };
        if *nonzero != count {
            return rule("values", "one value for each index expected");
        }
        let split = usize::try_from(dimensions).ok().and_then(|at| size.split_at_checked(at));
        let Some((sparse, _)) = split.filter(|(_, rest)| *rest == dense) else {
            return rule("size", "the sparse dimensions and those of the values expected");
        };
        let mut data = self.integers(indices, part)?;
        for size in sparse {
            for _ in 0..count {
                within(&mut data, part, 0, *size)?;
            }
        }
        Ok(())
    }

    fn check_compressed(
        &mut self,
        layout: &Layout,
        (compressed_name, compressed): (&'static str, TensorId),
        (plain_name, plain): (&'static str, TensorId),
        values: TensorId,
        size: &[u64],
    ) -> Kinded<()> {
        let views = (self.view(compressed)?, self.view(plain)?, self.view(values)?);
        let fit = Compressed::new(layout, (&views.0, &views.1, &views.2), size);
        let fit = fit.ok_or(ErrorKind::Part {
            part: "size",
            rule: "shapes of the indices, the values and the tensor that fit each other expected",
        })?;
        let mut data = self.integers(compressed, compressed_name)?;
        for _ in 0..fit.batches {
            let mut least = 0;
            for i in 0..=fit.lines {
                // The first is 0, the last is the number of values, and none is below the one before.
                let least_here = if i == fit.lines { fit.count } else { least };
                let most = if i == 0 { 0 } else { fit.count };
                least = ranged(&mut data, compressed_name, least_here, most)?;
            }
        }
        let mut data = self.integers(plain, plain_name)?;
        for _ in 0..fit.batches.saturating_mul(fit.count) {
            within(&mut data, plain_name, 0, fit.others)?;
        }
        Ok(())
    }
}

/// What the shapes of a compressed tensor say.
struct Compressed {
    batches: u64,
    /// Rows or columns, or blocks of them, that are compressed.
    lines: u64,
    /// Values of each batch.
    count: u64,
    /// The other dimension, in blocks.
    others: u64,
}

impl Compressed {
    /// `None` where the shapes contradict each other.
    fn new(
        layout: &Layout,
        (compressed, plain, values): (&View, &View, &View),
        size: &[u64],
    ) -> Option<Self> {
        let (entries, batch) = compressed.shape().split_last()?;
        let (count, plain_batch) = plain.shape().split_last()?;
        let (value_batch, rest) = values.shape().split_at_checked(batch.len())?;
        let (value_count, rest) = rest.split_first()?;
        let (size_batch, matrix) = size.split_at_checked(batch.len())?;
        let ([rows, columns], dense) = matrix.split_first_chunk::<2>()?;
        let ([tall, wide], value_dense) = if layout.blocks {
            let (block, rest) = rest.split_first_chunk::<2>()?;
            (*block, rest)
        } else {
            ([1, 1], rest)
        };
        let blocks = |of: u64, by: u64| (of.checked_rem(by)? == 0).then(|| of.checked_div(by))?;
        let (rows, columns) = (blocks(*rows, tall)?, blocks(*columns, wide)?);
        let (lines, others) = if layout.rows { (rows, columns) } else { (columns, rows) };
        let same = plain_batch == batch && value_batch == batch && size_batch == batch;
        let fits =
            same && value_count == count && value_dense == dense && lines.checked_add(1) == Some(*entries);
        let batches = batch.iter().try_fold(1_u64, |n, size| n.checked_mul(*size))?;
        fits.then_some(Self { batches, lines, count: *count, others })
    }
}

/// The next integer, which must be an index below `bound`.
pub(super) fn within(
    data: &mut super::integers::Data<'_>,
    part: &'static str,
    least: u64,
    bound: u64,
) -> Kinded<u64> {
    match bound.checked_sub(1) {
        Some(most) => ranged(data, part, least, most),
        None => Err(ErrorKind::Part { part, rule: "no index into a dimension of size 0 expected" }),
    }
}

/// The next integer, which must not be below `least` nor above `most`.
pub(super) fn ranged(
    data: &mut super::integers::Data<'_>,
    part: &'static str,
    least: u64,
    most: u64,
) -> Kinded<u64> {
    let (element, value) = data.integer()?.ok_or(ErrorKind::Part { part, rule: "more of them expected" })?;
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    u64::try_from(value).ok().filter(|n| (least..=most).contains(n)).ok_or(ErrorKind::Index {
        part,
        element,
        value,
        least: signed(least),
        most: signed(most),
    })
}
