//! Nested tensors: many tensors of different sizes in one buffer.
//!
//! - strided: `_rebuild_nested_tensor(buffer, sizes, strides, offsets)`; sizes and strides are matrices with a row for
//!   each tensor, offsets a vector (a list in torch 1.13).
//! - jagged: `_rebuild_njt({"values", "offsets", "lengths", "_ragged_idx", …})`; tensor `i` is the part of `values`
//!   from `offsets[i]` on, along one dimension.
//!
//! Source: `torch/_utils.py`, `torch/nested/_internal/nested_tensor.py`.

use crate::pickle::{Node, NodeId};
use crate::tensor::{Dtype, Encoding, TensorId};

use super::builder::{Builder, Kinded};
use super::error::ErrorKind;
use super::sparse::ranged;
use super::torch::{Made, Parts};

impl<'a> Builder<'a> {
    /// `_rebuild_nested_tensor`
    pub(super) fn nested(&mut self, args: &'a [NodeId], depth: usize) -> Kinded<Made> {
        let [buffer, sizes, strides, offsets] = args else {
            return Err(ErrorKind::ArgumentCount { found: args.len(), expected: "4" });
        };
        let buffer = self.part(*buffer, 0, depth)?;
        let sizes = self.part(*sizes, 1, depth)?;
        let strides = self.part(*strides, 2, depth)?;
        let offsets = match self.graph.node(*offsets) {
            Node::List(_) | Node::Tuple(_) => {
                let list = self.ints(*offsets, 3)?;
                let bytes: Vec<u8> = list.iter().flat_map(|n| n.to_le_bytes()).collect();
                let count = i64::try_from(list.len()).unwrap_or(i64::MAX);
                self.constant(Dtype::I64, &bytes, vec![count])?
            }
            _ => self.part(*offsets, 3, depth)?,
        };
        self.check_nested(buffer, sizes, strides, offsets)?;
        let parts = vec![("buffer", buffer), ("sizes", sizes), ("strides", strides), ("offsets", offsets)];
        Ok(self.nested_parts(parts, "strided", None, Vec::new()))
    }

