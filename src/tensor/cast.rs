//! [`Cast`]: one floating type to another, rounded to the nearest value and ties to the even one, never to infinity.

use half::{bf16, f16};

use super::dtype::Dtype;

/// The type to cast to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cast {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
}

/// A finite value that the type cast to could only hold as infinity.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("value {value:e} is beyond the range of {to}")]
pub struct CastError {
    /// The value.
    pub value: f64,
    /// The type that cannot hold it.
    pub to: Dtype,
}

impl Cast {
    /// The cast to a type; `None` for a type that nothing is cast to.
    pub fn new(to: Dtype) -> Option<Self> {
        match to {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::Bf16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// The type that elements have afterwards.
    pub fn to(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::Bf16,
        }
    }

    /// Whether elements of this type change at all: plain floats of another type do.
    pub fn applies_to(self, dtype: Dtype) -> bool {
        dtype.is_float() && dtype != self.to()
    }

    /// Appends the cast elements of `source`, little-endian and whole, to `out`. Whether every one kept its value;
    /// a NaN stays a NaN and counts as kept where its bits can be had back.
    ///
    /// # Errors
    /// The first finite value that would become infinite.
    pub fn convert(self, from: Dtype, source: &[u8], out: &mut Vec<u8>) -> Result<bool, CastError> {
        let result = match (from, self) {
            (Dtype::F64, Self::F32) => each(source, out, |b| kept(f64::from_le_bytes(b), nearest)),
            (Dtype::F64, Self::F16) => {
                each(source, out, |b| kept(f64::from_le_bytes(b), |x| f16::from_f32(odd(x))))
            }
            (Dtype::F64, Self::Bf16) => {
                each(source, out, |b| kept(f64::from_le_bytes(b), |x| bf16::from_f32(odd(x))))
            }
            (Dtype::F32, Self::F16) => each(source, out, |b| kept(f32::from_le_bytes(b), f16::from_f32)),
            (Dtype::F32, Self::Bf16) => each(source, out, |b| kept(f32::from_le_bytes(b), bf16::from_f32)),
            (Dtype::F16, Self::F32) => each(source, out, |b| kept(f16::from_le_bytes(b), f16::to_f32)),
            (Dtype::F16, Self::Bf16) => {
                each(source, out, |b| kept(f16::from_le_bytes(b), |x| bf16::from_f32(x.to_f32())))
            }
            (Dtype::Bf16, Self::F32) => each(source, out, |b| kept(bf16::from_le_bytes(b), bf16::to_f32)),
            (Dtype::Bf16, Self::F16) => {
                each(source, out, |b| kept(bf16::from_le_bytes(b), |x| f16::from_f32(x.to_f32())))
            }
            _ => {
                out.extend_from_slice(source);
                Ok(true)
            }
        };
        result.map_err(|value| CastError { value, to: self.to() })
    }
}

/// A floating type that a double holds without loss.
trait Float<const N: usize>: Copy {
    fn widen(self) -> f64;
    fn bytes(self) -> [u8; N];
}

impl Float<8> for f64 {
    fn widen(self) -> f64 {
        self
    }
    fn bytes(self) -> [u8; 8] {
        self.to_le_bytes()
    }
}

impl Float<4> for f32 {
    fn widen(self) -> f64 {
        f64::from(self)
    }
    fn bytes(self) -> [u8; 4] {
        self.to_le_bytes()
    }
}

impl Float<2> for f16 {
    fn widen(self) -> f64 {
        self.to_f64()
    }
    fn bytes(self) -> [u8; 2] {
        self.to_le_bytes()
    }
}

impl Float<2> for bf16 {
    fn widen(self) -> f64 {
        f64::from(self.to_f32())
    }
    fn bytes(self) -> [u8; 2] {
        self.to_le_bytes()
    }
}

/// Casts one value; says whether it kept its bits, or which finite value became infinite.
fn kept<const N: usize, const M: usize, F: Float<N>, T: Float<M>>(
    value: F,
    cast: impl Fn(F) -> T,
) -> Result<([u8; M], bool), f64> {
    let result = cast(value);
    let (before, after) = (value.widen(), result.widen());
    if after.is_infinite() && before.is_finite() {
        return Err(before);
    }
    Ok((result.bytes(), before.to_bits() == after.to_bits()))
}

fn each<const N: usize, const M: usize>(
    source: &[u8],
    out: &mut Vec<u8>,
    cast: impl Fn([u8; N]) -> Result<([u8; M], bool), f64>,
) -> Result<bool, f64> {
    let mut exact = true;
    out.reserve(source.len().checked_div(N).unwrap_or(0).saturating_mul(M));
    for value in source.as_chunks::<N>().0 {
        let (bytes, kept) = cast(*value)?;
        exact &= kept;
        out.extend_from_slice(&bytes);
    }
    Ok(exact)
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "`as` between floats rounds to nearest even"
)]
fn nearest(value: f64) -> f32 {
    value as f32
}

