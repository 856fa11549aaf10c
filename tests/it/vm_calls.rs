//! Calls are recorded and never made, also when their result is thrown away.

use depickle::pickle::{Call, ErrorKind, Event, Graph, How, Node};

use crate::asm::Op::*;
use crate::asm::dict;
use crate::support::{run, value, vm_error};

fn only_call(bytes: &[u8]) -> (Graph, Call) {
    let (graph, _) = run(bytes).unwrap();
    let calls: Vec<Call> = graph.calls().map(|(_, call)| call.clone()).collect();
    let [call] = calls.try_into().expect("one call");
    (graph, call)
}

fn called(bytes: &[u8]) -> (How, String, Vec<i64>, u64) {
    let (graph, call) = only_call(bytes);
    let global = graph.as_global(call.callable).unwrap();
    let args = graph.tuple(call.args).unwrap().iter().map(|id| graph.int(*id).unwrap()).collect();
    (call.how, format!("{}.{}", global.module, global.name), args, call.offset.0)
}

#[test]
fn every_opcode_that_calls() {
    let name = || "os.system".to_owned();
    let reduce = asm![Global("os", "system"), BinInt1(5), Tuple1, Reduce, Stop];
    assert_eq!(called(&reduce), (How::Reduce, name(), vec![5], 14));
    let new = asm![Global("os", "system"), EmptyTuple, NewObj, Stop];
    assert_eq!(called(&new), (How::NewObj, name(), vec![], 12));
    let obj = asm![Mark, Global("os", "system"), BinInt1(5), BinInt1(6), Obj, Stop];
    assert_eq!(called(&obj), (How::Obj, name(), vec![5, 6], 16));
    let inst = asm![Mark, BinInt1(5), Inst("os", "system"), Stop];
    assert_eq!(called(&inst), (How::Inst, name(), vec![5], 3));
    let stack_global =
        asm![ShortBinUnicode("os"), ShortBinUnicode("system"), StackGlobal, EmptyTuple, Reduce, Stop];
    assert_eq!(called(&stack_global), (How::Reduce, name(), vec![], 14));
}

#[test]
fn keyword_arguments_are_recorded() {
    let bytes = asm![Global("a", "B"), EmptyTuple, dict(&[("k", asm![BinInt1(7)])]), NewObjEx, Stop];
    let (graph, call) = only_call(&bytes);
    assert_eq!(call.how, How::NewObjEx);
    assert!(call.how.is_new());
    assert!(matches!(graph.node(call.kwargs.unwrap()), Node::Dict(items) if items.len() == 1));
}

#[test]
fn a_result_that_is_popped_is_still_a_call() {
    // GHSA-mxhj-88fx-4pcv: OBJ and POP made the call vanish from a scanner's tree.
    let bytes = asm![Mark, Global("os", "system"), BinUnicode("id"), Obj, Pop, PyNone, Stop];
    let (graph, _) = run(&bytes).unwrap();
    assert_eq!(graph.calls().count(), 1);
    let marked = asm![Mark, Global("os", "system"), EmptyTuple, Reduce, PopMark, PyNone, Stop];
    assert_eq!(run(&marked).unwrap().0.calls().count(), 1);
}

#[test]
fn a_name_that_is_never_called_is_an_event() {
    let (graph, _) = run(&asm![Global("antigravity", "x"), Pop, PyNone, Stop]).unwrap();
    assert_eq!(&*graph.globals()[0].module, "antigravity");
    assert_eq!((graph.globals()[0].count, graph.globals()[0].offset.0), (1, 0));
}

#[test]
fn names_are_counted_once_for_each_reference() {
    let (graph, _) = run(&asm![Global("a", "b"), Global("a", "b"), Global("a", "c"), Tuple3, Stop]).unwrap();
    let names: Vec<_> = graph.globals().iter().map(|g| (&*g.name, g.count, g.offset.0)).collect();
    assert_eq!(names, [("b", 2, 0), ("c", 1, 10)]);
}

#[test]
fn what_is_done_to_a_result_is_recorded_in_order() {
    let bytes = asm![
        Global("a", "B"),
        EmptyTuple,
        Reduce,
        BinPut(0),
        BinInt1(1),
        Append,
        Mark,
        BinInt1(2),
        BinInt1(3),
        Appends,
        Mark,
        BinInt1(4),
        AddItems,
        BinUnicode("k"),
        BinInt1(5),
        SetItem,
        EmptyDict,
        Build,
        EmptyTuple,
        Build,
        Stop
    ];
    let (graph, call) = only_call(&bytes);
    let appended: Vec<_> = call.appended().iter().map(|id| graph.int(*id).unwrap()).collect();
    assert_eq!(appended, [1, 2, 3, 4]);
    assert_eq!(call.items().len(), 1);
    let states: Vec<_> = call.states().map(|id| graph.node(id).type_name()).collect();
    assert_eq!(states, ["dict", "tuple"]);
}

