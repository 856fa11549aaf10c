//! Containers: what their users would see in them, under which names, with nothing lost.

use depickle::rebuild::ErrorKind;

use crate::asm::Op::*;
use crate::asm::*;
use crate::support::{How, rebuild, rebuild_error, rebuild_with};

fn t() -> Part {
    tensor("0", 1)
}

fn names(object: &[u8]) -> Vec<String> {
    rebuild(object).names()
}

fn pair_list() -> Part {
    list(&[list(&[text("a"), t()]), tuple(&[text("b"), t()])])
}

#[test]
fn mappings_of_every_class() {
    assert_eq!(names(&dict(&[("a", t()), ("b", t())])), ["a", "b"]);
    assert_eq!(names(&ordered_dict(&[("a", t()), ("b", t())])), ["a", "b"]);
    for (module, name) in
        [("collections", "OrderedDict"), ("collections", "Counter"), ("__builtin__", "dict")]
    {
        assert_eq!(names(&reduce(module, name, &[pair_list()])), ["a", "b"], "{module}.{name}");
        assert_eq!(names(&reduce(module, name, &[dict(&[("a", t())])])), ["a"], "{module}.{name}");
        let set = asm![reduce(module, name, &[]), text("a"), t(), SetItem];
        assert_eq!(names(&set), ["a"], "{module}.{name}");
    }
    let factory = reduce("collections", "defaultdict", &[global("builtins", "list")]);
    assert_eq!(names(&asm![factory, text("a"), t(), SetItem]), ["a"]);
    let filled = reduce("collections", "defaultdict", &[asm![PyNone], dict(&[("a", t())])]);
    assert_eq!(names(&filled), ["a"]);
}

#[test]
fn sequences_of_every_class() {
    for object in [
        tuple(&[int(1), t()]),
        list(&[int(1), t()]),
        asm![EmptySet, Mark, int(1), t(), AddItems],
        asm![Mark, int(1), t(), FrozenSet],
        reduce("builtins", "frozenset", &[list(&[int(1), t()])]),
        reduce("__builtin__", "set", &[list(&[int(1), t()])]),
        reduce("builtins", "list", &[tuple(&[int(1), t()])]),
        reduce("builtins", "tuple", &[asm![EmptySet, Mark, int(1), t(), AddItems]]),
        reduce("collections", "deque", &[list(&[int(1), t()])]),
        asm![reduce("collections", "deque", &[]), Mark, int(1), t(), Appends],
        // With its longest length: as Python 3 writes it, and as Python 2 did.
        asm![reduce("collections", "deque", &[asm![EmptyTuple], int(5)]), Mark, int(1), t(), Appends],
        reduce("collections", "deque", &[list(&[int(1), t()]), int(5)]),
    ] {
        assert_eq!(names(&object), ["1"], "{object:?}");
    }
}

#[test]
fn what_a_container_is_made_from_and_cannot_be_read_is_walked() {
    let unknown = reduce("my", "pairs", &[t()]);
    assert_eq!(names(&reduce("collections", "OrderedDict", std::slice::from_ref(&unknown))), ["0.0"]);
    assert_eq!(names(&reduce("builtins", "list", &[unknown])), ["0.0"]);
    assert_eq!(names(&reduce("collections", "OrderedDict", &[ordered_dict(&[("a", t())])])), ["0.a"]);
    assert_eq!(names(&reduce("collections", "OrderedDict", &[list(&[t()])])), ["0.0"]);
}

#[test]
fn new_takes_no_notice_of_its_arguments() {
    // `OrderedDict.__new__(OrderedDict, [...])` is empty: a reader that fills it shows what torch does not see.
    let new = |module: &str, name: &str| asm![global(module, name), tuple(&[pair_list()]), NewObj];
    assert_eq!(names(&new("collections", "OrderedDict")), [""; 0]);
    assert_eq!(names(&new("builtins", "dict")), [""; 0]);
    assert_eq!(names(&new("builtins", "list")), [""; 0]);
    assert_eq!(names(&new("builtins", "tuple")), ["0.1", "1.1"]);
}

#[test]
fn items_that_are_set_on_sequences_and_appended_to_mappings_are_not_lost() {
    let deque = asm![reduce("collections", "deque", &[]), int(0), t(), SetItem];
    assert_eq!(names(&deque), ["0"]);
    assert_eq!(names(&asm![ordered_dict(&[]), t(), Append]), ["0"]);
}

#[test]
fn build_on_a_dictionary_sets_attributes_and_no_items() {
    let built = rebuild(&asm![ordered_dict(&[("a", t())]), dict(&[("injected", tensor("1", 1))]), Build]);
    assert_eq!(built.names(), ["a", "injected"]);
    let steps: Vec<_> = built
        .rebuilt
        .tree
        .tensors()
        .map(|(id, _)| built.rebuilt.tree.entry(id).unwrap().step.clone())
        .collect();
    assert!(matches!(steps[0], depickle::tensor::Step::Key(_)));
    assert!(matches!(steps[1], depickle::tensor::Step::Attribute(_)));
    assert_eq!(rebuild(&state_dict(&[("w", t())])).names(), ["w"]);
}

