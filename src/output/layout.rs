//! The header: `u64` length, compact JSON, spaces up to a multiple of 8; and where each tensor comes to lie.
//!
//! Tensors stand by descending type (in the order of the library's `Dtype`) and then by name, as the
//! [library](https://docs.rs/safetensors/0.8.0/src/safetensors/tensor.rs.html) sorts them, so that the same tensors
//! give the same bytes. Only its `__metadata__` is in random order; here it is sorted.

use std::collections::HashSet;
use std::io::Write as _;

use crate::bytes::{index, length};

use super::{ErrorKind, Item, Metadata};

/// What the library accepts.
const MOST_HEADER: u64 = 100_000_000;

/// Where everything comes to lie.
#[derive(Debug)]
pub(super) struct Layout {
    /// Its length, the JSON and the padding.
    pub(super) header: Vec<u8>,
    /// Positions in the list of items, in the order of the file.
    pub(super) order: Vec<u32>,
    /// Where each tensor of `order` ends, counted from the end of the header.
    pub(super) ends: Vec<u64>,
}

impl Layout {
    pub(super) fn new(items: &[Item<'_>], metadata: &Metadata) -> Result<Self, ErrorKind> {
        check_names(items)?;
        let mut order: Vec<u32> = (0_u32..).take(items.len()).collect();
        let key = |i: &u32| items.get(index(u64::from(*i))).map(|item| (item.dtype().stored(), item.name));
        order.sort_unstable_by(|a, b| {
            let (a, b) = (key(a), key(b));
            b.map(|b| b.0).cmp(&a.map(|a| a.0)).then_with(|| a.map(|a| a.1).cmp(&b.map(|b| b.1)))
        });
        let mut header = vec![0; 8];
        header.push(b'{');
        if !metadata.is_empty() {
            header.extend_from_slice(b"\"__metadata__\":");
            json(&mut header, metadata)?;
        }
        let mut ends = Vec::with_capacity(order.len());
        let mut end = 0_u64;
        for item in order.iter().filter_map(|i| items.get(index(u64::from(*i)))) {
            if header.last() != Some(&b'{') {
                header.push(b',');
            }
            let start = end;
            end = end.checked_add(item.nbytes()).ok_or(ErrorKind::TooLarge)?;
            ends.push(end);
            describe(&mut header, item, (start, end))?;
            // Checked for each, so that a header never takes more memory than a permitted one.
            if length(header.len()) > MOST_HEADER.saturating_add(8) {
                return Err(ErrorKind::HeaderTooLarge { allowed: MOST_HEADER });
            }
        }
        header.push(b'}');
        header.resize(header.len().next_multiple_of(8), b' ');
        let len = length(header.len()).saturating_sub(8);
        if len > MOST_HEADER {
            return Err(ErrorKind::HeaderTooLarge { allowed: MOST_HEADER });
        }
        if let Some(first) = header.first_chunk_mut::<8>() {
            *first = len.to_le_bytes();
        }
        end.checked_add(length(header.len())).ok_or(ErrorKind::TooLarge)?;
        Ok(Self { header, order, ends })
    }

    /// Where the tensors begin.
    pub(super) fn data_start(&self) -> u64 {
        length(self.header.len())
    }

    /// Bytes of the file.
    pub(super) fn size(&self) -> u64 {
        self.data_start().saturating_add(self.ends.last().copied().unwrap_or(0))
    }

    /// Where the tensor at a position of the order begins and ends, counted from the end of the header.
    pub(super) fn offsets(&self, position: usize) -> (u64, u64) {
        let start = position.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        (start, self.ends.get(position).copied().unwrap_or(start))
    }
}

fn check_names(items: &[Item<'_>]) -> Result<(), ErrorKind> {
    let mut names = HashSet::with_capacity(items.len());
    for item in items {
        if item.name == "__metadata__" {
            return Err(ErrorKind::ReservedName);
        }
        if !names.insert(item.name) {
            return Err(ErrorKind::DuplicateName(item.name.into()));
        }
    }
    Ok(())
}

fn describe(header: &mut Vec<u8>, item: &Item<'_>, offsets: (u64, u64)) -> Result<(), ErrorKind> {
    json(header, item.name)?;
    write!(header, ":{{\"dtype\":\"{}\",\"shape\":", item.dtype().stored()).map_err(ErrorKind::Write)?;
    json(header, &item.view.stored_shape())?;
    header.extend_from_slice(b",\"data_offsets\":");
    json(header, &offsets)?;
    header.push(b'}');
    Ok(())
}

fn json<T: serde::Serialize + ?Sized>(header: &mut Vec<u8>, value: &T) -> Result<(), ErrorKind> {
    serde_json::to_writer(header, value).map_err(|error| ErrorKind::Write(error.into()))
}
