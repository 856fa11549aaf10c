//! `DTensor`: a tensor spread over a mesh of devices, of which a file of one rank holds the local part.
//!
//! It is a wrapper whose state is `{"_local_tensor", "_spec"}`. The local part is the whole where nothing is sharded;
//! a shard needs the files of the other ranks. Source: `torch/distributed/tensor/_api.py`.

use crate::pickle::{Node, NodeId};
use crate::tensor::TensorId;

use super::builder::{Builder, Kinded};
use super::error::ErrorKind;
use super::torch::Made;

const MODULES: &[&str] =
    &["torch.distributed.tensor", "torch.distributed.tensor._api", "torch.distributed._tensor.api"];

/// The class of tensors spread over ranks that came before.
const SHARDED: (&str, &str) = ("torch.distributed._shard.sharded_tensor.api", "ShardedTensor");

impl Builder<'_> {
    /// Whether a class is that of tensors on a mesh.
    pub(super) fn is_distributed(&self, class: NodeId) -> bool {
        self.global_name(class).is_some_and(|(module, name)| name == "DTensor" && MODULES.contains(&module))
    }

    /// The local part, if it is the whole. `args` are those of the wrapper: class, dtype, size, ….
    pub(super) fn distributed(&mut self, args: NodeId, state: NodeId, depth: usize) -> Kinded<Made> {
        let graph = self.graph;
        let size = graph.tuple(args).and_then(|args| args.get(2)).copied();
        let size = size.ok_or(ErrorKind::ArgumentCount { found: 0, expected: "8" })?;
        let size: Vec<i64> = self.ints(size, 2)?;
        // A dictionary, or since the class has slots (2.6) a pair of one and theirs.
        let parts = graph.tuple(state).unwrap_or(std::slice::from_ref(&state));
        let local = parts.iter().find_map(|part| match graph.node(*part) {
            Node::Dict(items) => {
                let mut entries = graph.entries(items).into_iter();
                entries.find(|(key, _)| graph.text(*key).as_deref() == Some("_local_tensor"))
            }
            _ => None,
        });
        let (_, local) = local.ok_or_else(|| self.wrong(state, 3, "a state with a local tensor"))?;
        let local: TensorId = self.part(local, 3, depth)?;
        let shape = self.view(local)?;
        if !shape.shape().iter().map(|size| i64::try_from(*size).ok()).eq(size.iter().map(|size| Some(*size)))
        {
            return Err(ErrorKind::Unsupported("a shard of a tensor (the other ranks' files hold the rest)"));
        }
        if self.has_partial(state) {
            return Err(ErrorKind::Unsupported(
                "a partial sum of a tensor (the other ranks' files hold the rest)",
            ));
        }
        Ok(Made::Tensor(local, Vec::new()))
    }

    /// A `ShardedTensor` whose one shard is the whole: the shard. Of any other the shards are walked as they stand.
    pub(super) fn sharded(&mut self, class: NodeId, state: NodeId, depth: usize) -> Option<Kinded<Made>> {
        if self.global_name(class) != Some(SHARDED) {
            return None;
        }
        let graph = self.graph;
        let [shards, metadata, ..] = graph.tuple(state)? else { return None };
        let [shard] = graph.sequence(*shards)? else { return None };
        let tensor = self.attribute_of(*shard, "tensor")?;
        let size = self.ints(self.attribute_of(*metadata, "size")?, 1).ok()?;
        let local = match self.part(tensor, 0, depth) {
            Ok(local) => local,
            Err(kind) => return Some(Err(kind)),
        };
        let view = self.view(local).ok()?;
        let whole = view.shape().iter().map(|n| i64::try_from(*n).ok()).eq(size.iter().map(|n| Some(*n)));
        whole.then(|| Ok(Made::Tensor(local, Vec::new())))
    }

    /// An attribute that the state of an object sets.
    fn attribute_of(&self, id: NodeId, name: &str) -> Option<NodeId> {
        let graph = self.graph;
        let state = graph.call(id)?.states().next()?;
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
