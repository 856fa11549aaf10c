//! Packages, exported programs, and checkpoints in the values of a pickle, as an attacker would write them.

use std::sync::Arc;

use depickle::bytes::ReadAt;
use depickle::checkpoint::{Error, OpenOptions, Opened, open};
use depickle::container;
use depickle::limits::{LimitKind, Limits};
use depickle::rebuild::ErrorKind;

use crate::asm::Op::*;
use crate::asm::*;
use crate::zips::{Entry, Zip, torch_entries};

fn read(bytes: Vec<u8>) -> Result<Opened, Error> {
    let source: Arc<dyn ReadAt> = Arc::new(bytes);
    open(&source, &OpenOptions::default())
}

fn zip(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    Zip::of(members.iter().map(|(name, data)| Entry::torch(name, data)).collect()).bytes()
}

fn names(opened: &Opened) -> Vec<String> {
    opened.tree.tensors().map(|(id, _)| opened.tree.path(id).join(".")).collect()
}

fn evil() -> Part {
    reduce("os", "system", &[text("id")])
}

fn package(members: &[(&str, Vec<u8>)]) -> Result<Opened, Error> {
    let marker = ("p/.data/extern_modules", b"torch\n".to_vec());
    let storage = ("p/.data/0.storage", vec![0; 16]);
    read(zip(&[&[marker, storage], members].concat()))
}

fn reduced(module: &str, name: &str, args: &[Part]) -> Part {
    asm![tuple(&[text("reduce_package"), int(0), global(module, name), tuple(args)]), BinPersId]
}

#[test]
fn every_pickle_of_a_package_stands_at_its_place() {
    let whole = pickle(&dict(&[("w", tensor("0", 4))]));
    let opened = package(&[("p/a/b/model.pkl", whole.clone()), ("p/a/weights", whole)]).unwrap();
    assert_eq!(names(&opened), ["a.b.model.w", "a.weights.w"]);
    // Both show one storage.
    assert_eq!(opened.tensors[0].view, opened.tensors[1].view);
    assert_eq!(opened.files[0].container, "torch-package");
}

#[test]
fn a_payload_anywhere_in_a_package_refuses() {
    let whole = pickle(&dict(&[("w", tensor("0", 4))]));
    for name in
        ["p/a/other.pkl", "p/a/other", "p/.data/hidden", "p/code.py", "q.bin", "p/.data/ts_code/0/data.pkl"]
    {
        let error = package(&[("p/a/model.pkl", whole.clone()), (name, pickle(&evil()))]).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{name}: {error}");
    }
    let behind = [whole, pickle(&evil())].concat();
    assert!(matches!(package(&[("p/a/model.pkl", behind)]), Err(Error::Refused { .. })));
}

#[test]
fn what_a_package_has_its_reader_call_is_judged_as_a_call() {
    let refused = |object: Part| match package(&[("p/m.pkl", pickle(&object))]) {
        Err(Error::Refused { uses }) => Some(uses[0].used.name.clone()),
        _ => None,
    };
    for (module, name) in [("mylib", "load"), ("os", "system"), ("torch.jit", "load")] {
        assert_eq!(refused(reduced(module, name, &[int(1)])), Some(format!("{module}.{name}")));
    }
    let state = dict(&[
        ("_parameters", dict(&[("w", tensor("0", 4))])),
        ("_buffers", dict(&[])),
        ("_modules", dict(&[])),
    ]);
    let module = reduced("torch.fx.graph_module", "reduce_package_graph_module", &[state, text("name")]);
    assert_eq!(names(&package(&[("p/m.pkl", pickle(&module))]).unwrap()), ["m.w"]);
    // The same function called by an opcode, without a package.
    let called = reduce("torch.jit._script", "unpackage_script_module", &[text("0")]);
    assert!(refused(called).is_some());
}

#[test]
fn storages_of_a_package_that_are_missing_or_short() {
    let missing = package(&[("p/m.pkl", pickle(&dict(&[("w", tensor("1", 4))])))]);
    assert!(matches!(missing, Err(Error::Rebuild { .. })));
    let short = package(&[("p/m.pkl", pickle(&dict(&[("w", tensor("0", 5))])))]);
    assert!(matches!(short, Err(Error::Rebuild { .. })));
}

/// A description of one weight.
fn weight(record: &str, dtype: u64, sizes: &str, strides: &str, offset: i64) -> String {
    format!(
        "{{\"path_name\": \"{record}\", \"is_param\": true, \"use_pickle\": false, \"tensor_meta\": {{\"dtype\": {dtype}, \
         \"sizes\": {sizes}, \"strides\": {strides}, \"storage_offset\": {{\"as_int\": {offset}}}, \"layout\": 7}}}}"
    )
}

fn export(config: &str, more: &[(&str, Vec<u8>)]) -> Result<Opened, Error> {
    let members = [
        ("m/archive_format", b"pt2".to_vec()),
        ("m/data/weights/model_weights_config.json", config.as_bytes().to_vec()),
        ("m/data/weights/weight_0", vec![0; 16]),
    ];
    read(zip(&[&members, more].concat()))
}

