//! Opening a source: from a path, or anything with positions, to its tensors and where they stand. No weights are
//! read.

mod account;
mod buffers;
mod companions;
mod dcp;
mod deepspeed;
mod embedded;
mod expand;
mod folder;
mod graft;
mod join;
mod layers;
mod legacy;
mod library;
mod megatron;
mod nested;
mod numpy;
mod open;
mod package;
mod pt2;
mod ranks;
mod run;
mod script;
mod tar;
mod witness;
mod zip;

use std::path::PathBuf;
use std::sync::Arc;

use crate::accounting::Accounting;
use crate::bytes::ReadAt;
use crate::limits::Limits;
use crate::policy::{JudgedGlobal, Overrides, Use};
use crate::rebuild::{Rebuilt, Shard};
use crate::tensor::{EntryId, Storage, StreamId, Streams, Tensor, Tree, View};
use crate::values::Values;

pub(crate) use expand::expand_some;
pub(crate) use folder::MEGATRON;
pub use folder::{Folder, FolderError, Named, open_folder};
pub(crate) use megatron::is_name_of_rank;
pub use open::open;
pub(crate) use open::survey;
use ranks::Replica;
pub(crate) use run::{RawData, Trace, skip_padding, trace};
pub use witness::{FoundPickle, Pickles, Witness, pickles};

/// How to open a source.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct OpenOptions {
    /// Bounds on what the source may make the reader spend.
    pub limits: Limits,
    /// Names that the user keeps as inert data.
    pub overrides: Overrides,
    /// Lists tensors that depend on an uninterpreted call instead of failing.
    pub skip_unresolved: bool,
    /// Refuses everything outside the allowlist, and any byte without a use.
    pub strict: bool,
    /// The folder of the source, for files that hold some of its arrays (joblib before 0.10). None are opened without it.
    pub siblings: Option<PathBuf>,
    /// The folder for the temporary file that a compressed source is expanded into; the system's where `None`.
    pub spool: Option<PathBuf>,
    /// Refuses nothing by verdict or ambiguity, and leaves further pickles alone: for scans, which report all that.
    pub survey: bool,
    /// Whether arrays of `uint16` hold bfloat16, as `PaddlePaddle` writes them without saying so.
    pub paddle_bf16: bool,
    /// Keeps the values that are no tensors, which takes as much memory as the pickles' objects do.
    pub values: bool,
    /// Takes parts of tensors that are spread over ranks as they are: for a reader that puts them together.
    pub shards: bool,
    /// Who is to be told of every pickle. With a witness nothing refuses; see [`pickles`].
    pub witness: Option<Witness>,
}

/// A file that holds the checkpoint compressed, or as a member of an archive.
pub struct Outer {
    /// The file.
    pub source: Arc<dyn ReadAt>,
    /// What was undone, outermost first: `gzip`, `zip`.
    pub layers: Vec<&'static str>,
    /// Whether anything was expanded, so that positions inside are none of the file.
    pub expanded: bool,
    /// The writer of an archive, and the members that its loader needs beside the checkpoint.
    pub needs: Option<(&'static str, &'static [&'static str])>,
}

impl std::fmt::Debug for Outer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outer").field("layers", &self.layers).finish_non_exhaustive()
    }
}

/// One pickle of a source.
#[derive(Debug, Clone)]
pub struct PickleInfo {
    /// Member of the archive, where the container names one.
    pub entry: Option<Box<str>>,
    /// SHA-256 of its bytes, from its first opcode to `STOP`, in lower-case hexadecimal.
    pub sha256: String,
    /// The highest protocol that it declares.
    pub protocol: u8,
    /// Every name that it refers to, sorted.
    pub globals: Vec<JudgedGlobal>,
}

/// One file of a source.
#[derive(Debug)]
pub struct SourceFile {
    /// Its path relative to the folder that is converted, or its name; empty where it has none.
    pub name: Box<str>,
    /// Its bytes, without what they were wrapped in.
    pub stream: StreamId,
    /// The file as it is on disk, where the checkpoint is inside of it.
    pub outer: Option<Outer>,
    /// Name of the container, as it stands in the manifest.
    pub container: &'static str,
    /// Whether elements are big-endian.
    pub big_endian: bool,
    /// Its pickles, in the order in which Python would load them.
    pub pickles: Vec<PickleInfo>,
    /// Where its bytes went.
    pub accounting: Accounting,
    /// Steps of the tree above what is the root of this file.
    pub depth: usize,
}

