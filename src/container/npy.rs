//! Numpy's file of one array.
//!
//! ```text
//! 93 'NUMPY'  major  minor  length of the header: u16, from version 2 on u32
//! header      a Python literal: {'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }, padded with spaces
//! data        the items, or a pickle where they are Python objects
//! ```
//!
//! Source: `numpy/lib/format.py`, which reads the header with `ast.literal_eval`; here it is parsed.

use crate::bytes::{Cursor, ReadAt, Span};
use crate::tensor::{Element, Scalar};

use super::error::{Error, ErrorKind};

/// The header of a numpy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Npy {
    /// What an item is.
    pub element: Element,
    /// Sizes.
    pub shape: Vec<i64>,
    /// Whether the first dimension is the fastest.
    pub fortran: bool,
    /// Where the data begins, from the start of the file.
    pub data: u64,
}

/// The longest header that is read. Numpy itself asks before it reads more than 10,000 bytes.
const LONGEST: u64 = 1 << 20;
/// Bytes of the magic, the version and the longer form of the length.
const FIXED: u64 = 12;

impl Npy {
    /// Bytes that hold the header of any file, if there are so many.
    pub const HEAD: u64 = FIXED + LONGEST;

    /// Reads the header.
    ///
    /// # Errors
    /// A header that is no literal of the three known keys; truncation.
    pub fn open(source: &dyn ReadAt, span: Span, entry: Option<&str>) -> Result<Self, Error> {
        let at = span.start();
        let fail = |kind: ErrorKind| Error::new(entry, at, kind);
        let mut cursor = Cursor::new(source, span);
        let head = cursor.array::<8>().map_err(|e| fail(e.kind.into()))?;
        let wrong = |got: String, expected| fail(ErrorKind::Record { got, expected });
        let length = match head {
            [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _] => {
                u64::from(u16::from_le_bytes(cursor.array().map_err(|e| fail(e.kind.into()))?))
            }
            [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _] => {
                u64::from(u32::from_le_bytes(cursor.array().map_err(|e| fail(e.kind.into()))?))
            }
            _ => return Err(wrong(head.escape_ascii().to_string(), "a numpy file of version 1 to 3")),
        };
        if length > LONGEST {
            return Err(wrong(format!("a header of {length} bytes"), "at most 1 MiB"));
        }
        let text = cursor.take(length).map_err(|e| fail(e.kind.into()))?.to_vec();
        // Versions 1 and 2 are Latin-1, version 3 is UTF-8; they differ in names of fields alone.
        let text = match String::from_utf8(text) {
            Ok(text) => text,
            Err(error) => error.as_bytes().iter().map(|b| char::from(*b)).collect(),
        };
        let data = cursor.position().0.saturating_sub(at);
        let header = header(&text);
        let (element, fortran, shape) = header.ok_or_else(|| {
            let got = text.chars().take(80).collect();
            wrong(got, "{'descr': …, 'fortran_order': …, 'shape': …}")
        })?;
        Ok(Self { element, shape, fortran, data })
    }

    /// Bytes of its data; `None` where they cannot be counted.
    pub fn data_len(&self) -> Option<u64> {
        self.shape.iter().try_fold(self.element.size, |n, d| n.checked_mul(u64::try_from(*d).ok()?))
    }
}

/// A Python literal.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Int(i64),
    Bool(bool),
    None,
    Items(Vec<Value>),
    Dict(Vec<Value>),
}

/// Levels of brackets in a header; an honest one has one for each record inside another.
const DEPTH: usize = 24;

fn header(text: &str) -> Option<(Element, bool, Vec<i64>)> {
    let Value::Dict(items) = literal(text)? else { return None };
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    for pair in items.chunks(2) {
        let [Value::Text(key), value] = pair else { return None };
        let slot = match key.as_str() {
            "descr" => &mut descr,
            "fortran_order" => &mut fortran,
            "shape" => &mut shape,
            _ => return None,
        };
        if slot.replace(value).is_some() {
            return None;
        }
    }
    let (Value::Bool(fortran), Value::Items(shape)) = (fortran?, shape?) else { return None };
    Some((element(descr?, 0)?, *fortran, ints(shape)?))
}

fn ints(items: &[Value]) -> Option<Vec<i64>> {
    items.iter().map(|item| if let Value::Int(n) = item { Some(*n) } else { None }).collect()
}

/// A code, a list of fields, or a pair of a type and a shape. Depth is bounded by [`DEPTH`].
fn element(value: &Value, depth: usize) -> Option<Element> {
    if depth > DEPTH {
        return None;
    }
    let deeper = depth.saturating_add(1);
    match value {
        Value::Text(code) => Some(Scalar::from_code(code)?.into()),
        Value::Items(items) => match items.as_slice() {
            [base @ (Value::Text(_) | Value::Items(_)), Value::Items(shape)]
                if ints(shape).is_some() && !shape.is_empty() =>
            {
                element(base, deeper)?.repeated(&sizes(shape)?)
            }
            fields => record(fields, deeper),
        },
        _ => None,
    }
}

fn sizes(shape: &[Value]) -> Option<Vec<u64>> {
    ints(shape)?.into_iter().map(|d| u64::try_from(d).ok()).collect()
}

