//! `--metadata`: every value that is no tensor, as the document that `docs/metadata.md` describes.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use base64ct::{Base64, Encoding as _};
use depickle::convert::{Converted, Options, convert};
use depickle::custody::verify;
use depickle::limits::Limits;
use depickle::output::{Staged, Surroundings, write_values};
use depickle::plan::{self, Aliases};
use depickle::policy::Overrides;
use depickle::progress::Silent;
use depickle::rebuild::{Context, rebuild};
use depickle::tensor::{StreamId, Streams};
use serde_json::{Value, json};

use crate::asm::{Op::*, *};
use crate::convert_fixtures::fixtures;
use crate::fixtures_names::folder;
use crate::schema;
use crate::support::{Every, run};

/// The document of one pickle, as text.
fn written(pickle: &[u8]) -> String {
    let (graph, root) = run(pickle).unwrap();
    let mut streams = Streams::new(std::sync::Arc::new(pickle.to_vec()));
    let limits = Limits::default();
    let every = Every(4096);
    let context = Context { storages: Some(&every), values: true, ..Context::new(StreamId::SOURCE, &limits) };
    let rebuilt = rebuild(&graph, root, context, &mut streams).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let staged = Staged::create(&folder.path().join("x.metadata.json"), false).unwrap();
    let name_of = |tensor: depickle::tensor::TensorId| ["zero", "one"].get(tensor.index()).copied();
    let place_of = |id| (0, rebuilt.tree.path(id));
    let around =
        Surroundings { streams: &streams, tree: &rebuilt.tree, name_of: &name_of, place_of: &place_of };
    let sidecar = write_values(&staged, &rebuilt.values, around).unwrap();
    staged.commit(false).unwrap();
    let text = fs::read_to_string(folder.path().join("x.metadata.json")).unwrap();
    assert_eq!(sidecar.size, text.len() as u64);
    schema::check(&schema::document("metadata"), &serde_json::from_str(&text).unwrap());
    text
}

fn document(pickle: &[u8]) -> Value {
    serde_json::from_str::<Value>(&written(pickle)).unwrap()["pickles"][0].take()
}

/// The value that an object becomes, in a pickle of protocol 2.
fn value(object: &[u8]) -> Value {
    document(&pickle(object))["value"].take()
}

#[test]
fn scalars_keep_their_types() {
    for (object, expected) in [
        (asm![PyNone], json!(null)),
        (asm![NewTrue], json!(true)),
        (asm![BinInt(-7)], json!(-7)),
        (int((1 << 53) - 1), json!(9_007_199_254_740_991_i64)),
        (int(1 << 53), json!({"type": "int", "value": "9007199254740992"})),
        (asm![Long1(&[0, 0, 0, 0, 0, 0, 0, 0, 1])], json!({"type": "int", "value": "0x10000000000000000"})),
        (
            asm![Long1(&[1, 0, 0, 0, 0, 0, 0, 0, 0xff])],
            json!({"type": "int", "value": "-0xffffffffffffffff"}),
        ),
        (asm![BinFloat(0.1)], json!(0.1)),
        (asm![BinFloat(f64::INFINITY)], json!({"type": "float", "value": "inf"})),
        (asm![BinFloat(f64::NEG_INFINITY)], json!({"type": "float", "value": "-inf"})),
        (asm![BinFloat(f64::NAN)], json!({"type": "float", "value": "nan"})),
        (
            asm![BinFloat(f64::from_bits(0xfff0_0000_0000_0001))],
            json!({"type": "float", "value": "nan", "bits": "fff0000000000001"}),
        ),
        (text("a\u{e9}\n\"\\"), json!("a\u{e9}\n\"\\")),
        (asm![ShortBinString(b"old")], json!("old")),
        (asm![ShortBinString(b"\xff")], json!({"type": "str2", "base64": "/w=="})),
        (asm![ShortBinBytes(b"\0\xff")], json!({"type": "bytes", "base64": "AP8="})),
        (asm![ByteArray8(b"abc")], json!({"type": "bytearray", "base64": "YWJj"})),
        (
            reduce("_codecs", "encode", &[text("\u{e9}"), text("latin1")]),
            json!({"type": "bytes", "base64": "6Q=="}),
        ),
        (global("torch", "float32"), json!({"type": "global", "name": "torch:float32"})),
        (global("__builtin__", "long"), json!({"type": "global", "name": "builtins:int"})),
        (
            reduce("builtins", "complex", &[asm![BinFloat(1.0)], asm![BinFloat(-2.0)]]),
            json!({"type": "object", "call": "builtins:complex", "args": [1.0, -2.0]}),
        ),
    ] {
        assert_eq!(value(&object), expected);
    }
    // By which a float is told from an integer.
    assert!(written(&pickle(&asm![BinFloat(1.0)])).contains("\"value\": 1.0,"));
}

