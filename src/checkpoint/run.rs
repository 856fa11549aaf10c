//! Running, judging and interpreting one pickle.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::accounting::Accounting;
use crate::bytes::{Cursor, ReadAt, Span, read_vec};
use crate::container::Storages;
use crate::limits::Limits;
use crate::pickle::{Event, Graph, NodeId, Vm};
use crate::policy::{Judgement, judge};
use crate::rebuild::{self, Context, Raw, Rebuilt, allow};
use crate::tensor::{EntryId, Kind, Leaf, Step, StreamId, Streams};

use super::buffers::{self, Buffers};
use super::companions::{self, Companions};
use super::library::library;
use super::{Error, FoundPickle, OpenOptions, Opened, PickleInfo, RefusedUse, Source, SourceFile, embedded};

/// A pickle that ran to its end.
pub(super) struct Ran {
    pub(super) graph: Graph,
    pub(super) root: NodeId,
    /// Its bytes, from the first opcode to `STOP`.
    pub(super) span: Span,
    entry: Option<Box<str>>,
    judgement: Judgement,
    stream: StreamId,
    /// Runs between its opcodes that are none: joblib's arrays, and the padding before them.
    raw: Vec<Span>,
    /// Bytes of the padding.
    padding: u64,
    companions: Companions,
    /// Checkpoints in its values.
    buffers: Buffers,
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
    drive(streams, stream, span, (entry, Role::Part), options)
}

/// As [`run`], for a file of its own: what joblib writes between the opcodes is passed over.
pub(super) fn run_file(
    streams: &Streams,
    stream: StreamId,
    span: Span,
    entry: Option<&str>,
    options: &OpenOptions,
) -> Result<Ran, Error> {
    drive(streams, stream, span, (entry, Role::File), options)
}

/// What a pickle is to its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// All of it: what joblib writes between the opcodes is passed over.
    File,
    /// One that its format has.
    Part,
    /// One that is merely there, if it is one.
    Bystander,
}

fn drive(
    streams: &Streams,
    stream: StreamId,
    span: Span,
    (entry, role): (Option<&str>, Role),
    options: &OpenOptions,
) -> Result<Ran, Error> {
    let whole = span;
    let joblib = role == Role::File;
    let source = streams.stream(stream);
    let vm = Vm::new(Cursor::new(source, span), &options.limits);
    let Trace { graph, span, raw, padding, end } = trace(vm, source, span, (entry, joblib), &options.limits);
    let entry: Option<Box<str>> = entry.map(Box::from);
    let allowed = |module: &str, name: &str| allow(module, name).is_some();
    let mut judgement = judge(&graph, &allowed, &options.overrides);
    if let Some(witness) = &options.witness {
        let complete = end.is_ok();
        if role != Role::Bystander || is_pickle(source, whole, complete, &judgement)? {
            witness.note(FoundPickle {
                entry: entry.clone(),
                source: streams.shared(stream).unwrap_or_else(|| Arc::new(Vec::new())),
                span: if complete { span } else { whole },
                in_file: stream == StreamId::SOURCE,
                joblib,
                complete,
                globals: std::mem::take(&mut judgement.globals),
            });
        }
        judgement = Judgement::default();
    }
    match end {
        Ok(root) => {
            let (companions, buffers) = (Companions::default(), Buffers::default());
            Ok(Ran { graph, root, span, entry, judgement, stream, raw, padding, companions, buffers })
        }
        Err(_) if !judgement.refusals.is_empty() && !options.survey => {
            Err(refused(entry.as_deref(), &judgement, None))
        }
        Err(error) => Err(error),
    }
}

/// Whether what is merely there is a pickle. Any text holds a few bytes that are a complete one.
fn is_pickle(source: &dyn ReadAt, span: Span, complete: bool, judgement: &Judgement) -> Result<bool, Error> {
    let first = read_vec(source, Span::between(span.start(), span.start().saturating_add(1)))?;
    Ok(match (complete, first.first() == Some(&PROTO)) {
        (true, proto) => proto || !judgement.globals.is_empty(),
        (false, proto) => proto && !judgement.refusals.is_empty(),
    })
}

