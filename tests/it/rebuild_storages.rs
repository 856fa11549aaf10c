//! Persistent ids: what names a storage, and what only looks as if it did.

use depickle::container;
use depickle::rebuild::{ErrorKind, storage_keys};
use depickle::tensor::Dtype;

use crate::asm::Op::*;
use crate::asm::*;
use crate::support::{How, rebuild, rebuild_error, rebuild_with, run};

fn of(id: &[Part]) -> ErrorKind {
    rebuild_error(&tensor_of(&asm![tuple(id), BinPersId], 0, &[1], &[1]))
}

fn parts() -> [Part; 5] {
    [text("storage"), global("torch", "FloatStorage"), text("0"), text("cpu"), int(1)]
}

#[test]
fn ids_that_are_no_storage() {
    for (position, part) in [
        (0, text("module")),
        (0, int(1)),
        (1, text("FloatStorage")),
        (1, global("os", "FloatStorage")),
        (1, global("torch", "EvilStorage")),
        (1, global("torch", "FloatTensor")),
        (2, asm![PyNone]),
        (4, int(-1)),
        (4, text("1")),
    ] {
        let mut id = parts();
        id[position] = part;
        assert!(matches!(of(&id), ErrorKind::PersistentId(_)), "{position}: {}", of(&id));
    }
    assert!(matches!(of(&parts()[..4]), ErrorKind::PersistentId(_)));
    let seven = [&parts()[..], &[asm![PyNone], asm![PyNone]]].concat();
    assert!(matches!(of(&seven), ErrorKind::PersistentId(_)));
    let by_line = tensor_of(&asm![PersId("0")], 0, &[1], &[1]);
    assert!(matches!(rebuild_error(&by_line), ErrorKind::PersistentId(_)));
    let mut huge = parts();
    huge[4] = int(i64::MAX);
    assert!(matches!(of(&huge), ErrorKind::PersistentId(_)));
}

#[test]
fn the_tag_may_be_bytes_and_the_key_a_number() {
    let mut id = parts();
    id[0] = asm![ShortBinBytes(b"storage")];
    id[2] = int(94_000_000_000_000);
    rebuild(&tensor_of(&asm![tuple(&id), BinPersId], 0, &[1], &[1]));
}

#[test]
fn keys_that_are_not_plain() {
    for key in ["", "../0", "..", "a/b", "a\\b", "0\0", "é", " ", &"0".repeat(300)] {
        let mut id = parts();
        id[2] = text(key);
        assert!(matches!(of(&id), ErrorKind::StorageKey(_)), "{key:?}");
    }
    for key in ["0", "140000000000000", "a.b_c-d", "0.storage"] {
        rebuild(&tensor(key, 1));
    }
}

#[test]
fn one_key_has_one_type() {
    let both = [tensor("0", 1), tensor_of(&storage("LongStorage", "0", 1), 0, &[1], &[1])];
    let error = rebuild_error(&tuple(&both));
    let pair = |e: &ErrorKind| match e {
        ErrorKind::StorageType { first, second, .. } => Some((*first, *second)),
        _ => None,
    };
    let (first, second) = pair(&error).expect("both types");
    assert!([first, second].contains(&Dtype::F32) && [first, second].contains(&Dtype::I64));
    let untyped = |dtype: &str| {
        let base = storage_at("torch.storage", "UntypedStorage", "0", "cpu", 8);
        let args = [base, int(0), ints(&[1]), ints(&[1]), asm![NewFalse], no_hooks(), global("torch", dtype)];
        reduce("torch._utils", "_rebuild_tensor_v3", &args)
    };
    let built = rebuild(&tuple(&[untyped("uint16"), untyped("uint64")]));
    assert_eq!(built.rebuilt.storages.len(), 1, "an untyped storage may be seen as several types");
}

#[test]
fn a_storage_that_is_not_there_or_too_short() {
    let missing = rebuild_error(&tensor("missing", 1));
    assert!(matches!(missing, ErrorKind::Container(e) if matches!(e.kind, container::ErrorKind::Missing)));
    let short = rebuild_error(&tensor("0", 1025));
    assert!(
        matches!(short, ErrorKind::Container(e) if matches!(e.kind, container::ErrorKind::Length { .. }))
    );
    let how = How { storages: false, ..How::default() };
    let alone = rebuild_with(&pickle(&tensor("0", 1)), &how).expect_err("no storages").kind;
    assert!(matches!(alone, ErrorKind::PersistentId(_)));
}

