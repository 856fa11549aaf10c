//! `DTensor` and `ShardedTensor`: tensors spread over ranks, of which a file of one rank holds the local parts.
//!
//! Both are wrappers, with a state of `{"_local_tensor", "_spec"}` and of `(shards, metadata, …)`. A local part is the whole
//! where nothing is sharded; a shard needs the files of the other ranks, and whoever has those asks for shards. Source:
//! `torch/distributed/tensor/_api.py`, `torch/distributed/_shard/sharded_tensor/api.py`.

use crate::pickle::{Node, NodeId};
use crate::tensor::{Dtype, Storage, Tensor, TensorId, ViewSpec};

use super::builder::{Builder, Kinded};
use super::error::ErrorKind;
use super::torch::{Made, empty_spec};

const MODULES: &[&str] =
    &["torch.distributed.tensor", "torch.distributed.tensor._api", "torch.distributed._tensor.api"];

/// The class of tensors spread over ranks that came before.
const SHARDED: (&str, &str) = ("torch.distributed._shard.sharded_tensor.api", "ShardedTensor");

/// A tensor that is spread over ranks, and what its file has of it.
#[derive(Debug, Clone)]
pub struct Shard {
    /// What stands for it in the tree: its first local part, or a tensor without elements.
    pub tensor: TensorId,
    /// Which class it is of.
    pub form: ShardForm,
    /// Arguments of the wrapper: class, type of elements, size, ….
    pub args: NodeId,
    /// The state, which says where the local parts belong.
    pub state: NodeId,
    /// The local parts, in the order of the state.
    pub locals: Box<[TensorId]>,
    /// Which ranks a mesh has, where that is a tensor.
    pub mesh: Option<TensorId>,
}

/// Classes of tensors that are spread over ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardForm {
    /// `DTensor`: one local part, whose place follows from that of its rank in a mesh.
    Mesh,
    /// `ShardedTensor`: any number of local parts, each with its place.
    Listed,
}

impl Shard {
    /// The same, where tensors follow `before` others.
    #[must_use]
    pub fn after(self, before: usize) -> Self {
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        let moved = |TensorId(id)| TensorId(before.saturating_add(id));
        Self {
            tensor: moved(self.tensor),
            locals: self.locals.iter().map(|local| moved(*local)).collect(),
            mesh: self.mesh.map(moved),
            ..self
        }
    }
}

