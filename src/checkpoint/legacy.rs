//! Torch's legacy stream: five pickles, then the storages in the order of the last pickle's list.

use crate::bytes::Span;
use crate::container::{LEGACY_MAGIC, Storages, TorchLegacy};
use crate::pickle::{Graph, Node, NodeId};
use crate::rebuild::storage_keys;
use crate::tensor::{StreamId, Streams};

use super::run::{Ran, judge_bystander, run};
use super::{Error, OpenOptions, Opened, PickleInfo, Source, SourceFile, account};

/// The only version of the protocol that was ever written.
const PROTOCOL: i64 = 1001;

/// The pickles of a stream, run and judged, and the records behind them.
pub(super) struct Read {
    /// The object; it is admitted when it is rebuilt.
    pub(super) object: Ran,
    pub(super) records: TorchLegacy,
    pickles: Vec<PickleInfo>,
    /// Where the last pickle ends.
    end: u64,
}

/// Reads the stream in a span.
pub(super) fn read(
    streams: &mut Streams,
    stream: StreamId,
    span: Span,
    options: &OpenOptions,
) -> Result<Read, Error> {
    let mut pickles = Vec::new();
    let mut next = span.start();
    let mut read =
        |streams: &mut Streams, check: &dyn Fn(&Graph, NodeId) -> Option<Error>| -> Result<Ran, Error> {
            let rest = Span::between(next, span.end());
            let ran = run(streams, stream, rest, None, options)?;
            if let Some(error) = check(&ran.graph, ran.root) {
                ran.admit(streams, None, options)?;
                return Err(error);
            }
            next = ran.span.end();
            pickles.push(ran.info(streams)?);
            Ok(ran)
        };
    read(streams, &check_magic)?.admit(streams, None, options)?;
    read(streams, &check_protocol)?.admit(streams, None, options)?;
    read(streams, &check_system)?.admit(streams, None, options)?;
    let object = read(streams, &|_, _| None)?;
    let rest = Span::between(next, span.end());
    match records(streams, stream, rest, &object, options) {
        Ok((list, records)) => {
            pickles.push(list.info(streams)?);
            Ok(Read { object, records, pickles, end: list.span.end() })
        }
        Err(error) => {
            // What the object would do stands, whatever comes after it.
            object.admit(streams, None, options)?;
            Err(error)
        }
    }
}

/// The list of storages, and their records.
fn records(
    streams: &mut Streams,
    stream: StreamId,
    rest: Span,
    object: &Ran,
    options: &OpenOptions,
) -> Result<(Ran, TorchLegacy), Error> {
    let list = run(streams, stream, rest, None, options)?;
    list.admit(streams, None, options)?;
    let sizes = storage_keys(&object.graph);
    let keys = keys(&list.graph, list.root)?;
    let keys: Vec<_> = keys.into_iter().map(|key| (key.clone(), sizes.get(&key).copied())).collect();
    let records = TorchLegacy::open(streams.stream(stream), stream, list.span.end(), &keys)?;
    Ok((list, records))
}

/// Opens a file that is such a stream.
pub(super) fn open(source: &Source, options: &OpenOptions) -> Result<Opened, Error> {
    let mut streams = Streams::new(source.clone());
    let whole = Span::between(0, source.size());
    let Read { mut object, records, mut pickles, end } =
        read(&mut streams, StreamId::SOURCE, whole, options)?;
    let storages: &dyn Storages = &records;
    let rebuilt = object.rebuild(&mut streams, Some(storages), options)?;
    pickles.append(&mut object.take_inner());
    let accounting = account::torch_legacy(source.size(), end, &records, &rebuilt);
    let rest = Span::between(records.end(), source.size());
    judge_bystander(&streams, StreamId::SOURCE, rest, None, options)?;
    let strays =
        (accounting.trailing > 0).then(|| format!("{} bytes follow the last storage", accounting.trailing));
    let file = SourceFile { pickles, ..SourceFile::new("torch-legacy", accounting) };
    Ok(Opened::new(file, strays.into_iter().collect(), streams, rebuilt))
}

fn found(graph: &Graph, root: NodeId) -> String {
    match graph.node(root) {
        Node::Int(n) => n.to_string(),
        node => node.type_name().to_owned(),
    }
}

fn check_magic(graph: &Graph, root: NodeId) -> Option<Error> {
    let magic = matches!(graph.node(root), Node::BigInt(bytes) if **bytes == LEGACY_MAGIC);
    let error = || Error::Legacy { part: "magic number", found: found(graph, root), expected: "torch's" };
    (!magic).then(error)
}

fn check_protocol(graph: &Graph, root: NodeId) -> Option<Error> {
    let error = || Error::Legacy { part: "protocol version", found: found(graph, root), expected: "1001" };
    (graph.int(root) != Some(PROTOCOL)).then(error)
}

fn check_system(graph: &Graph, root: NodeId) -> Option<Error> {
    let error = || Error::Legacy { part: "system info", found: found(graph, root), expected: "a dict" };
    (!matches!(graph.node(root), Node::Dict(_))).then(error)
}

/// The keys of the storages. They are text; Python 2 wrote addresses as integers.
fn keys(graph: &Graph, root: NodeId) -> Result<Vec<Box<str>>, Error> {
    let error =
        || Error::Legacy { part: "list of storages", found: found(graph, root), expected: "a list of keys" };
    let key =
        |id: &NodeId| graph.text(*id).map(Box::from).or_else(|| graph.int(*id).map(|n| n.to_string().into()));
    graph.sequence(root).and_then(|items| items.iter().map(key).collect()).ok_or_else(error)
}
