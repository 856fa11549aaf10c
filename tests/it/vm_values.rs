//! What each opcode that makes a value makes, with the forms on which naive readers fail.

use depickle::pickle::{AnomalyKind, Node, Payload};

use crate::asm::Op::*;
use crate::support::{anomalies, run, value};

fn inline(bytes: &[u8]) -> Payload {
    Payload::Inline(bytes.into())
}

#[test]
fn integers_of_every_opcode() {
    for (bytes, n) in [
        (asm![Int("-7"), Stop], -7),
        (asm![BinInt(-7), Stop], -7),
        (asm![BinInt1(255), Stop], 255),
        (asm![BinInt2(65535), Stop], 65535),
        (asm![Long("5L"), Stop], 5),
        (asm![Long("5"), Stop], 5),
        (asm![Long1(&[]), Stop], 0),
        (asm![Long1(&[0xff]), Stop], -1),
        (asm![Long1(&[0xff, 0, 0, 0, 0, 0, 0, 0]), Stop], 255),
        (asm![Long1(&[5, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Stop], 5),
        (asm![Long4(&[0, 1]), Stop], 256),
    ] {
        assert_eq!(value(&bytes), Node::Int(n), "{bytes:?}");
    }
}

#[test]
fn integers_beyond_64_bits_are_legal() {
    let magic = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    assert_eq!(value(&asm![Long1(&magic), Stop]), Node::BigInt(magic.into()));
    let text = asm![Long("119547037146038801333356L"), Stop];
    assert_eq!(value(&text), Node::BigInt(magic.into()));
    let negative = value(&asm![Int("-99999999999999999999999999999999999999999999999999"), Stop]);
    assert!(matches!(negative, Node::BigInt(bytes) if bytes.last().unwrap() & 0x80 != 0));
}

#[test]
fn int_00_and_01_are_booleans_and_nothing_else_is() {
    assert_eq!(value(&asm![Int("01"), Stop]), Node::Bool(true));
    assert_eq!(value(&asm![Int("00"), Stop]), Node::Bool(false));
    assert_eq!(value(&asm![Int("1"), Stop]), Node::Int(1));
    assert_eq!(value(&asm![NewTrue, Stop]), Node::Bool(true));
    assert_eq!(value(&asm![NewFalse, Stop]), Node::Bool(false));
    assert_eq!(value(&asm![PyNone, Stop]), Node::None);
}

#[test]
fn numbers_that_readers_take_differently_are_read_and_marked() {
    for (bytes, n) in [
        (asm![Int("0x10"), Stop], 16),
        (asm![Int("-0x10"), Stop], -16),
        (asm![Int("007"), Stop], 7),
        (asm![Int(" 7"), Stop], 7),
        (asm![Int("+7"), Stop], 7),
        (asm![Int("1_0"), Stop], 10),
        (asm![Int("7\0junk"), Stop], 7),
        (asm![Long("0x10L"), Stop], 16),
        (asm![Long("7\0L"), Stop], 7),
    ] {
        assert_eq!(value(&bytes), Node::Int(n), "{bytes:?}");
        assert_eq!(anomalies(&bytes), [(0, AnomalyKind::Number)], "{bytes:?}");
    }
    assert_eq!(anomalies(&asm![Float(" 1.5"), Stop]), [(0, AnomalyKind::Number)]);
    assert_eq!(anomalies(&asm![Float("1.5\0x"), Stop]), [(0, AnomalyKind::Number)]);
    assert_eq!(anomalies(&asm![PyNone, Put("01"), Stop]), [(1, AnomalyKind::Number)]);
    assert_eq!(anomalies(&asm![PyNone, Put("1"), Get("0x1"), Stop]).len(), 2);
}

#[test]
fn canonical_numbers_are_not_marked() {
    let bytes = asm![Int("7"), Long("-7L"), Float("1e-05"), Tuple3, Put("0"), Get("0"), Tuple2, Stop];
    assert_eq!(anomalies(&bytes), []);
}

#[test]
fn floats_are_big_endian_and_text_floats_are_pythons() {
    assert_eq!(value(&asm![BinFloat(-0.1), Stop]), Node::Float(-0.1));
    assert_eq!(value(&asm![Float("-1.5e3"), Stop]), Node::Float(-1500.0));
    assert!(matches!(value(&asm![Float("nan"), Stop]), Node::Float(x) if x.is_nan()));
    assert_eq!(value(&asm![Float("-inf"), Stop]), Node::Float(f64::NEG_INFINITY));
}

#[test]
fn text_of_every_opcode() {
    for bytes in [
        asm![ShortBinUnicode("naïve"), Stop],
        asm![BinUnicode("naïve"), Stop],
        asm![BinUnicode8("naïve"), Stop],
        asm![Unicode(b"na\\u00efve"), Stop],
        asm![Unicode(b"na\xefve"), Stop],
    ] {
        assert_eq!(value(&bytes), Node::Str("naïve".into()), "{bytes:?}");
    }
    assert_eq!(value(&asm![Unicode(b"\\x41"), Stop]), Node::Str("\\x41".into()));
    assert_eq!(value(&asm![Unicode(b""), Stop]), Node::Str("".into()));
}

#[test]
fn lone_surrogates_are_escaped() {
    let bytes = asm![Raw(b"X\x03\0\0\0\xed\xb2\x80"), Stop];
    assert_eq!(value(&bytes), Node::Str("\\udc80".into()));
    assert_eq!(value(&asm![Unicode(b"\\udc80"), Stop]), Node::Str("\\udc80".into()));
}

#[test]
fn long_text_stays_where_it_lies() {
    let long = "x".repeat(70_000);
    assert!(matches!(value(&asm![BinUnicode(&long), Stop]), Node::LongStr(span) if span.len() == 70_000));
}

#[test]
fn python_2_strings_are_bytes() {
    assert_eq!(value(&asm![Quoted(b"'a\\x41\\n\\'\\101\\q'"), Stop]), Node::Str2(inline(b"aA\n'A\\q")));
    assert_eq!(value(&asm![Quoted(b"\"a'b\""), Stop]), Node::Str2(inline(b"a'b")));
    assert_eq!(value(&asm![Quoted(b"'\xe9'"), Stop]), Node::Str2(inline(b"\xe9")));
    assert_eq!(value(&asm![ShortBinString(b"a\xff"), Stop]), Node::Str2(inline(b"a\xff")));
    assert_eq!(value(&asm![BinString(b"a\xff"), Stop]), Node::Str2(inline(b"a\xff")));
    let (graph, root) = run(&asm![ShortBinString("naïve".as_bytes()), Stop]).unwrap();
    assert_eq!(graph.text(root).as_deref(), Some("naïve"));
}

#[test]
fn bytes_of_every_opcode_large_ones_in_place() {
    assert_eq!(value(&asm![ShortBinBytes(b"ab"), Stop]), Node::Bytes(inline(b"ab")));
    assert_eq!(value(&asm![BinBytes(b"ab"), Stop]), Node::Bytes(inline(b"ab")));
    assert_eq!(value(&asm![BinBytes8(b"ab"), Stop]), Node::Bytes(inline(b"ab")));
    assert_eq!(value(&asm![ByteArray8(b"ab"), Stop]), Node::ByteArray(inline(b"ab")));
    let large = value(&asm![BinBytes(&[7; 2000]), Stop]);
    assert!(matches!(large, Node::Bytes(Payload::Span(span)) if (span.start(), span.len()) == (5, 2000)));
}

#[test]
fn containers_of_every_opcode() {
    let shape = |bytes: Vec<u8>| match value(&bytes) {
        Node::Tuple(items) => ("tuple", items.len()),
        Node::List(items) => ("list", items.len()),
        Node::Dict(items) => ("dict", items.len()),
        Node::Set(items) => ("set", items.len()),
        Node::FrozenSet(items) => ("frozenset", items.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(shape(asm![EmptyTuple, Stop]), ("tuple", 0));
    assert_eq!(shape(asm![PyNone, Tuple1, Stop]), ("tuple", 1));
    assert_eq!(shape(asm![PyNone, Dup, Tuple2, Stop]), ("tuple", 2));
    assert_eq!(shape(asm![PyNone, Dup, Dup, Tuple3, Stop]), ("tuple", 3));
    assert_eq!(shape(asm![Mark, PyNone, Dup, Dup, Dup, Tuple, Stop]), ("tuple", 4));
    assert_eq!(shape(asm![Mark, PyNone, List, Stop]), ("list", 1));
    assert_eq!(shape(asm![EmptyList, PyNone, Append, Mark, PyNone, PyNone, Appends, Stop]), ("list", 3));
    assert_eq!(shape(asm![Mark, BinInt1(1), PyNone, Dict, Stop]), ("dict", 1));
    let dict = asm![EmptyDict, BinInt1(1), PyNone, SetItem, Mark, BinInt1(2), PyNone, SetItems, Stop];
    assert_eq!(shape(dict), ("dict", 2));
    assert_eq!(shape(asm![EmptySet, Mark, BinInt1(1), AddItems, Stop]), ("set", 1));
    assert_eq!(shape(asm![Mark, BinInt1(1), FrozenSet, Stop]), ("frozenset", 1));
}

#[test]
fn entries_have_the_semantics_of_a_dict() {
    let keys = asm![
        EmptyDict,
        Mark,
        BinInt1(1),
        BinUnicode("int"),
        BinUnicode("1"),
        BinUnicode("text"),
        NewTrue,
        BinUnicode("bool"),
        BinFloat(1.0),
        BinUnicode("float"),
        ShortBinBytes(b"1"),
        BinUnicode("bytes"),
        PyNone,
        BinUnicode("none"),
        SetItems,
        Stop
    ];
    let (graph, root) = run(&keys).unwrap();
    let Node::Dict(items) = graph.node(root) else { panic!("a dict") };
    let entries = graph.entries(items);
    let values: Vec<_> = entries.iter().map(|(_, value)| graph.text(*value).unwrap()).collect();
    // 1, True and 1.0 are one key at the place of the first, with the value of the last.
    assert_eq!(values, ["float", "text", "bytes", "none"]);
    assert_eq!(*graph.node(entries[0].0), Node::Int(1));
}

#[test]
fn each_nan_is_a_key_of_its_own_as_in_python() {
    let nan = f64::NAN;
    let bytes = asm![EmptyDict, Mark, BinFloat(nan), PyNone, BinFloat(nan), PyNone, SetItems, Stop];
    let (graph, root) = run(&bytes).unwrap();
    let Node::Dict(items) = graph.node(root) else { panic!("a dict") };
    assert_eq!(graph.entries(items).len(), 2);
}
