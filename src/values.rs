//! Values that are no tensors, as typed data: what a source holds beside its weights, with the places of its tensors
//! among them.
//!
//! They stand in a list and refer to each other by position, so that what Python shares stays shared, what refers to
//! itself can be told, and nothing recurses. What a file calls is kept as an [`Object`]: a name and what it was given.

use std::sync::Arc;

use crate::bytes::{Span, length};
use crate::tensor::{EntryId, StreamId};

/// Handle of a value within its [`Values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub u32);

impl ValueId {
    /// Position in the list.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Bytes: small ones in memory, large ones where they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// In memory.
    Inline(Arc<[u8]>),
    /// In a stream of the source.
    Stored {
        /// Which stream.
        stream: StreamId,
        /// Where in it.
        span: Span,
    },
}

impl Data {
    /// Number of bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => length(bytes.len()),
            Self::Stored { span, .. } => span.len(),
        }
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One value, with Python's meaning.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`
    None,
    /// `True`, `False`
    Bool(bool),
    /// An integer of 64 bits.
    Int(i64),
    /// Any other integer: two's complement, little-endian.
    BigInt(Box<[u8]>),
    /// A float.
    Float(f64),
    /// Text. A lone surrogate stands as `\udXXX`.
    Text(Box<str>),
    /// Text too long to be a name: UTF-8, not validated.
    LongText(Data),
    /// A `str` of Python 2: bytes that may be text.
    OldText(Data),
    /// `bytes`
    Bytes(Data),
    /// `bytearray`
    ByteArray(Data),
    /// A list.
    List(Box<[ValueId]>),
    /// A tuple.
    Tuple(Box<[ValueId]>),
    /// A set, in the source's order.
    Set(Box<[ValueId]>),
    /// A frozen set, in the source's order.
    FrozenSet(Box<[ValueId]>),
    /// A dictionary without repeated keys, in the source's order.
    Dict(Box<[(ValueId, ValueId)]>),
    /// A class or function, by its name.
    Global(Box<Name>),
    /// What a call would have made.
    Object(Box<Object>),
    /// A tensor, or an array.
    Tensor(Box<TensorValue>),
    /// A persistent id: something that the container stands for.
    Persistent(ValueId),
}

/// A name, in Python 3's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Module.
    pub module: Box<str>,
    /// Name within the module.
    pub name: Box<str>,
}

/// What a call was given, and what was done to its result.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// What is called.
    pub class: ValueId,
    /// Whether `class.__new__(class, …)` is called rather than `class(…)`.
    pub new: bool,
    /// Positional arguments: a tuple.
    pub args: ValueId,
    /// Keyword arguments: a dictionary.
    pub kwargs: Option<ValueId>,
    /// What was appended to the result.
    pub items: Box<[ValueId]>,
    /// What was set in the result by key.
    pub entries: Box<[(ValueId, ValueId)]>,
    /// States that were set, in their order.
    pub states: Box<[ValueId]>,
    /// Bytes that follow right behind the state in the file: the data of joblib's arrays.
    pub data: Option<Data>,
    /// The object of a pickle that follows there.
    pub nested: Option<ValueId>,
}

/// A tensor among the values.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorValue {
    /// Its first place in the tree.
    pub entry: EntryId,
    /// Its class, where that is another than `torch.Tensor`.
    pub class: Option<Name>,
    /// Whether its gradient is wanted.
    pub requires_grad: bool,
    /// States that set attributes of it.
    pub states: Box<[ValueId]>,
}

/// The values of one pickle.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    /// Position of the file that it is in.
    pub file: usize,
    /// Member of the archive that it is, where the container names one.
    pub entry: Option<Box<str>>,
    /// Its place in the tree.
    pub at: EntryId,
    /// Every value that its root leads to; the root first.
    pub values: Vec<Value>,
}

impl Values {
    /// The outermost value.
    pub const ROOT: ValueId = ValueId(0);

    /// The value behind a handle.
    pub fn value(&self, id: ValueId) -> &Value {
        self.values.get(id.index()).unwrap_or(&Value::None)
    }

    /// Gives every place of the tree another handle.
    pub(crate) fn moved(mut self, places: &[EntryId]) -> Self {
        let place = |id: EntryId| places.get(id.index()).copied().unwrap_or(EntryId::ROOT);
        self.at = place(self.at);
        for value in &mut self.values {
            if let Value::Tensor(tensor) = value {
                tensor.entry = place(tensor.entry);
            }
        }
        self
    }

    /// Puts the values behind those of so many other files, and says where their bytes now lie.
    pub(crate) fn after(
        mut self,
        files: usize,
        mut place: impl FnMut(StreamId, Span) -> (StreamId, Span),
    ) -> Self {
        self.file = self.file.saturating_add(files);
        let mut data = |data: &mut Data| {
            if let Data::Stored { stream, span } = data {
                (*stream, *span) = place(*stream, *span);
            }
        };
        for value in &mut self.values {
            match value {
                Value::LongText(bytes)
                | Value::OldText(bytes)
                | Value::Bytes(bytes)
                | Value::ByteArray(bytes) => data(bytes),
                Value::Object(object) => object.data.iter_mut().for_each(&mut data),
                _ => {}
            }
        }
        self
    }
}

impl Value {
    /// What it refers to, in order.
    pub fn children(&self, each: &mut dyn FnMut(ValueId)) {
        match self {
            Self::List(items) | Self::Tuple(items) | Self::Set(items) | Self::FrozenSet(items) => {
                items.iter().copied().for_each(each);
            }
            Self::Dict(entries) => pairs(entries, each),
            Self::Object(object) => {
                each(object.class);
                each(object.args);
                object.kwargs.into_iter().for_each(&mut *each);
                object.items.iter().copied().for_each(&mut *each);
                pairs(&object.entries, each);
                object.states.iter().copied().for_each(&mut *each);
                object.nested.into_iter().for_each(each);
            }
            Self::Tensor(tensor) => tensor.states.iter().copied().for_each(each),
            Self::Persistent(id) => each(*id),
            _ => {}
        }
    }
}

fn pairs(entries: &[(ValueId, ValueId)], each: &mut dyn FnMut(ValueId)) {
    for (key, value) in entries {
        each(*key);
        each(*value);
    }
}
