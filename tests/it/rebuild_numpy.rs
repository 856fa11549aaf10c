//! Arrays of numpy: orders of bytes and of elements, forms of data, and what is no array of numbers.

use depickle::rebuild::ErrorKind;
use depickle::tensor::{Dtype, Family};

use crate::asm::Op::*;
use crate::asm::*;
use crate::support::{How, rebuild, rebuild_error, rebuild_limit, rebuild_with};

pub(crate) fn dtype(code: &str, order: &str) -> Part {
    let made = reduce("numpy", "dtype", &[text(code), asm![NewFalse], asm![NewTrue]]);
    let nones = asm![PyNone, PyNone, PyNone];
    let state = asm![Mark, int(3), text(order), nones, int(-1), int(-1), int(0), Tuple];
    asm![made, state, Build]
}

fn array_of(dtype: Part, shape: &[i64], fortran: bool, data: Part) -> Part {
    let made = reduce(
        "numpy.core.multiarray",
        "_reconstruct",
        &[global("numpy", "ndarray"), ints(&[0]), asm![ShortBinBytes(b"b")]],
    );
    let fortran = if fortran { asm![NewTrue] } else { asm![NewFalse] };
    asm![made, tuple(&[int(1), ints(shape), dtype, fortran, data]), Build]
}

pub(crate) fn array(code: &str, order: &str, shape: &[i64], data: &[u8]) -> Part {
    array_of(dtype(code, order), shape, false, asm![BinBytes(data)])
}

#[test]
fn every_element_type() {
    for (code, expected, size) in [
        ("f8", Dtype::F64, 8),
        ("f4", Dtype::F32, 4),
        ("f2", Dtype::F16, 2),
        ("i8", Dtype::I64, 8),
        ("i4", Dtype::I32, 4),
        ("i2", Dtype::I16, 2),
        ("i1", Dtype::I8, 1),
        ("u8", Dtype::U64, 8),
        ("u4", Dtype::U32, 4),
        ("u2", Dtype::U16, 2),
        ("u1", Dtype::U8, 1),
        ("b1", Dtype::Bool, 1),
        ("c8", Dtype::C64, 8),
        ("c16", Dtype::C128, 16),
    ] {
        let built = rebuild(&array(code, "<", &[2], &vec![0; 2 * size]));
        let view = &built.rebuilt.tensors[0].view;
        assert_eq!((view.dtype(), view.family()), (expected, Family::Numpy), "{code}");
    }
}

#[test]
fn the_order_of_bytes_is_that_of_the_state() {
    let big = |dtype: Part| {
        let built = rebuild(&array_of(dtype, &[1], false, asm![ShortBinBytes(&[1, 2, 3, 4])]));
        assert_eq!(built.storage_bytes(0), [1, 2, 3, 4]);
        built.rebuilt.storages[0].big_endian
    };
    assert!(big(dtype("f4", ">")));
    assert!(!big(dtype("f4", "<")));
    assert!(!big(dtype("f4", "=")));
    assert!(!big(dtype(">f4", "<")), "BUILD replaces the order of the code");
    assert!(big(reduce("numpy", "dtype", &[text(">f4"), asm![NewFalse], asm![NewTrue]])));
}

#[test]
fn the_order_of_elements() {
    let fortran = rebuild(&array_of(dtype("u1", "|"), &[2, 3], true, asm![ShortBinBytes(&[0; 6])]));
    assert_eq!(fortran.rebuilt.tensors[0].view.strides(), [1, 2]);
    let from_buffer = |order: &str| {
        let data = asm![ByteArray8(&[0; 6])];
        let args = [data, dtype("u1", "|"), ints(&[2, 3]), text(order)];
        rebuild(&reduce("numpy._core.numeric", "_frombuffer", &args)).rebuilt.tensors[0]
            .view
            .strides()
            .to_vec()
    };
    assert_eq!(from_buffer("C"), [3, 1]);
    assert_eq!(from_buffer("F"), [1, 2]);
    let permuted = |axes: &[i64]| {
        let data = asm![ByteArray8(&[0; 24])];
        reduce(
            "numpy.core.numeric",
            "_frombuffer",
            &[data, dtype("u1", "|"), ints(&[2, 3, 4]), text("K"), ints(axes)],
        )
    };
    let view = &rebuild(&permuted(&[1, 2, 0])).rebuilt.tensors[1].view;
    assert_eq!((view.shape(), view.strides()), ([3, 4, 2].as_slice(), [4, 1, 12].as_slice()));
    for axes in [[0, 0, 1].as_slice(), &[0, 1, 3], &[0, 1, -1], &[0, 1, 2, 3]] {
        assert!(matches!(rebuild_error(&permuted(axes)), ErrorKind::Part { .. }), "{axes:?}");
    }
    let three = reduce("numpy.core.numeric", "_frombuffer", &[int(0), int(0), int(0)]);
    assert!(matches!(rebuild_error(&three), ErrorKind::ArgumentCount { found: 3, .. }));
}

