//! Shapes of graphs: shared, cyclic, deep, doubling. Each ends, and in time that grows with the file.

use std::time::{Duration, Instant};

use depickle::limits::{LimitKind, Limits};

use crate::asm::Op::*;
use crate::asm::*;
use crate::support::{How, rebuild, rebuild_limit, rebuild_with};

fn t() -> Part {
    tensor("0", 1)
}

/// Fails where the work behind a small file is out of proportion.
fn quick(what: impl FnOnce()) {
    let start = Instant::now();
    what();
    // What repeats work takes hours; a loaded machine takes its time, too.
    assert!(start.elapsed() < Duration::from_secs(200), "{:?}", start.elapsed());
}

#[test]
fn shared_containers_stand_under_each_name() {
    let built = rebuild(&asm![
        dict(&[("w", t())]),
        BinPut(0),
        Pop,
        dict(&[("a", asm![BinGet(0)]), ("b", asm![BinGet(0)])])
    ]);
    assert_eq!(built.names(), ["a.w", "b.w"]);
    assert_eq!(built.rebuilt.tensors.len(), 1);
}

#[test]
fn a_cycle_ends_where_it_comes_back() {
    assert_eq!(
        rebuild(&asm![EmptyDict, BinPut(0), Mark, text("w"), t(), text("me"), BinGet(0), SetItems]).names(),
        ["w"]
    );
    let two = asm![
        EmptyList,
        BinPut(0),
        EmptyList,
        BinPut(1),
        BinGet(0),
        Append,
        t(),
        Append,
        Append,
        BinGet(1),
        Append
    ];
    assert_eq!(rebuild(&two).names(), ["0.1", "1.1"]);
}

#[test]
fn a_tensor_among_its_own_attributes_ends() {
    // A list in the state is filled after the call was made.
    let function = global("torch._utils", "_rebuild_tensor");
    let args = tuple(&[storage("FloatStorage", "0", 1), int(0), ints(&[1]), ints(&[1])]);
    let object = asm![
        reduce(
            "torch._tensor",
            "_rebuild_from_type_v2",
            &[function, global("a", "B"), args, asm![EmptyDict, text("list"), EmptyList, BinPut(0), SetItem]]
        ),
        BinPut(1),
        Pop,
        BinGet(0),
        Mark,
        BinGet(1),
        t(),
        Appends,
        Pop,
        BinGet(1)
    ];
    assert_eq!(rebuild(&object).names(), ["", "list.1"]);
}

fn doubling(levels: u8, leaf: Part) -> Part {
    let mut object = asm![leaf, BinPut(0)];
    for level in 0..levels {
        object.extend(asm![Pop, BinGet(level), BinGet(level), Tuple2, BinPut(level + 1)]);
    }
    object
}

#[test]
fn doubling_above_a_tensor_meets_the_limit() {
    assert_eq!(rebuild(&doubling(10, t())).names().len(), 1024);
    quick(|| assert_eq!(rebuild_limit(&doubling(60, t()), Limits::default()), LimitKind::ExtraNames));
    let few = Limits { extra_names: 10, ..Limits::default() };
    assert_eq!(rebuild_limit(&doubling(6, t()), few), LimitKind::ExtraNames);
}

#[test]
fn doubling_without_a_tensor_is_counted_once() {
    quick(|| assert_eq!(rebuild(&doubling(60, text("x"))).values()[0].2, 2));
}

#[test]
fn depth() {
    let nested = |n: usize| asm![t(), asm![Tuple1].repeat(n)];
    assert_eq!(rebuild(&nested(900)).names().len(), 1);
    assert_eq!(rebuild_limit(&nested(1_100), Limits::default()), LimitKind::Depth);
    assert_eq!(rebuild_limit(&nested(8), Limits { depth: 4, ..Limits::default() }), LimitKind::Depth);
    quick(|| assert_eq!(rebuild(&asm![text("x"), asm![Tuple1].repeat(1_000_000)]).names(), [""; 0]));
}

#[test]
fn small_integers_beside_a_tensor_do_not_meet_the_limit_on_names() {
    // They share nodes, so that there are more names than nodes.
    let many = asm![EmptyList, Mark, t(), asm![BinInt1(7)].repeat(300_000), Appends];
    assert_eq!(rebuild(&many).names(), ["0"]);
}