#[test]
fn build_is_for_results_of_calls() {
    for target in [asm![EmptyDict], asm![EmptyList], asm![Global("a", "B")], asm![BinUnicode("p"), BinPersId]]
    {
        let error = vm_error(&asm![target, EmptyDict, Build, Stop]);
        assert!(matches!(error, ErrorKind::Target { .. }), "{error}");
    }
    // A state of None sets nothing, whatever the object.
    assert_eq!(value(&asm![EmptyList, PyNone, Build, Stop]), Node::List(vec![]));
}

#[test]
fn items_go_to_the_containers_that_have_them() {
    // CVE-2026-24747: SETITEM on what is no dictionary.
    for bytes in [
        asm![EmptyList, BinInt1(0), PyNone, SetItem, Stop],
        asm![EmptyDict, PyNone, Append, Stop],
        asm![EmptyTuple, PyNone, Append, Stop],
        asm![EmptyList, Mark, PyNone, AddItems, Stop],
        asm![EmptySet, PyNone, Append, Stop],
        asm![Global("a", "B"), BinInt1(0), PyNone, SetItem, Stop],
    ] {
        assert!(matches!(vm_error(&bytes), ErrorKind::Target { .. }), "{bytes:?}");
    }
}

#[test]
fn a_global_from_the_stack_takes_text_only() {
    let error = vm_error(&asm![BinInt1(1), BinUnicode("a"), StackGlobal, Stop]);
    assert!(matches!(error, ErrorKind::Target { found: "int", .. }));
}

#[test]
fn persistent_ids_of_both_forms() {
    let (graph, root) = run(&asm![PersId("key"), Stop]).unwrap();
    assert!(matches!(graph.node(root), Node::Persistent(id) if graph.text(*id).as_deref() == Some("key")));
    let (graph, root) = run(&asm![BinInt1(7), BinPersId, Stop]).unwrap();
    assert!(matches!(graph.node(root), Node::Persistent(id) if graph.int(*id) == Some(7)));
}

#[test]
fn the_machine_pauses_after_a_build_and_passes_over_raw_bytes() {
    use depickle::bytes::{Cursor, ReadAt, Span};
    let bytes = asm![Global("a", "B"), EmptyTuple, NewObj, EmptyDict, Build, Raw(b"raw!"), Tuple1, Stop];
    let limits = depickle::limits::Limits::default();
    let mut vm = depickle::pickle::Vm::new(Cursor::new(&bytes, Span::between(0, bytes.size())), &limits)
        .pause_after_build();
    let Event::Built(built) = vm.run().unwrap() else { panic!("a pause") };
    let span = vm.skip_raw(built, 4).unwrap();
    assert_eq!(&bytes[span.start() as usize..span.end() as usize], b"raw!");
    assert!(matches!(vm.run().unwrap(), Event::Stop(_)));
    assert_eq!(vm.position().0, bytes.size());
    assert_eq!(vm.graph().call(built).unwrap().more.as_ref().unwrap().raw, Some(span));
    assert!(vm.run().is_err(), "after STOP there is no more");
}

#[test]
fn names_are_mapped_by_the_protocol_in_force() {
    // Python maps `__builtin__` when it meets the name; a later PROTO does not undo that.
    let (graph, _) = run(&asm![Proto(2), Global("__builtin__", "eval"), Proto(4), Stop]).unwrap();
    assert_eq!(graph.protocol(), 2);
    let (graph, _) = run(&asm![Proto(4), Global("__builtin__", "eval"), Proto(2), Stop]).unwrap();
    assert_eq!(graph.protocol(), 4);
    let (graph, _) = run(&asm![Global("__builtin__", "eval"), Proto(4), Stop]).unwrap();
    assert_eq!(graph.protocol(), 0);
    let (graph, _) = run(&asm![Proto(4), PyNone, Stop]).unwrap();
    assert_eq!(graph.protocol(), 4);
}

#[test]
fn what_came_before_an_error_stands() {
    use depickle::bytes::{Cursor, ReadAt, Span};
    let bytes = asm![Global("os", "system"), BinUnicode("id"), Tuple1, Reduce, Raw(b"\xff")];
    let limits = depickle::limits::Limits::default();
    let mut vm = depickle::pickle::Vm::new(Cursor::new(&bytes, Span::between(0, bytes.size())), &limits);
    let error = vm.run().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::UnknownOpcode(0xff)));
    assert_eq!((error.offset.0, error.op), (bytes.size() - 1, "?"));
    assert!(vm.run().is_err());
    assert_eq!(vm.into_graph().calls().count(), 1);
}
