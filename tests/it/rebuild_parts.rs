//! Tensors that safetensors has no type for: what they become, and what is refused because it would lie.

use depickle::limits::{LimitKind, Limits};
use depickle::rebuild::ErrorKind;
use depickle::tensor::Dtype;

use crate::asm::Op::*;
use crate::asm::*;
use crate::support::{Built, How, rebuild, rebuild_error, rebuild_limit, rebuild_with};

fn utils(name: &str, args: &[Part]) -> Part {
    reduce("torch._utils", name, args)
}

/// A tensor of integers whose data is in the pickle.
fn integers(shape: &[i64], values: &[i64]) -> Part {
    let bytes: Vec<u8> = values.iter().flat_map(|n| n.to_le_bytes()).collect();
    let array = crate::rebuild_numpy::array("i8", "<", shape, &bytes);
    utils(
        "_rebuild_device_tensor_from_numpy",
        &[array, global("torch", "int64"), text("cpu"), asm![NewFalse]],
    )
}

fn floats(shape: &[i64]) -> Part {
    let bytes = vec![0; 4 * shape.iter().product::<i64>() as usize];
    let array = crate::rebuild_numpy::array("f4", "<", shape, &bytes);
    utils(
        "_rebuild_device_tensor_from_numpy",
        &[array, global("torch", "float32"), text("cpu"), asm![NewFalse]],
    )
}

fn layout(name: &str) -> Part {
    reduce("torch.serialization", "_get_layout", &[text(&format!("torch.{name}"))])
}

fn sparse(name: &str, data: &[Part]) -> Part {
    utils("_rebuild_sparse_tensor", &[layout(name), tuple(data)])
}

fn kinds(built: &Built) -> Vec<(String, &'static str, &'static str)> {
    let tensors = built.rebuilt.tree.tensors();
    tensors
        .map(|(entry, id)| {
            let encoding = built.rebuilt.tensors[id.index()].encoding.as_ref().unwrap();
            (built.rebuilt.tree.path(entry).join("."), encoding.kind, encoding.part)
        })
        .collect()
}

fn quantized(class: &str, parameters: &[Part]) -> Part {
    let args = [
        storage(class, "0", 6),
        int(0),
        ints(&[2, 3]),
        ints(&[3, 1]),
        tuple(parameters),
        asm![NewFalse],
        no_hooks(),
    ];
    utils("_rebuild_qtensor", &args)
}

fn per_tensor() -> Vec<Part> {
    vec![global("torch", "per_tensor_affine"), asm![BinFloat(0.5)], int(-3)]
}

fn per_channel(scales: Part, zero_points: Part, axis: i64) -> Vec<Part> {
    vec![global("torch", "per_channel_affine"), scales, zero_points, int(axis)]
}

#[test]
fn quantized_tensors_are_integers_with_scale_and_zero_point() {
    let built = rebuild(&dict(&[("w", quantized("QInt8Storage", &per_tensor()))]));
    let quantized_part = |name: &str, part| (name.to_owned(), "quantized", part);
    let wanted = [
        quantized_part("w", "values"),
        quantized_part("w.scale", "scale"),
        quantized_part("w.zero_point", "zero_point"),
    ];
    assert_eq!(kinds(&built), wanted);
    let dtypes: Vec<Dtype> = built.rebuilt.tensors.iter().map(|tensor| tensor.view.dtype()).collect();
    assert_eq!(dtypes, [Dtype::QI8, Dtype::F64, Dtype::I64]);
    let lists = per_channel(list(&[asm![BinFloat(0.5)], asm![BinFloat(1.5)]]), list(&[int(0), int(1)]), 0);
    assert_eq!(kinds(&rebuild(&dict(&[("w", quantized("QUInt8Storage", &lists))]))), wanted);
}

