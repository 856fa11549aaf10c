//! `PROTO` and `FRAME`: advisory for CPython, and therefore recorded where they do not fit.

use depickle::pickle::{AnomalyKind, ErrorKind, Node};

use crate::asm::Op::*;
use crate::support::{anomalies, value, vm_error};

fn framed(declared: u64, body: &[u8]) -> Vec<u8> {
    asm![Proto(4), Frame(declared), Raw(body)]
}

#[test]
fn an_honest_frame_is_no_anomaly() {
    assert_eq!(anomalies(&framed(3, &asm![BinInt1(7), Stop])), []);
    let two = asm![Proto(4), Frame(2), BinInt1(7), Frame(4), BinInt1(8), Tuple2, Stop];
    assert_eq!(anomalies(&two), []);
    // Large objects stand outside of frames, and so may anything.
    let outside = asm![Proto(4), Frame(2), BinInt1(7), BinBytes(&[0; 70]), Frame(2), Tuple2, Stop];
    assert_eq!(anomalies(&outside), []);
}

#[test]
fn frames_that_do_not_fit_are_recorded_and_have_no_effect() {
    let body = asm![BinInt2(7), Stop];
    for (what, bytes) in [
        ("longer than the pickle", framed(1 << 40, &body)),
        ("longer than the opcodes", asm![framed(6, &body), Raw(b"xxxxxx")]),
        ("ends within an opcode", framed(2, &body)),
        ("nested", framed(20, &asm![Frame(4), Raw(&body), Raw(b"xxxxxxxxxxxxxx")])),
    ] {
        assert_eq!(value(&bytes), Node::Int(7), "{what}");
        let kinds: Vec<_> = anomalies(&bytes).into_iter().map(|(_, kind)| kind).collect();
        assert!(kinds.contains(&AnomalyKind::Frame), "{what}: {kinds:?}");
    }
    assert!(AnomalyKind::Frame.is_ambiguous());
    assert!(AnomalyKind::Number.is_ambiguous());
}

#[test]
fn harmless_anomalies_do_not_crowd_out_others() {
    let bytes = asm![PyNone, asm![Proto(2)].repeat(100), Int("0x1"), Tuple2, Stop];
    assert!(anomalies(&bytes).iter().any(|(_, kind)| *kind == AnomalyKind::Number));
    assert!(anomalies(&bytes).len() < 70);
}

#[test]
fn a_frame_of_any_size_does_not_overflow() {
    assert_eq!(value(&framed(u64::MAX, &asm![BinInt1(7), Stop])), Node::Int(7));
}

#[test]
fn proto_may_be_absent_or_repeated_up_to_5() {
    assert_eq!(anomalies(&asm![PyNone, Stop]), []);
    assert_eq!(anomalies(&asm![Proto(5), PyNone, Stop]), []);
    assert_eq!(anomalies(&asm![Proto(2), PyNone, Proto(3), Stop]), [(3, AnomalyKind::Protocol)]);
    assert!(!AnomalyKind::Protocol.is_ambiguous());
    assert!(matches!(vm_error(&asm![Proto(6), PyNone, Stop]), ErrorKind::UnsupportedProtocol(6)));
}
