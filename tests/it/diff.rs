//! `diff`: pickles against what they were converted to, safetensors against safetensors, folders against files.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use depickle::checkpoint::OpenOptions;
use depickle::convert::{ManifestAt, Options, convert};
use depickle::custody::Manifest;
use depickle::diff::{self, DiffError, diff};
use depickle::plan::{self, NameRule};
use depickle::progress::Silent;
use depickle::report::{Diff, DiffStatus};
use depickle::{Class, ErrorKind, checkpoint, hub};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{depickle, fixture};
use crate::convert_fixtures::{fixtures, overrides};
use crate::schema;

type Written<'a> = &'a [(&'a str, Dtype, &'a [usize], Vec<u8>)];

fn write(path: &Path, tensors: Written<'_>) {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.to_vec(), data).unwrap()));
    fs::write(path, safetensors::serialize(views, None::<HashMap<String, String>>).unwrap()).unwrap();
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn compare(left: &Path, right: &Path, options: &diff::Options) -> Diff {
    let diff = diff(left, right, options, &Silent).unwrap_or_else(|e| panic!("{e}")).diff;
    schema::check(&schema::document("diff"), &serde_json::to_value(&diff).unwrap());
    diff
}

fn error(left: &Path, right: &Path) -> DiffError {
    diff(left, right, &diff::Options::default(), &Silent).expect_err("an error")
}

fn hub_error(left: &Path, right: &Path) -> hub::Error {
    let DiffError::Open(error) = error(left, right) else { panic!("another error") };
    match *error.kind {
        ErrorKind::Hub(error) => error,
        kind => panic!("{kind}"),
    }
}

fn tensor(diff: &Diff, name: &str) -> Value {
    let tensor = diff.tensors.iter().find(|tensor| tensor.name == name).unwrap();
    serde_json::to_value(tensor).unwrap()
}

#[test]
fn every_fixture_is_the_same_as_its_conversion() {
    let scratch = TempDir::new().unwrap();
    let mut compared = 0;
    for (name, fixture) in fixtures() {
        let source = self::fixture(&name);
        let out = scratch.path().join("all.safetensors");
        let open = OpenOptions { overrides: overrides(&fixture), ..OpenOptions::default() };
        for all in [false, true] {
            let options = Options {
                open: open.clone(),
                plan: plan::Options { all, aliases: plan::Aliases::Copy, ..plan::Options::default() },
                force: true,
                ..Options::default()
            };
            let Ok(converted) = convert(&source, &out, &options, &Silent) else { continue };
            let options = diff::Options { open: open.clone(), all, ..diff::Options::default() };
            let found = compare(&source, &out, &options);
            assert!(found.same && found.tensors.iter().all(|t| t.status == DiffStatus::Same), "{name}");
            let manifest = fs::read(converted.manifest.unwrap()).unwrap();
            let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
            assert_eq!(found.left.tensor_set, manifest.digests.tensor_set, "{name}");
            assert_eq!(found.right.tensor_set, manifest.digests.tensor_set, "{name}");
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn each_kind_of_difference_is_told() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let (same, nan) = (f32s(&[1.0, 2.0]), f32::NAN);
    write(
        &a,
        &[
            ("same", Dtype::F32, &[2], same.clone()),
            ("moved", Dtype::F32, &[2, 2], f32s(&[0.0, 1.0, 2.0, 3.0])),
            ("cast", Dtype::F32, &[2], same.clone()),
            ("shape", Dtype::F32, &[2], same.clone()),
            ("odd", Dtype::F32, &[3], f32s(&[nan, f32::INFINITY, 1.0])),
            ("int", Dtype::I64, &[2], [1_i64, 2].iter().flat_map(|n| n.to_le_bytes()).collect()),
            ("left", Dtype::U8, &[1], vec![1]),
            ("old", Dtype::U8, &[3], vec![1, 2, 3]),
        ],
    );
    write(
        &b,
        &[
            ("same", Dtype::F32, &[2], same.clone()),
            ("moved", Dtype::F32, &[2, 2], f32s(&[0.0, 1.0, 2.5, 3.0])),
            ("cast", Dtype::BF16, &[2], vec![0x80, 0x3f, 0x00, 0x40]),
            ("shape", Dtype::F32, &[1, 2], same),
            ("odd", Dtype::F32, &[3], f32s(&[nan, 1.0, 1.0])),
            ("int", Dtype::I64, &[2], [1_i64, 7].iter().flat_map(|n| n.to_le_bytes()).collect()),
            ("new", Dtype::U8, &[3], vec![1, 2, 3]),
        ],
    );
    let found = compare(&a, &b, &diff::Options::default());
    assert!(!found.same);
    let counts = json!({"same": 1, "changed": 5, "only_left": 2, "only_right": 1});
    assert_eq!(serde_json::to_value(found.counts).unwrap(), counts);
    let distance = |name| tensor(&found, name)["distance"].clone();
    let nothing = |values, incomparable| json!({"values": values, "incomparable": incomparable, "absolute": null, "at": null, "relative": null});
    assert_eq!(
        distance("moved"),
        json!({"values": 1, "incomparable": 0, "absolute": 0.5, "at": [1, 0], "relative": 0.2})
    );
    assert_eq!(distance("cast"), nothing(0, 0));
    assert_eq!(distance("shape"), Value::Null);
    assert_eq!(distance("odd"), nothing(1, 1));
    assert_eq!(distance("int"), nothing(1, 0));
    assert_eq!(tensor(&found, "left")["same_as"], Value::Null);
    assert_eq!(tensor(&found, "old")["same_as"], "new");
    assert_eq!(tensor(&found, "new")["same_as"], "old");
    // Two that are on both sides with other data are not one under another name.
    assert_eq!(tensor(&found, "new")["status"], "only-right");

    let options = diff::Options {
        include: vec!["s*".into()],
        exclude: vec!["shape".into()],
        ..diff::Options::default()
    };
    assert!(compare(&a, &b, &options).same);
    let options =
        diff::Options { names: vec![NameRule::rename("^old$=new").unwrap()], ..diff::Options::default() };
    assert_eq!(compare(&a, &b, &options).counts.only_right, 0);
    for jobs in [1, 2, 8] {
        let options = diff::Options { jobs: Some(jobs), ..diff::Options::default() };
        assert_eq!(compare(&a, &b, &options), found);
    }
}

#[test]
fn a_folder_of_shards_is_one_side() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("shards")).unwrap();
    let (one, two) =
        (("a", Dtype::U8, &[2_usize][..], vec![1, 2]), ("b", Dtype::U8, &[1_usize][..], vec![3]));
    write(&at("whole.safetensors"), &[one.clone(), two.clone()]);
    write(&at("shards/x-1.safetensors"), std::slice::from_ref(&one));
    write(&at("shards/x-2.safetensors"), &[two]);
    let whole = at("whole.safetensors");
    let same = |path: &Path| compare(&whole, path, &diff::Options::default()).same;
    assert!(same(&at("shards")));
    // An index decides which files count, in the folder and by itself.
    write(&at("shards/other.safetensors"), &[one]);
    match error(&whole, &at("shards")) {
        DiffError::Doubled { name, .. } => assert_eq!(name, "a"),
        other => panic!("{other}"),
    }
    let index = at("shards/model.safetensors.index.json");
    fs::write(&index, r#"{"weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}}"#).unwrap();
    assert!(same(&at("shards")) && same(&index));
    fs::write(&index, r#"{"weight_map": {"a": "../whole.safetensors"}}"#).unwrap();
    assert!(matches!(hub_error(&whole, &index), hub::Error::Outside { .. }));
    fs::write(&index, r#"{"weight_map": {"c": "x-1.safetensors"}}"#).unwrap();
    assert!(matches!(error(&whole, &index), DiffError::NotInShard { .. }));
    fs::write(&index, "[]").unwrap();
    assert!(matches!(hub_error(&whole, &index), hub::Error::Index { .. }));
    fs::create_dir(at("empty")).unwrap();
    assert!(matches!(error(&whole, &at("empty")), DiffError::NoWeights { .. }));
}

#[test]
fn a_folder_of_pickles_is_what_its_one_checkpoint_holds() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::copy(fixture("torch/state_dict.pth"), at("last.ckpt")).unwrap();
    fs::copy(fixture("torch/training.pt"), at("optimizer.pt")).unwrap();
    fs::write(at("config.json"), "{}").unwrap();
    let source = fixture("torch/state_dict.pth");
    assert!(compare(folder.path(), &source, &diff::Options::default()).same);
    fs::copy(fixture("torch/training.pt"), at("other.pt")).unwrap();
    let several = error(folder.path(), &source);
    assert!(matches!(several, DiffError::Several { .. }) && several.class() == Class::Misuse);
}

#[test]
fn names_that_are_recorded_instead_of_written_count() {
    let folder = TempDir::new().unwrap();
    crate::folders::copy(&fixture("hf/gpt2"), &folder.path().join("in"));
    fs::copy(fixture("torch/legacy_shared.pt"), folder.path().join("a.pt")).unwrap();
    for (convert, diff) in [
        (&["in", "-o", "shards"][..], &["in", "shards"][..]),
        (&["in", "-o", "whole", "--max-shard-size", "5GB"], &["in", "whole"]),
        (&["a.pt", "-o", "a.safetensors", "--all", "--aliases", "once"], &["a.pt", "a.safetensors", "--all"]),
    ] {
        let ran = depickle(folder.path(), &[&["convert", "--quiet"], convert].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        let ran = depickle(folder.path(), &[&["diff"], diff].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    // One that says of a tensor what is not so differs.
    let index = folder.path().join("shards/model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    let wrong = text.replace(
        "\"lm_head.weight\": \"transformer.wte.weight\"",
        "\"lm_head.weight\": \"transformer.wpe.weight\"",
    );
    assert_ne!(wrong, text);
    fs::write(index, wrong).unwrap();
    assert_eq!(depickle(folder.path(), &["diff", "in", "shards"]).code, 1);
}

#[test]
fn exit_codes_are_those_of_the_program() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::copy(fixture("torch/training.pt"), at("a.pt")).unwrap();
    let options = Options { manifest: ManifestAt::Nowhere, ..Options::default() };
    convert(&at("a.pt"), &at("a.safetensors"), &options, &Silent).unwrap();
    let mut bytes = fs::read(at("a.safetensors")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(at("b.safetensors"), &bytes).unwrap();
    fs::write(at("cut.safetensors"), &bytes[..bytes.len() - 1]).unwrap();
    fs::write(at("evil.pkl"), b"\x80\x02cos\nsystem\n(S'id'\ntR.").unwrap();
    fs::write(at("words.txt"), "# words").unwrap();
    for (arguments, code) in [
        (&["a.pt", "a.safetensors"][..], 0),
        (&["a.pt", "b.safetensors"], 1),
        (&["a.pt", "b.safetensors", "--quiet"], 1),
        (&["a.pt", "evil.pkl"], 1),
        (&["a.pt", "a.pt", "--root", "nowhere"], 2),
        (&["a.safetensors", "b.safetensors", "--root", "model"], 2),
        (&["a.pt", "a.pt", "--include", "nothing*"], 2),
        (&["a.pt", "a.pt", "--root", "a", "--root", "b", "--root", "c"], 2),
        (&["a.pt", "cut.safetensors"], 3),
        (&["a.pt", "words.txt"], 3),
        (&["a.pt", "missing.pt"], 4),
    ] {
        let ran = depickle(folder.path(), &[&["diff"], arguments].concat());
        assert_eq!(ran.code, code, "{arguments:?} {ran:?}");
        assert_eq!(
            ran.out.is_empty(),
            code > 1 || arguments.len() > 2 || arguments[1] == "evil.pkl",
            "{ran:?}"
        );
    }
    let ran = depickle(folder.path(), &["diff", "a.pt", "b.safetensors", "--json"]);
    schema::check(&schema::document("diff"), &ran.json());
    assert_eq!((ran.code, ran.json()["same"].as_bool()), (1, Some(false)));
}

#[test]
fn a_refused_pickle_is_not_compared() {
    let refused = fixture("torch/values_enum.pt");
    match error(&refused, &refused) {
        DiffError::Open(error) => {
            assert!(matches!(&*error.kind, depickle::ErrorKind::Open(checkpoint::Error::Refused { .. })));
            assert_eq!(error.class(), Class::Refused);
        }
        other => panic!("{other}"),
    }
}
