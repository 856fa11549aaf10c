//! [`View`]: a tensor as shape, strides and offset over a storage. A view that exists lies inside its storage.

use crate::limits::{LimitKind, Limits, check};

use super::dtype::{Dtype, Family, Layout};
use super::error::{Error, ErrorKind};
use super::storage::{Storage, StorageId};

/// Below this a view may repeat its storage as often as it likes: expanded scalars are common and small.
const FREE_EXPANSION: u64 = 64 << 20;

/// What a file says of a tensor, not yet proven.
#[derive(Debug, Clone)]
pub struct ViewSpec {
    /// Element type.
    pub dtype: Dtype,
    /// Whose element type.
    pub family: Family,
    /// First element, in elements.
    pub offset: i64,
    /// Sizes, in elements.
    pub shape: Vec<i64>,
    /// Strides, in elements.
    pub strides: Vec<i64>,
    /// Whether the sign of every element is to be turned (torch's negative bit).
    pub negated: bool,
    /// Whether the sign of every imaginary part is to be turned (torch's conjugate bit).
    pub conjugated: bool,
}

/// A tensor over a storage, proven to lie inside it. Equal views show the same bytes in the same order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct View {
    storage: StorageId,
    dtype: Dtype,
    family: Family,
    negated: bool,
    conjugated: bool,
    offset: u64,
    /// Sizes, then strides, in one allocation: a checkpoint may hold a million views.
    dims: Box<[u64]>,
}

impl View {
    /// Checks what a file says of a tensor against its storage.
    ///
    /// # Errors
    /// Negative numbers, unequal ranks, a reach beyond the storage, a limit.
    pub fn new(id: StorageId, storage: &Storage, spec: &ViewSpec, limits: &Limits) -> Result<Self, Error> {
        Self::prove(id, storage.len, spec, limits)
            .map_err(|kind| Error { storage: storage.key.clone(), kind })
    }

    fn prove(id: StorageId, len: u64, spec: &ViewSpec, limits: &Limits) -> Result<Self, ErrorKind> {
        let (sizes, strides) = (spec.shape.len(), spec.strides.len());
        if sizes != strides {
            return Err(ErrorKind::RankMismatch { sizes, strides });
        }
        check(LimitKind::Rank, crate::bytes::length(limits.rank), crate::bytes::length(sizes))?;
        let offset = positive("offset", spec.offset)?;
        let mut dims = Vec::with_capacity(sizes.saturating_mul(2));
        for &size in &spec.shape {
            dims.push(positive("size", size)?);
        }
        for &stride in &spec.strides {
            dims.push(positive("stride", stride)?);
        }
        let view = Self {
            storage: id,
            dtype: spec.dtype,
            family: spec.family,
            negated: spec.negated,
            conjugated: spec.conjugated,
            offset,
            dims: dims.into(),
        };
        // An empty dimension leaves nothing to show, but must not hide a product that cannot be counted.
        let bytes = view
            .shape()
            .iter()
            .filter(|size| **size != 0)
            .try_fold(spec.dtype.size(), |n, d| n.checked_mul(*d));
        let bytes =
            bytes.filter(|n| *n <= u64::MAX >> 4).ok_or_else(|| ErrorKind::TooLarge(view.shape().into()))?;
        if view.is_empty() {
            return Ok(view);
        }
        let last =
            view.shape().iter().zip(view.strides()).try_fold(u128::from(offset), |at, (size, stride)| {
                at.checked_add(u128::from(size.saturating_sub(1)).checked_mul(u128::from(*stride))?)
            });
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(u128::from(spec.dtype.size())));
        if end.is_none_or(|end| end > u128::from(len)) {
            let end = end.and_then(|end| u64::try_from(end).ok()).unwrap_or(u64::MAX);
            return Err(ErrorKind::OutOfBounds { end, len });
        }
        if bytes > FREE_EXPANSION {
            check(
                LimitKind::ViewExpansion,
                limits.view_expansion,
                bytes.checked_div(len).unwrap_or(u64::MAX),
            )?;
        }
        Ok(view)
    }

    /// The same view of the same storage, whose list now follows `before` others.
    fn moved(mut self, before: usize) -> Self {
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        self.storage = StorageId(self.storage.0.saturating_add(before));
        self
    }

    /// Its storage.
    pub fn storage(&self) -> StorageId {
        self.storage
    }

    /// Element type of the source.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Whose element type.
    pub fn family(&self) -> Family {
        self.family
    }

    /// First element, in elements.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Sizes, in elements of the source.
    pub fn shape(&self) -> &[u64] {
        self.dims.get(..self.rank()).unwrap_or_default()
    }

    /// Strides, in elements of the source.
    pub fn strides(&self) -> &[u64] {
        self.dims.get(self.rank()..).unwrap_or_default()
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len() >> 1
    }

    /// Whether the sign of every element is to be turned.
    pub fn negated(&self) -> bool {
        self.negated
    }

    /// Whether the sign of every imaginary part is to be turned.
    pub fn conjugated(&self) -> bool {
        self.conjugated
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape().iter().fold(1, |n, d| n.saturating_mul(*d))
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.shape().contains(&0)
    }

    /// Bytes of the contiguous tensor.
    pub fn nbytes(&self) -> u64 {
        self.elements().saturating_mul(self.dtype.size())
    }

    /// Whether its elements lie in the storage as they will in the output: row-major and without gaps. Strides of
    /// dimensions of size 1 do not matter.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1_u64;
        for (size, stride) in self.shape().iter().zip(self.strides()).rev() {
            if *size > 1 && *stride != expected {
                return false;
            }
            expected = expected.saturating_mul(*size);
        }
        true
    }

    /// The shape that safetensors gives it.
    pub fn stored_shape(&self) -> Vec<u64> {
        let mut shape = self.shape().to_vec();
        match (self.dtype.layout(), shape.last_mut()) {
            (Layout::Same, _) => {}
            (Layout::PackedPairs, Some(last)) => *last = last.saturating_mul(2),
            (Layout::PackedPairs, None) | (Layout::PairDimension, _) => shape.push(2),
        }
        shape
    }
}

