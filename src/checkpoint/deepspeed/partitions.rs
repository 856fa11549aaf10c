//! From flat partitions to parameters.
//!
//! Until stage 2 a group of parameters is one flat tensor, cut into as many parts as there are ranks. In stage 3 each
//! parameter is cut by itself: every rank has `ceil(elements / ranks)` of it, at the same place, and the last the padding.

use crate::tensor::{TensorId, View};

use super::super::Error;
use super::super::folder::{FolderError, Merge};
use super::OPTIM;
use super::states::{ModelStates, OptimStates, Shaped};

/// The master weights of all ranks.
pub(super) struct Flat {
    stage: u64,
    /// For each rank its groups, and the elements of each.
    ranks: Vec<Row>,
    paddings: Option<Vec<Box<[u64]>>>,
}

impl Flat {
    pub(super) fn new(states: &[OptimStates], merge: &Merge<'_>) -> Result<Self, Error> {
        let found = crate::bytes::length(states.len());
        let (stage, expected) = states.first().map_or((0, 0), |first| (first.stage, first.ranks));
        let other = states.iter().find(|rank| rank.ranks != expected || rank.stage != stage);
        if found != expected || other.is_some() {
            let expected = other.map_or(expected, |rank| rank.ranks);
            return Err(FolderError::Count { suffix: OPTIM, expected, found }.into());
        }
        if stage > 3 {
            return Err(Error::Unsupported("a stage of ZeRO above 3"));
        }
        let paddings = states.first().and_then(|first| first.paddings.clone());
        let ranks: Vec<_> = states.iter().map(|rank| Row::new(rank.groups.iter().copied(), merge)).collect();
        let same = ranks.windows(2).all(|pair| match pair {
            [one, next] if stage < 3 => one.ends.len() == next.ends.len(),
            [one, next] => one.ends == next.ends,
            _ => true,
        });
        if same {
            return Ok(Self { stage, ranks, paddings });
        }
        Err(FolderError::Ranks { name: "groups of parameters".into() }.into())
    }

    /// Whether each parameter is cut by itself.
    pub(super) fn is_sharded(&self) -> bool {
        self.stage == 3
    }

    pub(super) fn ranks(&self) -> u64 {
        crate::bytes::length(self.ranks.len())
    }

    /// Every trained parameter.
    pub(super) fn parameters(
        &self,
        groups: &[Vec<Shaped>],
        merge: &mut Merge<'_>,
    ) -> Result<Vec<(Box<str>, TensorId)>, Error> {
        if self.is_sharded() { self.sharded(groups, merge) } else { self.grouped(groups, merge) }
    }

    fn grouped(
        &self,
        groups: &[Vec<Shaped>],
        merge: &mut Merge<'_>,
    ) -> Result<Vec<(Box<str>, TensorId)>, Error> {
        let mut parameters = Vec::new();
        for (number, shapes) in groups.iter().enumerate() {
            let partitions =
                Row::new(self.ranks.iter().filter_map(|rank| rank.tensors.get(number).copied()), merge);
            let available = partitions.elements();
            let paddings = self.paddings.as_ref().map(|paddings| paddings.get(number));
            let mut at = 0_u64;
            let group = crate::bytes::length(number);
            let wrong = |needed| FolderError::Partition { group, needed, available };
            for (position, (name, shape)) in shapes.iter().enumerate() {
                let elements = count(name, shape)?;
                let end = at.saturating_add(elements);
                if end > available {
                    return Err(wrong(end).into());
                }
                let runs = partitions.take(name, at, elements, merge)?;
                at = end;
                parameters.push((name.clone(), merge.join(name, shape, OPTIM_PATH, runs)?));
                if let Some(paddings) = paddings {
                    let padding = paddings.and_then(|paddings| paddings.get(position)).copied();
                    at = at.saturating_add(padding.ok_or_else(|| wrong(end))?);
                }
            }
            // The writer aligns twice in ways that only it knows: DeepSpeed itself compares no closer.
            let align = self.ranks().saturating_mul(2).max(1);
            if at.div_ceil(align) != available.div_ceil(align) {
                return Err(wrong(at).into());
            }
        }
        Ok(parameters)
    }

