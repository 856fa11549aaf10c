//! What a file of a rank holds beside the parts that become the model: values, and tensors that are left out.

use std::collections::HashSet;

use crate::tensor::{Kind, Leaf, Step, StorageId, Tensor, Tree};

/// Why tensors are left out, by the key at the top of their file.
const REASONS: &[(&str, &str)] = &[
    ("optimizer_state_dict", "optimizer state"),
    ("module", "working copy of the weights"),
    ("lr_scheduler", "scheduler state"),
];

/// The places of a file without the tensors of which something was taken. The others are left out.
pub(super) fn rest(tree: &Tree, tensors: &[Tensor], taken: &HashSet<StorageId>) -> Tree {
    let mut rest = Tree::default();
    for (id, entry) in tree.iter() {
        let kind = match &entry.kind {
            Kind::Leaf(Leaf::Tensor(tensor)) => {
                match tensors.get(tensor.index()).map(|tensor| &tensor.view) {
                    Some(view) if !taken.contains(&view.storage()) => {
                        let top = tree.path(id).into_iter().next().unwrap_or_default();
                        let reason = REASONS.iter().find(|(key, _)| *key == top);
                        let reason = reason.map_or("state of the training run", |(_, reason)| *reason);
                        Kind::Leaf(Leaf::LeftOut { reason: reason.into(), bytes: view.nbytes() })
                    }
                    // It is in the model, under other names.
                    _ => Kind::Object,
                }
            }
            kind => kind.clone(),
        };
        let step = match (&entry.step, &kind) {
            (step, Kind::Leaf(_)) if *step != Step::Root => Step::Attribute(step.text().into()),
            (step, _) => step.clone(),
        };
        rest.push(entry.parent, step, kind);
    }
    rest
}
