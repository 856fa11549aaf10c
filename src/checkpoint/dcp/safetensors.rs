//! Chunks in safetensors files: each file holds a chunk of any number of tensors, under their names.
//!
//! With `SerializationFormat.SAFETENSORS` the metadata names them as it names other entries. `HuggingFaceStorageWriter`
//! writes no metadata: where a chunk begins in its tensor stands in the header of its file, under `DCP_SHARDING_INFO`. How large a
//! tensor is, or how many ranks there were, no file says: without the files of the last rank the others look like a whole.
//! Source: `torch/distributed/checkpoint/hf_storage.py`.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::tensor::TensorInfo;

use crate::accounting::Accounting;
use crate::bytes::{Span, length};
use crate::container::{Format, Safetensors, detect};
use crate::tensor::{Dtype, Piece, Place, Region, Step, Storage, StreamId, View};

use super::super::folder::{Folder, FolderError, Merge, contiguous};
use super::super::{Error, OpenOptions, Opened, Source, SourceFile};
use super::entries::{Entry, piece};

/// The key in the metadata of a header that says where chunks begin.
const SHARDING: &str = "DCP_SHARDING_INFO";

/// A safetensors file, or the part of a file that is one.
pub(super) struct Blob {
    header: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
    /// Where its data begins and ends.
    data: Span,
    start: u64,
}

/// What begins at a position, if it is a safetensors file that reaches to the end.
///
/// # Errors
/// A header that is malformed, or says something else than there is.
pub(super) fn blob(source: &Source, offset: u64) -> Result<Option<Blob>, Error> {
    let Some(rest) = crate::bytes::Part::new(source.clone(), Span::between(offset, source.size())) else {
        return Ok(None);
    };
    if detect(&rest)? != Format::Safetensors {
        return Ok(None);
    }
    let file = Safetensors::open(&rest)?;
    let header = file.tensors().map(|(name, info)| (name.to_owned(), info.clone())).collect();
    let data = Span::between(offset.saturating_add(file.data()), source.size());
    Ok(Some(Blob { header, metadata: file.metadata().unwrap_or_default(), data, start: offset }))
}

impl Blob {
    pub(super) fn end(&self) -> u64 {
        self.data.end()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.header.get(name)
    }

    /// Where the bytes went, of which those of these entries have a use.
    pub(super) fn accounting(&self, entries: &[Entry<'_>]) -> Accounting {
        let bytes = |entry: &Entry<'_>| {
            let (from, to) = self.info(entry.name).map_or((0, 0), |info| info.data_offsets);
            length(to.saturating_sub(from))
        };
        self.account(entries.iter().map(bytes).fold(0, u64::saturating_add))
    }

    fn account(&self, tensors: u64) -> Accounting {
        let size = self.data.end().saturating_sub(self.start);
        let unreferenced = self.data.len().saturating_sub(tensors);
        Accounting { tensors, unreferenced, ..Accounting::default() }.with_container(size)
    }

    /// The chunk of an entry.
    pub(super) fn piece(
        &self,
        merge: &mut Merge<'_>,
        stream: StreamId,
        entry: &Entry<'_>,
    ) -> Result<Piece, Error> {
        let no_tensor = || FolderError::NoTensor { name: entry.name.into() };
        let view = self.view(merge, stream, entry.name)?;
        Ok(piece(entry.name, entry.region.ok_or_else(no_tensor)?, view))
    }

    fn view(&self, merge: &mut Merge<'_>, stream: StreamId, name: &str) -> Result<View, Error> {
        let no_tensor = || FolderError::NoTensor { name: name.into() };
        let info = self.info(name).ok_or_else(no_tensor)?;
        let dtype = Dtype::from_stored(info.dtype).ok_or(Error::Unsupported("a type of this width"))?;
        let shape: Vec<u64> = info.shape.iter().map(|size| length(*size)).collect();
        let (from, to) = (length(info.data_offsets.0), length(info.data_offsets.1));
        let span = self.data.sub(from, to.saturating_sub(from)).ok_or_else(no_tensor)?;
        let storage = Storage {
            key: "".into(),
            entry: Some(name.into()),
            place: Place::Stored { stream, span },
            len: span.len(),
            big_endian: false,
            crc32: None,
        };
        let spec = contiguous(dtype, &shape).ok_or_else(no_tensor)?;
        merge.view(name, storage, &spec)
    }
}

/// Whether the files of ranks are in a folder below: by their names, and what the header of one says.
pub(super) fn is_at(folder: &Folder, below: &str) -> bool {
    let says = |name: &str| {
        let source = folder.source(&format!("{below}{name}")).ok()?;
        blob(&source, 0).ok()??.metadata.contains_key(SHARDING).then_some(())
    };
    shards(folder, below).any(|(name, _)| says(name).is_some())
}

/// What the name of a rank's file says of it: `shard-00002-model-00001-of-00003.safetensors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Number {
    rank: u32,
    file: u32,
    of: u32,
}

impl Number {
    fn read(name: &str) -> Option<Self> {
        let (rank, rest) = name.strip_prefix("shard-")?.split_once("-model-")?;
        let (file, of) = rest.strip_suffix(".safetensors")?.split_once("-of-")?;
        let number =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
        Some(Self { rank: number(rank)?, file: number(file)?, of: number(of)? })
    }

