//! Element types: one table of names, sizes and what safetensors stores them as.

use std::fmt;

use safetensors::Dtype as Stored;

/// An element type of torch or numpy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE double.
    F64,
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
    /// Signed, 64 bits.
    I64,
    /// Signed, 32 bits.
    I32,
    /// Signed, 16 bits.
    I16,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 64 bits.
    U64,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 8 bits.
    U8,
    /// One byte, 0 or 1.
    Bool,
    /// 8-bit float, 4 bits of exponent, no infinities.
    F8E4M3,
    /// 8-bit float, 4 bits of exponent, one zero.
    F8E4M3Fnuz,
    /// 8-bit float, 5 bits of exponent.
    F8E5M2,
    /// 8-bit float, 5 bits of exponent, one zero.
    F8E5M2Fnuz,
    /// 8-bit power of two.
    F8E8M0,
    /// Two 4-bit floats in a byte.
    F4E2M1X2,
    /// Two singles.
    C64,
    /// Two doubles.
    C128,
    /// Two halves.
    C32,
    /// Two bfloat16.
    Bc32,
    /// Quantized, signed 8 bits.
    QI8,
    /// Quantized, unsigned 8 bits.
    QU8,
    /// Quantized, signed 32 bits.
    QI32,
}

/// How an element is laid out in safetensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One element of the output for one of the source.
    Same,
    /// Two values packed in one byte: the last dimension of the output is twice the source's.
    PackedPairs,
    /// A pair of values that safetensors has no type for: the output gains a last dimension of 2.
    PairDimension,
}

/// Whose names an element type goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Family {
    /// `torch.float32`
    Torch,
    /// `numpy.float32`
    Numpy,
}

struct Row {
    dtype: Dtype,
    /// Name without its module, in torch; numpy's is the same but for `bool`.
    name: &'static str,
    size: u8,
    /// Bytes that change order together between little- and big-endian.
    unit: u8,
    stored: Stored,
    layout: Layout,
}

macro_rules! rows {
    ($($dtype:ident $name:literal $size:literal $unit:literal $stored:ident $layout:ident;)*) => {
        const ROWS: &[Row] = &[$(Row {
            dtype: Dtype::$dtype, name: $name, size: $size, unit: $unit,
            stored: Stored::$stored, layout: Layout::$layout,
        },)*];
        impl Dtype {
            /// Every element type.
            pub const ALL: &[Self] = &[$(Self::$dtype),*];
            fn row(self) -> &'static Row {
                match self {
                    $(Self::$dtype => const { row(Dtype::$dtype) },)*
                }
            }
        }
    };
}

rows! {
    F64 "float64" 8 8 F64 Same;
    F32 "float32" 4 4 F32 Same;
    F16 "float16" 2 2 F16 Same;
    Bf16 "bfloat16" 2 2 BF16 Same;
    I64 "int64" 8 8 I64 Same;
    I32 "int32" 4 4 I32 Same;
    I16 "int16" 2 2 I16 Same;
    I8 "int8" 1 1 I8 Same;
    U64 "uint64" 8 8 U64 Same;
    U32 "uint32" 4 4 U32 Same;
    U16 "uint16" 2 2 U16 Same;
    U8 "uint8" 1 1 U8 Same;
    Bool "bool" 1 1 BOOL Same;
    F8E4M3 "float8_e4m3fn" 1 1 F8_E4M3 Same;
    F8E4M3Fnuz "float8_e4m3fnuz" 1 1 F8_E4M3FNUZ Same;
    F8E5M2 "float8_e5m2" 1 1 F8_E5M2 Same;
    F8E5M2Fnuz "float8_e5m2fnuz" 1 1 F8_E5M2FNUZ Same;
    F8E8M0 "float8_e8m0fnu" 1 1 F8_E8M0 Same;
    F4E2M1X2 "float4_e2m1fn_x2" 1 1 F4 PackedPairs;
    C64 "complex64" 8 4 C64 Same;
    C128 "complex128" 16 8 F64 PairDimension;
    C32 "complex32" 4 2 F16 PairDimension;
    Bc32 "bcomplex32" 4 2 BF16 PairDimension;
    QI8 "qint8" 1 1 I8 Same;
    QU8 "quint8" 1 1 U8 Same;
    QI32 "qint32" 4 4 I32 Same;
}

#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "runs in the compiler")]
#[expect(clippy::as_conversions, reason = "comparing enum values in a constant")]
const fn row(dtype: Dtype) -> &'static Row {
    let mut i = 0;
    while ROWS[i].dtype as u8 != dtype as u8 {
        i += 1;
    }
    &ROWS[i]
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> u64 {
        u64::from(self.row().size)
    }

    /// Bytes that change order together between little- and big-endian: a complex number swaps its parts alone.
    pub fn swap_unit(self) -> usize {
        usize::from(self.row().unit)
    }

    /// What safetensors stores it as.
    pub fn stored(self) -> Stored {
        self.row().stored
    }

    /// How the shape of the output differs from the source's.
    pub fn layout(self) -> Layout {
        self.row().layout
    }

    /// Its name without a module, such as `float32`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The element type of a name such as `float32`.
    pub fn from_name(name: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.name == name).map(|row| row.dtype)
    }

    /// The element type that safetensors stores as it is under this type.
    pub fn from_stored(stored: Stored) -> Option<Self> {
        ROWS.iter().find(|row| row.stored == stored && row.layout == Layout::Same).map(|row| row.dtype)
    }

    /// Its full name, such as `torch.float32`.
    pub fn full_name(self, family: Family) -> String {
        match family {
            Family::Torch => format!("torch.{}", self.name()),
            Family::Numpy => format!("numpy.{}", self.name()),
        }
    }

    /// Whether it is a pair of floats.
    pub fn is_complex(self) -> bool {
        matches!(self, Self::C64 | Self::C128 | Self::C32 | Self::Bc32)
    }

    /// Whether it is a plain floating type that `--dtype` may cast.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_agree_with_safetensors() {
        for &dtype in Dtype::ALL {
            let values = match dtype.layout() {
                Layout::Same => 1,
                Layout::PackedPairs | Layout::PairDimension => 2,
            };
            let bits = u64::try_from(dtype.stored().bitsize()).unwrap() * values;
            assert_eq!(dtype.size() * 8, bits, "{dtype}");
            assert_eq!(Dtype::from_name(dtype.name()), Some(dtype));
        }
    }
}
