//! Making a unit: reading, casting, hashing and writing its tensors.

use sha2::{Digest as _, Sha256};

use crate::bytes::{index, length};
use crate::tensor::{Cast, ReadError, Reader, Scratch};

use super::atomic::write_at;
use super::chains::{Piece, Sum, sum};
use super::engine::Shared;
use super::units::RUN;
use super::{Digest, ErrorKind, Item};

/// Bytes of a block: small enough to be still in the cache when it is hashed, large enough for few calls.
pub(super) const BLOCK: u64 = 1 << 20;

/// Memory for gathering, shared by all threads; and the most that one of them has a use for.
const SCRATCH: usize = 24 << 20;
const MOST_SCRATCH: usize = 12 << 20;

/// It does not pay to give less than this to another thread.
const HAND_OFF: u64 = 4 << 20;

/// What became of a tensor, or of a part of it.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Position in the order of the output.
    pub(super) position: usize,
    pub(super) sha256: Option<Digest>,
    pub(super) source_sha256: Option<Digest>,
    pub(super) exact: bool,
}

/// A tensor on its way to the output; another thread can go on with it.
#[derive(Debug)]
pub(super) struct Copying<'a> {
    unit: usize,
    position: usize,
    item: Item<'a>,
    reader: Reader<'a>,
    cast: Option<Cast>,
    hash: Option<Sha256>,
    source_hash: Option<Sha256>,
    exact: bool,
    written: u64,
    /// Where in its storage the bytes are whose CRC-32 is being computed.
    sums: Option<u64>,
}

