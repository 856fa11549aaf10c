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

#[test]
fn what_only_describes_a_call_is_data_until_it_is_called() {
    let clamp = || attribute("torch._C", "_VariableFunctionsClass", "clamp");
    assert!(!refused(reduce("functools", "partial", &[clamp()])));
    assert!(refused(called(reduce("functools", "partial", &[clamp()]))));
    assert!(refused(reduce("functools", "partial", &[attribute("os", "path", "clamp")])));
    assert!(!refused(reduce("builtins", "iter", &[list(&[int(1)])])));
    assert!(refused(reduce("builtins", "iter", &[global("mylib", "f"), int(1)])));
    assert!(!refused(reduce("operator", "itemgetter", &[text("column")])));
    assert!(refused(called(reduce("operator", "itemgetter", &[int(0)]))));
    assert!(refused(reduce("operator", "attrgetter", &[text("column")])));
}

#[test]
fn what_libraries_return_and_describe_is_data() {
    assert!(!refused(reduce("torch.return_types", "max", &[ints(&[1, 2]), dict(&[])])));
    assert!(refused(reduce("torch.return_types", "pytree_register_structseq", &[int(1)])));
    assert!(!refused(reduce("exceptions", "ValueError", &[text("x")])));
    assert!(!refused(reduce("time", "struct_time", &[ints(&[2020, 1, 1])])));
    assert!(!refused(global("scipy.interpolate._interpolate", "interp1d._call_linear")));
    assert!(refused(global("scipy.interpolate._interpolate", "interp1d.os")));
}

#[test]
fn functions_and_methods_that_are_only_named() {
    assert!(!refused(global("builtins", "print")));
    assert!(refused(called(global("builtins", "print"))));
    assert!(!refused(global("operator", "add")));
    assert!(refused(global("operator", "attrgetter")));
    assert!(!refused(global("flax.linen.module", "Module.apply")));
    assert!(refused(called(global("flax.linen.module", "Module.apply"))));
    for (module, name) in [
        ("mylib", "Model.__init__"),
        ("mylib", "Model.system"),
        ("mylib", "os.path"),
        ("subprocess", "Popen.wait"),
    ] {
        assert!(refused(global(module, name)), "{module}.{name}");
    }
}

#[test]
fn types_of_the_interpreter_that_code_by_value_is_made_of() {
    let made = |kind: &str, args: &[Part]| {
        asm![reduce("cloudpickle.cloudpickle", "_builtin_type", &[text(kind)]), tuple(args), Reduce]
    };
    assert!(!refused(made("MappingProxyType", &[dict(&[])])));
    assert!(!refused(made("MethodType", &[global("mylib", "f"), int(1)])));
    assert!(refused(made("MethodType", &[global("os", "system"), text("id")])));
    assert!(refused(called(made("MethodType", &[global("mylib", "f"), int(1)]))));
    assert!(refused(made("FunctionType", &[int(1)])));
    let union = |function: &str| {
        let types = tuple(&[global("builtins", "int"), reduce("builtins", "type", &[asm![PyNone]])]);
        reduce("_functools", "reduce", &[global("_operator", function), types])
    };
    assert!(!refused(union("or_")));
    assert!(refused(union("call")));
    let module = || reduce("cloudpickle.cloudpickle", "subimport", &[text("os")]);
    assert!(!refused(module()));
    assert!(refused(reduce("builtins", "getattr", &[module(), text("system")])));
}

#[test]
fn a_batch_of_graphs_names_two_classes() {
    let batch = |module: &str| {
        let getter = asm![global(module, "DynamicInheritanceGetter"), EmptyTuple, NewObj];
        asm![getter, tuple(&[global("mylib", "Batch"), global("mylib", "Data")]), Reduce]
    };
    assert!(!refused(batch("torch_geometric.data.batch")));
    assert!(refused(batch("mylib")));
}

#[test]
fn functions_that_numba_keeps_as_a_pickle_are_judged() {
    let kept = |inner: Vec<u8>| {
        let bytes = reduce("numba.core.serialize", "_unpickle__CustomPickled", &[asm![BinBytes(&inner)]]);
        reduce("numba.core.serialize", "custom_rebuild", &[bytes])
    };
    let inner = |module: &str, name: &str| pickle(&tuple(&[global(module, name), dict(&[])]));
    assert!(!refused(kept(inner("numba.core.registry", "CPUDispatcher"))));
    assert!(refused(kept(inner("os", "system"))));
    assert!(refused(kept(pickle(&reduce("mylib", "f", &[int(1)])))));
}