/// What a pickle did, also where it broke off.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) graph: Graph,
    /// From its first opcode to where it stopped.
    pub(crate) span: Span,
    /// Runs between its opcodes that are none: joblib's arrays, and the padding before them.
    pub(crate) raw: Vec<Span>,
    padding: u64,
    /// Its object, or why there is none.
    pub(crate) end: Result<NodeId, Error>,
}

/// Runs a machine to the end of its pickle. For `joblib`, what it writes between the opcodes is passed over.
pub(crate) fn trace(
    mut vm: Vm<'_>,
    source: &dyn ReadAt,
    span: Span,
    (entry, joblib): (Option<&str>, bool),
    limits: &Limits,
) -> Trace {
    if joblib {
        vm = vm.pause_after_build();
    }
    let mut raw = RawData::default();
    let end = loop {
        match vm.run() {
            Ok(Event::Stop(root)) => break Ok(root),
            Ok(Event::Built(built)) => {
                if let Err(error) = raw.pass(&mut vm, built, source, entry, limits) {
                    break Err(error);
                }
            }
            Err(error) => break Err(Error::Pickle { entry: entry.map(Box::from), error }),
        }
    };
    let RawData { spans: raw, padding } = raw;
    let span = Span::between(span.start(), vm.position().0);
    Trace { graph: vm.into_graph(), span, raw, padding, end }
}

impl Trace {
    /// SHA-256 of its opcodes, in lower-case hexadecimal.
    pub(crate) fn sha256(&self, source: &dyn ReadAt) -> std::io::Result<String> {
        sha256(source, opcodes(self.span, &self.raw))
    }
}

/// What joblib writes between the opcodes.
#[derive(Debug, Default)]
pub(crate) struct RawData {
    /// Runs of bytes that are no opcodes.
    spans: Vec<Span>,
    padding: u64,
}

impl RawData {
    /// Passes over what belongs to an object that was just built.
    pub(crate) fn pass(
        &mut self,
        vm: &mut Vm<'_>,
        built: NodeId,
        source: &dyn ReadAt,
        entry: Option<&str>,
        limits: &Limits,
    ) -> Result<(), Error> {
        let raw = rebuild::raw(vm.graph(), built, limits);
        let raw = raw.map_err(|error| Error::Rebuild { entry: entry.map(Box::from), error })?;
        let fail = |error| Error::Pickle { entry: entry.map(Box::from), error };
        let (len, padded) = match raw {
            None => return Ok(()),
            Some(Raw::Pickle) => {
                vm.nest(built);
                return Ok(());
            }
            Some(Raw::Bytes { len, padded }) => (len, padded),
        };
        if padded {
            let at = vm.skip_raw(built, 1).map_err(fail)?;
            let mut count = [0];
            source.read_exact_at(&mut count, at.start())?;
            let padding = vm.skip_raw(built, u64::from(count[0])).map_err(fail)?;
            self.padding = self.padding.saturating_add(1).saturating_add(padding.len());
            self.spans.push(Span::between(at.start(), padding.end()));
        }
        self.spans.push(vm.skip_raw(built, len).map_err(fail)?);
        Ok(())
    }
}

/// Judges what is no part of the checkpoint but a pickle all the same: a further one behind the last, or another member
/// of the archive. Nothing is taken from it; a loader that reads on would run it.
///
/// # Errors
/// [`Error::Refused`] where a complete pickle, or one that begins with `PROTO`, makes a call that refuses.
pub(super) fn judge_bystander(
    streams: &Streams,
    stream: StreamId,
    span: Span,
    entry: Option<&str>,
    options: &OpenOptions,
) -> Result<(), Error> {
    if options.survey {
        return Ok(());
    }
    let source = streams.stream(stream);
    let mut start = span.start();
    for _ in 0..MOST_BYSTANDERS {
        let Some(first) = skip_padding(source, &mut start, span.end())? else { return Ok(()) };
        let rest = Span::between(start, span.end());
        match drive(streams, stream, rest, (entry, Role::Bystander), options) {
            Ok(ran) if !ran.judgement.refusals.is_empty() => {
                return Err(refused(entry, &ran.judgement, None));
            }
            Ok(ran) => start = ran.span.end(),
            Err(error @ Error::Refused { .. }) if first == PROTO => return Err(error),
            Err(_) => start = start.saturating_add(1),
        }
    }
    Ok(())
}

/// Further pickles that are judged in one place, and places where one may begin that are tried.
const MOST_BYSTANDERS: usize = 256;
/// The first opcode of every pickle since protocol 2.
const PROTO: u8 = 0x80;

