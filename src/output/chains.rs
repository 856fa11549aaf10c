//! What is computed along a source: its digest, and the CRC-32 of its storages.
//!
//! Where the digest of a source is wanted, one pass gives both. Otherwise a storage is checked while it is copied,
//! if one contiguous tensor shows all of it, or else read once more, in pieces that any thread can take.

use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};

use crate::bytes::{Span, index, length};
use crate::tensor::{Place, Storage, StorageId, StreamId, Streams};

use super::engine::Shared;
use super::layout::Layout;
use super::produce::{BLOCK, Worker};
use super::{Digest, ErrorKind, Item};

/// Bytes of a storage that one thread checks at a time.
const PIECE: u64 = 8 << 20;

/// No tensor of the output covers the storage.
const NONE: u32 = u32::MAX;

/// A part of a storage to be read for its CRC-32 alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    storage: StorageId,
    offset: u64,
    len: u64,
}

/// The CRC-32 of a part of a storage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum {
    pub(super) storage: StorageId,
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) crc: u32,
}

/// Which storages are checked where.
#[derive(Debug)]
pub(super) struct Checks {
    /// In the passes over the sources: they do not overlap, and stand in the order of their source.
    in_pass: Vec<(StreamId, Span, StorageId)>,
    /// For each storage, the position in the output of the tensor whose copy gives its CRC-32.
    covering: Vec<u32>,
    pieces: Vec<Piece>,
    next: AtomicUsize,
}

impl Checks {
    /// A pass over a source checks every storage that it meets; copies check those that tensors of the output show.
    pub(super) fn new(
        storages: &[Storage],
        items: &[Item<'_>],
        layout: &Layout,
        sources: &[StreamId],
    ) -> Result<Self, ErrorKind> {
        let mut checks =
            Self { in_pass: Vec::new(), covering: Vec::new(), pieces: Vec::new(), next: AtomicUsize::new(0) };
        if storages.iter().all(|storage| storage.crc32.is_none()) {
            return Ok(checks);
        }
        let mut wanted = vec![false; storages.len()];
        checks.meet(storages, &mut wanted, sources);
        checks.cover(storages, items, layout, &mut wanted, sources);
        for (id, (storage, wanted)) in (0..).map(StorageId).zip(storages.iter().zip(wanted)) {
            if storage.len == 0 && storage.crc32.is_some_and(|crc| crc != 0) {
                return Err(mismatch(storage, 0));
            }
            if wanted {
                checks.cut(id, storage.len);
            }
        }
        Ok(checks)
    }

    /// Finds the storages for the passes; those that overlap another are to be read by themselves.
    fn meet(&mut self, storages: &[Storage], wanted: &mut [bool], sources: &[StreamId]) {
        for (id, storage) in (0..).map(StorageId).zip(storages) {
            if let (Place::Stored { stream, span }, Some(_)) = (storage.place, storage.crc32)
                && sources.contains(&stream)
                && !span.is_empty()
            {
                self.in_pass.push((stream, span, id));
            }
        }
        self.in_pass.sort_unstable();
        let mut end = (StreamId::SOURCE, 0);
        self.in_pass.retain(|(stream, span, id)| {
            let apart = (*stream, span.start()) >= end;
            if apart {
                end = (*stream, span.end());
            } else if let Some(wanted) = wanted.get_mut(id.index()) {
                *wanted = true;
            }
            apart
        });
    }

    /// Finds the tensors whose copies cover their storages, and the storages that need a read of their own.
    fn cover(
        &mut self,
        storages: &[Storage],
        items: &[Item<'_>],
        layout: &Layout,
        wanted: &mut [bool],
        sources: &[StreamId],
    ) {
        self.covering = vec![NONE; storages.len()];
        for (position, item) in (0_u32..).zip(&layout.order) {
            let Some(item) = items.get(index(u64::from(*item))) else { continue };
            let id = item.view.storage();
            let at = id.index();
            let Some(storage) = storages.get(at).filter(|storage| storage.crc32.is_some()) else { continue };
            let met = matches!(storage.place, Place::Stored { stream, .. } if sources.contains(&stream));
            let (Some(covering), Some(wanted)) = (self.covering.get_mut(at), wanted.get_mut(at)) else {
                continue;
            };
            if met || *covering != NONE {
                continue;
            }
            let view = item.view;
            let covers = view.is_contiguous() && view.offset() == 0 && view.nbytes() == storage.len;
            if covers && storage.len > 0 {
                (*covering, *wanted) = (position, false);
            } else {
                *wanted = true;
            }
        }
    }

    fn cut(&mut self, storage: StorageId, len: u64) {
        let mut offset = 0_u64;
        while offset < len {
            let piece = len.saturating_sub(offset).min(PIECE);
            self.pieces.push(Piece { storage, offset, len: piece });
            offset = offset.saturating_add(piece);
        }
    }

    /// The storages for the pass over a source.
    fn in_source(&self, source: StreamId) -> &[(StreamId, Span, StorageId)] {
        let first = self.in_pass.partition_point(|(stream, ..)| *stream < source);
        let after = self.in_pass.partition_point(|(stream, ..)| *stream <= source);
        self.in_pass.get(first..after).unwrap_or_default()
    }

    /// The tensor whose copy is to give the CRC-32 of a storage.
    pub(super) fn covered_by(&self, storage: StorageId) -> Option<usize> {
        let position = self.covering.get(storage.index()).filter(|position| **position != NONE)?;
        usize::try_from(*position).ok()
    }

    /// The next piece that nobody has taken.
    pub(super) fn claim(&self) -> Option<Piece> {
        let taken = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed));
        if taken.is_none() {
            self.next.store(self.pieces.len(), Ordering::Relaxed);
        }
        taken.copied()
    }
}

