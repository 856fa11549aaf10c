//! The metadata of a distributed checkpoint: a pickle of plain data that says of which chunks each tensor consists, and
//! where each chunk is.
//!
//! ```text
//! Metadata
//!   state_dict_metadata   {name: TensorStorageMetadata(properties, size, [ChunkStorageMetadata(offsets, sizes), …])
//!                               | BytesStorageMetadata}
//!   planner_data          {name: (key or index, …)}, the path that the name stands for; absent before torch 2.1
//!   storage_data          {MetadataIndex(fqn, offset, index): _StorageInfo(relative_path, offset, length[, …])}
//! ```
//!
//! Source: `torch/distributed/checkpoint/metadata.py` and `filesystem.py`; until torch 2.2 `TensorProperties` was that of
//! `torch/distributed/_shard/sharded_tensor/metadata.py`, and in torch 1.13 all stood in `torch/distributed/_shard/checkpoint`.

use std::collections::{HashMap, HashSet};

use crate::pickle::{Graph, NodeId};
use crate::rebuild::torch_dtype;
use crate::tensor::{Dtype, Region, Step};

use super::super::folder::{FolderError as Error, Plain};

/// What the metadata consists of, besides what torch is allowed anyway: classes and enumerations, and the path of the folder
/// that it was written to, which nothing is done with.
const CLASSES: &[&str] = &[
    "Metadata",
    "MetadataIndex",
    "_StorageInfo",
    "StorageMeta",
    "TensorStorageMetadata",
    "BytesStorageMetadata",
    "ChunkStorageMetadata",
    "TensorProperties",
    "_MEM_FORMAT_ENCODING",
    "MEM_FORMAT_ENCODING",
];

/// Whether a name, `module.name`, is one of these: here it is interpreted, and not just kept.
pub(super) fn is_known(global: &str) -> bool {
    let Some((module, name)) = global.rsplit_once('.') else { return false };
    MODULES.contains(&module) && CLASSES.contains(&name)
        || matches!(module, "pathlib" | "pathlib._local") && matches!(name, "PosixPath" | "WindowsPath")
}

/// Modules that the classes have been in.
const MODULES: &[&str] = &[
    "torch.distributed.checkpoint.metadata",
    "torch.distributed.checkpoint.filesystem",
    "torch.distributed._shard.checkpoint.metadata",
    "torch.distributed._shard.checkpoint.filesystem",
    "torch.distributed._shard.sharded_tensor.metadata",
];

/// What a distributed checkpoint consists of.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    pub(super) items: Vec<Item>,
    /// What is stored and no part of an item.
    pub(super) spares: Vec<Spare>,
    /// Where in [`Self::items`] each name is.
    by_name: HashMap<Box<str>, usize>,
}

/// One name of the flattened state.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) name: Box<str>,
    pub(super) path: Vec<Step>,
    pub(super) what: What,
    /// Where its chunks are, once the metadata of a second rank is added.
    known: HashSet<Region>,
}

/// What a name stands for.
#[derive(Debug)]
pub(super) enum What {
    /// A tensor.
    Tensor { dtype: Dtype, shape: Box<[u64]>, chunks: Vec<Chunk> },
    /// Any other object, pickled by itself.
    Object(Stored),
}

/// A part of a tensor.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) region: Region,
    pub(super) stored: Stored,
}

/// An entry that no item needs: a part without elements, what another rank wrote too, what the metadata has no name for.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) name: Box<str>,
    /// The path of the item whose further copy it is.
    pub(super) copy_of: Option<Vec<Step>>,
    /// The part of a tensor that it is; `None` for an object.
    pub(super) region: Option<Region>,
    pub(super) stored: Stored,
}

/// Where the bytes of a chunk or of an object are.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// File, relative to the folder of the metadata.
    pub(super) file: Box<str>,
    pub(super) offset: u64,
    pub(super) length: u64,
    /// What was done to the bytes, outermost first: `stream.zstd/1`.
    pub(super) transforms: Vec<Box<str>>,
}

/// A name, and for chunks where they begin.
type Key = (Box<str>, Option<Box<[u64]>>);

