//! One side of a comparison: the named tensors of a file or a folder, whatever its format.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::Dtype as Stored;

use super::folder::{self, Found, What};
use super::{DiffError, Options};
use crate::bytes::{FileSource, ReadAt, Span, folder_of, length};
use crate::checkpoint::{self, OpenOptions, Opened, SourceFile};
use crate::container::{Format, Safetensors, detect};
use crate::error::Error;
use crate::hub::Index;
use crate::output;
use crate::plan::{self, Aliases, Note};
use crate::progress::Silent;
use crate::report::DiffFile;
use crate::tensor::{
    Dtype, EntryId, Family, Place, Storage, StorageId, StreamId, Streams, TensorId, View, ViewSpec,
};

/// The tensors of a file or a folder.
pub(super) struct Side {
    pub(super) path: PathBuf,
    pub(super) parts: Vec<Part>,
    /// In the order of the files, and of each file.
    pub(super) tensors: Vec<Held>,
    pub(super) names: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// An opened file.
pub(super) struct Part {
    /// One, or those of a model that is a folder.
    pub(super) files: Vec<DiffFile>,
    pub(super) path: PathBuf,
    pub(super) streams: Streams,
    pub(super) storages: Vec<Storage>,
    /// They, and files beside them, as they are on disk.
    on_disk: Vec<Arc<dyn ReadAt>>,
}

/// Metadata of a header that loaders look for, and no name.
const FORMAT: &str = "format";

/// A tensor.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) part: usize,
    pub(super) dtype: Stored,
    pub(super) shape: Vec<u64>,
    /// Of a safetensors file a view of plain bytes: they are what they are.
    pub(super) view: View,
}

impl Held {
    pub(super) fn nbytes(&self) -> u64 {
        self.view.nbytes()
    }
}

impl Side {
    /// Opens what is at `path`, without reading weights. `root` is the place whose tensors are taken of a pickle.
    pub(super) fn open(path: &Path, root: Option<&str>, options: &Options) -> Result<Self, DiffError> {
        let mut side = Self {
            path: path.to_owned(),
            parts: Vec::new(),
            tensors: Vec::new(),
            names: Vec::new(),
            notes: Vec::new(),
        };
        for Found { prefix, what } in folder::find(path, &options.open)? {
            let (first, part) = (side.names.len(), side.parts.len());
            match what {
                What::Files(files, index) => {
                    for (file, name) in files {
                        side.add(&file, name, root, options)?;
                    }
                    if let Some(index) = index {
                        side.check_index(&index)?;
                        side.add_recorded(first, index.dropped());
                    }
                }
                What::Model(opened) => side.add_opened(path, "", *opened, root, options)?,
            }
            side.names.iter_mut().skip(first).for_each(|name| name.insert_str(0, &prefix));
            let files = side.parts.iter_mut().skip(part).flat_map(|part| &mut part.files);
            files.for_each(|file| file.path.insert_str(0, &prefix));
        }
        if side.names.is_empty() {
            return Err(DiffError::NoWeights { path: path.display().to_string() });
        }
        Ok(side)
    }

    /// Each tensor of an index of safetensors files is in the file that it says. What a pickle holds goes by the names that
    /// convert would give.
    fn check_index(&self, index: &Index) -> Result<(), DiffError> {
        let held: HashSet<(&str, &str)> = self
            .tensors
            .iter()
            .zip(&self.names)
            .filter_map(|(held, name)| Some((&*self.part(held)?.files.first()?.path, name.as_str())))
            .collect();
        let is_stock = |path: &str| {
            let mut files = self.parts.iter().filter_map(|part| part.files.first());
            files.any(|file| file.path == path && file.container == SAFETENSORS)
        };
        for (name, file) in index.tensors() {
            if !held.contains(&(file, name)) && is_stock(file) {
                let (path, name, file) = (index.path.clone(), name.to_owned(), file.to_owned());
                return Err(DiffError::NotInShard { path, name, file });
            }
        }
        Ok(())
    }

