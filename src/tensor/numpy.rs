//! Element types as numpy spells them: `<f8`, `|b1`, records of named fields.
//!
//! An [`Element`] is what one item of an array takes in bytes, cut into parts that safetensors could hold. A plain
//! number has one part without a name; a record has one for each field, those of records inside it flattened into
//! `outer.inner`. Source: `numpy/_core/src/multiarray/descriptor.c` and `numpy/lib/format.py`.

use super::dtype::Dtype;

/// One item of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Bytes from one item to the next.
    pub size: u64,
    /// What is in them.
    pub parts: Vec<Part>,
}

/// A part of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Name of the field; empty where the item is no record.
    pub name: Box<str>,
    /// Where it begins in the item, in bytes.
    pub offset: u64,
    /// Dimensions of its own, after those of the array.
    pub shape: Vec<u64>,
    /// What its values are.
    pub scalar: Scalar,
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// A number that safetensors can hold, and whether it is big-endian.
    Number(Dtype, bool),
    /// A Python object.
    Object,
    /// What safetensors has no type for: what it is, and its bytes.
    Other(&'static str, u64),
}

/// Kind and size as numpy writes them, and what they are.
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
    ("?", Dtype::Bool),
    ("c8", Dtype::C64),
    ("c16", Dtype::C128),
];

/// What a kind is that has no row in [`CODES`], with the bytes of one unit of its size.
const KINDS: &[(u8, &str, u64)] = &[
    (b'f', "array of longdouble, which has another layout on every machine", 1),
    (b'c', "array of longdouble, which has another layout on every machine", 1),
    (b'S', "array of byte strings", 1),
    (b'a', "array of byte strings", 1),
    (b'U', "array of strings", 4),
    (b'M', "array of dates", 1),
    (b'm', "array of durations", 1),
    (b'V', "array of raw bytes without a type", 1),
    (b'T', "array of strings of any length", 1),
];

/// Types of the package `ml_dtypes`, and names that those before it used.
const ML_DTYPES: &[(&str, Scalar)] = &[
    ("bfloat16", Scalar::Number(Dtype::Bf16, false)),
    ("float8_e4m3fn", Scalar::Number(Dtype::F8E4M3, false)),
    ("float8_e4m3fnuz", Scalar::Number(Dtype::F8E4M3Fnuz, false)),
    ("float8_e5m2", Scalar::Number(Dtype::F8E5M2, false)),
    ("float8_e5m2fnuz", Scalar::Number(Dtype::F8E5M2Fnuz, false)),
    ("float8_e8m0fnu", Scalar::Number(Dtype::F8E8M0, false)),
    ("float8_e4m3", Scalar::Other("array of 8-bit floats that safetensors has no type for", 1)),
    ("float8_e4m3b11", Scalar::Other("array of 8-bit floats that safetensors has no type for", 1)),
    ("float8_e4m3b11fnuz", Scalar::Other("array of 8-bit floats that safetensors has no type for", 1)),
    ("float8_e3m4", Scalar::Other("array of 8-bit floats that safetensors has no type for", 1)),
    ("float6_e2m3fn", Scalar::Other("array of 6-bit floats", 1)),
    ("float6_e3m2fn", Scalar::Other("array of 6-bit floats", 1)),
    ("float4_e2m1fn", Scalar::Other("array of unpacked 4-bit floats", 1)),
    ("int4", Scalar::Other("array of 4-bit integers", 1)),
    ("uint4", Scalar::Other("array of 4-bit integers", 1)),
    ("int2", Scalar::Other("array of 2-bit integers", 1)),
    ("uint2", Scalar::Other("array of 2-bit integers", 1)),
];

impl Scalar {
    /// Bytes of one value. An object takes what a pointer takes; there is no data of it in a file.
    pub fn size(self) -> u64 {
        match self {
            Self::Number(dtype, _) => dtype.size(),
            Self::Object => 8,
            Self::Other(_, size) => size,
        }
    }

    /// A type of `ml_dtypes` by its name.
    pub fn ml_dtype(name: &str) -> Option<Self> {
        ML_DTYPES.iter().find(|(known, _)| *known == name).map(|(_, scalar)| *scalar)
    }

    /// The same in the other byte order, where it has one.
    #[must_use]
    pub fn big_endian(self, big: bool) -> Self {
        match self {
            Self::Number(dtype, _) => Self::Number(dtype, big),
            other => other,
        }
    }

