//! The stack and the separate stack of marks, as CPython keeps them.

use depickle::pickle::{AnomalyKind, ErrorKind, Node};

use crate::asm::Op::*;
use crate::support::{anomalies, value, vm_error};

#[test]
fn pop_at_a_mark_takes_the_mark() {
    assert_eq!(value(&asm![BinInt1(7), Mark, Pop, Stop]), Node::Int(7));
    assert_eq!(value(&asm![BinInt1(7), Mark, BinInt1(8), Pop, Pop, Stop]), Node::Int(7));
    assert!(matches!(vm_error(&asm![Mark, Pop, Tuple, Stop]), ErrorKind::NoMark));
}

#[test]
fn items_below_a_mark_are_out_of_reach() {
    for op in [Dup, Memoize, Stop, Append, Tuple1, Reduce, BinPersId, StackGlobal] {
        let error = vm_error(&asm![EmptyList, PyNone, Mark, op, Stop]);
        assert!(matches!(error, ErrorKind::StackUnderflow), "{op:?}: {error}");
    }
}

#[test]
fn an_empty_stack_underflows() {
    for op in [Pop, Dup, Memoize, Stop, Append, SetItem, Tuple1, Tuple2, Tuple3, NewObj, NewObjEx, Build] {
        assert!(matches!(vm_error(&asm![op, Stop]), ErrorKind::StackUnderflow), "{op:?}");
    }
    for op in [BinPut(0), LongBinPut(0), Put("0")] {
        assert!(matches!(vm_error(&asm![op, Stop]), ErrorKind::StackUnderflow), "{op:?}");
    }
}

#[test]
fn opcodes_that_need_a_mark_say_so() {
    for op in [Tuple, List, Dict, Appends, SetItems, AddItems, FrozenSet, PopMark, Obj, Inst("a", "b")] {
        assert!(matches!(vm_error(&asm![PyNone, op, Stop]), ErrorKind::NoMark), "{op:?}");
    }
}

#[test]
fn dup_shares_and_does_not_copy() {
    let bytes = asm![EmptyList, Dup, BinInt1(1), Append, Tuple2, Stop];
    let Node::Tuple(items) = value(&bytes) else { panic!("a tuple") };
    assert_eq!(items[0], items[1]);
}

#[test]
fn pop_mark_takes_everything_above() {
    assert_eq!(value(&asm![BinInt1(7), Mark, BinInt1(8), BinInt1(9), PopMark, Stop]), Node::Int(7));
}

#[test]
fn objects_left_at_stop_are_recorded() {
    assert_eq!(anomalies(&asm![PyNone, PyNone, Stop]), [(2, AnomalyKind::StackLeft)]);
    assert_eq!(anomalies(&asm![Mark, PyNone, Stop]), [(2, AnomalyKind::StackLeft)]);
    assert!(!AnomalyKind::StackLeft.is_ambiguous());
}

#[test]
fn data_after_stop_is_not_read() {
    assert_eq!(value(&asm![BinInt1(7), Stop, Raw(b"\xff\xff"), Stop]), Node::Int(7));
}

#[test]
fn odd_items_do_not_make_a_dictionary() {
    assert!(matches!(vm_error(&asm![EmptyDict, Mark, PyNone, SetItems, Stop]), ErrorKind::OddItems));
    assert!(matches!(vm_error(&asm![Mark, PyNone, Dict, Stop]), ErrorKind::OddItems));
}
