//! Every callable of torch that makes a tensor, in every form of its arguments.

use depickle::rebuild::ErrorKind;
use depickle::tensor::Dtype;

use crate::asm::Op::*;
use crate::asm::*;
use crate::support::{Built, rebuild, rebuild_error};

fn utils(name: &str, args: &[Part]) -> Part {
    reduce("torch._utils", name, args)
}

fn base() -> Vec<Part> {
    vec![storage("FloatStorage", "0", 6), int(1), ints(&[1, 2]), ints(&[2, 1])]
}

fn with(more: &[Part]) -> Vec<Part> {
    [base(), more.to_vec()].concat()
}

fn v2(metadata: Part) -> Part {
    utils("_rebuild_tensor_v2", &with(&[asm![NewFalse], no_hooks(), metadata]))
}

fn only(built: &Built) -> (Dtype, u64, Vec<u64>, Vec<u64>) {
    assert_eq!(built.rebuilt.tree.tensors().count(), 1);
    let view = &built.rebuilt.tensors[0].view;
    (view.dtype(), view.offset(), view.shape().to_vec(), view.strides().to_vec())
}

#[test]
fn every_form_of_the_plain_functions() {
    let untyped = storage_at("torch.storage", "UntypedStorage", "0", "cpu", 24);
    let v3_base = [untyped, int(1), ints(&[1, 2]), ints(&[2, 1]), asm![NewFalse], no_hooks()].to_vec();
    let v3 = |more: &[Part]| utils("_rebuild_tensor_v3", &[v3_base.clone(), more.to_vec()].concat());
    let expected = (Dtype::F32, 1, vec![1, 2], vec![2, 1]);
    for (what, object) in [
        ("v1", utils("_rebuild_tensor", &base())),
        ("v2", utils("_rebuild_tensor_v2", &with(&[asm![NewTrue], no_hooks()]))),
        ("v2 with metadata", v2(dict(&[]))),
        ("v2 with metadata None", v2(asm![PyNone])),
        ("v2 with hooks None", utils("_rebuild_tensor_v2", &with(&[asm![NewTrue], asm![PyNone]]))),
        ("v3", v3(&[global("torch", "float32")])),
        ("v3 with metadata", v3(&[global("torch", "float"), dict(&[])])),
    ] {
        assert_eq!(only(&rebuild(&object)), expected, "{what}");
    }
    for found in [3, 5, 8] {
        let args = vec![int(0); found];
        for name in ["_rebuild_tensor", "_rebuild_tensor_v2"] {
            let error = rebuild_error(&utils(name, &args));
            assert!(matches!(error, ErrorKind::ArgumentCount { found: n, .. } if n == found), "{name}");
        }
    }
}

#[test]
fn offsets_of_v3_count_elements_of_its_type() {
    let untyped = storage_at("torch.storage", "UntypedStorage", "0", "cpu", 8);
    let args = |offset| {
        let dtype = global("torch", "uint16");
        [untyped.clone(), int(offset), ints(&[1]), ints(&[1]), asm![NewFalse], no_hooks(), dtype].to_vec()
    };
    // The test's storages have 4096 bytes: the last element is number 2047.
    assert_eq!(only(&rebuild(&utils("_rebuild_tensor_v3", &args(2047)))).0, Dtype::U16);
    assert!(matches!(rebuild_error(&utils("_rebuild_tensor_v3", &args(2048))), ErrorKind::Tensor(_)));
    let untyped_v1 = utils("_rebuild_tensor", &args(0)[..4]);
    assert!(matches!(rebuild_error(&untyped_v1), ErrorKind::Argument { position: 0, .. }));
}

#[test]
fn math_bits() {
    let bits = |name: &str, bit: Part| {
        let built = rebuild(&v2(dict(&[(name, bit)])));
        let view = &built.rebuilt.tensors[0].view;
        (view.negated(), view.conjugated())
    };
    assert_eq!(bits("neg", asm![NewTrue]), (true, false));
    assert_eq!(bits("conj", asm![NewTrue]), (false, true));
    assert_eq!(bits("neg", asm![NewFalse]), (false, false));
    let unknown = rebuild_error(&v2(dict(&[("scaled", asm![NewTrue])])));
    assert!(matches!(unknown, ErrorKind::Metadata(name) if &*name == "scaled"));
    assert!(matches!(rebuild_error(&v2(dict(&[("neg", int(1))]))), ErrorKind::Argument { position: 6, .. }));
    assert!(matches!(rebuild_error(&v2(int(1))), ErrorKind::Argument { position: 6, .. }));
    let many = asm![EmptyDict, Mark, [text("neg"), asm![NewTrue]].concat().repeat(3), SetItems];
    assert!(matches!(rebuild_error(&v2(many)), ErrorKind::Metadata(_)));
}