    fn nested_parts(
        &mut self,
        parts: Vec<(&'static str, TensorId)>,
        scheme: &'static str,
        axis: Option<i64>,
        attributes: Vec<NodeId>,
    ) -> Made {
        for (part, tensor) in &parts {
            let scheme = Some(scheme.into());
            self.encode(*tensor, Encoding { kind: "nested", part, scheme, axis, shape: None });
        }
        Made::Parts(Parts { whole: None, below: parts, attributes })
    }

    /// Every tensor lies in the buffer.
    fn check_nested(
        &mut self,
        buffer: TensorId,
        sizes: TensorId,
        strides: TensorId,
        offsets: TensorId,
    ) -> Kinded<()> {
        let rule = |part, rule| ErrorKind::Part { part, rule };
        let [room] = *self.view(buffer)?.shape() else {
            return Err(rule("buffer", "one dimension expected"));
        };
        let (shape, other) = (self.view(sizes)?, self.view(strides)?);
        let count = match *shape.shape() {
            [count, _] if shape.shape() == other.shape() => count,
            // No tensors at all, or only scalars.
            [count] if shape.shape() == other.shape() => count,
            [] if other.shape().is_empty() => 0,
            _ => return Err(rule("sizes", "a matrix like that of the strides expected")),
        };
        let rank = shape.shape().get(1).copied().unwrap_or(0);
        if self.view(offsets)?.shape() != [count] {
            return Err(rule("offsets", "one for each tensor expected"));
        }
        if shape.is_empty() {
            return Ok(());
        }
        let all = [sizes, strides, offsets].map(|id| self.all(id, "sizes"));
        let [sizes, strides, offsets] = all;
        let (sizes, strides, offsets) = (sizes?, strides?, offsets?);
        let mut pairs = sizes.iter().zip(&strides);
        for offset in &offsets {
            let mut end = Some(i128::from(*offset));
            let mut empty = false;
            for _ in 0..rank {
                let Some((size, stride)) = pairs.next() else { break };
                let (size, stride) = (i128::from(*size), i128::from(*stride));
                empty |= size == 0;
                let step = size.saturating_sub(1).max(0).checked_mul(stride);
                end = end.zip(step).and_then(|(end, step)| end.checked_add(step));
                if size < 0 || stride < 0 {
                    return Err(rule("sizes", "no number below zero expected"));
                }
            }
            let inside = end.is_some_and(|end| end < i128::from(room));
            if *offset < 0 || !(empty || inside) {
                return Err(rule("offsets", "tensors inside the buffer expected"));
            }
        }
        Ok(())
    }

    /// All integers of a small tensor.
    fn all(&mut self, id: TensorId, part: &'static str) -> Kinded<Vec<i64>> {
        /// Three tables of a million tensors.
        const MOST: u64 = 64 << 20;
        if self.view(id)?.nbytes() > MOST {
            return Err(ErrorKind::Unsupported("a nested tensor of so many tensors"));
        }
        let mut data = self.integers(id, part)?;
        let mut all = Vec::new();
        while let Some((_, value)) = data.integer()? {
            all.push(value);
        }
        Ok(all)
    }

    /// `_rebuild_njt`
    pub(super) fn jagged(&mut self, args: &'a [NodeId], depth: usize) -> Kinded<Made> {
        let [arguments] = args else {
            return Err(ErrorKind::ArgumentCount { found: args.len(), expected: "1" });
        };
        let graph = self.graph;
        let (mut values, mut offsets, mut lengths, mut ragged) = (None, None, None, None);
        let mut attributes = Vec::new();
        let entries = self.mapping(*arguments).ok_or_else(|| self.wrong(*arguments, 0, "a dict"))?;
        for (key, value) in entries {
            match graph.text(key).as_deref() {
                Some("values") => values = Some(value),
                Some("offsets") => offsets = Some(value),
                Some("lengths") => lengths = Some(value).filter(|id| *graph.node(*id) != Node::None),
                Some("_ragged_idx") => ragged = Some(self.int(value, 0)?),
                // Shortest and longest length, as shapes of empty tensors.
                Some("_metadata_cache") => attributes.push(value),
                Some("requires_grad") => {}
                other => return Err(ErrorKind::Metadata(other.unwrap_or("(no text)").into())),
            }
        }
        let missing = ErrorKind::Part { part: "values", rule: "values and offsets expected" };
        let (Some(values), Some(offsets)) = (values, offsets) else { return Err(missing) };
        let mut parts =
            vec![("values", self.part(values, 0, depth)?), ("offsets", self.part(offsets, 0, depth)?)];
        if let Some(lengths) = lengths {
            parts.push(("lengths", self.part(lengths, 0, depth)?));
        }
        self.check_jagged(&parts, ragged.unwrap_or(1))?;
        Ok(self.nested_parts(parts, "jagged", ragged, attributes))
    }

    fn check_jagged(&mut self, parts: &[(&'static str, TensorId)], ragged: i64) -> Kinded<()> {
        let rule = |part, rule| ErrorKind::Part { part, rule };
        let [(_, values), (_, offsets), lengths @ ..] = parts else { return Ok(()) };
        let shape = self.view(*values)?;
        // The batch is a dimension of the nested tensor and none of the values.
        let size = ragged.checked_sub(1).and_then(|at| shape.shape().get(usize::try_from(at).ok()?));
        let size = *size.ok_or_else(|| rule("values", "the ragged dimension expected"))?;
        let [count] = *self.view(*offsets)?.shape() else {
            return Err(rule("offsets", "one dimension expected"));
        };
        let mut data = self.integers(*offsets, "offsets")?;
        let mut least = 0;
        for _ in 0..count {
            least = ranged(&mut data, "offsets", least, size)?;
        }
        for (part, lengths) in lengths {
            if self.view(*lengths)?.shape() != [count.saturating_sub(1)] {
                return Err(rule(part, "one for each tensor expected"));
            }
            let offsets = self.all(*offsets, "offsets")?;
            let mut data = self.integers(*lengths, part)?;
            for offset in offsets.iter().take(offsets.len().saturating_sub(1)) {
                let left = size.saturating_sub(u64::try_from(*offset).unwrap_or(0));
                ranged(&mut data, part, 0, left)?;
            }
        }
        Ok(())
    }
}