    /// Whether any of its files has places to choose from.
    pub(super) fn has_places(&self) -> bool {
        self.parts.iter().flat_map(|part| &part.files).any(|file| file.container != SAFETENSORS)
    }

    fn add(
        &mut self,
        path: &Path,
        name: String,
        root: Option<&str>,
        options: &Options,
    ) -> Result<(), DiffError> {
        let io = |error| Error::new(path, checkpoint::Error::Io(error));
        let source: Arc<dyn ReadAt> = Arc::new(FileSource::open(path).map_err(io)?);
        if detect(&*source).map_err(io)? == Format::Safetensors {
            return self.add_safetensors(path, name, source);
        }
        self.add_checkpoint(path, &name, &source, root, options)
    }

    fn add_safetensors(
        &mut self,
        path: &Path,
        name: String,
        source: Arc<dyn ReadAt>,
    ) -> Result<(), DiffError> {
        let fail = |error: checkpoint::Error| Error::new(path, error);
        let header = Safetensors::open(&*source).map_err(|error| fail(error.into()))?;
        let first = self.names.len();
        let span = Span::between(header.data(), source.size());
        let storage = Storage {
            key: "".into(),
            entry: None,
            place: Place::Stored { stream: StreamId::SOURCE, span },
            len: span.len(),
            big_endian: false,
            crc32: None,
        };
        for (name, info) in header.tensors() {
            let (begin, end) = info.data_offsets;
            let view = bytes_view(&storage, length(begin), length(end.saturating_sub(begin)))
                .ok_or_else(|| fail(checkpoint::Error::Unsupported("a tensor of so many bytes")))?;
            self.names.push(name.to_owned());
            let shape = info.shape.iter().map(|size| length(*size)).collect();
            self.tensors.push(Held { part: self.parts.len(), dtype: info.dtype, shape, view });
        }
        let recorded = header.metadata().unwrap_or_default();
        let recorded = recorded.iter().map(|(name, of)| (name.as_str(), of.as_str()));
        self.add_recorded(first, recorded);
        self.parts.push(Part {
            files: vec![DiffFile { path: name, container: SAFETENSORS.to_owned(), root: None }],
            path: path.to_owned(),
            streams: Streams::new(source.clone()),
            storages: vec![storage],
            on_disk: vec![source],
        });
        Ok(())
    }