/// Rounds to odd: towards zero, and the last bit set where anything was lost. A value that is rounded this way to
/// more than twice as many bits can be rounded to nearest a second time without going wrong (the `half` crate
/// rounds a double to a single and then to a half, both to nearest, and so goes wrong for values near a tie).
fn odd(value: f64) -> f32 {
    let near = nearest(value);
    let back = f64::from(near);
    if value.is_nan() || back.to_bits() == value.to_bits() {
        return near;
    }
    let towards_zero = if back.abs() > value.abs() { near.to_bits().wrapping_sub(1) } else { near.to_bits() };
    f32::from_bits(towards_zero | 1)
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "casts are to give these very values")]
mod tests {
    use super::*;

    fn cast(cast: Cast, from: Dtype, source: &[u8]) -> Result<(Vec<u8>, bool), CastError> {
        let mut out = Vec::new();
        let exact = cast.convert(from, source, &mut out)?;
        Ok((out, exact))
    }

    fn half_of(value: f64) -> f16 {
        f16::from_le_bytes(cast(Cast::F16, Dtype::F64, &value.to_le_bytes()).unwrap().0.try_into().unwrap())
    }

    #[test]
    fn ties_go_to_even_and_doubles_are_rounded_once() {
        let step = f64::powi(2.0, -10);
        assert_eq!(half_of(1.0 + step / 2.0).to_f64(), 1.0);
        assert_eq!(half_of(1.0 + step * 1.5).to_f64(), 1.0 + step * 2.0);
        // Just above the tie, but by less than a single can tell: rounding twice would give 1.
        assert_eq!(half_of(1.0 + step / 2.0 + f64::powi(2.0, -40)).to_f64(), 1.0 + step);
        assert_eq!(half_of(-1.0 - step / 2.0 - f64::powi(2.0, -40)).to_f64(), -1.0 - step);
        assert_eq!(half_of(f64::powi(2.0, -25) * 1.000_000_001).to_f64(), f64::powi(2.0, -24));
        assert_eq!(half_of(f64::from_bits(1)).to_bits(), 0);
    }

    #[test]
    fn a_finite_value_never_becomes_infinite() {
        let error = cast(Cast::F16, Dtype::F32, &70_000.0_f32.to_le_bytes()).unwrap_err();
        assert_eq!(error, CastError { value: 70_000.0, to: Dtype::F16 });
        assert!(cast(Cast::F32, Dtype::F64, &1e300_f64.to_le_bytes()).is_err());
        assert!(cast(Cast::Bf16, Dtype::F64, &f64::MAX.to_le_bytes()).is_err());
        assert_eq!(half_of(65_504.0).to_f64(), 65_504.0);
        assert_eq!(half_of(65_519.999).to_f64(), 65_504.0);
        assert_eq!(half_of(f64::INFINITY), f16::INFINITY);
        assert_eq!(half_of(f64::NEG_INFINITY), f16::NEG_INFINITY);
    }

    #[test]
    fn nan_stays_nan_and_exactness_is_of_every_element() {
        let values = [f32::NAN, 1.0, -0.0, f32::INFINITY].map(f32::to_le_bytes).concat();
        let (bytes, exact) = cast(Cast::Bf16, Dtype::F32, &values).unwrap();
        assert!(exact && bf16::from_le_bytes([bytes[0], bytes[1]]).is_nan());
        assert!(!cast(Cast::Bf16, Dtype::F32, &1.000_001_f32.to_le_bytes()).unwrap().1);
        let payload = f32::from_bits(0x7f80_0001);
        let (bytes, exact) = cast(Cast::F16, Dtype::F32, &payload.to_le_bytes()).unwrap();
        assert!(!exact && f16::from_le_bytes([bytes[0], bytes[1]]).is_nan());
    }

    #[test]
    fn every_half_survives_the_way_to_single_and_back() {
        for (cast_from, bits) in
            [Dtype::F16, Dtype::Bf16].into_iter().flat_map(|d| (0..=u16::MAX).map(move |b| (d, b)))
        {
            let (wide, _) = cast(Cast::F32, cast_from, &bits.to_le_bytes()).unwrap();
            let single = f32::from_le_bytes(wide.clone().try_into().unwrap());
            let to = if cast_from == Dtype::F16 { Cast::F16 } else { Cast::Bf16 };
            let (back, _) = cast(to, Dtype::F32, &wide).unwrap();
            assert!(single.is_nan() || back == bits.to_le_bytes(), "{cast_from} {bits:#06x}");
        }
    }
}