#[test]
fn a_bare_storage_is_a_vector() {
    let untyped = storage_at("torch.storage", "UntypedStorage", "1", "cpu", 8);
    let built = rebuild(&dict(&[("typed", storage("HalfStorage", "0", 4)), ("untyped", untyped)]));
    let views: Vec<_> =
        built.rebuilt.tree.tensors().map(|(_, t)| &built.rebuilt.tensors[t.index()].view).collect();
    assert_eq!((views[0].dtype(), views[0].shape()), (Dtype::F16, [2048].as_slice()));
    assert_eq!((views[1].dtype(), views[1].shape()), (Dtype::U8, [4096].as_slice()));
}

#[test]
fn views_of_storages() {
    let view = |offset: i64, count: i64| {
        let parts = [&parts()[..], &[tuple(&[text("7"), int(offset), int(count)])]].concat();
        tensor_of(&asm![tuple(&parts), BinPersId], 0, &[1], &[1])
    };
    let built = rebuild(&tuple(&[view(4, 2), view(4, 2)]));
    assert_eq!(built.rebuilt.storages.len(), 2, "the whole and one view");
    assert_eq!(built.rebuilt.storages[1].len, 8);
    assert!(matches!(rebuild_error(&view(1024, 1)), ErrorKind::PersistentId(_)));
    assert!(matches!(rebuild_error(&view(-1, 1)), ErrorKind::PersistentId(_)));
    assert!(matches!(rebuild_error(&view(i64::MAX, 1)), ErrorKind::PersistentId(_)));
    let parts = [&parts()[..], &[asm![PyNone]]].concat();
    rebuild(&tensor_of(&asm![tuple(&parts), BinPersId], 0, &[1], &[1]));
}

#[test]
fn keys_are_listed_with_the_size_of_an_element() {
    let object =
        tuple(&[storage("DoubleStorage", "7", 1), storage_at("torch.cuda", "HalfStorage", "8", "cuda:0", 1)]);
    let (graph, _) = run(&pickle(&object)).unwrap();
    let mut keys: Vec<_> = storage_keys(&graph).into_iter().collect();
    keys.sort();
    assert_eq!(keys, [("7".into(), 8), ("8".into(), 2)]);
}

#[test]
fn every_storage_class_of_torch() {
    for (class, dtype) in [
        ("DoubleStorage", Dtype::F64),
        ("FloatStorage", Dtype::F32),
        ("HalfStorage", Dtype::F16),
        ("BFloat16Storage", Dtype::Bf16),
        ("LongStorage", Dtype::I64),
        ("IntStorage", Dtype::I32),
        ("ShortStorage", Dtype::I16),
        ("CharStorage", Dtype::I8),
        ("ByteStorage", Dtype::U8),
        ("BoolStorage", Dtype::Bool),
        ("ComplexDoubleStorage", Dtype::C128),
        ("ComplexFloatStorage", Dtype::C64),
        ("QInt8Storage", Dtype::QI8),
        ("QUInt8Storage", Dtype::QU8),
        ("QInt32Storage", Dtype::QI32),
    ] {
        for module in ["torch", "torch.cuda"] {
            let built = rebuild(&tensor_of(&storage_at(module, class, "0", "cpu", 1), 0, &[1], &[1]));
            assert_eq!(built.rebuilt.tensors[0].view.dtype(), dtype, "{module}.{class}");
        }
    }
}

#[test]
fn module_ids_of_the_legacy_stream_are_the_class() {
    let id = [text("module"), global("my.net", "Net"), text("net.py"), text("import os")];
    let state = dict(&[
        ("_parameters", ordered_dict(&[("w", tensor("0", 1))])),
        ("_buffers", ordered_dict(&[])),
        ("_modules", ordered_dict(&[])),
    ]);
    let built = rebuild(&asm![tuple(&id), BinPersId, EmptyTuple, NewObj, state, Build]);
    assert_eq!(built.names(), ["w"]);
}
