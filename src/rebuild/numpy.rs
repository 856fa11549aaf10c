//! Arrays of numpy, as they stand in pickles of every version.
//!
//! `_reconstruct(ndarray, (0,), b"b")` makes an empty array, and `BUILD` with `(1, shape, dtype, fortran, data)` fills
//! it. The element type is a `numpy.dtype(code, …)` whose byte order arrives in a `BUILD` of its own. Protocol 5 has
//! `_frombuffer(data, dtype, shape, order)` instead. Subclasses (matrix, recarray) have the same state; masked arrays
//! add the mask and a fill value. Others hand the parts of the first form to a function: jax, dill. Source:
//! `numpy/_core/src/multiarray/methods.c` and `descriptor.c`.

use crate::pickle::{Call, Node, NodeId};
use crate::tensor::{Dtype, Element, Scalar, ViewSpec};

use super::allow::Callable;
use super::array::{Array, embedded};
use super::builder::{Builder, Kinded};
use super::error::ErrorKind;
use super::torch::{Made, NESTING, empty_spec, only_state, unchanged};

/// `numpy.dtypes` classes that are called without arguments, and their codes.
const CLASSES: &[(&str, &str)] = &[
    ("Float64DType", "f8"),
    ("Float32DType", "f4"),
    ("Float16DType", "f2"),
    ("LongDoubleDType", "f16"),
    ("Complex64DType", "c8"),
    ("Complex128DType", "c16"),
    ("Int8DType", "i1"),
    ("Int16DType", "i2"),
    ("Int32DType", "i4"),
    ("Int64DType", "i8"),
    ("UInt8DType", "u1"),
    ("UInt16DType", "u2"),
    ("UInt32DType", "u4"),
    ("UInt64DType", "u8"),
    ("BoolDType", "b1"),
    ("ObjectDType", "O8"),
    ("StringDType", "T16"),
    ("_convert_to_stringdtype_kwargs", "T16"),
];

/// Records inside records, and arrays inside them: numpy itself stops far earlier.
const DEPTH: usize = 16;

const STATE: &str = "(version, shape, dtype, fortran, data)";

impl<'a> Builder<'a> {
    /// What a callable of numpy, or of a library that pickles its arrays, made.
    pub(super) fn numpy(
        &mut self,
        callable: Callable,
        call: &'a Call,
        args: &'a [NodeId],
        depth: usize,
    ) -> Option<Kinded<Made>> {
        match callable {
            Callable::NdArray => self.ndarray(call),
            Callable::FromBuffer => Some(self.frombuffer(args).and_then(|made| unchanged(call, made))),
            Callable::MaskedArray => Some(self.masked(call, depth)),
            Callable::RebuiltArray => self.rebuilt_array(args),
            Callable::JoblibArray => self.joblib_array(call, depth),
            Callable::JoblibFile => Some(self.joblib_file(call)),
            Callable::Sequence => self.named_pair(call, args, depth),
            _ => None,
        }
    }

    /// An array made by `_reconstruct`; `None` for one of objects, which is walked as a sequence.
    fn ndarray(&mut self, call: &'a Call) -> Option<Kinded<Made>> {
        match only_state(call) {
            Ok(Some(state)) => self.with_state(state),
            Err(kind) => Some(Err(kind)),
            Ok(None) => Some(Err(ErrorKind::Argument { position: 0, found: "no state", expected: STATE })),
        }
    }

    /// An array of this state.
    fn with_state(&mut self, state: NodeId) -> Option<Kinded<Made>> {
        let graph = self.graph;
        let Some([_version, shape, dtype, fortran, data]) = graph.tuple(state) else {
            return Some(Err(self.wrong(state, 0, STATE)));
        };
        let element = match self.numpy_element(*dtype, 0) {
            Ok(element) if element.has_objects() && graph.sequence(*data).is_some() => return None,
            Ok(element) => element,
            Err(kind) => return Some(Err(kind)),
        };
        let fortran = graph.int(*fortran).is_some_and(|flag| flag != 0);
        Some(self.embedded_array(element, *shape, fortran, *data))
    }