#[test]
fn hooks_have_to_be_empty() {
    for hooks in [
        ordered_dict(&[("0", global("os", "system"))]),
        dict(&[("0", int(1))]),
        int(1),
        reduce("collections", "OrderedDict", &[list(&[ints(&[1, 2])])]),
        asm![no_hooks(), dict(&[("x", int(1))]), Build],
    ] {
        let tensor = utils("_rebuild_tensor_v2", &with(&[asm![NewFalse], hooks.clone()]));
        assert!(matches!(rebuild_error(&tensor), ErrorKind::Hooks), "{hooks:?}");
        let parameter =
            utils("_rebuild_parameter", &[tensor_of(&base()[0], 0, &[1], &[1]), asm![NewTrue], hooks]);
        assert!(matches!(rebuild_error(&parameter), ErrorKind::Hooks));
    }
    let empty = reduce("collections", "OrderedDict", &[list(&[])]);
    rebuild(&utils("_rebuild_tensor_v2", &with(&[asm![NewFalse], empty])));
}

#[test]
fn parameters_with_and_without_state() {
    let tensor = || utils("_rebuild_tensor", &base());
    let expected = (Dtype::F32, 1, vec![1, 2], vec![2, 1]);
    let parameter = utils("_rebuild_parameter", &[tensor(), asm![NewTrue], no_hooks()]);
    assert_eq!(only(&rebuild(&parameter)), expected);
    let state = dict(&[("scale", tensor()), ("note", text("x"))]);
    for state in [state.clone(), tuple(&[state.clone(), dict(&[])]), tuple(&[asm![PyNone], state])] {
        let args = [tensor(), asm![NewTrue], no_hooks(), state];
        let built = rebuild(&dict(&[("w", utils("_rebuild_parameter_with_state", &args))]));
        assert_eq!(built.names(), ["w", "w.scale"]);
        assert_eq!(built.values(), [("w.note".to_owned(), "str".to_owned(), 1)]);
    }
    let nothing = utils("_rebuild_parameter", &[int(1), asm![NewTrue], no_hooks()]);
    assert!(matches!(rebuild_error(&nothing), ErrorKind::Argument { position: 0, found: "int", .. }));
    let two = utils("_rebuild_parameter", &[tensor(), asm![NewTrue]]);
    assert!(matches!(rebuild_error(&two), ErrorKind::ArgumentCount { found: 2, .. }));
}

#[test]
fn classes_that_are_made_empty_and_filled() {
    let state = tuple(&base());
    let expected = (Dtype::F32, 1, vec![1, 2], vec![2, 1]);
    for (module, name) in [("torch", "FloatTensor"), ("torch.cuda", "FloatTensor"), ("torch", "Tensor")] {
        assert_eq!(only(&rebuild(&new_object(module, name, &state))), expected, "{module}.{name}");
    }
    let parameter = |args: &[Part]| asm![global("torch.nn.parameter", "Parameter"), tuple(args), NewObj];
    let data = utils("_rebuild_tensor", &base());
    assert_eq!(only(&rebuild(&parameter(std::slice::from_ref(&data)))), expected);
    assert_eq!(
        only(&rebuild(&reduce("torch.nn.parameter", "Parameter", &[data.clone(), asm![NewTrue]]))),
        expected
    );
    let five = tuple(&[data.clone(), asm![NewTrue], no_hooks(), asm![PyNone], asm![PyNone]]);
    assert_eq!(only(&rebuild(&asm![parameter(&[]), five, Build])), expected);
    assert_eq!(only(&rebuild(&asm![parameter(&[]), state, Build])), expected);
    let attributes = dict(&[("w", asm![parameter(&[data]), dict(&[("scale", tensor("0", 1))]), Build])]);
    assert_eq!(rebuild(&attributes).names(), ["w", "w.scale"]);
    let no_state = asm![global("torch", "FloatTensor"), EmptyTuple, NewObj];
    assert!(matches!(rebuild_error(&no_state), ErrorKind::Argument { found: "no state", .. }));
    let empty = rebuild(&asm![no_state, EmptyTuple, Build]);
    assert_eq!(empty.left_out(), [(String::new(), "no data".to_owned())]);
}

#[test]
fn from_type_looks_its_function_up() {
    let from_type = |module: &str, function: Part, args: &[Part], state: Part| {
        let class = global("my.package", "Subclass");
        reduce(module, "_rebuild_from_type_v2", &[function, class, tuple(args), state])
    };
    let v1 = || global("torch._utils", "_rebuild_tensor");
    for module in ["torch._tensor", "torch.tensor"] {
        let extra = dict(&[("persistent", asm![NewTrue]), ("extra", tensor("1", 2))]);
        let built = rebuild(&dict(&[("w", from_type(module, v1(), &base(), extra))]));
        assert_eq!(built.names(), ["w", "w.extra"]);
    }
    for function in
        [global("os", "system"), global("torch", "Size"), global("collections", "OrderedDict"), int(1)]
    {
        let error = rebuild_error(&from_type("torch._tensor", function.clone(), &base(), dict(&[])));
        assert!(matches!(error, ErrorKind::Argument { position: 0, .. }), "{function:?}: {error}");
    }
    let mut nested = from_type("torch._tensor", v1(), &base(), dict(&[]));
    for _ in 0..20 {
        nested = utils("_rebuild_parameter", &[nested, asm![NewTrue], no_hooks()]);
    }
    assert!(matches!(rebuild_error(&nested), ErrorKind::Unsupported(_)));
}

