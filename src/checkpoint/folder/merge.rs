//! [`Merge`]: several files on the way to one source, and tensors put together from parts of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::bytes::{Part, Span};
use crate::limits::Limits;
use crate::rebuild::Rebuilt;
use crate::tensor::{
    Assembled, Cast, Dtype, EntryId, Family, Fragment, Gathered, Kind, Leaf, Piece, Place, Region, Step,
    Storage, StorageId, StreamId, Streams, Tensor, TensorId, Tree, View, ViewSpec,
};
use crate::values::Values;

use super::super::{Error, Opened, Source, SourceFile, graft};
use super::places::{Held, Places};
use super::{FolderError, beside};

/// Files, what they hold, and the places of it.
pub(in crate::checkpoint) struct Merge<'a> {
    limits: &'a Limits,
    pub(in crate::checkpoint) files: Vec<SourceFile>,
    pub(in crate::checkpoint) strays: Vec<String>,
    pub(in crate::checkpoint) streams: Streams,
    pub(in crate::checkpoint) storages: Vec<Storage>,
    pub(in crate::checkpoint) tensors: Vec<Tensor>,
    pub(in crate::checkpoint) places: Places,
    /// What files hold beside the parts of the checkpoint, and which files.
    beside: Vec<(usize, Held)>,
}

