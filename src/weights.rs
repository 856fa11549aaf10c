//! Tensors of a checkpoint, one by one and lazily: for programs that load weights instead of converting files.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::bytes::{FileSource, ReadAt, Span, folder_of, index};
use crate::checkpoint::{self, OpenOptions, Opened};
use crate::error::Error;
use crate::folder;
use crate::output;
use crate::plan::{self, Aliases, Plan};
use crate::progress::Silent;
use crate::tensor::{
    Dtype, EntryId, Place, ReadError, Scratch, Storage, StorageId, TensorId, View, read_into,
};

/// A checkpoint whose structure is read. Its weights are read when they are asked for.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use depickle::{Checkpoint, Root};
///
/// let checkpoint = Checkpoint::open("model.pt")?;
/// for tensor in checkpoint.weights(Root::Auto)?.iter() {
///     println!("{} {} {:?}", tensor.name(), tensor.dtype(), tensor.shape());
///     let bytes = tensor.bytes()?; // borrowed from the file where the layout allows
///     assert_eq!(bytes.len(), tensor.nbytes());
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    name: String,
    opened: Opened,
}

/// Which tensors of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Root {
    /// Those that the program converts by default: the weights, by the table of known writers.
    #[default]
    Auto,
    /// Every one, under its full dotted path.
    All,
    /// Those below this dotted path.
    Path(String),
}

impl Checkpoint {
    /// Opens a file, or a folder that is one model, with the default limits. With the feature `mmap` a file is mapped: one
    /// that another process truncates meanwhile ends this process with a signal.
    ///
    /// # Errors
    /// Whatever keeps it from being read as a checkpoint, see [`Class`](crate::Class); a folder of several models, of which
    /// one is to be named.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path, &OpenOptions::default())
    }

    /// Opens a file, or a folder that is one model.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        if path.is_dir() {
            return Self::new(path, folder::open_one(path, options, &mut |_, _| Ok(()))?);
        }
        let source = source(path).map_err(|e| Error::new(path, checkpoint::Error::Io(e)))?;
        let mut options = options.clone();
        options.siblings.get_or_insert_with(|| folder_of(path).to_owned());
        Self::new(path, checkpoint::open(&source, &options).map_err(|e| Error::new(path, e))?)
    }

    /// Reads from anything with positions: a file, bytes in memory, ranges of an object store.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_source(source: impl ReadAt + 'static) -> Result<Self, Error> {
        let source: Arc<dyn ReadAt> = Arc::new(source);
        let name = Path::new("source");
        let opened = checkpoint::open(&source, &OpenOptions::default());
        Self::new(name, opened.map_err(|e| Error::new(name, e))?)
    }

    fn new(name: &Path, mut opened: Opened) -> Result<Self, Error> {
        // Deflated storages are rare: torch stores. They are inflated here, once, into a nameless temporary file.
        let deflated = |storage: &Storage| matches!(storage.place, Place::Deflated { .. });
        let needed: Vec<StorageId> = (0..)
            .map(StorageId)
            .zip(&opened.storages)
            .filter(|(_, storage)| deflated(storage))
            .map(|(id, _)| id)
            .collect();
        if !needed.is_empty() {
            let folder = std::env::temp_dir();
            output::spool(&mut opened.streams, &mut opened.storages, needed, &folder, 1, &Silent)
                .map_err(|e| Error::new(name, e))?;
        }
        Ok(Self { name: name.display().to_string(), opened })
    }

    /// Everything that is known of the source without reading weights.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The tensors of a place, in the source's order. Names of the same data are all there, and say so.
    ///
    /// # Errors
    /// No tensors, a place that does not exist, names that collide.
    pub fn weights(&self, root: Root) -> Result<Weights<'_>, Error> {
        let (root, all) = match root {
            Root::Auto => (None, false),
            Root::All => (None, true),
            Root::Path(path) => (Some(path), false),
        };
        let options = plan::Options { root, all, aliases: Aliases::Once, ..plan::Options::default() };
        let plan = plan::plan(&self.opened.tree, &self.opened.tensors, &options)
            .map_err(|e| Error::new(Path::new(&self.name), e))?;
        Ok(Weights::new(self, &plan))
    }
}

#[cfg(feature = "mmap")]
fn source(path: &Path) -> std::io::Result<Arc<dyn ReadAt>> {
    // An empty file cannot be mapped everywhere, and needs not be.
    let file = FileSource::open(path)?;
    if file.size() == 0 { Ok(Arc::new(file)) } else { Ok(Arc::new(crate::bytes::Mapping::open(path)?)) }
}

#[cfg(not(feature = "mmap"))]
fn source(path: &Path) -> std::io::Result<Arc<dyn ReadAt>> {
    Ok(Arc::new(FileSource::open(path)?))
}

/// The tensors of a place.
#[derive(Debug)]
pub struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    tensors: Vec<Named>,
    by_name: HashMap<String, usize>,
}

#[derive(Debug)]
struct Named {
    name: String,
    tensor: TensorId,
    entry: EntryId,
    alias_of: Option<usize>,
}

