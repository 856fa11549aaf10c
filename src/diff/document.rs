//! From what was compared to the document.

use std::collections::HashMap;

use super::Pair;
use super::compare::Compared;
use super::side::Side;
use crate::bytes::length;
use crate::custody::TensorSet;
use crate::output::Digest;
use crate::report::{
    DIFF_SCHEMA, Diff, DiffCopy, DiffCounts, DiffDistance, DiffSide, DiffStatus, DiffTensor,
};

/// The document of every name, in this order.
pub(super) fn document(left: &Side, right: &Side, names: &[Pair], compared: &[Compared]) -> Diff {
    let mut tensors: Vec<DiffTensor> =
        names.iter().zip(compared).map(|(pair, compared)| tensor(left, right, *pair, compared)).collect();
    find_renamed(&mut tensors);
    let mut counts = DiffCounts::default();
    for tensor in &tensors {
        let count = match tensor.status {
            DiffStatus::Same => &mut counts.same,
            DiffStatus::Changed => &mut counts.changed,
            DiffStatus::OnlyLeft => &mut counts.only_left,
            DiffStatus::OnlyRight => &mut counts.only_right,
        };
        *count = count.saturating_add(1);
    }
    Diff {
        schema: DIFF_SCHEMA,
        same: length(tensors.len()) == counts.same,
        left: side(left, &tensors, |tensor| tensor.left.as_ref()),
        right: side(right, &tensors, |tensor| tensor.right.as_ref()),
        counts,
        tensors,
    }
}

fn side(side: &Side, tensors: &[DiffTensor], copy: impl Fn(&DiffTensor) -> Option<&DiffCopy>) -> DiffSide {
    let mut set = TensorSet::default();
    for tensor in tensors {
        if let Some(copy) = copy(tensor) {
            set.add(&tensor.name, &copy.dtype, &copy.shape, &copy.sha256);
        }
    }
    DiffSide {
        path: side.path.display().to_string(),
        files: side.parts.iter().flat_map(|part| part.files.clone()).collect(),
        tensors: length(side.names.len()),
        tensor_set: set.digest(),
    }
}

fn tensor(left: &Side, right: &Side, (l, r): Pair, compared: &Compared) -> DiffTensor {
    let copy = |side: &Side, i: Option<usize>, digest: Option<Digest>| {
        let held = side.tensors.get(i?)?;
        let sha256 = digest.map(|digest| digest.to_string()).unwrap_or_default();
        Some(DiffCopy { dtype: held.dtype.to_string(), shape: held.shape.clone(), sha256 })
    };
    let name = l.and_then(|i| left.names.get(i)).or_else(|| r.and_then(|i| right.names.get(i)));
    let (left, right) = (copy(left, l, compared.left), copy(right, r, compared.right));
    let status = match (&left, &right) {
        (Some(left), Some(right)) if left == right => DiffStatus::Same,
        (Some(_), Some(_)) => DiffStatus::Changed,
        (Some(_), None) => DiffStatus::OnlyLeft,
        _ => DiffStatus::OnlyRight,
    };
    let shape = left.as_ref().map(|copy| copy.shape.clone()).unwrap_or_default();
    let distance = compared.distance.as_ref().map(|(distance, floats)| {
        let measured = *floats && distance.values > distance.incomparable;
        DiffDistance {
            values: distance.values,
            incomparable: distance.incomparable,
            absolute: measured.then_some(distance.absolute),
            at: measured.then(|| position(&shape, distance.at)),
            relative: measured.then_some(distance.relative),
        }
    });
    DiffTensor { name: name.cloned().unwrap_or_default(), status, left, right, distance, same_as: None }
}

/// Where in a tensor an element is.
fn position(shape: &[u64], value: u64) -> Vec<u64> {
    let mut rest = value;
    let mut at = vec![0; shape.len()];
    for (slot, size) in at.iter_mut().zip(shape).rev() {
        *slot = rest.checked_rem(*size).unwrap_or(0);
        rest = rest.checked_div(*size).unwrap_or(0);
    }
    at
}

/// Finds what only changed its name: a tensor that each side alone has, under names of their own.
fn find_renamed(tensors: &mut [DiffTensor]) {
    let mut by_copy: HashMap<DiffCopy, [Option<String>; 2]> = HashMap::new();
    for tensor in tensors.iter() {
        let (copy, slot) = match (tensor.status, &tensor.left, &tensor.right) {
            (DiffStatus::OnlyLeft, Some(copy), _) => (copy, 0),
            (DiffStatus::OnlyRight, _, Some(copy)) => (copy, 1),
            _ => continue,
        };
        let names = by_copy.entry(copy.clone()).or_default();
        if let Some(first) = names.get_mut(slot) {
            first.get_or_insert_with(|| tensor.name.clone());
        }
    }
    for tensor in tensors {
        let (copy, other) = match tensor.status {
            DiffStatus::OnlyLeft => (&tensor.left, 1),
            DiffStatus::OnlyRight => (&tensor.right, 0),
            _ => continue,
        };
        let names = copy.as_ref().and_then(|copy| by_copy.get(copy));
        tensor.same_as = names.and_then(|names| names.get(other).cloned().flatten());
    }
}
