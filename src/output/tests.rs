#![allow(clippy::float_cmp, reason = "the error is to give back this very value")]

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

#[test]
fn every_number_of_threads_writes_the_same_file_and_the_crate_reads_it() {
    let model = mixed();
    let folder = tempfile::tempdir().unwrap();
    let mut first: Option<Vec<u8>> = None;
    for jobs in [1, 2, 4, 8] {
        for (digests, source) in [(true, true), (true, false), (false, false), (false, true)] {
            let path = folder.path().join(format!("{jobs}-{digests}-{source}"));
            let written = model.write(&path, options(jobs, digests, source)).unwrap();
            let file = fs::read(&path).unwrap();
            assert_eq!(written.sources.first().copied(), source.then(|| sha(&model.bytes)));
            match &first {
                Some(first) => {
                    assert!(*first == file, "{jobs} {digests} {source}");
                    assert_eq!(written.sha256, digests.then(|| sha(&file)));
                }
                None => check(&model, &file, &written, digests),
            }
            first.get_or_insert(file);
        }
    }
}

#[test]
fn the_bytes_are_those_of_the_stock_library() {
    let mut model = Model::default();
    let names = ["b", "a", "ü\u{7f}\u{1}\"\\\n/", "层.0", "\u{1f600}", "", "z"];
    for (i, name) in names.into_iter().enumerate() {
        model.tensor(name, Dtype::ALL[i * 3], length(i * 5));
    }
    let folder = tempfile::tempdir().unwrap();
    for (i, metadata) in
        [Metadata::new(), Metadata::from([("format".into(), "pt\u{2}é".into())])].iter().enumerate()
    {
        let path = folder.path().join(i.to_string());
        let items = model.items(None);
        write_items(&path, &model.streams(), &model.storages, &items, metadata, WriteOptions::default())
            .unwrap();
        let contents: Vec<Vec<u8>> = model.views.iter().map(|(_, view)| model.bytes_of(view)).collect();
        let views = model.views.iter().zip(&contents).map(|((name, view), bytes)| {
            let shape = view.stored_shape().into_iter().map(index).collect();
            (name, safetensors::tensor::TensorView::new(view.dtype().stored(), shape, bytes).unwrap())
        });
        let info = (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect::<HashMap<_, _>>());
        assert_eq!(fs::read(&path).unwrap(), safetensors::serialize(views, info).unwrap());
    }
    let path = folder.path().join("none");
    write_items(&path, &model.streams(), &[], &[], &Metadata::new(), WriteOptions::default()).unwrap();
    let none =
        safetensors::serialize(Vec::<(String, safetensors::tensor::TensorView<'_>)>::new(), None).unwrap();
    assert_eq!(fs::read(&path).unwrap(), none);
}

#[test]
fn names_that_the_format_cannot_hold_are_refused() {
    let mut model = Model::default();
    model.tensor("a", Dtype::F32, 1);
    model.tensor("a", Dtype::I8, 1);
    let folder = tempfile::tempdir().unwrap();
    let error = model.write(&folder.path().join("x"), WriteOptions::default()).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::DuplicateName(name) if &*name == "a"));
    let mut model = Model::default();
    model.tensor("__metadata__", Dtype::F32, 1);
    let error = model.write(&folder.path().join("x"), WriteOptions::default()).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::ReservedName));
    let mut model = Model::default();
    model.tensor(&"n".repeat(100_000_000), Dtype::F32, 1);
    let error = model.write(&folder.path().join("x"), WriteOptions::default()).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::HeaderTooLarge { .. }));
    let items = [Item { name: "lost", cast: None, view: &mixed().views[4].1 }];
    let streams = Streams::new(Arc::new(Vec::<u8>::new()));
    let error = write_items(
        &folder.path().join("x"),
        &streams,
        &[],
        &items,
        &Metadata::new(),
        options(2, true, true),
    );
    assert!(matches!(error.unwrap_err().kind, ErrorKind::NoStorage(_)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn casts_are_written_with_both_digests() {
    let mut model = Model::default();
    let values: Vec<u8> =
        (0..3_000_000_u32).flat_map(|i| (f64::from(i % 2_048) / 8.0).to_le_bytes()).collect();
    let id = model.storage(&values);
    model.view("large", id, Dtype::F64, 0, &[300, 2_000], &[1, 300]);
    // So many small ones that the last of a run has little room left.
    let few = model.storage(&values[..2_000 * 8]);
    for i in 0..40_000 {
        model.view(&format!("small.{i}"), few, Dtype::F64, i % 1_900, &[i % 30], &[1]);
    }
    model.tensor("count", Dtype::I64, 9);
    let folder = tempfile::tempdir().unwrap();
    for (jobs, digests) in [(1, true), (2, true), (3, false)] {
        let path = folder.path().join(format!("{jobs}"));
        let items = model.items(Some(Cast::F16));
        let streams = model.streams();
        let written = write_items(
            &path,
            &streams,
            &model.storages,
            &items,
            &Metadata::new(),
            options(jobs, digests, true),
        )
        .unwrap();
        let file = fs::read(&path).unwrap();
        let read = SafeTensors::deserialize(&file).unwrap();
        let mut digester = Digester::new(1 << 20);
        for ((name, view), tensor) in model.views.iter().zip(&written.tensors) {
            let mut expected = Vec::new();
            assert!(
                Cast::F16.convert(view.dtype(), &model.bytes_of(view), &mut expected).unwrap()
                    && tensor.cast_exact
            );
            assert!(read.tensor(name).unwrap().data() == expected);
            let storage = &model.storages[view.storage().index()];
            let alone = digester.digest(&streams, storage, view, Some(Cast::F16)).unwrap();
            assert_eq!(alone.sha256, sha(&expected));
            assert_eq!(tensor.sha256, digests.then_some(alone.sha256));
            assert_eq!(tensor.source_sha256, alone.source_sha256.filter(|_| digests));
            assert_eq!(alone.source_sha256.is_some(), view.dtype() == Dtype::F64);
        }
    }
}

#[test]
fn a_value_beyond_the_type_names_its_tensor() {
    let mut model = Model::default();
    let id = model.storage(&[1.0_f32, 1e6].map(f32::to_le_bytes).concat());
    model.view("w", id, Dtype::F32, 0, &[2], &[1]);
    let folder = tempfile::tempdir().unwrap();
    let items = model.items(Some(Cast::F16));
    let path = folder.path().join("x");
    let error = write_items(
        &path,
        &model.streams(),
        &model.storages,
        &items,
        &Metadata::new(),
        options(2, true, true),
    );
    let kind = error.unwrap_err().kind;
    assert!(
        matches!(kind, ErrorKind::Tensor { name, error: ReadError::Cast(e) } if &*name == "w" && e.value == 1e6)
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_byte_that_is_no_boolean_is_refused() {
    let mut model = Model::default();
    let id = model.storage(&[0, 1, 2]);
    model.view("mask", id, Dtype::Bool, 0, &[3], &[1]);
    let folder = tempfile::tempdir().unwrap();
    let error = model.write(&folder.path().join("x"), options(1, false, false)).unwrap_err();
    let expected = |kind: &ErrorKind| {
        matches!(kind, ErrorKind::Tensor { error: ReadError::Bool { element: 2, value: 2 }, .. })
    };
    assert!(expected(&error.kind), "{error}");
}

#[test]
fn a_wrong_crc_is_found_wherever_it_is_computed() {
    for name in ["larger", "small.5", "matrix"] {
        let mut model = mixed();
        let id = model.views.iter().find(|(other, _)| other == name).unwrap().1.storage();
        let storage = &mut model.storages[id.index()];
        storage.crc32 = storage.crc32.map(|crc| crc ^ 1);
        for (jobs, digests, source) in
            [(1, true, true), (2, true, true), (2, true, false), (1, false, false), (3, false, false)]
        {
            let folder = tempfile::tempdir().unwrap();
            let error = model.write(&folder.path().join("x"), options(jobs, digests, source)).unwrap_err();
            let ErrorKind::Crc { stated, computed, .. } = error.kind else { panic!("{error}") };
            assert_eq!(stated, computed ^ 1);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
    let mut model = Model::default();
    let id = model.storage(&[]);
    model.storages[id.index()].crc32 = Some(7);
    let folder = tempfile::tempdir().unwrap();
    let error = model.write(&folder.path().join("x"), WriteOptions::default()).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Crc { stated: 7, computed: 0, .. }));
}

#[test]
fn storages_that_overlap_are_checked_each_by_itself() {
    let mut model = Model::default();
    let id = model.storage(&noise(3_000_000, 3));
    model.view("w", id, Dtype::U8, 0, &[3_000_000], &[1]);
    let Place::Stored { span, .. } = model.storages[id.index()].place else { panic!() };
    let inner = span.sub(1_000, 2_000).unwrap();
    let part = &model.bytes[index(inner.start())..index(inner.end())];
    let place = Place::Stored { stream: StreamId::SOURCE, span: inner };
    let crc32 = Some(crc32fast::hash(part));
    model.storages.push(Storage { place, len: 2_000, crc32, ..model.storages[0].clone() });
    let folder = tempfile::tempdir().unwrap();
    model.write(&folder.path().join("x"), options(2, true, true)).unwrap();
    model.storages[1].crc32 = crc32.map(|crc| !crc);
    let error = model.write(&folder.path().join("y"), options(2, true, true)).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Crc { .. }));
}

/// A source that loses its end once so many bytes were read.
struct Shrinking(Vec<u8>, AtomicU64);

impl ReadAt for Shrinking {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let n = length(buf.len());
        if self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(n)).is_err() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.0.read_exact_at(buf, offset)
    }
}

