//! What the files of DeepSpeed say: names and shapes of parameters, and the flat tensors that hold them.

use std::collections::{HashMap, HashSet};

use crate::pickle::NodeId;
use crate::tensor::{EntryId, Kind, Leaf, TensorId};

use super::super::Error;
use super::super::folder::RankFile;

/// A parameter or buffer, and its shape.
pub(super) type Shaped = (Box<str>, Box<[u64]>);

/// `*_model_states.pt`
pub(super) struct ModelStates {
    /// `module`: parameters and buffers, whole or empty.
    pub(super) module: Vec<(Box<str>, TensorId)>,
    /// Of these the buffers.
    pub(super) buffers: Vec<(Box<str>, TensorId)>,
    /// Trained parameters, group by group.
    pub(super) groups: Vec<Vec<Shaped>>,
    /// Frozen parameters, and what this rank has of each.
    pub(super) frozen: Vec<Shaped>,
    pub(super) fragments: HashMap<Box<str>, TensorId>,
    /// Further names of parameters: the name, and of which.
    pub(super) shared: Vec<(Box<str>, Box<str>)>,
    /// Whether the file says that parameters are in the files of the optimizer.
    pub(super) is_partitioned: bool,
}

impl ModelStates {
    pub(super) fn read(file: &RankFile) -> Result<Self, Error> {
        let (plain, root) = (file.plain(), file.root());
        if autoep(file) {
            return Err(Error::Unsupported("a DeepSpeed checkpoint with partitioned experts (AutoEP)"));
        }
        let module = tensors(file, "module").ok_or_else(|| file.lacks("module"))?;
        let names = plain.get(root, "buffer_names").filter(|names| !plain.is_none(*names));
        let names = names.map_or(Some(&[][..]), |names| plain.items(names));
        let names = names.ok_or_else(|| file.lacks("buffer_names"))?;
        let names: HashSet<_> = names.iter().filter_map(|name| plain.text(*name)).collect();
        let buffers = module.iter().filter(|(name, _)| names.contains(&**name)).cloned().collect();
        let groups = match present(file, "param_shapes") {
            None => Vec::new(),
            Some(groups) => {
                let groups = plain.items(groups).ok_or_else(|| file.lacks("param_shapes"))?;
                let shapes = groups.iter().map(|group| shapes(file, *group));
                shapes.collect::<Option<_>>().ok_or_else(|| file.lacks("param_shapes"))?
            }
        };
        let frozen = match present(file, "frozen_param_shapes") {
            None => Vec::new(),
            Some(frozen) => shapes(file, frozen).ok_or_else(|| file.lacks("frozen_param_shapes"))?,
        };
        let shared = match present(file, "shared_params") {
            None => Vec::new(),
            Some(shared) => pairs(file, shared).ok_or_else(|| file.lacks("shared_params"))?,
        };
        let fragments = tensors(file, "frozen_param_fragments").unwrap_or_default().into_iter().collect();
        let stage = plain.find(root, &["ds_config", "zero_optimization", "stage"]);
        let is_partitioned = stage.and_then(|stage| plain.number(stage)).is_some_and(|stage| stage > 0);
        Ok(Self { module, buffers, groups, frozen, fragments, shared, is_partitioned })
    }
}

/// `*_optim_states.pt`
pub(super) struct OptimStates {
    pub(super) stage: u64,
    /// Ranks that the weights are spread over.
    pub(super) ranks: u64,
    /// One flat tensor a group.
    pub(super) groups: Vec<TensorId>,
    /// For each group the elements that follow each parameter.
    pub(super) paddings: Option<Vec<Box<[u64]>>>,
}

