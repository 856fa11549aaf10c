//! [`Gathered`]: the elements of any view as a source of contiguous little-endian bytes.

use std::io;
use std::sync::Arc;

use crate::bytes::{ReadAt, index, length};

use super::cast::Cast;
use super::gather::{ReadError, Reader, Scratch};
use super::storage::{Place, Storage, StreamId, Streams};
use super::view::View;

/// Memory for one read.
const SCRATCH: usize = 1 << 20;

/// A view as a source. It serves parts of tensors that are not stored as they are read: transposed, big-endian, negated,
/// of another type.
pub(crate) struct Gathered {
    streams: Streams,
    storage: Storage,
    view: View,
    cast: Option<Cast>,
}

impl Gathered {
    /// A view of a storage that lies in `source` as it is.
    pub(crate) fn new(source: Arc<dyn ReadAt>, storage: &Storage, view: View) -> Option<Self> {
        let Place::Stored { span, .. } = storage.place else { return None };
        let place = Place::Stored { stream: StreamId::SOURCE, span };
        let streams = Streams::new(source);
        Some(Self { streams, storage: Storage { place, ..storage.clone() }, view, cast: None })
    }

    /// The same elements as another type.
    pub(crate) fn cast(self, cast: Cast) -> Self {
        Self { cast: Some(cast), ..self }
    }

    /// Bytes of an element as it is read.
    fn width(&self) -> u64 {
        self.cast.map_or(self.view.dtype(), Cast::to).size()
    }

    fn elements(&self, first: u64, out: &mut [u8]) -> Result<(), ReadError> {
        let count = length(out.len()).checked_div(self.width()).unwrap_or(0);
        let Some(cast) = self.cast else { return self.plain(first, count, out) };
        let mut plain = vec![0; index(count.saturating_mul(self.view.dtype().size()))];
        self.plain(first, count, &mut plain)?;
        let mut cast_out = Vec::with_capacity(out.len());
        cast.convert(self.view.dtype(), &plain, &mut cast_out)?;
        out.iter_mut().zip(cast_out).for_each(|(to, from)| *to = from);
        Ok(())
    }

    fn plain(&self, first: u64, count: u64, out: &mut [u8]) -> Result<(), ReadError> {
        let mut reader = Reader::new(&self.streams, &self.storage, &self.view)?;
        reader.restrict(first, first.saturating_add(count));
        let mut scratch = Scratch::new(SCRATCH);
        let mut rest = out;
        while !rest.is_empty() {
            let n = reader.read(&mut scratch, rest)?;
            if n == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            rest = rest.get_mut(n..).unwrap_or_default();
        }
        Ok(())
    }
}

impl ReadAt for Gathered {
    fn size(&self) -> u64 {
        self.view.elements().saturating_mul(self.width())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let width = self.width();
        let end = offset.checked_add(length(buf.len())).filter(|end| *end <= self.size());
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let (first, skip) = (offset.checked_div(width).unwrap_or(0), offset.checked_rem(width).unwrap_or(0));
        let whole = end.div_ceil(width).saturating_sub(first).saturating_mul(width);
        let failed = |error| match error {
            ReadError::Io(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        };
        if whole == length(buf.len()) {
            return self.elements(first, buf).map_err(failed);
        }
        // A read that begins or ends inside an element: rare.
        let mut around = vec![0; index(whole)];
        self.elements(first, &mut around).map_err(failed)?;
        buf.iter_mut().zip(around.iter().skip(index(skip))).for_each(|(to, from)| *to = *from);
        Ok(())
    }

    fn check_unchanged(&self) -> io::Result<()> {
        self.streams.source().check_unchanged()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Span;
    use crate::limits::Limits;
    use crate::tensor::{Dtype, Family, StorageId, ViewSpec};

    #[test]
    fn a_transposed_view_is_read_at_any_position() {
        let bytes: Vec<u8> = (0..24).collect();
        let place = Place::Stored { stream: StreamId::SOURCE, span: Span::between(0, 24) };
        let storage = Storage { key: "".into(), entry: None, place, len: 24, big_endian: true, crc32: None };
        let spec = ViewSpec {
            dtype: Dtype::I16,
            family: Family::Torch,
            offset: 0,
            shape: vec![4, 3],
            strides: vec![1, 4],
            negated: false,
            conjugated: false,
        };
        let view = View::new(StorageId(0), &storage, &spec, &Limits::default()).unwrap();
        let gathered = Gathered::new(Arc::new(bytes), &storage, view).unwrap();
        let mut whole = [0; 24];
        gathered.read_exact_at(&mut whole, 0).unwrap();
        assert_eq!(whole[..8], [1, 0, 9, 8, 17, 16, 3, 2]);
        for (from, to) in [(0, 24), (1, 5), (3, 4), (22, 24), (7, 7)] {
            let mut part = vec![0; to - from];
            gathered.read_exact_at(&mut part, u64::try_from(from).unwrap()).unwrap();
            assert_eq!(part, whole[from..to]);
        }
        assert!(gathered.read_exact_at(&mut [0; 2], 23).is_err());
    }
}
