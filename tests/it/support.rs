//! Short ways to run a pickle, to rebuild it, and to look at what came out.

use std::path::Path;
use std::sync::Arc;

use depickle::accounting::{Accounted, Accounting};
use depickle::bytes::{Cursor, Offset, ReadAt, Span};
use depickle::container::{self, Storages};
use depickle::limits::{LimitKind, Limits};
use depickle::pickle::{self, AnomalyKind, Event, Graph, Node, NodeId, Vm};
use depickle::rebuild::{self, Context, Rebuilt};
use depickle::report::{FileVerdict, ScannedFile};
use depickle::tensor::{Kind, Leaf, Place, Storage, StreamId, Streams};

/// Runs a pickle to `STOP`.
pub(crate) fn run(bytes: &[u8]) -> Result<(Graph, NodeId), pickle::Error> {
    run_within(bytes, &Limits::default())
}

pub(crate) fn run_within(bytes: &[u8], limits: &Limits) -> Result<(Graph, NodeId), pickle::Error> {
    let bytes = bytes.to_vec();
    let mut vm = Vm::new(Cursor::new(&bytes, Span::between(0, bytes.size())), limits);
    match vm.run()? {
        Event::Stop(root) => Ok((vm.into_graph(), root)),
        Event::Built(_) => panic!("no pause was asked for"),
    }
}

/// The node that a pickle leaves at `STOP`.
pub(crate) fn value(bytes: &[u8]) -> Node {
    let (graph, root) = run(bytes).unwrap_or_else(|e| panic!("{e}"));
    graph.node(root).clone()
}

pub(crate) fn vm_error(bytes: &[u8]) -> pickle::ErrorKind {
    run(bytes).expect_err("an error").kind
}

pub(crate) fn vm_limit(bytes: &[u8], limits: &Limits) -> LimitKind {
    match run_within(bytes, limits).expect_err("a limit").kind {
        pickle::ErrorKind::Limit(limit) => limit.kind,
        other => panic!("{other}"),
    }
}

pub(crate) fn anomalies(bytes: &[u8]) -> Vec<(u64, AnomalyKind)> {
    let (graph, _) = run(bytes).unwrap_or_else(|e| panic!("{e}"));
    graph.anomalies().iter().map(|a| (a.offset.0, a.kind)).collect()
}

/// A container in which every plain key has a storage of so many bytes, but `missing`.
#[derive(Debug)]
pub(crate) struct Every(pub(crate) u64);

impl Storages for Every {
    fn storage(&self, key: &str, nbytes: u64) -> Result<Storage, container::Error> {
        let error = |kind| container::Error { entry: Some(key.into()), offset: Offset(0), kind };
        if key == "missing" {
            return Err(error(container::ErrorKind::Missing));
        }
        if nbytes > self.0 {
            return Err(error(container::ErrorKind::Length { got: self.0, expected: nbytes }));
        }
        let place = Place::Stored { stream: StreamId::SOURCE, span: Span::between(0, self.0) };
        Ok(Storage { key: key.into(), entry: None, place, len: self.0, big_endian: false, crc32: None })
    }
}

/// What a rebuild gave, with the streams that its storages lie in.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) rebuilt: Rebuilt,
    pub(crate) streams: Streams,
}

#[derive(Debug, Clone)]
pub(crate) struct How {
    pub(crate) limits: Limits,
    pub(crate) skip_unresolved: bool,
    pub(crate) storages: bool,
}

impl Default for How {
    fn default() -> Self {
        Self { limits: Limits::default(), skip_unresolved: false, storages: true }
    }
}

/// Rebuilds a whole pickle; every storage has 4096 bytes.
pub(crate) fn rebuild_with(bytes: &[u8], how: &How) -> Result<Built, rebuild::Error> {
    let (graph, root) = run_within(bytes, &how.limits).unwrap_or_else(|e| panic!("{e}"));
    let mut streams = Streams::new(Arc::new(bytes.to_vec()));
    let every = Every(4096);
    let context = Context {
        storages: how.storages.then_some(&every),
        skip_unresolved: how.skip_unresolved,
        ..Context::new(StreamId::SOURCE, &how.limits)
    };
    let rebuilt = rebuild::rebuild(&graph, root, context, &mut streams)?;
    Ok(Built { rebuilt, streams })
}