impl SourceFile {
    /// A file of which everything is read; pickles are still to be named.
    pub(crate) fn new(container: &'static str, accounting: Accounting) -> Self {
        Self {
            name: "".into(),
            stream: StreamId::SOURCE,
            outer: None,
            container,
            big_endian: false,
            pickles: Vec::new(),
            accounting,
            depth: 0,
        }
    }

    /// Its container with what is around it, such as `gzip+torch-zip`.
    pub fn layers(&self) -> String {
        let around = self.outer.iter().flat_map(|outer| &outer.layers).copied();
        around.chain([self.container]).collect::<Vec<_>>().join("+")
    }
}

/// A source whose structure is read, judged and interpreted: one file, or several that are one checkpoint.
#[derive(Debug)]
pub struct Opened {
    /// Its files, the one that was opened first. [`Streams::file_of`] counts them in this order.
    pub files: Vec<SourceFile>,
    /// What was dropped that does not belong, in words.
    pub strays: Vec<String>,
    /// The library whose objects the arrays are part of, where it is one that safetensors cannot give back.
    pub library: Option<&'static str>,
    /// The files and what had to be decoded from them.
    pub streams: Streams,
    /// Storages.
    pub storages: Vec<Storage>,
    /// Tensors.
    pub tensors: Vec<Tensor>,
    /// Where they stand.
    pub tree: Tree,
    /// What its pickles hold beside them, where [`OpenOptions::values`] asks for it.
    pub values: Vec<Values>,
    /// Where in the tree the places of each file begin that has any.
    parts: Vec<(EntryId, usize)>,
    /// Tensors of which it has parts.
    shards: Vec<Shard>,
    /// What several of its files have, and have to have the same.
    replicas: Vec<Replica>,
}

impl Opened {
    /// Where a view lies: its file by position in `files`, the member of the archive that holds its storage, and the
    /// storage's key, where the container names them.
    pub fn place_of(&self, view: &View) -> (u64, Option<&str>, Option<&str>) {
        let Some(storage) = self.storages.get(view.storage().index()) else { return (0, None, None) };
        let file = crate::bytes::length(self.streams.file_of(storage.place.stream()));
        (file, storage.entry.as_deref(), Some(&*storage.key).filter(|key| !key.is_empty()))
    }

    /// A source of one file.
    fn new(file: SourceFile, strays: Vec<String>, streams: Streams, rebuilt: Rebuilt) -> Self {
        Self::merged(vec![file], strays, streams, rebuilt)
    }

    /// A source of several files whose tree says of none of its places which file they come from: the first stands for
    /// all, and tensors in parts name theirs.
    fn merged(files: Vec<SourceFile>, strays: Vec<String>, streams: Streams, rebuilt: Rebuilt) -> Self {
        let Rebuilt { tree, tensors, storages, values, shards } = rebuilt;
        Self {
            files,
            strays,
            library: None,
            streams,
            storages,
            tensors,
            tree,
            values,
            parts: vec![(EntryId::ROOT, 0)],
            shards,
            replicas: Vec::new(),
        }
    }

    /// Names the file that was opened by its path; files beside it lie in the same folder.
    pub(crate) fn name(&mut self, path: &str) {
        let folder = path.rfind('/').and_then(|at| path.get(..=at)).unwrap_or_default();
        for (i, file) in self.files.iter_mut().enumerate() {
            file.name = if i == 0 { path.into() } else { format!("{folder}{}", file.name).into() };
        }
    }

    /// Every pickle of every file.
    pub fn pickles(&self) -> impl Iterator<Item = &PickleInfo> {
        self.files.iter().flat_map(|file| &file.pickles)
    }

    /// Position of the file whose pickle holds a place, and the steps to it from the root of that file.
    pub fn place(&self, id: EntryId) -> (usize, Vec<String>) {
        let after = self.parts.partition_point(|(first, _)| *first <= id);
        let file = after.checked_sub(1).and_then(|at| self.parts.get(at)).map_or(0, |(_, file)| *file);
        let mut path = self.tree.path(id);
        let above = self.files.get(file).map_or(0, |file| file.depth);
        path.drain(..above.min(path.len()));
        (file, path)
    }

