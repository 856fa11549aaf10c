//! Records of the legacy stream, and what a source is by its first bytes.

use depickle::bytes::{self, ReadAt};
use depickle::container::{Error, ErrorKind, Format, Storages, TorchLegacy, detect};
use depickle::tensor::StreamId;

fn record(count: i64, data: &[u8]) -> Vec<u8> {
    [count.to_le_bytes().as_slice(), data].concat()
}

fn open(bytes: &[u8], keys: &[(&str, Option<u64>)]) -> Result<TorchLegacy, Error> {
    let keys: Vec<(Box<str>, Option<u64>)> = keys.iter().map(|(key, size)| ((*key).into(), *size)).collect();
    TorchLegacy::open(&bytes.to_vec(), StreamId::SOURCE, 0, &keys)
}

fn error(bytes: &[u8], keys: &[(&str, Option<u64>)]) -> ErrorKind {
    open(bytes, keys).expect_err("an error").kind
}

#[test]
fn records_follow_in_the_order_of_the_keys() {
    let bytes = [record(2, &[1; 8]), record(1, &[2; 8]), record(0, &[])].concat();
    let legacy = open(&bytes, &[("b", Some(4)), ("a", Some(8)), ("c", None)]).unwrap();
    assert_eq!(legacy.end(), bytes.size());
    assert_eq!(legacy.count_bytes(), 24);
    assert_eq!(legacy.storage("a", 8).unwrap().stored_span().unwrap().start(), 24);
    assert_eq!(legacy.records().map(depickle::bytes::Span::len).sum::<u64>(), 16);
    assert!(matches!(
        legacy.storage("a", 4).expect_err("length").kind,
        ErrorKind::Length { got: 8, expected: 4 }
    ));
    assert!(matches!(legacy.storage("d", 4).expect_err("missing").kind, ErrorKind::Missing));
}

#[test]
fn records_that_lie() {
    let key = [("a", Some(4))];
    assert!(matches!(error(&record(-1, &[]), &key), ErrorKind::Record { .. }));
    assert!(matches!(error(&record(i64::MAX, &[]), &key), ErrorKind::Record { .. }));
    let truncated = error(&record(3, &[0; 8]), &key);
    assert!(matches!(truncated, ErrorKind::Read(bytes::ErrorKind::Truncated { wanted: 12, left: 8 })));
    assert!(matches!(error(&[0; 7], &key), ErrorKind::Read(_)));
    let twice = [record(0, &[]), record(0, &[])].concat();
    assert!(matches!(error(&twice, &[("a", Some(4)), ("a", Some(4))]), ErrorKind::Duplicate(_)));
    assert!(matches!(error(&record(1, &[0; 4]), &[("a", None)]), ErrorKind::Missing));
}

#[test]
fn sources_are_recognised_by_content() {
    let mut tar = vec![0; 600];
    tar[257..262].copy_from_slice(b"ustar");
    for (bytes, format) in [
        (b"PK\x03\x04".to_vec(), Format::Zip),
        (b"\x80\x02}.".to_vec(), Format::Pickle),
        (b"(lp0\n.".to_vec(), Format::Pickle),
        (b"\x93NUMPY\x01\0".to_vec(), Format::Npy),
        (tar, Format::Tar),
        (b"\x1f\x8b\x08".to_vec(), Format::Packed("gzip")),
        (b"7z\xbc\xaf\x27\x1c".to_vec(), Format::Packed("7z")),
        (b"GGUF".to_vec(), Format::Foreign("GGUF")),
        (b"L119547037146038801333356L\n.".to_vec(), Format::TorchLegacy),
        (b"{\"json\": 1}".to_vec(), Format::Unknown),
        (Vec::new(), Format::Unknown),
    ] {
        assert_eq!(detect(&bytes).unwrap(), format, "{bytes:?}");
    }
}