/// A container that holds a tensor and is shared under many names.
fn shared_under(names: usize, beside: Part) -> Part {
    let container = asm![EmptyList, t(), Append, beside, Append, BinPut(0), Pop];
    asm![container, EmptyList, Mark, asm![BinGet(0)].repeat(names), Appends]
}

#[test]
fn a_large_part_without_tensors_in_a_shared_container_is_counted_once() {
    let large = asm![EmptyList, Mark, asm![PyNone].repeat(200_000), Appends];
    quick(|| assert_eq!(rebuild(&shared_under(40_000, large)).names().len(), 40_000));
}

#[test]
fn empty_containers_in_a_shared_container_are_paid_for() {
    let empties =
        asm![EmptyList, BinPut(1), Pop, EmptyList, Mark, asm![BinGet(1)].repeat(100_000), t(), Appends];
    quick(|| {
        assert_eq!(rebuild_limit(&shared_under(50_000, empties), Limits::default()), LimitKind::ExtraNames);
    });
}

#[test]
fn a_shared_dictionary_that_repeats_one_key_is_listed_once() {
    let repeated = asm![EmptyDict, Mark, asm![BinGet(2), BinGet(3)].repeat(100_000), SetItems];
    let object = asm![text("k"), BinPut(2), Pop, t(), BinPut(3), Pop, shared_under(30_000, repeated)];
    quick(|| assert_eq!(rebuild(&object).names().len(), 60_000));
}

#[test]
fn a_large_object_of_many_names_is_listed_once() {
    let state = asm![EmptyDict, Mark, asm![BinGet(2), BinGet(3)].repeat(100_000), SetItems];
    let object = asm![global("my", "Thing"), EmptyTuple, NewObj, state, Build, BinPut(4), Pop];
    let names = asm![EmptyList, Mark, asm![BinGet(4)].repeat(100_000), Appends];
    let whole = asm![text("k"), BinPut(2), Pop, t(), BinPut(3), Pop, object, names];
    // Under some of its names: objects are entered again while places do not outnumber objects.
    quick(|| assert!(rebuild(&whole).names().len() < 1_000));
}

#[test]
fn long_names_that_are_shared_are_paid_for() {
    // 60 KB of key, and twelve bytes for each dictionary that has it.
    let key = "k".repeat(60_000);
    let one = asm![EmptyDict, BinGet(2), BinGet(3), SetItem];
    let object =
        asm![text(&key), BinPut(2), Pop, t(), BinPut(3), Pop, EmptyList, Mark, one.repeat(1_000), Appends];
    let limits = || Limits { string_bytes: 1_000_000, ..Limits::default() };
    assert_eq!(rebuild_limit(&object, limits()), LimitKind::StringBytes);
    // Or of a tuple that is a key: too long, and named by its position.
    let parts = asm![Mark, asm![BinGet(2)].repeat(1_000), Tuple];
    let object = asm![text(&key), BinPut(2), Pop, EmptyDict, parts, t(), SetItem];
    assert_eq!(
        rebuild_with(&pickle(&object), &How { limits: limits(), ..How::default() }).unwrap().names(),
        ["<tuple #0>"]
    );
}

#[test]
fn many_hidden_buffers_are_looked_up_quickly() {
    let names: Vec<Part> = (0..40_000).map(|n| text(&format!("buffer_with_a_name_{n}"))).collect();
    let set = asm![EmptySet, Mark, names.concat(), AddItems];
    let buffers: Vec<u8> = names.iter().rev().flat_map(|n| asm![n, BinGet(3)]).collect();
    let state = asm![
        EmptyDict,
        Mark,
        text("_parameters"),
        EmptyDict,
        text("_modules"),
        EmptyDict,
        text("_buffers"),
        asm![EmptyDict, Mark, buffers, SetItems],
        text("_non_persistent_buffers_set"),
        set,
        SetItems
    ];
    let object = asm![t(), BinPut(3), Pop, new_object("my", "Net", &state)];
    quick(|| assert_eq!(rebuild(&object).names().len(), 40_000));
}

#[test]
fn a_long_shape_that_many_tensors_share_is_refused_at_the_first() {
    let shape = ints(&vec![1; 100_000]);
    let args = asm![Mark, storage("FloatStorage", "0", 1), int(0), BinGet(2), BinGet(2), Tuple, Reduce];
    let object = asm![shape, BinPut(2), Pop, global("torch._utils", "_rebuild_tensor"), args];
    assert_eq!(rebuild_limit(&object, Limits::default()), LimitKind::Rank);
}
