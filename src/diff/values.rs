//! How far apart two tensors of floats are: every element as a double, which holds all of them without loss.

use std::cmp::Ordering;

use half::{bf16, f16};
use safetensors::Dtype;

/// How to read an element type as doubles.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    /// Bytes of a value.
    pub(super) width: usize,
    /// Values of an element: 2 for complex numbers.
    pub(super) values: u64,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    F64,
    F32,
    F16,
    Bf16,
    /// A value for each byte.
    Byte(Box<[f64; 256]>),
}

impl Decoder {
    /// `None` for types that are no floats of whole bytes.
    pub(super) fn new(dtype: Dtype) -> Option<Self> {
        let (width, values, kind) = match dtype {
            Dtype::F64 => (8, 1, Kind::F64),
            Dtype::F32 => (4, 1, Kind::F32),
            Dtype::C64 => (4, 2, Kind::F32),
            Dtype::F16 => (2, 1, Kind::F16),
            Dtype::BF16 => (2, 1, Kind::Bf16),
            dtype => (1, 1, Kind::Byte(Box::new(table(form(dtype)?)))),
        };
        Some(Self { width, values, kind })
    }

    /// Appends the values of whole little-endian elements.
    pub(super) fn decode(&self, bytes: &[u8], out: &mut Vec<f64>) {
        match &self.kind {
            Kind::F64 => each(bytes, out, f64::from_le_bytes),
            Kind::F32 => each(bytes, out, |b| f64::from(f32::from_le_bytes(b))),
            Kind::F16 => each(bytes, out, |b| f16::from_le_bytes(b).to_f64()),
            Kind::Bf16 => each(bytes, out, |b| bf16::from_le_bytes(b).to_f64()),
            Kind::Byte(table) => {
                out.extend(bytes.iter().map(|b| table.get(usize::from(*b)).copied().unwrap_or(f64::NAN)));
            }
        }
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut Vec<f64>, value: impl Fn([u8; N]) -> f64) {
    out.extend(bytes.as_chunks::<N>().0.iter().map(|chunk| value(*chunk)));
}

/// A float of 8 bits.
#[derive(Debug, Clone, Copy)]
struct Form {
    mantissa: u32,
    bias: i32,
    special: Special,
}

/// Which bits are no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Special {
    /// As in IEEE 754: the highest exponent is infinite or no number.
    Ieee,
    /// All bits but the sign: no number. No infinity.
    AllOnes,
    /// Minus zero: no number. No infinity.
    MinusZero,
    /// No sign and no mantissa; all bits: no number.
    Exponent,
}

/// The [OCP formats](https://www.opencompute.org/documents/ocp-8-bit-floating-point-specification-ofp8-revision-1-0-2023-12-01-pdf-1)
/// and their variants without a minus zero.
fn form(dtype: Dtype) -> Option<Form> {
    let (mantissa, bias, special) = match dtype {
        Dtype::F8_E4M3 => (3, 7, Special::AllOnes),
        Dtype::F8_E5M2 => (2, 15, Special::Ieee),
        Dtype::F8_E4M3FNUZ => (3, 8, Special::MinusZero),
        Dtype::F8_E5M2FNUZ => (2, 16, Special::MinusZero),
        Dtype::F8_E8M0 => (0, 127, Special::Exponent),
        _ => return None,
    };
    Some(Form { mantissa, bias, special })
}

fn table(form: Form) -> [f64; 256] {
    let mut table = [0.0; 256];
    for (value, bits) in table.iter_mut().zip(0_u8..=u8::MAX) {
        *value = byte(form, bits);
    }
    table
}

fn byte(form: Form, bits: u8) -> f64 {
    if form.special == Special::Exponent {
        let power = i32::from(bits).saturating_sub(form.bias);
        return if bits == u8::MAX { f64::NAN } else { 2_f64.powi(power) };
    }
    let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0 };
    let magnitude = bits & 0x7f;
    let exponent = i32::from(magnitude >> form.mantissa);
    let mantissa = f64::from(magnitude & (1_u8 << form.mantissa).saturating_sub(1));
    let highest = i32::from(0x7f_u8 >> form.mantissa);
    match form.special {
        Special::MinusZero if bits == 0x80 => return f64::NAN,
        Special::AllOnes if magnitude == 0x7f => return f64::NAN,
        Special::Ieee if exponent == highest => {
            return if mantissa == 0.0 { sign * f64::INFINITY } else { f64::NAN };
        }
        _ => {}
    }
    let fraction = mantissa / f64::from(1_u8 << form.mantissa);
    let (whole, exponent) = if exponent == 0 { (0.0, 1) } else { (1.0, exponent) };
    sign * (whole + fraction) * 2_f64.powi(exponent.saturating_sub(form.bias))
}

