//! Arrays of joblib, whose data stands outside the pickle.
//!
//! joblib 0.10 and later: a `NumpyArrayWrapper` with `{subclass, shape, order, dtype, allow_mmap[,
//! numpy_array_alignment_bytes]}`; right behind its `BUILD` follow the raw bytes, from 1.2 on after a byte that counts
//! the padding and the padding itself. An array of objects follows as a complete pickle. Before 0.10: a `NDArrayWrapper`
//! names a `.npy` file, a `ZNDArrayWrapper` a compressed file with the bytes alone. Source: `joblib/numpy_pickle.py` and
//! `joblib/numpy_pickle_compat.py`.

use crate::bytes::Offset;
use crate::limits::Limits;
use crate::pickle::{Call, Graph, Node, NodeId};
use crate::tensor::{Element, Place, StreamId, Streams};

use super::allow::Callable;
use super::array::{Array, embedded};
use super::builder::{Builder, Context, Kinded};
use super::error::{Error, ErrorKind};
use super::torch::{Made, NESTING, only_state};

/// What follows the `BUILD` of an object that was just built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raw {
    /// This many bytes, after a byte that counts the padding and the padding itself where that is said.
    Bytes {
        /// Of data.
        len: u64,
        /// Whether padding comes first.
        padded: bool,
    },
    /// A complete pickle.
    Pickle,
}

/// What follows the `BUILD` of an object; `None` where it is no array of joblib's.
///
/// # Errors
/// A wrapper without a shape or an element type.
pub fn raw(graph: &Graph, built: NodeId, limits: &Limits) -> Result<Option<Raw>, Error> {
    let Some(call) = graph.call(built) else { return Ok(None) };
    if graph.as_global(call.callable).is_none_or(|global| &*global.name != "NumpyArrayWrapper") {
        return Ok(None);
    }
    let mut streams = Streams::new(std::sync::Arc::new(Vec::new()));
    let builder = Builder::new(graph, Context::new(StreamId::SOURCE, limits), &mut streams);
    if builder.callable(call.callable) != Some(Callable::JoblibArray) {
        return Ok(None);
    }
    let wrapper = builder.wrapper(call).map_err(|kind| builder.error(call, kind))?;
    if wrapper.element.has_objects() {
        return Ok(Some(Raw::Pickle));
    }
    let len = super::array::data_len(&wrapper.shape, &wrapper.element);
    let len = len.ok_or_else(|| builder.error(call, ErrorKind::Unsupported("an array of this shape")))?;
    Ok(Some(Raw::Bytes { len, padded: wrapper.padded }))
}

/// How a companion holds its array.
#[derive(Debug, Clone)]
pub enum CompanionForm {
    /// As a `.npy` file.
    Npy,
    /// As compressed bytes of this array, whose storage is still empty.
    Compressed(Box<Array>),
}

/// A file beside the checkpoint that holds one of its arrays.
#[derive(Debug, Clone)]
pub struct Companion {
    /// The call that stands for the array, from the start of the pickle.
    pub at: Offset,
    /// Its name, as the pickle has it.
    pub file: Box<str>,
    /// What is in it.
    pub form: CompanionForm,
}

/// The files that a pickle's arrays lie in.
///
/// # Errors
/// A wrapper without a file name.
pub fn companions(graph: &Graph, limits: &Limits) -> Result<Vec<Companion>, Error> {
    let mut streams = Streams::new(std::sync::Arc::new(Vec::new()));
    let builder = Builder::new(graph, Context::new(StreamId::SOURCE, limits), &mut streams);
    let mut found = Vec::new();
    for (_, call) in graph.calls() {
        if builder.callable(call.callable) == Some(Callable::JoblibFile) {
            let (file, form) = builder.companion(call).map_err(|kind| builder.error(call, kind))?;
            found.push(Companion { at: call.offset, file, form });
        }
    }
    Ok(found)
}

/// The state of a `NumpyArrayWrapper`.
struct Wrapper {
    shape: Vec<i64>,
    fortran: bool,
    element: Element,
    padded: bool,
}

