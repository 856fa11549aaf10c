//! The arena of objects that a pickle builds. Handles, not clones: what is shared stays shared, a doubling bomb costs
//! nothing, and neither dropping nor printing recurses.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::bytes::{Offset, Span};

/// Handle of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    /// Position in the arena.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Number of a memo entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemoId(pub u64);

impl fmt::Display for MemoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Handle of a global name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GlobalId(pub(super) u32);

impl GlobalId {
    /// Position in [`Graph::globals`].
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Bytes of the pickle: small ones in memory, large ones where they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// In memory.
    Inline(Arc<[u8]>),
    /// In the stream that the pickle was read from, by absolute position.
    Span(Span),
}

impl Payload {
    /// Number of bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => crate::bytes::length(bytes.len()),
            Self::Span(span) => span.len(),
        }
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One object of the pickle.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `None`
    None,
    /// `True`, `False`
    Bool(bool),
    /// An integer that fits in 64 bits.
    Int(i64),
    /// Any other integer: two's complement, little-endian.
    BigInt(Box<[u8]>),
    /// A float.
    Float(f64),
    /// Text. A lone surrogate stands as `\udXXX`.
    Str(Box<str>),
    /// Text too long to be a name: UTF-8 in the stream, not validated.
    LongStr(Span),
    /// A `str` of Python 2: bytes that may be text.
    Str2(Payload),
    /// `bytes`
    Bytes(Payload),
    /// `bytearray`
    ByteArray(Payload),
    /// A tuple.
    Tuple(Box<[NodeId]>),
    /// A list.
    List(Vec<NodeId>),
    /// A dictionary, in the order of arrival and with repeated keys: see [`Graph::entries`].
    Dict(Vec<(NodeId, NodeId)>),
    /// A set, in the order of arrival.
    Set(Vec<NodeId>),
    /// A frozen set, in the order of arrival.
    FrozenSet(Box<[NodeId]>),
    /// A reference to a name.
    Global(GlobalId),
    /// A call that Python would make.
    Call(Box<Call>),
    /// A persistent id, to be resolved by the container.
    Persistent(NodeId),
}

impl Node {
    /// Its Python type, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::BigInt(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) | Self::LongStr(_) | Self::Str2(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::ByteArray(_) => "bytearray",
            Self::Tuple(_) => "tuple",
            Self::List(_) => "list",
            Self::Dict(_) => "dict",
            Self::Set(_) => "set",
            Self::FrozenSet(_) => "frozenset",
            Self::Global(_) => "global",
            Self::Call(_) => "call",
            Self::Persistent(_) => "persistent id",
        }
    }
}

/// Which opcode would make the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// `REDUCE`: `callable(*args)`
    Reduce,
    /// `NEWOBJ`: `cls.__new__(cls, *args)`
    NewObj,
    /// `NEWOBJ_EX`: `cls.__new__(cls, *args, **kwargs)`
    NewObjEx,
    /// `OBJ`: `cls(*args)`
    Obj,
    /// `INST`: `cls(*args)`
    Inst,
}

impl How {
    /// Whether `__new__` alone would run, and no function of the caller's choice.
    pub fn is_new(self) -> bool {
        matches!(self, Self::NewObj | Self::NewObjEx)
    }
}

/// A call that Python would make, with everything done to its result afterwards.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The opcode.
    pub how: How,
    /// What would be called.
    pub callable: NodeId,
    /// Its positional arguments, a tuple for every call that works.
    pub args: NodeId,
    /// Its keyword arguments (`NEWOBJ_EX`).
    pub kwargs: Option<NodeId>,
    /// Where, from the start of the pickle.
    pub offset: Offset,
    /// The argument of the first `BUILD`.
    pub state: Option<NodeId>,
    /// What else was done to the result; rarely anything.
    pub more: Option<Box<Changes>>,
}

/// What was done to the result of a call besides one `BUILD`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// Arguments of further `BUILD`s.
    pub states: Vec<NodeId>,
    /// From `SETITEM` and `SETITEMS`, in the order of arrival.
    pub items: Vec<(NodeId, NodeId)>,
    /// From `APPEND`, `APPENDS` and `ADDITEMS`.
    pub appended: Vec<NodeId>,
    /// Raw bytes that the container found right after the `BUILD` (joblib arrays).
    pub raw: Option<Span>,
    /// The object of a complete pickle that stands right after the `BUILD` (joblib's arrays of objects).
    pub nested: Option<NodeId>,
}

impl Call {
    /// Keys and values that were set on the result.
    pub fn items(&self) -> &[(NodeId, NodeId)] {
        self.more.as_ref().map_or(&[], |more| &more.items)
    }