#[test]
fn tensors_without_data() {
    let meta_args = [global("torch", "float32"), ints(&[2]), ints(&[1]), asm![NewFalse]];
    let without = utils("_rebuild_meta_tensor_no_storage", &meta_args);
    let on_meta = tensor_of(&storage_at("torch", "FloatStorage", "missing", "meta", 2), 0, &[2], &[1]);
    let built = rebuild(&dict(&[("a", without), ("b", on_meta)]));
    let reason = || "no data".to_owned();
    assert_eq!(built.left_out(), [("a".to_owned(), reason()), ("b".to_owned(), reason())]);
}

#[test]
fn device_tensors_are_what_they_were_given_if_their_type_can_hold_it() {
    let device = |name: &str, data: Part, dtype: &str| {
        utils(name, &[data, global("torch", dtype), text("xla:0"), asm![NewFalse]])
    };
    let array = || crate::rebuild_numpy::array("f4", "<", &[2], &[0; 8]);
    for name in ["_rebuild_device_tensor_from_numpy", "_rebuild_xla_tensor"] {
        assert_eq!(only(&rebuild(&device(name, array(), "float32"))).2, [2]);
        // Numpy has no bfloat16: torch widened it, and zeros have no bits to lose.
        let narrowed = rebuild(&device(name, array(), "bfloat16"));
        let (_, tensor) = narrowed.rebuilt.tree.tensors().next().unwrap();
        let view = &narrowed.rebuilt.tensors[tensor.index()].view;
        assert_eq!((view.dtype(), view.shape()), (Dtype::Bf16, &[2][..]));
        let inexact = crate::rebuild_numpy::array("f4", "<", &[2], &[1; 8]);
        assert!(matches!(rebuild_error(&device(name, inexact, "bfloat16")), ErrorKind::Inexact { .. }));
    }
    let cpu = "_rebuild_device_tensor_from_cpu_tensor";
    assert_eq!(only(&rebuild(&device(cpu, tensor("0", 2), "float32"))).2, [2]);
    assert!(matches!(rebuild_error(&device(cpu, tensor("0", 2), "bfloat16")), ErrorKind::Unsupported(_)));
}

#[test]
fn a_million_wrappings_are_refused_without_recursion() {
    let shell = |name: &str| {
        let close = asm![global("torch", "float32"), PyNone, PyNone, Tuple, Reduce];
        let open = asm![global("torch._utils", name), Mark];
        pickle(&asm![open.repeat(100_000), tensor("0", 1), close.repeat(100_000)])
    };
    for name in ["_rebuild_device_tensor_from_numpy", "_rebuild_device_tensor_from_cpu_tensor"] {
        let how = crate::support::How::default();
        let error = crate::support::rebuild_with(&shell(name), &how).expect_err("an error");
        assert!(matches!(error.kind, ErrorKind::Unsupported(_)), "{name}");
    }
}

#[test]
fn what_was_rebuilt_does_not_change() {
    let v1 = utils("_rebuild_tensor", &base());
    let parameter = utils("_rebuild_parameter", &[v1.clone(), asm![NewTrue], no_hooks()]);
    let class = new_object("torch", "FloatTensor", &tuple(&base()));
    for object in [v1.clone(), parameter, class] {
        let changed = |change: Part| rebuild_error(&asm![object, change]);
        assert!(matches!(changed(asm![int(0), int(1), SetItem]), ErrorKind::Changed));
        assert!(matches!(changed(asm![int(0), Append]), ErrorKind::Changed));
    }
    assert!(matches!(rebuild_error(&asm![v1, dict(&[]), Build]), ErrorKind::Changed));
    let twice = asm![new_object("torch", "FloatTensor", &tuple(&base())), tuple(&base()), Build];
    assert!(matches!(rebuild_error(&twice), ErrorKind::Changed));
}

#[test]
fn arguments_of_another_type_name_their_position() {
    for position in 0..4 {
        let mut args = base();
        args[position] = text("x");
        let error = rebuild_error(&utils("_rebuild_tensor", &args));
        assert!(matches!(error, ErrorKind::Argument { position: p, found: "str", .. } if p == position));
    }
    let mut args = base();
    args[2] = tuple(&[asm![BinFloat(2.0)]]);
    assert!(matches!(
        rebuild_error(&utils("_rebuild_tensor", &args)),
        ErrorKind::Argument { position: 2, .. }
    ));
    let no_tuple = asm![global("torch._utils", "_rebuild_tensor"), EmptyList, Reduce];
    assert!(matches!(rebuild_error(&no_tuple), ErrorKind::Argument { .. }));
}

#[test]
fn sizes_are_tuples_lists_or_torch_size() {
    let size = reduce("torch", "Size", &[ints(&[1, 2])]);
    for size in [size, list(&[int(1), int(2)])] {
        let mut args = base();
        args[2] = size;
        assert_eq!(only(&rebuild(&utils("_rebuild_tensor", &args))).2, [1, 2]);
    }
}
