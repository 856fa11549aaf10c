//! Storages that are compressed.

use super::*;

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