    /// The items of an array of objects.
    pub(super) fn object_array(&self, call: &'a Call) -> Option<&'a [NodeId]> {
        let graph = self.graph;
        let state = match self.callable(call.callable)? {
            Callable::JoblibArray => graph.call(call.nested()?)?.states().next()?,
            Callable::RebuiltArray => *graph.tuple(call.args)?.get(2)?,
            _ => call.states().next()?,
        };
        graph.sequence(*graph.tuple(state)?.get(4)?)
    }

    /// `_frombuffer(data, dtype, shape, order[, axes])`; the order `K` stands for an array in C order whose dimensions
    /// are then put in the order of `axes`.
    fn frombuffer(&mut self, args: &'a [NodeId]) -> Kinded<Made> {
        let graph = self.graph;
        let (base, axes) = match args {
            [data, dtype, shape, order] => ([*data, *dtype, *shape, *order], None),
            [data, dtype, shape, order, axes] => {
                ([*data, *dtype, *shape, *order], (*graph.node(*axes) != Node::None).then_some(*axes))
            }
            _ => return Err(ErrorKind::ArgumentCount { found: args.len(), expected: "4 or 5" }),
        };
        let [data, dtype, shape, order] = base;
        let element = self.numpy_element(dtype, 0)?;
        let order = graph.text(order).ok_or_else(|| self.wrong(order, 3, "an order"))?;
        match (&*order, axes) {
            ("C", _) => self.embedded_array(element, shape, false, data),
            ("F", _) => self.embedded_array(element, shape, true, data),
            ("K", Some(axes)) => {
                let made = self.embedded_array(element, shape, false, data)?;
                let axes = self.ints(axes, 4)?;
                self.permuted(made, &axes)
            }
            _ => Err(ErrorKind::Unsupported("an array of this order")),
        }
    }

    /// The array with its dimensions in another order; those of a field's own stay behind them.
    fn permuted(&mut self, made: Made, axes: &[i64]) -> Kinded<Made> {
        let wrong = || ErrorKind::Part { part: "axes", rule: "each dimension once expected" };
        match made {
            Made::Tensor(tensor, attributes) => {
                let view = self.view(tensor)?;
                let signed = |n: &u64| i64::try_from(*n).unwrap_or(i64::MAX);
                let mut order = Vec::with_capacity(view.rank());
                for axis in axes.iter().copied().chain(
                    signed(&crate::bytes::length(axes.len()))..signed(&crate::bytes::length(view.rank())),
                ) {
                    let place = usize::try_from(axis)
                        .ok()
                        .filter(|place| *place < view.rank() && !order.contains(place));
                    order.push(place.ok_or_else(wrong)?);
                }
                if order.len() != view.rank() {
                    return Err(wrong());
                }
                let pick = |of: &[u64]| order.iter().filter_map(|axis| of.get(*axis).map(signed)).collect();
                let spec = ViewSpec {
                    family: view.family(),
                    offset: signed(&view.offset()),
                    shape: pick(view.shape()),
                    strides: pick(view.strides()),
                    ..empty_spec(view.dtype())
                };
                Ok(Made::Tensor(self.tensor(view.storage(), &spec)?, attributes))
            }
            Made::Fields(fields) => {
                let permuted = |(name, made)| Ok((name, self.permuted(made, axes)?));
                Ok(Made::Fields(fields.into_iter().map(permuted).collect::<Kinded<_>>()?))
            }
            other => Ok(other),
        }
    }

    /// `_mareconstruct(…)` and a state of seven: an array's, the mask, and a fill value.
    fn masked(&mut self, call: &'a Call, depth: usize) -> Kinded<Made> {
        let state = only_state(call)?.and_then(|state| self.graph.tuple(state));
        let Some([_version, shape, dtype, fortran, data, mask, fill]) = state else {
            let expected = "(version, shape, dtype, fortran, data, mask, fill value)";
            return Err(ErrorKind::Argument { position: 0, found: "another state", expected });
        };
        let element = self.numpy_element(*dtype, 0)?;
        if element.has_objects() {
            return Ok(Made::LeftOut { reason: "masked array of objects", bytes: 0 });
        }
        let fortran = self.graph.int(*fortran).is_some_and(|flag| flag != 0);
        let booleans = mask_of(&element).ok_or(ErrorKind::Unsupported("a mask of such records"))?;
        let data = self.embedded_array(element, *shape, fortran, *data)?;
        let mask = self.embedded_array(booleans, *shape, fortran, *mask)?;
        let mut parts = vec![("data".into(), data), ("mask".into(), mask)];
        // An array without dimensions, where one was set.
        if depth < NESTING
            && let Some(fill) = self.make_nested(*fill, depth.saturating_add(1))
        {
            parts.push(("fill_value".into(), fill?));
        }
        Ok(Made::Fields(parts))
    }

    /// `(function, its arguments, state, …)`
    fn rebuilt_array(&mut self, args: &'a [NodeId]) -> Option<Kinded<Made>> {
        let graph = self.graph;
        let [function, inner, state, ..] = args else {
            return Some(Err(ErrorKind::ArgumentCount { found: args.len(), expected: "3 or 4" }));
        };
        match self.callable(*function) {
            Some(Callable::NdArray) => self.with_state(*state),
            Some(Callable::FromBuffer) => match graph.tuple(*inner) {
                Some(inner) => Some(self.frombuffer(inner)),
                None => Some(Err(self.wrong(*inner, 1, "a tuple of arguments"))),
            },
            _ => Some(Err(self.wrong(*function, 0, "a rebuilding function of numpy"))),
        }
    }

    /// Whether an object is an array of numpy whose data is in the pickle, or among its opcodes.
    pub(super) fn is_embedded_array(&self, id: NodeId) -> bool {
        let array = |callable| {
            matches!(
                callable,
                Callable::NdArray | Callable::FromBuffer | Callable::JoblibArray | Callable::MaskedArray
            )
        };
        self.graph.call(id).and_then(|call| self.callable(call.callable)).is_some_and(array)
    }

    /// An array whose data is part of the pickle and has exactly the bytes that its shape asks for.
    fn embedded_array(
        &mut self,
        element: Element,
        shape: NodeId,
        fortran: bool,
        data: NodeId,
    ) -> Kinded<Made> {
        let shape = self.ints(shape, 1)?;
        // A list of strings, for types whose values have no fixed size.
        if self.graph.sequence(data).is_some()
            && let Some(Scalar::Other(reason, _)) = element.scalar()
        {
            return Ok(Made::LeftOut { reason, bytes: 0 });
        }
        let storage = embedded(self.data(data, 4)?);
        let expected = super::array::count(&shape)?.saturating_mul(element.size);
        if storage.len != expected {
            return Err(ErrorKind::DataLength { got: storage.len, expected });
        }
        self.add_array(&Array { element, shape, fortran, storage, start: 0 })
    }

    /// `numpy.dtype(code, align, copy)` with its state `(version, order, subarray, names, fields, size, …)`.
    pub(super) fn numpy_element(&self, id: NodeId, depth: usize) -> Kinded<Element> {
        let graph = self.graph;
        let expected = "a numpy element type";
        let call = graph.call(id).ok_or_else(|| self.wrong(id, 2, expected))?;
        match self.callable(call.callable) {
            Some(Callable::NumpyDtype) => {}
            Some(Callable::NumpyDtypeClass) => {
                let (_, name) = self.global_name(call.callable).unwrap_or_default();
                let code = CLASSES.iter().find(|(class, _)| *class == name).map(|(_, code)| *code);
                let scalar = code.and_then(Scalar::from_code);
                return Ok(scalar.unwrap_or(Scalar::Other("array of this element type", 0)).into());
            }
            _ => return Err(self.wrong(id, 2, expected)),
        }
        let code = *self.args(call)?.first().ok_or(ErrorKind::ArgumentCount { found: 0, expected: "3" })?;
        let state = only_state(call)?.and_then(|state| graph.tuple(state)).unwrap_or_default();
        let field = |i: usize| state.get(i).copied().filter(|id| *graph.node(*id) != Node::None);
        if depth >= DEPTH {
            return Err(ErrorKind::Unsupported("an element type nested in so many others"));
        }
        let deeper = depth.saturating_add(1);
        if let (Some(_), Some(fields)) = (field(3), field(4)) {
            return self.record(&[field(3), Some(fields), field(5)], code, deeper);
        }
        if let Some(sub) = field(2) {
            let parts = graph.tuple(sub).ok_or_else(|| self.wrong(sub, 2, "(dtype, shape)"))?;
            let [base, shape] = parts else { return Err(self.wrong(sub, 2, "(dtype, shape)")) };
            let shape = self.dims(*shape)?;
            let base = self.numpy_element(*base, deeper)?;
            return base.repeated(&shape).ok_or(ErrorKind::Unsupported("an element type of this size"));
        }
        let mut scalar = self.scalar_code(code)?;
        if let Some(order) = field(1).and_then(|order| graph.text(order)) {
            scalar = scalar.big_endian(&*order == ">");
        }
        if self.context.paddle_bf16
            && let Scalar::Number(Dtype::U16, big) = scalar
        {
            scalar = Scalar::Number(Dtype::Bf16, big);
        }
        // Sizes of strings and raw bytes stand in the state too; the code is what counts.
        Ok(scalar.into())
    }

    /// A code, or a class that stands for one.
    fn scalar_code(&self, code: NodeId) -> Kinded<Scalar> {
        let unknown = ErrorKind::Unsupported("an array of this element type");
        if let Some((module, name)) = self.global_name(code) {
            return match module.split('.').next().unwrap_or(module) {
                "ml_dtypes" | "jax" | "jaxlib" | "tensorflow" => Scalar::ml_dtype(name).ok_or(unknown),
                "numpy" if matches!(name, "record" | "void") => {
                    Ok(Scalar::Other("array of raw bytes without a type", 0))
                }
                _ => Err(self.wrong(code, 0, "the code of an element type")),
            };
        }
        let text = self.graph.text(code);
        let text = text.ok_or_else(|| self.wrong(code, 0, "the code of an element type"))?;
        Scalar::from_code(&text).or_else(|| Scalar::ml_dtype(&text)).ok_or(unknown)
    }

    /// Names in order, `{name: (dtype, offset[, title])}`, and the size of an item.
    fn record(
        &self,
        [names, fields, size]: &[Option<NodeId>; 3],
        code: NodeId,
        depth: usize,
    ) -> Kinded<Element> {
        let graph = self.graph;
        let bad = || ErrorKind::Unsupported("a record whose fields do not fit it");
        let names = names.and_then(|names| graph.sequence(names)).ok_or_else(bad)?;
        let fields = fields.and_then(|fields| self.mapping(fields)).ok_or_else(bad)?;
        let stated = size.and_then(|size| graph.int(size)).and_then(|size| u64::try_from(size).ok());
        let own = graph.text(code).and_then(|code| code.get(1..)?.parse::<u64>().ok());
        let mut element = Element::record(stated.or(own).ok_or_else(bad)?);
        if names.len() > Element::MOST_PARTS {
            return Err(bad());
        }
        for name in names {
            let name = graph.text(*name).ok_or_else(bad)?;
            let value = fields.iter().find(|(key, _)| graph.text(*key).as_deref() == Some(&*name));
            let value = value.and_then(|(_, value)| graph.tuple(*value)).ok_or_else(bad)?;
            let [dtype, offset, ..] = value else { return Err(bad()) };
            let offset = graph.int(*offset).and_then(|n| u64::try_from(n).ok()).ok_or_else(bad)?;
            let field = self.numpy_element(*dtype, depth)?;
            element.add(&name, offset, &[], &field).ok_or_else(bad)?;
        }
        Ok(element)
    }

    fn dims(&self, shape: NodeId) -> Kinded<Vec<u64>> {
        let dims = match self.graph.int(shape) {
            Some(n) => vec![n],
            None => self.ints(shape, 1)?,
        };
        let dims: Option<Vec<u64>> = dims.into_iter().map(|d| u64::try_from(d).ok()).collect();
        dims.ok_or(ErrorKind::Unsupported("an element type of this shape"))
    }
}

/// What numpy makes of an element type for its mask: a boolean for each field.
fn mask_of(element: &Element) -> Option<Element> {
    let boolean = Element::from(Scalar::Number(Dtype::Bool, false));
    if element.scalar().is_some() {
        return Some(boolean);
    }
    let mut mask = Element::record(0);
    for part in &element.parts {
        let at = mask.size;
        let count = part.shape.iter().try_fold(1_u64, |n, d| n.checked_mul(*d))?;
        mask.size = mask.size.checked_add(count)?;
        mask.add(&part.name, at, &part.shape, &boolean)?;
    }
    Some(mask)
}
