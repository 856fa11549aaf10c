//! Torch's tar archive: pickles and raw records in turn, then the object.

use crate::bytes::Span;
use crate::container::{Storages, Tar, TorchTar};
use crate::pickle::{Graph, Node, NodeId};
use crate::rebuild::storage_class;
use crate::tensor::{StreamId, Streams};

use super::run::{Ran, judge_bystander, run};
use super::{Error, OpenOptions, Opened, PickleInfo, Source, SourceFile, account};

/// Opens the archive; `None` where it is no checkpoint of torch.
pub(super) fn open(source: &Source, options: &OpenOptions) -> Result<Option<Opened>, Error> {
    let Some(tar) = Tar::open(source, &options.limits)? else { return Ok(None) };
    let mut reading =
        Reading { options, streams: Streams::new(source.clone()), pickles: Vec::new(), after: 0 };
    let mut tables = TorchTar::default();
    let span = |name: &str| tar.member(name).unwrap_or_default();
    if let Some(info) = tar.member("sys_info") {
        reading.pickle("sys_info", info, true)?;
    }
    reading.storages(&mut tables, span("storages"))?;
    // Not every program that writes such archives has tensors of its own beside the storages.
    if let Some(tensors) = tar.member("tensors") {
        reading.tensors(&mut tables, tensors)?;
    }
    let mut object = reading.pickle("pickle", span("pickle"), false)?;
    let storages: &dyn Storages = &tables;
    let rebuilt = object.rebuild(&mut reading.streams, Some(storages), options)?;
    reading.pickles.append(&mut object.take_inner());
    reading.rest("pickle", Span::between(object.span.end(), span("pickle").end()))?;
    let mut other = 0_u64;
    for (name, span) in tar.members() {
        if !matches!(name, "sys_info" | "storages" | "tensors" | "pickle") {
            other = other.saturating_add(span.len());
            judge_bystander(&reading.streams, StreamId::SOURCE, span, Some(name), options)?;
        }
    }
    let trailing = reading.trailing(Span::between(tar.end(), source.size()))?;
    let Reading { streams, pickles, after, .. } = reading;
    let accounting = account::torch_tar(source.size(), &tar, (&tables, &rebuilt), other, (after, trailing));
    let mut strays = Vec::new();
    if after > 0 {
        strays.push(format!("{after} bytes follow the last record of a member"));
    }
    if trailing > 0 {
        strays.push(format!("{trailing} bytes follow the archive"));
    }
    let file = SourceFile { pickles, ..SourceFile::new("torch-tar", accounting) };
    Ok(Some(Opened::new(file, strays, streams, rebuilt)))
}

/// The members as they are read, one pickle after the other.
struct Reading<'a> {
    options: &'a OpenOptions,
    streams: Streams,
    pickles: Vec<PickleInfo>,
    /// Bytes that follow the last record of a member.
    after: u64,
}

