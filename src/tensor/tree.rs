//! [`Tree`]: the places of a source that hold tensors, in the source's order, and what else lies beside them.
//!
//! It is what remains of the pickle once every call is interpreted: names and handles, no objects. Parts that hold no
//! tensor are one entry each, with a count of their values.

use super::view::TensorId;

/// Handle of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(u32);

impl EntryId {
    /// The root of the tree.
    pub const ROOT: Self = Self(0);

    /// Position in the tree.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// How an entry is reached from its parent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// It adds nothing to the path: the root, and the values of a module taken together.
    Root,
    /// By a key of a mapping, in its documented text form.
    Key(Box<str>),
    /// By position.
    Index(u64),
    /// By a name that `state_dict()` of the parent module gives: a parameter, persistent buffer or submodule.
    Member(Box<str>),
    /// A buffer of the parent module that `state_dict()` leaves out.
    NonPersistent(Box<str>),
    /// By an attribute that is none of these.
    Attribute(Box<str>),
    /// One part of the parent, a re-encoded tensor: its `scale`, its `indices`.
    Part(Box<str>),
}

impl Step {
    /// The step as it stands in names and in the manifest; empty for the root.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Root => "".into(),
            Self::Index(i) => i.to_string().into(),
            Self::Key(name)
            | Self::Member(name)
            | Self::NonPersistent(name)
            | Self::Attribute(name)
            | Self::Part(name) => (&**name).into(),
        }
    }
}

/// What stands at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A dictionary of any class.
    Mapping,
    /// A list, tuple, set or deque.
    Sequence,
    /// A pickled `nn.Module`.
    Module,
    /// Any other object, kept as inert data.
    Object,
    /// Something without places below it (but [`Step::Part`]s).
    Leaf(Leaf),
}

/// What stands at the end of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaf {
    /// A tensor.
    Tensor(TensorId),
    /// A part of the source that holds no tensor.
    Values {
        /// Python type of the outermost value.
        type_name: Box<str>,
        /// Number of values in it that are no containers.
        count: u64,
    },
    /// A tensor that cannot be written: no data in the file, or no type for it in safetensors.
    LeftOut {
        /// Why.
        reason: Box<str>,
        /// Bytes that it has in the source; 0 where there are none.
        bytes: u64,
    },
}

/// One place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The place that holds it; `None` for the root.
    pub parent: Option<EntryId>,
    /// How it is reached from there.
    pub step: Step,
    /// What it is.
    pub kind: Kind,
}

/// Places in the source's order: a parent stands before its children, children in the order of the source.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    entries: Vec<Entry>,
}

impl Tree {
    /// Adds a place after all others.
    pub fn push(&mut self, parent: Option<EntryId>, step: Step, kind: Kind) -> EntryId {
        let id = self.next();
        self.entries.push(Entry { parent, step, kind });
        id
    }

    /// Says which tensor a place holds.
    pub(crate) fn set_tensor(&mut self, id: EntryId, tensor: TensorId) {
        if let Some(entry) = self.entries.get_mut(id.index()) {
            entry.kind = Kind::Leaf(Leaf::Tensor(tensor));
        }
    }

    /// The handle that the next place will have.
    pub(crate) fn next(&self) -> EntryId {
        EntryId(u32::try_from(self.entries.len()).unwrap_or(u32::MAX))
    }

    /// The place behind a handle.
    pub fn entry(&self, id: EntryId) -> Option<&Entry> {
        self.entries.get(id.index())
    }

    /// Every place with its handle, in order.
    pub fn iter(&self) -> impl Iterator<Item = (EntryId, &Entry)> {
        (0..).map(EntryId).zip(&self.entries)
    }

    /// Number of places.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no place at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The place and those that hold it, innermost first, the root last.
    pub fn ancestors(&self, id: EntryId) -> impl Iterator<Item = (EntryId, &Entry)> {
        std::iter::successors(self.entry(id).map(|entry| (id, entry)), |(_, entry)| {
            let parent = entry.parent?;
            self.entry(parent).map(|entry| (parent, entry))
        })
    }

    /// The steps from the root to a place, as they stand in the manifest.
    pub fn path(&self, id: EntryId) -> Vec<String> {
        let mut path: Vec<String> = self
            .ancestors(id)
            .filter(|(_, entry)| entry.step != Step::Root)
            .map(|(_, entry)| entry.step.text().into_owned())
            .collect();
        path.reverse();
        path
    }

    /// The places that stand below one and were added right after it.
    pub(crate) fn below(&self, id: EntryId) -> impl Iterator<Item = (EntryId, &Entry)> {
        (id.0.saturating_add(1)..)
            .map(EntryId)
            .map_while(move |next| self.entry(next).map(|entry| (next, entry)))
            .take_while(move |(_, entry)| entry.parent >= Some(id))
    }

    /// Every place that holds a tensor, in order.
    pub fn tensors(&self) -> impl Iterator<Item = (EntryId, TensorId)> {
        self.iter().filter_map(|(id, entry)| match entry.kind {
            Kind::Leaf(Leaf::Tensor(tensor)) => Some((id, tensor)),
            _ => None,
        })
    }
}
