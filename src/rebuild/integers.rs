//! Reading the few tensors whose values decide whether others are sound: the indices of sparse tensors, the sizes and
//! offsets of nested ones. In fixed memory, and within a budget for the whole source.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use flate2::read::DeflateDecoder;

use crate::bytes::{Positioned, Span, index, length};
use crate::limits::{LimitKind, check};
use crate::tensor::{Dtype, Place, ReadError, Reader, Scratch, Storage, StorageId, StreamId, TensorId, View};

use super::builder::{Builder, Kinded};
use super::error::ErrorKind;

/// What was read to check tensors.
#[derive(Debug, Default)]
pub(super) struct Purse {
    spent: u64,
    /// Deflated storages, inflated for this only.
    inflated: HashMap<StorageId, StreamId>,
    /// Small data of the arena.
    copies: HashMap<StorageId, StreamId>,
}

/// Deflated indices are inflated in memory, up to this many bytes in one source.
const MOST_INFLATED: u64 = 256 << 20;

/// Bytes of a tensor, front to back.
pub(super) struct Data<'b> {
    reader: Reader<'b>,
    scratch: Scratch,
    block: Vec<u8>,
    /// What of the block is not yet given out.
    ready: std::ops::Range<usize>,
    width: usize,
    position: u64,
}

impl Data<'_> {
    /// The next element, and its position; `None` at the end.
    pub(super) fn next(&mut self) -> Kinded<Option<(u64, &[u8])>> {
        if self.ready.is_empty() {
            let filled = self.reader.read(&mut self.scratch, &mut self.block).map_err(read)?;
            self.ready = 0..filled;
        }
        let end = self.ready.start.saturating_add(self.width);
        let Some(element) = self.block.get(self.ready.start..end).filter(|_| end <= self.ready.end) else {
            return Ok(None);
        };
        self.ready.start = end;
        let position = self.position;
        self.position = self.position.saturating_add(1);
        Ok(Some((position, element)))
    }

    /// The next element as an integer.
    pub(super) fn integer(&mut self) -> Kinded<Option<(u64, i64)>> {
        let Some((position, element)) = self.next()? else { return Ok(None) };
        let value = match (element.first_chunk::<8>(), element.first_chunk::<4>()) {
            (Some(wide), _) => i64::from_le_bytes(*wide),
            (None, Some(narrow)) => i64::from(i32::from_le_bytes(*narrow)),
            (None, None) => i64::from(element.first().copied().unwrap_or(0)),
        };
        Ok(Some((position, value)))
    }
}

fn read(error: ReadError) -> ErrorKind {
    ErrorKind::Read(Arc::new(error))
}

fn io(error: std::io::Error) -> ErrorKind {
    ErrorKind::Io(Arc::new(error))
}

impl Builder<'_> {
    /// The view of a tensor that was made.
    pub(super) fn view(&self, id: TensorId) -> Kinded<View> {
        let tensor = self.rebuilt.tensors.get(id.index());
        tensor.map(|tensor| tensor.view.clone()).ok_or(ErrorKind::Unsupported("a tensor that is missing"))
    }

    /// A tensor of integers, to be read.
    pub(super) fn integers(&mut self, id: TensorId, part: &'static str) -> Kinded<Data<'_>> {
        let view = self.view(id)?;
        match view.dtype() {
            Dtype::I64 | Dtype::I32 => self.elements(&view),
            _ => Err(ErrorKind::Part { part, rule: "integers of 32 or 64 bits expected" }),
        }
    }

    /// The elements of a view, to be read. Spends their bytes before.
    pub(super) fn elements(&mut self, view: &View) -> Kinded<Data<'_>> {
        /// Bytes read at a time.
        const BLOCK: usize = 64 * 1024;
        self.purse.spent = self.purse.spent.saturating_add(view.nbytes());
        check(LimitKind::IndexBytes, self.context.limits.index_bytes, self.purse.spent)?;
        let id = view.storage();
        let storage = self.storage(id).ok_or(ErrorKind::PersistentId("storage is missing"))?;
        let place = match storage.place {
            Place::Deflated { stream, span } => {
                let len = storage.len;
                self.inflated(id, (stream, span), len)?
            }
            Place::Stored { stream, span } if stream == self.arena_stream => {
                // The arena is no stream before the end: what was kept so far stands in for it.
                let bytes = self.arena.get(index(span.start())..index(span.end())).unwrap_or_default();
                let copy = || Arc::new(bytes.to_vec());
                let stream = *self.purse.copies.entry(id).or_insert_with(|| self.streams.push(copy()));
                Place::Stored { stream, span: Span::between(0, span.len()) }
            }
            stored @ Place::Stored { .. } => stored,
        };
        let storage = self.storage(id).ok_or(ErrorKind::PersistentId("storage is missing"))?;
        let storage = Storage { place, ..storage.clone() };
        let reader = Reader::new(self.streams, &storage, view).map_err(read)?;
        let room = view.nbytes().clamp(16, length(BLOCK));
        Ok(Data {
            reader,
            scratch: Scratch::new(BLOCK),
            block: vec![0; index(room)],
            ready: 0..0,
            width: index(view.dtype().size()),
            position: 0,
        })
    }

    fn inflated(&mut self, id: StorageId, (source, from): (StreamId, Span), len: u64) -> Kinded<Place> {
        let span = Span::between(0, len);
        if let Some(stream) = self.purse.inflated.get(&id) {
            return Ok(Place::Stored { stream: *stream, span });
        }
        let others = self.purse.inflated.values().map(|stream| self.streams.stream(*stream).size());
        let total = others.fold(len, u64::saturating_add);
        check(LimitKind::IndexBytes, MOST_INFLATED, total)?;
        let mut source = Positioned::new(self.streams.stream(source));
        std::io::Seek::seek(&mut source, std::io::SeekFrom::Start(from.start())).map_err(io)?;
        let mut bytes = Vec::new();
        let inflated = DeflateDecoder::new(source.take(from.len())).take(len).read_to_end(&mut bytes);
        inflated.map_err(io)?;
        let stream = self.streams.push(Arc::new(bytes));
        self.purse.inflated.insert(id, stream);
        Ok(Place::Stored { stream, span })
    }
}