impl Builder<'_> {
    /// Whether a class is that of tensors on a mesh.
    pub(super) fn is_distributed(&self, class: NodeId) -> bool {
        self.global_name(class).is_some_and(|(module, name)| name == "DTensor" && MODULES.contains(&module))
    }

    /// The local part, if it is the whole, or if shards are wanted. `args` are those of the wrapper: class, dtype, size, ….
    pub(super) fn distributed(&mut self, args: NodeId, state: NodeId, depth: usize) -> Kinded<Made> {
        let graph = self.graph;
        let size = graph.tuple(args).and_then(|args| args.get(2)).copied();
        let size = size.ok_or(ErrorKind::ArgumentCount { found: 0, expected: "8" })?;
        let size: Vec<i64> = self.ints(size, 2)?;
        // A dictionary, or since the class has slots (2.6) a pair of one and theirs.
        let local = self.in_state(state, "_local_tensor");
        let local = local.ok_or_else(|| self.wrong(state, 3, "a state with a local tensor"))?;
        let local: TensorId = self.part(local, 3, depth)?;
        let mesh = self.mesh(state, depth)?;
        if self.context.shards {
            return self.shard((ShardForm::Mesh, args, state), vec![local], mesh);
        }
        if !self.is_whole(local, &size)? {
            return Err(ErrorKind::Shard);
        }
        if self.has_partial(state) {
            return Err(ErrorKind::Unsupported(
                "a partial sum of a tensor (the other ranks' files hold the rest)",
            ));
        }
        Ok(Made::Tensor(local, Vec::new()))
    }

    /// A `ShardedTensor`: the one shard that is the whole, or what a rank has of it. Without shards it says nothing of its
    /// elements, and is walked as it stands.
    pub(super) fn sharded(
        &mut self,
        class: NodeId,
        (args, state): (NodeId, NodeId),
        depth: usize,
    ) -> Option<Kinded<Made>> {
        if self.global_name(class) != Some(SHARDED) {
            return None;
        }
        let graph = self.graph;
        let [shards, metadata, ..] = graph.tuple(state)? else { return None };
        let parts: Option<Vec<NodeId>> =
            graph.sequence(*shards)?.iter().map(|shard| self.attribute_of(*shard, "tensor")).collect();
        let size = self.ints(self.attribute_of(*metadata, "size")?, 1).ok()?;
        let locals: Kinded<Vec<TensorId>> = parts?.iter().map(|part| self.part(*part, 0, depth)).collect();
        Some(locals.and_then(|locals| {
            if self.context.shards {
                return self.shard((ShardForm::Listed, args, state), locals, None);
            }
            match locals.as_slice() {
                [local] if self.is_whole(*local, &size)? => Ok(Made::Tensor(*local, Vec::new())),
                _ => Err(ErrorKind::Shard),
            }
        }))
    }

    fn is_whole(&self, local: TensorId, size: &[i64]) -> Kinded<bool> {
        let view = self.view(local)?;
        Ok(view.shape().iter().map(|n| i64::try_from(*n).ok()).eq(size.iter().map(|n| Some(*n))))
    }

    /// Notes a tensor of which the source has parts.
    fn shard(
        &mut self,
        (form, args, state): (ShardForm, NodeId, NodeId),
        locals: Vec<TensorId>,
        mesh: Option<TensorId>,
    ) -> Kinded<Made> {
        // Not the part itself, which further tensors may show in another way.
        let tensor = if let Some(first) = locals.first() {
            Tensor::new(self.view(*first)?)
        } else {
            let place = self.keep(&[]);
            let storage =
                Storage { key: "".into(), entry: None, place, len: 0, big_endian: false, crc32: None };
            let spec = ViewSpec { shape: vec![0], strides: vec![1], ..empty_spec(Dtype::U8) };
            let id = self.rebuilt.add_storage(storage);
            let tensor = self.tensor(id, &spec)?;
            Tensor::new(self.view(tensor)?)
        };
        let tensor = self.rebuilt.add_tensor(tensor);
        self.rebuilt.shards.push(Shard { tensor, form, args, state, locals: locals.into(), mesh });
        Ok(Made::Tensor(tensor, Vec::new()))
    }

    /// The tensor of ranks that a mesh has: `mesh`, since torch 2.10 `_rank_map`. All tensors of a file share few meshes.
    fn mesh(&mut self, state: NodeId, depth: usize) -> Kinded<Option<TensorId>> {
        let mesh = self.in_state(state, "_spec").and_then(|spec| self.attribute_of(spec, "mesh"));
        let Some(mesh) = mesh else { return Ok(None) };
        if let Some(known) = self.meshes.get(&mesh) {
            return Ok(*known);
        }
        let ranks = ["mesh", "_rank_map"].iter().find_map(|name| self.attribute_of(mesh, name));
        let ranks = ranks.filter(|ranks| self.graph.call(*ranks).is_some());
        let ranks = ranks.map(|ranks| self.part(ranks, 3, depth)).transpose()?;
        self.meshes.insert(mesh, ranks);
        Ok(ranks)
    }

    /// An attribute that the state of an object sets.
    fn attribute_of(&self, id: NodeId, name: &str) -> Option<NodeId> {
        let state = self.graph.call(id)?.states().next()?;
        self.in_state(state, name)
    }

    /// An attribute in a state: a dictionary, or a pair of one and of what slots hold.
    fn in_state(&self, state: NodeId, name: &str) -> Option<NodeId> {
        let graph = self.graph;
        let parts = graph.tuple(state).unwrap_or(std::slice::from_ref(&state));
        parts.iter().find_map(|part| {
            let Node::Dict(items) = graph.node(*part) else { return None };
            let mut entries = graph.entries(items).into_iter();
            entries.find(|(key, _)| graph.text(*key).as_deref() == Some(name)).map(|(_, value)| value)
        })
    }

    /// Whether a placement says that the tensors of all ranks have to be added up.
    fn has_partial(&self, state: NodeId) -> bool {
        /// A specification has a few dozen objects.
        const MOST: usize = 4096;
        let mut stack = vec![state];
        for _ in 0..MOST {
            let Some(id) = stack.pop() else { return false };
            let class = self.graph.call(id).and_then(|call| self.global_name(call.callable));
            if class.is_some_and(|(_, name)| name.contains("Partial")) {
                return true;
            }
            self.graph.children(id, &mut |child| stack.push(child));
        }
        // Shared objects were met over and over: not what torch writes.
        !stack.is_empty()
    }
}
