//! Joining what several pickles of one source hold.

use crate::rebuild::Rebuilt;
use crate::tensor::{Entry, EntryId, Kind, Leaf, Step, Tensor, TensorId, Tree};

/// Puts the tree of a further pickle below the root, as an attribute of this name. Items of its outermost sequence are
/// called by `item`.
pub(super) fn graft(base: &mut Rebuilt, further: Rebuilt, name: &str, item: fn(u64) -> Step) {
    let (tensors, storages) = (base.tensors.len(), base.storages.len());
    base.storages.extend(further.storages);
    base.tensors.extend(further.tensors.into_iter().map(|tensor: Tensor| tensor.moved(storages)));
    let ids = tree(&mut base.tree, &further.tree, tensors, Kind::Module, |entry| {
        Some(match (&entry.step, entry.parent) {
            (_, None) => Step::Attribute(name.into()),
            (Step::Index(i), Some(EntryId::ROOT)) => item(*i),
            (step, _) => step.clone(),
        })
    });
    base.values.extend(further.values.into_iter().map(|values| values.moved(&ids)));
}

/// Puts a further tree, whose tensors follow `tensors` others, below the root of a tree, which becomes of this kind
/// where it can hold nothing. `step` says how each place is reached; its root may be taken for the root itself, by
/// `None`. Gives the new handle of each place.
pub(super) fn tree(
    base: &mut Tree,
    further: &Tree,
    tensors: usize,
    kind: Kind,
    step: impl Fn(&Entry) -> Option<Step>,
) -> Vec<EntryId> {
    container_root(base, kind);
    let before = u32::try_from(tensors).unwrap_or(u32::MAX);
    let mut ids: Vec<EntryId> = Vec::with_capacity(further.len());
    for (_, entry) in further.iter() {
        let kind = match &entry.kind {
            Kind::Leaf(Leaf::Tensor(TensorId(id))) => {
                Kind::Leaf(Leaf::Tensor(TensorId(id.saturating_add(before))))
            }
            kind => kind.clone(),
        };
        let parent = entry.parent.and_then(|parent| ids.get(parent.index()).copied());
        ids.push(match (step(entry), &kind) {
            (Some(step), _) => base.push(Some(parent.unwrap_or(EntryId::ROOT)), step, kind),
            // What holds nothing cannot be taken for the root.
            (None, Kind::Leaf(_)) => base.push(Some(EntryId::ROOT), Step::Root, kind),
            (None, _) => EntryId::ROOT,
        });
    }
    ids
}

/// Gives the tree a root that can hold something: that of a module without tensors is only a count of its values.
fn container_root(tree: &mut Tree, kind: Kind) {
    match tree.entry(EntryId::ROOT).map(|entry| entry.kind.clone()) {
        Some(leaf @ Kind::Leaf(_)) => {
            *tree = Tree::default();
            let root = tree.push(None, Step::Root, kind);
            tree.push(Some(root), Step::Root, leaf);
        }
        Some(_) => {}
        None => _ = tree.push(None, Step::Root, kind),
    }
}

/// Whether there is anything to take from a tree.
pub(super) fn holds_tensors(rebuilt: &Rebuilt) -> bool {
    let holds = |kind: &Kind| matches!(kind, Kind::Leaf(Leaf::Tensor(_) | Leaf::LeftOut { .. }));
    rebuilt.tree.iter().any(|(_, entry)| holds(&entry.kind))
}
