//! Arrays that `PaddlePaddle` split, and types that it does not write.

use std::sync::Arc;

use depickle::bytes::{FileSource, ReadAt};
use depickle::checkpoint::{OpenOptions, Opened, open};
use depickle::rebuild::ErrorKind;
use depickle::tensor::{Dtype, Scratch, read_into};

use crate::asm::*;
use crate::fixtures_names::folder;
use crate::rebuild_numpy::array;
use crate::support::{rebuild, rebuild_error};

fn fixture(name: &str, paddle_bf16: bool) -> Opened {
    let source: Arc<dyn ReadAt> = Arc::new(FileSource::open(&folder().join("paddle").join(name)).unwrap());
    open(&source, &OpenOptions { paddle_bf16, ..OpenOptions::default() }).unwrap()
}

fn types(opened: &Opened) -> Vec<Dtype> {
    opened.tensors.iter().map(|tensor| tensor.view.dtype()).collect()
}

#[test]
fn bfloat16_is_what_the_user_says() {
    for name in ["bfloat16.pdparams", "objects.pdparams"] {
        assert!(types(&fixture(name, false)).contains(&Dtype::U16), "{name}");
        let told = types(&fixture(name, true));
        assert!(told.contains(&Dtype::Bf16) && !told.contains(&Dtype::U16), "{name}");
    }
}

/// A dictionary of two runs and what is said of them.
fn split(runs: [Part; 2], shape: Part, slices: &[&str]) -> Part {
    let slices: Vec<Part> = slices.iter().map(|name| text(name)).collect();
    let described = dict(&[("OriginShape", shape), ("slices", list(&slices))]);
    let [first, second] = runs;
    dict(&[
        ("w@@.0", first),
        ("w@@.1", second),
        ("b", array("u1", "|", &[1], &[9])),
        ("UnpackBigParamInfor@@", dict(&[("w", described)])),
    ])
}

fn runs() -> [Part; 2] {
    [array("u1", "|", &[4], &[1, 2, 3, 4]), array("u1", "|", &[2], &[5, 6])]
}

#[test]
fn runs_are_joined_in_the_order_of_their_names_in_the_list() {
    for (slices, expected) in
        [(["w@@.0", "w@@.1"], [1, 2, 3, 4, 5, 6]), (["w@@.1", "w@@.0"], [5, 6, 1, 2, 3, 4])]
    {
        let built = rebuild(&split(runs(), ints(&[2, 3]), &slices));
        assert_eq!(built.names(), ["b", "w"]);
        let (_, id) = built.rebuilt.tree.tensors().nth(1).unwrap();
        let view = &built.rebuilt.tensors[id.index()].view;
        assert_eq!(view.shape(), [2, 3]);
        let mut out = [0; 6];
        let storage = &built.rebuilt.storages[view.storage().index()];
        read_into(&built.streams, storage, view, &mut Scratch::new(1 << 16), &mut out).unwrap();
        assert_eq!(out, expected);
    }
}

#[test]
fn only_the_outermost_dictionary_is_joined() {
    let built = rebuild(&dict(&[("model", split(runs(), ints(&[6]), &["w@@.0", "w@@.1"]))]));
    assert_eq!(built.names(), ["model.w@@.0", "model.w@@.1", "model.b"]);
}

#[test]
fn runs_that_do_not_make_the_array_are_refused() {
    let both = ["w@@.0", "w@@.1"];
    let six = ints(&[6]);
    assert!(matches!(
        rebuild_error(&split(runs(), ints(&[7]), &both)),
        ErrorKind::DataLength { got: 6, expected: 7 }
    ));
    let [first, second] = runs();
    let wide = array("u2", "<", &[1], &[5, 6]);
    let square = array("u1", "|", &[2, 1], &[5, 6]);
    for (what, object) in [
        ("a run that is missing", split(runs(), six.clone(), &["w@@.0", "w@@.2"])),
        ("a run that stands twice", split(runs(), ints(&[8]), &["w@@.0", "w@@.0"])),
        ("no runs", split(runs(), ints(&[0]), &[])),
        ("two types", split([first.clone(), wide], six.clone(), &both)),
        ("a run with dimensions", split([first.clone(), square], six.clone(), &both)),
        ("a number", split([first.clone(), int(5)], six.clone(), &both)),
        ("no shape", split(runs(), text("x"), &both)),
        ("no description", dict(&[("w@@.0", first), ("w@@.1", second), ("UnpackBigParamInfor@@", int(1))])),
    ] {
        let error = rebuild_error(&object);
        assert!(matches!(error, ErrorKind::Part { .. } | ErrorKind::Argument { .. }), "{what}: {error}");
    }
    let negative = rebuild_error(&split(runs(), ints(&[-6]), &both));
    assert!(matches!(negative, ErrorKind::Tensor(_)));
}

#[test]
fn what_lies_beside_the_parameters_and_is_no_pickle() {
    for name in ["net.pdiparams", "net.pdmodel"] {
        let source: Arc<dyn ReadAt> =
            Arc::new(FileSource::open(&folder().join("paddle").join(name)).unwrap());
        let error = open(&source, &OpenOptions::default()).unwrap_err();
        assert!(error.to_string().contains("PaddlePaddle"), "{error}");
    }
}
