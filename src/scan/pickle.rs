//! Pickles: each is run by a lenient machine, to its end or its break, and everything that it did is judged.

use std::io;

use crate::bytes::{Cursor, ReadAt, Span, read_vec};
use crate::checkpoint::{Error, Trace, skip_padding, trace};
use crate::pickle::{AnomalyKind, Graph, Node, NodeId, Vm};
use crate::policy::{Judgement, Use, UseKind, Verdict, judge};
use crate::rebuild::allow;
use crate::report::{InspectedPickle, NamedGlobal};

use super::found::Spot;
use super::search::{How, is_evidence};
use super::{Scanner, arguments, rules, shape};

/// What a pickle is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file, or a member of an archive that torch does not read: joblib may have put arrays between its opcodes.
    File,
    /// A pickle of torch, which has persistent ids.
    Torch,
    /// Torch's legacy stream: five pickles, then records.
    Legacy,
    /// One that follows another.
    Stacked,
}

/// Pickles of a legacy stream.
const LEGACY: usize = 5;
/// Pickles recorded of one file.
const RECORDED: usize = 10_000;
/// The first opcode of every pickle since protocol 2.
const PROTO: u8 = 0x80;

/// What stood in a run of bytes that begins with a pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stream {
    /// Bytes of its pickles.
    pub(super) pickles: u64,
    /// Where the last of them ended.
    pub(super) end: u64,
}

