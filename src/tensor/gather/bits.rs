//! What happens to the bits of each element on its way: the order of bytes, signs, and the check of booleans.

use crate::tensor::dtype::Dtype;
use crate::tensor::view::View;

/// How to turn the sign of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// The highest bit of each part.
    Bit,
    /// The highest bit, but of nothing else: in these types 0x80 is no zero but a NaN.
    BitUnlessZero,
    /// The highest bit of each half of a byte.
    BothNibbles,
    /// Two's complement.
    Complement,
}

/// What is to be done to a view's elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fix {
    /// Bytes that form one value in the order of bytes: half of a complex element.
    unit: usize,
    swap: bool,
    negate: Option<Sign>,
    conjugate: bool,
    boolean: bool,
}

impl Fix {
    /// `None` where a type without a sign is to be negated.
    pub(super) fn new(view: &View, big_endian: bool) -> Option<Self> {
        let dtype = view.dtype();
        let negate = if view.negated() { Some(sign(dtype)?) } else { None };
        let unit = dtype.swap_unit();
        Some(Self {
            unit,
            swap: big_endian && unit > 1,
            negate,
            conjugate: view.conjugated() && dtype.is_complex(),
            boolean: dtype == Dtype::Bool,
        })
    }

    /// Works on whole elements. The error is the position and the value of a byte that is no boolean.
    pub(super) fn apply(&self, bytes: &mut [u8]) -> Result<(), (usize, u8)> {
        if self.swap {
            swap(self.unit, bytes);
        }
        if let Some(sign) = self.negate {
            negate(sign, self.unit, bytes);
        }
        if self.conjugate {
            conjugate(self.unit, bytes);
        }
        if self.boolean {
            // One pass without branches for the honest case, another for the position.
            if bytes.iter().fold(0, |all, byte| all | byte) > 1
                && let Some((at, value)) = bytes.iter().enumerate().find(|(_, byte)| **byte > 1)
            {
                return Err((at, *value));
            }
        }
        Ok(())
    }
}

fn sign(dtype: Dtype) -> Option<Sign> {
    Some(match dtype {
        Dtype::Bool | Dtype::F8E8M0 => return None,
        Dtype::F8E4M3Fnuz | Dtype::F8E5M2Fnuz => Sign::BitUnlessZero,
        Dtype::F4E2M1X2 => Sign::BothNibbles,
        Dtype::F64
        | Dtype::F32
        | Dtype::F16
        | Dtype::Bf16
        | Dtype::F8E4M3
        | Dtype::F8E5M2
        | Dtype::C64
        | Dtype::C128
        | Dtype::C32
        | Dtype::Bc32 => Sign::Bit,
        Dtype::I64
        | Dtype::I32
        | Dtype::I16
        | Dtype::I8
        | Dtype::U64
        | Dtype::U32
        | Dtype::U16
        | Dtype::U8
        | Dtype::QI8
        | Dtype::QU8
        | Dtype::QI32 => Sign::Complement,
    })
}

fn swap(unit: usize, bytes: &mut [u8]) {
    match unit {
        2 => bytes.as_chunks_mut::<2>().0.iter_mut().for_each(|value| value.reverse()),
        4 => bytes.as_chunks_mut::<4>().0.iter_mut().for_each(|value| value.reverse()),
        8 => bytes.as_chunks_mut::<8>().0.iter_mut().for_each(|value| value.reverse()),
        _ => {}
    }
}

fn negate(sign: Sign, unit: usize, bytes: &mut [u8]) {
    match sign {
        Sign::Bit => bytes.chunks_exact_mut(unit).for_each(flip),
        Sign::BothNibbles => bytes.iter_mut().for_each(|byte| *byte ^= 0x88),
        Sign::BitUnlessZero => {
            bytes.iter_mut().filter(|byte| **byte & 0x7f != 0).for_each(|byte| *byte ^= 0x80);
        }
        Sign::Complement => bytes.chunks_exact_mut(unit).for_each(|value| {
            let mut carry = true;
            for byte in value {
                (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
            }
        }),
    }
}

fn conjugate(unit: usize, bytes: &mut [u8]) {
    bytes.chunks_exact_mut(unit.saturating_mul(2)).for_each(flip);
}

/// The last byte of a little-endian value holds its sign; that of a pair holds the imaginary part's.
fn flip(value: &mut [u8]) {
    if let Some(last) = value.last_mut() {
        *last ^= 0x80;
    }
}
