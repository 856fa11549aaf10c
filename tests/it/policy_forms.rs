//! Risky callables in the forms that honest files have, and beside them.

use std::sync::Arc;

use depickle::bytes::ReadAt;
use depickle::checkpoint::{Error, OpenOptions, open};

use crate::asm::Op::*;
use crate::asm::*;
use crate::rebuild_numpy::dtype;

fn refused(object: Part) -> bool {
    let source: Arc<dyn ReadAt> = Arc::new(pickle(&dict(&[("a", object)])));
    match open(&source, &OpenOptions::default()) {
        Ok(_) => false,
        Err(Error::Refused { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

fn called(object: Part) -> Part {
    asm![object, tuple(&[text("x")]), Reduce]
}

fn attribute(module: &str, class: &str, name: &str) -> Part {
    reduce("builtins", "getattr", &[global(module, class), text(name)])
}

#[test]
fn types_and_hints() {
    assert!(!refused(reduce("builtins", "type", &[asm![PyNone]])));
    assert!(refused(reduce("builtins", "type", &[text("x")])));
    let hint = |module: &str| reduce("_operator", "getitem", &[global(module, "Union"), tuple(&[int(1)])]);
    assert!(!refused(hint("typing")));
    assert!(refused(hint("mylib")));
    assert!(refused(called(hint("typing"))));
}

#[test]
fn attributes_that_pickles_name_by_a_call() {
    assert!(!refused(called(attribute("zoneinfo", "ZoneInfo", "_unpickle"))));
    assert!(refused(called(attribute("zoneinfo", "ZoneInfo", "from_file"))));
    assert!(!refused(attribute("torch._C", "_VariableFunctionsClass", "relu")));
    assert!(refused(called(attribute("torch._C", "_VariableFunctionsClass", "from_file"))));
    assert!(refused(attribute("torch._C", "_jit", "relu")));
}

#[test]
fn an_array_in_a_file_is_named_and_not_opened() {
    let made = |class: Part| {
        let args = [class, ints(&[0]), asm![ShortBinBytes(b"b")]];
        let state = tuple(&[int(1), ints(&[1]), dtype("u1", "|"), asm![NewFalse], asm![ShortBinBytes(&[2])]]);
        asm![reduce("numpy.core.multiarray", "_reconstruct", &args), state, Build]
    };
    assert!(!refused(made(global("numpy", "memmap"))));
    assert!(refused(reduce("numpy", "memmap", &[text("/etc/passwd")])));
    let both = list(&[made(global("numpy", "memmap")), reduce("numpy", "memmap", &[text("/etc/passwd")])]);
    assert!(refused(both));
}

#[test]
fn names_that_are_looked_up() {
    let function = |module: &str| reduce("numpy.core", "_ufunc_reconstruct", &[text(module), text("log1p")]);
    assert!(!refused(function("numpy")));
    assert!(refused(function("os")));
    assert!(!refused(reduce("logging", "getLogger", &[text("x")])));
    assert!(refused(reduce("logging", "FileHandler", &[text("x")])));
    assert!(refused(reduce("torch.utils.data.datapipes.utils", "decode", &[text("x")])));
}

#[test]
fn constructors_of_data_are_given_nothing_to_call() {
    let generator =
        |second: Part| reduce("numpy.random._pickle", "__generator_ctor", &[text("PCG64"), second]);
    assert!(!refused(reduce("numpy.random._pickle", "__generator_ctor", &[text("PCG64")])));
    assert!(!refused(generator(global("numpy.random._pickle", "__bit_generator_ctor"))));
    assert!(refused(generator(global("mylib", "f"))));
    assert!(refused(generator(reduce("functools", "partial", &[global("mylib", "f")]))));
    let index = |class: Part| reduce("pandas.core.indexes.base", "_new_Index", &[class, dict(&[])]);
    assert!(!refused(index(global("pandas.core.indexes.base", "Index"))));
    assert!(refused(index(global("mylib", "f"))));
}