/// Rebuilds one object.
pub(crate) fn rebuild(object: &[u8]) -> Built {
    rebuild_with(&crate::asm::pickle(object), &How::default()).unwrap_or_else(|e| panic!("{e}"))
}

pub(crate) fn rebuild_error(object: &[u8]) -> rebuild::ErrorKind {
    rebuild_with(&crate::asm::pickle(object), &How::default()).expect_err("an error").kind
}

pub(crate) fn rebuild_limit(object: &[u8], limits: Limits) -> LimitKind {
    let how = How { limits, ..How::default() };
    match rebuild_with(&crate::asm::pickle(object), &how).expect_err("a limit").kind {
        rebuild::ErrorKind::Limit(limit) => limit.kind,
        rebuild::ErrorKind::Tensor(error) => match error.kind {
            depickle::tensor::ErrorKind::Limit(limit) => limit.kind,
            other => panic!("{other}"),
        },
        other => panic!("{other}"),
    }
}

impl Built {
    /// Dotted paths of every tensor, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.rebuilt.tree.tensors().map(|(entry, _)| self.rebuilt.tree.path(entry).join(".")).collect()
    }

    /// Path and reason of everything that was left out.
    pub(crate) fn left_out(&self) -> Vec<(String, String)> {
        self.rebuilt
            .tree
            .iter()
            .filter_map(|(id, entry)| match &entry.kind {
                Kind::Leaf(Leaf::LeftOut { reason, .. }) => {
                    Some((self.rebuilt.tree.path(id).join("."), reason.to_string()))
                }
                _ => None,
            })
            .collect()
    }

    /// Path, type and count of the parts without tensors.
    pub(crate) fn values(&self) -> Vec<(String, String, u64)> {
        self.rebuilt
            .tree
            .iter()
            .filter_map(|(id, entry)| match &entry.kind {
                Kind::Leaf(Leaf::Values { type_name, count }) => {
                    Some((self.rebuilt.tree.path(id).join("."), type_name.to_string(), *count))
                }
                _ => None,
            })
            .collect()
    }

    /// The bytes of the storage that the n-th tensor shows.
    pub(crate) fn storage_bytes(&self, n: usize) -> Vec<u8> {
        let id = self.rebuilt.tensors[n].view.storage();
        let Place::Stored { stream, span } = self.rebuilt.storages[id.index()].place else {
            panic!("stored")
        };
        let mut bytes = vec![0; span.len() as usize];
        self.streams.stream(stream).read_exact_at(&mut bytes, span.start()).expect("in its stream");
        bytes
    }
}

/// Scans bytes as a file without neighbours.
pub(crate) fn scan(bytes: &[u8]) -> ScannedFile {
    scan_with(bytes, &depickle::scan::Options::default())
}

/// Scans every byte.
pub(crate) fn scan_deep(bytes: &[u8]) -> ScannedFile {
    scan_with(bytes, &depickle::scan::Options { deep: true, ..depickle::scan::Options::default() })
}

fn scan_with(bytes: &[u8], options: &depickle::scan::Options) -> ScannedFile {
    let source: Arc<dyn ReadAt> = Arc::new(bytes.to_vec());
    let file = depickle::scan::scan_source(&source, "m.pt", None, options).unwrap();
    assert_eq!(accounted(&file), file.size, "{:?}", file.accounting);
    file
}

/// Bytes that the account of a file adds up to; of a compressed one, what is inside must add up too.
pub(crate) fn accounted(file: &ScannedFile) -> u64 {
    let sum = |a: &Accounting| a.pickle + a.tensors + a.container + a.other + a.unreferenced + a.trailing;
    match &file.accounting {
        Accounted::Plain(accounting) => sum(accounting),
        Accounted::Compressed { compressed, inside } => {
            assert_eq!(sum(&inside.accounting), inside.size, "{:?}", file.accounting);
            *compressed
        }
    }
}

/// Scans a file where it lies.
pub(crate) fn scanned_as(path: &Path) -> ScannedFile {
    depickle::scan::scan(path, &depickle::scan::Options::default()).unwrap()
}

pub(crate) fn verdict(bytes: &[u8]) -> FileVerdict {
    scan(bytes).verdict
}

/// Whether a rule has a finding.
pub(crate) fn found(file: &ScannedFile, rule: &str) -> bool {
    assert!(depickle::scan::rule(rule).is_some(), "no such rule: {rule}");
    file.findings.iter().any(|finding| finding.rule == rule)
}