    /// The files as they are on disk.
    pub(crate) fn on_disk(&self) -> Vec<Source> {
        let on_disk = |file: &SourceFile| match &file.outer {
            Some(outer) => Some(outer.source.clone()),
            None => self.streams.shared(file.stream),
        };
        self.files.iter().filter_map(on_disk).collect()
    }
}

/// A use of a name that refuses a conversion, in its pickle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedUse {
    /// Member of the archive that the pickle is, where the container names one.
    pub entry: Option<Box<str>>,
    /// The use.
    pub used: Use,
    /// How many tensors depend on it, and of how many; `None` where that cannot be told.
    pub dependents: Option<(u64, u64)>,
}

/// Why a source cannot be opened. The public [`Error`](crate::Error) adds which file it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It could not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// The container is malformed.
    #[error(transparent)]
    Container(#[from] crate::container::Error),
    /// A pickle is malformed.
    #[error("{}{error}", place(entry.as_deref()))]
    Pickle {
        /// Member of the archive.
        entry: Option<Box<str>>,
        /// What is wrong.
        error: crate::pickle::Error,
    },
    /// A pickle that readers take differently.
    #[error("{}{} at {}", place(entry.as_deref()), anomaly.kind, anomaly.offset)]
    Ambiguous {
        /// Member of the archive.
        entry: Option<Box<str>>,
        /// What they take differently.
        anomaly: crate::pickle::Anomaly,
    },
    /// A call that cannot be interpreted as its library would.
    #[error("{}{error}", place(entry.as_deref()))]
    Rebuild {
        /// Member of the archive.
        entry: Option<Box<str>>,
        /// What is wrong.
        error: crate::rebuild::Error,
    },
    /// A part of a legacy stream that says something else than it has to.
    #[error("{part}: {found} found, {expected} expected")]
    Legacy {
        /// Which part of the stream.
        part: &'static str,
        /// What stands there.
        found: String,
        /// What has to stand there.
        expected: &'static str,
    },
    /// Names or calls that refuse a conversion.
    #[error("refused: {}", uses.first().map_or("", |refused| refused.used.name.as_str()))]
    Refused {
        /// Which, where.
        uses: Vec<RefusedUse>,
    },
    /// Something that `--strict` refuses.
    #[error("refused by --strict: {0}")]
    Strict(String),
    /// A recognised format that depickle does not support.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// A compressed stream that is damaged or larger than it may be.
    #[error("{packing}: {reason}")]
    Packed {
        /// How it is compressed.
        packing: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A file that the checkpoint keeps an array in.
    #[error("{}: {reason}", file.escape_debug())]
    Companion {
        /// Its name, as the checkpoint has it.
        file: Box<str>,
        /// What is wrong.
        reason: String,
    },
    /// A limit was met.
    #[error(transparent)]
    Limit(#[from] crate::limits::LimitExceeded),
    /// An array that is not as its header says.
    #[error("{}{error}", place(entry.as_deref()))]
    Array {
        /// Member of the archive.
        entry: Option<Box<str>>,
        /// What is wrong.
        error: crate::rebuild::ErrorKind,
    },
    /// A tensor that lies about its storage.
    #[error("{name:?}: {error}")]
    Tensor {
        /// Its name.
        name: Box<str>,
        /// What is wrong.
        error: crate::tensor::Error,
    },
    /// A folder whose files do not make up a checkpoint.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Something is wrong in one file of several.
    #[error("{place}: {error}")]
    Inside {
        /// The file, and what in it.
        place: Box<str>,
        /// What is wrong.
        error: Box<Error>,
    },
    /// No model format at all.
    #[error("no checkpoint: not recognised as any model format")]
    NotApplicable,
}

impl Error {
    /// Says in which of several files it is. Refusals say so themselves.
    #[must_use]
    pub fn inside(self, place: &str) -> Self {
        let Self::Refused { mut uses } = self else {
            return Self::Inside { place: place.into(), error: Box::new(self) };
        };
        for refused in &mut uses {
            let entry =
                refused.entry.iter().fold(place.to_owned(), |place, entry| format!("{place}: {entry}"));
            refused.entry = Some(entry.into());
        }
        Self::Refused { uses }
    }
}

fn place(entry: Option<&str>) -> String {
    entry.map(|entry| format!("{}: ", entry.escape_debug())).unwrap_or_default()
}

/// Shares a source between the readers of its parts.
pub(crate) type Source = Arc<dyn ReadAt>;