/// Passes over NUL bytes and white space, which loaders pass over too. The byte found, if there is one.
pub(crate) fn skip_padding(source: &dyn ReadAt, at: &mut u64, end: u64) -> std::io::Result<Option<u8>> {
    /// Bytes read at a time.
    const BLOCK: u64 = 64 * 1024;
    while *at < end {
        let block = read_vec(source, Span::between(*at, at.saturating_add(BLOCK).min(end)))?;
        match block.iter().position(|byte| !matches!(byte, 0 | b' ' | b'\t' | b'\r' | b'\n')) {
            Some(i) => {
                *at = at.saturating_add(crate::bytes::length(i));
                return Ok(block.get(i).copied());
            }
            None => *at = at.saturating_add(crate::bytes::length(block.len())),
        }
    }
    Ok(None)
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
        if options.survey || options.witness.is_some() {
            return Ok(());
        }
        if !self.judgement.refusals.is_empty() {
            let context = Context { skip_unresolved: true, ..self.context(storages, options) };
            let rebuilt = rebuild::rebuild(&self.graph, self.root, context, streams).ok();
            return Err(refused(self.entry.as_deref(), &self.judgement, rebuilt.as_ref()));
        }
        let anomalies = self.graph.anomalies();
        if let Some(anomaly) = anomalies.iter().find(|anomaly| anomaly.kind.is_ambiguous()) {
            return Err(Error::Ambiguous { entry: self.entry.clone(), anomaly: *anomaly });
        }
        match anomalies.first().filter(|_| options.strict) {
            Some(anomaly) => Err(Error::Strict(format!("{} at {}", anomaly.kind, anomaly.offset))),
            None => Ok(()),
        }
    }

    /// Interprets the object.
    pub(super) fn rebuild(
        &mut self,
        streams: &mut Streams,
        storages: Option<&dyn Storages>,
        options: &OpenOptions,
    ) -> Result<Rebuilt, Error> {
        self.rebuild_at(streams, storages, options, Rebuilt::default(), (None, Step::Root))
    }

    /// Interprets the object and gives it a place among what other parts of the source hold.
    pub(super) fn rebuild_at(
        &mut self,
        streams: &mut Streams,
        storages: Option<&dyn Storages>,
        options: &OpenOptions,
        rebuilt: Rebuilt,
        at: (Option<EntryId>, Step),
    ) -> Result<Rebuilt, Error> {
        self.admit(streams, storages, options)?;
        if options.witness.is_some() {
            // Only for the pickles that are embedded in it.
            let _ = embedded::find(self, streams, options);
            return Ok(rebuilt);
        }
        // Of what lies inside of values the parts are not put together.
        let inner = OpenOptions { shards: false, ..options.clone() };
        self.buffers = buffers::open(self, streams, &inner)?;
        let found = embedded::find(self, streams, options)?;
        let with = embedded::With { found: &found, container: storages };
        let with: &dyn Storages = &with;
        let storages = if found.is_empty() { storages } else { Some(with) };
        let before = rebuilt.values.len();
        rebuild::rebuild_at(&self.graph, self.root, self.context(storages, options), streams, rebuilt, at)
            .map(|rebuilt| self.named(rebuilt, before))
            .map_err(|error| Error::Rebuild { entry: self.entry.clone(), error })
    }

    /// Says of values that were added which pickle they are of.
    fn named(&self, mut rebuilt: Rebuilt, before: usize) -> Rebuilt {
        for values in rebuilt.values.iter_mut().skip(before) {
            values.entry.clone_from(&self.entry);
        }
        rebuilt
    }

    pub(super) fn stream(&self) -> StreamId {
        self.stream
    }

    pub(super) fn entry(&self) -> Option<&str> {
        self.entry.as_deref()
    }

    fn context<'a>(&'a self, storages: Option<&'a dyn Storages>, options: &'a OpenOptions) -> Context<'a> {
        let OpenOptions { limits, skip_unresolved, paddle_bf16, values, shards, .. } = options;
        Context {
            storages,
            skip_unresolved: *skip_unresolved,
            companions: Some(&self.companions.arrays),
            paddle_bf16: *paddle_bf16,
            values: *values,
            shards: *shards,
            nested: Some(&self.buffers.held),
            ..Context::new(self.stream, limits)
        }
    }

    /// Bytes of its opcodes, of the arrays between them, and of their padding.
    fn lengths(&self) -> (u64, u64, u64) {
        let opcodes = opcodes(self.span, &self.raw).iter().fold(0_u64, |n, run| n.saturating_add(run.len()));
        let arrays = self.span.len().saturating_sub(opcodes).saturating_sub(self.padding);
        (opcodes, arrays, self.padding)
    }

    /// What the manifest says of it.
    pub(super) fn info(&self, streams: &Streams) -> Result<PickleInfo, Error> {
        Ok(PickleInfo {
            entry: self.entry.clone(),
            sha256: sha256(streams.stream(self.stream), opcodes(self.span, &self.raw))?,
            protocol: self.graph.protocol(),
            globals: self.judgement.globals.clone(),
        })
    }

    /// The pickles of the checkpoints in its values, which are found when it is rebuilt.
    pub(super) fn take_inner(&mut self) -> Vec<PickleInfo> {
        std::mem::take(&mut self.buffers.pickles)
    }

    /// What the manifest says of it and of those.
    pub(super) fn infos(&mut self, streams: &Streams) -> Result<Vec<PickleInfo>, Error> {
        let mut infos = vec![self.info(streams)?];
        infos.append(&mut self.take_inner());
        Ok(infos)
    }
}

