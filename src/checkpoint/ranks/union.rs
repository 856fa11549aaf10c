//! [`Union`]: the trees of all ranks as one, each place once, in the order in which it is first met.

use std::collections::HashMap;

use crate::tensor::{EntryId, Kind, Leaf, Step, TensorId, Tree};

use super::super::folder::FolderError;

/// Trees that become one.
#[derive(Debug, Default)]
pub(super) struct Union {
    places: Vec<Place>,
    by_step: HashMap<(usize, Step), usize>,
}

#[derive(Debug)]
struct Place {
    step: Step,
    kind: Kind,
    below: Vec<usize>,
    /// The file that it was first met in.
    file: usize,
    /// The tensors that the files have here.
    tensors: Vec<(usize, TensorId)>,
}

/// The tree of several files.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) tree: Tree,
    /// Where the places of each file begin that has any of its own.
    pub(super) parts: Vec<(EntryId, usize)>,
    /// The entry of each place.
    pub(super) ids: Vec<EntryId>,
}

/// A place that holds a tensor, and the tensors of each file there.
#[derive(Debug)]
pub(super) struct Met<'a> {
    /// Steps to it.
    pub(super) path: Vec<String>,
    pub(super) tensors: &'a [(usize, TensorId)],
}

impl Union {
    /// Adds the tree of a file. Gives the place of each entry.
    pub(super) fn add(&mut self, tree: &Tree, file: usize) -> Result<Vec<usize>, FolderError> {
        let mut ids: Vec<usize> = Vec::with_capacity(tree.len());
        for (id, entry) in tree.iter() {
            let parent = entry.parent.and_then(|parent| ids.get(parent.index()).copied());
            let place = self.place(parent, &entry.step, &entry.kind, file)?;
            ids.push(place);
            let Some(there) = self.places.get_mut(place) else { continue };
            if let Kind::Leaf(Leaf::Tensor(tensor)) = entry.kind {
                if there.tensors.iter().any(|(known, _)| *known == file) {
                    return Err(FolderError::SamePlace(tree.path(id).join(".").into()));
                }
                there.tensors.push((file, tensor));
            }
        }
        Ok(ids)
    }

    /// The place that a step leads to, which is made if it is new. One rank may hold nothing where another holds tensors.
    fn place(
        &mut self,
        parent: Option<usize>,
        step: &Step,
        kind: &Kind,
        file: usize,
    ) -> Result<usize, FolderError> {
        let next = self.places.len();
        let found = match parent {
            Some(parent) => *self.by_step.entry((parent, step.clone())).or_insert(next),
            None => 0,
        };
        match self.places.get_mut(found) {
            None => {
                let (step, kind) = (step.clone(), kind.clone());
                self.places.push(Place { step, kind, below: Vec::new(), file, tensors: Vec::new() });
                if let Some(parent) = parent.and_then(|parent| self.places.get_mut(parent)) {
                    parent.below.push(next);
                }
            }
            Some(there) => {
                let nothing = |kind: &Kind| matches!(kind, Kind::Leaf(Leaf::Values { .. }));
                let tensor = |kind: &Kind| matches!(kind, Kind::Leaf(Leaf::Tensor(_)));
                if nothing(&there.kind) {
                    there.kind = kind.clone();
                } else if tensor(&there.kind) != tensor(kind) && !nothing(kind) {
                    return Err(FolderError::Ranks { name: step.text().into() });
                }
            }
        }
        Ok(found)
    }

    /// The tree of all places, whose tensors `merge` puts together of those of the files.
    pub(super) fn into_tree<E: From<FolderError>>(
        self,
        mut merge: impl FnMut(&Met<'_>) -> Result<TensorId, E>,
    ) -> Result<Whole, E> {
        let mut tree = Tree::default();
        let mut ids = vec![EntryId::ROOT; self.places.len()];
        let mut parts: Vec<(EntryId, usize)> = Vec::new();
        let mut stack = vec![(0, None)];
        while let Some((at, parent)) = stack.pop() {
            let Some(place) = self.places.get(at) else { continue };
            let entry = tree.push(parent, place.step.clone(), place.kind.clone());
            if let Some(id) = ids.get_mut(at) {
                *id = entry;
            }
            if parts.last().is_none_or(|(_, file)| *file != place.file) {
                parts.push((entry, place.file));
            }
            if !place.tensors.is_empty() {
                let met = Met { path: tree.path(entry), tensors: &place.tensors };
                let tensor = merge(&met)?;
                tree.set_tensor(entry, tensor);
            }
            stack.extend(place.below.iter().rev().map(|child| (*child, Some(entry))));
        }
        Ok(Whole { tree, parts, ids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(names: &[(&str, Kind)]) -> Tree {
        let mut tree = Tree::default();
        let root = tree.push(None, Step::Root, Kind::Mapping);
        for (name, kind) in names {
            tree.push(Some(root), Step::Key((*name).into()), kind.clone());
        }
        tree
    }

    fn tensor(id: u32) -> Kind {
        Kind::Leaf(Leaf::Tensor(TensorId(id)))
    }

    fn values() -> Kind {
        Kind::Leaf(Leaf::Values { type_name: "int".into(), count: 1 })
    }

    #[test]
    fn each_place_stands_once_with_the_tensors_of_all_files() {
        let mut union = Union::default();
        union.add(&tree(&[("a", tensor(0)), ("n", values())]), 0).unwrap();
        union.add(&tree(&[("b", tensor(1)), ("a", tensor(2)), ("n", values())]), 1).unwrap();
        let mut met = Vec::new();
        let Whole { tree, parts, .. } = union
            .into_tree::<FolderError>(|place| {
                met.push((place.path.join("."), place.tensors.to_vec()));
                Ok(place.tensors[0].1)
            })
            .unwrap();
        assert_eq!(tree.len(), 4);
        let both = vec![(0, TensorId(0)), (1, TensorId(2))];
        assert_eq!(met, [("a".into(), both), ("b".into(), vec![(1, TensorId(1))])]);
        assert_eq!(
            parts.iter().map(|(entry, file)| (entry.index(), *file)).collect::<Vec<_>>(),
            [(0, 0), (3, 1)]
        );
    }

    #[test]
    fn what_is_a_tensor_in_one_file_is_none_in_another() {
        let mut union = Union::default();
        union.add(&tree(&[("a", tensor(0))]), 0).unwrap();
        let error = union.add(&tree(&[("a", Kind::Mapping)]), 1).unwrap_err();
        assert!(matches!(error, FolderError::Ranks { .. }));
        let twice = tree(&[("a", tensor(0)), ("a", tensor(1))]);
        assert!(matches!(Union::default().add(&twice, 0), Err(FolderError::SamePlace(_))));
    }
}
