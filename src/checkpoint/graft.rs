//! Joining what several pickles of one source hold.

use crate::rebuild::{Rebuilt, graft_tree};
use crate::tensor::{Entry, EntryId, Kind, Step, Tree};

/// Puts the tree of a further pickle below the root, as an attribute of this name. Items of its outermost sequence are
/// called by `item`.
pub(super) fn graft(base: &mut Rebuilt, further: Rebuilt, name: &str, item: fn(u64) -> Step) {
    container_root(&mut base.tree, Kind::Module);
    let ids = base.graft(&further, Some(EntryId::ROOT), |entry| match (&entry.step, entry.parent) {
        (_, None) => Step::Attribute(name.into()),
        (Step::Index(i), Some(EntryId::ROOT)) => item(*i),
        (step, _) => step.clone(),
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
    graft_tree(base, further, tensors, Some(EntryId::ROOT), step)
}

/// Puts a further tree, whose tensors are those of the base already, below a place at this step. Its root is reached by it.
/// Gives the new handle of each place.
pub(super) fn at(base: &mut Tree, further: &Tree, parent: Option<EntryId>, step: &Step) -> Vec<EntryId> {
    let mut ids: Vec<EntryId> = Vec::with_capacity(further.len());
    for (_, entry) in further.iter() {
        let (parent, step) = match entry.parent {
            None => (parent, step.clone()),
            Some(above) => (ids.get(above.index()).copied(), entry.step.clone()),
        };
        ids.push(base.push(parent, step, entry.kind.clone()));
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