#[test]
fn a_source_that_shrinks_is_an_error_and_leaves_nothing() {
    let model = mixed();
    for jobs in [1, 2, 4] {
        for (digests, left) in
            [(true, 0), (true, 3_000_000), (true, 40_000_000), (false, 0), (false, 20_000_000)]
        {
            let folder = tempfile::tempdir().unwrap();
            let streams = Streams::new(Arc::new(Shrinking(model.bytes.clone(), AtomicU64::new(left))));
            let path = folder.path().join("x");
            let items = model.items(None);
            let options = options(jobs, digests, digests);
            let error =
                write_items(&path, &streams, &model.storages, &items, &Metadata::new(), options).unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Source(_) | ErrorKind::Tensor { .. }), "{error}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}

#[test]
fn a_file_that_is_cut_or_changed_meanwhile_is_an_error() {
    let model = mixed();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    for cut in [true, false] {
        fs::write(&source, &model.bytes).unwrap();
        let streams = Streams::new(Arc::new(FileSource::open(&source).unwrap()));
        let mut file = fs::OpenOptions::new().append(true).open(&source).unwrap();
        if cut {
            file.set_len(model.bytes.size() / 2).unwrap();
        } else {
            file.write_all(b"more").unwrap();
        }
        let path = folder.path().join("x");
        let items = model.items(None);
        let error =
            write_items(&path, &streams, &model.storages, &items, &Metadata::new(), options(2, true, true));
        match error.unwrap_err().kind {
            ErrorKind::Changed(_) => assert!(!cut),
            ErrorKind::Source(_) | ErrorKind::Tensor { .. } => assert!(cut),
            kind => panic!("{kind}"),
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The storages of a model, all deflated.
fn deflated(model: &Model) -> (Vec<u8>, Vec<Storage>) {
    let mut bytes = b"head".to_vec();
    let storages = model.storages.iter().map(|storage| {
        let Place::Stored { span, .. } = storage.place else { panic!() };
        let data = deflate(&model.bytes[index(span.start())..index(span.end())]);
        let span = Span::new(bytes.size(), length(data.len())).unwrap();
        bytes.extend_from_slice(&data);
        Storage { place: Place::Deflated { stream: StreamId::SOURCE, span }, ..storage.clone() }
    });
    let storages = storages.collect();
    (bytes, storages)
}

#[test]
fn deflated_storages_give_the_same_file() {
    let model = mixed();
    let (bytes, mut storages) = deflated(&model);
    let folder = tempfile::tempdir().unwrap();
    let mut streams = Streams::new(Arc::new(bytes.clone()));
    let items = model.items(None);
    let path = folder.path().join("x");
    let early = write_items(&path, &streams, &storages, &items, &Metadata::new(), options(2, true, true));
    assert!(matches!(early.unwrap_err().kind, ErrorKind::Tensor { error: ReadError::Deflated, .. }));
    let needed = model.views.iter().map(|(_, view)| view.storage());
    spool(&mut streams, &mut storages, needed, folder.path(), 2, &Silent).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let written =
        write_items(&path, &streams, &storages, &items, &Metadata::new(), options(2, true, true)).unwrap();
    check(&model, &fs::read(&path).unwrap(), &written, true);
    assert_eq!(written.sources, [sha(&bytes)]);
}

#[test]
fn damaged_deflate_streams_are_refused() {
    let mut model = Model::default();
    model.tensor("w", Dtype::U8, 2_000_000);
    let (bytes, storages) = deflated(&model);
    let folder = tempfile::tempdir().unwrap();
    let attempt = |bytes: &[u8], change: &dyn Fn(&mut Storage)| {
        let mut storages = storages.clone();
        change(&mut storages[0]);
        let mut streams = Streams::new(Arc::new(bytes.to_vec()));
        let error =
            spool(&mut streams, &mut storages, [StorageId(0)], folder.path(), 2, &Silent).unwrap_err();
        assert!(matches!(storages[0].place, Place::Deflated { .. }));
        error.kind
    };
    let longer = |by: i64| {
        move |storage: &mut Storage| {
            let Place::Deflated { stream, span } = storage.place else { panic!() };
            let span = Span::new(span.start(), span.len().checked_add_signed(by).unwrap()).unwrap();
            storage.place = Place::Deflated { stream, span };
        }
    };
    let padded = [bytes.clone(), vec![0; 9]].concat();
    assert!(matches!(attempt(&bytes, &|s| s.crc32 = Some(1)), ErrorKind::Crc { stated: 1, .. }));
    assert!(matches!(attempt(&bytes, &|s| s.len -= 1), ErrorKind::InflatedSize { expected: 1_999_999, .. }));
    assert!(matches!(attempt(&bytes, &|s| s.len += 1), ErrorKind::InflatedSize { got: 2_000_000, .. }));
    assert!(matches!(attempt(&bytes, &longer(-5)), ErrorKind::Inflate { .. }));
    assert!(matches!(attempt(&padded, &longer(5)), ErrorKind::Inflate { .. }));
    assert!(matches!(attempt(&vec![0xff; bytes.len()], &|_| {}), ErrorKind::Inflate { .. }));
    assert!(matches!(attempt(&bytes[..9], &|_| {}), ErrorKind::Source(_)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn nothing_is_replaced_without_leave() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let staged = Staged::create(&path, false).unwrap();
    // It comes up while the work goes on.
    fs::write(&path, b"mine").unwrap();
    assert!(matches!(staged.commit(false).unwrap_err().kind, ErrorKind::Exists));
    assert!(matches!(Staged::create(&path, false).unwrap_err().kind, ErrorKind::Exists));
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    Staged::create(&path, true).unwrap().commit(true).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
    assert!(matches!(Staged::create(folder.path(), true).unwrap_err().kind, ErrorKind::NotAFile));
    let nowhere = folder.path().join("no/x");
    assert!(matches!(Staged::create(&nowhere, true).unwrap_err().kind, ErrorKind::Write(_)));
    drop(Staged::create(&folder.path().join("y"), false).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_is_never_followed_and_permissions_are_ordinary() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    fs::write(&real, b"mine").unwrap();
    for target in [&real, &folder.path().join("dangling")] {
        symlink(target, &link).unwrap();
        assert!(matches!(Staged::create(&link, false).unwrap_err().kind, ErrorKind::Exists));
        Staged::create(&link, true).unwrap().commit(true).unwrap();
        assert!(!link.symlink_metadata().unwrap().is_symlink());
        fs::remove_file(&link).unwrap();
    }
    assert_eq!(fs::read(&real).unwrap(), b"mine");
    let staged = Staged::create(&link, false).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    staged.commit(false).unwrap();
    assert_eq!(mode(&link), mode(&real));
}

#[test]
fn progress_tells_every_byte_once() {
    struct Count(AtomicU64);
    impl Progress for Count {
        fn advance(&self, bytes: u64) {
            self.0.fetch_add(bytes, Ordering::SeqCst);
        }
    }
    let model = mixed();
    let folder = tempfile::tempdir().unwrap();
    for (jobs, digests) in [(1, true), (2, true), (2, false)] {
        let staged = Staged::create(&folder.path().join("x"), false).unwrap();
        let count = Count(AtomicU64::new(0));
        let items = model.items(None);
        let options = options(jobs, digests, digests);
        let written =
            write(&staged, &model.streams(), &model.storages, &items, &Metadata::new(), options, &count)
                .unwrap();
        assert_eq!(count.0.into_inner(), written.size);
    }
}
