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

/// Handle of a stream: 0 is the first source file itself, others are further files, and what had to be inflated or
/// decoded first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

impl StreamId {
    /// The first source file.
    pub const SOURCE: Self = Self(0);

    /// The same stream of a list that now follows `before` others.
    fn moved(self, before: u32) -> Self {
        Self(self.0.saturating_add(before))
    }
}

/// The streams of a checkpoint, and which of its source files each is, or was decoded from.
#[derive(Clone)]
pub struct Streams {
    streams: Vec<Arc<dyn ReadAt>>,
    /// For each stream, the position of its file.
    files: Vec<u32>,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.streams.iter().map(ReadAt::size)).finish()
    }
}

impl Streams {
    /// Begins with the source file, as [`StreamId::SOURCE`].
    pub fn new(source: Arc<dyn ReadAt>) -> Self {
        Self { streams: vec![source], files: vec![0] }
    }

    /// Begins without a file: the first that is added becomes [`StreamId::SOURCE`].
    pub(crate) fn none() -> Self {
        Self { streams: Vec::new(), files: Vec::new() }
    }

    /// Adds a stream that was decoded from the first file.
    pub fn push(&mut self, stream: Arc<dyn ReadAt>) -> StreamId {
        self.add(stream, 0)
    }

    /// Adds a stream that was decoded from the file of another stream.
    pub fn push_beside(&mut self, stream: Arc<dyn ReadAt>, other: StreamId) -> StreamId {
        let file = position(other).and_then(|i| self.files.get(i)).copied().unwrap_or(0);
        self.add(stream, file)
    }

    /// Adds a further source file, whose position is the number of those before it.
    pub fn push_file(&mut self, stream: Arc<dyn ReadAt>) -> StreamId {
        self.add(stream, self.count_files())
    }

    fn add(&mut self, stream: Arc<dyn ReadAt>, file: u32) -> StreamId {
        let id = StreamId(self.count());
        self.streams.push(stream);
        self.files.push(file);
        id
    }

    fn count(&self) -> u32 {
        u32::try_from(self.streams.len()).unwrap_or(u32::MAX)
    }

    fn count_files(&self) -> u32 {
        self.files.iter().max().map_or(0, |last| last.saturating_add(1))
    }

    /// The handle that a stream of another checkpoint gets when that is joined.
    pub(crate) fn after(&self, other: StreamId) -> StreamId {
        other.moved(self.count())
    }

    /// Position of the source file that a stream is, or was decoded from.
    pub fn file_of(&self, id: StreamId) -> usize {
        let file = position(id).and_then(|i| self.files.get(i)).copied().unwrap_or(0);
        usize::try_from(file).unwrap_or(usize::MAX)
    }

    /// Adds the streams and files of another checkpoint, and moves the storages that lie in them.
    pub fn join(&mut self, further: Self, storages: &mut [Storage]) {
        let (before, files) = (self.count(), self.count_files());
        self.streams.extend(further.streams);
        self.files.extend(further.files.into_iter().map(|file| file.saturating_add(files)));
        for storage in storages {
            storage.place = match storage.place {
                Place::Stored { stream, span } => Place::Stored { stream: stream.moved(before), span },
                Place::Deflated { stream, span } => Place::Deflated { stream: stream.moved(before), span },
            };
        }
    }

    /// Puts another stream in the place of one that was added before it was complete.
    pub fn replace(&mut self, id: StreamId, stream: Arc<dyn ReadAt>) {
        if let Some(slot) = position(id).and_then(|i| self.streams.get_mut(i)) {
            *slot = stream;
        }
    }

    /// The stream behind a handle; an empty one for a handle of another checkpoint.
    pub fn stream(&self, id: StreamId) -> &dyn ReadAt {
        match position(id).and_then(|i| self.streams.get(i)) {
            Some(stream) => &**stream,
            None => const { &Vec::<u8>::new() },
        }
    }

    /// The stream behind a handle, to be shared.
    pub(crate) fn shared(&self, id: StreamId) -> Option<Arc<dyn ReadAt>> {
        position(id).and_then(|i| self.streams.get(i)).cloned()
    }

    /// The streams besides the first, in the order of their handles.
    pub(crate) fn decoded(&self) -> impl Iterator<Item = Arc<dyn ReadAt>> + '_ {
        self.streams.iter().skip(1).cloned()
    }

    /// The first source file.
    pub fn source(&self) -> &dyn ReadAt {
        self.stream(StreamId::SOURCE)
    }
}

fn position(id: StreamId) -> Option<usize> {
    usize::try_from(id.0).ok()
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
    /// Deflated, in a source file: to be inflated into a stream of its own before it can be read.
    Deflated {
        /// The file.
        stream: StreamId,
        /// Where in it.
        span: Span,
    },
}

impl Place {
    /// The stream that holds the bytes, inflated or not.
    pub fn stream(self) -> StreamId {
        match self {
            Self::Stored { stream, .. } | Self::Deflated { stream, .. } => stream,
        }
    }
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
    /// Bytes that it takes in the first source file; `None` where it lies in another stream.
    pub fn stored_span(&self) -> Option<Span> {
        match self.place {
            Place::Stored { stream: StreamId::SOURCE, span }
            | Place::Deflated { stream: StreamId::SOURCE, span } => Some(span),
            Place::Stored { .. } | Place::Deflated { .. } => None,
        }
    }
}