#[test]
fn data_in_every_form() {
    let encoded = |codec: &str| reduce("_codecs", "encode", &[text("\u{e9}a"), text(codec)]);
    for (what, data) in [
        ("bytes", asm![ShortBinBytes(b"\xe9a")]),
        ("a Python 2 string", asm![ShortBinString(b"\xe9a")]),
        ("bytearray", asm![ByteArray8(b"\xe9a")]),
        ("text", text("\u{e9}a")),
        ("encoded text", encoded("latin1")),
        ("bytearray of bytes", reduce("builtins", "bytearray", &[asm![ShortBinBytes(b"\xe9a")]])),
        ("bytearray of text", reduce("__builtin__", "bytearray", &[text("\u{e9}a"), text("latin-1")])),
        ("bytearray of encoded text", reduce("__builtin__", "bytearray", &[encoded("latin1")])),
    ] {
        let built = rebuild(&array_of(dtype("u1", "|"), &[2], false, data));
        assert_eq!(built.storage_bytes(0), b"\xe9a", "{what}");
    }
    let empty = reduce("__builtin__", "bytes", &[]);
    assert_eq!(rebuild(&array_of(dtype("u1", "|"), &[0], false, empty)).storage_bytes(0), b"");
    let large = "\u{e9}".repeat(70_000);
    let built = rebuild(&array_of(dtype("u1", "|"), &[70_000], false, text(&large)));
    assert_eq!(built.storage_bytes(0), vec![0xe9; 70_000]);
}

#[test]
fn data_that_is_none() {
    let error = |data: Part| rebuild_error(&array_of(dtype("u1", "|"), &[2], false, data));
    let utf8 = reduce("_codecs", "encode", &[text("ab"), text("utf-8")]);
    assert!(matches!(error(utf8), ErrorKind::Codec(name) if &*name == "utf-8"));
    assert!(matches!(error(text("\u{20ac}a")), ErrorKind::Argument { position: 4, .. }));
    assert!(matches!(error(int(2)), ErrorKind::Argument { position: 4, .. }));
    // bytearray(n) makes n zeros: a size bomb.
    assert!(matches!(error(reduce("builtins", "bytearray", &[int(1 << 40)])), ErrorKind::Argument { .. }));
    let extended = asm![reduce("builtins", "bytearray", &[asm![ShortBinBytes(b"a")]]), int(1), Append];
    assert!(matches!(error(extended), ErrorKind::Changed));
    let shells = asm![global("builtins", "bytearray")].repeat(100_000);
    let deep = asm![shells, ShortBinBytes(b"ab"), asm![Tuple1, Reduce].repeat(100_000)];
    assert!(matches!(error(deep), ErrorKind::Argument { .. }), "not by recursion");
}

#[test]
fn the_length_of_the_data_is_that_of_the_shape() {
    let of = |n: usize| rebuild_error(&array("f4", "<", &[2], &vec![0; n]));
    assert!(matches!(of(9), ErrorKind::DataLength { got: 9, expected: 8 }));
    assert!(matches!(of(7), ErrorKind::DataLength { got: 7, expected: 8 }));
    assert!(matches!(rebuild_error(&array("f4", "<", &[-2], &[])), ErrorKind::Tensor(_)));
    let long = vec![1; 100];
    assert!(matches!(rebuild_error(&array("f4", "<", &long, &[0; 4])), ErrorKind::Limit(_)));
}

#[test]
fn data_that_is_shared_is_decoded_once() {
    // A text of 100,000 characters behind a thousand arrays would otherwise take 100 MB.
    let large = "a".repeat(100_000);
    let one = array_of(dtype("u1", "|"), &[100_000], false, asm![BinGet(0)]);
    let built =
        rebuild(&asm![BinUnicode(&large), BinPut(0), Pop, EmptyList, Mark, one.repeat(1_000), Appends]);
    assert_eq!(built.names().len(), 1_000);
    let streams: u64 = (0..2).map(|n| built.streams.stream(depickle::tensor::StreamId(n)).size()).sum();
    assert!(streams < 1_000_000, "{streams}");
}

#[test]
fn arrays_of_objects_are_walked() {
    let objects = list(&[tensor("0", 1), text("x"), array("u1", "|", &[1], &[0])]);
    let built = rebuild(&dict(&[("a", array_of(dtype("O8", "|"), &[3], false, objects))]));
    assert_eq!(built.names(), ["a.0", "a.2"]);
}