fn positive(what: &'static str, value: i64) -> Result<u64, ErrorKind> {
    u64::try_from(value).map_err(|_| ErrorKind::Negative { what, value })
}

/// Handle of a tensor within its checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorId(pub u32);

impl TensorId {
    /// Position in the checkpoint's list of tensors.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// What one part of a re-encoded tensor is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// `quantized`, `sparse`, `nested` or `complex`.
    pub kind: &'static str,
    /// Which part, such as `values` or `scale`.
    pub part: &'static str,
    /// Quantization scheme or sparse layout.
    pub scheme: Option<Box<str>>,
    /// Axis of a per-channel quantization; the ragged dimension of a nested tensor.
    pub axis: Option<i64>,
    /// Shape of the whole, where its parts do not tell: that of a sparse tensor.
    pub shape: Option<Box<[u64]>>,
}

/// A tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tensor {
    /// Where its bytes are.
    pub view: View,
    /// How it stands for a tensor that safetensors has no type for.
    pub encoding: Option<Box<Encoding>>,
    /// What it was put together of, where the source holds it in parts. The view then shows the whole, in a stream that
    /// finds each byte in its part.
    pub pieces: Option<Box<[Piece]>>,
    /// The element type of its source, where its library casts it when it loads it. The view then shows the cast elements,
    /// and the one piece those of the source.
    pub cast_from: Option<Dtype>,
}

impl Tensor {
    /// A tensor that its source holds as it is.
    pub fn new(view: View) -> Self {
        Self { view, encoding: None, pieces: None, cast_from: None }
    }

    /// The same; what safetensors gives a last dimension of 2 is recorded as `complex`.
    pub fn plain(view: View) -> Self {
        let pairs = view.dtype().layout() == Layout::PairDimension;
        let encoding = || Encoding { kind: "complex", part: "values", scheme: None, axis: None, shape: None };
        Self { encoding: pairs.then(|| Box::new(encoding())), ..Self::new(view) }
    }

    /// The same tensor over storages whose list now follows `before` others.
    pub(crate) fn moved(self, before: usize) -> Self {
        let moved = |piece: &Piece| Piece { view: piece.view.clone().moved(before), ..piece.clone() };
        let pieces = self.pieces.map(|pieces| pieces.iter().map(moved).collect());
        Self { view: self.view.moved(before), pieces, ..self }
    }
}

/// A part of a tensor that its source holds in parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Piece {
    /// Its elements, as its source holds them.
    pub view: View,
    /// Steps to it from the root of the file that it lies in.
    pub path: Box<[Box<str>]>,
    /// Its first index in each dimension of the whole.
    pub start: Box<[u64]>,
    /// Its size in each dimension of the whole.
    pub size: Box<[u64]>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Span;
    use crate::tensor::{Place, StreamId};

    fn storage(len: u64) -> Storage {
        let place = Place::Stored { stream: StreamId::SOURCE, span: Span::between(0, len) };
        Storage { key: "0".into(), entry: None, place, len, big_endian: false, crc32: None }
    }

    fn view(len: u64, offset: i64, shape: &[i64], strides: &[i64]) -> Result<View, ErrorKind> {
        let spec = ViewSpec {
            dtype: Dtype::F32,
            family: Family::Torch,
            offset,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
            negated: false,
            conjugated: false,
        };
        View::new(StorageId(0), &storage(len), &spec, &Limits::default()).map_err(|e| e.kind)
    }

    #[test]
    fn a_view_inside_its_storage_is_accepted_to_the_last_byte() {
        assert!(view(24, 0, &[2, 3], &[3, 1]).unwrap().is_contiguous());
        assert!(!view(24, 0, &[3, 2], &[1, 3]).unwrap().is_contiguous());
        assert!(view(24, 5, &[], &[]).is_ok());
        assert!(view(24, 100, &[0, 7], &[1, 1]).unwrap().is_empty());
        assert_eq!(view(23, 0, &[2, 3], &[3, 1]), Err(ErrorKind::OutOfBounds { end: 24, len: 23 }));
        assert!(matches!(view(24, 6, &[], &[]), Err(ErrorKind::OutOfBounds { .. })));
    }

    #[test]
    fn lies_about_sizes_are_refused() {
        assert!(matches!(view(24, -1, &[1], &[1]), Err(ErrorKind::Negative { what: "offset", .. })));
        assert!(matches!(view(24, 0, &[-1], &[1]), Err(ErrorKind::Negative { what: "size", .. })));
        assert!(matches!(view(24, 0, &[1], &[-1]), Err(ErrorKind::Negative { what: "stride", .. })));
        assert!(matches!(view(24, 0, &[1], &[]), Err(ErrorKind::RankMismatch { sizes: 1, strides: 0 })));
        assert!(matches!(view(24, 0, &[1 << 40, 1 << 40], &[0, 0]), Err(ErrorKind::TooLarge(_))));
        assert!(view(24, 0, &[i64::MAX], &[i64::MAX]).is_err());
        assert!(matches!(view(4, 0, &[1 << 40], &[0]), Err(ErrorKind::Limit(_))));
        assert!(view(4, 0, &[1 << 20], &[0]).is_ok());
    }
}
