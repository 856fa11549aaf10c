//! What `PaddlePaddle` makes of parameters besides plain arrays.
//!
//! A tensor pickles as `tuple((name, array))`, before 2.1 as `eval("data", {"data": array})`. Protocols 2 and 3 cannot
//! hold more than 4 GiB, so that `save` splits arrays of 1 GiB and more into runs of the flattened array:
//!
//! ```text
//! {"w@@.0": array, "w@@.1": array, …, "UnpackBigParamInfor@@": {"w": {"OriginShape": (…), "slices": ["w@@.0", …]}}}
//! ```
//!
//! Source: `python/paddle/framework/io.py`, `_unpack_saved_dict` and `_pack_loaded_dict` in `io_utils.py`.

use std::collections::{HashMap, HashSet};

use crate::pickle::{Call, Node, NodeId};
use crate::tensor::{Place, Storage, TensorId, View, ViewSpec};

use super::allow::Callable;
use super::array::{count, embedded, strides};
use super::builder::{Builder, Kinded, Piece};
use super::error::ErrorKind;
use super::torch::{Made, NESTING, empty_spec};

/// The key under which a dictionary says how its arrays were split.
const SPLIT: &str = "UnpackBigParamInfor@@";

/// A dictionary of which some arrays were split, as its loader gives it.
pub(super) struct Joined {
    /// The dictionary.
    pub(super) dictionary: NodeId,
    /// Its entries: those that are no runs, then each whole array, for which its description stands.
    pub(super) entries: Vec<(NodeId, NodeId)>,
    /// What each description stands for.
    pub(super) arrays: Vec<(NodeId, TensorId)>,
}

impl<'a> Builder<'a> {
    /// `tuple((name, array))`: the array. No other library writes a pair so.
    pub(super) fn named_pair(
        &mut self,
        call: &'a Call,
        args: &'a [NodeId],
        depth: usize,
    ) -> Option<Kinded<Made>> {
        let graph = self.graph;
        let [pair] = args else { return None };
        let Some([name, array]) = graph.tuple(*pair) else { return None };
        if self.global_name(call.callable) != Some(("builtins", "tuple")) || graph.text(*name).is_none() {
            return None;
        }
        let is_array = |call: &Call| {
            matches!(self.callable(call.callable), Some(Callable::NdArray | Callable::FromBuffer))
        };
        if depth >= NESTING || !graph.call(*array).is_some_and(is_array) {
            return None;
        }
        self.make_nested(*array, depth.saturating_add(1))
    }

    /// `eval("data", {"data": array})`: the array. The policy lets no other form pass.
    pub(super) fn named_data(&mut self, call: &'a Call, depth: usize) -> Option<Kinded<Made>> {
        let graph = self.graph;
        if self.global_name(call.callable) != Some(("builtins", "eval")) || depth >= NESTING {
            return None;
        }
        let [text, names] = graph.tuple(call.args)? else { return None };
        let Node::Dict(items) = graph.node(*names) else { return None };
        let [(key, array)] = items.as_slice() else { return None };
        let is_data = |id: NodeId| graph.text(id).as_deref() == Some("data");
        let deeper = depth.saturating_add(1);
        if is_data(*text) && is_data(*key) { self.make_nested(*array, deeper) } else { None }
    }