/// Joins the parts of each storage and compares them with what the archive states.
pub(super) fn verify(storages: &[Storage], mut sums: Vec<Sum>) -> Result<(), ErrorKind> {
    sums.sort_unstable_by_key(|sum| (sum.storage, sum.offset));
    for parts in sums.chunk_by(|a, b| a.storage == b.storage) {
        let Some(storage) = parts.first().and_then(|part| storages.get(part.storage.index())) else {
            continue;
        };
        let mut whole = crc32fast::Hasher::new();
        for part in parts {
            whole.combine(&crc32fast::Hasher::new_with_initial_len(part.crc, part.len));
        }
        compare(storage, whole.finalize())?;
    }
    Ok(())
}

fn compare(storage: &Storage, computed: u32) -> Result<(), ErrorKind> {
    if storage.crc32.is_some_and(|stated| stated != computed) {
        Err(mismatch(storage, computed))
    } else {
        Ok(())
    }
}

pub(super) fn mismatch(storage: &Storage, computed: u32) -> ErrorKind {
    ErrorKind::Crc { entry: entry(storage), stated: storage.crc32.unwrap_or(0), computed }
}

/// What to call a storage in a message.
pub(super) fn entry(storage: &Storage) -> Box<str> {
    storage.entry.clone().unwrap_or_else(|| storage.key.clone())
}

/// Reads a piece for its CRC-32.
pub(super) fn sum(
    streams: &Streams,
    storages: &[Storage],
    piece: Piece,
    block: &mut [u8],
) -> Result<Option<Sum>, ErrorKind> {
    let Some(Place::Stored { stream, span }) =
        storages.get(piece.storage.index()).map(|storage| storage.place)
    else {
        return Ok(None);
    };
    let span = span.sub(piece.offset, piece.len);
    let span = span.ok_or_else(|| ErrorKind::Source(std::io::ErrorKind::UnexpectedEof.into()))?;
    let mut crc = crc32fast::Hasher::new();
    let mut at = span.start();
    while at < span.end() {
        let room = index(span.end().saturating_sub(at)).min(block.len());
        let block = block.get_mut(..room).unwrap_or_default();
        streams.stream(stream).read_exact_at(block, at).map_err(ErrorKind::Source)?;
        crc.update(block);
        at = at.saturating_add(length(room));
    }
    Ok(Some(Sum { storage: piece.storage, offset: piece.offset, len: piece.len, crc: crc.finalize() }))
}

/// Hashes a source from front to back, and checks the storages on the way. `None` where another thread has failed.
pub(super) fn source_pass(
    shared: &Shared<'_>,
    source: StreamId,
    worker: &mut Worker<'_>,
) -> Result<Option<Digest>, ErrorKind> {
    let mut storages = shared.checks.in_source(source).iter().peekable();
    let source = shared.streams.stream(source);
    let size = source.size();
    let mut hash = Sha256::new();
    let mut crc = crc32fast::Hasher::new();
    let mut at = 0_u64;
    while at < size {
        if shared.failed() {
            return Ok(None);
        }
        let block = worker.block(BLOCK.min(size.saturating_sub(at)));
        source.read_exact_at(block, at).map_err(ErrorKind::Source)?;
        hash.update(&*block);
        let end = at.saturating_add(length(block.len()));
        while let Some((_, span, id)) = storages.peek().filter(|(_, span, _)| span.start() < end) {
            let from = span.start().max(at).saturating_sub(at);
            let to = span.end().min(end).saturating_sub(at);
            crc.update(block.get(index(from)..index(to)).unwrap_or_default());
            if span.end() > end {
                break;
            }
            let computed = std::mem::take(&mut crc).finalize();
            shared.storages.get(id.index()).map_or(Ok(()), |storage| compare(storage, computed))?;
            storages.next();
        }
        at = end;
    }
    match storages.next() {
        // A storage that reaches beyond the source.
        Some(_) => Err(ErrorKind::Source(std::io::ErrorKind::UnexpectedEof.into())),
        None => Ok(Some(hash.into())),
    }
}