impl<'a> Merge<'a> {
    /// Begins without a file.
    pub(in crate::checkpoint) fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            files: Vec::new(),
            strays: Vec::new(),
            streams: Streams::none(),
            storages: Vec::new(),
            tensors: Vec::new(),
            places: Places::default(),
            beside: Vec::new(),
        }
    }

    /// Adds a file.
    pub(in crate::checkpoint) fn file(&mut self, source: Source, mut file: SourceFile) -> StreamId {
        let stream = self.streams.push_file(source);
        file.stream = stream;
        self.files.push(file);
        stream
    }

    /// Takes over what a source holds whose bytes lie in the stream `home`, from `shift` on: its places, over tensors that
    /// are now here, and its values. `path` and `prefix` say where that is, in messages and before the names of entries.
    pub(in crate::checkpoint) fn take(
        &mut self,
        opened: Opened,
        (home, shift): (StreamId, u64),
        path: &str,
        prefix: &str,
    ) -> Held {
        let (storages, tensors) = (self.storages.len(), self.tensors.len());
        let file = self.streams.file_of(home);
        let stray = |stray: String| format!("{}: {stray}", path.escape_debug());
        self.strays.extend(opened.strays.into_iter().map(stray));
        // Each stream that was decoded is here once.
        let mut decoded: HashMap<StreamId, StreamId> = HashMap::new();
        let mut moved = |stream: StreamId, span: Span| {
            if stream == StreamId::SOURCE {
                let (start, end) = (span.start().saturating_add(shift), span.end().saturating_add(shift));
                return (home, Span::between(start, end));
            }
            let here = *decoded.entry(stream).or_insert_with(|| {
                let bytes = opened.streams.shared(stream).unwrap_or_else(|| Arc::new(Vec::new()));
                self.streams.push_beside(bytes, home)
            });
            (here, span)
        };
        let name = |entry: &str| format!("{prefix}{entry}").into();
        let values = opened.values.into_iter().map(|values| {
            let entry = values.entry.as_deref().map(name);
            Values { entry, ..values.after(file, &mut moved) }
        });
        let values = values.collect();
        for storage in opened.storages {
            let place = match storage.place {
                // What was expanded already lies there as it is.
                Place::Deflated { stream: StreamId::SOURCE, span } => {
                    let (stream, span) = moved(StreamId::SOURCE, span);
                    Place::Deflated { stream, span }
                }
                Place::Stored { stream, span } | Place::Deflated { stream, span } => {
                    let (stream, span) = moved(stream, span);
                    Place::Stored { stream, span }
                }
            };
            let entry = storage.entry.as_deref().map(name);
            self.storages.push(Storage { entry, place, ..storage });
        }
        self.tensors.extend(opened.tensors.into_iter().map(|tensor| tensor.moved(storages)));
        Held { tree: shifted(&opened.tree, tensors), values }
    }

    /// Elements of a tensor.
    pub(in crate::checkpoint) fn elements(&self, of: TensorId) -> u64 {
        self.tensors.get(of.index()).map_or(0, |tensor| tensor.view.elements())
    }

    /// A run of elements of a tensor, in row-major order, as a tensor of one dimension.
    ///
    /// # Errors
    /// A tensor that is not stored in that order, or has fewer elements.
    pub(in crate::checkpoint) fn run(
        &self,
        name: &str,
        of: TensorId,
        start: u64,
        len: u64,
    ) -> Result<View, Error> {
        let no_tensor = || FolderError::NoTensor { name: name.into() };
        let tensor = self.tensors.get(of.index()).ok_or_else(no_tensor)?;
        let whole = &tensor.view;
        let plain =
            tensor.encoding.is_none() && whole.is_contiguous() && !whole.negated() && !whole.conjugated();
        let inside = start.checked_add(len).is_some_and(|end| end <= whole.elements());
        let storage = self.storages.get(whole.storage().index()).filter(|_| plain && inside);
        let offset = whole.offset().checked_add(start).and_then(|at| i64::try_from(at).ok());
        let spec = contiguous(whole.dtype(), &[len]).zip(offset);
        let (spec, offset) = spec.ok_or_else(no_tensor)?;
        let spec = ViewSpec { offset, ..spec };
        View::new(whole.storage(), storage.ok_or_else(no_tensor)?, &spec, self.limits)
            .map_err(|error| Error::Tensor { name: name.into(), error })
    }

    /// A box of a tensor: from its first index in each dimension, so many.
    ///
    /// # Errors
    /// A box that is not inside of it.
    pub(in crate::checkpoint) fn narrow(
        &self,
        name: &str,
        whole: &View,
        within: &Region,
    ) -> Result<View, Error> {
        let no_tensor = || FolderError::NoTensor { name: name.into() };
        let storage = self.storages.get(whole.storage().index()).ok_or_else(no_tensor)?;
        let mut steps = within.start.iter().zip(whole.strides());
        let offset =
            steps.try_fold(whole.offset(), |at, (start, stride)| at.checked_add(start.checked_mul(*stride)?));
        let signed = |numbers: &[u64]| numbers.iter().map(|n| i64::try_from(*n).ok()).collect::<Option<_>>();
        let offset = offset.and_then(|offset| i64::try_from(offset).ok());
        let fits = within.size.len() == whole.rank() && within.is_inside(whole.shape());
        let sizes = signed(&within.size).zip(signed(whole.strides())).zip(offset).filter(|_| fits);
        let ((shape, strides), offset) = sizes.ok_or_else(no_tensor)?;
        let (dtype, family) = (whole.dtype(), whole.family());
        let (negated, conjugated) = (whole.negated(), whole.conjugated());
        let spec = ViewSpec { dtype, family, offset, shape, strides, negated, conjugated };
        View::new(whole.storage(), storage, &spec, self.limits)
            .map_err(|error| Error::Tensor { name: name.into(), error })
    }

    /// A tensor whose elements, one after the other, are cut into these runs.
    ///
    /// # Errors
    /// As [`Self::assemble`].
    pub(in crate::checkpoint) fn join(
        &mut self,
        name: &str,
        shape: &[u64],
        path: &str,
        runs: Vec<View>,
    ) -> Result<TensorId, Error> {
        let no_tensor = || FolderError::NoTensor { name: name.into() };
        let dtype = runs.first().map_or(Dtype::F32, View::dtype);
        let elements = shape.iter().try_fold(1_u64, |n, size| n.checked_mul(*size)).ok_or_else(no_tensor)?;
        let mut start = 0_u64;
        let pieces = runs.into_iter().map(|view| {
            let size = view.elements();
            let piece =
                Piece { path: Box::new([path.into()]), start: [start].into(), size: [size].into(), view };
            start = start.saturating_add(size);
            piece
        });
        let flat = self.assemble(name, dtype, &[elements], pieces.collect())?;
        let Tensor { view, pieces, .. } = self.tensors.get(flat.index()).ok_or_else(no_tensor)?.clone();
        let storage = self.storages.get(view.storage().index()).ok_or_else(no_tensor)?;
        let offset = i64::try_from(view.offset()).map_err(|_| no_tensor())?;
        let spec = ViewSpec { offset, ..contiguous(dtype, shape).ok_or_else(no_tensor)? };
        let view = View::new(view.storage(), storage, &spec, self.limits)
            .map_err(|error| Error::Tensor { name: name.into(), error })?;
        Ok(self.tensor(Tensor { pieces, ..Tensor::new(view) }))
    }

    /// A floating tensor as singles, as `Tensor.float()` gives them; any other as it is.
    ///
    /// # Errors
    /// A tensor in parts.
    pub(in crate::checkpoint) fn singles(&mut self, name: &str, of: TensorId) -> Result<TensorId, Error> {
        let no_tensor = || FolderError::NoTensor { name: name.into() };
        let tensor = self.tensors.get(of.index()).ok_or_else(no_tensor)?;
        let view = tensor.view.clone();
        if !Cast::F32.applies_to(view.dtype()) {
            return Ok(of);
        }
        let storage = self.storages.get(view.storage().index()).ok_or_else(no_tensor)?;
        let Place::Stored { stream, .. } = storage.place else { return Err(no_tensor().into()) };
        let source = self.streams.shared(stream).ok_or_else(no_tensor)?;
        let cast = Gathered::new(source, storage, view.clone()).ok_or_else(no_tensor)?.cast(Cast::F32);
        let len = crate::bytes::ReadAt::size(&cast);
        let place = Place::Stored {
            stream: self.streams.push_beside(Arc::new(cast), stream),
            span: Span::between(0, len),
        };
        let storage = Storage { key: "".into(), entry: None, place, len, big_endian: false, crc32: None };
        let spec = contiguous(Dtype::F32, view.shape()).ok_or_else(no_tensor)?;
        let single = self.view(name, storage, &spec)?;
        let size: Box<[u64]> = view.shape().into();
        let start = vec![0; size.len()].into();
        let cast_from = Some(view.dtype());
        let pieces = Some([Piece { view, path: Box::new([name.into()]), start, size }].into());
        Ok(self.tensor(Tensor { pieces, cast_from, ..Tensor::new(single) }))
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

    /// Position of the file that a view lies in.
    pub(in crate::checkpoint) fn file_of(&self, view: &View) -> usize {
        let storage = self.storages.get(view.storage().index());
        storage.map_or(0, |storage| self.streams.file_of(storage.place.stream()))
    }

    fn stream_of(&self, view: &View) -> StreamId {
        match self.storages.get(view.storage().index()).map(|storage| storage.place) {
            Some(Place::Stored { stream, .. }) => stream,
            _ => StreamId::SOURCE,
        }
    }

    fn fragment(&self, piece: &Piece) -> Option<Fragment> {
        let source = bytes_of(&self.streams, &self.storages, &piece.view)?;
        Some(Fragment { source, region: region(piece) })
    }

    /// Puts a tensor at a path.
    pub(in crate::checkpoint) fn put(&mut self, path: &[Step], tensor: TensorId) -> Result<(), Error> {
        Ok(self.places.tensor(path, tensor)?)
    }

    /// What is in the files and no part of the checkpoint: the tensors of a tree, or values.
    pub(in crate::checkpoint) fn left_out(&self, reason: &str, tree: &Tree) -> Leaf {
        let tensors = tree.tensors().filter_map(|(_, id)| self.tensors.get(id.index()));
        let bytes = tensors.map(|tensor| tensor.view.nbytes()).reduce(u64::saturating_add);
        let values = tree.iter().find_map(|(_, entry)| match &entry.kind {
            Kind::Leaf(values @ Leaf::Values { .. }) => Some(values.clone()),
            _ => None,
        });
        let left_out = |bytes| Leaf::LeftOut { reason: reason.into(), bytes };
        bytes.map(left_out).or(values).unwrap_or_else(|| left_out(0))
    }

    /// Keeps what the file that was added last holds, of which only parts are taken.
    pub(in crate::checkpoint) fn keep_beside(&mut self, held: Held) {
        self.beside.push((self.files.len().saturating_sub(1), held));
    }

    pub(in crate::checkpoint) fn finish(mut self) -> Opened {
        let Held { mut tree, mut values } = std::mem::take(&mut self.places).finish();
        let mut parts = vec![(EntryId::ROOT, 0)];
        let taken = self.taken(&tree);
        for (file, held) in std::mem::take(&mut self.beside) {
            let name = self.files.get(file).map_or("".into(), |file| file.name.clone());
            parts.push((tree.next(), file));
            // An attribute, so that the values in it do not make the model less of a mapping of tensors.
            let rest = beside::rest(&held.tree, &self.tensors, &taken);
            let ids = graft::at(&mut tree, &rest, Some(EntryId::ROOT), &Step::Attribute(name));
            values.extend(held.values.into_iter().map(|values| values.moved(&ids)));
        }
        let Self { files, strays, streams, storages, tensors, .. } = self;
        let rebuilt = Rebuilt { tree, tensors, storages, values, ..Rebuilt::default() };
        let opened = Opened::merged(files, strays, streams, rebuilt);
        Opened { parts, ..opened }
    }

    /// The storages of which the tensors of a tree show anything.
    fn taken(&self, tree: &Tree) -> HashSet<StorageId> {
        let tensors = tree.tensors().filter_map(|(_, id)| self.tensors.get(id.index()));
        let views = tensors.flat_map(|tensor| {
            let pieces = tensor.pieces.iter().flat_map(|pieces| pieces.iter().map(|piece| &piece.view));
            pieces.chain([&tensor.view])
        });
        views.map(View::storage).collect()
    }

    /// As [`Self::finish`], with a tree of its own, and where in it the places of each file begin.
    pub(in crate::checkpoint) fn finish_as(self, held: Held, parts: Vec<(EntryId, usize)>) -> Opened {
        let Held { tree, values } = held;
        Opened { tree, values, parts, ..self.finish() }
    }
}

