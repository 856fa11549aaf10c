//! Arrays of numpy, as they ride along in checkpoints.
//!
//! `_reconstruct(ndarray, (0,), b"b")` makes an empty array, and `BUILD` with `(1, shape, dtype, fortran, data)` fills
//! it. The element type is a `numpy.dtype(code, …)` whose byte order arrives in a `BUILD` of its own. Protocol 5 has
//! `_frombuffer(data, dtype, shape, order)` instead. Source: `numpy/core/src/multiarray/methods.c`.

use crate::pickle::{Call, Node, NodeId};
use crate::tensor::{Dtype, Family, Place, ViewSpec};

use super::allow::Callable;
use super::builder::{Builder, Kinded};
use super::error::ErrorKind;
use super::torch::{Made, empty_spec, only_state};

/// Kind and size of an element, as numpy writes them, and what they are.
const CODES: &[(&str, Dtype)] = &[
    ("f8", Dtype::F64),
    ("f4", Dtype::F32),
    ("f2", Dtype::F16),
    ("i8", Dtype::I64),
    ("i4", Dtype::I32),
    ("i2", Dtype::I16),
    ("i1", Dtype::I8),
    ("u8", Dtype::U64),
    ("u4", Dtype::U32),
    ("u2", Dtype::U16),
    ("u1", Dtype::U8),
    ("b1", Dtype::Bool),
    ("c8", Dtype::C64),
    ("c16", Dtype::C128),
];

/// What the elements of an array are.
enum Element {
    /// Numbers that safetensors can hold, and whether they are big-endian.
    Number(Dtype, bool),
    /// Python objects.
    Object,
    /// What safetensors has no type for, by its kind.
    Other(&'static str),
}

impl<'a> Builder<'a> {
    /// An array made by `_reconstruct`; `None` for one of objects, which is walked as a sequence.
    pub(super) fn ndarray(&mut self, call: &'a Call) -> Option<Kinded<Made>> {
        let graph = self.graph;
        let state = match only_state(call) {
            Ok(state) => state,
            Err(kind) => return Some(Err(kind)),
        };
        let Some([_version, shape, dtype, fortran, data]) = state.and_then(|state| graph.tuple(state)) else {
            let expected = "(version, shape, dtype, fortran, data)";
            return Some(Err(ErrorKind::Argument { position: 0, found: "no state", expected }));
        };
        let element = match self.numpy_element(*dtype) {
            Ok(Element::Object) => return None,
            Ok(element) => element,
            Err(kind) => return Some(Err(kind)),
        };
        let fortran = graph.int(*fortran).is_some_and(|flag| flag != 0);
        Some(self.array(&element, *shape, fortran, *data))
    }

    /// The items of an array of objects.
    pub(super) fn object_array(&self, call: &'a Call) -> Option<&'a [NodeId]> {
        let state = self.graph.tuple(call.states().next()?)?;
        self.graph.sequence(*state.get(4)?)
    }

    /// `_frombuffer(data, dtype, shape, order)`
    pub(super) fn frombuffer(&mut self, args: &[NodeId]) -> Kinded<Made> {
        let [data, dtype, shape, order] = args else {
            return Err(ErrorKind::ArgumentCount { found: args.len(), expected: "4" });
        };
        let element = self.numpy_element(*dtype)?;
        let fortran = self.graph.text(*order).as_deref() == Some("F");
        self.array(&element, *shape, fortran, *data)
    }

    fn array(&mut self, element: &Element, shape: NodeId, fortran: bool, data: NodeId) -> Kinded<Made> {
        let (dtype, big_endian) = match element {
            Element::Number(dtype, big_endian) => (*dtype, *big_endian),
            Element::Object => {
                return Err(ErrorKind::Unsupported("an array of objects without a list of them"));
            }
            Element::Other(reason) => return Ok(Made::LeftOut { reason, bytes: 0 }),
        };
        let shape = self.ints(shape, 1)?;
        let place = self.data(data, 4)?;
        let spec =
            ViewSpec { family: Family::Numpy, strides: strides(&shape, fortran), shape, ..empty_spec(dtype) };
        let storage = self.embedded(place, big_endian);
        let tensor = self.tensor(storage, &spec)?;
        let expected = self.rebuilt.tensors.get(tensor.index()).map_or(0, |tensor| tensor.view.nbytes());
        let got = if let Place::Stored { span, .. } = place { span.len() } else { 0 };
        if got != expected {
            return Err(ErrorKind::DataLength { got, expected });
        }
        Ok(Made::Tensor(tensor, Vec::new()))
    }

    /// `numpy.dtype(code, align, copy)` with its state `(version, order, …)`.
    fn numpy_element(&self, id: NodeId) -> Kinded<Element> {
        let graph = self.graph;
        let expected = "a numpy element type";
        let call = graph.call(id).filter(|call| self.callable(call.callable) == Some(Callable::NumpyDtype));
        let call = call.ok_or_else(|| self.wrong(id, 2, expected))?;
        let code = self.args(call)?.first().ok_or(ErrorKind::ArgumentCount { found: 0, expected: "3" })?;
        let code = graph.text(*code).ok_or_else(|| self.wrong(*code, 0, expected))?;
        let state = only_state(call)?.and_then(|state| graph.tuple(state));
        let field = |i: usize| state.and_then(|state| state.get(i)).copied();
        let structured = field(3).is_some_and(|names| *graph.node(names) != Node::None);
        let subarray = field(2).is_some_and(|sub| *graph.node(sub) != Node::None);
        let (own_order, code) = match code.split_at_checked(1) {
            Some((order @ ("<" | ">" | "=" | "|"), rest)) => (order, rest.to_owned()),
            _ => ("=", code.into_owned()),
        };
        let stated = field(1).and_then(|order| graph.text(order));
        let big_endian = stated.as_deref().unwrap_or(own_order) == ">";
        if structured || subarray {
            return Ok(Element::Other("structured array"));
        }
        if let Some((_, dtype)) = CODES.iter().find(|(known, _)| *known == code) {
            return Ok(Element::Number(*dtype, big_endian));
        }
        Ok(match code.as_bytes().first() {
            Some(b'O') => Element::Object,
            Some(b'S' | b'a') => Element::Other("array of byte strings"),
            Some(b'U') => Element::Other("array of strings"),
            Some(b'M' | b'm') => Element::Other("array of dates"),
            Some(b'V') => Element::Other("array of raw records"),
            _ => return Err(ErrorKind::Unsupported("an array of this element type")),
        })
    }
}

/// Strides of an array without gaps, in elements; saturates where the shape is a lie, which the view then refuses.
fn strides(shape: &[i64], fortran: bool) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    let mut next = 1_i64;
    let mut fill = |(stride, size): (&mut i64, &i64)| {
        *stride = next;
        next = next.saturating_mul((*size).max(1));
    };
    if fortran {
        strides.iter_mut().zip(shape).for_each(&mut fill);
    } else {
        strides.iter_mut().zip(shape).rev().for_each(&mut fill);
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::strides;

    #[test]
    fn strides_of_both_orders() {
        assert_eq!(strides(&[2, 3, 4], false), [12, 4, 1]);
        assert_eq!(strides(&[2, 3, 4], true), [1, 2, 6]);
        assert_eq!(strides(&[], true), [0_i64; 0]);
    }
}
