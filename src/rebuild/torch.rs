//! Tensors of torch, in every form that its versions have pickled them in.
//!
//! Source: `torch/_utils.py` and `torch/_tensor.py`; for the oldest forms `torch/tensor.py` and
//! `torch/autograd/variable.py` of torch 0.1 to 0.3.

use crate::container::Numbered;
use crate::pickle::{Call, Node, NodeId};
use crate::tensor::{Dtype, Encoding, Family, TensorId, ViewSpec};

use super::allow::{Callable, TensorForm, dtype};
use super::builder::{Builder, Kinded};
use super::error::ErrorKind;
use super::persistent::Resolved;

/// What an interpreted call made.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Made {
    /// A tensor, and objects that carry further attributes of it.
    Tensor(TensorId, Vec<NodeId>),
    /// A tensor that safetensors has no type for.
    Parts(Parts),
    /// A tensor without data of its own: the tensors in these objects' attributes stand for it.
    Shell(Vec<NodeId>),
    /// A tensor that cannot be written.
    LeftOut { reason: &'static str, bytes: u64 },
    /// An array of several fields, each under a name of its own.
    Fields(Vec<(Box<str>, Made)>),
}

/// What stands for a tensor that safetensors has no type for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parts {
    /// What keeps the tensor's own name, if anything does.
    pub(super) whole: Option<TensorId>,
    /// What stands below that name.
    pub(super) below: Vec<(&'static str, TensorId)>,
    /// Objects that carry further attributes of it.
    pub(super) attributes: Vec<NodeId>,
}

/// A parameter of a subclass whose data is rebuilt by another function: no honest object nests deeper.
pub(super) const NESTING: usize = 8;

impl<'a> Builder<'a> {
    /// What a call of an allowlisted callable that makes tensors made; `None` where it makes something else.
    pub(super) fn make(&mut self, id: NodeId) -> Option<Kinded<Made>> {
        self.make_nested(id, 0)
    }

    pub(super) fn make_nested(&mut self, id: NodeId, depth: usize) -> Option<Kinded<Made>> {
        let graph = self.graph;
        if let Node::Persistent(_) = graph.node(id) {
            return self.bare_storage(id);
        }
        let call = graph.call(id)?;
        let Some(callable) = self.callable(call.callable) else { return self.named_data(call, depth) };
        if graph.is_changed_after(id) {
            return Some(Err(ErrorKind::ChangedAfter));
        }
        if callable == Callable::LoadFromBytes {
            return Some(self.bare_storage_tensor(id));
        }
        self.dispatch(callable, call, call.args, depth)
    }

    fn dispatch(
        &mut self,
        callable: Callable,
        call: &'a Call,
        args: NodeId,
        depth: usize,
    ) -> Option<Kinded<Made>> {
        let graph = self.graph;
        let Some(args) = graph.tuple(args) else {
            return makes_tensors(callable).then(|| Err(self.wrong(args, 0, "a tuple of arguments")));
        };
        Some(match callable {
            Callable::Tensor(form) => self.plain(form, args).and_then(|made| unchanged(call, made)),
            Callable::Parameter => self.parameter(args, depth).and_then(|made| unchanged(call, made)),
            Callable::ParameterClass => self.parameter_class(call, args, depth),
            Callable::TensorClass => self.tensor_class(call),
            Callable::FromType => self.typed(call, args, depth),
            Callable::Quantized => self.quantized(args, depth).and_then(|made| unchanged(call, made)),
            Callable::Sparse => self.sparse(args, depth).and_then(|made| unchanged(call, made)),
            Callable::Nested => self.nested(args, depth).and_then(|made| unchanged(call, made)),
            Callable::Jagged => self.jagged(args, depth).and_then(|made| unchanged(call, made)),
            Callable::Wrapper => Ok(Made::Shell(Vec::new())),
            Callable::Meta => unchanged(call, Made::LeftOut { reason: "no data", bytes: 0 }),
            Callable::DeviceFromNumpy | Callable::DeviceFromCpu => {
                self.device(args, depth).and_then(|made| unchanged(call, made))
            }
            _ => return self.numpy(callable, call, args, depth),
        })
    }