/// `[(name, type), (name, type, shape), ((title, name), type), …]`, one behind the other; padding has no name.
fn record(fields: &[Value], depth: usize) -> Option<Element> {
    let mut parsed = Vec::with_capacity(fields.len().min(Element::MOST_PARTS));
    let mut size = 0_u64;
    for field in fields {
        let Value::Items(parts) = field else { return None };
        let (name, kind, shape) = match parts.as_slice() {
            [name, kind] => (name, kind, Vec::new()),
            [name, kind, Value::Items(shape)] => (name, kind, sizes(shape)?),
            [name, kind, Value::Int(n)] => (name, kind, vec![u64::try_from(*n).ok()?]),
            _ => return None,
        };
        let name = match name {
            Value::Text(name) => name,
            Value::Items(titled) => match titled.as_slice() {
                [_, Value::Text(name)] => name,
                _ => return None,
            },
            _ => return None,
        };
        let kind = element(kind, depth)?;
        let at = size;
        size = shape.iter().try_fold(kind.size, |n, d| n.checked_mul(*d))?.checked_add(size)?;
        parsed.push((name, at, shape, kind));
    }
    let mut record = Element::record(size);
    for (name, at, shape, kind) in parsed.into_iter().filter(|(name, ..)| !name.is_empty()) {
        record.add(name, at, &shape, &kind)?;
    }
    Some(record)
}

/// Parses a literal of strings, integers, booleans, `None`, tuples, lists and dictionaries, and nothing after it.
fn literal(text: &str) -> Option<Value> {
    let mut rest = text.trim_end_matches([' ', '\n', '\0']);
    let mut open: Vec<(char, Vec<Value>)> = Vec::new();
    let mut done: Option<Value> = None;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            return done.filter(|_| open.is_empty());
        };
        if done.is_some() {
            return None;
        }
        let value = match first {
            '(' | '[' | '{' => {
                rest = rest.get(1..)?;
                open.push((first, Vec::new()));
                if open.len() > DEPTH {
                    return None;
                }
                None
            }
            ')' | ']' | '}' => {
                rest = rest.get(1..)?;
                let (bracket, items) = open.pop()?;
                Some(match (bracket, first) {
                    ('(', ')') | ('[', ']') => Value::Items(items),
                    ('{', '}') if items.len().is_multiple_of(2) => Value::Dict(items),
                    _ => return None,
                })
            }
            ',' | ':' => {
                rest = rest.get(1..)?;
                None
            }
            _ => {
                let (value, after) = atom(rest)?;
                rest = after;
                Some(value)
            }
        };
        match (value, open.last_mut()) {
            (Some(value), Some((_, items))) => items.push(value),
            (Some(value), None) => done = Some(value),
            (None, _) => {}
        }
    }
}

fn atom(text: &str) -> Option<(Value, &str)> {
    for (word, value) in [("True", Value::Bool(true)), ("False", Value::Bool(false)), ("None", Value::None)] {
        if let Some(rest) = text.strip_prefix(word) {
            return Some((value, rest));
        }
    }
    // Python 2 marks text or bytes.
    let quoted = text.strip_prefix(['u', 'b']).unwrap_or(text);
    if let Some(quote) = quoted.chars().next().filter(|c| matches!(c, '\'' | '"')) {
        let body = quoted.get(1..)?;
        let end = body.find(quote)?;
        let inside = body.get(..end)?;
        // Escapes occur in names that no honest field has.
        let plain = !inside.contains('\\');
        return plain
            .then(|| (Value::Text(inside.to_owned()), body.get(end.saturating_add(1)..).unwrap_or("")));
    }
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '-')).unwrap_or(text.len());
    let number = text.get(..end)?.parse().ok()?;
    // Python 2 marks long integers.
    let rest = text.get(end..)?;
    Some((Value::Int(number), rest.strip_prefix('L').unwrap_or(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;

    fn open(header: &str) -> Result<Npy, Error> {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
        file.extend(header.as_bytes());
        let span = Span::between(0, file.size());
        Npy::open(&file, span, None)
    }

    #[test]
    fn headers_of_every_writer() {
        let plain = open("{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3), }   \n").unwrap();
        assert_eq!(plain.element.scalar(), Some(Scalar::Number(Dtype::F32, true)));
        assert_eq!((plain.fortran, plain.data), (true, 72));
        let old = open("{'descr': '<i8', 'fortran_order': False, 'shape': (10L,)}").unwrap();
        assert_eq!(old.shape, [10]);
        let table = "{'descr': [('a', '|i1'), ('', '|V3'), (('t', 'b'), '<f4', (2,)), ('c', [('d', '<f8')])], \
                     'fortran_order': False, 'shape': ()}";
        let table = open(table).unwrap();
        let parts: Vec<_> = table.element.parts.iter().map(|p| (&*p.name, p.offset)).collect();
        assert_eq!(parts, [("a", 0), ("b", 4), ("c.d", 12)]);
        assert_eq!(table.element.size, 20);
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for wrong in [
            "",
            "{}",
            "__import__('os')",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (2,)} + 1",
            "{'descr': '<f8', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
            "{'descr': eval('x'), 'fortran_order': False, 'shape': (2,)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), 'x': 1}",
            &deep[..60_000],
        ] {
            let error = open(wrong).unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Record { .. }), "{wrong:.40}");
        }
    }
}
