//! From the objects of a pickle to typed [`Values`], for those who want what is no tensor too.
//!
//! Tensors become references to their places. Builtin types are told as such however the protocol spells them; what else
//! is called is kept as the call that it is, so that a loader can make it again.

use std::collections::HashMap;
use std::sync::Arc;

use crate::pickle::{Call, How, Node, NodeId, Payload};
use crate::policy::canonical_name;
use crate::tensor::EntryId;
use crate::values::{Data, Name, Object, TensorValue, Value, ValueId, Values};

use super::allow::Callable;
use super::builder::Builder;
use super::torch::NESTING;

/// Which nodes are tensors: their first places, and the states that set attributes of them.
pub(super) struct Tensors<'a> {
    pub(super) places: &'a HashMap<NodeId, EntryId>,
    pub(super) attributes: &'a HashMap<NodeId, Vec<NodeId>>,
}

/// The values that a node leads to, whose place in the tree is `at`.
pub(super) fn keep(builder: &Builder<'_>, tensors: &Tensors<'_>, root: NodeId, at: EntryId) -> Values {
    let mut keeper =
        Keeper { builder, tensors, ids: vec![None; builder.graph.len()], order: Vec::new(), next: 0 };
    let mut values = Vec::new();
    keeper.id(root);
    while let Some(node) = keeper.take() {
        let value = keeper.value(node);
        values.push(value);
    }
    Values { file: 0, entry: None, at, values }
}

struct Keeper<'a> {
    builder: &'a Builder<'a>,
    tensors: &'a Tensors<'a>,
    /// Of each node that was met.
    ids: Vec<Option<ValueId>>,
    /// Nodes in the order of their values.
    order: Vec<NodeId>,
    next: usize,
}