    /// A code such as `<f8`, with or without its order. `None` where numpy has no such type.
    pub fn from_code(code: &str) -> Option<Self> {
        let (order, code) = match code.split_at_checked(1) {
            Some((order @ ("<" | ">" | "=" | "|"), rest)) => (order, rest),
            _ => ("=", code),
        };
        if let Some((_, dtype)) = CODES.iter().find(|(known, _)| *known == code) {
            return Some(Self::Number(*dtype, order == ">"));
        }
        let (kind, size) = code.split_at_checked(1)?;
        let kind = *kind.as_bytes().first()?;
        // Dates carry a unit: `M8[ns]`.
        let size = size.split('[').next().unwrap_or_default();
        let size = if size.is_empty() { Some(0) } else { size.parse::<u64>().ok() };
        if kind == b'O' {
            return size.map(|_| Self::Object);
        }
        let (_, what, unit) = KINDS.iter().find(|(known, _, _)| *known == kind)?;
        Some(Self::Other(what, size?.checked_mul(*unit)?))
    }
}

impl From<Scalar> for Element {
    fn from(scalar: Scalar) -> Self {
        let part = Part { name: "".into(), offset: 0, shape: Vec::new(), scalar };
        Self { size: scalar.size(), parts: vec![part] }
    }
}

impl Element {
    /// Fields that a record may have, those of records inside it counted too. Ten times what any honest one has.
    pub const MOST_PARTS: usize = 10_000;

    /// A record of fields, which are joined by [`Element::add`].
    pub fn record(size: u64) -> Self {
        Self { size, parts: Vec::new() }
    }

    /// Adds a field. `None` where it leaves the record, or where there are too many.
    pub fn add(&mut self, name: &str, offset: u64, shape: &[u64], field: &Self) -> Option<()> {
        let count = shape.iter().try_fold(1_u64, |n, d| n.checked_mul(*d))?;
        let end = field.size.checked_mul(count)?.checked_add(offset)?;
        let parts = self.parts.len().checked_add(field.parts.len())?;
        if end > self.size || parts > Self::MOST_PARTS {
            return None;
        }
        // Records repeated inside an item would need strides that no part has.
        let repeated =
            count != 1 && (field.parts.len() != 1 || field.parts.iter().any(|p| !p.name.is_empty()));
        if repeated {
            let scalar = Scalar::Other("array of records inside a record", field.size.checked_mul(count)?);
            self.parts.push(Part { name: name.into(), offset, shape: Vec::new(), scalar });
            return Some(());
        }
        for part in &field.parts {
            let name =
                if part.name.is_empty() { name.into() } else { format!("{name}.{}", part.name).into() };
            let shape = shape.iter().chain(&part.shape).copied().collect();
            self.parts.push(Part {
                name,
                offset: offset.checked_add(part.offset)?,
                shape,
                scalar: part.scalar,
            });
        }
        Some(())
    }

    /// The element of an array whose type has dimensions of its own.
    pub fn repeated(&self, shape: &[u64]) -> Option<Self> {
        let count = shape.iter().try_fold(1_u64, |n, d| n.checked_mul(*d))?;
        let mut element = Self::record(self.size.checked_mul(count)?);
        element.add("", 0, shape, self)?;
        Some(element)
    }

    /// Whether it holds Python objects, which are pickled and have no bytes of their own.
    pub fn has_objects(&self) -> bool {
        self.parts.iter().any(|part| part.scalar == Scalar::Object)
    }

    /// Whether it is one value without a name.
    pub fn scalar(&self) -> Option<Scalar> {
        match self.parts.as_slice() {
            [part] if part.name.is_empty() && part.shape.is_empty() => Some(part.scalar),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_every_kind() {
        assert_eq!(Scalar::from_code("<f8"), Some(Scalar::Number(Dtype::F64, false)));
        assert_eq!(Scalar::from_code(">i2"), Some(Scalar::Number(Dtype::I16, true)));
        assert_eq!(Scalar::from_code("|O"), Some(Scalar::Object));
        assert_eq!(Scalar::from_code("<U3").map(Scalar::size), Some(12));
        assert_eq!(Scalar::from_code("<M8[ns]").map(Scalar::size), Some(8));
        assert_eq!(Scalar::from_code("<f16").map(Scalar::size), Some(16));
        for wrong in ["", "f", "<q4", "f-4", "U99999999999999999999", "é"] {
            assert!(!matches!(Scalar::from_code(wrong), Some(Scalar::Number(..))), "{wrong}");
        }
    }

    #[test]
    fn fields_stay_inside_their_record() {
        let f4 = Element::from(Scalar::Number(Dtype::F32, false));
        let mut inner = Element::record(8);
        assert_eq!(inner.add("x", 0, &[], &f4), Some(()));
        assert_eq!(inner.add("y", 4, &[], &f4), Some(()));
        assert_eq!(inner.add("z", 5, &[], &f4), None);
        let mut outer = Element::record(20);
        assert_eq!(outer.add("p", 4, &[], &inner), Some(()));
        assert_eq!(outer.add("v", 12, &[2], &f4), Some(()));
        assert_eq!(outer.add("v", 12, &[u64::MAX, 2], &f4), None);
        let names: Vec<_> = outer.parts.iter().map(|p| (&*p.name, p.offset)).collect();
        assert_eq!(names, [("p.x", 4), ("p.y", 8), ("v", 12)]);
    }
}
