//! [`Reader`]: a view as contiguous row-major little-endian bytes, by positional reads and in fixed memory.
//!
//! A contiguous view is read straight into the caller's buffer. Any other view is cut into bands, boxes of the output
//! that are as large as the scratch allows. A band is read from the source in runs as long as its strides permit,
//! and then scattered in memory, in blocks that fit the cache. So a transposed matrix costs a few thousand reads of
//! some KiB each and not one for each element.

mod bands;
mod bits;
mod scatter;

use std::io;

use crate::bytes::{ReadAt, index, length};

use super::cast::CastError;
use super::dtype::Dtype;
use super::storage::{Place, Storage, Streams};
use super::view::View;

use bands::{Dim, Footprint};
use bits::Fix;

/// Why the bytes of a tensor could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The source could not be read, or ended early.
    #[error("read failed: {0}")]
    Io(#[from] io::Error),
    /// A boolean that is neither 0 nor 1. Readers may take such a byte for undefined behaviour.
    #[error("element {element} is a boolean of value {value:#04x}, neither 0 nor 1")]
    Bool {
        /// Position in the tensor, row-major.
        element: u64,
        /// The byte.
        value: u8,
    },
    /// The tensor has its negative bit set and a type without a sign.
    #[error("{0} has no sign to turn")]
    Unsigned(Dtype),
    /// A value that does not fit the type it is cast to.
    #[error(transparent)]
    Cast(#[from] CastError),
    /// The storage has not been inflated yet (misuse).
    #[error("the storage is still deflated")]
    Deflated,
}

/// Memory for gathering, of a fixed size and used for one tensor after the other.
#[derive(Debug)]
pub struct Scratch {
    bytes: Vec<u8>,
    limit: u64,
}

/// Below this a band would hold too little to be worth a plan.
const LEAST_SCRATCH: usize = 64 * 1024;

impl Scratch {
    /// At most about `limit` bytes, taken when a view first needs them.
    pub fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit: length(limit.max(LEAST_SCRATCH)) }
    }

    fn take(&mut self, wanted: u64) -> &mut [u8] {
        let wanted = index(wanted);
        if self.bytes.len() < wanted {
            self.bytes.reserve_exact(wanted.saturating_sub(self.bytes.len()));
            self.bytes.resize(wanted, 0);
        }
        self.bytes.get_mut(..wanted).unwrap_or_default()
    }
}

/// A tensor that is being read, front to back.
pub struct Reader<'a> {
    source: &'a dyn ReadAt,
    /// Position of the first element in the source.
    base: u64,
    width: u64,
    fix: Fix,
    position: u64,
    end: u64,
    strided: Option<Box<Strided>>,
    crc: Option<crc32fast::Hasher>,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("position", &self.position)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// What a view that is not contiguous needs beside its position.
#[derive(Debug)]
struct Strided {
    dims: Vec<Dim>,
    /// Chosen once the scratch is known.
    plan: Option<bands::Plan>,
    band: Option<Band>,
}

/// A box of the output whose bytes are in the scratch.
#[derive(Debug)]
struct Band {
    start: u64,
    end: u64,
    /// Its dimensions with the strides that they have in the scratch.
    dims: Vec<Dim>,
}

