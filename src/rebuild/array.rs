//! Arrays whose bytes lie somewhere as a run: in a pickle, right behind an opcode, in a file of their own.

use std::sync::Arc;

use crate::bytes::Span;
use crate::limits::Limits;
use crate::pickle::Graph;
use crate::tensor;
use crate::tensor::{
    Element, EntryId, Family, Kind, Leaf, Part, Place, Scalar, Step, Storage, StreamId, Streams, Tree,
    ViewSpec,
};

use super::builder::{Builder, Context, Kinded, Rebuilt};
use super::error::ErrorKind;
use super::torch::{Made, empty_spec};

/// An array as its file describes it, not yet proven.
#[derive(Debug, Clone)]
pub struct Array {
    /// What an item is.
    pub element: Element,
    /// Sizes.
    pub shape: Vec<i64>,
    /// Whether the first dimension is the fastest.
    pub fortran: bool,
    /// The run of bytes that holds the data.
    pub storage: Storage,
    /// Where in it the data begins, in bytes. What follows the data is not the array's.
    pub start: u64,
}

/// Adds an array that stands alone, at a place of its own.
///
/// # Errors
/// Data that is shorter than the shape says; limits.
pub fn array(
    array: &Array,
    (parent, step): (Option<EntryId>, Step),
    rebuilt: Rebuilt,
    limits: &Limits,
    streams: &mut Streams,
) -> Result<Rebuilt, ErrorKind> {
    let graph = Graph::default();
    let context = Context::new(StreamId::SOURCE, limits);
    let mut builder = Builder::new(&graph, context, streams);
    builder.rebuilt = rebuilt;
    let made = builder.add_array(array)?;
    place(&mut builder.rebuilt.tree, parent, step, made);
    Ok(builder.finish())
}

/// Gives what was made its place in the tree.
pub(super) fn place(tree: &mut Tree, parent: Option<EntryId>, step: Step, made: Made) {
    let mut stack = vec![(parent, step, made)];
    while let Some((parent, step, made)) = stack.pop() {
        match made {
            Made::Tensor(tensor, _) => _ = tree.push(parent, step, Kind::Leaf(Leaf::Tensor(tensor))),
            // Fields of an array are plain tensors.
            Made::Parts(_) | Made::Shell(_) => {}
            Made::LeftOut { reason, bytes } => {
                tree.push(parent, step, Kind::Leaf(Leaf::LeftOut { reason: reason.into(), bytes }));
            }
            Made::Fields(parts) => {
                let entry = tree.push(parent, step, Kind::Mapping);
                let parts = parts.into_iter().rev();
                stack.extend(parts.map(|(name, made)| (Some(entry), Step::Key(name), made)));
            }
        }
    }
}

impl Builder<'_> {
    /// One tensor, or one for each field.
    pub(super) fn add_array(&mut self, array: &Array) -> Kinded<Made> {
        let count = count(&array.shape)?;
        let wanted = count.checked_mul(array.element.size).and_then(|n| n.checked_add(array.start));
        let got = array.storage.len;
        let wanted = wanted.filter(|wanted| *wanted <= got);
        if wanted.is_none() {
            let expected = count.saturating_mul(array.element.size);
            return Err(ErrorKind::DataLength { got: got.saturating_sub(array.start), expected });
        }
        match array.element.parts.as_slice() {
            [part] if part.name.is_empty() => self.add_part(array, part, count),
            parts => {
                let mut made = Vec::with_capacity(parts.len());
                for part in parts {
                    made.push((part.name.clone(), self.add_part(array, part, count)?));
                }
                Ok(Made::Fields(made))
            }
        }
    }

    fn add_part(&mut self, array: &Array, part: &Part, count: u64) -> Kinded<Made> {
        let inner = part.shape.iter().fold(1_u64, |n, d| n.saturating_mul(*d));
        let item = part.scalar.size().saturating_mul(inner);
        let bytes = count.saturating_mul(item);
        let (dtype, big_endian) = match part.scalar {
            Scalar::Number(dtype, big_endian) => (dtype, big_endian),
            Scalar::Object => return Ok(Made::LeftOut { reason: "array of objects", bytes: 0 }),
            Scalar::Other(reason, _) => return Ok(Made::LeftOut { reason, bytes }),
        };
        let own: Vec<i64> = part.shape.iter().map(|d| i64::try_from(*d).unwrap_or(i64::MAX)).collect();
        // Without items the fields have no place.
        let start = if count == 0 { array.start } else { array.start.saturating_add(part.offset) };
        let size = dtype.size();
        let aligned = |n: u64| n.checked_rem(size) == Some(0);
        let whole = part.name.is_empty() && aligned(start);
        let (storage, offset, record) = match array.storage.place {
            _ if whole => (Storage { big_endian, ..array.storage.clone() }, start, array.element.size),
            Place::Stored { stream, span } if aligned(array.element.size) || count <= 1 => {
                let end = array.start.saturating_add(count.saturating_mul(array.element.size));
                let span = span
                    .sub(start, end.saturating_sub(start))
                    .ok_or(ErrorKind::Unsupported("a field outside its record"))?;
                let place = Place::Stored { stream, span };
                let storage =
                    Storage { place, len: span.len(), big_endian, crc32: None, ..array.storage.clone() };
                (storage, 0, array.element.size)
            }
            Place::Stored { stream, span } => {
                let place = self.strided(stream, span, (start, array.element.size, item, count))?;
                let storage = Storage { place, len: bytes, big_endian, crc32: None, ..array.storage.clone() };
                (storage, 0, item)
            }
            Place::Deflated { .. } => return Err(ErrorKind::Unsupported("a field of a compressed table")),
        };
        let unit = i64::try_from(record.checked_div(size).unwrap_or(1)).unwrap_or(i64::MAX);
        let mut outer = strides(&array.shape, array.fortran);
        for stride in &mut outer {
            *stride = stride.saturating_mul(unit);
        }
        outer.extend(strides(&own, false));
        let spec = ViewSpec {
            family: Family::Numpy,
            offset: i64::try_from(offset.checked_div(size).unwrap_or(0)).unwrap_or(i64::MAX),
            shape: array.shape.iter().copied().chain(own).collect(),
            strides: outer,
            ..empty_spec(dtype)
        };
        let storage = self.add_storage(storage);
        Ok(Made::Tensor(self.tensor(storage, &spec)?, Vec::new()))
    }

    /// A field that lies at odd places: gathered when it is read, or at once where the data is in memory.
    fn strided(&mut self, stream: StreamId, span: Span, layout: (u64, u64, u64, u64)) -> Kinded<Place> {
        let (start, record, item, count) = layout;
        let outside = ErrorKind::Unsupported("a field outside its record");
        let Some(source) = self.shared(stream) else {
            return self.gather_kept(span, layout).ok_or(outside);
        };
        let strided =
            crate::bytes::Strided::new(source, span.start().saturating_add(start), record, item, count);
        let strided = strided.ok_or(outside)?;
        let len = crate::bytes::ReadAt::size(&strided);
        let stream = self.push_stream(Arc::new(strided));
        Ok(Place::Stored { stream, span: Span::between(0, len) })
    }
}