impl Keeper<'_> {
    fn take(&mut self) -> Option<NodeId> {
        let node = self.order.get(self.next).copied();
        self.next = self.next.saturating_add(1);
        node
    }

    fn id(&mut self, node: NodeId) -> ValueId {
        let next = ValueId(u32::try_from(self.order.len()).unwrap_or(u32::MAX));
        let Some(slot) = self.ids.get_mut(node.index()) else { return next };
        if slot.is_none() {
            self.order.push(node);
        }
        *slot.get_or_insert(next)
    }

    fn ids(&mut self, nodes: &[NodeId]) -> Box<[ValueId]> {
        nodes.iter().map(|node| self.id(*node)).collect()
    }

    fn pairs(&mut self, pairs: &[(NodeId, NodeId)]) -> Box<[(ValueId, ValueId)]> {
        let entries = self.builder.graph.entries(pairs);
        entries.into_iter().map(|(key, value)| (self.id(key), self.id(value))).collect()
    }

    fn value(&mut self, id: NodeId) -> Value {
        if let Some(entry) = self.tensors.places.get(&id) {
            return self.tensor(id, *entry);
        }
        let graph = self.builder.graph;
        match graph.node(id) {
            Node::None => Value::None,
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(value) => Value::Int(*value),
            Node::BigInt(bytes) => Value::BigInt(bytes.clone()),
            Node::Float(value) => Value::Float(*value),
            Node::Str(text) => Value::Text(text.clone()),
            Node::LongStr(span) => {
                Value::LongText(Data::Stored { stream: self.builder.context.stream, span: *span })
            }
            Node::Str2(payload) => Value::OldText(self.data(payload)),
            Node::Bytes(payload) => Value::Bytes(self.data(payload)),
            Node::ByteArray(payload) => Value::ByteArray(self.data(payload)),
            Node::Tuple(items) => Value::Tuple(self.ids(items)),
            Node::List(items) => Value::List(self.ids(items)),
            Node::Set(items) => Value::Set(self.ids(items)),
            Node::FrozenSet(items) => Value::FrozenSet(self.ids(items)),
            Node::Dict(items) => Value::Dict(self.pairs(items)),
            Node::Global(_) => self.name(id).map_or(Value::None, |name| Value::Global(Box::new(name))),
            Node::Persistent(pid) => match self.builder.module_class(*pid).and_then(|id| self.name(id)) {
                Some(class) => Value::Global(Box::new(class)),
                None => Value::Persistent(self.id(*pid)),
            },
            Node::Call(call) => self.builtin(call).unwrap_or_else(|| self.object(call)),
        }
    }

    fn data(&self, payload: &Payload) -> Data {
        match payload {
            Payload::Inline(bytes) => Data::Inline(bytes.clone()),
            Payload::Span(span) => Data::Stored { stream: self.builder.context.stream, span: *span },
        }
    }

    fn name(&self, id: NodeId) -> Option<Name> {
        let (module, name) = self.builder.global_name(id)?;
        let protocol = self.builder.graph.as_global(id)?.protocol;
        let name = canonical_name(module, name, protocol);
        Some(Name { module: module.into(), name: name.into() })
    }

    /// What the calls make by which older protocols spell the types of newer ones.
    fn builtin(&mut self, call: &Call) -> Option<Value> {
        let graph = self.builder.graph;
        if call.how.is_new() || call.state.is_some() || call.more.is_some() {
            return None;
        }
        let args = graph.tuple(call.args)?;
        match (self.builder.global_name(call.callable)?, args) {
            (("_codecs", "encode"), [text, codec]) => Some(Value::Bytes(self.latin1(*text, *codec)?)),
            (("builtins", "bytes"), []) => Some(Value::Bytes(Data::Inline(Arc::default()))),
            (("builtins", "bytearray"), []) => Some(Value::ByteArray(Data::Inline(Arc::default()))),
            (("builtins", "bytearray"), [text, codec]) => Some(Value::ByteArray(self.latin1(*text, *codec)?)),
            (("builtins", "bytearray"), [bytes]) => match graph.node(*bytes) {
                Node::Bytes(payload) => Some(Value::ByteArray(self.data(payload))),
                _ => None,
            },
            (("builtins", "set"), [items]) => Some(Value::Set(self.ids(graph.sequence(*items)?))),
            (("builtins", "frozenset"), [items]) => Some(Value::FrozenSet(self.ids(graph.sequence(*items)?))),
            _ => None,
        }
    }

    /// Bytes that stand in the file as text in Latin-1.
    fn latin1(&self, text: NodeId, codec: NodeId) -> Option<Data> {
        self.builder.check_codec(codec).ok()?;
        let Node::Str(text) = self.builder.graph.node(text) else { return None };
        let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        Some(Data::Inline(bytes?.into()))
    }

    fn object(&mut self, call: &Call) -> Value {
        let states: Vec<NodeId> = call.states().collect();
        // Python 3 calls a class of protocols 0 and 1 only where there are arguments.
        let bare = matches!(call.how, How::Obj | How::Inst)
            && self.builder.graph.tuple(call.args).is_some_and(<[NodeId]>::is_empty);
        Value::Object(Box::new(Object {
            class: self.id(call.callable),
            new: call.how.is_new() || bare,
            args: self.id(call.args),
            kwargs: call.kwargs.map(|id| self.id(id)),
            items: self.ids(call.appended()),
            entries: self.pairs(call.items()),
            states: self.ids(&states),
            data: call.raw().map(|span| Data::Stored { stream: self.builder.context.stream, span }),
            nested: call.nested().map(|id| self.id(id)),
        }))
    }

    fn tensor(&mut self, id: NodeId, entry: EntryId) -> Value {
        let (class, requires_grad) = self.facts(id);
        let states = self.tensors.attributes.get(&id).map_or(Box::default(), |states| self.ids(states));
        Value::Tensor(Box::new(TensorValue { entry, class, requires_grad, states }))
    }

    /// The class of a tensor, where it is not torch's own, and whether its gradient is wanted.
    fn facts(&self, id: NodeId) -> (Option<Name>, bool) {
        let graph = self.builder.graph;
        let numpy = Name { module: "numpy".into(), name: "ndarray".into() };
        let parameter = Name { module: "torch.nn.parameter".into(), name: "Parameter".into() };
        let Some(call) = graph.call(id) else { return (None, false) };
        let (mut callable, mut args) = (call.callable, call.args);
        let mut class = None;
        for _ in 0..NESTING {
            let items = graph.tuple(args).unwrap_or_default();
            let item = |i: usize| items.get(i).copied();
            let flag = |i| item(i).is_some_and(|id| *graph.node(id) == Node::Bool(true));
            match (self.builder.callable(callable), items) {
                (Some(Callable::FromType), [function, kind, inner, ..]) => {
                    class = class.or_else(|| self.name(*kind));
                    (callable, args) = (*function, *inner);
                }
                (Some(Callable::Parameter), _) => return (class.or(Some(parameter)), flag(1)),
                (Some(Callable::ParameterClass), _) => {
                    let state = call.state.and_then(|state| graph.tuple(state)).unwrap_or_default();
                    let frozen = [item(1), state.get(1).copied()];
                    let frozen = frozen.into_iter().flatten().any(|id| *graph.node(id) == Node::Bool(false));
                    return (class.or(Some(parameter)), !frozen);
                }
                (Some(Callable::Tensor(_)), _) => return (class, flag(4)),
                (Some(Callable::Quantized), _) => return (class, flag(5)),
                (Some(Callable::NdArray), [kind, ..]) => return (self.name(*kind), false),
                (Some(Callable::RebuiltArray), _) => return (self.name(callable), false),
                (
                    Some(
                        Callable::FromBuffer
                        | Callable::JoblibArray
                        | Callable::JoblibFile
                        | Callable::MaskedArray,
                    ),
                    _,
                ) => return (Some(numpy), false),
                _ => break,
            }
        }
        (class, false)
    }
}