/// The bytes of a view by themselves, in row-major order; `None` where they are compressed.
pub(in crate::checkpoint) fn bytes_of(
    streams: &Streams,
    storages: &[Storage],
    view: &View,
) -> Option<Source> {
    let storage = storages.get(view.storage().index())?;
    let Place::Stored { stream, span } = storage.place else { return None };
    let source = streams.shared(stream)?;
    let as_it_is = view.is_contiguous() && !storage.big_endian && !view.negated() && !view.conjugated();
    if !as_it_is {
        return Some(Arc::new(Gathered::new(source, storage, view.clone())?));
    }
    let start = view.offset().checked_mul(view.dtype().size())?;
    // An empty view may lie anywhere.
    let start = if view.is_empty() { 0 } else { start };
    Some(Arc::new(Part::new(source, span.sub(start, view.nbytes())?)?))
}

/// The same tree over tensors that follow `before` others.
fn shifted(tree: &Tree, before: usize) -> Tree {
    let before = u32::try_from(before).unwrap_or(u32::MAX);
    let mut shifted = Tree::default();
    for (_, entry) in tree.iter() {
        let kind = match &entry.kind {
            Kind::Leaf(Leaf::Tensor(TensorId(id))) => {
                Kind::Leaf(Leaf::Tensor(TensorId(id.saturating_add(before))))
            }
            kind => kind.clone(),
        };
        shifted.push(entry.parent, entry.step.clone(), kind);
    }
    shifted
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
