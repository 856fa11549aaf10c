//! What a rebuild works with: the graph, the container that resolves storages, and the tensors found so far.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bytes::{Offset, Part, Span, length, read_vec};
use crate::container::Storages;
use crate::limits::{LimitKind, Limits, check};
use crate::pickle::{Call, Global, Graph, Node, NodeId, Payload};
use crate::tensor::{
    Assembled, Dtype, Fragment, Place, Region, Storage, StorageId, StreamId, Streams, Tensor, TensorId, Tree,
    View, ViewSpec,
};

use crate::policy::canonical;
use crate::values::Values;

use super::allow::{Callable, allow};
use super::array::Array;
use super::distributed::Shard;
use super::error::{Error, ErrorKind};
use super::paddle::Joined;
use super::torch::only_state;

/// What a pickle is rebuilt from besides its graph.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Context<'a> {
    /// The stream that the pickle was read from; its embedded data lies there.
    pub stream: StreamId,
    /// Where storages of persistent ids are; `None` in a pickle that stands alone.
    pub storages: Option<&'a dyn Storages>,
    /// Bounds.
    pub limits: &'a Limits,
    /// Lists tensors that depend on an uninterpreted call instead of failing.
    pub skip_unresolved: bool,
    /// Arrays whose data lies in a file of its own, by the position of the call that names the file.
    pub companions: Option<&'a HashMap<Offset, Array>>,
    /// Whether arrays of `uint16` hold bfloat16, as `PaddlePaddle` writes them.
    pub paddle_bf16: bool,
    /// Whether the values that are no tensors are kept, and not only counted.
    pub values: bool,
    /// Whether tensors that are spread over ranks are noted as [`Rebuilt::shards`], and not refused.
    pub shards: bool,
    /// What values hold that are checkpoints themselves, such as the bytes that `torch.save` wrote to a buffer.
    pub nested: Option<&'a HashMap<NodeId, Rebuilt>>,
}

impl<'a> Context<'a> {
    /// A pickle that stands alone in a stream.
    pub fn new(stream: StreamId, limits: &'a Limits) -> Self {
        Self {
            stream,
            storages: None,
            limits,
            skip_unresolved: false,
            companions: None,
            paddle_bf16: false,
            values: false,
            shards: false,
            nested: None,
        }
    }
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// The tensors of a pickle, and where they stand in it.
#[derive(Debug, Clone, Default)]
pub struct Rebuilt {
    /// Places, in the pickle's order.
    pub tree: Tree,
    /// Tensors.
    pub tensors: Vec<Tensor>,
    /// The storages that they are views of.
    pub storages: Vec<Storage>,
    /// The values of each pickle, where they are kept.
    pub values: Vec<Values>,
    /// Tensors of which it has parts, where these are wanted.
    pub shards: Vec<Shard>,
}

/// Runs of bytes one behind the other; spans lie inside their streams, because views of them were proven.
fn join(streams: &Streams, pieces: &[Piece]) -> Option<Assembled> {
    let mut at = 0_u64;
    let fragment = |(stream, span): &Piece| {
        let source = Arc::new(Part::new(streams.shared(*stream)?, *span)?);
        let region = Region { start: [at].into(), size: [span.len()].into() };
        at = at.checked_add(span.len())?;
        Some(Fragment { source, region })
    };
    let fragments = pieces.iter().map(fragment).collect::<Option<Vec<_>>>()?;
    Assembled::new(&[at], 1, fragments).ok()
}

impl Rebuilt {
    /// Adds a storage.
    pub fn add_storage(&mut self, storage: Storage) -> StorageId {
        let id = StorageId(u32::try_from(self.storages.len()).unwrap_or(u32::MAX));
        self.storages.push(storage);
        id
    }

    /// Adds a tensor, which still needs its place.
    pub fn add_tensor(&mut self, tensor: Tensor) -> TensorId {
        let id = TensorId(u32::try_from(self.tensors.len()).unwrap_or(u32::MAX));
        self.tensors.push(tensor);
        id
    }
}

pub(super) type Kinded<T> = Result<T, ErrorKind>;

/// The state of one rebuild.
pub(super) struct Builder<'a> {
    pub(super) graph: &'a Graph,
    /// What each name is: looked up once, and asked for at every call.
    callables: Vec<Option<Callable>>,
    pub(super) context: Context<'a>,
    pub(super) streams: &'a mut Streams,
    pub(super) rebuilt: Rebuilt,
    storages_by_key: HashMap<Box<str>, (StorageId, Option<Dtype>)>,
    views_by_key: HashMap<Box<str>, StorageId>,
    /// Small or decoded data, which becomes one stream at the end.
    pub(super) arena: Vec<u8>,
    pub(super) arena_stream: StreamId,
    /// Storages of calls that embed them.
    pub(super) embedded: HashMap<NodeId, StorageId>,
    /// What was read to check tensors.
    pub(super) purse: super::integers::Purse,
    /// Data that was read before: many arrays may refer to one text.
    decoded: HashMap<NodeId, Place>,
    /// A dictionary whose entries are others than it says.
    pub(super) joined: Option<Joined>,
    /// Streams that are put together of pieces once the arena is one.
    joins: Vec<(StreamId, Vec<Piece>)>,
    /// The ranks of each mesh that was met.
    pub(super) meshes: HashMap<NodeId, Option<TensorId>>,
}