/// The runs of a pickle that are opcodes.
fn opcodes(span: Span, raw: &[Span]) -> Vec<Span> {
    let mut runs = Vec::with_capacity(raw.len().saturating_add(1));
    let mut at = span.start();
    for raw in raw {
        runs.push(Span::between(at, raw.start()));
        at = raw.end();
    }
    runs.push(Span::between(at, span.end()));
    runs
}

fn sha256(source: &dyn ReadAt, runs: Vec<Span>) -> std::io::Result<String> {
    /// Bytes hashed at a time.
    const BLOCK: u64 = 256 * 1024;
    let mut hasher = Sha256::new();
    for run in runs {
        let mut at = run.start();
        while at < run.end() {
            let next = at.saturating_add(BLOCK).min(run.end());
            hasher.update(read_vec(source, Span::between(at, next))?);
            at = next;
        }
    }
    Ok(crate::bytes::hex(&hasher.finalize()))
}

/// A file that is one pickle.
pub(super) fn open_plain(source: &Source, options: &OpenOptions) -> Result<Opened, Error> {
    let mut streams = Streams::new(source.clone());
    let whole = Span::between(0, source.size());
    let mut ran = match run_file(&streams, StreamId::SOURCE, whole, None, options) {
        // Protocols 0 and 1 have no magic: what only looked like a pickle is no model file.
        Err(Error::Pickle { .. }) if first_byte(source)? != 0x80 => return Err(Error::NotApplicable),
        other => other?,
    };
    if ran.judgement.refusals.is_empty() {
        match companions::open(&ran.graph, &mut streams, options) {
            Ok(found) => ran.companions = found,
            Err(_) if options.witness.is_some() => {}
            Err(error) => return Err(error),
        }
    }
    let rebuilt = ran.rebuild(&mut streams, None, options)?;
    let rest = Span::between(ran.span.end(), source.size());
    judge_bystander(&streams, StreamId::SOURCE, rest, None, options)?;
    let (pickle, tensors, container) = ran.lengths();
    let trailing = rest.len();
    let accounting = Accounting { pickle, tensors, container, trailing, ..Accounting::default() };
    let is_joblib = !(ran.raw.is_empty() && ran.companions.files.is_empty());
    let strays =
        (accounting.trailing > 0).then(|| format!("{} bytes follow the pickle", accounting.trailing));
    let container = if is_joblib { "joblib" } else { "pickle" };
    let file = SourceFile { pickles: ran.infos(&streams)?, ..SourceFile::new(container, accounting) };
    let library = library(&ran.judgement);
    let mut opened = Opened::new(file, strays.into_iter().collect(), streams, rebuilt);
    opened.library = library;
    opened.files.append(&mut ran.companions.files);
    Ok(opened)
}

fn first_byte(source: &Source) -> Result<u8, Error> {
    let mut byte = [0];
    source.read_exact_at(&mut byte, 0)?;
    Ok(byte[0])
}