#[test]
fn containers_keep_their_types_and_keys() {
    for (object, expected) in [
        (list(&[int(1), text("x")]), json!([1, "x"])),
        (
            tuple(&[int(1), tuple(&[])]),
            json!({"type": "tuple", "items": [1, {"type": "tuple", "items": []}]}),
        ),
        (asm![EmptySet, Mark, int(1), AddItems], json!({"type": "set", "items": [1]})),
        (asm![Mark, int(1), FrozenSet], json!({"type": "frozenset", "items": [1]})),
        (reduce("__builtin__", "set", &[list(&[int(1)])]), json!({"type": "set", "items": [1]})),
        (dict(&[("a", int(1)), ("b", list(&[]))]), json!({"type": "dict", "entries": {"a": 1, "b": []}})),
        // Text and integers are two keys; a key that looks like a number would lose its place in JavaScript.
        (
            asm![EmptyDict, Mark, int(1), text("int"), text("1"), text("str"), SetItems],
            json!({"type": "dict", "pairs": [[1, "int"], ["1", "str"]]}),
        ),
        (
            asm![EmptyDict, tuple(&[int(0), text("w")]), PyNone, SetItem],
            json!({"type": "dict", "pairs": [[{"type": "tuple", "items": [0, "w"]}, null]]}),
        ),
        // The last value of a key, at the place of its first.
        (
            asm![EmptyDict, Mark, pairs(&[("a", int(1)), ("b", int(2)), ("a", int(3))]), SetItems],
            json!({"type": "dict", "entries": {"a": 3, "b": 2}}),
        ),
    ] {
        assert_eq!(value(&object), expected);
    }
}

#[test]
fn objects_are_what_they_were_given() {
    let state = dict(&[("lr", asm![BinFloat(0.5)])]);
    assert_eq!(
        value(&new_object("__main__", "Config", &state)),
        json!({"type": "object", "new": "__main__:Config", "args": [], "state": {"type": "dict", "entries": {"lr": 0.5}}})
    );
    assert_eq!(
        value(&asm![ordered_dict(&[("a", int(1))]), dict(&[("_metadata", int(2))]), Build]),
        json!({
            "type": "object", "call": "collections:OrderedDict", "args": [], "entries": {"a": 1},
            "state": {"type": "dict", "entries": {"_metadata": 2}},
        })
    );
    let deque = asm![Global("collections", "deque"), EmptyTuple, Reduce, int(7), Append];
    assert_eq!(
        value(&deque),
        json!({"type": "object", "call": "collections:deque", "args": [], "items": [7]})
    );
    // Python 3 calls a class of the old protocols only where there are arguments.
    let old = asm![Mark, Inst("m", "C"), EmptyDict, Build];
    assert_eq!(
        value(&list(&[old, int(1)]))[0],
        json!({"type": "object", "new": "m:C", "args": [], "state": {"type": "dict", "entries": {}}})
    );
}

#[test]
fn what_is_shared_is_written_once_and_what_refers_to_itself_can_be_told() {
    let long = "a text of more than thirty-two bytes";
    assert_eq!(
        value(&asm![EmptyList, BinPut(0), Mark, text(long), BinPut(1), BinGet(1), BinGet(0), Appends]),
        json!({"type": "list", "id": 0, "items": [
            {"type": "str", "id": 1, "value": long}, {"type": "ref", "id": 1}, {"type": "ref", "id": 0},
        ]})
    );
    // Short text is repeated, and so is an empty tuple.
    assert_eq!(value(&list(&[text("a"), asm![BinPut(0)], asm![BinGet(0)]])), json!(["a", "a"]));
    // A tuple that holds itself through a list.
    let tuple =
        asm![EmptyList, BinPut(0), Tuple1, BinPut(1), BinGet(0), BinGet(1), Append, int(1), Append, Pop];
    let tuple = value(&tuple);
    assert_eq!(tuple["items"][0][0], json!({"type": "ref", "id": tuple["id"]}));
    // Doubling sixty times takes sixty values.
    let mut doubled = asm![EmptyList, BinPut(0)];
    for i in 0..60 {
        doubled.extend(asm![EmptyList, Mark, BinGet(i), BinGet(i), Appends, BinPut(i + 1)]);
    }
    let text = written(&asm![Proto(2), doubled, int(0), Append, Stop]);
    assert!(text.len() < 10_000, "{}", text.len());
}

#[test]
fn what_stands_deep_is_written_behind_the_rest() {
    let depth = 20_000;
    let deep = asm![Proto(2), "(".repeat(depth).into_bytes(), int(5), "t".repeat(depth).into_bytes(), Stop];
    let document = document(&deep);
    // serde_json stops at 128 levels, and did not.
    assert!(document["objects"].as_array().unwrap().len() > 400);
    let last = document["objects"].as_array().unwrap().last().unwrap().to_string();
    assert!(last.contains("[5]"), "{last}");
}

