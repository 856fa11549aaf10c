//! Two tensors, read side by side in fixed memory: their digests, and how far apart their values are.

use safetensors::Dtype as Stored;
use sha2::{Digest as _, Sha256};

use super::side::{Held, Part};
use super::values::{Decoder, Distance};
use crate::output::Digest;
use crate::tensor::{ReadError, Reader, Scratch};

/// A tensor, in its file.
#[derive(Clone, Copy)]
pub(super) struct Placed<'a> {
    pub(super) held: &'a Held,
    pub(super) part: &'a Part,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub(super) struct Compared {
    pub(super) left: Option<Digest>,
    pub(super) right: Option<Digest>,
    /// Where the bytes of two tensors of comparable types and one shape differ; and whether they are floats.
    pub(super) distance: Option<(Distance, bool)>,
}

/// The side whose tensor could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Left,
    Right,
}

/// Memory for gathering strided tensors, of all threads together.
const SCRATCH: usize = 24 << 20;

/// Bytes of a block of one side. As doubles it takes up to eight times as much.
const BLOCK: usize = 128 << 10;

/// The buffers of one thread.
pub(super) struct Comparer {
    scratch: [Scratch; 2],
    blocks: [Vec<u8>; 2],
    values: [Vec<f64>; 2],
}

impl Comparer {
    /// One of `jobs`.
    pub(super) fn new(jobs: usize) -> Self {
        let scratch = || Scratch::new(SCRATCH.checked_div(jobs.saturating_mul(2)).unwrap_or(0));
        Self {
            scratch: [scratch(), scratch()],
            blocks: [vec![0; BLOCK], vec![0; BLOCK]],
            values: [Vec::new(), Vec::new()],
        }
    }

    /// Compares two tensors of one name, or takes the digest of the only one.
    pub(super) fn compare(
        &mut self,
        left: Option<Placed<'_>>,
        right: Option<Placed<'_>>,
        advance: &dyn Fn(usize),
    ) -> Result<Compared, (Which, ReadError)> {
        if let (Some(left), Some(right)) = (left, right)
            && left.held.shape == right.held.shape
            && let Some(pair) = Pair::new(left.held.dtype, right.held.dtype)
        {
            return self.pair(left, right, &pair, advance);
        }
        let left = left.map(|placed| self.digest(placed, advance)).transpose();
        let right = right.map(|placed| self.digest(placed, advance)).transpose();
        Ok(Compared {
            left: left.map_err(|error| (Which::Left, error))?,
            right: right.map_err(|error| (Which::Right, error))?,
            distance: None,
        })
    }

    fn digest(&mut self, placed: Placed<'_>, advance: &dyn Fn(usize)) -> Result<Digest, ReadError> {
        let mut reader = placed.reader()?;
        let mut hash = Sha256::new();
        let ([scratch, _], [block, _]) = (&mut self.scratch, &mut self.blocks);
        loop {
            let n = fill(&mut reader, scratch, block)?;
            if n == 0 {
                return Ok(hash.into());
            }
            hash.update(block.get(..n).unwrap_or_default());
            advance(n);
        }
    }

    /// Reads as many elements of both at a time. As long as the bytes are the same, they are hashed once.
    fn pair(
        &mut self,
        left: Placed<'_>,
        right: Placed<'_>,
        pair: &Pair,
        advance: &dyn Fn(usize),
    ) -> Result<Compared, (Which, ReadError)> {
        let on = |which| move |error| (which, error);
        let mut readers =
            (left.reader().map_err(on(Which::Left))?, right.reader().map_err(on(Which::Right))?);
        let elements = BLOCK.checked_div(pair.widths.0.max(pair.widths.1)).unwrap_or(0);
        let [left_block, right_block] = &mut self.blocks;
        let [left_scratch, right_scratch] = &mut self.scratch;
        let (mut hash, mut other) = (Sha256::new(), None::<Sha256>);
        let mut distance = Distance::default();
        loop {
            let l = left_block.get_mut(..elements.saturating_mul(pair.widths.0)).unwrap_or_default();
            let r = right_block.get_mut(..elements.saturating_mul(pair.widths.1)).unwrap_or_default();
            let n = fill(&mut readers.0, left_scratch, l).map_err(on(Which::Left))?;
            let m = fill(&mut readers.1, right_scratch, r).map_err(on(Which::Right))?;
            if n == 0 && m == 0 {
                break;
            }
            let (l, r) = (l.get(..n).unwrap_or_default(), r.get(..m).unwrap_or_default());
            if l != r && other.is_none() {
                other = Some(hash.clone());
            }
            hash.update(l);
            if let Some(other) = &mut other {
                other.update(r);
            }
            pair.update(&mut distance, l, r, &mut self.values);
            advance(n.saturating_add(m));
        }
        distance.at = distance.at.checked_div(pair.values).unwrap_or(0);
        let changed = other.is_some();
        let first: Digest = hash.into();
        Ok(Compared {
            left: Some(first),
            right: Some(other.map_or(first, Digest::from)),
            distance: changed.then_some((distance, pair.decoders.is_some())),
        })
    }
}

impl<'a> Placed<'a> {
    fn reader(&self) -> Result<Reader<'a>, ReadError> {
        let storage = self.part.storages.get(self.held.view.storage().index());
        let storage = storage.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::UnexpectedEof))?;
        Reader::new(&self.part.streams, storage, &self.held.view)
    }
}

/// Fills the block with whole elements, but at the end.
fn fill(reader: &mut Reader<'_>, scratch: &mut Scratch, block: &mut [u8]) -> Result<usize, ReadError> {
    let mut filled = 0_usize;
    while reader.remaining() > 0 {
        let n = reader.read(scratch, block.get_mut(filled..).unwrap_or_default())?;
        if n == 0 {
            break;
        }
        filled = filled.saturating_add(n);
    }
    Ok(filled)
}

/// How two element types are compared.
struct Pair {
    /// Bytes of a value.
    widths: (usize, usize),
    /// Values of an element.
    values: u64,
    /// Where both are floats.
    decoders: Option<(Decoder, Decoder)>,
}

impl Pair {
    /// Floats with floats, and anything of whole bytes with its own type.
    fn new(left: Stored, right: Stored) -> Option<Self> {
        if let (Some(l), Some(r)) = (Decoder::new(left), Decoder::new(right)) {
            let widths = (l.width, r.width);
            let values = l.values;
            return (values == r.values).then_some(Self { widths, values, decoders: Some((l, r)) });
        }
        let width = left.bitsize().checked_div(8).filter(|_| left == right && left.bitsize() >= 8)?;
        Some(Self { widths: (width, width), values: 1, decoders: None })
    }

    fn update(&self, distance: &mut Distance, left: &[u8], right: &[u8], values: &mut [Vec<f64>; 2]) {
        let same = left == right && self.widths.0 == self.widths.1;
        match &self.decoders {
            _ if same => distance.pass(left.len().checked_div(self.widths.0).unwrap_or(0)),
            Some((l, r)) => {
                let [left_values, right_values] = values;
                left_values.clear();
                right_values.clear();
                l.decode(left, left_values);
                r.decode(right, right_values);
                distance.update(left_values, right_values);
            }
            None => {
                let width = self.widths.0.max(1);
                let pairs = left.chunks(width).zip(right.chunks(width));
                distance.count(pairs.filter(|(l, r)| l != r).count());
            }
        }
    }
}