#[test]
fn arrays_that_hold_no_numbers_are_left_out() {
    for (code, size, reason) in [
        ("S4", 4, "array of byte strings"),
        ("U4", 16, "array of strings"),
        ("M8", 8, "array of dates"),
        ("V4", 4, "array of raw bytes without a type"),
    ] {
        let built = rebuild(&array(code, "<", &[1], &vec![0; size]));
        assert_eq!(built.left_out(), [(String::new(), reason.to_owned())]);
    }
    let made = reduce("numpy", "dtype", &[text("V8"), asm![NewFalse], asm![NewTrue]]);
    let names = tuple(&[text("a")]);
    let state = asm![Mark, int(3), text("|"), PyNone, names, dict(&[]), int(8), int(1), int(0), Tuple];
    // A record whose fields are not described.
    let record = array_of(asm![made, state, Build], &[1], false, asm![ShortBinBytes(&[0; 8])]);
    assert!(matches!(rebuild_error(&record), ErrorKind::Unsupported(_)));
    assert!(matches!(rebuild_error(&array("q9", "<", &[1], &[0])), ErrorKind::Unsupported(_)));
}

#[test]
fn arrays_without_state_or_with_two() {
    let args = [global("numpy", "ndarray"), ints(&[0]), asm![ShortBinBytes(b"b")]];
    for module in ["numpy.core.multiarray", "numpy._core.multiarray", "numpy._core._multiarray_umath"] {
        let made = reduce(module, "_reconstruct", &args);
        assert!(matches!(rebuild_error(&made), ErrorKind::Argument { found: "no state", .. }));
    }
    // Python would show the second, and a reader of the first alone something else.
    let state = tuple(&[int(1), ints(&[1]), dtype("u1", "|"), asm![NewFalse], asm![ShortBinBytes(&[2])]]);
    let twice = asm![array("u1", "|", &[1], &[1]), state, Build];
    assert!(matches!(rebuild_error(&twice), ErrorKind::Changed));
    let set = asm![array("u1", "|", &[1], &[1]), int(0), int(9), SetItem];
    assert!(matches!(rebuild_error(&set), ErrorKind::Changed));
}

#[test]
fn an_element_type_that_is_not_interpreted_is_named() {
    let unknown = array_of(reduce("evil", "dtype", &[]), &[1], false, asm![ShortBinBytes(&[1])]);
    let error = rebuild_error(&dict(&[("a", unknown.clone())]));
    assert!(matches!(&error, ErrorKind::Unresolved { callable, .. } if &**callable == "evil.dtype"));
    assert!(error.is_unresolved());
    let how = How { skip_unresolved: true, ..How::default() };
    let built = rebuild_with(&pickle(&dict(&[("a", unknown), ("b", tensor("0", 1))])), &how).unwrap();
    assert_eq!(built.names(), ["b"]);
    assert!(built.left_out()[0].1.contains("evil.dtype"));
}

#[test]
fn scalars_are_values() {
    let scalar = reduce("numpy.core.multiarray", "scalar", &[dtype("f8", "<"), asm![ShortBinBytes(&[0; 8])]]);
    let built = rebuild(&dict(&[("loss", scalar), ("w", tensor("0", 1))]));
    assert_eq!(built.names(), ["w"]);
    assert_eq!(built.values()[0].0, "loss");
}

#[test]
fn decoded_text_counts_against_the_limit() {
    let limits = depickle::limits::Limits { string_bytes: 60_000, ..Default::default() };
    let large = array_of(dtype("u1", "|"), &[70_000], false, text(&"a".repeat(70_000)));
    assert_eq!(rebuild_limit(&large, limits), depickle::limits::LimitKind::StringBytes);
}

#[test]
fn embedded_text_that_can_no_longer_be_read() {
    use depickle::tensor::Streams;
    let bytes = pickle(&array_of(dtype("u1", "|"), &[70_000], false, text(&"a".repeat(70_000))));
    let (graph, root) = crate::support::run(&bytes).unwrap();
    // The source has shrunk since the pickle was run.
    let mut streams = Streams::new(std::sync::Arc::new(vec![0_u8; 100]));
    let limits = depickle::limits::Limits::default();
    let context = depickle::rebuild::Context::new(depickle::tensor::StreamId::SOURCE, &limits);
    let error = depickle::rebuild::rebuild(&graph, root, context, &mut streams).expect_err("an error");
    assert!(matches!(error.kind, ErrorKind::Io(_)));
}