/// A run of a stream.
pub(super) type Piece = (StreamId, Span);

impl<'a> Builder<'a> {
    pub(super) fn new(graph: &'a Graph, context: Context<'a>, streams: &'a mut Streams) -> Self {
        let arena_stream = streams.push(Arc::new(Vec::new()));
        let look_up = |global: &Global| allow(canonical(&global.module, global.protocol), &global.name);
        Self {
            graph,
            callables: graph.globals().iter().map(look_up).collect(),
            context,
            streams,
            rebuilt: Rebuilt::default(),
            storages_by_key: HashMap::new(),
            views_by_key: HashMap::new(),
            arena: Vec::new(),
            decoded: HashMap::new(),
            joined: None,
            joins: Vec::new(),
            meshes: HashMap::new(),
            arena_stream,
            embedded: HashMap::new(),
            purse: super::integers::Purse::default(),
        }
    }

    /// Goes on from what other pickles of the source gave: a storage that has a key is the same in all of them.
    pub(super) fn continue_from(&mut self, rebuilt: Rebuilt) {
        let keyed = rebuilt.storages.iter().zip(0..).filter(|(storage, _)| !storage.key.is_empty());
        self.storages_by_key =
            keyed.map(|(storage, id)| (storage.key.clone(), (StorageId(id), None))).collect();
        self.rebuilt = rebuilt;
    }

    pub(super) fn finish(self) -> Rebuilt {
        self.streams.replace(self.arena_stream, Arc::new(self.arena));
        for (stream, pieces) in self.joins {
            if let Some(joined) = join(self.streams, &pieces) {
                self.streams.replace(stream, Arc::new(joined));
            }
        }
        self.rebuilt
    }

    // Streams.

    /// A stream that is complete; `None` for the arena, which is not yet.
    pub(super) fn shared(&self, id: StreamId) -> Option<Arc<dyn crate::bytes::ReadAt>> {
        (id != self.arena_stream).then(|| self.streams.shared(id)).flatten()
    }

    pub(super) fn push_stream(&mut self, stream: Arc<dyn crate::bytes::ReadAt>) -> StreamId {
        self.streams.push(stream)
    }

    /// A stream of pieces, some of which may lie in the arena: it is put together when that is complete.
    pub(super) fn join_later(&mut self, pieces: Vec<Piece>, len: u64) -> Place {
        let stream = self.streams.push(Arc::new(Vec::new()));
        self.joins.push((stream, pieces));
        Place::Stored { stream, span: Span::between(0, len) }
    }

    /// Copies a field of records in the arena to its end.
    pub(super) fn gather_kept(
        &mut self,
        span: Span,
        (start, record, item, count): (u64, u64, u64, u64),
    ) -> Option<Place> {
        let mut field = Vec::new();
        for i in 0..count {
            let at = span.start().checked_add(start)?.checked_add(i.checked_mul(record)?)?;
            let end = at.checked_add(item)?;
            field.extend_from_slice(self.arena.get(crate::bytes::index(at)..crate::bytes::index(end))?);
        }
        Some(self.keep(&field))
    }

    // Names.

    /// Module and name of a global, in Python 3's terms.
    pub(super) fn global_name(&self, id: NodeId) -> Option<(&'a str, &'a str)> {
        let graph = self.graph;
        let global = graph.as_global(id)?;
        Some((canonical(&global.module, global.protocol), &global.name))
    }

    /// What an object is, if it is an allowlisted name.
    pub(super) fn callable(&self, id: NodeId) -> Option<Callable> {
        let Node::Global(global) = self.graph.node(id) else { return None };
        self.callables.get(global.index()).copied().flatten()
    }

    /// Full name of what a call calls, for messages.
    pub(super) fn callable_name(&self, call: &Call) -> Box<str> {
        match self.global_name(call.callable) {
            Some((module, name)) => format!("{module}.{name}").into(),
            None => self.graph.node(call.callable).type_name().into(),
        }
    }

    pub(super) fn error(&self, call: &Call, kind: ErrorKind) -> Error {
        Error { callable: self.callable_name(call), offset: call.offset, kind }
    }