    /// Values that were appended to the result.
    pub fn appended(&self) -> &[NodeId] {
        self.more.as_ref().map_or(&[], |more| &more.appended)
    }

    /// Arguments of every `BUILD`, in order.
    pub fn states(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.state.into_iter().chain(self.more.iter().flat_map(|more| more.states.iter().copied()))
    }

    /// Raw bytes right after the `BUILD`.
    pub fn raw(&self) -> Option<Span> {
        self.more.as_ref().and_then(|more| more.raw)
    }

    /// The object of a complete pickle right after the `BUILD`.
    pub fn nested(&self) -> Option<NodeId> {
        self.more.as_ref().and_then(|more| more.nested)
    }

    pub(super) fn more(&mut self) -> &mut Changes {
        self.more.get_or_insert_default()
    }
}

/// A name that the pickle refers to, as it is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// Module.
    pub module: Box<str>,
    /// Name within the module.
    pub name: Box<str>,
    /// How many opcodes refer to it.
    pub count: u64,
    /// The first of them, from the start of the pickle.
    pub offset: Offset,
    /// The lowest protocol in force where it is referred to: below 3, names of Python 2 are renamed.
    pub protocol: u8,
}

/// A container that a call was given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given {
    pub(super) call: NodeId,
    pub(super) container: NodeId,
    pub(super) items: usize,
}

/// The objects of one pickle.
#[derive(Default)]
pub struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) globals: Vec<Global>,
    pub(super) names: HashMap<(Box<str>, Box<str>), GlobalId>,
    pub(super) anomalies: Vec<super::Anomaly>,
    /// Lists, dictionaries and sets that calls were given, with the number of their items then.
    pub(super) given: Vec<Given>,
    /// The last that was declared.
    pub(super) protocol: u8,
    /// The lowest that was in force when a name was met.
    pub(super) names_protocol: Option<u8>,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("nodes", &self.nodes.len())
            .field("globals", &self.globals)
            .field("anomalies", &self.anomalies)
            .finish_non_exhaustive()
    }
}