impl<'a> Reader<'a> {
    /// Prepares to read a view of `storage`.
    ///
    /// # Errors
    /// [`ReadError::Deflated`]; [`ReadError::Unsigned`]; an I/O error where the view reaches beyond what the storage
    /// has in its stream.
    pub fn new(streams: &'a Streams, storage: &Storage, view: &View) -> Result<Self, ReadError> {
        let Place::Stored { stream, span } = storage.place else {
            return Err(ReadError::Deflated);
        };
        let width = view.dtype().size();
        let fix = Fix::new(view, storage.big_endian).ok_or(ReadError::Unsigned(view.dtype()))?;
        // A view is proven against its own storage; a caller who pairs it with another must not read beside that.
        if !view.is_empty() && reach(view).is_none_or(|end| end > span.len()) {
            return Err(ReadError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        let strided = (!view.is_empty() && !view.is_contiguous()).then(|| {
            let dims = bands::dims(view.shape(), view.strides(), width);
            Box::new(Strided { dims, plan: None, band: None })
        });
        Ok(Self {
            source: streams.stream(stream),
            base: span.start().saturating_add(view.offset().saturating_mul(width)),
            width,
            fix,
            position: 0,
            end: view.elements(),
            strided,
            crc: None,
        })
    }

    /// Bytes still to come.
    pub fn remaining(&self) -> u64 {
        self.end.saturating_sub(self.position).saturating_mul(self.width)
    }

    /// Bytes of the view before the next one to come.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.position.saturating_mul(self.width)
    }

    /// Reads only the elements from `from` up to `to`; for contiguous views.
    pub(crate) fn restrict(&mut self, from: u64, to: u64) {
        self.end = to.min(self.end);
        self.position = from.min(self.end);
    }

    /// From now on computes the CRC-32 of the source bytes; for contiguous views.
    pub(crate) fn checksum(&mut self) {
        self.crc = Some(crc32fast::Hasher::new());
    }

    /// The CRC-32 so far, where it was asked for.
    pub(crate) fn crc(&self) -> Option<u32> {
        self.crc.clone().map(crc32fast::Hasher::finalize)
    }

    /// Forgets what the scratch holds, so that another thread can go on with a scratch of its own.
    pub(crate) fn detach(&mut self) {
        if let Some(strided) = &mut self.strided {
            strided.band = None;
            strided.plan = None;
        }
    }

    /// Fills the front of `out` with the next whole elements and returns how many bytes that is; 0 at the end. `out`
    /// must have room for one element (16 bytes).
    ///
    /// # Errors
    /// Those of reading; a boolean that is neither 0 nor 1.
    pub fn read(&mut self, scratch: &mut Scratch, out: &mut [u8]) -> Result<usize, ReadError> {
        let room = length(out.len()).checked_div(self.width).unwrap_or(0);
        let wanted = room.min(self.end.saturating_sub(self.position));
        let filled = if self.strided.is_some() {
            self.gather(scratch, out, wanted)?
        } else {
            self.copy(out, wanted)?;
            wanted
        };
        let bytes = index(filled.saturating_mul(self.width));
        let part = out.get_mut(..bytes).unwrap_or_default();
        if let Err((at, value)) = self.fix.apply(part) {
            return Err(ReadError::Bool { element: self.position.saturating_add(length(at)), value });
        }
        self.position = self.position.saturating_add(filled);
        Ok(bytes)
    }

    fn copy(&mut self, out: &mut [u8], elements: u64) -> Result<(), ReadError> {
        let part = out.get_mut(..index(elements.saturating_mul(self.width))).unwrap_or_default();
        if part.is_empty() {
            return Ok(());
        }
        let at = self.base.saturating_add(self.position.saturating_mul(self.width));
        self.source.read_exact_at(part, at)?;
        if let Some(crc) = &mut self.crc {
            crc.update(part);
        }
        Ok(())
    }

    /// Scatters from as many bands as `out` has room for, and returns the number of elements.
    fn gather(&mut self, scratch: &mut Scratch, out: &mut [u8], wanted: u64) -> Result<u64, ReadError> {
        let Some(strided) = &mut self.strided else { return Ok(0) };
        let mut done = 0_u64;
        while done < wanted {
            let at = self.position.saturating_add(done);
            if strided.band.as_ref().is_none_or(|band| at < band.start || at >= band.end) {
                let plan =
                    strided.plan.get_or_insert_with(|| bands::plan(&strided.dims, self.width, scratch.limit));
                strided.band =
                    Some(load(self.source, self.base, &strided.dims, at, plan, self.width, scratch)?);
            }
            let Some(band) = &strided.band else { break };
            let cut = bands::cut(&band.dims, at.saturating_sub(band.start), wanted.saturating_sub(done));
            if cut.elements == 0 {
                break;
            }
            let from = index(done.saturating_mul(self.width));
            let target = out.get_mut(from..).unwrap_or_default();
            let boxed = cut.dims(&band.dims);
            scatter::scatter(
                self.width,
                scratch.bytes.get(index(cut.offset)..).unwrap_or_default(),
                &boxed,
                target,
            );
            done = done.saturating_add(cut.elements);
        }
        Ok(done)
    }
}

/// One past the last byte that a view shows of its storage.
fn reach(view: &View) -> Option<u64> {
    let last = view.shape().iter().zip(view.strides()).try_fold(view.offset(), |at, (size, stride)| {
        at.checked_add(size.saturating_sub(1).checked_mul(*stride)?)
    });
    last?.checked_add(1)?.checked_mul(view.dtype().size())
}

/// Reads the band that begins at element `at` of the output.
fn load(
    source: &dyn ReadAt,
    base: u64,
    dims: &[Dim],
    at: u64,
    plan: &bands::Plan,
    width: u64,
    scratch: &mut Scratch,
) -> Result<Band, ReadError> {
    let mut most = plan.elements;
    let (cut, boxed, footprint) = loop {
        let cut = bands::cut(dims, at, most);
        let boxed = cut.dims(dims);
        let footprint = Footprint::new(&boxed, width, plan.gap);
        // The rest of a band can join fewer of its dimensions than a whole one and then need more padding.
        if footprint.bytes <= scratch.limit || most <= 1 {
            break (cut, boxed, footprint);
        }
        most = cut.elements >> 1;
    };
    let start = base.saturating_add(cut.offset);
    let run = index(footprint.run);
    let mut rest = scratch.take(footprint.bytes);
    let mut failure = Ok(());
    bands::walk(&footprint.outer, &[], |offset, _| {
        let split = std::mem::take(&mut rest).split_at_mut_checked(index(footprint.pitch));
        let (row, tail) = split.unwrap_or_default();
        rest = tail;
        if failure.is_ok() {
            failure =
                source.read_exact_at(row.get_mut(..run).unwrap_or_default(), start.saturating_add(offset));
        }
    });
    failure?;
    Ok(Band { start: at, end: at.saturating_add(cut.elements), dims: footprint.inside(&boxed) })
}

/// Reads a whole tensor into `out`, which has exactly its size.
///
/// # Errors
/// Those of [`Reader`]; [`io::ErrorKind::InvalidInput`] for a buffer of another size.
pub fn read_into(
    streams: &Streams,
    storage: &Storage,
    view: &View,
    scratch: &mut Scratch,
    out: &mut [u8],
) -> Result<(), ReadError> {
    let mut reader = Reader::new(streams, storage, view)?;
    if reader.remaining() != length(out.len()) {
        return Err(ReadError::Io(io::ErrorKind::InvalidInput.into()));
    }
    let mut rest = out;
    while !rest.is_empty() {
        let n = reader.read(scratch, rest)?;
        if n == 0 {
            return Err(ReadError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        rest = rest.get_mut(n..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