#[test]
fn quantized_tensors_that_lie_are_refused() {
    let axis = |axis| {
        rebuild_error(&quantized("QInt8Storage", &per_channel(floats(&[2]), integers(&[2], &[0, 0]), axis)))
    };
    for wrong in [-1, 2, i64::MAX] {
        assert!(matches!(axis(wrong), ErrorKind::Part { part: "axis", .. }), "{wrong}");
    }
    assert!(matches!(axis(1), ErrorKind::Part { part: "scale", .. }));
    let of =
        |scales, zero_points| rebuild_error(&quantized("QInt8Storage", &per_channel(scales, zero_points, 0)));
    assert!(matches!(of(floats(&[2]), integers(&[1], &[0])), ErrorKind::Part { part: "zero_point", .. }));
    assert!(matches!(
        of(integers(&[2], &[0, 0]), integers(&[2], &[0, 0])),
        ErrorKind::Part { part: "scale", .. }
    ));
    let scheme = |parts: &[Part]| rebuild_error(&quantized("QInt8Storage", parts));
    assert!(matches!(scheme(&[global("torch", "per_channel_symmetric")]), ErrorKind::Unsupported(_)));
    assert!(matches!(
        scheme(&[global("os", "system"), int(1), int(2)]),
        ErrorKind::Argument { position: 4, .. }
    ));
    let no_number = [global("torch", "per_tensor_affine"), text("0.5"), int(0)];
    assert!(matches!(scheme(&no_number), ErrorKind::Argument { .. }));
    assert!(matches!(
        rebuild_error(&quantized("FloatStorage", &per_tensor())),
        ErrorKind::Argument { position: 0, .. }
    ));
    let packed = rebuild(&dict(&[("w", quantized("QUInt4x2Storage", &per_tensor()))]));
    assert_eq!(packed.left_out(), [("w".to_owned(), "quantized values smaller than a byte".to_owned())]);
}

#[test]
fn sparse_tensors_of_both_writers() {
    let parts = [integers(&[2, 3], &[0, 1, 1, 2, 0, 2]), floats(&[3]), ints(&[2, 3])];
    let with_flag = [parts.to_vec(), vec![asm![NewTrue]]].concat();
    let cpp = [int(1), ints(&[2, 3]), asm![NewFalse], parts[0].clone(), parts[1].clone(), no_hooks()];
    for object in [
        sparse("sparse_coo", &parts),
        sparse("sparse_coo", &with_flag),
        utils("_rebuild_sparse_tensor", &cpp),
    ] {
        let built = rebuild(&dict(&[("w", object)]));
        assert_eq!(
            kinds(&built),
            [("w.indices".to_owned(), "sparse", "indices"), ("w.values".to_owned(), "sparse", "values")]
        );
        let encoding = built.rebuilt.tensors[0].encoding.as_ref().unwrap();
        assert_eq!(
            (encoding.scheme.as_deref(), encoding.shape.as_deref()),
            (Some("sparse_coo"), Some(&[2, 3][..]))
        );
    }
}

#[test]
fn coordinates_outside_the_tensor_are_refused() {
    let of = |indices: &[i64], values: &[i64], size: &[i64]| {
        let count = indices.len() as i64 / 2;
        rebuild_error(&sparse("sparse_coo", &[integers(&[2, count], indices), floats(values), ints(size)]))
    };
    for (wrong, at) in [([0, 2, 0, 0], 1), ([0, 1, 0, 3], 3), ([-1, 0, 0, 0], 0), ([i64::MAX, 0, 0, 0], 0)] {
        let error = of(&wrong, &[2], &[2, 3]);
        assert!(
            matches!(error, ErrorKind::Index { part: "indices", element, .. } if element == at),
            "{error}"
        );
    }
    assert!(matches!(of(&[0, 0], &[1], &[0, 3]), ErrorKind::Part { part: "indices", .. }));
    assert!(matches!(of(&[0, 0], &[2], &[2, 3]), ErrorKind::Part { part: "values", .. }));
    assert!(matches!(of(&[0, 0], &[1], &[2, 3, 4]), ErrorKind::Part { part: "size", .. }));
    assert!(matches!(of(&[0, 0], &[1], &[-2, 3]), ErrorKind::Part { part: "size", .. }));
    let no_integers = sparse("sparse_coo", &[floats(&[2, 1]), floats(&[1]), ints(&[2, 3])]);
    assert!(matches!(rebuild_error(&no_integers), ErrorKind::Part { part: "indices", .. }));
    assert!(matches!(rebuild_error(&sparse("strided", &[])), ErrorKind::Argument { position: 0, .. }));
}

