//! What is written is what the crate would write, with any number of threads.

use super::*;

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