    /// A storage that was saved by itself is a tensor of one dimension.
    fn bare_storage(&mut self, id: NodeId) -> Option<Kinded<Made>> {
        if let Node::Persistent(pid) = self.graph.node(id)
            && (self.module_class(*pid).is_some() || self.graph.package_call(id).is_some())
        {
            return None;
        }
        Some(self.bare_storage_tensor(id))
    }

    fn bare_storage_tensor(&mut self, id: NodeId) -> Kinded<Made> {
        if let Node::Persistent(pid) = self.graph.node(id)
            && let Some(numbered) = self.numbered(*pid)
            && let (_, Numbered::Tensor { storage, sizes, strides, offset }) = numbered?
        {
            let (shape, strides) = (sizes.to_vec(), strides.to_vec());
            let Some(storage) = storage else {
                return Ok(Made::LeftOut { reason: "no data", bytes: 0 });
            };
            let storage: Box<str> = storage.into();
            let Resolved { storage, dtype } = self.numbered_storage(&storage)?;
            let spec = ViewSpec { offset, shape, strides, ..empty_spec(dtype.unwrap_or(Dtype::U8)) };
            return Ok(Made::Tensor(self.tensor(storage, &spec)?, Vec::new()));
        }
        let Some(resolved) = self.resolve_storage(id, 0)? else {
            return Ok(Made::LeftOut { reason: "no data", bytes: 0 });
        };
        let dtype = resolved.dtype.unwrap_or(Dtype::U8);
        let len = self.storage(resolved.storage).map_or(0, |storage| storage.len);
        let count = len.checked_div(dtype.size()).and_then(|n| i64::try_from(n).ok()).unwrap_or(i64::MAX);
        let spec = ViewSpec { shape: vec![count], strides: vec![1], ..empty_spec(dtype) };
        Ok(Made::Tensor(self.tensor(resolved.storage, &spec)?, Vec::new()))
    }

    /// `_rebuild_tensor`, `_v2`, `_v3`.
    fn plain(&mut self, form: TensorForm, args: &[NodeId]) -> Kinded<Made> {
        let (base, rest, element) = match (form, args) {
            (TensorForm::V1, [s, o, z, t]) => ([*s, *o, *z, *t], [None, None], None),
            (TensorForm::V2, [s, o, z, t, _grad, hooks]) => ([*s, *o, *z, *t], [Some(*hooks), None], None),
            (TensorForm::V2, [s, o, z, t, _grad, hooks, meta]) => {
                ([*s, *o, *z, *t], [Some(*hooks), Some(*meta)], None)
            }
            (TensorForm::V3, [s, o, z, t, _grad, hooks, dtype]) => {
                ([*s, *o, *z, *t], [Some(*hooks), None], Some(*dtype))
            }
            (TensorForm::V3, [s, o, z, t, _grad, hooks, dtype, meta]) => {
                ([*s, *o, *z, *t], [Some(*hooks), Some(*meta)], Some(*dtype))
            }
            _ => {
                let expected = match form {
                    TensorForm::V1 => "4",
                    TensorForm::V2 => "6 or 7",
                    TensorForm::V3 => "7 or 8",
                };
                return Err(ErrorKind::ArgumentCount { found: args.len(), expected });
            }
        };
        let [hooks, metadata] = rest;
        hooks.map_or(Ok(()), |hooks| self.check_hooks(hooks))?;
        let (negated, conjugated) = metadata.map_or(Ok((false, false)), |meta| self.math_bits(meta))?;
        let element = element.map(|id| self.torch_dtype(id, 6)).transpose()?;
        let mut spec = self.spec(&base)?;
        (spec.negated, spec.conjugated) = (negated, conjugated);
        self.view_of(base[0], element, spec)
    }

    pub(super) fn spec(&self, [_, offset, size, stride]: &[NodeId; 4]) -> Kinded<ViewSpec> {
        Ok(ViewSpec {
            offset: self.int(*offset, 1)?,
            shape: self.ints(*size, 2)?,
            strides: self.ints(*stride, 3)?,
            ..empty_spec(Dtype::U8)
        })
    }