impl Metadata {
    /// Adds what a pickle of metadata says. Several, one of each rank, are put together: a chunk or an object that more
    /// than one rank wrote is taken from the first, and those of the others are spare.
    ///
    /// # Errors
    /// What is not as torch writes it.
    pub(super) fn add(&mut self, graph: &Graph, root: NodeId) -> Result<(), Error> {
        let reader = Reader { plain: Plain { graph } };
        reader.expect(root, "Metadata")?;
        let mut storage = reader.storage(root)?;
        let paths = reader.paths(root)?;
        let named = reader.attribute(root, "state_dict_metadata")?;
        for (name, value) in reader.entries(named, "state_dict_metadata")? {
            let name: Box<str> = reader.text(name)?;
            let what = reader.what(&name, value, &mut storage, &mut self.spares)?;
            if let Some(known) = self.by_name.get(&name).and_then(|at| self.items.get_mut(*at)) {
                self.spares.extend(known.merge(what)?);
                continue;
            }
            let path = paths.get(&name).cloned();
            let path = path.unwrap_or_else(|| unplanned(&name));
            self.by_name.insert(name.clone(), self.items.len());
            self.items.push(Item { name, path, what, known: HashSet::new() });
        }
        let rest = storage.into_iter();
        let rest = rest.map(|((name, _), stored)| Spare { name, copy_of: None, region: None, stored });
        self.spares.extend(rest);
        self.spares.sort_by(|one, other| one.stored.place().cmp(&other.stored.place()));
        Ok(())
    }
}

impl Stored {
    /// File and position, by which entries are told apart.
    fn place(&self) -> (&str, u64) {
        (&self.file, self.offset)
    }
}

impl Item {
    /// Adds what another rank says of it. What both wrote is spare.
    fn merge(&mut self, further: What) -> Result<Vec<Spare>, Error> {
        let spare = |region, stored| {
            let (name, copy_of) = (self.name.clone(), Some(self.path.clone()));
            Spare { name, copy_of, region, stored }
        };
        match (&mut self.what, further) {
            (What::Object(_), What::Object(stored)) => Ok(vec![spare(None, stored)]),
            (
                What::Tensor { dtype, shape, chunks },
                What::Tensor { dtype: other, shape: size, chunks: further },
            ) if *dtype == other && *shape == size => {
                if self.known.is_empty() {
                    self.known.extend(chunks.iter().map(|chunk| chunk.region.clone()));
                }
                let mut spares = Vec::new();
                for Chunk { region, stored } in further {
                    if self.known.insert(region.clone()) {
                        chunks.push(Chunk { region, stored });
                    } else {
                        spares.push(spare(Some(region), stored));
                    }
                }
                Ok(spares)
            }
            _ => Err(Error::Ranks { name: self.name.clone() }),
        }
    }
}

/// The path of a name that the writer gives none for. Megatron's `torch_dist` has plain names, those of the optimizer among
/// them: `optimizer.state.exp_avg.decoder.…`, `chained_0.optimizer.state.…`.
fn unplanned(name: &str) -> Vec<Step> {
    match name.split_once("optimizer.") {
        Some((before, after)) if before.is_empty() || before.starts_with("chained_") => {
            vec![Step::Key("optimizer".into()), Step::Key(format!("{before}{after}").into())]
        }
        _ => vec![Step::Key(name.into())],
    }
}

/// Reads the objects of one pickle.
#[derive(Clone, Copy)]
struct Reader<'a> {
    plain: Plain<'a>,
}