    fn name(self) -> String {
        let Self { rank, file, of } = self;
        format!("shard-{rank:05}-model-{file:05}-of-{of:05}.safetensors")
    }
}

fn shards<'a>(folder: &'a Folder, below: &'a str) -> impl Iterator<Item = (&'a str, Number)> {
    folder.beside(below).filter_map(|name| Some((name, Number::read(name)?)))
}

/// All that the names speak of is there: each rank up to the highest, and each file by one of them, since a rank without a part
/// of what a file holds writes none. Whether the highest was the last
/// rank, no file says.
fn check_complete(folder: &Folder, below: &str) -> Result<(), FolderError> {
    let numbers: BTreeSet<Number> = shards(folder, below).map(|(_, number)| number).collect();
    let highest = numbers.last().map_or(0, |number| number.rank);
    let Some(first) = numbers.first().copied() else { return Ok(()) };
    if let Some(other) = numbers.iter().find(|number| number.of != first.of) {
        let (first, second) = (first.name().into(), other.name().into());
        return Err(FolderError::Differ { name: below.into(), what: "the number of files", first, second });
    }
    let ranks = numbers.iter().map(|number| number.rank).collect();
    let files = numbers.iter().map(|number| number.file).collect();
    let rank = first_missing(&ranks, highest).map(|rank| Number { rank, file: 1, of: first.of });
    let file = first_missing(&files, first.of).map(|file| Number { rank: 1, file, of: first.of });
    match rank.or(file) {
        None => Ok(()),
        Some(missing) => Err(FolderError::Missing(format!("{below}{}", missing.name()).into())),
    }
}

/// The first number from 1 to `last` that is not there, found in as many steps as there are numbers.
fn first_missing(numbers: &BTreeSet<u32>, last: u32) -> Option<u32> {
    let held = numbers.iter().copied().zip(1..).take_while(|(number, expected)| number == expected);
    let next = held.last().map_or(1, |(number, _)| number.saturating_add(1));
    (next <= last).then_some(next)
}

/// A tensor as it comes together.
struct Growing {
    dtype: Dtype,
    /// One past the last index that any chunk has: nothing else says how large the whole is.
    shape: Vec<u64>,
    pieces: Vec<Piece>,
}

/// Opens the files of `HuggingFaceStorageWriter`.
///
/// # Errors
/// Files that do not say where their chunks begin, chunks that do not tile their tensor.
pub(super) fn open_at(folder: &Folder, below: &str, options: &OpenOptions) -> Result<Opened, Error> {
    let mut merge = Merge::new(&options.limits);
    let mut tensors: BTreeMap<String, Growing> = BTreeMap::new();
    check_complete(folder, below)?;
    for (name, _) in shards(folder, below) {
        let path = format!("{below}{name}");
        let source = folder.source(&path)?;
        let header = blob(&source, 0).map_err(|error| error.inside(&path))?;
        let header =
            header.ok_or_else(|| Error::Unsupported("a shard that is no safetensors file").inside(&path))?;
        let file = SourceFile {
            name: path.as_str().into(),
            ..SourceFile::new("safetensors", header.account(header.data.len()))
        };
        let stream = merge.file(source, file);
        read(&mut merge, stream, &header, &mut tensors).map_err(|error| error.inside(&path))?;
    }
    for (name, Growing { dtype, shape, pieces }) in tensors {
        let tensor = merge.assemble(&name, dtype, &shape, pieces)?;
        merge.put(&[Step::Key(name.into())], tensor)?;
    }
    Ok(merge.finish())
}

/// `{name: {"saved_offsets": [first index, …]}}`
type Offsets = BTreeMap<String, Saved>;

#[derive(serde::Deserialize)]
struct Saved {
    saved_offsets: Vec<u64>,
}

fn read(
    merge: &mut Merge<'_>,
    stream: StreamId,
    blob: &Blob,
    tensors: &mut BTreeMap<String, Growing>,
) -> Result<(), Error> {
    let text = blob.metadata.get(SHARDING);
    let text = text.ok_or(Error::Unsupported("a shard that does not say what it is a part of"))?;
    let malformed =
        |error: serde_json::Error| Error::Packed { packing: "safetensors", reason: error.to_string() };
    let offsets: Offsets = serde_json::from_str(text).map_err(malformed)?;
    for name in blob.header.keys() {
        let missing = || FolderError::NotStored { name: name.as_str().into() };
        let start = &offsets.get(name).ok_or_else(missing)?.saved_offsets;
        let view = blob.view(merge, stream, name)?;
        if start.len() != view.rank() {
            return Err(FolderError::Ranks { name: name.as_str().into() }.into());
        }
        let region = Region { start: start.as_slice().into(), size: view.shape().into() };
        let ends = region.start.iter().zip(&region.size).map(|(start, size)| start.saturating_add(*size));
        let ends: Vec<u64> = ends.collect();
        let growing = tensors.entry(name.clone()).or_insert_with(|| Growing {
            dtype: view.dtype(),
            shape: vec![0; ends.len()],
            pieces: Vec::new(),
        });
        if growing.shape.len() != ends.len() {
            return Err(FolderError::Ranks { name: name.as_str().into() }.into());
        }
        growing.shape.iter_mut().zip(ends).for_each(|(size, end)| *size = (*size).max(end));
        growing.pieces.push(piece(name, &region, view));
    }
    Ok(())
}