    fn view_of(&mut self, storage: NodeId, element: Option<Dtype>, mut spec: ViewSpec) -> Kinded<Made> {
        let Some(resolved) = self.resolve_storage(storage, 0)? else {
            return Ok(Made::LeftOut { reason: "no data", bytes: 0 });
        };
        let untyped =
            ErrorKind::Argument { position: 0, found: "an untyped storage", expected: "a typed storage" };
        spec.dtype = element.or(resolved.dtype).ok_or(untyped)?;
        Ok(Made::Tensor(self.tensor(resolved.storage, &spec)?, Vec::new()))
    }

    /// An element type given as a name of torch.
    pub(super) fn torch_dtype(&self, id: NodeId, position: usize) -> Kinded<Dtype> {
        match self.global_name(id) {
            Some(("torch", name)) if dtype(name).is_some() => Ok(dtype(name).unwrap_or(Dtype::U8)),
            Some(("torch", _)) => Err(ErrorKind::Unsupported("this element type")),
            _ => Err(self.wrong(id, position, "an element type of torch")),
        }
    }

    /// Hooks would run on the tensor: only an empty dictionary is honest.
    pub(super) fn check_hooks(&self, id: NodeId) -> Kinded<()> {
        let graph = self.graph;
        let empty = match graph.node(id) {
            Node::None => true,
            Node::Dict(items) => items.is_empty(),
            Node::Call(call) => {
                let mapping = self.callable(call.callable) == Some(Callable::Mapping);
                let no_args = match graph.tuple(call.args) {
                    Some([]) => true,
                    Some([only]) => graph.sequence(*only).is_some_and(<[NodeId]>::is_empty),
                    _ => false,
                };
                mapping && no_args && call.items().is_empty() && call.states().next().is_none()
            }
            _ => false,
        };
        if empty { Ok(()) } else { Err(ErrorKind::Hooks) }
    }

    /// `{"neg": bool, "conj": bool}`; anything else could change what the bytes mean.
    fn math_bits(&self, id: NodeId) -> Kinded<(bool, bool)> {
        let graph = self.graph;
        let items = match graph.node(id) {
            Node::None => return Ok((false, false)),
            Node::Dict(items) => items,
            _ => return Err(self.wrong(id, 6, "a dict")),
        };
        // Many tensors may share a dictionary that sets the same key a million times.
        if items.len() > 2 {
            return Err(ErrorKind::Metadata("more than two keys".into()));
        }
        let mut bits = (false, false);
        for (key, value) in items {
            let Node::Bool(set) = *graph.node(*value) else {
                return Err(self.wrong(*value, 6, "a dict of booleans"));
            };
            match graph.text(*key).as_deref() {
                Some("neg") => bits.0 = set,
                Some("conj") => bits.1 = set,
                other => return Err(ErrorKind::Metadata(other.unwrap_or("(no text)").into())),
            }
        }
        Ok(bits)
    }

    /// The tensor that an argument is.
    fn inner(&mut self, args: &[NodeId], position: usize, depth: usize) -> Kinded<Made> {
        let id =
            *args.get(position).ok_or(ErrorKind::ArgumentCount { found: args.len(), expected: "more" })?;
        if depth >= NESTING {
            return Err(ErrorKind::Unsupported("a tensor nested in so many others"));
        }
        match self.make_nested(id, depth.saturating_add(1)) {
            Some(made) => made,
            None => Err(self.wrong(id, position, "a tensor")),
        }
    }

    /// A plain tensor that is part of another.
    pub(super) fn part(&mut self, id: NodeId, position: usize, depth: usize) -> Kinded<TensorId> {
        /// A part takes more than one level, so that tensors of several parts do not multiply.
        const LEVELS: usize = NESTING >> 1;
        let depth = depth.saturating_add(LEVELS.saturating_sub(1));
        match self.inner(&[id], 0, depth)? {
            Made::Tensor(tensor, _) => Ok(tensor),
            Made::LeftOut { .. } => Err(ErrorKind::Unsupported("a tensor of which a part has no data")),
            Made::Parts(_) | Made::Shell(_) | Made::Fields(_) => {
                let expected = "a plain tensor";
                Err(ErrorKind::Argument { position, found: "a tensor in parts", expected })
            }
        }
    }

    /// Records that a tensor is part of a re-encoded one.
    pub(super) fn encode(&mut self, tensor: TensorId, encoding: Encoding) {
        if let Some(tensor) = self.rebuilt.tensors.get_mut(tensor.index()) {
            tensor.encoding = Some(Box::new(encoding));
        }
    }