impl Reader<'_> {
    fn wrong(self, id: NodeId, expected: &'static str) -> Error {
        let found = match self.plain.class(id) {
            Some((module, name)) => format!("{module}.{name}").into(),
            None => self.plain.graph.node(id).type_name().into(),
        };
        Error::Metadata { found, expected }
    }

    /// An instance of one of the classes of metadata.
    fn expect(self, id: NodeId, class: &'static str) -> Result<(), Error> {
        if self.is(id, class) { Ok(()) } else { Err(self.wrong(id, class)) }
    }

    fn is(self, id: NodeId, class: &str) -> bool {
        self.plain.class(id).is_some_and(|(module, name)| name == class && MODULES.contains(&module))
    }

    fn attribute(self, id: NodeId, name: &'static str) -> Result<NodeId, Error> {
        self.plain.attribute(id, name).ok_or_else(|| self.wrong(id, name))
    }

    fn entries(self, id: NodeId, expected: &'static str) -> Result<Vec<(NodeId, NodeId)>, Error> {
        self.plain.entries(id).ok_or_else(|| self.wrong(id, expected))
    }

    fn text(self, id: NodeId) -> Result<Box<str>, Error> {
        self.plain.text(id).map(Box::from).ok_or_else(|| self.wrong(id, "text"))
    }

    fn numbers(self, id: NodeId) -> Result<Box<[u64]>, Error> {
        self.plain.numbers(id).ok_or_else(|| self.wrong(id, "sizes that are not negative"))
    }

    fn number(self, id: NodeId, name: &'static str) -> Result<u64, Error> {
        let value = self.attribute(id, name)?;
        self.plain.number(value).ok_or_else(|| self.wrong(value, "a number that is not negative"))
    }

    fn present(self, id: NodeId, name: &str) -> Option<NodeId> {
        self.plain.attribute(id, name).filter(|value| !self.plain.is_none(*value))
    }

    /// `{name: (key or index, …)}`
    fn paths(self, root: NodeId) -> Result<HashMap<Box<str>, Vec<Step>>, Error> {
        let Some(planned) = self.present(root, "planner_data") else { return Ok(HashMap::new()) };
        let mut paths = HashMap::new();
        for (name, path) in self.entries(planned, "planner_data")? {
            let items = self.plain.items(path).ok_or_else(|| self.wrong(path, "a path"))?;
            let step = |item: &NodeId| match self.plain.number(*item) {
                Some(index) => Ok(Step::Index(index)),
                None => self.text(*item).map(Step::Key),
            };
            paths.insert(self.text(name)?, items.iter().map(step).collect::<Result<_, _>>()?);
        }
        Ok(paths)
    }

    /// `{MetadataIndex(fqn, offset, index): _StorageInfo(relative_path, offset, length)}`
    fn storage(self, root: NodeId) -> Result<HashMap<Key, Stored>, Error> {
        let table = self.attribute(root, "storage_data")?;
        let mut storage = HashMap::new();
        for (index, info) in self.entries(table, "storage_data")? {
            self.expect(index, "MetadataIndex")?;
            let name = self.text(self.attribute(index, "fqn")?)?;
            let offset = self.present(index, "offset").map(|offset| self.numbers(offset)).transpose()?;
            self.expect(info, "_StorageInfo")?;
            let transforms = match self.present(info, "transform_descriptors") {
                None => Vec::new(),
                Some(list) => {
                    let items = self.plain.items(list).ok_or_else(|| self.wrong(list, "a list"))?;
                    items.iter().map(|item| self.text(*item)).collect::<Result<_, _>>()?
                }
            };
            let stored = Stored {
                file: self.text(self.attribute(info, "relative_path")?)?,
                offset: self.number(info, "offset")?,
                length: self.number(info, "length")?,
                transforms,
            };
            if storage.insert((name.clone(), offset), stored).is_some() {
                return Err(Error::Twice { name });
            }
        }
        Ok(storage)
    }

    /// What a name stands for. Its entries are taken out of `storage`; those of parts without elements are spare.
    fn what(
        self,
        name: &str,
        value: NodeId,
        storage: &mut HashMap<Key, Stored>,
        spares: &mut Vec<Spare>,
    ) -> Result<What, Error> {
        let mut stored = |offset: Option<Box<[u64]>>| {
            let missing = || Error::NotStored { name: name.into() };
            storage.remove(&(name.into(), offset)).ok_or_else(missing)
        };
        if self.is(value, "BytesStorageMetadata") {
            return Ok(What::Object(stored(None)?));
        }
        self.expect(value, "TensorStorageMetadata")?;
        let shape = self.numbers(self.attribute(value, "size")?)?;
        let dtype = self.dtype(self.attribute(value, "properties")?)?;
        let list = self.attribute(value, "chunks")?;
        let items = self.plain.items(list).ok_or_else(|| self.wrong(list, "a list of chunks"))?;
        let mut chunks: Vec<Chunk> = Vec::with_capacity(items.len());
        let mut seen = HashSet::new();
        for chunk in items {
            self.expect(*chunk, "ChunkStorageMetadata")?;
            let start = self.numbers(self.attribute(*chunk, "offsets")?)?;
            let size = self.numbers(self.attribute(*chunk, "sizes")?)?;
            let region = Region { start: start.clone(), size };
            // A replicated chunk may be listed by each rank; the one that was written is in the storage data.
            if !seen.insert(region.clone()) {
                continue;
            }
            if !region.size.contains(&0) {
                chunks.push(Chunk { region, stored: stored(Some(start))? });
            } else if let Ok(stored) = stored(Some(start)) {
                // Of a tensor with fewer rows than ranks. It may share its place with another such part.
                spares.push(Spare { name: name.into(), copy_of: None, region: Some(region), stored });
            }
        }
        Ok(What::Tensor { dtype, shape, chunks })
    }

    /// `TensorProperties`, whose state is `(dtype, layout, requires_grad, memory format, pin_memory[, strides])`. Instances
    /// of torch 1.13 that were never pickled by it hold attributes.
    fn dtype(self, id: NodeId) -> Result<Dtype, Error> {
        self.expect(id, "TensorProperties")?;
        let state = self.plain.graph.call(id).and_then(|call| call.states().last());
        let tuple = state.and_then(|state| self.plain.graph.tuple(state)?.first().copied());
        let dtype = tuple.map_or_else(|| self.attribute(id, "dtype"), Ok)?;
        let named = self.plain.name(dtype).filter(|(module, _)| *module == "torch");
        named.and_then(|(_, name)| torch_dtype(name)).ok_or_else(|| self.wrong(dtype, "an element type"))
    }
}
