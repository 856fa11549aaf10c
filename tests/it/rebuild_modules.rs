//! Pickled modules: the names that `state_dict()` would give.

use depickle::tensor::{Kind, Step};

use crate::asm::Op::*;
use crate::asm::*;
use crate::support::rebuild;

fn t() -> Part {
    tensor("0", 1)
}

fn module(
    parameters: &[(&str, Part)],
    buffers: &[(&str, Part)],
    modules: &[(&str, Part)],
    others: &[(&str, Part)],
) -> Part {
    let mut state = vec![
        ("training", asm![NewTrue]),
        ("_parameters", ordered_dict(parameters)),
        ("_buffers", ordered_dict(buffers)),
        ("_modules", ordered_dict(modules)),
    ];
    state.extend(others.iter().cloned());
    new_object("my.net", "Net", &dict(&state))
}

#[test]
fn parameters_then_buffers_then_submodules() {
    let inner = || module(&[("weight", t()), ("bias", asm![PyNone])], &[("mean", t())], &[], &[]);
    let outer = module(
        &[("scale", t())],
        &[("count", t())],
        &[("0", inner()), ("1", asm![PyNone]), ("2", inner())],
        &[],
    );
    let built = rebuild(&outer);
    assert_eq!(built.names(), ["scale", "count", "0.weight", "0.mean", "2.weight", "2.mean"]);
    assert_eq!(built.rebuilt.tree.entry(depickle::tensor::EntryId::ROOT).unwrap().kind, Kind::Module);
}

#[test]
fn buffers_that_are_not_persistent_are_marked() {
    for set in [
        asm![EmptySet, Mark, text("hidden"), AddItems],
        reduce("__builtin__", "set", &[list(&[text("hidden")])]),
        asm![Mark, text("hidden"), FrozenSet],
    ] {
        let built = rebuild(&module(
            &[],
            &[("kept", t()), ("hidden", t())],
            &[],
            &[("_non_persistent_buffers_set", set)],
        ));
        let steps: Vec<_> = built
            .rebuilt
            .tree
            .tensors()
            .map(|(id, _)| built.rebuilt.tree.entry(id).unwrap().step.clone())
            .collect();
        assert_eq!(steps, [Step::Member("kept".into()), Step::NonPersistent("hidden".into())]);
    }
}

#[test]
fn ties_keep_both_names() {
    let tied = asm![BinGet(0)];
    let built =
        rebuild(&asm![t(), BinPut(0), Pop, module(&[("a", tied.clone()), ("b", tied)], &[], &[], &[])]);
    assert_eq!(built.names(), ["a", "b"]);
    assert_eq!(built.rebuilt.tensors.len(), 1);
    let shared = module(&[("w", t())], &[], &[], &[]);
    let twice = asm![
        shared,
        BinPut(0),
        Pop,
        module(&[], &[], &[("x", asm![BinGet(0)]), ("y", asm![BinGet(0)])], &[])
    ];
    assert_eq!(rebuild(&twice).names(), ["x.w", "y.w"]);
}

#[test]
fn other_attributes_stand_beside_and_their_values_are_counted_together() {
    let built = rebuild(&module(&[("w", t())], &[], &[], &[("cache", list(&[t()])), ("name", text("x"))]));
    assert_eq!(built.names(), ["w", "cache.0"]);
    assert_eq!(built.values().iter().map(|v| v.2).sum::<u64>(), 2, "training and name");
}

#[test]
fn what_else_a_module_is_given_is_not_lost() {
    let object = asm![module(&[("w", t())], &[], &[], &[]), t(), Append, text("k"), t(), SetItem];
    assert_eq!(rebuild(&object).names(), ["w", "k", "0"]);
    let more = asm![module(&[("w", t())], &[], &[], &[]), dict(&[("late", t())]), Build];
    assert_eq!(rebuild(&more).names(), ["w", "late"]);
}

#[test]
fn parts_that_are_no_dictionaries_make_an_ordinary_object() {
    let state = dict(&[
        ("_parameters", reduce("my", "dict", &[t()])),
        ("_buffers", ordered_dict(&[])),
        ("_modules", ordered_dict(&[])),
    ]);
    assert_eq!(rebuild(&new_object("my", "Odd", &state)).names(), ["_parameters.0"]);
}

#[test]
fn a_module_that_holds_itself_ends() {
    let state = dict(&[
        ("_parameters", ordered_dict(&[("w", t())])),
        ("_buffers", ordered_dict(&[])),
        ("_modules", ordered_dict(&[("me", asm![BinGet(0)])])),
    ]);
    let object = asm![global("my", "Net"), EmptyTuple, NewObj, BinPut(0), state, Build];
    assert_eq!(rebuild(&object).names(), ["w"]);
}
