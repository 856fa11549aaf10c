//! [`Places`]: a tree that is put together from paths, in the order in which each place is first met.

use std::collections::HashMap;

use crate::tensor::{EntryId, Kind, Leaf, Step, TensorId, Tree};
use crate::values::Values;

use super::super::graft;
use super::FolderError as Error;

/// What stands at the end of a path.
#[derive(Debug)]
enum What {
    /// Further places.
    Inner(Vec<usize>),
    Leaf(Leaf),
    /// What a pickle of its own holds, whose tensors are those of the whole already.
    Held(Held),
}

/// What one pickle holds: its places, and its values where they are kept.
#[derive(Debug, Default)]
pub(in crate::checkpoint) struct Held {
    pub(in crate::checkpoint) tree: Tree,
    pub(in crate::checkpoint) values: Vec<Values>,
}

impl Held {
    /// The same values at a place that stands for all of theirs.
    pub(in crate::checkpoint) fn at_leaf(self, leaf: Leaf) -> Self {
        let all = vec![EntryId::ROOT; self.tree.len()];
        let mut tree = Tree::default();
        tree.push(None, Step::Root, Kind::Leaf(leaf));
        Self { tree, values: self.values.into_iter().map(|values| values.moved(&all)).collect() }
    }
}

#[derive(Debug)]
struct Place {
    step: Step,
    what: What,
}

/// A tree under construction.
#[derive(Debug)]
pub(in crate::checkpoint) struct Places {
    places: Vec<Place>,
    by_step: HashMap<(usize, Box<str>), usize>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            places: vec![Place { step: Step::Root, what: What::Inner(Vec::new()) }],
            by_step: HashMap::new(),
        }
    }
}

impl Places {
    /// A tensor at a path.
    ///
    /// # Errors
    /// [`Error::SamePlace`] where something stands there, or on the way.
    pub(in crate::checkpoint) fn tensor(&mut self, path: &[Step], tensor: TensorId) -> Result<(), Error> {
        self.put(path, What::Leaf(Leaf::Tensor(tensor)))
    }

    /// What a pickle of its own holds, at a path.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub(in crate::checkpoint) fn held(&mut self, path: &[Step], held: Held) -> Result<(), Error> {
        self.put(path, What::Held(held))
    }

    fn put(&mut self, path: &[Step], what: What) -> Result<(), Error> {
        let same = || {
            let path: Vec<_> = path.iter().map(Step::text).collect();
            Error::SamePlace(path.join(".").into())
        };
        let mut at = 0;
        for step in path {
            let next = self.places.len();
            let found = *self.by_step.entry((at, step.text().into())).or_insert(next);
            match self.places.get_mut(at).map(|place| &mut place.what) {
                Some(What::Inner(below)) if found == next => below.push(next),
                Some(What::Inner(_)) => {}
                _ => return Err(same()),
            }
            if found == next {
                self.places.push(Place { step: step.clone(), what: What::Inner(Vec::new()) });
            }
            at = found;
        }
        match self.places.get_mut(at) {
            // A container that holds something, and the root, are no places for anything else.
            Some(Place { what: slot @ What::Inner(_), .. }) if at != 0 && is_empty(slot) => *slot = what,
            _ => return Err(same()),
        }
        Ok(())
    }

    /// The tree, each place before those below it, and the values in it.
    pub(in crate::checkpoint) fn finish(mut self) -> Held {
        let (mut tree, mut values) = (Tree::default(), Vec::new());
        let mut stack = vec![(0, None)];
        while let Some((at, parent)) = stack.pop() {
            let Some(place) = self.places.get_mut(at) else { continue };
            let step = std::mem::replace(&mut place.step, Step::Root);
            match std::mem::replace(&mut place.what, What::Inner(Vec::new())) {
                What::Leaf(leaf) => _ = tree.push(parent, step, Kind::Leaf(leaf)),
                What::Held(inner) => {
                    let ids = graft::at(&mut tree, &inner.tree, parent, &step);
                    values.extend(inner.values.into_iter().map(|values| values.moved(&ids)));
                }
                What::Inner(below) => {
                    let first = below.first().and_then(|first| self.places.get(*first));
                    let kind = match first.map(|first| &first.step) {
                        Some(Step::Index(_)) => Kind::Sequence,
                        _ => Kind::Mapping,
                    };
                    let entry = tree.push(parent, step, kind);
                    stack.extend(below.into_iter().rev().map(|child| (child, Some(entry))));
                }
            }
        }
        Held { tree, values }
    }
}

fn is_empty(what: &What) -> bool {
    matches!(what, What::Inner(below) if below.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Step {
        Step::Key(text.into())
    }

    #[test]
    fn places_stand_in_the_order_in_which_they_are_met() {
        let mut places = Places::default();
        places.tensor(&[key("b"), Step::Index(0), key("w")], TensorId(0)).unwrap();
        places.tensor(&[key("a")], TensorId(1)).unwrap();
        places.tensor(&[key("b"), Step::Index(1), key("w")], TensorId(2)).unwrap();
        let tree = places.finish().tree;
        let paths: Vec<_> =
            tree.tensors().map(|(entry, tensor)| (tree.path(entry).join("."), tensor.0)).collect();
        assert_eq!(paths, [("b.0.w".into(), 0), ("b.1.w".into(), 2), ("a".into(), 1)]);
        assert!(tree.iter().any(|(_, entry)| entry.kind == Kind::Sequence));
    }

    #[test]
    fn two_of_one_path_are_refused() {
        let mut places = Places::default();
        places.tensor(&[key("a"), key("b")], TensorId(0)).unwrap();
        for path in [&[key("a"), key("b")][..], &[key("a")], &[key("a"), key("b"), key("c")], &[]] {
            assert!(matches!(places.tensor(path, TensorId(1)), Err(Error::SamePlace(_))), "{path:?}");
        }
    }
}
