//! Joining what several pickles of one source hold.

use crate::rebuild::Rebuilt;
use crate::tensor::{EntryId, Kind, Leaf, Step, Tensor, TensorId, Tree};

/// Puts the tree of a further pickle below the root, as an attribute of this name. Items of its outermost sequence are
/// called by `item`.
pub(super) fn graft(base: &mut Rebuilt, further: Rebuilt, name: &str, item: fn(u64) -> Step) {
    let (tensors, storages) = (base.tensors.len(), base.storages.len());
    base.storages.extend(further.storages);
    let moved = |tensor: Tensor| Tensor { view: tensor.view.moved(storages), ..tensor };
    base.tensors.extend(further.tensors.into_iter().map(moved));
    container_root(&mut base.tree);
    let mut ids: Vec<EntryId> = Vec::with_capacity(further.tree.len());
    for (_, entry) in further.tree.iter() {
        let parent = entry.parent.and_then(|parent| ids.get(parent.index()).copied());
        let step = match (&entry.step, entry.parent) {
            (_, None) => Step::Attribute(name.into()),
            (Step::Index(i), Some(EntryId::ROOT)) => item(*i),
            (step, _) => step.clone(),
        };
        let kind = match &entry.kind {
            Kind::Leaf(Leaf::Tensor(TensorId(id))) => {
                let before = u32::try_from(tensors).unwrap_or(u32::MAX);
                Kind::Leaf(Leaf::Tensor(TensorId(id.saturating_add(before))))
            }
            kind => kind.clone(),
        };
        ids.push(base.tree.push(Some(parent.unwrap_or(EntryId::ROOT)), step, kind));
    }
}

/// Gives the tree a root that can hold something: that of a module without tensors is only a count of its values.
fn container_root(tree: &mut Tree) {
    match tree.entry(EntryId::ROOT).map(|entry| entry.kind.clone()) {
        Some(leaf @ Kind::Leaf(_)) => {
            *tree = Tree::default();
            let root = tree.push(None, Step::Root, Kind::Module);
            tree.push(Some(root), Step::Root, leaf);
        }
        Some(_) => {}
        None => _ = tree.push(None, Step::Root, Kind::Module),
    }
}

/// Whether there is anything to take from a tree.
pub(super) fn holds_tensors(rebuilt: &Rebuilt) -> bool {
    let holds = |kind: &Kind| matches!(kind, Kind::Leaf(Leaf::Tensor(_) | Leaf::LeftOut { .. }));
    rebuilt.tree.iter().any(|(_, entry)| holds(&entry.kind))
}
