//! Storages that a plain pickle carries as legacy streams, and objects that carry their code as text.

use std::sync::Arc;

use depickle::bytes::ReadAt;
use depickle::checkpoint::{Error, OpenOptions, Opened, open};

use crate::asm::Op::*;
use crate::asm::*;

fn read(object: &[u8]) -> Result<Opened, Error> {
    let source: Arc<dyn ReadAt> = Arc::new(pickle(object));
    open(&source, &OpenOptions::default())
}

const MAGIC: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

fn stream(object: &Part, count: i64) -> Vec<u8> {
    let system = pickle(&dict(&[]));
    let head = [pickle(&asm![Long1(MAGIC)]), pickle(&int(1001)), system];
    let keys = pickle(&list(&[text("7")]));
    [head.concat(), pickle(object), keys, count.to_le_bytes().to_vec(), vec![0; 8]].concat()
}

fn embedded(bytes: &[u8]) -> Part {
    reduce("torch.storage", "_load_from_bytes", &[asm![BinBytes(bytes)]])
}

fn tensor_in(bytes: &[u8]) -> Part {
    dict(&[("w", tensor_of(&embedded(bytes), 0, &[2], &[1]))])
}

#[test]
fn a_storage_as_a_stream_of_its_own() {
    let good = stream(&storage("FloatStorage", "7", 2), 2);
    let opened = read(&tensor_in(&good)).unwrap();
    assert_eq!((opened.tensors.len(), opened.storages[0].len), (1, 8));
    let bare = read(&dict(&[("s", embedded(&good))])).unwrap();
    assert_eq!(bare.tensors[0].view.shape(), [2]);
}

#[test]
fn a_stream_that_lies_or_holds_something_else_is_refused() {
    for bytes in [
        stream(&storage("FloatStorage", "7", 3), 2),
        stream(&storage("FloatStorage", "7", 2), 1 << 40),
        stream(&storage("FloatStorage", "8", 2), 2),
        stream(&int(1), 0),
        b"PK\x03\x04".to_vec(),
        Vec::new(),
    ] {
        assert!(read(&tensor_in(&bytes)).is_err());
    }
    let reach = tensor_of(&embedded(&stream(&storage("FloatStorage", "7", 2), 2)), 1, &[2], &[1]);
    assert!(matches!(read(&dict(&[("w", reach)])), Err(Error::Rebuild { .. })));
    let odd = reduce("torch.storage", "_load_from_bytes", &[reduce("builtins", "bytearray", &[list(&[])])]);
    assert!(matches!(read(&dict(&[("w", odd)])), Err(Error::Unsupported(_))));
}

#[test]
fn a_payload_in_a_stream_refuses_also_where_nothing_refers_to_it() {
    let payload = reduce("os", "system", &[text("id")]);
    let evil = stream(&payload, 2);
    assert!(matches!(read(&tensor_in(&evil)), Err(Error::Refused { .. })));
    let unused = asm![embedded(&evil), Pop, dict(&[("w", int(1))])];
    assert!(matches!(read(&unused), Err(Error::Refused { .. })));
    let behind = [stream(&storage("FloatStorage", "7", 2), 2), pickle(&payload)].concat();
    assert!(matches!(read(&tensor_in(&behind)), Err(Error::Refused { .. })));
}

#[test]
fn a_traced_module_is_its_state_and_its_source_a_value() {
    // torch/fx/graph_module.py, `GraphModule.__reduce__`.
    let weight = stream(&storage("FloatStorage", "7", 2), 2);
    let state = dict(&[
        ("_parameters", dict(&[("w", tensor_of(&embedded(&weight), 0, &[2], &[1]))])),
        ("_buffers", dict(&[])),
        ("_modules", dict(&[])),
        ("_code", text("def forward(self, x):\n    return x")),
    ]);
    let object = reduce("torch.fx.graph_module", "reduce_graph_module", &[state, text("import torch")]);
    let opened = read(&dict(&[("model", object)])).unwrap();
    let names: Vec<_> = opened.tree.tensors().map(|(id, _)| opened.tree.path(id).join(".")).collect();
    assert_eq!(names, ["model.w"]);
}

#[test]
fn objects_of_stylegan_are_modules_by_their_state() {
    let inner = stream(&storage("FloatStorage", "7", 2), 2);
    let weight = tensor_of(&embedded(&inner), 0, &[2], &[1]);
    let state = dict(&[
        ("_parameters", dict(&[("weight", weight)])),
        ("_buffers", dict(&[])),
        ("_modules", dict(&[])),
        ("resolution", int(64)),
    ]);
    let meta = dict(&[
        ("type", text("class")),
        ("module_src", text("import os; os.system('id')")),
        ("state", state),
    ]);
    let object = reduce("torch_utils.persistence", "_reconstruct_persistent_obj", &[meta]);
    let opened = read(&dict(&[("G_ema", object)])).unwrap();
    let names: Vec<_> = opened.tree.tensors().map(|(id, _)| opened.tree.path(id).join(".")).collect();
    assert_eq!(names, ["G_ema.weight"]);
}