fn one(weight: &str) -> Result<Opened, Error> {
    export(&format!("{{\"config\": {{\"w\": {weight}}}}}"), &[])
}

const FOUR: &str = "[{\"as_int\": 4}]";
const ONE: &str = "[{\"as_int\": 1}]";

#[test]
fn weights_of_an_export_are_views_of_raw_records() {
    let opened = one(&weight("weight_0", 7, FOUR, ONE, 0)).unwrap();
    assert_eq!(names(&opened), ["state_dict.w"]);
    assert_eq!(opened.files[0].container, "pt2");
}

#[test]
fn what_an_export_says_of_a_record_is_a_claim() {
    for (what, weight) in [
        ("beyond the record", weight("weight_0", 7, "[{\"as_int\": 5}]", ONE, 0)),
        ("an offset beyond it", weight("weight_0", 7, FOUR, ONE, 1)),
        ("a wider type", weight("weight_0", 8, FOUR, ONE, 0)),
        ("a negative size", weight("weight_0", 7, "[{\"as_int\": -4}]", ONE, 0)),
        ("sizes without strides", weight("weight_0", 7, FOUR, "[]", 0)),
        ("a huge expansion", weight("weight_0", 7, "[{\"as_int\": 1099511627776}]", "[{\"as_int\": 0}]", 0)),
    ] {
        let error = one(&weight).unwrap_err();
        assert!(matches!(error, Error::Array { error: ErrorKind::Tensor(_), .. }), "{what}: {error}");
    }
    for (what, weight) in [
        ("a record that is not there", weight("weight_1", 7, FOUR, ONE, 0)),
        ("a path", weight("../weight_0", 7, FOUR, ONE, 0)),
        ("a hidden name", weight("..", 7, FOUR, ONE, 0)),
        ("an unknown type", weight("weight_0", 99, FOUR, ONE, 0)),
        ("an expression", weight("weight_0", 7, "[{\"as_expr\": \"s0\"}]", ONE, 0)),
        (
            "no shape",
            "{\"path_name\": \"weight_0\", \"use_pickle\": false, \"tensor_meta\": null}".to_owned(),
        ),
        ("no object", "7".to_owned()),
    ] {
        let error = one(&weight).unwrap_err();
        assert!(matches!(error, Error::Container(_)), "{what}: {error}");
    }
}

#[test]
fn names_that_stand_twice_and_records_of_two_types() {
    let float = weight("weight_0", 7, FOUR, ONE, 0);
    let twice = export(&format!("{{\"config\": {{\"w\": {float}, \"w\": {float}}}}}"), &[]);
    assert!(matches!(twice, Err(Error::Container(_))));
    let int = weight("weight_0", 4, FOUR, ONE, 0);
    let types = export(&format!("{{\"config\": {{\"w\": {float}, \"v\": {int}}}}}"), &[]);
    assert!(matches!(types, Err(Error::Array { error: ErrorKind::StorageType { .. }, .. })));
    let wrong = read(zip(&[("m/archive_format", b"pt3".to_vec())]));
    let Err(Error::Container(error)) = wrong else { panic!("a format that is none") };
    assert!(matches!(error.kind, container::ErrorKind::Record { .. }));
}

#[test]
fn pickles_of_an_export_are_opened_as_files_are() {
    let saved = |object: Part| zip_of(&object);
    let pickled = "{\"path_name\": \"weight_1\", \"use_pickle\": true, \"tensor_meta\": null}";
    let config = format!("{{\"config\": {{\"w\": {pickled}}}}}");
    let opened = export(&config, &[("m/data/weights/weight_1", saved(tensor("0", 4)))]).unwrap();
    assert_eq!(names(&opened), ["state_dict.w"]);
    for member in ["m/data/weights/weight_1", "m/data/sample_inputs/model.pt"] {
        let mut members = vec![("m/data/weights/weight_1", saved(tensor("0", 4)))];
        members.retain(|(name, _)| *name != member);
        members.push((member, saved(evil())));
        let error = export(&config, &members).unwrap_err();
        let Error::Refused { uses } = error else { panic!("{member}: {error}") };
        assert!(uses[0].entry.as_deref().unwrap().starts_with(member), "{:?}", uses[0].entry);
    }
    let unused =
        export(&config, &[("m/data/weights/weight_1", saved(tensor("0", 4))), ("m/x", pickle(&evil()))]);
    assert!(matches!(unused, Err(Error::Refused { .. })));
    let broken = export(&config, &[("m/data/weights/weight_1", b"PK\x03\x04 no archive".to_vec())]);
    assert!(broken.is_err());
}

/// What `torch.save` would write of an object with one storage of 16 bytes.
fn zip_of(object: &[u8]) -> Vec<u8> {
    Zip::of(torch_entries(&pickle(object), &[("0", vec![0; 16])])).bytes()
}

fn value(bytes: &[u8]) -> Part {
    dict(&[("a", int(1)), ("state", asm![BinBytes(bytes)])])
}