    /// `_rebuild_parameter(data, requires_grad, hooks[, state])`
    fn parameter(&mut self, args: &[NodeId], depth: usize) -> Kinded<Made> {
        let state = match args {
            [_, _, hooks] => self.check_hooks(*hooks).map(|()| None)?,
            [_, _, hooks, state] => self.check_hooks(*hooks).map(|()| Some(*state))?,
            _ => return Err(ErrorKind::ArgumentCount { found: args.len(), expected: "3 or 4" }),
        };
        let made = self.inner(args, 0, depth)?;
        Ok(with_attributes(made, state))
    }

    /// The class `Parameter`: data as argument, or as the first of five items of its state.
    fn parameter_class(&mut self, call: &Call, args: &[NodeId], depth: usize) -> Kinded<Made> {
        let attributes = only_state(call)?;
        let state = attributes.and_then(|state| self.graph.tuple(state));
        // What `BUILD` sets replaces what the class was called with.
        let data = match (args.first(), state) {
            (_, Some([data, _, hooks, _, _])) => {
                self.check_hooks(*hooks)?;
                *data
            }
            (_, Some([_, _, _, _])) => return self.tensor_class(call),
            (Some(data), Some([_, _, hooks])) => {
                self.check_hooks(*hooks)?;
                *data
            }
            (Some(data), None) => return Ok(with_attributes(self.inner(&[*data], 0, depth)?, attributes)),
            _ => return Err(ErrorKind::ArgumentCount { found: args.len(), expected: "1 or 2" }),
        };
        self.inner(&[data], 0, depth)
    }

    /// `torch.FloatTensor` and its kin: made empty, filled by a state of `(storage, offset, size, stride)`.
    fn tensor_class(&mut self, call: &Call) -> Kinded<Made> {
        let state = only_state(call)?.and_then(|state| self.graph.tuple(state));
        match state {
            Some([storage, offset, size, stride]) => {
                let base = [*storage, *offset, *size, *stride];
                let spec = self.spec(&base)?;
                self.view_of(*storage, None, spec)
            }
            // An empty tensor was pickled without a storage.
            Some([]) => Ok(Made::LeftOut { reason: "no data", bytes: 0 }),
            _ => Err(ErrorKind::Argument {
                position: 0,
                found: "no state",
                expected: "(storage, offset, size, stride)",
            }),
        }
    }

    /// `_rebuild_from_type_v2(func, type, args, state)`: `func` is looked up in the allowlist as any callable is.
    fn typed(&mut self, call: &'a Call, args: &'a [NodeId], depth: usize) -> Kinded<Made> {
        let [function, class, inner_args, state] = args else {
            return Err(ErrorKind::ArgumentCount { found: args.len(), expected: "4" });
        };
        if depth >= NESTING {
            return Err(ErrorKind::Unsupported("a tensor nested in so many others"));
        }
        let callable = self.callable(*function).filter(|callable| makes_tensors(*callable));
        let callable = callable.ok_or_else(|| self.wrong(*function, 0, "a rebuilding function"))?;
        let made = self.dispatch(callable, call, *inner_args, depth.saturating_add(1));
        match made.unwrap_or_else(|| Err(self.wrong(*function, 0, "a rebuilding function")))? {
            Made::Shell(_) if self.is_distributed(*class) => self.distributed(*inner_args, *state, depth),
            Made::Shell(shell) => self
                .sharded(*class, (*inner_args, *state), depth)
                .unwrap_or_else(|| Ok(with_attributes(Made::Shell(shell), Some(*state)))),
            // Its state repeats the parts under private names.
            Made::Parts(parts) if callable == Callable::Jagged => Ok(Made::Parts(parts)),
            made => Ok(with_attributes(made, Some(*state))),
        }
    }