impl OptimStates {
    pub(super) fn read(file: &RankFile) -> Result<Self, Error> {
        const STATE: &str = "optimizer_state_dict";
        let (plain, root) = (file.plain(), file.root());
        let value = |name: &str| plain.find(root, &[STATE, name]).filter(|value| !plain.is_none(*value));
        let stage = value("zero_stage").and_then(|stage| enumerated(file, stage));
        let stage = stage.ok_or_else(|| file.lacks("zero_stage"))?;
        let count = value("partition_count").ok_or_else(|| file.lacks("partition_count"))?;
        // Of a model with experts each group has its own; the others say how many ranks there are.
        let all = plain.numbers(count).and_then(|counts| counts.iter().max().copied());
        let ranks = plain.number(count).or(all).ok_or_else(|| file.lacks("partition_count"))?;
        let (key, what) = match stage {
            0..=2 => ("single_partition_of_fp32_groups", "single_partition_of_fp32_groups of tensors"),
            _ => ("fp32_flat_groups", "fp32_flat_groups of tensors"),
        };
        let list = value(key).and_then(|list| plain.items(list)).ok_or_else(|| file.lacks(what))?;
        let group = |i: usize| file.tensor(&[STATE, key, &i.to_string()]).ok_or_else(|| file.lacks(what));
        let groups = (0..list.len()).map(group).collect::<Result<_, _>>()?;
        let paddings = value("param_alignment_paddings").map(|paddings| {
            plain.items(paddings)?.iter().map(|group| plain.numbers(*group)).collect::<Option<Vec<_>>>()
        });
        let lacks = || file.lacks("param_alignment_paddings");
        let paddings = paddings.map(|paddings| paddings.ok_or_else(lacks)).transpose()?;
        Ok(Self { stage, ranks, groups, paddings })
    }
}

/// A value of the outermost dictionary that is not `None`.
fn present(file: &RankFile, name: &str) -> Option<NodeId> {
    let plain = file.plain();
    plain.get(file.root(), name).filter(|value| !plain.is_none(*value))
}

/// A number, or a member of an enumeration, which is pickled as a call with its number.
fn enumerated(file: &RankFile, id: NodeId) -> Option<u64> {
    let plain = file.plain();
    plain.number(id).or_else(|| match plain.graph.tuple(plain.graph.call(id)?.args)? {
        [number] => plain.number(*number),
        _ => None,
    })
}

/// `{name: torch.Size}`
fn shapes(file: &RankFile, id: NodeId) -> Option<Vec<Shaped>> {
    let plain = file.plain();
    let shaped = |(name, shape): (NodeId, NodeId)| Some((plain.text(name)?.into(), plain.numbers(shape)?));
    plain.entries(id)?.into_iter().map(shaped).collect()
}

/// `{name: name}`; a list of pairs before DeepSpeed 0.9.
fn pairs(file: &RankFile, id: NodeId) -> Option<Vec<(Box<str>, Box<str>)>> {
    let plain = file.plain();
    let pair = |(further, of): (NodeId, NodeId)| Some((plain.text(further)?.into(), plain.text(of)?.into()));
    if let Some(entries) = plain.entries(id) {
        return entries.into_iter().map(pair).collect();
    }
    let item = |item: &NodeId| match plain.items(*item)? {
        [further, of] => pair((*further, *of)),
        _ => None,
    };
    plain.items(id)?.iter().map(item).collect()
}

/// The tensors directly below a key.
fn tensors(file: &RankFile, key: &str) -> Option<Vec<(Box<str>, TensorId)>> {
    let parent: EntryId = file.place(&[key])?;
    let tensors = file.tree.iter().filter(|(_, entry)| entry.parent == Some(parent));
    let tensors = tensors.filter_map(|(_, entry)| match entry.kind {
        Kind::Leaf(Leaf::Tensor(tensor)) => Some((entry.step.text().into(), tensor)),
        _ => None,
    });
    Some(tensors.collect())
}

/// Experts that each group of ranks has other parts of.
fn autoep(file: &RankFile) -> bool {
    let plain = file.plain();
    let layers = ["ds_autoep_layers", "autoep_layers"].iter().find_map(|name| present(file, name));
    let layers = layers.and_then(|layers| plain.items(layers)).unwrap_or_default();
    layers.iter().any(|layer| {
        let format = plain.get(*layer, "checkpoint_format");
        format.and_then(|format| plain.text(format)).is_some_and(|format| format == "zero3_partitioned")
    })
}