#[test]
fn bytes_that_are_a_checkpoint_are_opened_where_they_stand() {
    let inner = zip_of(&dict(&[("w", tensor("0", 4))]));
    let opened = read(pickle(&value(&inner))).unwrap();
    assert_eq!(names(&opened), ["state.w"]);
    let pickles = &opened.files[0].pickles;
    assert_eq!(
        pickles.iter().map(|info| info.entry.as_deref()).collect::<Vec<_>>(),
        [None, Some("#1/m/data.pkl")]
    );
    let file = asm![
        global("_io", "BytesIO"),
        EmptyTuple,
        NewObj,
        tuple(&[asm![BinBytes(&inner)], int(0), asm![PyNone]]),
        Build
    ];
    assert_eq!(names(&read(pickle(&dict(&[("f", file)]))).unwrap()), ["f.w"]);
    let plain = pickle(&value(&pickle(&dict(&[("w", int(1))]))));
    assert!(names(&read(plain).unwrap()).is_empty());
}

#[test]
fn what_a_later_loader_would_run_refuses() {
    for inner in [
        zip_of(&evil()),
        pickle(&evil()),
        [pickle(&int(1)), pickle(&evil())].concat(),
        zip_of(&value(&zip_of(&evil()))),
    ] {
        assert!(matches!(read(pickle(&value(&inner))), Err(Error::Refused { .. })), "{inner:?}");
        let unused = asm![BinBytes(&inner), Pop, dict(&[("w", int(1))])];
        assert!(matches!(read(pickle(&unused)), Err(Error::Refused { .. })), "thrown away");
    }
    let text: String = zip_of(&evil()).iter().map(|b| char::from(*b)).collect();
    let encoded =
        dict(&[("s", reduce("_codecs", "encode", &[asm![BinUnicode(&text)], self::text("latin1")]))]);
    assert!(matches!(read(pickle(&encoded)), Err(Error::Refused { .. })));
}

#[test]
fn levels_of_checkpoints_are_counted() {
    let mut inner = zip_of(&dict(&[("w", tensor("0", 4))]));
    for _ in 0..2 {
        inner = zip_of(&value(&inner));
    }
    assert_eq!(names(&read(pickle(&value(&inner))).unwrap()), ["state.state.state.w"]);
    let deeper = pickle(&value(&zip_of(&value(&inner))));
    let Err(Error::Limit(limit)) = read(deeper) else { panic!("a limit") };
    assert_eq!(limit.kind, LimitKind::Nested);
    let source: Arc<dyn ReadAt> = Arc::new(pickle(&value(&inner)));
    let limits = Limits { nested: 0, ..Limits::default() };
    assert!(matches!(open(&source, &OpenOptions { limits, ..OpenOptions::default() }), Err(Error::Limit(_))));
}

#[test]
fn what_only_looks_like_a_checkpoint_stays_a_value() {
    let shared = zip_of(&dict(&[("w", tensor("0", 4))]));
    let cut = &shared[..shared.len() - 5];
    assert!(matches!(read(pickle(&value(cut))), Err(Error::Container(_))), "a broken archive of torch");
    for bytes in
        [b"PK\x03\x04 words".as_slice(), b"\x80\x02 words", b"\x80\x05.", &zip(&[("a.txt", b"x".to_vec())])]
    {
        let opened = read(pickle(&value(bytes))).unwrap();
        assert!(opened.tensors.is_empty());
    }
    // Data of an array is no value.
    let data = [pickle(&evil()), vec![0; 8]].concat();
    let array = crate::rebuild_numpy::array("u1", "|", &[data.len() as i64], &data);
    assert_eq!(read(pickle(&dict(&[("a", array)]))).unwrap().tensors.len(), 1);
}

#[test]
fn a_shared_value_pays_for_each_of_its_places() {
    let inner = zip_of(&dict(&[("w", tensor("0", 4)), ("v", tensor("0", 4))]));
    let many =
        asm![BinBytes(&inner), BinPut(0), Pop, EmptyList, Mark, asm![BinGet(0)].repeat(200_000), Appends];
    assert!(
        matches!(read(pickle(&many)), Err(Error::Rebuild { error, .. }) if matches!(error.kind, ErrorKind::Limit(_)))
    );
    let twice = asm![BinBytes(&inner), BinPut(0), Pop, EmptyList, Mark, asm![BinGet(0)].repeat(2), Appends];
    let opened = read(pickle(&twice)).unwrap();
    assert_eq!((names(&opened).len(), opened.tensors.len()), (4, 2));
}

#[test]
fn many_small_expansions_are_one_large_one() {
    let wide = tensor_of(&storage("FloatStorage", "0", 4), 0, &[8_000_000], &[0]);
    let few = read(zip_of(&list(&vec![wide.clone(); 30]))).unwrap();
    assert_eq!(few.tensors.len(), 30);
    let Err(Error::Limit(limit)) = read(zip_of(&list(&vec![wide; 40]))) else { panic!("a limit") };
    assert_eq!(limit.kind, LimitKind::ViewExpansion);
}
