//! Running, judging and interpreting one pickle.

use sha2::{Digest, Sha256};

use crate::accounting::Accounting;
use crate::bytes::{Cursor, ReadAt, Span, read_vec};
use crate::container::Storages;
use crate::pickle::{Event, Graph, NodeId, Vm};
use crate::policy::{Judgement, judge};
use crate::rebuild::{self, Context, Rebuilt, allow};
use crate::tensor::{Kind, Leaf, StreamId, Streams};

use super::{Error, OpenOptions, Opened, PickleInfo, RefusedUse, Source};

/// A pickle that ran to its end.
pub(super) struct Ran {
    pub(super) graph: Graph,
    pub(super) root: NodeId,
    /// Its bytes, from the first opcode to `STOP`.
    pub(super) span: Span,
    entry: Option<Box<str>>,
    judgement: Judgement,
    stream: StreamId,
}

/// Runs the pickle that begins `span` and judges what it did, also when it breaks off: Python runs a payload before it
/// reaches a broken opcode.
pub(super) fn run(
    streams: &Streams,
    stream: StreamId,
    span: Span,
    entry: Option<&str>,
    options: &OpenOptions,
) -> Result<Ran, Error> {
    let entry: Option<Box<str>> = entry.map(Box::from);
    let mut vm = Vm::new(Cursor::new(streams.stream(stream), span), &options.limits);
    let end = loop {
        match vm.run() {
            Ok(Event::Stop(root)) => break Ok(root),
            Ok(Event::Built(_)) => {}
            Err(error) => break Err(error),
        }
    };
    let span = Span::between(span.start(), vm.position().0);
    let graph = vm.into_graph();
    let allowed = |module: &str, name: &str| allow(module, name).is_some();
    let judgement = judge(&graph, &allowed, &options.overrides);
    match end {
        Ok(root) => Ok(Ran { graph, root, span, entry, judgement, stream }),
        Err(_) if !judgement.refusals.is_empty() => Err(refused(entry.as_deref(), &judgement, None)),
        Err(error) => Err(Error::Pickle { entry, error }),
    }
}

fn refused(entry: Option<&str>, judgement: &Judgement, rebuilt: Option<&Rebuilt>) -> Error {
    let uses = judgement.refusals.iter().map(|used| {
        let dependents = rebuilt.map(|rebuilt| dependents(rebuilt, &used.name));
        RefusedUse { entry: entry.map(Box::from), used: used.clone(), dependents }
    });
    Error::Refused { uses: uses.collect() }
}

/// How many of a pickle's tensors need the result of a call, and how many there are.
fn dependents(rebuilt: &Rebuilt, name: &str) -> (u64, u64) {
    let mut counts = (0_u64, 0_u64);
    for (_, entry) in rebuilt.tree.iter() {
        match &entry.kind {
            Kind::Leaf(Leaf::Tensor(_)) => counts.1 = counts.1.saturating_add(1),
            Kind::Leaf(Leaf::LeftOut { reason, .. }) if reason.contains(name) => {
                counts = (counts.0.saturating_add(1), counts.1.saturating_add(1));
            }
            _ => {}
        }
    }
    counts
}

impl Ran {
    /// Fails where a name or call refuses the conversion, or where readers take the pickle differently.
    pub(super) fn admit(
        &self,
        streams: &mut Streams,
        storages: Option<&dyn Storages>,
        options: &OpenOptions,
    ) -> Result<(), Error> {
        if !self.judgement.refusals.is_empty() {
            let context = Context { skip_unresolved: true, ..self.context(storages, options) };
            let rebuilt = rebuild::rebuild(&self.graph, self.root, context, streams).ok();
            return Err(refused(self.entry.as_deref(), &self.judgement, rebuilt.as_ref()));
        }
        let anomalies = self.graph.anomalies();
        match anomalies.iter().find(|anomaly| anomaly.kind.is_ambiguous() || options.strict) {
            Some(anomaly) => Err(Error::Ambiguous { entry: self.entry.clone(), anomaly: *anomaly }),
            None => Ok(()),
        }
    }

    /// Interprets the object.
    pub(super) fn rebuild(
        &self,
        streams: &mut Streams,
        storages: Option<&dyn Storages>,
        options: &OpenOptions,
    ) -> Result<Rebuilt, Error> {
        self.admit(streams, storages, options)?;
        rebuild::rebuild(&self.graph, self.root, self.context(storages, options), streams)
            .map_err(|error| Error::Rebuild { entry: self.entry.clone(), error })
    }

    fn context<'a>(&self, storages: Option<&'a dyn Storages>, options: &'a OpenOptions) -> Context<'a> {
        let OpenOptions { limits, skip_unresolved, .. } = options;
        Context { stream: self.stream, storages, limits, skip_unresolved: *skip_unresolved }
    }

    /// What the manifest says of it.
    pub(super) fn info(&self, streams: &Streams) -> Result<PickleInfo, Error> {
        Ok(PickleInfo {
            entry: self.entry.clone(),
            sha256: sha256(streams.stream(self.stream), self.span)?,
            protocol: self.graph.protocol(),
            globals: self.judgement.globals.clone(),
        })
    }
}

fn sha256(source: &dyn ReadAt, span: Span) -> Result<String, Error> {
    /// Bytes hashed at a time.
    const BLOCK: u64 = 256 * 1024;
    let mut hasher = Sha256::new();
    let mut at = span.start();
    while at < span.end() {
        let next = at.saturating_add(BLOCK).min(span.end());
        hasher.update(read_vec(source, Span::between(at, next))?);
        at = next;
    }
    Ok(crate::bytes::hex(&hasher.finalize()))
}

/// A file that is one pickle.
pub(super) fn open_plain(source: &Source, options: &OpenOptions) -> Result<Opened, Error> {
    let mut streams = Streams::new(source.clone());
    let whole = Span::between(0, source.size());
    let ran = match run(&streams, StreamId::SOURCE, whole, None, options) {
        // Protocols 0 and 1 have no magic: what only looked like a pickle is no model file.
        Err(Error::Pickle { .. }) if first_byte(source)? != 0x80 => return Err(Error::NotApplicable),
        other => other?,
    };
    let rebuilt = ran.rebuild(&mut streams, None, options)?;
    let pickle = ran.span.len();
    let accounting =
        Accounting { pickle, trailing: source.size().saturating_sub(pickle), ..Accounting::default() };
    let strays =
        (accounting.trailing > 0).then(|| format!("{} bytes follow the pickle", accounting.trailing));
    Ok(Opened {
        container: "pickle",
        big_endian: false,
        pickles: vec![ran.info(&streams)?],
        accounting,
        strays: strays.into_iter().collect(),
        streams,
        storages: rebuilt.storages,
        tensors: rebuilt.tensors,
        tree: rebuilt.tree,
    })
}

fn first_byte(source: &Source) -> Result<u8, Error> {
    let mut byte = [0];
    source.read_exact_at(&mut byte, 0)?;
    Ok(byte[0])
}