    // Arguments.

    /// An argument that has to be something else: says what it is, and which call hides it where one does.
    pub(super) fn wrong(&self, id: NodeId, position: usize, expected: &'static str) -> ErrorKind {
        if let Some(call) = self.graph.call(id)
            && self.callable(call.callable).is_none()
        {
            return ErrorKind::Unresolved { callable: self.callable_name(call), at: call.offset };
        }
        ErrorKind::Argument { position, found: self.graph.node(id).type_name(), expected }
    }

    pub(super) fn int(&self, id: NodeId, position: usize) -> Kinded<i64> {
        self.graph.int(id).ok_or_else(|| self.wrong(id, position, "an integer"))
    }

    /// A tuple, list or `torch.Size` of integers.
    pub(super) fn ints(&self, id: NodeId, position: usize) -> Kinded<Vec<i64>> {
        let expected = "a tuple of integers";
        let items = self.items(id).ok_or_else(|| self.wrong(id, position, expected))?;
        // Before they are read: many tensors may share a tuple of a million items.
        check(LimitKind::Rank, length(self.context.limits.rank), length(items.len()))?;
        items
            .iter()
            .map(|item| self.graph.int(*item).ok_or_else(|| self.wrong(*item, position, expected)))
            .collect()
    }

    /// The items of a tuple, a list, a set, or an allowlisted sequence made from one; `None` where they cannot be told.
    pub(super) fn items(&self, id: NodeId) -> Option<&'a [NodeId]> {
        let Some(call) = self.graph.call(id) else { return self.plain_items(id) };
        if self.callable(call.callable) != Some(Callable::Sequence) || self.graph.is_changed_after(id) {
            return None;
        }
        let name = self.global_name(call.callable).map_or("", |(_, name)| name);
        match self.graph.tuple(call.args)? {
            [] => Some(&[]),
            // `__new__` of a class that can be changed takes no notice of its arguments.
            _ if call.how.is_new() && !matches!(name, "tuple" | "frozenset" | "Size") => Some(&[]),
            [items] => self.plain_items(*items),
            [items, _longest] if name == "deque" => self.plain_items(*items),
            _ => None,
        }
    }

    fn plain_items(&self, id: NodeId) -> Option<&'a [NodeId]> {
        match self.graph.node(id) {
            Node::Tuple(items) | Node::FrozenSet(items) => Some(items),
            Node::List(items) | Node::Set(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn args(&self, call: &'a Call) -> Kinded<&'a [NodeId]> {
        self.graph.tuple(call.args).ok_or_else(|| self.wrong(call.args, 0, "a tuple of arguments"))
    }

    // Embedded data.

    /// Bytes given as `bytes`, as `bytearray`, as a Python 2 string, or as text in Latin-1. What is referred to often
    /// is decoded once.
    pub(super) fn data(&mut self, id: NodeId, position: usize) -> Kinded<Place> {
        let graph = self.graph;
        let Some(id) = self.unwrap_data(id, position)? else { return Ok(self.keep(&[])) };
        if let Some(place) = self.decoded.get(&id) {
            return Ok(*place);
        }
        let place = match graph.node(id) {
            Node::Bytes(payload) | Node::ByteArray(payload) | Node::Str2(payload) => self.payload(payload),
            // Python 3 reads a Python 2 pickle's arrays as text when it is told to decode strings as Latin-1.
            Node::Str(_) | Node::LongStr(_) => self.latin1(id, position)?,
            _ => return Err(self.wrong(id, position, "bytes")),
        };
        self.decoded.insert(id, place);
        Ok(place)
    }

    /// What calls that only pass data on were given; `None` for no data at all.
    fn unwrap_data(&self, mut id: NodeId, position: usize) -> Kinded<Option<NodeId>> {
        /// `bytearray(_codecs.encode(text, "latin1"))` is the deepest that is honest.
        const WRAPPINGS: usize = 8;
        let graph = self.graph;
        for _ in 0..WRAPPINGS {
            let Some(call) = graph.call(id) else { return Ok(Some(id)) };
            let inner = match (self.callable(call.callable), graph.tuple(call.args)) {
                (Some(Callable::ByteArray), Some([])) => None,
                (Some(Callable::ByteArray), Some([inner])) if graph.int(*inner).is_none() => Some(*inner),
                (Some(Callable::Encode | Callable::ByteArray), Some([inner, codec])) => {
                    self.check_codec(*codec)?;
                    Some(*inner)
                }
                _ => return Err(self.wrong(id, position, "bytes")),
            };
            if only_state(call)?.is_some() {
                return Err(ErrorKind::Changed);
            }
            let Some(inner) = inner else { return Ok(None) };
            id = inner;
        }
        Err(self.wrong(id, position, "bytes"))
    }

    pub(super) fn check_codec(&self, id: NodeId) -> Kinded<()> {
        match self.graph.text(id).as_deref() {
            Some("latin1" | "latin-1") => Ok(()),
            Some(other) => Err(ErrorKind::Codec(other.into())),
            None => Err(self.wrong(id, 1, "the name of a codec")),
        }
    }

    fn payload(&mut self, payload: &Payload) -> Place {
        match payload {
            Payload::Span(span) => Place::Stored { stream: self.context.stream, span: *span },
            Payload::Inline(bytes) => self.keep(bytes),
        }
    }

    pub(super) fn keep(&mut self, bytes: &[u8]) -> Place {
        let start = length(self.arena.len());
        self.arena.extend_from_slice(bytes);
        let span = Span::between(start, start.saturating_add(length(bytes.len())));
        Place::Stored { stream: self.arena_stream, span }
    }

    fn latin1(&mut self, id: NodeId, position: usize) -> Kinded<Place> {
        let graph = self.graph;
        let loaded;
        let text = match graph.node(id) {
            Node::Str(text) => &**text,
            Node::LongStr(span) => {
                check(LimitKind::StringBytes, self.context.limits.string_bytes, span.len())?;
                let bytes = read_vec(self.streams.stream(self.context.stream), *span);
                loaded = bytes.map_err(|e| ErrorKind::Io(Arc::new(e)))?;
                std::str::from_utf8(&loaded).map_err(|_| self.wrong(id, position, "text in Latin-1"))?
            }
            _ => return Err(self.wrong(id, position, "text in Latin-1")),
        };
        let decoded: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        let decoded = decoded.ok_or(ErrorKind::Argument {
            position,
            found: "other text",
            expected: "text in Latin-1",
        })?;
        Ok(self.keep(&decoded))
    }

    // Storages and tensors.

    pub(super) fn add_storage(&mut self, storage: Storage) -> StorageId {
        self.rebuilt.add_storage(storage)
    }

    pub(super) fn storage_of_key(
        &mut self,
        key: &str,
        dtype: Option<Dtype>,
        nbytes: u64,
    ) -> Kinded<StorageId> {
        if let Some((id, known)) = self.storages_by_key.get_mut(key) {
            match (*known, dtype) {
                (Some(first), Some(second)) if first != second => {
                    let empty = self.rebuilt.storages.get(id.index()).is_some_and(|storage| storage.len == 0);
                    if !empty {
                        return Err(ErrorKind::StorageType { key: key.into(), first, second });
                    }
                }
                (None, Some(_)) => *known = dtype,
                _ => {}
            }
            return Ok(*id);
        }
        let container =
            self.context.storages.ok_or(ErrorKind::PersistentId("this kind of file has no storages"))?;
        let storage = container.storage(key, nbytes)?;
        let id = self.add_storage(storage);
        self.storages_by_key.insert(key.into(), (id, dtype));
        Ok(id)
    }

    /// A storage that is part of another: the views of the legacy format.
    pub(super) fn storage_view(
        &mut self,
        view_key: &str,
        root: StorageId,
        offset: u64,
        len: u64,
    ) -> Kinded<StorageId> {
        if let Some(id) = self.views_by_key.get(view_key) {
            return Ok(*id);
        }
        let outside = ErrorKind::PersistentId("storage view outside its storage");
        let root =
            self.rebuilt.storages.get(root.index()).ok_or(ErrorKind::PersistentId("storage is missing"))?;
        let Place::Stored { stream, span } = root.place else { return Err(outside) };
        let span = span.sub(offset, len).ok_or(outside)?;
        let storage =
            Storage { key: view_key.into(), place: Place::Stored { stream, span }, len, ..root.clone() };
        let id = self.add_storage(storage);
        self.views_by_key.insert(view_key.into(), id);
        Ok(id)
    }

    pub(super) fn storage(&self, id: StorageId) -> Option<&Storage> {
        self.rebuilt.storages.get(id.index())
    }

    /// Proves a view and adds it as a tensor.
    pub(super) fn tensor(&mut self, id: StorageId, spec: &ViewSpec) -> Kinded<TensorId> {
        let storage = self.storage(id).ok_or(ErrorKind::PersistentId("storage is missing"))?;
        let view = View::new(id, storage, spec, self.context.limits)?;
        Ok(self.rebuilt.add_tensor(Tensor::plain(view)))
    }

    /// Where a node stands, for errors about nodes that are no calls.
    pub(super) fn offset(&self, id: NodeId) -> Offset {
        self.graph.call(id).map_or(Offset(0), |call| call.offset)
    }
}