impl<'a> Builder<'a> {
    fn state_of(&self, call: &'a Call) -> Kinded<Vec<(NodeId, NodeId)>> {
        let expected = "the attributes of joblib's wrapper";
        let state =
            only_state(call)?.ok_or(ErrorKind::Argument { position: 0, found: "no state", expected })?;
        match self.graph.node(state) {
            Node::Dict(items) => Ok(self.graph.entries(items)),
            _ => Err(self.wrong(state, 0, expected)),
        }
    }

    fn attribute(&self, state: &[(NodeId, NodeId)], name: &'static str) -> Kinded<NodeId> {
        let found = state.iter().find(|(key, _)| self.graph.text(*key).as_deref() == Some(name));
        let missing = ErrorKind::Argument { position: 0, found: "no such attribute", expected: name };
        found.map(|(_, value)| *value).ok_or(missing)
    }

    fn wrapper(&self, call: &'a Call) -> Kinded<Wrapper> {
        let state = self.state_of(call)?;
        let shape = self.ints(self.attribute(&state, "shape")?, 0)?;
        let element = self.numpy_element(self.attribute(&state, "dtype")?, 0)?;
        let order = self.attribute(&state, "order")?;
        let fortran = match self.graph.text(order).as_deref() {
            Some("F") => true,
            Some("C") => false,
            _ => return Err(self.wrong(order, 0, "\"C\" or \"F\"")),
        };
        let padding = self.attribute(&state, "numpy_array_alignment_bytes").ok();
        let padded = padding.is_some_and(|padding| *self.graph.node(padding) != Node::None);
        Ok(Wrapper { shape, fortran, element, padded })
    }

    fn companion(&self, call: &'a Call) -> Kinded<(Box<str>, CompanionForm)> {
        let graph = self.graph;
        let state = self.state_of(call)?;
        let file = self.attribute(&state, "filename")?;
        let file = graph.text(file).ok_or_else(|| self.wrong(file, 0, "the name of a file"))?;
        let Ok(inner) = self.attribute(&state, "state") else {
            return Ok(((&*file).into(), CompanionForm::Npy));
        };
        let Some([_version, shape, dtype, fortran]) = graph.tuple(inner) else {
            return Err(self.wrong(inner, 0, "(version, shape, dtype, fortran)"));
        };
        let shape = self.ints(*shape, 1)?;
        let element = self.numpy_element(*dtype, 0)?;
        let fortran = graph.int(*fortran).is_some_and(|flag| flag != 0);
        let nowhere = Place::Stored { stream: StreamId::SOURCE, span: crate::bytes::Span::default() };
        let array = Array { element, shape, fortran, storage: embedded(nowhere), start: 0 };
        Ok(((&*file).into(), CompanionForm::Compressed(Box::new(array))))
    }

    /// An array whose bytes, or whose pickle, stood behind its `BUILD`; `None` for one of objects, which is walked.
    pub(super) fn joblib_array(&mut self, call: &'a Call, depth: usize) -> Option<Kinded<Made>> {
        if let Some(nested) = call.nested() {
            let too_deep = ErrorKind::Unsupported("an array nested in so many others");
            let deeper = depth.saturating_add(1);
            return if depth < NESTING { self.make_nested(nested, deeper) } else { Some(Err(too_deep)) };
        }
        Some(self.joblib_raw(call))
    }

    fn joblib_raw(&mut self, call: &'a Call) -> Kinded<Made> {
        // Only joblib's own reader passes over the bytes; in any other file they are not there.
        let outside = ErrorKind::Unsupported("joblib's array in a file that is not joblib's");
        let span = call.raw().ok_or(outside)?;
        let Wrapper { shape, fortran, element, .. } = self.wrapper(call)?;
        let place = Place::Stored { stream: self.context.stream, span };
        self.add_array(&Array { element, shape, fortran, storage: embedded(place), start: 0 })
    }

    pub(super) fn joblib_file(&mut self, call: &'a Call) -> Kinded<Made> {
        let found = self.context.companions.and_then(|companions| companions.get(&call.offset));
        match found {
            Some(array) => self.add_array(array),
            None => Err(ErrorKind::Unsupported("an array whose file is not beside the checkpoint")),
        }
    }
}