#[test]
fn compressed_indices_that_lie_are_refused() {
    let csr = |compressed: &[i64], plain: &[i64], size: &[i64]| {
        let (lines, count) = (compressed.len() as i64, plain.len() as i64);
        let parts = [integers(&[lines], compressed), integers(&[count], plain), floats(&[count]), ints(size)];
        sparse("sparse_csr", &parts)
    };
    let names = ["w.crow_indices", "w.col_indices", "w.values"];
    assert_eq!(rebuild(&dict(&[("w", csr(&[0, 1, 3], &[2, 0, 1], &[2, 3]))])).names(), names);
    for wrong in [[1, 1, 3], [0, 2, 1], [0, 1, 4], [0, -1, 3], [0, 4, 3], [0, 1, 2]] {
        let error = rebuild_error(&csr(&wrong, &[2, 0, 1], &[2, 3]));
        assert!(matches!(error, ErrorKind::Index { part: "crow_indices", .. }), "{wrong:?}: {error}");
    }
    let error = rebuild_error(&csr(&[0, 1, 3], &[2, 3, 1], &[2, 3]));
    assert!(matches!(error, ErrorKind::Index { part: "col_indices", element: 1, value: 3, .. }));
    for size in [&[3, 3][..], &[2], &[1, 2, 3], &[i64::MAX, i64::MAX]] {
        let error = rebuild_error(&csr(&[0, 1, 3], &[2, 0, 1], size));
        assert!(matches!(error, ErrorKind::Part { part: "size", .. }), "{size:?}");
    }
}

#[test]
fn nested_tensors_lie_in_their_buffer() {
    let nested = |sizes: &[i64], offsets: &[i64]| {
        let parts = [
            floats(&[18]),
            integers(&[2, 2], sizes),
            integers(&[2, 2], &[3, 1, 3, 1]),
            integers(&[2], offsets),
        ];
        utils("_rebuild_nested_tensor", &parts)
    };
    let names = ["w.buffer", "w.sizes", "w.strides", "w.offsets"];
    assert_eq!(rebuild(&dict(&[("w", nested(&[2, 3, 4, 3], &[0, 6]))])).names(), names);
    for (sizes, offsets) in [
        ([2, 3, 4, 3], [0, 7]),
        ([2, 3, 5, 3], [0, 6]),
        ([2, 3, 4, 3], [-1, 6]),
        ([2, 3, -4, 3], [0, 6]),
        ([2, 3, i64::MAX, i64::MAX], [0, i64::MAX]),
    ] {
        assert!(
            matches!(rebuild_error(&nested(&sizes, &offsets)), ErrorKind::Part { .. }),
            "{sizes:?} {offsets:?}"
        );
    }
}

#[test]
fn jagged_offsets_rise_within_the_values() {
    let jagged = |offsets: &[i64], axis: i64| {
        let offsets = integers(&[offsets.len() as i64], offsets);
        let arguments =
            dict(&[("values", floats(&[6, 2])), ("offsets", offsets), ("_ragged_idx", int(axis))]);
        reduce("torch.nested._internal.nested_tensor", "_rebuild_njt", &[arguments])
    };
    assert_eq!(rebuild(&dict(&[("w", jagged(&[0, 2, 6], 1))])).names(), ["w.values", "w.offsets"]);
    for wrong in [[0, 2, 7], [0, 4, 3], [-1, 2, 6]] {
        assert!(matches!(rebuild_error(&jagged(&wrong, 1)), ErrorKind::Index { part: "offsets", .. }));
    }
    for axis in [0, 3, -1, i64::MIN] {
        assert!(matches!(rebuild_error(&jagged(&[0, 2, 6], axis)), ErrorKind::Part { part: "values", .. }));
    }
}

