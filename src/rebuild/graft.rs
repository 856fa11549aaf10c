//! Joining what several pickles of one source hold.

use crate::tensor::{Entry, EntryId, Kind, Leaf, Step, TensorId, Tree};

use super::builder::Rebuilt;

impl Rebuilt {
    /// Takes over storages and tensors of a further pickle. Gives the number of tensors that there were before.
    pub(super) fn absorb(&mut self, further: &Self) -> usize {
        let (tensors, storages) = (self.tensors.len(), self.storages.len());
        self.storages.extend(further.storages.iter().cloned());
        self.tensors.extend(further.tensors.iter().map(|tensor| tensor.clone().moved(storages)));
        tensors
    }

    /// Puts what a further pickle holds at a place of its own. `step` says how each entry of its tree is reached.
    /// Gives the new handle of each entry.
    pub fn graft(
        &mut self,
        further: &Self,
        parent: Option<EntryId>,
        step: impl Fn(&Entry) -> Step,
    ) -> Vec<EntryId> {
        let before = self.absorb(further);
        graft_tree(&mut self.tree, &further.tree, before, parent, |entry| Some(step(entry)))
    }

    /// Whether there is anything to take.
    pub fn holds_tensors(&self) -> bool {
        let holds = |kind: &Kind| matches!(kind, Kind::Leaf(Leaf::Tensor(_) | Leaf::LeftOut { .. }));
        self.tree.iter().any(|(_, entry)| holds(&entry.kind))
    }
}

/// Puts a further tree, whose tensors follow `tensors` others, below a place. `step` says how each entry is reached; its
/// root may be taken for that place itself, by `None`. Gives the new handle of each entry.
pub fn graft_tree(
    base: &mut Tree,
    further: &Tree,
    tensors: usize,
    parent: Option<EntryId>,
    step: impl Fn(&Entry) -> Option<Step>,
) -> Vec<EntryId> {
    let before = u32::try_from(tensors).unwrap_or(u32::MAX);
    let mut ids: Vec<EntryId> = Vec::with_capacity(further.len());
    for (_, entry) in further.iter() {
        let kind = match &entry.kind {
            Kind::Leaf(Leaf::Tensor(TensorId(id))) => {
                Kind::Leaf(Leaf::Tensor(TensorId(id.saturating_add(before))))
            }
            kind => kind.clone(),
        };
        let above = entry.parent.and_then(|above| ids.get(above.index()).copied()).or(parent);
        ids.push(match (step(entry), &kind, parent) {
            (Some(step), _, _) => base.push(above, step, kind),
            (None, Kind::Mapping | Kind::Sequence | Kind::Object | Kind::Module, Some(parent)) => parent,
            // What holds nothing cannot be taken for another place.
            (None, _, _) => base.push(above, Step::Root, kind),
        });
    }
    ids
}

/// The step of an entry in its own tree, or another for its root.
pub fn at(root: Step) -> impl Fn(&Entry) -> Step {
    move |entry| if entry.parent.is_none() { root.clone() } else { entry.step.clone() }
}