impl Scanner<'_> {
    /// Runs the pickles in a span, one behind the other, and judges them. `None` where none begins there.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn stream(
        &mut self,
        source: &dyn ReadAt,
        span: Span,
        spot: &Spot,
        kind: Kind,
    ) -> io::Result<Option<Stream>> {
        let mut at = span.start();
        let mut stream = None;
        for count in 0_usize.. {
            let rest = Span::between(at, span.end());
            let first = read_vec(source, Span::between(at, at.saturating_add(1).min(span.end())))?;
            let joblib = kind == Kind::File;
            let traced = self.trace(source, rest, (spot, joblib));
            let judgement = self.judge(&traced.graph);
            let has_magic = first.first() == Some(&PROTO);
            if traced.end.is_err() && !has_magic && !is_evidence(&traced.graph, &judgement, false) {
                // Protocols 0 and 1 have no magic: what only looked like a pickle is none.
                if count > 0 {
                    self.after_stop(source, rest, spot)?;
                }
                break;
            }
            if traced.end.is_err() && count > 0 && !is_evidence(&traced.graph, &judgement, false) {
                self.after_stop(source, rest, spot)?;
                break;
            }
            if count > 0 && kind != Kind::Legacy {
                let message = format!("pickle number {}", count.saturating_add(1));
                self.found.add(&rules::STACKED_PICKLE, spot.at(at, traced.span.len()), message);
            }
            let here = spot.plus(at);
            self.report(&traced, &judgement, source, &here, kind)?;
            if joblib && !traced.raw.is_empty() {
                // A loader other than joblib's would take the arrays for opcodes. By chance some are: only names are evidence.
                let other = self.trace(source, rest, (spot, false));
                let mut judgement = self.judge(&other.graph);
                judgement.refusals.retain(|used| used.kind != UseKind::Computed);
                self.uses(&judgement, &here);
            }
            at = traced.span.end();
            let so_far = stream.map_or(0, |stream: Stream| stream.pickles);
            stream = Some(Stream { pickles: so_far.saturating_add(traced.span.len()), end: at });
            if traced.end.is_err() {
                self.search(source, Span::between(at, span.end()), spot, How::Runs)?;
                break;
            }
            if kind == Kind::Legacy && count.saturating_add(1) == LEGACY {
                break;
            }
            let begin = at;
            if skip_padding(source, &mut at, span.end())?.is_none() {
                if at > begin {
                    let message = format!("{} bytes of white space or zeros", at.saturating_sub(begin));
                    self.found.add(&rules::PADDING, spot.at(begin, at.saturating_sub(begin)), message);
                }
                break;
            }
        }
        Ok(stream)
    }

    fn trace(&self, source: &dyn ReadAt, span: Span, (spot, joblib): (&Spot, bool)) -> Trace {
        let vm = Vm::new(Cursor::new(source, span), &self.open.limits).lenient();
        trace(vm, source, span, (spot.entry(), joblib), &self.open.limits)
    }

    /// The verdicts of a pickle.
    pub(super) fn judge(&self, graph: &Graph) -> Judgement {
        judge(graph, &|module, name| allow(module, name).is_some(), &self.options.overrides)
    }

    /// What follows a pickle and is none.
    fn after_stop(&mut self, source: &dyn ReadAt, rest: Span, spot: &Spot) -> io::Result<()> {
        let message = format!("{} bytes that are no pickle", rest.len());
        self.found.add(&rules::DATA_AFTER_STOP, spot.at(rest.start(), rest.len()), message);
        self.search(source, rest, spot, How::Runs).map(drop)
    }

    /// Reports what a pickle did. `spot` is where it begins.
    pub(super) fn report(
        &mut self,
        traced: &Trace,
        judgement: &Judgement,
        source: &dyn ReadAt,
        spot: &Spot,
        kind: Kind,
    ) -> io::Result<()> {
        self.found.model = true;
        self.record(traced, judgement, source, spot)?;
        self.uses(judgement, spot);
        self.anomalies(traced, spot, kind);
        match &traced.end {
            Ok(root) => {
                shape::report(&traced.graph, *root, &mut self.found, spot);
                self.import_only(traced, judgement, spot);
            }
            Err(error) => self.broken(error, traced, spot),
        }
        arguments::report(&traced.graph, &mut self.found, spot);
        let graph = &traced.graph;
        self.modules.extend(graph.globals().iter().map(|global| {
            let module = crate::policy::canonical(&global.module, global.protocol);
            module.split('.').next().unwrap_or_default().to_owned()
        }));
        self.texts(graph, source, spot)
    }

    /// Lists a pickle.
    pub(super) fn record(
        &mut self,
        traced: &Trace,
        judgement: &Judgement,
        source: &dyn ReadAt,
        spot: &Spot,
    ) -> io::Result<()> {
        if self.pickles.len() < RECORDED {
            self.pickles.push(record(traced, judgement, source, spot)?);
        }
        Ok(())
    }

    /// Names and calls.
    pub(super) fn uses(&mut self, judgement: &Judgement, spot: &Spot) {
        for used in judgement.refusals.iter().chain(&judgement.remarks) {
            let (rule, what) = match (used.verdict, used.kind) {
                (_, UseKind::CarriesCode) => (&rules::CODE_BY_VALUE, "carries code"),
                (_, UseKind::HonestForm) => (&rules::HONEST_FORM, "harmless in this form"),
                (_, UseKind::Computed) => (&rules::COMPUTED_CALL, "calls what is no plain name"),
                (Verdict::Dangerous, UseKind::Call) => (&rules::DANGEROUS_CALL, "dangerous"),
                (Verdict::Dangerous, UseKind::Reference) => {
                    (&rules::DANGEROUS_NAME, "dangerous, not called here")
                }
                _ => (&rules::UNKNOWN_CALL, "unknown"),
            };
            let Use { expression, name, offset, .. } = used;
            self.found.add_about(rule, spot.at(offset.0, None), format!("{expression}  {what}"), Some(name));
        }
    }

    fn anomalies(&mut self, traced: &Trace, spot: &Spot, kind: Kind) {
        let graph = &traced.graph;
        // What is cut off has a last frame that is too long, and is reported as what it is.
        let cut = |kind: AnomalyKind| kind == AnomalyKind::Frame && traced.end.is_err();
        for anomaly in graph.anomalies().iter().filter(|anomaly| !cut(anomaly.kind)) {
            let rule = match anomaly.kind {
                AnomalyKind::Extension => &rules::EXTENSION,
                AnomalyKind::ComputedName => &rules::COMPUTED_NAME,
                AnomalyKind::ChangedName => &rules::CHANGED_NAME,
                AnomalyKind::MemoGap | AnomalyKind::HugeInteger => &rules::PICKLE_BOMB,
                kind if kind.is_ambiguous() => &rules::AMBIGUOUS_PICKLE,
                _ => &rules::ODD_PICKLE,
            };
            self.found.add(rule, spot.at(anomaly.offset.0, None), anomaly.kind.to_string());
        }
        // A call that the loader of torch.package makes is judged as one.
        let ids = graph.ids().filter(|id| graph.package_call(*id).is_none());
        let ids = ids.filter_map(|id| match graph.node(id) {
            Node::Persistent(id) => Some(*id),
            _ => None,
        });
        let has_none = !matches!(kind, Kind::Torch | Kind::Legacy);
        if let Some(id) = ids.into_iter().find(|id| has_none || !is_id_of_torch(graph, *id, kind)) {
            let message =
                if has_none { "a plain pickle has no persistent ids" } else { "this is none of torch's" };
            let id = graph.node(id).type_name();
            self.found.add(&rules::PERSISTENT_ID, spot.whole(), format!("{message} ({id})"));
        }
    }

    /// A pickle that broke off.
    fn broken(&mut self, error: &Error, traced: &Trace, spot: &Spot) {
        self.found.malformed = true;
        let at = spot.at(traced.span.len(), None);
        match error {
            Error::Pickle { error, .. } if matches!(error.kind, crate::pickle::ErrorKind::Limit(_)) => {
                self.found.add(&rules::LIMIT, spot.at(error.offset.0, None), error.to_string());
            }
            Error::Pickle { error, .. } => {
                self.found.add(&rules::BROKEN_PICKLE, spot.at(error.offset.0, None), error.to_string());
            }
            other => self.found.add(&rules::BROKEN_PICKLE, at, other.to_string()),
        }
    }

    /// Names that are imported and then used for nothing. A name that is the whole object is no checkpoint either.
    fn import_only(&mut self, traced: &Trace, judgement: &Judgement, spot: &Spot) {
        let graph = &traced.graph;
        let Ok(root) = traced.end else { return };
        let used = shape::used(graph, root);
        let inert =
            |name: &str| judgement.globals.iter().any(|g| g.name == name && g.verdict == Verdict::Inert);
        for id in graph.ids() {
            let Some(global) = graph.as_global(id) else { continue };
            if id != root && used.get(id.index()) == Some(&true) {
                continue;
            }
            let module = crate::policy::canonical(&global.module, global.protocol);
            let name = format!("{module}.{}", global.name);
            if inert(&name) {
                let message = format!("{} is imported and not used", name.escape_debug());
                self.found.add_about(
                    &rules::IMPORT_ONLY,
                    spot.at(global.offset.0, None),
                    message,
                    Some(&name),
                );
            }
        }
    }
}