#[test]
fn the_last_value_of_a_key_wins_at_the_place_of_the_first() {
    let twice = asm![
        EmptyDict,
        Mark,
        text("a"),
        tensor("1", 1),
        text("b"),
        tensor("2", 2),
        text("a"),
        tensor("3", 3),
        SetItems
    ];
    let built = rebuild(&twice);
    assert_eq!(built.names(), ["a", "b"]);
    let shapes: Vec<_> =
        built.rebuilt.tree.tensors().map(|(_, t)| built.rebuilt.tensors[t.index()].view.shape()[0]).collect();
    assert_eq!(shapes, [3, 2]);
}

#[test]
fn keys_as_text() {
    let keys = [
        (asm![BinUnicode("a.b")], "a.b"),
        (asm![ShortBinString(b"old")], "old"),
        (int(-7), "-7"),
        (asm![BinFloat(0.5)], "0.5"),
        (asm![NewTrue], "True"),
        (asm![PyNone], "None"),
        (tuple(&[int(0), text("x")]), "(0, 'x')"),
        (tuple(&[int(0)]), "(0,)"),
        (global("my.pkg", "Class"), "my.pkg.Class"),
        (asm![ShortBinBytes(b"a\xff")], "a\\xff"),
        (tuple(&[tuple(&[int(0)])]), "<tuple #10>"),
    ];
    let items: Vec<u8> = keys.iter().flat_map(|(key, _)| [key.clone(), t()].concat()).collect();
    let built = rebuild(&asm![EmptyDict, Mark, items, SetItems]);
    let expected: Vec<_> = keys.iter().map(|(_, name)| (*name).to_owned()).collect();
    assert_eq!(built.names(), expected);
    // One and True are one key.
    assert_eq!(names(&asm![EmptyDict, Mark, int(1), t(), NewTrue, t(), text("1"), t(), SetItems]).len(), 2);
}

#[test]
fn inert_objects_are_walked() {
    let object = asm![
        global("my", "Thing"),
        tuple(&[t()]),
        dict(&[("keyword", t())]),
        NewObjEx,
        dict(&[("attribute", t())]),
        Build,
        t(),
        Append,
        text("item"),
        t(),
        SetItem
    ];
    assert_eq!(names(&dict(&[("x", object)])), ["x.0", "x.keyword", "x.attribute", "x.item", "x.0"]);
    let slots = new_object("my", "Slots", &tuple(&[asm![PyNone], dict(&[("s", t())])]));
    assert_eq!(names(&slots), ["s"]);
    let other = new_object("my", "Other", &list(&[t()]));
    assert_eq!(names(&other), ["state.0"]);
    let more = asm![new_object("my", "Twice", &dict(&[("a", t())])), dict(&[("b", t())]), Build];
    assert_eq!(names(&more), ["a", "b"]);
    let class = [global("my", "Old"), global("builtins", "object"), asm![PyNone]];
    let reconstructed = asm![reduce("copy_reg", "_reconstructor", &class), dict(&[("a", t())]), Build];
    assert_eq!(names(&reconstructed), ["a"]);
}

#[test]
fn an_interpreted_call_that_needs_an_uninterpreted_one_names_it() {
    let bad = tensor_of(&reduce("evil", "storage", &[]), 0, &[1], &[1]);
    let how = How { skip_unresolved: true, ..How::default() };
    let built = rebuild_with(&pickle(&dict(&[("bad", bad), ("good", t())])), &how).unwrap();
    assert_eq!(built.names(), ["good"]);
    let (path, reason) = &built.left_out()[0];
    assert_eq!(path, "bad");
    assert!(reason.contains("evil.storage"));
}

#[test]
fn a_lone_tensor_and_no_tensor_at_all() {
    assert_eq!(names(&t()), [""]);
    let none = rebuild(&list(&[int(1), text("a"), asm![PyNone]]));
    assert_eq!(none.names(), [""; 0]);
    assert_eq!(none.values(), [(String::new(), "list".to_owned(), 3)]);
    assert!(rebuild(&dict(&[])).rebuilt.tree.is_empty());
}

/// `callable(L)`, where something is appended to the list `L` after the call.
fn changed_after(module: &str, name: &str, first: Part, later: Part) -> Part {
    let changed = asm![BinGet(0), later, Append, Pop];
    asm![Global(module, name), EmptyList, BinPut(0), first, Append, Tuple1, Reduce, changed]
}

#[test]
fn a_list_that_is_changed_after_it_was_copied_is_refused() {
    let pair = |key: &str| tuple(&[text(key), tensor("0", 1)]);
    for (module, name) in [("collections", "OrderedDict"), ("builtins", "dict"), ("builtins", "tuple")] {
        let error = rebuild_error(&changed_after(module, name, pair("a"), pair("b")));
        assert!(matches!(error, ErrorKind::ChangedAfter), "{name}: {error}");
    }
    // A shape that grew after it was taken.
    let size = changed_after("torch", "Size", int(2), int(2));
    let args = [storage("FloatStorage", "0", 4), int(0), size, ints(&[2, 1]), asm![NewFalse], no_hooks()];
    let error = rebuild_error(&reduce("torch._utils", "_rebuild_tensor_v2", &args));
    assert!(matches!(error, ErrorKind::Argument { position: 2, .. }), "{error}");
    // A class that is not interpreted may keep the list itself, and honest ones do.
    let kept = changed_after("argparse", "Namespace", tensor("0", 1), tensor("1", 1));
    assert_eq!(rebuild(&kept).names().len(), 2);
    // Before the call all is fair.
    let before = asm![Global("collections", "OrderedDict"), list(&[pair("a"), pair("b")]), Tuple1, Reduce];
    assert_eq!(rebuild(&before).names(), ["a", "b"]);
}