impl<'a> Weights<'a> {
    fn new(checkpoint: &'a Checkpoint, plan: &Plan) -> Self {
        let written = plan.tensors.iter().map(|planned| Named {
            name: planned.name.clone(),
            tensor: planned.tensor,
            entry: planned.entry,
            alias_of: None,
        });
        let mut tensors: Vec<Named> = written.collect();
        let aliases = plan.aliases.iter().filter_map(|alias| {
            let tensor = plan.tensors.get(alias.of)?.tensor;
            Some(Named { name: alias.name.clone(), tensor, entry: alias.entry, alias_of: Some(alias.of) })
        });
        tensors.extend(aliases);
        let by_name = tensors.iter().enumerate().map(|(i, named)| (named.name.clone(), i)).collect();
        Self { checkpoint, tensors, by_name }
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Every tensor: those with data of their own in the source's order, then further names of the same data.
    pub fn iter(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.tensors.iter().filter_map(|named| self.tensor(named))
    }

    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<Tensor<'_>> {
        self.by_name.get(name).and_then(|i| self.tensors.get(*i)).and_then(|named| self.tensor(named))
    }

    fn tensor<'w>(&'w self, named: &'w Named) -> Option<Tensor<'w>> {
        let opened = &self.checkpoint.opened;
        let view = &opened.tensors.get(named.tensor.index())?.view;
        let storage = opened.storages.get(view.storage().index())?;
        let alias_of = named.alias_of.and_then(|i| self.tensors.get(i)).map(|of| of.name.as_str());
        let shape = view.stored_shape().into_iter().map(index).collect();
        Some(Tensor { opened, named, alias_of, view, storage, shape })
    }
}

/// A tensor that can be read.
#[derive(Debug)]
pub struct Tensor<'a> {
    opened: &'a Opened,
    named: &'a Named,
    alias_of: Option<&'a str>,
    view: &'a View,
    storage: &'a Storage,
    shape: Vec<usize>,
}

impl<'a> Tensor<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.named.name
    }

    /// Steps from the root of the source to it.
    pub fn path(&self) -> Vec<String> {
        self.opened.tree.path(self.named.entry)
    }

    /// The name whose data this one shows, where it is not the first.
    pub fn alias_of(&self) -> Option<&'a str> {
        self.alias_of
    }

    /// Its element type in safetensors.
    pub fn dtype(&self) -> safetensors::Dtype {
        self.view.dtype().stored()
    }

    /// Its shape in safetensors.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its strides in the source, in elements of the source.
    pub fn strides(&self) -> &'a [u64] {
        self.view.strides()
    }

    /// Bytes of its contiguous data.
    pub fn nbytes(&self) -> usize {
        index(self.view.nbytes())
    }

    /// Its contiguous row-major little-endian bytes: borrowed where the source holds them so and in memory.
    ///
    /// # Errors
    /// Where the source cannot be read, or holds a boolean that is neither 0 nor 1.
    pub fn bytes(&self) -> Result<Cow<'a, [u8]>, ReadError> {
        if let Some(bytes) = self.borrowed() {
            return Ok(Cow::Borrowed(bytes));
        }
        let mut buf = vec![0; self.nbytes()];
        self.read_into(&mut buf)?;
        Ok(Cow::Owned(buf))
    }

    /// Reads its contiguous row-major little-endian bytes.
    ///
    /// # Errors
    /// As [`Tensor::bytes`]; and where `buf` has not exactly [`Tensor::nbytes`] bytes.
    pub fn read_into(&self, buf: &mut [u8]) -> Result<(), ReadError> {
        /// Memory for gathering strided views.
        const SCRATCH: usize = 8 << 20;
        read_into(&self.opened.streams, self.storage, self.view, &mut Scratch::new(SCRATCH), buf)
    }

    /// The tensor with its bytes, as a [`safetensors::View`]. Reading can fail and that trait cannot say so, which is
    /// why it is a step of its own.
    ///
    /// # Errors
    /// As [`Tensor::bytes`].
    pub fn load(&self) -> Result<Loaded<'a>, ReadError> {
        Ok(Loaded { dtype: self.dtype(), shape: self.shape.clone(), bytes: self.bytes()? })
    }

    fn borrowed(&self) -> Option<&'a [u8]> {
        let view = self.view;
        let plain =
            view.is_contiguous() && !view.negated() && !view.conjugated() && view.dtype() != Dtype::Bool;
        let swapped = self.storage.big_endian && view.dtype().swap_unit() > 1;
        let Place::Stored { stream, span } = self.storage.place else { return None };
        let start = view.offset().checked_mul(view.dtype().size())?;
        let span: Span = span.sub(start, view.nbytes())?;
        if plain && !swapped { self.opened.streams.stream(stream).borrow(span) } else { None }
    }
}

/// A tensor with its bytes.
#[derive(Debug, Clone)]
pub struct Loaded<'a> {
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    bytes: Cow<'a, [u8]>,
}

impl safetensors::View for Loaded<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