    fn sharded(
        &self,
        groups: &[Vec<Shaped>],
        merge: &mut Merge<'_>,
    ) -> Result<Vec<(Box<str>, TensorId)>, Error> {
        let available = self.ranks.first().map_or(0, Row::elements);
        let mut parameters = Vec::new();
        let mut at = 0_u64;
        let wrong = |needed| FolderError::Partition { group: 0, needed, available };
        for (name, shape) in groups.iter().flatten() {
            let elements = count(name, shape)?;
            let part = elements.div_ceil(self.ranks().max(1));
            let end = at.saturating_add(part);
            if end > available {
                return Err(wrong(end).into());
            }
            let mut left = elements;
            let mut runs = Vec::new();
            for partitions in &self.ranks {
                let wanted = part.min(left);
                runs.extend(partitions.take(name, at, wanted, merge)?);
                left = left.saturating_sub(wanted);
            }
            parameters.push((name.clone(), merge.join(name, shape, OPTIM_PATH, runs)?));
            at = end;
        }
        if at == available { Ok(parameters) } else { Err(wrong(at).into()) }
    }
}

/// Where in its file a partition stands.
const OPTIM_PATH: &str = "optimizer_state_dict";

/// Flat tensors that follow each other, and where each ends.
#[derive(Default)]
struct Row {
    tensors: Vec<TensorId>,
    ends: Vec<u64>,
}

impl Row {
    fn new(tensors: impl IntoIterator<Item = TensorId>, merge: &Merge<'_>) -> Self {
        let mut row = Self::default();
        for tensor in tensors {
            row.ends.push(row.elements().saturating_add(merge.elements(tensor)));
            row.tensors.push(tensor);
        }
        row
    }

    /// Elements in all.
    fn elements(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// So many elements from a place on, in as many runs as there are tensors that hold them.
    fn take(&self, name: &str, start: u64, elements: u64, merge: &Merge<'_>) -> Result<Vec<View>, Error> {
        let end = start.saturating_add(elements);
        let mut runs = Vec::new();
        // A group may have a tensor for each of a million parameters: those before are passed over.
        let at = self.ends.partition_point(|last| *last <= start);
        let mut first = at.checked_sub(1).and_then(|before| self.ends.get(before).copied()).unwrap_or(0);
        for (tensor, last) in self.tensors.iter().zip(&self.ends).skip(at).take_while(|_| elements > 0) {
            if first >= end {
                break;
            }
            let (from, to) = (start.max(first), end.min(*last));
            if from < to {
                let run = merge.run(name, *tensor, from.saturating_sub(first), to.saturating_sub(from))?;
                runs.push(run);
            }
            first = *last;
        }
        Ok(runs)
    }
}

/// A frozen parameter: whole in the file of rank 0, or cut over all ranks.
pub(super) fn frozen(
    name: &str,
    shape: &[u64],
    models: &[ModelStates],
    is_sharded: bool,
    merge: &mut Merge<'_>,
) -> Result<TensorId, Error> {
    let missing = || FolderError::NotStored { name: name.into() };
    let fragment = |model: &ModelStates| model.fragments.get(name).copied().ok_or_else(missing);
    if !is_sharded {
        return Ok(fragment(models.first().ok_or_else(missing)?)?);
    }
    let mut left = count(name, shape)?;
    let mut runs = Vec::new();
    for model in models {
        let fragment = fragment(model)?;
        let wanted = merge.elements(fragment).min(left);
        if wanted > 0 {
            runs.push(merge.run(name, fragment, 0, wanted)?);
        }
        left = left.saturating_sub(wanted);
    }
    merge.join(name, shape, "frozen_param_fragments", runs)
}

fn count(name: &str, shape: &[u64]) -> Result<u64, Error> {
    let elements = shape.iter().try_fold(1_u64, |n, size| n.checked_mul(*size));
    let error = || crate::tensor::TilingError::TooLarge(shape.into());
    Ok(elements.ok_or_else(|| FolderError::Tiling { name: name.into(), error: error() })?)
}
