//! Storages that a plain pickle of tensors carries as bytes: `torch.storage._load_from_bytes(bytes)`, where the bytes are
//! a legacy stream of its own, of which the object is the storage.
//!
//! Python would load that stream, so that each is run and judged, also where nothing refers to the result.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bytes::{Span, length, read_vec};
use crate::container::{self, Embedded, ScriptClass, Storages};
use crate::limits::{LimitKind, check};
use crate::pickle::{Call, Graph, Node, NodeId, Payload};
use crate::rebuild::{Callable, callable, storage_named};
use crate::tensor::{Storage, StreamId, Streams};

use super::run::{Ran, judge_bystander};
use super::{Error, OpenOptions, legacy};

/// The storages of the calls in a pickle, by the call.
#[derive(Default)]
pub(super) struct Found {
    by_node: HashMap<usize, Embedded>,
}

impl Found {
    pub(super) fn is_empty(&self) -> bool {
        self.by_node.is_empty()
    }
}

/// Those storages, beside the container's own.
pub(super) struct With<'a> {
    pub(super) found: &'a Found,
    pub(super) container: Option<&'a dyn Storages>,
}

impl Storages for With<'_> {
    fn storage(&self, key: &str, nbytes: u64) -> Result<Storage, container::Error> {
        match self.container {
            Some(container) => container.storage(key, nbytes),
            None => Err(container::Error {
                entry: None,
                offset: crate::bytes::Offset(0),
                kind: container::ErrorKind::Missing,
            }),
        }
    }

    fn embedded(&self, node: usize) -> Option<&Embedded> {
        self.found.by_node.get(&node)
    }

    fn is_without_data(&self, key: &str) -> bool {
        self.container.is_some_and(|container| container.is_without_data(key))
    }

    fn numbered(&self, key: &str) -> Option<container::Numbered<'_>> {
        self.container?.numbered(key)
    }

    fn script_class(&self, module: &str, name: &str) -> Option<ScriptClass<'_>> {
        self.container?.script_class(module, name)
    }

    fn is_numbered(&self) -> bool {
        self.container.is_some_and(Storages::is_numbered)
    }
}

/// Reads every embedded stream of a pickle.
pub(super) fn find(ran: &Ran, streams: &mut Streams, options: &OpenOptions) -> Result<Found, Error> {
    let graph = &ran.graph;
    let mut found = Found::default();
    for (id, call) in graph.calls() {
        if is_of_numba(graph, call) {
            let argument = graph.tuple(call.args).and_then(|args| args.first());
            let bytes =
                argument.map(|id| bytes_of(graph, *id, ran.stream(), streams, options)).transpose()?;
            let (stream, span) = bytes
                .flatten()
                .ok_or(Error::Unsupported("a function embedded in another way than numba embeds it"))?;
            judge_bystander(streams, stream, span, None, options)?;
        }
        if callable(graph, call.callable) != Some(Callable::LoadFromBytes) {
            continue;
        }
        let unreadable = || Error::Unsupported("a storage embedded in another way than torch embeds it");
        let [argument] = graph.tuple(call.args).ok_or_else(unreadable)? else { return Err(unreadable()) };
        let (stream, span) =
            bytes_of(graph, *argument, ran.stream(), streams, options)?.ok_or_else(unreadable)?;
        let read = legacy::read(streams, stream, span, options)?;
        read.object.admit(streams, None, options)?;
        let inner = &read.object.graph;
        let (key, dtype, nbytes) = storage_named(inner, read.object.root).ok_or_else(unreadable)?;
        let storage = read.records.storage(&key, nbytes)?;
        let end = read.records.end();
        if end > span.end() {
            return Err(unreadable());
        }
        judge_bystander(streams, stream, Span::between(end, span.end()), None, options)?;
        // Without a key: its bytes are part of the pickle.
        let storage = Storage { key: "".into(), ..storage };
        found.by_node.insert(id.index(), Embedded { storage, dtype });
    }
    Ok(found)
}

/// Whether a call loads the functions that numba keeps as a pickle of their own.
fn is_of_numba(graph: &Graph, call: &Call) -> bool {
    graph.as_global(call.callable).is_some_and(|global| {
        (&*global.module, &*global.name) == ("numba.core.serialize", "_unpickle__CustomPickled")
    })
}

/// Where the bytes of an argument or a value are, in any form that [`given`] knows.
pub(super) fn bytes_of(
    graph: &Graph,
    id: NodeId,
    stream: StreamId,
    streams: &mut Streams,
    options: &OpenOptions,
) -> Result<Option<(StreamId, Span)>, Error> {
    let Some((id, encoded)) = given(graph, id) else { return Ok(None) };
    let mut keep = |bytes: Vec<u8>| {
        let span = Span::between(0, length(bytes.len()));
        (streams.push(Arc::new(bytes)), span)
    };
    let loaded;
    let text = match graph.node(id) {
        Node::Bytes(payload) | Node::ByteArray(payload) | Node::Str2(payload) => {
            return Ok(Some(match payload {
                Payload::Span(span) => (stream, *span),
                Payload::Inline(bytes) => keep(bytes.to_vec()),
            }));
        }
        Node::Str(text) if encoded => &**text,
        Node::LongStr(span) if encoded => {
            check(LimitKind::StringBytes, options.limits.string_bytes, span.len())
                .map_err(|_| Error::Unsupported("an embedded storage of this size"))?;
            loaded = read_vec(streams.stream(stream), *span)?;
            let Ok(text) = std::str::from_utf8(&loaded) else { return Ok(None) };
            text
        }
        _ => return Ok(None),
    };
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    let Some(bytes) = bytes else { return Ok(None) };
    let span = Span::between(0, length(bytes.len()));
    Ok(Some((streams.push(Arc::new(bytes)), span)))
}

/// What bytes were made from: themselves, or the argument of `_codecs.encode(text, "latin1")` as before protocol 3, of
/// `bytes` or `bytearray`. Also whether it is text that stands for bytes.
pub(super) fn given(graph: &Graph, mut id: NodeId) -> Option<(NodeId, bool)> {
    /// `bytearray(_codecs.encode(text, "latin1"))` is the deepest that is honest.
    const WRAPPINGS: usize = 3;
    let mut encoded = false;
    for _ in 0..WRAPPINGS {
        let Some(call) = graph.call(id) else { return Some((id, encoded)) };
        id = match (callable(graph, call.callable)?, graph.tuple(call.args)?) {
            (Callable::ByteArray, [inner]) => *inner,
            (Callable::Encode | Callable::ByteArray, [text, codec]) if is_latin1(graph, *codec) => {
                encoded = true;
                *text
            }
            _ => return None,
        };
    }
    None
}

fn is_latin1(graph: &Graph, codec: NodeId) -> bool {
    matches!(graph.text(codec).as_deref(), Some("latin1" | "latin-1"))
}