/// Number of items. No honest product of sizes overflows, not even beside a zero.
pub(super) fn count(shape: &[i64]) -> Kinded<u64> {
    let wrong = |kind| ErrorKind::Tensor(tensor::Error { storage: "".into(), kind });
    let mut count = 1_u64;
    for &value in shape {
        let size = u64::try_from(value);
        let size = size.map_err(|_| wrong(tensor::ErrorKind::Negative { what: "size", value }))?;
        let next = count.checked_mul(size);
        count = next.ok_or_else(|| wrong(tensor::ErrorKind::TooLarge(sizes(shape))))?;
    }
    Ok(count)
}

fn sizes(shape: &[i64]) -> Box<[u64]> {
    shape.iter().map(|size| u64::try_from(*size).unwrap_or(0)).collect()
}

/// Strides of an array without gaps, in elements; saturates where the shape is a lie, which the view then refuses.
pub(super) fn strides(shape: &[i64], fortran: bool) -> Vec<i64> {
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

/// Bytes of the data that a shape asks for; `None` where they cannot be counted.
pub(super) fn data_len(shape: &[i64], element: &Element) -> Option<u64> {
    count(shape).ok()?.checked_mul(element.size)
}

/// A storage of embedded data.
pub(super) fn embedded(place: Place) -> Storage {
    let len = if let Place::Stored { span, .. } = place { span.len() } else { 0 };
    Storage { key: "".into(), entry: None, place, len, big_endian: false, crc32: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::ReadAt;
    use crate::tensor::{Dtype, Scratch, read_into};

    #[test]
    fn strides_of_both_orders() {
        assert_eq!(strides(&[2, 3, 4], false), [12, 4, 1]);
        assert_eq!(strides(&[2, 3, 4], true), [1, 2, 6]);
        assert_eq!(strides(&[], true), [0_i64; 0]);
    }

    /// Two records of a byte and a big-endian u16, packed.
    fn packed(len: u64) -> Result<(Rebuilt, Streams), ErrorKind> {
        let bytes: Arc<dyn ReadAt> = Arc::new(vec![9_u8, 1, 0, 2, 3, 0, 4]);
        let mut streams = Streams::new(bytes);
        let mut element = Element::record(3);
        element.add("a", 0, &[], &Scalar::Number(Dtype::U8, false).into()).unwrap();
        element.add("b", 1, &[], &Scalar::Number(Dtype::U16, true).into()).unwrap();
        let place = Place::Stored { stream: StreamId::SOURCE, span: Span::between(0, len) };
        let table = Array { element, shape: vec![2], fortran: false, storage: embedded(place), start: 1 };
        let rebuilt =
            array(&table, (None, Step::Root), Rebuilt::default(), &Limits::default(), &mut streams)?;
        Ok((rebuilt, streams))
    }

    #[test]
    fn fields_at_odd_places_are_gathered() {
        let (rebuilt, streams) = packed(7).unwrap();
        let bytes = |i: usize| {
            let view = &rebuilt.tensors[i].view;
            let mut out = vec![0; usize::try_from(view.nbytes()).unwrap()];
            let storage = &rebuilt.storages[view.storage().index()];
            read_into(&streams, storage, view, &mut Scratch::new(1 << 16), &mut out).unwrap();
            out
        };
        assert_eq!(bytes(0), [1, 3]);
        assert_eq!(bytes(1), [2, 0, 4, 0]);
        let names: Vec<_> = rebuilt.tree.iter().map(|(id, _)| rebuilt.tree.path(id).join(".")).collect();
        assert_eq!(names, ["", "a", "b"]);
    }

    #[test]
    fn data_shorter_than_its_shape_is_refused() {
        assert!(matches!(packed(6), Err(ErrorKind::DataLength { got: 5, expected: 6 })));
    }
}
