//! Each error of the machine that no other file produces.

use depickle::pickle::ErrorKind;

use crate::asm::Op::*;
use crate::support::{run, vm_error};

#[test]
fn truncation_at_every_byte_is_an_error() {
    let bytes = asm![
        Proto(4),
        Frame(30),
        BinInt(1),
        BinUnicode("text"),
        ShortBinBytes(b"bytes"),
        Tuple3,
        Global("a", "b"),
        Memoize,
        Tuple2,
        Stop
    ];
    assert!(run(&bytes).is_ok());
    for end in 0..bytes.len() {
        assert!(matches!(vm_error(&bytes[..end]), ErrorKind::Read(_)), "{end}");
    }
}

#[test]
fn bytes_that_are_no_opcode() {
    for byte in [0x00, 0x7f, 0x99, 0xff] {
        assert!(matches!(vm_error(&[byte]), ErrorKind::UnknownOpcode(b) if b == byte));
    }
}

#[test]
fn text_that_is_not_utf_8() {
    assert!(matches!(vm_error(&asm![Raw(b"X\x01\0\0\0\xff"), Stop]), ErrorKind::InvalidText));
    assert!(matches!(vm_error(&asm![Raw(b"c\xff\nb\n"), Stop]), ErrorKind::InvalidText));
    assert!(matches!(vm_error(&asm![Raw(b"P\xff\n"), Stop]), ErrorKind::InvalidText));
}

#[test]
fn numbers_that_python_does_not_read_either() {
    for text in ["", "x", "1.5", "--5", "+-5", "0x", "0x-5", "5LL", "- 5", "\u{7f}", "_", "\0"] {
        assert!(matches!(vm_error(&asm![Int(text), Stop]), ErrorKind::InvalidNumber(_)), "{text:?}");
    }
    for text in ["", "x", "0x1p3", "1,5"] {
        assert!(matches!(vm_error(&asm![Float(text), Stop]), ErrorKind::InvalidNumber(_)), "{text:?}");
    }
}

#[test]
fn strings_without_quotes_or_with_broken_escapes() {
    for line in [&b"abc"[..], b"'abc", b"'", b"", b"'a\"", b"'\\x4'", b"'\\'"] {
        assert!(matches!(vm_error(&asm![Quoted(line), Stop]), ErrorKind::InvalidString), "{line:?}");
    }
    for line in [&b"\\u00g9"[..], b"\\u12", b"\\U00110000"] {
        assert!(matches!(vm_error(&asm![Unicode(line), Stop]), ErrorKind::InvalidString), "{line:?}");
    }
}

#[test]
fn negative_lengths() {
    for raw in [b"T\xff\xff\xff\xff", b"\x8b\xff\xff\xff\xff"] {
        assert!(matches!(vm_error(raw), ErrorKind::NegativeLength(-1)));
    }
}

#[test]
fn what_lies_outside_of_the_file() {
    for (op, code) in [(Ext1(1), 1), (Ext2(515), 515), (Ext4(-1), -1)] {
        assert!(matches!(vm_error(&asm![op, Stop]), ErrorKind::Extension(n) if n == code));
    }
    for op in [NextBuffer, ReadonlyBuffer] {
        assert!(matches!(vm_error(&asm![PyNone, op, Stop]), ErrorKind::OutOfBand));
    }
}
