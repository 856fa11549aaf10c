//! Quantized tensors: integers, with a scale and a zero point for the tensor or for each place along one axis.
//!
//! `_rebuild_qtensor(storage, offset, size, stride, (scheme, scale, zero point[, axis]), requires_grad, hooks)`. The
//! integers keep the tensor's name, `scale` and `zero_point` are parts of it. Source: `torch/_utils.py`; `TorchScript`
//! writes the same form (`torch/csrc/jit/serialization/pickler.cpp`).

use crate::pickle::{Node, NodeId};
use crate::tensor::{Dtype, Encoding, TensorId};

use super::builder::{Builder, Kinded};
use super::error::ErrorKind;
use super::torch::{Made, Parts, empty_spec};

const PER_TENSOR: &str = "per_tensor_affine";
const PER_CHANNEL: &str = "per_channel_affine";
const FLOAT_PARAMETERS: &str = "per_channel_affine_float_qparams";

/// What turns the integers into numbers.
struct Parameters {
    scheme: &'static str,
    scale: TensorId,
    zero_point: TensorId,
    axis: Option<i64>,
}

impl<'a> Builder<'a> {
    /// `_rebuild_qtensor`
    pub(super) fn quantized(&mut self, args: &'a [NodeId], depth: usize) -> Kinded<Made> {
        let [storage, offset, size, stride, parameters, _grad, hooks] = args else {
            return Err(ErrorKind::ArgumentCount { found: args.len(), expected: "7" });
        };
        self.check_hooks(*hooks)?;
        let mut spec = self.spec(&[*storage, *offset, *size, *stride])?;
        let Some(resolved) = self.resolve_storage(*storage, 0)? else {
            return Ok(Made::LeftOut { reason: "no data", bytes: 0 });
        };
        let Some(dtype) = resolved.dtype else {
            let bytes = self.storage(resolved.storage).map_or(0, |storage| storage.len);
            return Ok(Made::LeftOut { reason: "quantized values smaller than a byte", bytes });
        };
        if !matches!(dtype, Dtype::QI8 | Dtype::QU8 | Dtype::QI32) {
            let expected = "a storage of quantized integers";
            return Err(ErrorKind::Argument { position: 0, found: "a plain storage", expected });
        }
        spec.dtype = dtype;
        let values = self.tensor(resolved.storage, &spec)?;
        let parameters = self.quantizer(*parameters, &spec.shape, depth)?;
        let Parameters { scheme, scale, zero_point, axis } = parameters;
        for (tensor, part) in [(values, "values"), (scale, "scale"), (zero_point, "zero_point")] {
            let scheme = Some(scheme.into());
            self.encode(tensor, Encoding { kind: "quantized", part, scheme, axis, shape: None });
        }
        let parts = vec![("scale", scale), ("zero_point", zero_point)];
        Ok(Made::Parts(Parts { whole: Some(values), below: parts, attributes: Vec::new() }))
    }

    fn quantizer(&mut self, id: NodeId, shape: &[i64], depth: usize) -> Kinded<Parameters> {
        let expected = "(scheme, scale, zero point[, axis])";
        let wrong = |builder: &Self| builder.wrong(id, 4, expected);
        let items = self.graph.tuple(id).ok_or_else(|| wrong(self))?;
        let Some(("torch", scheme)) = items.first().and_then(|scheme| self.global_name(*scheme)) else {
            return Err(wrong(self));
        };
        match (scheme, items) {
            (PER_TENSOR, [_, scale, zero_point]) => {
                let scale = self.float(*scale).ok_or_else(|| wrong(self))?;
                let zero_point = self.int(*zero_point, 4)?;
                Ok(Parameters {
                    scheme: PER_TENSOR,
                    scale: self.constant(Dtype::F64, &scale.to_le_bytes(), Vec::new())?,
                    zero_point: self.constant(Dtype::I64, &zero_point.to_le_bytes(), Vec::new())?,
                    axis: None,
                })
            }
            (PER_CHANNEL | FLOAT_PARAMETERS, [_, scales, zero_points, axis]) => {
                let axis = self.int(*axis, 4)?;
                let size = usize::try_from(axis).ok().and_then(|axis| shape.get(axis));
                let outside = ErrorKind::Part { part: "axis", rule: "a dimension of the tensor expected" };
                let size = u64::try_from(*size.ok_or(outside)?).unwrap_or(u64::MAX);
                let scale = self.channels(*scales, "scale", size, depth)?;
                let zero_point = self.channels(*zero_points, "zero_point", size, depth)?;
                // Torch writes the plain scheme for both, and tells them apart by the type of the zero points.
                let float = self.view(zero_point)?.dtype().is_float();
                let scheme = if float { FLOAT_PARAMETERS } else { PER_CHANNEL };
                Ok(Parameters { scheme, scale, zero_point, axis: Some(axis) })
            }
            _ => Err(ErrorKind::Unsupported("this scheme of quantization")),
        }
    }

    /// One number for each channel: a tensor, or a list as old versions wrote it.
    fn channels(&mut self, id: NodeId, part: &'static str, size: u64, depth: usize) -> Kinded<TensorId> {
        let list = match self.graph.node(id) {
            Node::List(items) => Some(items),
            _ => None,
        };
        let tensor = match list {
            Some(items) => self.listed(items, part)?,
            None => self.part(id, 4, depth)?,
        };
        let view = self.view(tensor)?;
        if view.shape() != [size] {
            return Err(ErrorKind::Part { part, rule: "one number for each place along the axis expected" });
        }
        let integers = part == "zero_point" && matches!(view.dtype(), Dtype::I64 | Dtype::I32);
        if !integers && !view.dtype().is_float() {
            return Err(ErrorKind::Part { part, rule: "a tensor of numbers expected" });
        }
        Ok(tensor)
    }

    fn listed(&mut self, items: &[NodeId], part: &'static str) -> Kinded<TensorId> {
        let graph = self.graph;
        let rule = ErrorKind::Part { part, rule: "a list of numbers expected" };
        let integers = || items.iter().map(|item| graph.int(*item)).collect::<Option<Vec<i64>>>();
        let (dtype, bytes): (Dtype, Vec<u8>) =
            if let Some(integers) = integers().filter(|_| part == "zero_point") {
                (Dtype::I64, integers.iter().flat_map(|n| n.to_le_bytes()).collect())
            } else {
                let floats: Option<Vec<f64>> = items.iter().map(|item| self.float(*item)).collect();
                (Dtype::F64, floats.ok_or(rule)?.iter().flat_map(|x| x.to_le_bytes()).collect())
            };
        let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
        self.constant(dtype, &bytes, vec![count])
    }

    /// A number as a double; integers above 53 bits are none.
    fn float(&self, id: NodeId) -> Option<f64> {
        match self.graph.node(id) {
            Node::Float(x) => Some(*x),
            Node::Int(n) => i32::try_from(*n).ok().map(f64::from),
            _ => None,
        }
    }

    /// A tensor of values that stand in the pickle's own opcodes, with at most one dimension.
    pub(super) fn constant(&mut self, dtype: Dtype, bytes: &[u8], shape: Vec<i64>) -> Kinded<TensorId> {
        let place = self.keep(bytes);
        let storage = self.add_storage(super::array::embedded(place));
        let strides = vec![1; shape.len()];
        self.tensor(storage, &crate::tensor::ViewSpec { shape, strides, ..empty_spec(dtype) })
    }
}