/// What was found between two tensors of floats.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Distance {
    /// Values that differ; two that are no number do not.
    pub(super) values: u64,
    /// Of those, pairs of which one is no number or infinite.
    pub(super) incomparable: u64,
    /// The largest difference of two finite values, and how many elements come before it.
    pub(super) absolute: f64,
    pub(super) at: u64,
    /// The largest difference in proportion to the larger of the two.
    pub(super) relative: f64,
    seen: u64,
}

impl Distance {
    /// Passes over values that are the same.
    pub(super) fn pass(&mut self, values: usize) {
        self.seen = self.seen.saturating_add(crate::bytes::length(values));
    }

    /// Counts values that differ and are not measured.
    pub(super) fn count(&mut self, values: usize) {
        self.values = self.values.saturating_add(crate::bytes::length(values));
    }

    /// Goes on with the next values of both.
    pub(super) fn update(&mut self, left: &[f64], right: &[f64]) {
        for (at, (l, r)) in (self.seen..).zip(left.iter().zip(right)) {
            // Not by bits: the two zeros are one value, and so is everything that is no number.
            if l.partial_cmp(r) == Some(Ordering::Equal) || (l.is_nan() && r.is_nan()) {
                continue;
            }
            self.values = self.values.saturating_add(1);
            if !(l.is_finite() && r.is_finite()) {
                self.incomparable = self.incomparable.saturating_add(1);
                continue;
            }
            let (apart, larger) = ((l - r).abs(), l.abs().max(r.abs()));
            // Two doubles can be further apart than a double can say.
            let proportion = if apart.is_finite() { apart / larger } else { (l / larger - r / larger).abs() };
            let apart = apart.min(f64::MAX);
            if apart > self.absolute {
                (self.absolute, self.at) = (apart, at);
            }
            self.relative = self.relative.max(proportion);
        }
        self.pass(left.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bits_have_the_values_of_their_formats() {
        // As torch 2.x gives them: torch.tensor([bits], dtype=torch.uint8).view(dtype).double()
        for (dtype, bits, value) in [
            (Dtype::F8_E4M3, 0x7e, 448.0),
            (Dtype::F8_E4M3, 0x01, 0.001_953_125),
            (Dtype::F8_E4M3, 0x80, -0.0),
            (Dtype::F8_E4M3, 0xff, f64::NAN),
            (Dtype::F8_E5M2, 0x7b, 57_344.0),
            (Dtype::F8_E5M2, 0x7c, f64::INFINITY),
            (Dtype::F8_E5M2, 0xfd, f64::NAN),
            (Dtype::F8_E5M2, 0x01, 1.525_878_906_25e-5),
            (Dtype::F8_E4M3FNUZ, 0x7f, 240.0),
            (Dtype::F8_E4M3FNUZ, 0x80, f64::NAN),
            (Dtype::F8_E4M3FNUZ, 0x01, 0.000_976_562_5),
            (Dtype::F8_E5M2FNUZ, 0xff, -57_344.0),
            (Dtype::F8_E8M0, 127, 1.0),
            (Dtype::F8_E8M0, 0, 5.877_471_754_111_438e-39),
            (Dtype::F8_E8M0, 255, f64::NAN),
        ] {
            let mut out = Vec::new();
            Decoder::new(dtype).unwrap().decode(&[bits], &mut out);
            assert!(
                out[0].to_bits() == value.to_bits() || out[0].is_nan() && value.is_nan(),
                "{dtype} {bits:#x}"
            );
        }
    }

    #[test]
    fn wider_floats_and_pairs_are_read() {
        let decode = |dtype, bytes: &[u8]| {
            let mut out = Vec::new();
            Decoder::new(dtype).unwrap().decode(bytes, &mut out);
            out
        };
        assert_eq!(decode(Dtype::F16, &f16::from_f32(1.5).to_le_bytes()), [1.5]);
        assert_eq!(decode(Dtype::BF16, &bf16::from_f32(-3.0).to_le_bytes()), [-3.0]);
        assert_eq!(decode(Dtype::F64, &1e300_f64.to_le_bytes()), [1e300]);
        assert_eq!(decode(Dtype::C64, &[1_f32.to_le_bytes(), 2_f32.to_le_bytes()].concat()), [1.0, 2.0]);
        assert!(Decoder::new(Dtype::I64).is_none() && Decoder::new(Dtype::F4).is_none());
    }

    #[test]
    fn what_is_no_number_is_counted_and_never_measured() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        let mut distance = Distance::default();
        distance.update(&[1.0, nan, nan, inf, 0.0], &[1.5, nan, 1.0, inf, -0.0]);
        distance.update(&[inf, -f64::MAX, 2.0], &[-inf, f64::MAX, 2.0]);
        assert_eq!((distance.values, distance.incomparable), (4, 2));
        assert_eq!((distance.absolute, distance.at), (f64::MAX, 6));
        assert!((distance.relative - 2.0).abs() < 1e-12);
        let mut tiny = Distance::default();
        tiny.update(&[5e-324], &[0.0]);
        assert!((tiny.relative - 1.0).abs() < 1e-12);
    }
}