#[test]
fn what_a_wrapper_holds_stands_for_it_under_each_of_its_names() {
    let args = [
        global("my", "Scaled"),
        global("torch", "float32"),
        ints(&[2]),
        ints(&[1]),
        int(0),
        layout("strided"),
    ];
    let wrapper = |state: Part| {
        let class = global("my", "Scaled");
        let function = global("torch._utils", "_rebuild_wrapper_subclass");
        reduce("torch._tensor", "_rebuild_from_type_v2", &[function, class, tuple(&args), state])
    };
    let state = dict(&[("inner", tensor("0", 2)), ("scale", tensor("1", 1)), ("kind", text("int8"))]);
    let shared = asm![EmptyDict, Mark, text("a"), wrapper(state), BinPut(9), text("b"), BinGet(9), SetItems];
    assert_eq!(rebuild(&shared).names(), ["a.inner", "a.scale", "b.inner", "b.scale"]);
    let bare = rebuild(&dict(&[("w", utils("_rebuild_wrapper_subclass", &args))]));
    assert_eq!(bare.left_out(), [("w".to_owned(), "no data".to_owned())]);
}

#[test]
fn the_local_part_of_a_distributed_tensor_is_it_or_is_refused() {
    let module = "torch.distributed.tensor";
    let distributed = |size: &[i64], placement: &str| {
        let class = || global(module, "DTensor");
        let args = [class(), global("torch", "float32"), ints(size), ints(&[1]), int(0), layout("strided")];
        let spec = new_object("torch.distributed.tensor.placement_types", placement, &dict(&[]));
        let state = dict(&[("_local_tensor", tensor("0", 2)), ("_spec", tuple(&[spec]))]);
        let function = global("torch._utils", "_rebuild_wrapper_subclass");
        dict(&[(
            "w",
            reduce("torch._tensor", "_rebuild_from_type_v2", &[function, class(), tuple(&args), state]),
        )])
    };
    assert_eq!(rebuild(&distributed(&[2], "Replicate")).names(), ["w"]);
    assert!(matches!(rebuild_error(&distributed(&[4], "Shard")), ErrorKind::Shard));
    assert!(matches!(rebuild_error(&distributed(&[2], "Partial")), ErrorKind::Unsupported(_)));
}

#[test]
fn a_million_tensors_that_share_one_table_of_indices_meet_the_limit() {
    let limits = Limits { index_bytes: 4096, ..Limits::default() };
    let parts = [integers(&[1, 64], &[0; 64]), floats(&[64]), ints(&[4])];
    let one = asm![parts[0].clone(), BinPut(5), Pop, parts[1].clone(), BinPut(6), Pop];
    let again = utils(
        "_rebuild_sparse_tensor",
        &[layout("sparse_coo"), tuple(&[asm![BinGet(5)], asm![BinGet(6)], ints(&[4])])],
    );
    let object = asm![one, EmptyList, Mark, again.repeat(9), Appends];
    assert_eq!(rebuild_limit(&object, limits), LimitKind::IndexBytes);
}

#[test]
fn parts_do_not_nest() {
    let inner = sparse("sparse_coo", &[integers(&[1, 1], &[0]), floats(&[1]), ints(&[1])]);
    let outer = sparse("sparse_coo", &[integers(&[1, 1], &[0]), inner, ints(&[1])]);
    assert!(matches!(rebuild_error(&outer), ErrorKind::Argument { .. } | ErrorKind::Unsupported(_)));
    let deep = utils("_rebuild_parameter", &[outer, asm![NewFalse], no_hooks()]);
    assert!(rebuild_with(&pickle(&deep), &How::default()).is_err());
}