#[test]
fn long_bytes_and_text_come_from_where_they_lie() {
    let bytes: Vec<u8> = (0..1_000_003_u32).map(|i| (i % 251) as u8).collect();
    assert_eq!(value(&asm![BinBytes(&bytes)])["base64"], Base64::encode_string(&bytes).as_str());
    let text = "\u{e9}\u{20ac}\"x".repeat(100_000);
    assert_eq!(value(&asm![BinUnicode(&text)]), json!(text));
}

#[test]
fn tensors_are_told_by_their_names() {
    let parameter =
        reduce("torch._utils", "_rebuild_parameter", &[tensor("0", 2), asm![NewTrue], no_hooks()]);
    let object = list(&[asm![parameter, BinPut(9)], tensor("1", 2), tensor("2", 2), asm![BinGet(9)], int(1)]);
    assert_eq!(
        value(&object),
        json!([
            {"type": "tensor", "id": 0, "name": "zero", "class": "torch.nn.parameter:Parameter", "requires_grad": true},
            {"type": "tensor", "path": ["1"]},
            {"type": "tensor", "name": "one"},
            {"type": "ref", "id": 0},
            1,
        ])
    );
}

fn options(args: &Value) -> Options {
    let args = args.as_array().map(Vec::as_slice).unwrap_or_default();
    let names = args.iter().map(|arg| arg.as_str().unwrap().to_owned()).filter(|arg| arg != "--inert");
    let mut options = Options {
        plan: plan::Options { all: true, metadata: true, aliases: Aliases::Copy, ..plan::Options::default() },
        ..Options::default()
    };
    options.open.overrides = Overrides { names: names.collect(), ..Overrides::default() };
    options
}

#[test]
fn every_fixture_has_a_document_that_fits_the_schema_and_is_verified() {
    let schema = schema::document("metadata");
    let out = tempfile::tempdir().unwrap();
    for (name, fixture) in fixtures() {
        let output = out.path().join("o.safetensors");
        let mut options = options(&fixture["args"]);
        options.force = true;
        let Ok(converted) = convert(&folder().join(&name), &output, &options, &Silent) else { continue };
        let text = fs::read_to_string(converted.metadata.as_ref().unwrap()).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        schema::check(&schema, &document);
        let container = manifest(&converted)["sources"][0]["container"].clone();
        let container = container.as_str().unwrap();
        // Arrays and exports need no pickle of their own.
        let without = container.contains("np") || container == "pt2";
        assert!(without || !document["pickles"].as_array().unwrap().is_empty(), "{name}");
        let manifest = manifest(&converted);
        assert_eq!(manifest["values_left_out"], json!([]), "{name}");
        assert_eq!(manifest["outputs"][1]["role"], "metadata", "{name}");
        assert!(verify(Path::new(&output)).unwrap().is_match(), "{name}");
        // Every name in it is one of the output.
        let names: HashSet<&str> =
            manifest["tensors"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
        each(&document, &mut |node| {
            if node["type"] == "tensor"
                && let Some(tensor) = node["name"].as_str()
            {
                assert!(names.contains(&tensor), "{name}: {tensor}");
            }
        });
    }
}

fn manifest(converted: &Converted) -> Value {
    serde_json::from_slice(&fs::read(converted.manifest.as_ref().unwrap()).unwrap()).unwrap()
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let out = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let output = out.path().join(name).join("o.safetensors");
        fs::create_dir(output.parent().unwrap()).unwrap();
        let input = folder().join("torch/training.pt");
        let converted = convert(&input, &output, &options(&json!([])), &Silent).unwrap();
        (fs::read(converted.metadata.unwrap()).unwrap(), fs::read(converted.manifest.unwrap()).unwrap())
    };
    assert_eq!(write("one"), write("two"));
}

fn each(value: &Value, check: &mut dyn FnMut(&Value)) {
    check(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| each(item, check)),
        Value::Object(fields) => fields.values().for_each(|field| each(field, check)),
        _ => {}
    }
}

#[test]
fn a_document_that_was_changed_does_not_match() {
    let out = tempfile::tempdir().unwrap();
    let output = out.path().join("o.safetensors");
    let converted =
        convert(&folder().join("torch/training.pt"), &output, &options(&json!([])), &Silent).unwrap();
    let metadata = converted.metadata.unwrap();
    let text = fs::read_to_string(&metadata).unwrap();
    fs::write(&metadata, text.replace("epoch", "epoca")).unwrap();
    let report = verify(&output).unwrap();
    assert_eq!(report.mismatches.len(), 1);
    assert_eq!((report.mismatches[0].level, &*report.mismatches[0].name), ("files", "o.metadata.json"));
}
