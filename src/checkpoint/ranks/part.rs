//! [`Part`]: what the file of one rank says of a tensor that is spread over ranks, and has of it.
//!
//! ```text
//! DTensor         _local_tensor, _spec: DTensorSpec(mesh, placements, tensor_meta)
//!   mesh          DeviceMesh: its sizes, and _coordinate_on_dim, the place of this rank in it
//!   placements    for each dimension of the mesh Shard(dim), _StridedShard(dim, split_factor), Replicate or Partial
//! ShardedTensor   ([Shard(tensor, ShardMetadata(shard_offsets, shard_sizes))], ShardedTensorMetadata, ProcessGroupState, …)
//! ```
//!
//! Source: `torch/distributed/tensor/_dtensor_spec.py`, `torch/distributed/device_mesh.py`,
//! `torch/distributed/_shard/sharded_tensor/api.py`.

use crate::pickle::NodeId;
use crate::rebuild::{Shard, ShardForm, torch_dtype};
use crate::tensor::{Dtype, Region, TensorId, View};

use super::super::Error;
use super::super::folder::{FolderError, Merge, Plain, RankFile};
use super::runs::{Runs, Share};

/// What one rank has of a tensor.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) dtype: Dtype,
    pub(super) shape: Box<[u64]>,
    /// Sizes of the mesh of ranks that it is spread over.
    pub(super) mesh: Box<[u64]>,
    /// The place of this rank in the mesh; `None` outside of it.
    pub(super) rank: Option<Box<[u64]>>,
    /// What it has, and which box of the tensor that is.
    pub(super) boxes: Vec<(View, Region)>,
}

/// Boxes that a local part may consist of.
const MOST: usize = 1 << 12;

impl Part {
    /// Reads what a file says of a tensor.
    ///
    /// # Errors
    /// What is not as torch writes it; placements that cannot be put together.
    pub(super) fn read(file: &RankFile, shard: &Shard, name: &str, merge: &Merge<'_>) -> Result<Self, Error> {
        let reader = Reader { file, plain: file.plain(), merge, name };
        let (dtype, shape) = reader.whole(shard.args)?;
        match shard.form {
            ShardForm::Mesh => reader.mesh(shard, dtype, shape),
            ShardForm::Listed => reader.listed(shard, dtype, shape),
        }
    }
}

/// How a tensor is placed along a dimension of a mesh.
#[derive(Debug, Clone, Copy)]
enum Placement {
    Shard { dim: usize },
    Strided { dim: usize, factor: u64 },
    Replicate,
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    file: &'a RankFile,
    plain: Plain<'a>,
    merge: &'a Merge<'a>,
    name: &'a str,
}

