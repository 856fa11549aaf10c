//! [`Merge`]: several files on the way to one source, and tensors put together from parts of them.

use std::sync::Arc;

use crate::bytes::{Part, Span};
use crate::limits::Limits;
use crate::tensor::{
    Assembled, Dtype, Family, Fragment, Gathered, Piece, Place, Region, Step, Storage, StorageId, StreamId,
    Streams, Tensor, TensorId, View, ViewSpec,
};

use super::super::{Error, Opened, Source, SourceFile};
use super::FolderError;
use super::places::Places;

/// Files, what they hold, and the places of it.
pub(in crate::checkpoint) struct Merge<'a> {
    limits: &'a Limits,
    pub(in crate::checkpoint) files: Vec<SourceFile>,
    pub(in crate::checkpoint) strays: Vec<String>,
    pub(in crate::checkpoint) streams: Streams,
    pub(in crate::checkpoint) storages: Vec<Storage>,
    pub(in crate::checkpoint) tensors: Vec<Tensor>,
    pub(in crate::checkpoint) places: Places,
}

impl<'a> Merge<'a> {
    /// Begins with the first file.
    pub(in crate::checkpoint) fn new(source: Source, file: SourceFile, limits: &'a Limits) -> Self {
        Self {
            limits,
            files: vec![file],
            strays: Vec::new(),
            streams: Streams::new(source),
            storages: Vec::new(),
            tensors: Vec::new(),
            places: Places::default(),
        }
    }

    /// Adds a file.
    pub(in crate::checkpoint) fn file(&mut self, source: Source, mut file: SourceFile) -> StreamId {
        let stream = self.streams.push_file(source);
        file.stream = stream;
        self.files.push(file);
        stream
    }

    /// A view of a storage that is added for it.
    pub(in crate::checkpoint) fn view(
        &mut self,
        name: &str,
        storage: Storage,
        spec: &ViewSpec,
    ) -> Result<View, Error> {
        let id = StorageId(u32::try_from(self.storages.len()).unwrap_or(u32::MAX));
        let view = View::new(id, &storage, spec, self.limits);
        self.storages.push(storage);
        view.map_err(|error| Error::Tensor { name: name.into(), error })
    }

    fn tensor(&mut self, tensor: Tensor) -> TensorId {
        let id = TensorId(u32::try_from(self.tensors.len()).unwrap_or(u32::MAX));
        self.tensors.push(tensor);
        id
    }

    /// A tensor made of these parts. What is one part is that part.
    ///
    /// # Errors
    /// Parts that do not tile it, or of another type.
    pub(in crate::checkpoint) fn assemble(
        &mut self,
        name: &str,
        dtype: Dtype,
        shape: &[u64],
        pieces: Vec<Piece>,
    ) -> Result<TensorId, Error> {
        for piece in &pieces {
            if piece.view.dtype() != dtype || *piece.view.shape() != *piece.size {
                return Err(FolderError::Part {
                    name: name.into(),
                    found: piece.view.shape().into(),
                    dtype: piece.view.dtype(),
                    expected: piece.size.clone(),
                    wanted: dtype,
                }
                .into());
            }
        }
        if let [only] = pieces.as_slice()
            && region(only).is_whole(shape)
        {
            return Ok(self.tensor(Tensor::new(only.view.clone())));
        }
        let no_tensor = || FolderError::NoTensor { name: name.into() };
        let fragments: Option<Vec<Fragment>> = pieces.iter().map(|piece| self.fragment(piece)).collect();
        let assembled = Assembled::new(shape, dtype.size(), fragments.ok_or_else(no_tensor)?)
            .map_err(|error| FolderError::Tiling { name: name.into(), error })?;
        let beside = pieces.first().map_or(StreamId::SOURCE, |piece| self.stream_of(&piece.view));
        let len = crate::bytes::ReadAt::size(&assembled);
        let stream = self.streams.push_beside(Arc::new(assembled), beside);
        let place = Place::Stored { stream, span: Span::between(0, len) };
        let storage = Storage { key: "".into(), entry: None, place, len, big_endian: false, crc32: None };
        let spec = contiguous(dtype, shape).ok_or_else(no_tensor)?;
        let view = self.view(name, storage, &spec)?;
        Ok(self.tensor(Tensor { pieces: Some(pieces.into()), ..Tensor::new(view) }))
    }

    fn stream_of(&self, view: &View) -> StreamId {
        match self.storages.get(view.storage().index()).map(|storage| storage.place) {
            Some(Place::Stored { stream, .. }) => stream,
            _ => StreamId::SOURCE,
        }
    }

    /// The bytes of a part by themselves.
    fn fragment(&self, piece: &Piece) -> Option<Fragment> {
        let storage = self.storages.get(piece.view.storage().index())?;
        let Place::Stored { stream, span } = storage.place else { return None };
        let (source, view) = (self.streams.shared(stream)?, &piece.view);
        let as_it_is = view.is_contiguous() && !storage.big_endian && !view.negated() && !view.conjugated();
        let source: Source = if as_it_is {
            let start = view.offset().checked_mul(view.dtype().size())?;
            // An empty view may lie anywhere.
            let start = if view.is_empty() { 0 } else { start };
            Arc::new(Part::new(source, span.sub(start, view.nbytes())?)?)
        } else {
            Arc::new(Gathered::new(source, storage, view.clone())?)
        };
        Some(Fragment { source, region: region(piece) })
    }

    /// Puts a tensor at a path.
    pub(in crate::checkpoint) fn put(&mut self, path: &[Step], tensor: TensorId) -> Result<(), Error> {
        Ok(self.places.tensor(path, tensor)?)
    }

    pub(in crate::checkpoint) fn finish(self) -> Opened {
        let Self { files, strays, streams, storages, tensors, places, .. } = self;
        Opened::merged(
            files,
            strays,
            streams,
            crate::rebuild::Rebuilt { tree: places.into_tree(), tensors, storages },
        )
    }
}

fn region(piece: &Piece) -> Region {
    Region { start: piece.start.clone(), size: piece.size.clone() }
}

/// A whole tensor in row-major order.
pub(in crate::checkpoint) fn contiguous(dtype: Dtype, shape: &[u64]) -> Option<ViewSpec> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = 1_i64;
    for size in shape.iter().rev() {
        strides.push(stride);
        // Sizes of zero leave nothing to show, so that its strides do not matter.
        stride = stride.checked_mul(i64::try_from(*size).ok()?.max(1))?;
    }
    strides.reverse();
    let shape = shape.iter().map(|size| i64::try_from(*size).ok()).collect::<Option<_>>()?;
    Some(ViewSpec {
        dtype,
        family: Family::Torch,
        offset: 0,
        shape,
        strides,
        negated: false,
        conjugated: false,
    })
}
