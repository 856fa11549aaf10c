#![allow(clippy::float_cmp, reason = "the error is to give back this very value")]

mod damage;
mod deflated;
mod files;

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use safetensors::SafeTensors;
use sha2::Digest as _;

use super::*;
use crate::bytes::{FileSource, ReadAt, Span, index, length};
use crate::limits::Limits;
use crate::progress::{Progress, Silent};
use crate::tensor::{
    Family, Place, ReadError, Scratch, Storage, StorageId, StreamId, Streams, ViewSpec, read_into,
};

/// A source with storages and views of them, as a checkpoint would have.
#[derive(Default)]
struct Model {
    bytes: Vec<u8>,
    storages: Vec<Storage>,
    views: Vec<(String, View)>,
}

fn noise(len: u64, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| next()).take(index(len)).collect()
}

impl Model {
    fn storage(&mut self, bytes: &[u8]) -> StorageId {
        self.bytes.extend_from_slice(b"gap");
        let span = Span::new(self.bytes.size(), length(bytes.len())).unwrap();
        self.bytes.extend_from_slice(bytes);
        self.storages.push(Storage {
            key: self.storages.len().to_string().into(),
            entry: Some(format!("m/data/{}", self.storages.len()).into()),
            place: Place::Stored { stream: StreamId::SOURCE, span },
            len: span.len(),
            big_endian: false,
            crc32: Some(crc32fast::hash(bytes)),
        });
        StorageId(u32::try_from(self.storages.len() - 1).unwrap())
    }

    fn view(&mut self, name: &str, id: StorageId, dtype: Dtype, offset: i64, shape: &[i64], strides: &[i64]) {
        let (shape, strides) = (shape.to_vec(), strides.to_vec());
        let family = Family::Torch;
        let spec = ViewSpec { dtype, family, offset, shape, strides, negated: false, conjugated: false };
        let view = View::new(id, &self.storages[id.index()], &spec, &Limits::default()).unwrap();
        self.views.push((name.to_owned(), view));
    }

    fn tensor(&mut self, name: &str, dtype: Dtype, elements: u64) {
        let bytes = noise(elements * dtype.size(), length(self.storages.len()) + 1);
        let bytes = if dtype == Dtype::Bool { bytes.iter().map(|b| b & 1).collect() } else { bytes };
        let id = self.storage(&bytes);
        let n = i64::try_from(elements).unwrap();
        self.view(name, id, dtype, 0, &[n], &[1]);
    }

    fn streams(&self) -> Streams {
        Streams::new(Arc::new(self.bytes.clone()))
    }

    fn items(&self, cast: Option<Cast>) -> Vec<Item<'_>> {
        self.views.iter().map(|(name, view)| Item { name, view, cast }).collect()
    }

    fn bytes_of(&self, view: &View) -> Vec<u8> {
        let mut out = vec![0; index(view.nbytes())];
        let mut storage = self.storages[view.storage().index()].clone();
        let Place::Stored { span, .. } = storage.place else { panic!() };
        let bytes = self.bytes[index(span.start())..index(span.end())].to_vec();
        storage.place = Place::Stored { stream: StreamId::SOURCE, span: Span::between(0, span.len()) };
        read_into(&Streams::new(Arc::new(bytes)), &storage, view, &mut Scratch::new(1 << 20), &mut out)
            .unwrap();
        out
    }

    fn write(&self, path: &Path, options: WriteOptions<'_>) -> Result<Written, Error> {
        write_items(path, &self.streams(), &self.storages, &self.items(None), &Metadata::new(), options)
    }
}

fn write_items(
    path: &Path,
    streams: &Streams,
    storages: &[Storage],
    items: &[Item<'_>],
    metadata: &Metadata,
    options: WriteOptions<'_>,
) -> Result<Written, Error> {
    let staged = Staged::create(path, false)?;
    let written = write(&staged, streams, storages, items, metadata, options, &Silent)?;
    staged.commit(false)?;
    Ok(written)
}

fn options(jobs: usize, digests: bool, source_digest: bool) -> WriteOptions<'static> {
    let sources: &[StreamId] = if source_digest { &[StreamId::SOURCE] } else { &[] };
    WriteOptions { jobs, digests, sources }
}

fn sha(bytes: &[u8]) -> Digest {
    Digest(sha2::Sha256::digest(bytes).into())
}

/// Large and small tensors, shared storages, a transposed matrix larger than a block, empty ones, scalars.
fn mixed() -> Model {
    let mut model = Model::default();
    for i in 0..300 {
        model.tensor(&format!("small.{i}"), Dtype::ALL[i % Dtype::ALL.len()], 1 + length(i * 7 % 900));
    }
    model.tensor("large", Dtype::F32, 2_600_000);
    model.tensor("larger", Dtype::Bf16, 9_000_001);
    model.tensor("big byte", Dtype::U8, 700_001);
    let id = model.storage(&noise(1_300 * 900 * 4, 5));
    model.view("matrix.T", id, Dtype::F32, 0, &[900, 1_300], &[1, 900]);
    model.view("matrix", id, Dtype::F32, 0, &[1_300, 900], &[900, 1]);
    model.view("matrix.row", id, Dtype::F32, 900, &[900], &[1]);
    model.view("matrix.scalar", id, Dtype::F32, 17, &[], &[]);
    model.view("matrix.none", id, Dtype::F32, 0, &[0, 3], &[3, 1]);
    model.view("matrix.twice", id, Dtype::F32, 0, &[2, 1_300, 900], &[0, 900, 1]);
    let none = model.storage(&[]);
    model.view("empty", none, Dtype::I64, 0, &[0], &[1]);
    model
}

fn check(model: &Model, file: &[u8], written: &Written, digests: bool) {
    let read = SafeTensors::deserialize(file).unwrap();
    assert_eq!(read.len(), model.views.len());
    assert_eq!(written.size, length(file.len()));
    assert_eq!(written.sha256, digests.then(|| sha(file)));
    for ((name, view), tensor) in model.views.iter().zip(&written.tensors) {
        let stored = read.tensor(name).unwrap();
        let expected = model.bytes_of(view);
        assert!(stored.data() == expected, "{name}");
        assert_eq!(stored.dtype(), tensor.dtype);
        assert_eq!(stored.shape(), view.stored_shape().into_iter().map(index).collect::<Vec<_>>());
        assert_eq!(tensor.sha256, digests.then(|| sha(&expected)), "{name}");
        assert_eq!(tensor.data_offsets.1 - tensor.data_offsets.0, view.nbytes());
        assert!(tensor.cast_exact && tensor.source_sha256.is_none());
    }
}