    /// Adds the names that metadata records for tensors that were written once: those whose text is the name of a tensor from
    /// `first` on. They show its data, as such names in a pickle do.
    fn add_recorded<'n>(&mut self, first: usize, recorded: impl Iterator<Item = (&'n str, &'n str)>) {
        let mut known: HashMap<String, usize> = HashMap::new();
        known.extend(self.names.iter().cloned().zip(0..).skip(first));
        for (name, of) in recorded.filter(|(name, _)| *name != FORMAT && !known.contains_key(*name)) {
            let Some(held) = known.get(of).and_then(|at| self.tensors.get(*at)).cloned() else { continue };
            self.names.push(name.to_owned());
            self.tensors.push(held);
        }
    }

    fn add_checkpoint(
        &mut self,
        path: &Path,
        name: &str,
        source: &Arc<dyn ReadAt>,
        root: Option<&str>,
        options: &Options,
    ) -> Result<(), DiffError> {
        let siblings = options.open.siblings.clone().or_else(|| Some(folder_of(path).to_owned()));
        let open = OpenOptions { siblings, ..options.open.clone() };
        let opened = checkpoint::open(source, &open).map_err(|error| Error::new(path, error))?;
        self.add_opened(path, name, opened, root, options)
    }

    /// Adds a checkpoint: the file `name`, or a model that is a folder and has files with names of their own.
    fn add_opened(
        &mut self,
        path: &Path,
        name: &str,
        mut opened: Opened,
        root: Option<&str>,
        options: &Options,
    ) -> Result<(), DiffError> {
        let choice = plan::Options {
            root: root.map(str::to_owned),
            all: options.all,
            aliases: Aliases::Once,
            ..plan::Options::default()
        };
        let plan = plan::plan(&opened.tree, &opened.tensors, &choice);
        let plan = plan.map_err(|error| Error::new(path, error))?;
        let roots = plan.notes.iter().filter(|note| matches!(note, Note::Root { .. } | Note::Several { .. }));
        let shown = if name.is_empty() { path.display().to_string() } else { name.to_owned() };
        self.notes.extend(roots.map(|note| format!("{shown}: {note}")));
        let written = plan.tensors.iter().map(|planned| (planned.entry, &planned.name, planned.tensor));
        let aliases = plan
            .aliases
            .iter()
            .filter_map(|alias| Some((alias.entry, &alias.name, plan.tensors.get(alias.of)?.tensor)));
        let mut found: Vec<(EntryId, &String, TensorId)> = written.chain(aliases).collect();
        found.sort_unstable_by_key(|(entry, ..)| *entry);
        let mut needed = Vec::new();
        for (_, name, id) in found {
            let Some(tensor) = opened.tensors.get(id.index()) else { continue };
            let view = tensor.view.clone();
            needed.push(view.storage());
            self.names.push(name.clone());
            let (dtype, shape) = (view.dtype().stored(), view.stored_shape());
            self.tensors.push(Held { part: self.parts.len(), dtype, shape, view });
        }
        if !name.is_empty() {
            // Files beside it that hold some of its arrays are parts of it.
            opened.name(name);
        }
        let file = |file: &SourceFile| {
            let (path, container) = (file.name.to_string(), file.layers());
            DiffFile { path, container, root: plan.root.clone() }
        };
        let count = if name.is_empty() { opened.files.len() } else { 1 };
        let files = opened.files.iter().take(count).map(file).collect();
        let folder = options.open.spool.clone().unwrap_or_else(std::env::temp_dir);
        output::spool(&mut opened.streams, &mut opened.storages, needed, &folder, options.jobs(), &Silent)
            .map_err(|error| Error::new(path, error))?;
        self.parts.push(Part {
            files,
            path: path.to_owned(),
            on_disk: opened.on_disk(),
            streams: opened.streams,
            storages: opened.storages,
        });
        Ok(())
    }

    /// Takes the names that are wanted and leaves the others out.
    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&str) -> bool) {
        let mut kept = self.names.iter().map(|name| keeps(name)).collect::<Vec<_>>().into_iter();
        let mut again = kept.clone();
        self.names.retain(|_| kept.next().unwrap_or(false));
        self.tensors.retain(|_| again.next().unwrap_or(false));
    }

    /// The file of a tensor.
    pub(super) fn part(&self, held: &Held) -> Option<&Part> {
        self.parts.get(held.part)
    }

    /// Fails where a file has changed since it was opened.
    pub(super) fn check_unchanged(&self) -> Result<(), Error> {
        self.parts.iter().try_for_each(|part| {
            part.on_disk.iter().try_for_each(ReadAt::check_unchanged).map_err(|error| {
                let kind = output::ErrorKind::Changed(error);
                Error::new(&part.path, output::Error { path: part.path.clone(), kind })
            })
        })
    }
}

/// As `inspect` calls it.
const SAFETENSORS: &str = "safetensors";

/// A run of bytes as a view; `None` beyond what a view can count.
fn bytes_view(storage: &Storage, begin: u64, len: u64) -> Option<View> {
    let spec = ViewSpec {
        dtype: Dtype::U8,
        family: Family::Torch,
        offset: i64::try_from(begin).ok()?,
        shape: vec![i64::try_from(len).ok()?],
        strides: vec![1],
        negated: false,
        conjugated: false,
    };
    View::new(StorageId(0), storage, &spec, &crate::limits::Limits::default()).ok()
}