impl Reader<'_> {
    fn attribute(self, id: NodeId, name: &'static str) -> Result<NodeId, Error> {
        self.plain.attribute(id, name).ok_or_else(|| self.file.lacks(name))
    }

    fn numbers(self, id: NodeId, what: &'static str) -> Result<Box<[u64]>, Error> {
        self.plain.numbers(id).ok_or_else(|| self.file.lacks(what))
    }

    fn number(self, id: NodeId, what: &'static str) -> Result<u64, Error> {
        let value = self.attribute(id, what)?;
        self.plain.number(value).ok_or_else(|| self.file.lacks(what))
    }

    /// Type and shape of the whole, which the wrapper is called with.
    fn whole(self, args: NodeId) -> Result<(Dtype, Box<[u64]>), Error> {
        let lacks = || self.file.lacks("type and size of a tensor");
        let [_, dtype, size, ..] = self.plain.graph.tuple(args).ok_or_else(lacks)? else {
            return Err(lacks());
        };
        let dtype = self.plain.name(*dtype).filter(|(module, _)| *module == "torch");
        let dtype = dtype.and_then(|(_, name)| torch_dtype(name)).ok_or_else(lacks)?;
        Ok((dtype, self.plain.numbers(*size).ok_or_else(lacks)?))
    }

    /// A local part. It is a tensor as it stands in the file.
    fn local(&self, tensor: Option<&TensorId>) -> Result<&View, Error> {
        let tensor = tensor.and_then(|tensor| self.merge.tensors.get(tensor.index()));
        Ok(&tensor.ok_or_else(|| self.file.lacks("a local part"))?.view)
    }

    /// A `DTensor`.
    fn mesh(&self, of: &Shard, dtype: Dtype, shape: Box<[u64]>) -> Result<Part, Error> {
        let spec = self.plain.in_state(of.state, "_spec").ok_or_else(|| self.file.lacks("_spec"))?;
        let said = self.plain.attribute(spec, "tensor_meta").and_then(|meta| self.plain.graph.call(meta));
        let said = said.and_then(|meta| self.plain.graph.tuple(meta.args)?.first().copied());
        if said.is_some_and(|size| self.plain.numbers(size).as_deref() != Some(&*shape)) {
            return Err(self.file.lacks("tensor_meta of the same size"));
        }
        let placements = self.placements(spec)?;
        let mesh = self.attribute(spec, "mesh")?;
        let (mesh, rank) = (self.sizes(mesh, of)?, self.rank(mesh)?);
        let local = self.local(of.locals.first())?;
        let Some(rank) = rank else { return Ok(Part { dtype, shape, mesh, rank, boxes: Vec::new() }) };
        let inside = rank.iter().zip(&mesh).all(|(rank, of)| rank < of);
        if mesh.len() != placements.len() || rank.len() != mesh.len() || !inside {
            return Err(self.file.lacks("a rank and placements that fit its mesh"));
        }
        let mut runs: Vec<Runs> = shape.iter().map(|size| Runs::all(*size)).collect();
        for ((placement, rank), of) in placements.into_iter().zip(&rank).zip(&mesh) {
            let one = Share { rank: *rank, of: *of };
            let dim = match placement {
                Placement::Replicate => continue,
                Placement::Shard { dim } | Placement::Strided { dim, .. } => dim,
            };
            let runs = runs.get_mut(dim).ok_or_else(|| self.file.lacks("a dimension that is sharded"))?;
            *runs = match placement {
                Placement::Strided { factor, .. } => runs.strided(one, factor).ok_or(TOO_MANY)?,
                _ => runs.shard(one),
            };
        }
        let boxes = self.boxes(local, dtype, &runs)?;
        Ok(Part { dtype, shape, mesh, rank: Some(rank), boxes })
    }

    /// The boxes that a local part consists of, one for each combination of runs.
    fn boxes(&self, local: &View, dtype: Dtype, runs: &[Runs]) -> Result<Vec<(View, Region)>, Error> {
        let sizes: Box<[u64]> = runs.iter().map(Runs::len).collect();
        if local.is_empty() && sizes.contains(&0) {
            return Ok(Vec::new());
        }
        if *local.shape() != *sizes || local.dtype() != dtype {
            return Err(FolderError::Part {
                name: self.name.into(),
                found: local.shape().into(),
                dtype: local.dtype(),
                expected: sizes,
                wanted: dtype,
            }
            .into());
        }
        let nothing = || Region { start: Box::new([]), size: Box::new([]) };
        let mut boxes = vec![(nothing(), nothing())];
        for runs in runs {
            let grown = boxes.iter().flat_map(|(local, whole)| {
                runs.iter().map(|(from, first, count)| (grow(local, from, count), grow(whole, first, count)))
            });
            boxes = grown.take(MOST.saturating_add(1)).collect();
            if boxes.len() > MOST {
                return Err(TOO_MANY);
            }
        }
        let narrow =
            |(within, region): (Region, Region)| Ok((self.merge.narrow(self.name, local, &within)?, region));
        boxes.into_iter().map(narrow).collect()
    }

    fn placements(&self, spec: NodeId) -> Result<Vec<Placement>, Error> {
        let placements = self.attribute(spec, "placements")?;
        let placements = self.plain.items(placements).ok_or_else(|| self.file.lacks("placements"))?;
        let placement = |id: &NodeId| {
            let (module, name) = self.plain.class(*id).unwrap_or_default();
            let dim = || usize::try_from(self.number(*id, "dim")?).map_err(|_| self.file.lacks("dim"));
            Ok(match name {
                "Shard" if module.starts_with("torch.") => Placement::Shard { dim: dim()? },
                "_StridedShard" if module.starts_with("torch.") => {
                    Placement::Strided { dim: dim()?, factor: self.number(*id, "split_factor")? }
                }
                "Replicate" if module.starts_with("torch.") => Placement::Replicate,
                name if name.contains("Partial") => return Err(PARTIAL),
                _ => return Err(FOREIGN),
            })
        };
        self.check_order(spec)?;
        placements.iter().map(placement).collect()
    }

    /// Since torch 2.10 a specification may say that dimensions of the mesh shard in another order than theirs.
    fn check_order(&self, spec: NodeId) -> Result<(), Error> {
        let Some(order) = self.plain.attribute(spec, "shard_order") else { return Ok(()) };
        for entry in self.plain.items(order).unwrap_or_default() {
            let args = self.plain.graph.call(*entry).and_then(|entry| self.plain.graph.tuple(entry.args));
            let dims = args.and_then(|args| args.get(1)).and_then(|dims| self.plain.numbers(*dims));
            if !dims.ok_or_else(|| self.file.lacks("shard_order"))?.is_sorted() {
                return Err(ORDER);
            }
        }
        Ok(())
    }

    /// Sizes of a mesh: of the tensor of its ranks, or since torch 2.9 of its layout.
    fn sizes(&self, mesh: NodeId, shard: &Shard) -> Result<Box<[u64]>, Error> {
        if self.plain.attribute(mesh, "mesh").is_some() {
            return Ok(self.local(shard.mesh.as_ref())?.shape().into());
        }
        let layout = self.attribute(mesh, "_layout")?;
        let Some(axes) = self.plain.attribute(layout, "axes") else {
            let shape = self.attribute(layout, "shape")?;
            // A mesh of one dimension has a number.
            let shape = self.plain.items(shape).unwrap_or(std::slice::from_ref(&shape));
            return shape.iter().map(|size| self.size(*size)).collect();
        };
        let axes = self.plain.items(axes).ok_or_else(|| self.file.lacks("the axes of a mesh"))?;
        axes.iter().map(|axis| self.size(self.attribute(*axis, "shape")?)).collect()
    }

    /// The size of a dimension of a mesh: a number, or those of the dimensions that it was made of.
    fn size(&self, shape: NodeId) -> Result<u64, Error> {
        let sizes = self.plain.number(shape).map(|size| Box::from([size]));
        let sizes = sizes.or_else(|| self.plain.numbers(shape));
        let size = sizes.and_then(|sizes| sizes.iter().try_fold(1_u64, |n, size| n.checked_mul(*size)));
        size.ok_or_else(|| self.file.lacks("the sizes of a mesh"))
    }

    fn rank(&self, mesh: NodeId) -> Result<Option<Box<[u64]>>, Error> {
        let place = self.attribute(mesh, "_coordinate_on_dim")?;
        if self.plain.is_none(place) {
            return Ok(None);
        }
        self.numbers(place, "_coordinate_on_dim").map(Some)
    }

    /// A `ShardedTensor`.
    fn listed(&self, shard: &Shard, dtype: Dtype, shape: Box<[u64]>) -> Result<Part, Error> {
        let lacks = || self.file.lacks("shards and their metadata");
        let state = self.plain.graph.tuple(shard.state).ok_or_else(lacks)?;
        let [shards, metadata, group, ..] = state else { return Err(lacks()) };
        if *self.numbers(self.attribute(*metadata, "size")?, "size")? != *shape {
            return Err(self.file.lacks("metadata of the same size"));
        }
        let all = self.attribute(*metadata, "shards_metadata")?;
        let all = self.plain.items(all).ok_or_else(lacks)?.iter().map(|one| self.region(*one));
        let all = all.collect::<Result<std::collections::HashSet<_>, _>>()?;
        let mut boxes = Vec::with_capacity(shard.locals.len());
        for (shard, local) in self.plain.items(*shards).ok_or_else(lacks)?.iter().zip(&shard.locals) {
            let region = self.region(self.attribute(*shard, "metadata")?)?;
            if !all.contains(&region) {
                return Err(lacks());
            }
            boxes.push((self.local(Some(local))?.clone(), region));
        }
        let mesh = Box::new([self.number(*group, "global_world_size")?]);
        let rank = Some(Box::from([self.number(*group, "global_rank")?]));
        Ok(Part { dtype, shape, mesh, rank, boxes })
    }

    /// `ShardMetadata`
    fn region(&self, metadata: NodeId) -> Result<Region, Error> {
        let start = self.numbers(self.attribute(metadata, "shard_offsets")?, "shard_offsets")?;
        let size = self.numbers(self.attribute(metadata, "shard_sizes")?, "shard_sizes")?;
        Ok(Region { start, size })
    }
}

/// The same box with one dimension more.
fn grow(region: &Region, start: u64, size: u64) -> Region {
    let with = |numbers: &[u64], last| numbers.iter().copied().chain([last]).collect();
    Region { start: with(&region.start, start), size: with(&region.size, size) }
}

pub(super) const TOO_MANY: Error = Error::Unsupported("a part of a tensor in thousands of pieces");
const PARTIAL: Error = Error::Unsupported(
    "a partial sum (the full tensor is the sum over all ranks; save it with DTensor.full_tensor())",
);
const FOREIGN: Error = Error::Unsupported("a placement other than Shard, _StridedShard and Replicate");
const ORDER: Error = Error::Unsupported(
    "an order of sharding other than that of the mesh (save it with DTensor.full_tensor())",
);
