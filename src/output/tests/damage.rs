//! Sources that are damaged, and those that change while they are read.

use super::*;

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
