//! The memo: handles under any number, `MEMOIZE` by the count of entries.

use depickle::pickle::{ErrorKind, MemoId, Node};

use crate::asm::Op::*;
use crate::support::{run, value, vm_error};

fn numbers(bytes: &[u8]) -> Vec<i64> {
    let (graph, root) = run(bytes).unwrap();
    graph.sequence(root).unwrap().iter().map(|id| graph.int(*id).unwrap()).collect()
}

#[test]
fn every_form_of_put_and_get_names_the_same_entries() {
    let bytes = asm![
        Mark,
        BinInt1(1),
        Put("0"),
        BinInt1(2),
        BinPut(1),
        BinInt1(3),
        LongBinPut(2),
        BinInt1(4),
        Memoize,
        LongBinGet(0),
        Get("1"),
        BinGet(2),
        BinGet(3),
        Tuple,
        Stop
    ];
    assert_eq!(numbers(&bytes), [1, 2, 3, 4, 1, 2, 3, 4]);
}

#[test]
fn memoize_stores_under_the_number_of_entries() {
    // A second PUT to an entry does not add one; a PUT far away does.
    let bytes = asm![
        Mark,
        BinInt1(1),
        BinPut(0),
        BinInt1(2),
        BinPut(0),
        BinInt1(3),
        LongBinPut(9_000),
        BinInt1(4),
        Memoize,
        BinGet(2),
        BinGet(0),
        Tuple,
        Stop
    ];
    assert_eq!(numbers(&bytes), [1, 2, 3, 4, 4, 2]);
}

#[test]
fn sparse_and_dense_numbers_mix() {
    let bytes = asm![
        Mark,
        BinInt1(1),
        BinPut(2),
        BinInt1(2),
        BinPut(0),
        BinInt1(3),
        BinPut(1),
        BinInt1(4),
        BinPut(3),
        BinInt1(5),
        BinPut(2),
        BinGet(0),
        BinGet(1),
        BinGet(2),
        BinGet(3),
        Tuple,
        Stop
    ];
    assert_eq!(numbers(&bytes), [1, 2, 3, 4, 5, 2, 3, 5, 4]);
}

#[test]
fn a_number_of_two_billion_allocates_nothing() {
    let bytes = asm![PyNone, LongBinPut(0x7fff_ffff), LongBinGet(0x7fff_ffff), Stop];
    assert_eq!(value(&bytes), Node::None);
}

#[test]
fn what_was_never_stored_is_an_error() {
    assert!(matches!(vm_error(&asm![BinGet(3), Stop]), ErrorKind::MissingMemo(MemoId(3))));
    assert!(matches!(vm_error(&asm![Get("12"), Stop]), ErrorKind::MissingMemo(MemoId(12))));
    assert!(matches!(vm_error(&asm![PyNone, Put("-1"), Stop]), ErrorKind::InvalidNumber(_)));
}

#[test]
fn changes_are_seen_through_the_memo() {
    let bytes = asm![EmptyList, BinPut(0), BinInt1(1), Append, Pop, BinGet(0), Stop];
    assert_eq!(numbers(&bytes), [1]);
    // A list that holds itself.
    let (graph, root) = run(&asm![EmptyList, BinPut(0), BinGet(0), Append, Stop]).unwrap();
    assert_eq!(graph.sequence(root), Some([root].as_slice()));
}

#[test]
fn sixty_levels_of_doubling_cost_sixty_nodes() {
    let mut bytes = asm![EmptyList, BinPut(0)];
    for level in 0..60 {
        bytes.extend(asm![Pop, BinGet(level), BinGet(level), Tuple2, BinPut(level + 1)]);
    }
    let (graph, _) = run(&asm![bytes, Stop]).unwrap();
    assert!(graph.len() < 400);
}