/// The buffers of one thread, and what it brings back.
pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    scratch: Scratch,
    out: Vec<u8>,
    raw: Vec<u8>,
    cast: Vec<u8>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) sums: Vec<Sum>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, jobs: usize) -> Self {
        let scratch = SCRATCH.checked_div(jobs).unwrap_or(SCRATCH).min(MOST_SCRATCH);
        Self {
            shared,
            scratch: Scratch::new(scratch),
            out: vec![0; index(BLOCK.max(RUN))],
            raw: Vec::new(),
            cast: Vec::new(),
            outcomes: Vec::new(),
            sums: Vec::new(),
        }
    }

    /// A buffer for at most `wanted` bytes.
    pub(super) fn block(&mut self, wanted: u64) -> &mut [u8] {
        self.out.get_mut(..index(wanted.min(BLOCK))).unwrap_or_default()
    }

    /// Makes a unit. With the hash of the output at hand, hashes what it makes, and may leave the rest of a large
    /// tensor to another thread. Returns the number of bytes made.
    pub(super) fn make(&mut self, number: usize, hash: Option<&mut Sha256>) -> Result<u64, ErrorKind> {
        let Some(unit) = self.shared.units.get(number).copied() else { return Ok(0) };
        if unit.len > RUN || (unit.count == 1 && unit.len > RUN >> 1) {
            let copying = self.begin(number, unit.first, unit.part)?;
            return self.go_on(copying, hash);
        }
        let mut filled = 0;
        for position in unit.first..unit.first.saturating_add(unit.count) {
            let mut copying = self.begin(number, position, None)?;
            loop {
                let n = self.step(&mut copying, filled)?;
                if n == 0 {
                    break;
                }
                filled = filled.saturating_add(n);
            }
            self.finish(copying);
        }
        let made = self.out.get(..filled).unwrap_or_default();
        write_at(self.shared.file, made, unit.start).map_err(ErrorKind::Write)?;
        if let Some(hash) = hash {
            hash.update(made);
        }
        self.shared.publish(number, unit.len, unit.len);
        Ok(unit.len)
    }

    /// Goes on with a large tensor, to its end or until another thread takes it over.
    pub(super) fn go_on(
        &mut self,
        mut copying: Copying<'a>,
        mut hash: Option<&mut Sha256>,
    ) -> Result<u64, ErrorKind> {
        let start = self.shared.units.get(copying.unit).map_or(0, |unit| unit.start);
        while !self.shared.failed() {
            let n = self.step(&mut copying, 0)?;
            if n == 0 {
                break;
            }
            let made = self.out.get(..n).unwrap_or_default();
            let at = start.saturating_add(copying.written);
            write_at(self.shared.file, made, at).map_err(ErrorKind::Write)?;
            if let Some(hash) = &mut hash {
                hash.update(made);
            }
            copying.written = copying.written.saturating_add(length(n));
            self.shared.publish(copying.unit, copying.written, length(n));
            if hash.is_some() && copying.reader.remaining() > HAND_OFF && self.shared.has_idle() {
                copying.reader.detach();
                let written = copying.written;
                self.shared.hand_off(copying);
                return Ok(written);
            }
        }
        let written = copying.written;
        self.finish(copying);
        Ok(written)
    }

    fn begin(
        &self,
        unit: usize,
        position: usize,
        part: Option<(u64, u64)>,
    ) -> Result<Copying<'a>, ErrorKind> {
        let shared = self.shared;
        let item = shared.layout.order.get(position).and_then(|i| shared.items.get(index(u64::from(*i))));
        let item = *item.ok_or(ErrorKind::TooLarge)?;
        let id = item.view.storage();
        let storage =
            shared.storages.get(id.index()).ok_or_else(|| ErrorKind::NoStorage(item.name.into()))?;
        let mut reader =
            Reader::new(shared.streams, storage, item.view).map_err(|error| failed(&item, error))?;
        let mut from = 0;
        if let Some((first, last)) = part {
            reader.restrict(first, last);
            from = first.saturating_mul(item.view.dtype().size());
        }
        let sums = (shared.checks.covered_by(id) == Some(position)).then_some(from);
        if sums.is_some() {
            reader.checksum();
        }
        let cast = item.cast();
        Ok(Copying {
            unit,
            position,
            item,
            reader,
            cast,
            hash: shared.digests.then(Sha256::new),
            source_hash: (shared.digests && cast.is_some()).then(Sha256::new),
            exact: true,
            written: 0,
            sums,
        })
    }

    /// Reads the next block into the output buffer, from `at` on, and returns its size there; 0 at the end.
    fn step(&mut self, copying: &mut Copying<'a>, at: usize) -> Result<usize, ErrorKind> {
        let room = self.out.get_mut(at..).unwrap_or_default();
        let fail = |error| failed(&copying.item, error);
        let n = match copying.cast {
            None => copying.reader.read(&mut self.scratch, room).map_err(fail)?,
            Some(cast) => {
                self.raw.resize(index(BLOCK >> 1), 0);
                let fits = length(room.len()).checked_div(copying.item.dtype().size()).unwrap_or(0);
                let fits = index(fits.saturating_mul(copying.item.view.dtype().size()));
                let raw = self.raw.get_mut(..fits.min(index(BLOCK >> 1))).unwrap_or_default();
                let n = copying.reader.read(&mut self.scratch, raw).map_err(fail)?;
                let raw = raw.get(..n).unwrap_or_default();
                if let Some(hash) = &mut copying.source_hash {
                    hash.update(raw);
                }
                self.cast.clear();
                let exact = cast.convert(copying.item.view.dtype(), raw, &mut self.cast);
                copying.exact &= exact.map_err(|error| failed(&copying.item, error.into()))?;
                room.iter_mut().zip(&self.cast).for_each(|(to, from)| *to = *from);
                self.cast.len()
            }
        };
        if n == 0 && copying.reader.remaining() > 0 {
            let short = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(failed(&copying.item, short.into()));
        }
        if let Some(hash) = &mut copying.hash {
            hash.update(self.out.get(at..at.saturating_add(n)).unwrap_or_default());
        }
        Ok(n)
    }

    fn finish(&mut self, copying: Copying<'a>) {
        if let (Some(offset), Some(crc)) = (copying.sums, copying.reader.crc()) {
            let storage = copying.item.view.storage();
            self.sums.push(Sum {
                storage,
                offset,
                len: copying.reader.bytes_read().saturating_sub(offset),
                crc,
            });
        }
        self.outcomes.push(Outcome {
            position: copying.position,
            sha256: copying.hash.map(Digest::from),
            source_sha256: copying.source_hash.map(Digest::from),
            exact: copying.exact,
        });
    }

    /// Computes the CRC-32 of a part of a storage that no copy covers.
    pub(super) fn sum(&mut self, piece: Piece) -> Result<(), ErrorKind> {
        let shared = self.shared;
        let sum = sum(shared.streams, shared.storages, piece, self.block(BLOCK))?;
        self.sums.extend(sum);
        Ok(())
    }
}

fn failed(item: &Item<'_>, error: ReadError) -> ErrorKind {
    ErrorKind::Tensor { name: item.name.into(), error }
}