    /// The arrays that were split, put together. `None` where none were: only the outermost dictionary has any.
    pub(super) fn joined(&mut self, root: NodeId) -> Kinded<Option<Joined>> {
        let graph = self.graph;
        let Node::Dict(items) = graph.node(root) else { return Ok(None) };
        let is_split = |(key, _): &(NodeId, NodeId)| graph.text(*key).as_deref() == Some(SPLIT);
        if !items.iter().any(is_split) {
            return Ok(None);
        }
        let mut entries = graph.entries(items);
        let described = entries.iter().find(|entry| is_split(entry)).map(|(_, split)| *split);
        let Some(Node::Dict(described)) = described.map(|id| graph.node(id)) else {
            return Err(part("UnpackBigParamInfor@@", "a dictionary of descriptions expected"));
        };
        let described = graph.entries(described);
        let by_name: HashMap<_, NodeId> =
            entries.iter().filter_map(|(key, value)| Some((graph.text(*key)?, *value))).collect();
        let mut used = HashSet::new();
        let mut arrays = Vec::with_capacity(described.len());
        for (_, description) in &described {
            let (shape, slices) = self.description(*description)?;
            let mut runs = Vec::with_capacity(slices.len());
            for slice in slices {
                let name = graph.text(*slice).ok_or(part("slices", "names expected"))?;
                let run = by_name.get(&name).ok_or(part("slices", "a name in the dictionary expected"))?;
                if !used.insert(name) {
                    return Err(part("slices", "each run once expected"));
                }
                runs.push(*run);
            }
            arrays.push((*description, self.join(&shape, &runs)?));
        }
        entries
            .retain(|entry| !is_split(entry) && graph.text(entry.0).is_none_or(|name| !used.contains(&name)));
        entries.extend(described);
        Ok(Some(Joined { dictionary: root, entries, arrays }))
    }

    /// `{"OriginShape": shape, "slices": [name, …]}`
    fn description(&self, id: NodeId) -> Kinded<(Vec<i64>, &'a [NodeId])> {
        let graph = self.graph;
        let wrong = part("UnpackBigParamInfor@@", "\"OriginShape\" and \"slices\" expected");
        let Node::Dict(items) = graph.node(id) else { return Err(wrong) };
        let entries = graph.entries(items);
        let of = |name: &str| {
            entries.iter().find(|(key, _)| graph.text(*key).as_deref() == Some(name)).map(|(_, value)| *value)
        };
        let (Some(shape), Some(slices)) = (of("OriginShape"), of("slices").and_then(|id| graph.sequence(id)))
        else {
            return Err(wrong);
        };
        Ok((self.ints(shape, 0)?, slices))
    }

    /// Runs of one element type, which have as many elements as the shape.
    fn join(&mut self, shape: &[i64], runs: &[NodeId]) -> Kinded<TensorId> {
        let mut pieces: Vec<Piece> = Vec::with_capacity(runs.len());
        let mut first: Option<(View, Storage)> = None;
        let mut bytes = 0_u64;
        for run in runs {
            let Some(Made::Tensor(tensor, _)) = self.make(*run).transpose()? else {
                return Err(part("slices", "arrays of numbers expected"));
            };
            let view = self.view(tensor)?;
            let storage = self.storage(view.storage()).cloned();
            let storage = storage.ok_or(ErrorKind::PersistentId("storage is missing"))?;
            let start = view.offset().saturating_mul(view.dtype().size());
            let Place::Stored { stream, span } = storage.place else {
                return Err(part("slices", "arrays that are not compressed expected"));
            };
            let span = span.sub(start, view.nbytes()).filter(|_| view.rank() == 1 && view.is_contiguous());
            pieces.push((stream, span.ok_or(part("slices", "arrays of one dimension expected"))?));
            bytes = bytes.saturating_add(view.nbytes());
            let (same, its) = first.get_or_insert_with(|| (view.clone(), storage.clone()));
            if same.dtype() != view.dtype() || its.big_endian != storage.big_endian {
                return Err(part("slices", "arrays of one element type expected"));
            }
        }
        let (view, storage) = first.ok_or(part("slices", "at least one run expected"))?;
        let expected = count(shape)?.saturating_mul(view.dtype().size());
        if bytes != expected {
            return Err(ErrorKind::DataLength { got: bytes, expected });
        }
        let place = self.join_later(pieces, bytes);
        let storage = self.add_storage(Storage { big_endian: storage.big_endian, ..embedded(place) });
        let (shape, strides) = (shape.to_vec(), strides(shape, false));
        let spec = ViewSpec { family: view.family(), shape, strides, ..empty_spec(view.dtype()) };
        self.tensor(storage, &spec)
    }
}

fn part(part: &'static str, rule: &'static str) -> ErrorKind {
    ErrorKind::Part { part, rule }
}
