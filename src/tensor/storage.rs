//! Storages: runs of bytes that tensors are views of, and the streams that hold them.

use std::sync::Arc;

use crate::bytes::{ReadAt, Span};

/// Handle of a storage within its checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageId(pub u32);

impl StorageId {
    /// Position in the checkpoint's list of storages.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Handle of a stream: 0 is the source file itself, others are what had to be inflated or decoded first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

impl StreamId {
    /// The source file.
    pub const SOURCE: Self = Self(0);
}

/// The streams of a checkpoint.
#[derive(Clone)]
pub struct Streams(Vec<Arc<dyn ReadAt>>);

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(ReadAt::size)).finish()
    }
}

impl Streams {
    /// Begins with the source file, as [`StreamId::SOURCE`].
    pub fn new(source: Arc<dyn ReadAt>) -> Self {
        Self(vec![source])
    }

    /// Adds a stream.
    pub fn push(&mut self, stream: Arc<dyn ReadAt>) -> StreamId {
        let id = StreamId(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        self.0.push(stream);
        id
    }

    /// Puts another stream in the place of one that was added before it was complete.
    pub fn replace(&mut self, id: StreamId, stream: Arc<dyn ReadAt>) {
        if let Some(slot) = usize::try_from(id.0).ok().and_then(|i| self.0.get_mut(i)) {
            *slot = stream;
        }
    }

    /// The stream behind a handle; an empty one for a handle of another checkpoint.
    pub fn stream(&self, id: StreamId) -> &dyn ReadAt {
        match usize::try_from(id.0).ok().and_then(|i| self.0.get(i)) {
            Some(stream) => &**stream,
            None => const { &Vec::<u8>::new() },
        }
    }

    /// The stream behind a handle, to be shared.
    pub(crate) fn shared(&self, id: StreamId) -> Option<Arc<dyn ReadAt>> {
        usize::try_from(id.0).ok().and_then(|i| self.0.get(i)).cloned()
    }

    /// The source file.
    pub fn source(&self) -> &dyn ReadAt {
        self.stream(StreamId::SOURCE)
    }
}

/// Where the bytes of a storage are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// As they are, in a stream.
    Stored {
        /// Which stream.
        stream: StreamId,
        /// Where in it.
        span: Span,
    },
    /// Deflated, in the source file: to be inflated into a stream of its own before it can be read.
    Deflated(Span),
}

/// A run of bytes that tensors are views of.
#[derive(Debug, Clone)]
pub struct Storage {
    /// Key by which the pickle names it.
    pub key: Box<str>,
    /// Member of the archive, where the container names one.
    pub entry: Option<Box<str>>,
    /// Where the bytes are.
    pub place: Place,
    /// Bytes, once inflated.
    pub len: u64,
    /// Whether elements are big-endian.
    pub big_endian: bool,
    /// CRC-32 of the bytes, where the container states one that is to be checked.
    pub crc32: Option<u32>,
}

impl Storage {
    /// Bytes that it takes in the source file; `None` where it lies in another stream.
    pub fn stored_span(&self) -> Option<Span> {
        match self.place {
            Place::Stored { stream: StreamId::SOURCE, span } | Place::Deflated(span) => Some(span),
            Place::Stored { .. } => None,
        }
    }
}
