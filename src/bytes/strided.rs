//! [`Strided`]: one field of a table of records, as a source of its own.

use std::io;
use std::sync::Arc;

use super::{ReadAt, index, length};

/// The bytes of one field of every record, one after the other. It serves fields whose place in the record is no
/// multiple of their own size, which no tensor's strides can say.
pub(crate) struct Strided {
    source: Arc<dyn ReadAt>,
    start: u64,
    record: u64,
    item: u64,
    count: u64,
}

/// Bytes of records that are read at a time.
const BLOCK: u64 = 256 * 1024;

impl Strided {
    /// `count` records of `record` bytes each; in each, from `start` on, `item` bytes. `None` where the last would lie
    /// beyond what 64 bits can count.
    pub(crate) fn new(
        source: Arc<dyn ReadAt>,
        start: u64,
        record: u64,
        item: u64,
        count: u64,
    ) -> Option<Self> {
        let last = count.saturating_sub(1).checked_mul(record)?.checked_add(item)?.checked_add(start)?;
        let fits = item > 0
            && item <= record
            && count.checked_mul(item).is_some()
            && (count == 0 || last <= source.size());
        fits.then_some(Self { source, start, record, item, count })
    }

    /// Reads the items from `first` on into `out`, whose length is a multiple of an item's.
    fn items(&self, first: u64, out: &mut [u8]) -> io::Result<()> {
        let item = index(self.item).max(1);
        let at_once = BLOCK.checked_div(self.record).unwrap_or(1).max(1);
        let mut block = Vec::new();
        let mut next = first;
        for chunk in out.chunks_mut(item.saturating_mul(index(at_once))) {
            let n = length(chunk.len()).checked_div(self.item).unwrap_or(0);
            let span = n.saturating_sub(1).saturating_mul(self.record).saturating_add(self.item);
            block.resize(index(span), 0);
            let at = next.saturating_mul(self.record).saturating_add(self.start);
            self.source.read_exact_at(&mut block, at)?;
            for (to, from) in chunk.chunks_mut(item).zip(block.chunks(index(self.record))) {
                to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            }
            next = next.saturating_add(n);
        }
        Ok(())
    }
}

impl ReadAt for Strided {
    fn size(&self) -> u64 {
        self.count.saturating_mul(self.item)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(length(buf.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > self.size() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (Some(first), Some(skip)) = (offset.checked_div(self.item), offset.checked_rem(self.item)) else {
            return Ok(());
        };
        if skip == 0 && end.checked_rem(self.item) == Some(0) {
            return self.items(first, buf);
        }
        // A read that begins or ends inside an item: rare, since items are elements.
        let last = end.div_ceil(self.item);
        let mut whole = vec![0; index(last.saturating_sub(first).saturating_mul(self.item))];
        self.items(first, &mut whole)?;
        buf.iter_mut().zip(whole.iter().skip(index(skip))).for_each(|(to, from)| *to = *from);
        Ok(())
    }

    fn check_unchanged(&self) -> io::Result<()> {
        self.source.check_unchanged()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_gathered_from_its_records() {
        let bytes: Vec<u8> = (0..27).collect();
        let field = Strided::new(Arc::new(bytes), 1, 9, 3, 3).unwrap();
        let mut all = [0; 9];
        field.read_exact_at(&mut all, 0).unwrap();
        assert_eq!(all, [1, 2, 3, 10, 11, 12, 19, 20, 21]);
        let mut part = [0; 4];
        field.read_exact_at(&mut part, 2).unwrap();
        assert_eq!(part, [3, 10, 11, 12]);
        assert!(field.read_exact_at(&mut part, 6).is_err());
    }

    #[test]
    fn records_beyond_the_source_are_refused() {
        let bytes: Arc<dyn ReadAt> = Arc::new(vec![0_u8; 27]);
        assert!(Strided::new(bytes.clone(), 1, 9, 8, 3).is_some());
        assert!(Strided::new(bytes.clone(), 1, 9, 9, 3).is_none());
        assert!(Strided::new(bytes, 0, u64::MAX, 1, 3).is_none());
    }
}
