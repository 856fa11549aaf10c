//! Values of a pickle that are checkpoints themselves: `bytes`, `bytearray` or `io.BytesIO` that `torch.save` or
//! `torch.jit.save` wrote to (skorch, e3nn, ray, Transformer Engine's extra state).
//!
//! Python does not load them by itself, and whoever put them there will. So each is opened as a file would be, where it lies;
//! its tensors stand at the place of the value, and what it refuses, the whole refuses. What only begins like a pickle
//! stays a value. A broken archive or stream of torch is an error.

use std::collections::{HashMap, HashSet};

use crate::bytes::{Part, ReadAt, Span, read_vec};
use crate::container::{Format, detect};
use crate::pickle::{Graph, Node, NodeId, Payload};
use crate::policy::Verdict;
use crate::rebuild::{Callable, Rebuilt, callable, name_of};
use crate::tensor::{StreamId, Streams};

use super::embedded::{bytes_of, given};
use super::nested::{self, Inside};
use super::run::Ran;
use super::{Error, OpenOptions, PickleInfo};

/// The checkpoints in the values of a pickle.
#[derive(Default)]
pub(super) struct Buffers {
    /// What they hold, by the value.
    pub(super) held: HashMap<NodeId, Rebuilt>,
    /// Their pickles.
    pub(super) pickles: Vec<PickleInfo>,
}

/// Bytes that show what a value is.
const HEAD: u64 = 64;
/// How far into an archive the name of its pickle is looked for: torch writes it first, after few and short others.
const NAMES: u64 = 4096;

/// Opens every checkpoint in the values of a pickle, also those that nothing refers to.
pub(super) fn open(ran: &Ran, streams: &mut Streams, options: &OpenOptions) -> Result<Buffers, Error> {
    let graph = &ran.graph;
    let mut found = Buffers::default();
    let taken = taken(graph);
    let mut count = 0_u64;
    for id in graph.ids().filter(|id| !taken.contains(id)) {
        if !head(graph, id, ran.stream(), streams)?.is_some_and(|head| may_be_checkpoint(&head)) {
            continue;
        }
        let Some((stream, span)) = bytes_of(graph, id, ran.stream(), streams, options)? else { continue };
        count = count.saturating_add(1);
        let entry = format!("{}#{count}", ran.entry().unwrap_or_default());
        let Some(inside) = try_open(streams, (stream, span), &entry, options)? else { continue };
        let holds = inside.rebuilt.holds_tensors();
        let allowed =
            |info: &PickleInfo| info.globals.iter().all(|global| global.verdict == Verdict::Allowed);
        if holds || !inside.pickles.iter().all(allowed) {
            found.pickles.extend(inside.pickles);
        }
        if holds {
            found.held.insert(id, inside.rebuilt);
        }
    }
    let files: Vec<_> = graph.calls().filter_map(|(id, _)| Some((id, contents(graph, id)?))).collect();
    for (file, contents) in files {
        if let Some(held) = found.held.get(&contents).cloned() {
            found.held.insert(file, held);
        }
    }
    Ok(found)
}

/// A value as a checkpoint; `None` where it is none.
fn try_open(
    streams: &mut Streams,
    (stream, span): (StreamId, Span),
    entry: &str,
    options: &OpenOptions,
) -> Result<Option<Inside>, Error> {
    let part = streams.shared(stream).and_then(|source| Part::new(source, span));
    let part = part.ok_or(Error::Unsupported("a value outside of its file"))?;
    let format = detect(&part)?;
    let torch = match format {
        Format::TorchLegacy => true,
        Format::Zip => {
            let names = read_vec(&part, Span::between(0, NAMES.min(part.size())))?;
            names.windows(8).any(|name| name == b"data.pkl")
        }
        Format::Pickle | Format::Npy => false,
        _ => return Ok(None),
    };
    match nested::open(streams, (stream, span), entry, options) {
        // Bytes behind a pickle: it was none.
        Ok(Some(inside)) if format == Format::Pickle && inside.accounting.trailing > 0 => Ok(None),
        Ok(inside) => Ok(inside),
        Err(Error::Unsupported(_) | Error::NotApplicable) => Ok(None),
        Err(error @ (Error::Refused { .. } | Error::Io(_))) => Err(error),
        Err(error) if torch => Err(error),
        Err(_) => Ok(None),
    }
}

/// Data of arrays, storages and texts: part of what is read already, and no values.
fn taken(graph: &Graph) -> HashSet<NodeId> {
    let mut taken = HashSet::new();
    for (_, call) in graph.calls() {
        match callable(graph, call.callable) {
            None | Some(Callable::Mapping | Callable::DefaultDict | Callable::Sequence) => {}
            Some(_) => {
                let states = call.states().filter_map(|state| graph.tuple(state));
                let parts = graph.tuple(call.args).into_iter().chain(states);
                taken.extend(parts.flatten().copied());
            }
        }
    }
    taken
}

/// What a file in memory holds: `_io.BytesIO` with the state `(bytes, position, attributes)`.
fn contents(graph: &Graph, id: NodeId) -> Option<NodeId> {
    let call = graph.call(id)?;
    if !matches!(name_of(graph, call.callable)?, ("_io" | "io", "BytesIO")) {
        return None;
    }
    let state = call.states().next().and_then(|state| graph.tuple(state)?.first());
    state.or_else(|| graph.tuple(call.args)?.first()).copied()
}

/// The first bytes of a value that is bytes, in any form.
fn head(graph: &Graph, id: NodeId, stream: StreamId, streams: &Streams) -> Result<Option<Vec<u8>>, Error> {
    let first = |span: Span| {
        let end = span.end().min(span.start().saturating_add(HEAD));
        read_vec(streams.stream(stream), Span::between(span.start(), end))
    };
    let text = |text: &str| text.chars().take(32).map_while(|c| u8::try_from(u32::from(c)).ok()).collect();
    Ok(match given(graph, id).map(|(id, encoded)| (graph.node(id), encoded)) {
        Some((Node::Bytes(bytes) | Node::ByteArray(bytes) | Node::Str2(bytes), _)) => Some(match bytes {
            Payload::Inline(bytes) => bytes.get(..bytes.len().min(32)).unwrap_or_default().to_vec(),
            Payload::Span(span) => first(*span)?,
        }),
        Some((Node::Str(whole), true)) => Some(text(whole)),
        Some((Node::LongStr(span), true)) => Some(text(&String::from_utf8_lossy(&first(*span)?))),
        _ => None,
    })
}

/// Whether bytes begin as an archive, a pickle since protocol 2, a legacy stream or a numpy file does.
fn may_be_checkpoint(head: &[u8]) -> bool {
    matches!(head, [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..] | [0x93, b'N', b'U', b'M', b'P', b'Y', ..])
        || head.starts_with(b"L119547037146038801333356L")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_checkpoint() {
        for head in [b"PK\x03\x04".as_slice(), b"\x80\x02}", b"\x93NUMPY\x01"] {
            assert!(may_be_checkpoint(head));
        }
        for head in [b"".as_slice(), b"\x80", b"\x80\x06", b"PK", b"(dp0", b"\x89PNG"] {
            assert!(!may_be_checkpoint(head));
        }
    }
}