impl Graph {
    /// The object behind a handle. Handles of another graph give `None`'s node, never a panic.
    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id.index()).unwrap_or(&Node::None)
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing was built.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Every handle, in the order in which the objects were made.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).map(NodeId)
    }

    /// Every name that the pickle refers to, whether it used it or not.
    pub fn globals(&self) -> &[Global] {
        &self.globals
    }

    /// The name behind a handle.
    pub fn global(&self, id: GlobalId) -> Option<&Global> {
        self.globals.get(id.index())
    }

    /// What the writer would not have done.
    pub fn anomalies(&self) -> &[super::Anomaly] {
        &self.anomalies
    }

    /// The protocol that the pickle declares; 0 without `PROTO`. Where several are declared, the lowest that was in
    /// force when a name was met, because Python maps names of Python 2 at that moment.
    pub fn protocol(&self) -> u8 {
        self.names_protocol.unwrap_or(self.protocol)
    }

    /// Whether a list, dictionary or set was changed after the call was given it. Python's call saw what was in it then: one
    /// that copies differs from what the graph shows.
    pub fn is_changed_after(&self, call: NodeId) -> bool {
        let first = self.given.partition_point(|given| given.call < call);
        let mut given = self.given.iter().skip(first).take_while(|given| given.call == call);
        given.any(|given| self.container_len(given.container) != Some(given.items))
    }

    /// Number of items of a list, a dictionary or a set that can be changed.
    pub(super) fn container_len(&self, id: NodeId) -> Option<usize> {
        match self.node(id) {
            Node::List(items) | Node::Set(items) => Some(items.len()),
            Node::Dict(items) => Some(items.len()),
            _ => None,
        }
    }

    /// Every call that Python would make, also those whose result was thrown away.
    pub fn calls(&self) -> impl Iterator<Item = (NodeId, &Call)> {
        self.ids().filter_map(|id| self.call(id).map(|call| (id, call)))
    }

    /// The call that made an object.
    pub fn call(&self, id: NodeId) -> Option<&Call> {
        match self.node(id) {
            Node::Call(call) => Some(call),
            _ => None,
        }
    }

    /// Function and arguments of a persistent id `("reduce_package", number, function, arguments)`, which the reader of
    /// `torch.package` calls.
    pub fn package_call(&self, id: NodeId) -> Option<(NodeId, NodeId)> {
        let Node::Persistent(pid) = self.node(id) else { return None };
        let [tag, rest @ ..] = self.tuple(*pid)? else { return None };
        match rest {
            // Without the number before torch 1.11.
            [function, args] | [_, function, args]
                if self.text(*tag).as_deref() == Some("reduce_package") =>
            {
                Some((*function, *args))
            }
            _ => None,
        }
    }

    /// The name that an object is.
    pub fn as_global(&self, id: NodeId) -> Option<&Global> {
        match self.node(id) {
            Node::Global(global) => self.global(*global),
            _ => None,
        }
    }

    /// The items of a tuple.
    pub fn tuple(&self, id: NodeId) -> Option<&[NodeId]> {
        match self.node(id) {
            Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The items of a tuple or a list.
    pub fn sequence(&self, id: NodeId) -> Option<&[NodeId]> {
        match self.node(id) {
            Node::Tuple(items) => Some(items),
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    /// A signed integer; a boolean counts as 0 or 1, as in Python.
    pub fn int(&self, id: NodeId) -> Option<i64> {
        match self.node(id) {
            Node::Int(n) => Some(*n),
            Node::Bool(b) => Some(i64::from(*b)),
            _ => None,
        }
    }

    /// Text, also of Python 2 where it is UTF-8.
    pub fn text(&self, id: NodeId) -> Option<Cow<'_, str>> {
        match self.node(id) {
            Node::Str(text) => Some(Cow::Borrowed(text)),
            Node::Str2(Payload::Inline(bytes)) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            _ => None,
        }
    }

    /// Bytes of a `bytes`, a `bytearray` or a Python 2 string.
    pub fn payload(&self, id: NodeId) -> Option<&Payload> {
        match self.node(id) {
            Node::Str2(payload) | Node::Bytes(payload) | Node::ByteArray(payload) => Some(payload),
            _ => None,
        }
    }

    /// Handles that an object holds, in order.
    pub fn children(&self, id: NodeId, each: &mut dyn FnMut(NodeId)) {
        match self.node(id) {
            Node::Tuple(items) | Node::FrozenSet(items) => items.iter().copied().for_each(each),
            Node::List(items) | Node::Set(items) => items.iter().copied().for_each(each),
            Node::Dict(items) => items.iter().for_each(|(key, value)| {
                each(*key);
                each(*value);
            }),
            Node::Persistent(pid) => each(*pid),
            Node::Call(call) => {
                each(call.callable);
                each(call.args);
                call.kwargs.into_iter().for_each(&mut *each);
                call.states().for_each(&mut *each);
                call.items().iter().for_each(|(key, value)| {
                    each(*key);
                    each(*value);
                });
                call.appended().iter().copied().for_each(&mut *each);
                call.nested().into_iter().for_each(each);
            }
            _ => {}
        }
    }

    /// The entries of a dictionary with Python's semantics: the last value of a key wins and stands at the place of
    /// its first; `1`, `True` and `1.0` are one key, `1` and `"1"` are two.
    pub fn entries(&self, items: &[(NodeId, NodeId)]) -> Vec<(NodeId, NodeId)> {
        let mut seen: HashMap<Key<'_>, usize> = HashMap::with_capacity(items.len());
        let mut entries: Vec<(NodeId, NodeId)> = Vec::with_capacity(items.len());
        for &(key, value) in items {
            let position = *seen.entry(self.key(key)).or_insert(entries.len());
            match entries.get_mut(position) {
                Some(entry) => entry.1 = value,
                None => entries.push((key, value)),
            }
        }
        entries
    }

    /// What makes a key equal to another. Tuples and objects are compared by handle: a pickler memoises them, so that
    /// an equal key is the same handle, and a repeated one is at worst kept twice and met as a collision of names.
    fn key(&self, id: NodeId) -> Key<'_> {
        match self.node(id) {
            Node::None => Key::None,
            Node::Bool(b) => Key::Int(i64::from(*b)),
            Node::Int(n) => Key::Int(*n),
            // A NaN equals nothing: each object is a key of its own.
            Node::Float(x) if x.is_nan() => Key::Identity(id),
            Node::Float(x) => whole(*x).map_or(Key::Float(x.to_bits()), Key::Int),
            Node::Str(text) => Key::Text(text.as_bytes()),
            Node::Str2(Payload::Inline(bytes)) => Key::Text(bytes),
            Node::Bytes(Payload::Inline(bytes)) => Key::Bytes(bytes),
            Node::Global(global) => Key::Global(*global),
            _ => Key::Identity(id),
        }
    }
}

/// The integer that a float equals.
fn whole(x: f64) -> Option<i64> {
    /// Up to here every integer has a float of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "whole and within 53 bits")]
    (x.fract() == 0.0 && x.abs() <= EXACT).then_some(x as i64)
}

#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    None,
    Int(i64),
    Float(u64),
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    Global(GlobalId),
    Identity(NodeId),
}
