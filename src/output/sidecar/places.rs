//! Tensors among the values: by their name in the output, or by the place where they stood in the source.

use crate::tensor::{EntryId, Kind, Leaf, Step as Link};
use crate::values::TensorValue;

use super::super::ErrorKind;
use super::{Step, Writer, spelled, states};

/// Bytes of the path of a tensor that is left out, beyond which its first steps are.
const PATH: usize = 1 << 10;

impl<'a> Writer<'a, '_> {
    /// Writes a tensor, or an array in parts.
    pub(super) fn tensor(&mut self, tensor: &'a TensorValue, number: Option<u64>) -> Result<(), ErrorKind> {
        let tree = self.around.tree;
        self.open("tensor", number)?;
        // What is put together into others is an object without places.
        if matches!(tree.entry(tensor.entry).map(|entry| &entry.kind), Some(Kind::Leaf(_) | Kind::Object)) {
            self.place(tensor.entry)?;
        }
        let mut first = true;
        for (id, entry) in tree.below(tensor.entry) {
            let part = matches!(entry.step, Link::Part(_)) || entry.parent.is_some_and(|p| self.is_fields(p));
            if !part || !matches!(entry.kind, Kind::Leaf(Leaf::Tensor(_) | Leaf::LeftOut { .. })) {
                continue;
            }
            self.sink.put(if first { ", \"parts\": [{\"part\": " } else { ", {\"part\": " })?;
            first = false;
            let mut steps: Vec<_> = (tree.ancestors(id).take_while(|(at, _)| *at != tensor.entry))
                .map(|(_, entry)| entry.step.text())
                .collect();
            steps.reverse();
            self.sink.json(&steps.join("."))?;
            self.place(id)?;
            self.sink.put("}")?;
        }
        if !first {
            self.sink.put("]")?;
        }
        if let Some(class) = &tensor.class {
            self.sink.put(", \"class\": ")?;
            self.sink.json(&spelled(class))?;
        }
        if tensor.requires_grad {
            self.sink.put(", \"requires_grad\": true")?;
        }
        let mut steps = states(&tensor.states);
        steps.push(Step::Put("}"));
        self.push(&steps);
        Ok(())
    }

    /// Whether a place is an array of several fields.
    fn is_fields(&self, id: EntryId) -> bool {
        matches!(self.around.tree.entry(id).map(|entry| &entry.kind), Some(Kind::Mapping))
    }

    /// Where a tensor is: its name in the output, or where it stood in the source.
    fn place(&mut self, id: EntryId) -> Result<(), ErrorKind> {
        let leaf = self.around.tree.entry(id).map(|entry| &entry.kind);
        if let Some(Kind::Leaf(Leaf::Tensor(tensor))) = leaf
            && let Some(name) = (self.around.name_of)(*tensor)
        {
            self.sink.put(", \"name\": ")?;
            return self.sink.json(name);
        }
        self.sink.put(", \"path\": ")?;
        self.sink.json(&shortened((self.around.place_of)(id).1))?;
        if let Some(Kind::Leaf(Leaf::LeftOut { reason, .. })) = leaf {
            self.sink.put(", \"reason\": ")?;
            self.sink.json(reason)?;
        }
        Ok(())
    }
}

/// A path without its first steps where it is long: many tensors may stand below one long key.
pub(super) fn shortened(mut path: Vec<String>) -> Vec<String> {
    let mut bytes = 0_usize;
    let fits = |step: &&String| {
        bytes = bytes.saturating_add(step.len());
        bytes <= PATH
    };
    let kept = path.iter().rev().take_while(fits).count();
    let dropped = path.len().saturating_sub(kept);
    if dropped > 0 {
        path.splice(..dropped, ["…".to_owned()]);
    }
    path
}
