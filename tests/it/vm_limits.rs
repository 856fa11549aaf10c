//! Bombs: each limit of the machine, and depth that must not become recursion.

use depickle::limits::{LimitKind, Limits};
use depickle::pickle::Node;

use crate::asm::Op::*;
use crate::support::{run, run_within, vm_limit};

fn tiny() -> Limits {
    Limits { operations: 50, nodes: 300, memo: 4, stack: 4, string_bytes: 100, ..Limits::default() }
}

#[test]
fn operations() {
    let endless = [asm![PyNone, Pop].repeat(30), asm![PyNone, Stop]].concat();
    assert_eq!(vm_limit(&endless, &tiny()), LimitKind::Operations);
}

#[test]
fn nodes() {
    let objects = [asm![EmptyList, Pop].repeat(100), asm![PyNone, Stop]].concat();
    assert_eq!(vm_limit(&objects, &Limits { operations: 1_000, ..tiny() }), LimitKind::Nodes);
}

#[test]
fn memo() {
    let many: Vec<u8> = (0..10).flat_map(|n| asm![BinPut(n)]).collect();
    assert_eq!(vm_limit(&asm![PyNone, many, Stop], &tiny()), LimitKind::Memo);
    let memoize = asm![Memoize].repeat(10);
    assert_eq!(vm_limit(&asm![PyNone, memoize, Stop], &tiny()), LimitKind::Memo);
    // Storing to the same entry again takes no memory.
    let again = asm![BinPut(0)].repeat(10);
    assert!(run_within(&asm![PyNone, again, Stop], &tiny()).is_ok());
}

#[test]
fn stack_and_marks() {
    let limits = Limits { operations: 10_000, ..tiny() };
    assert_eq!(vm_limit(&asm![PyNone, asm![Dup].repeat(1_000), Stop], &limits), LimitKind::Stack);
    assert_eq!(vm_limit(&asm![asm![Mark].repeat(1_000), PyNone, Stop], &limits), LimitKind::Stack);
}

#[test]
fn string_bytes() {
    let text = "x".repeat(60);
    for op in [
        BinUnicode(&text),
        ShortBinBytes(text.as_bytes()),
        ShortBinString(text.as_bytes()),
        Long1(&[7; 60]),
        Global("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"),
    ] {
        assert_eq!(vm_limit(&asm![op, op, Stop], &tiny()), LimitKind::StringBytes, "{op:?}");
    }
}

#[test]
fn names_made_of_memoised_text_are_paid_for() {
    // Two strings and five bytes for each pair of them would otherwise make a name of any length.
    let text = "x".repeat(40);
    let bytes =
        asm![BinUnicode(&text), BinPut(0), BinGet(0), StackGlobal, BinGet(0), BinGet(0), StackGlobal, Stop];
    assert_eq!(vm_limit(&bytes, &tiny()), LimitKind::StringBytes);
}

#[test]
fn declared_lengths_are_compared_with_what_is_left() {
    use depickle::{bytes, pickle::ErrorKind};
    for raw in [
        &b"B\xff\xff\xff\xff"[..],
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
        b"X\xff\xff\xff\xff",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"T\xff\xff\xff\x7f",
        b"\x8b\xff\xff\xff\x7f",
        b"\x8a\xff",
        b"U\xff",
        b"C\xff",
        b"\x8c\xff",
    ] {
        let error = crate::support::vm_error(raw);
        assert!(
            matches!(error, ErrorKind::Read(bytes::ErrorKind::Truncated { left: 0, .. })),
            "{raw:?}: {error}"
        );
    }
}

#[test]
fn two_million_levels_are_built_and_dropped_without_recursion() {
    let deep = [asm![EmptyTuple], asm![Tuple1].repeat(2_000_000), asm![Stop]].concat();
    let (graph, root) = run(&deep).unwrap();
    assert!(matches!(graph.node(root), Node::Tuple(items) if items.len() == 1));
    let _ = format!("{graph:?}");
    drop(graph);
    let calls = [asm![Global("a", "b")], asm![EmptyTuple, Reduce].repeat(1_000_000), asm![Stop]].concat();
    drop(run(&calls).unwrap());
}
