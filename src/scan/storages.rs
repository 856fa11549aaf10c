//! What lies in the storages of a checkpoint beside honest weights, and what its tensors are called.

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::accounting::unshown;
use crate::bytes::{Positioned, ReadAt, Span, length, read_vec};
use crate::checkpoint::Opened;
use crate::tensor::{Dtype, Place, Storage, StreamId};

use super::found::Spot;
use super::search::How;
use super::{Scanner, rules};

/// Runs of bytes that no tensor shows and that are searched.
const RUNS: usize = 10_000;
/// Bytes read at a time.
const BLOCK: u64 = 1 << 20;

impl Scanner<'_> {
    /// Looks at the storages of a checkpoint that could be opened, and at the names of its tensors.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn tensors(&mut self, opened: &Opened, spot: &Spot) -> io::Result<()> {
        self.names(opened, spot);
        self.booleans(opened, spot)?;
        let source = opened.streams.source();
        // Records of an archive are looked at as members, whether a tensor shows them or not.
        let bare =
            opened.storages.iter().filter(|storage| storage.entry.is_none() && !storage.key.is_empty());
        for span in bare.filter_map(Storage::stored_span) {
            self.weights(source, span, spot)?;
        }
        let hidden = unshown(StreamId::SOURCE, &opened.storages, &opened.tensors);
        let total = hidden.iter().fold(0_u64, |n, span| n.saturating_add(span.len()));
        if let Some(first) = hidden.first() {
            let message = format!("{total} bytes of storages that no tensor shows");
            self.found.add(&rules::UNSHOWN_STORAGE, spot.at(first.start(), None), message);
        }
        for span in hidden.into_iter().take(RUNS) {
            self.weights(source, span, spot)?;
        }
        Ok(())
    }

    /// Searches bytes that should be weights: where they begin, or everywhere where that was asked for.
    pub(super) fn weights(&mut self, source: &dyn ReadAt, span: Span, spot: &Spot) -> io::Result<()> {
        let how = if self.options.deep { How::Everywhere } else { How::Start };
        self.search(source, span, spot, how).map(drop)
    }

    /// Names that mean something else to who reads them.
    fn names(&mut self, opened: &Opened, spot: &Spot) {
        let odd = |c: char| {
            c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        };
        for (id, _) in opened.tree.tensors() {
            let path = opened.tree.path(id).join(".");
            if path.contains(odd) || path == "__metadata__" {
                let shown: String = path.escape_debug().take(120).collect();
                self.found.add(&rules::TENSOR_NAME, spot.whole(), format!("a tensor is called \"{shown}\""));
                return;
            }
        }
    }

    /// What tensors of booleans show is read whole.
    fn booleans(&mut self, opened: &Opened, spot: &Spot) -> io::Result<()> {
        let mut shown: BTreeMap<usize, Span> = BTreeMap::new();
        let views = opened.tensors.iter().map(|tensor| &tensor.view);
        for view in views.filter(|view| view.dtype() == Dtype::Bool && !view.is_empty()) {
            let dims = view.strides().iter().zip(view.shape());
            let last = dims.fold(view.offset(), |n, (stride, size)| {
                n.saturating_add(stride.saturating_mul(size.saturating_sub(1)))
            });
            let span = Span::between(view.offset(), last.saturating_add(1));
            let known = shown.entry(view.storage().index()).or_insert(span);
            *known = Span::between(known.start().min(span.start()), known.end().max(span.end()));
        }
        for (i, span) in shown {
            let Some(storage) = opened.storages.get(i) else { continue };
            if let Some((at, value)) = odd_boolean(opened, storage, span)? {
                let key = storage.entry.as_deref().unwrap_or(&storage.key);
                let message = format!("{}: value {value} at byte {at}", key.escape_debug());
                self.found.add(&rules::BOOL_VALUES, spot.whole(), message);
            }
        }
        Ok(())
    }
}

/// The first byte of a part of a storage that is neither 0 nor 1, and its value.
fn odd_boolean(opened: &Opened, storage: &Storage, part: Span) -> io::Result<Option<(u64, u8)>> {
    let mut at = 0_u64;
    let odd = |block: &[u8], at: u64| {
        let found =
            block.iter().zip(at..).find(|(byte, at)| **byte > 1 && (part.start()..part.end()).contains(at));
        found.map(|(byte, at)| (at, *byte))
    };
    match storage.place {
        Place::Stored { stream, span } => {
            let source = opened.streams.stream(stream);
            at = part.start();
            while at < span.len().min(part.end()) {
                let start = span.start().saturating_add(at);
                let block =
                    read_vec(source, Span::between(start, start.saturating_add(BLOCK).min(span.end())))?;
                if let Some(found) = odd(&block, at) {
                    return Ok(Some(found));
                }
                at = at.saturating_add(length(block.len()));
            }
        }
        Place::Deflated { stream, span } => {
            let mut stored = Positioned::new(opened.streams.stream(stream));
            io::Seek::seek(&mut stored, io::SeekFrom::Start(span.start()))?;
            let mut inflated = flate2::read::DeflateDecoder::new(stored.take(span.len()));
            let mut block = vec![0; crate::bytes::index(BLOCK)];
            // Damage is told where the storage is opened as a member.
            while let Ok(n @ 1..) = inflated.read(&mut block) {
                if let Some(found) = odd(block.get(..n).unwrap_or_default(), at) {
                    return Ok(Some(found));
                }
                at = at.saturating_add(length(n));
            }
        }
    }
    Ok(None)
}