    /// `_rebuild_device_tensor_from_numpy(array, dtype, device, requires_grad)`, and the same of a tensor.
    fn device(&mut self, args: &[NodeId], depth: usize) -> Kinded<Made> {
        let [_, element, ..] = args else {
            return Err(ErrorKind::ArgumentCount { found: args.len(), expected: "4" });
        };
        let element = self.torch_dtype(*element, 1)?;
        let made = self.inner(args, 0, depth)?;
        let Made::Tensor(tensor, attributes) = made else { return Ok(made) };
        let view = self.view(tensor)?;
        match (view.dtype(), element) {
            (found, element) if found == element => Ok(Made::Tensor(tensor, attributes)),
            (Dtype::F32, Dtype::Bf16) if view.family() == Family::Numpy => {
                Ok(Made::Tensor(self.narrowed(tensor)?, attributes))
            }
            _ => Err(ErrorKind::Unsupported("a device tensor of another type")),
        }
    }

    /// Numpy has no bfloat16, so that torch widens it to singles. Those of which the lower half is zero are bfloat16 as
    /// they stand: the upper halves are a view of the same data.
    fn narrowed(&mut self, tensor: TensorId) -> Kinded<TensorId> {
        let view = self.view(tensor)?;
        let big_endian = self.storage(view.storage()).is_some_and(|storage| storage.big_endian);
        let double = |n: u64| i64::try_from(n).ok().and_then(|n| n.checked_mul(2));
        let overflow = || ErrorKind::Unsupported("a tensor of this size");
        let start = double(view.offset()).ok_or_else(overflow)?;
        let strides = view.strides().iter().map(|n| double(*n)).collect::<Option<Vec<i64>>>();
        let shape = view.shape().iter().map(|n| i64::try_from(*n).ok()).collect::<Option<Vec<i64>>>();
        let mut half = ViewSpec {
            offset: if big_endian { start.saturating_add(1) } else { start },
            shape: shape.ok_or_else(overflow)?,
            strides: strides.ok_or_else(overflow)?,
            ..empty_spec(Dtype::U16)
        };
        let lower = self.tensor(view.storage(), &half)?;
        let lower = self.view(lower)?;
        let mut data = self.elements(&lower)?;
        while let Some((element, bits)) = data.next()? {
            if bits != [0, 0] {
                return Err(ErrorKind::Inexact { element, dtype: Dtype::Bf16 });
            }
        }
        half.offset = if big_endian { start } else { start.saturating_add(1) };
        half.dtype = Dtype::Bf16;
        self.tensor(view.storage(), &half)
    }
}

/// Whether an allowlisted callable makes a tensor, so that arguments it cannot take are an error.
pub(super) fn makes_tensors(callable: Callable) -> bool {
    matches!(
        callable,
        Callable::Tensor(_)
            | Callable::Parameter
            | Callable::ParameterClass
            | Callable::TensorClass
            | Callable::FromType
            | Callable::Quantized
            | Callable::Sparse
            | Callable::Nested
            | Callable::Jagged
            | Callable::Wrapper
            | Callable::Meta
            | Callable::DeviceFromNumpy
            | Callable::DeviceFromCpu
    )
}

fn with_attributes(made: Made, state: Option<NodeId>) -> Made {
    match made {
        Made::Tensor(tensor, mut attributes) => {
            attributes.extend(state);
            Made::Tensor(tensor, attributes)
        }
        Made::Parts(mut parts) => {
            parts.attributes.extend(state);
            Made::Parts(parts)
        }
        Made::Shell(mut attributes) => {
            attributes.extend(state);
            Made::Shell(attributes)
        }
        other @ (Made::LeftOut { .. } | Made::Fields(_)) => other,
    }
}

/// A rebuilt tensor has no state to build and no items to set.
pub(super) fn unchanged(call: &Call, made: Made) -> Kinded<Made> {
    let changed = call.states().next().is_some() || !call.items().is_empty() || !call.appended().is_empty();
    if changed { Err(ErrorKind::Changed) } else { Ok(made) }
}

/// The state of an object that takes one. A second one, or items, would replace what was read from the first.
pub(super) fn only_state(call: &Call) -> Kinded<Option<NodeId>> {
    let once = call.states().nth(1).is_none() && call.items().is_empty() && call.appended().is_empty();
    if once { Ok(call.state) } else { Err(ErrorKind::Changed) }
}

pub(super) fn empty_spec(dtype: Dtype) -> ViewSpec {
    ViewSpec {
        dtype,
        family: Family::Torch,
        offset: 0,
        shape: Vec::new(),
        strides: Vec::new(),
        negated: false,
        conjugated: false,
    }
}