impl Reading<'_> {
    /// Runs and judges the pickle that begins a span. Data pickles are admitted here; the object is when it is rebuilt.
    fn pickle(&mut self, member: &'static str, span: Span, admit: bool) -> Result<Ran, Error> {
        let ran = run(&self.streams, StreamId::SOURCE, span, Some(member), self.options)?;
        if admit {
            ran.admit(&mut self.streams, None, self.options)?;
        }
        self.pickles.push(ran.info(&self.streams)?);
        Ok(ran)
    }

    /// `count`, then for each storage a pickle `(number, location, class)` and the elements, then the views.
    fn storages(&mut self, tables: &mut TorchTar, member: Span) -> Result<(), Error> {
        const NAME: &str = "storages";
        let mut at = member.start();
        let count = self.count(NAME, &mut at, member.end())?;
        for _ in 0..count {
            let ran = self.pickle(NAME, Span::between(at, member.end()), true)?;
            let (graph, root) = (&ran.graph, ran.root);
            let wrong = || wrong("storage", graph, root, "(number, location, class)");
            let Some([key, _location, class]) = graph.tuple(root) else { return Err(wrong()) };
            let dtype = storage_class(graph, *class).ok_or_else(wrong)?;
            let key = number(graph, *key).ok_or_else(wrong)?;
            let rest = Span::between(ran.span.end(), member.end());
            at = tables.storage(self.streams.source(), rest, &key, dtype)?;
        }
        if at < member.end() {
            let ran = self.pickle(NAME, Span::between(at, member.end()), true)?;
            views(tables, &ran)?;
            at = ran.span.end();
        }
        self.rest(NAME, Span::between(at, member.end()))
    }

    /// `count`, then for each tensor a pickle `(number, number of its storage, class)` and its shape.
    fn tensors(&mut self, tables: &mut TorchTar, member: Span) -> Result<(), Error> {
        const NAME: &str = "tensors";
        let mut at = member.start();
        let count = self.count(NAME, &mut at, member.end())?;
        for _ in 0..count {
            let ran = self.pickle(NAME, Span::between(at, member.end()), true)?;
            let (graph, root) = (&ran.graph, ran.root);
            let wrong = || wrong("tensor", graph, root, "(number, storage, class)");
            let Some([key, storage, _class]) = graph.tuple(root) else { return Err(wrong()) };
            let key = number(graph, *key).ok_or_else(wrong)?;
            let storage = match graph.node(*storage) {
                Node::None => None,
                _ => Some(number(graph, *storage).ok_or_else(wrong)?),
            };
            let rest = Span::between(ran.span.end(), member.end());
            let limits = &self.options.limits;
            at = tables.tensor(self.streams.source(), rest, &key, storage.as_deref(), limits)?;
        }
        self.rest(NAME, Span::between(at, member.end()))
    }

    /// The number of records.
    fn count(&mut self, member: &'static str, at: &mut u64, end: u64) -> Result<u64, Error> {
        let ran = self.pickle(member, Span::between(*at, end), true)?;
        *at = ran.span.end();
        let count = ran.graph.int(ran.root).and_then(|n| u64::try_from(n).ok());
        count.ok_or_else(|| wrong(member, &ran.graph, ran.root, "a number of records"))
    }

    /// What follows the last record of a member is dropped; a further pickle there is judged.
    fn rest(&mut self, member: &'static str, rest: Span) -> Result<(), Error> {
        self.after = self.after.saturating_add(rest.len());
        judge_bystander(&self.streams, StreamId::SOURCE, rest, Some(member), self.options)
    }

    /// Bytes behind the zeros that end the archive.
    fn trailing(&self, rest: Span) -> Result<u64, Error> {
        let mut at = rest.start();
        let found = super::run::skip_padding(self.streams.source(), &mut at, rest.end())?;
        judge_bystander(&self.streams, StreamId::SOURCE, rest, None, self.options)?;
        Ok(if found.is_some() { rest.end().saturating_sub(at) } else { 0 })
    }
}

/// `[(number, number of the root, offset, elements), …]`
fn views(tables: &mut TorchTar, ran: &Ran) -> Result<(), Error> {
    let graph = &ran.graph;
    let wrong = |id| wrong("views of storages", graph, id, "a list of (number, root, offset, elements)");
    for view in graph.sequence(ran.root).ok_or_else(|| wrong(ran.root))? {
        let Some([key, root, offset, count]) = graph.sequence(*view) else { return Err(wrong(*view)) };
        let positive = |id: NodeId| graph.int(id).and_then(|n| u64::try_from(n).ok());
        let all = (number(graph, *key), number(graph, *root), positive(*offset), positive(*count));
        let (Some(key), Some(root), Some(offset), Some(count)) = all else { return Err(wrong(*view)) };
        tables.view(&key, &root, offset, count, ran.span.start())?;
    }
    Ok(())
}

/// A number by which storages and tensors are known: an integer in the tables, text in the object.
fn number(graph: &Graph, id: NodeId) -> Option<Box<str>> {
    graph.int(id).map(|n| n.to_string().into()).or_else(|| graph.text(id).map(Box::from))
}

fn wrong(part: &'static str, graph: &Graph, id: NodeId, expected: &'static str) -> Error {
    Error::Legacy { part, found: graph.node(id).type_name().to_owned(), expected }
}