/// Whether a persistent id is one that torch writes: a storage, in streams a module with its source, in tars a number.
fn is_id_of_torch(graph: &Graph, id: NodeId, kind: Kind) -> bool {
    let name = |id: NodeId| graph.as_global(id);
    match graph.tuple(id) {
        Some([tag, class, ..]) if graph.text(*tag).as_deref() == Some("storage") => name(*class).is_some(),
        Some([tag, class, ..]) if graph.text(*tag).as_deref() == Some("module") => {
            kind == Kind::Legacy && name(*class).is_some()
        }
        Some([class, _file, _source]) => name(*class).is_some(),
        Some(_) => false,
        None => graph.int(id).is_some() || graph.text(id).is_some_and(|text| text.parse::<u64>().is_ok()),
    }
}

fn record(
    traced: &Trace,
    judgement: &Judgement,
    source: &dyn ReadAt,
    spot: &Spot,
) -> io::Result<InspectedPickle> {
    let globals = judgement.globals.iter().map(|global| NamedGlobal {
        name: global.name.clone(),
        count: global.count,
        verdict: global.verdict.name(),
    });
    Ok(InspectedPickle {
        source: None,
        entry: spot.entry().map(str::to_owned),
        sha256: traced.sha256(source)?,
        protocol: traced.graph.protocol(),
        globals: globals.collect(),
    })
}
