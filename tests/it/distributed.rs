//! Checkpoints of many files: every fixture that the libraries wrote holds what their own merge gives.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use depickle::checkpoint::{Error, Folder, OpenOptions, Opened, open_folder};
use depickle::custody::{Manifest, verify};
use depickle::plan::{self, Options};
use depickle::progress::Silent;
use depickle::report::FileVerdict;
use depickle::tensor::{Scratch, read_into};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cli::depickle;
use crate::fixtures_names::folder;
use crate::schema;

pub(crate) type Listed = BTreeMap<String, (String, Vec<u64>, String)>;

pub(crate) fn distributed(name: &str) -> PathBuf {
    folder().join("distributed").join(name)
}

pub(crate) fn expected() -> BTreeMap<String, Value> {
    serde_json::from_str(&fs::read_to_string(distributed("expected.json")).unwrap()).unwrap()
}

pub(crate) fn listed(fixture: &Value) -> Listed {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let tensors = fixture["tensors"].as_array().unwrap().iter();
    let row = |t: &Value| {
        let shape = t["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        (text(&t["name"]), (text(&t["dtype"]), shape, text(&t["sha256"])))
    };
    tensors.map(row).collect()
}

pub(crate) fn open(path: &Path) -> Result<Opened, Error> {
    let options = OpenOptions::default();
    let folder = Folder::list(path, &options)?;
    let mut models = open_folder(&folder, &options)?;
    assert_eq!(models.len(), 1, "a layout that is recognised and one model");
    let (_, opened) = models.remove(0);
    Ok(opened)
}

/// Every tensor, read to its end.
pub(crate) fn read(opened: &Opened) -> Listed {
    let options = Options { all: true, ..Options::default() };
    let planned = plan::plan(&opened.tree, &opened.tensors, &options).unwrap();
    let mut scratch = Scratch::new(1 << 20);
    let tensor = |planned: &plan::Planned| {
        let view = &opened.tensors[planned.tensor.index()].view;
        let mut bytes = vec![0; usize::try_from(view.nbytes()).unwrap()];
        let storage = &opened.storages[view.storage().index()];
        read_into(&opened.streams, storage, view, &mut scratch, &mut bytes).unwrap();
        let digest = Sha256::digest(&bytes).iter().fold(String::new(), |text, b| text + &format!("{b:02x}"));
        (planned.name.clone(), (view.dtype().stored().to_string(), view.stored_shape(), digest))
    };
    planned.tensors.iter().map(tensor).collect()
}

/// Every fixture that becomes one model.
pub(crate) fn merged() -> BTreeMap<String, Value> {
    let mut fixtures = expected();
    fixtures.retain(|name, _| !matches!(&**name, "megatron/ranks" | "megatron/nemo"));
    fixtures
}

#[test]
fn every_fixture_holds_what_its_library_merges() {
    let expected = merged();
    assert!(expected.len() >= 25, "{}", expected.len());
    let mut wrong = Vec::new();
    for (name, fixture) in &expected {
        match open(&distributed(name)) {
            Ok(opened) => {
                let (found, wanted) = (read(&opened), listed(fixture));
                if found != wanted {
                    let differs = wanted.iter().filter(|(name, row)| found.get(*name) != Some(row));
                    let differs: Vec<_> = differs.map(|(name, row)| (name, row, found.get(name))).collect();
                    let extra: Vec<_> = found.keys().filter(|name| !wanted.contains_key(*name)).collect();
                    wrong.push(format!("{name}: differs {differs:?}, extra {extra:?}"));
                }
            }
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_fixture_converts_and_its_manifest_names_the_parts() {
    for (name, fixture) in &merged() {
        let out = tempfile::TempDir::new().unwrap();
        let options = depickle::convert::Options {
            plan: Options { all: true, ..Options::default() },
            ..depickle::convert::Options::default()
        };
        let path = distributed(name);
        assert!(depickle::convert::is_checkpoint_folder(&path), "{name}");
        depickle::convert::convert_folder(&path, out.path(), &options, &Silent).unwrap();
        let bytes = fs::read(out.path().join("model.safetensors")).unwrap();
        let output = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let wanted = listed(fixture);
        assert_eq!(output.len(), wanted.len(), "{name}");
        let manifest = fs::read(out.path().join("manifest.json")).unwrap();
        let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
        for tensor in &manifest.tensors {
            let row = (tensor.dtype.clone(), tensor.shape.clone(), tensor.sha256.clone());
            assert_eq!(Some(&row), wanted.get(&tensor.name), "{name} {}", tensor.name);
        }
        assert!(verify(out.path()).unwrap().is_match(), "{name}");
    }
}

#[test]
fn a_conversion_is_checked_against_its_folder() {
    let out = tempfile::TempDir::new().unwrap();
    for (name, to) in [
        ("dcp/plain", "dcp"),
        ("deepspeed/stage3_bf16", "zero"),
        ("deepspeed/universal_stage3", "universal"),
        ("ranks/strided", "ranks"),
    ] {
        let folder = distributed(name);
        let folder = folder.to_str().unwrap();
        let converted = depickle(out.path(), &["convert", folder, "-o", to]);
        assert_eq!(converted.code, 0, "{converted:?}");
        let checked = depickle(out.path(), &["verify", to, "--source", folder, "--reconvert"]);
        assert_eq!(checked.code, 0, "{checked:?}");
    }
}

#[test]
fn every_byte_of_every_file_is_accounted_for() {
    for name in merged().keys() {
        let path = distributed(name);
        for file in &open(&path).unwrap().files {
            let size = fs::metadata(path.join(&*file.name)).unwrap().len();
            let a = file.accounting;
            let sum = a.pickle + a.tensors + a.container + a.other + a.unreferenced + a.trailing;
            assert_eq!(sum, size, "{name} {}: {a:?}", file.name);
            assert_eq!(a.trailing, 0, "{name} {}: {a:?}", file.name);
        }
    }
}

#[test]
fn an_honest_distributed_checkpoint_is_clean_and_passes_strict() {
    let options = OpenOptions { strict: true, ..OpenOptions::default() };
    for name in expected().keys() {
        let path = distributed(name);
        let folder = Folder::list(&path, &options).unwrap();
        let is_text = |file: &&str| {
            ["latest", "latest_universal", ".txt", ".json", ".yaml"].iter().any(|end| file.ends_with(end))
        };
        for file in folder.files().filter(|file| !is_text(file)) {
            let scanned = crate::support::scanned_as(&path.join(file));
            assert_eq!(scanned.verdict, FileVerdict::Clean, "{name} {file}: {:?}", scanned.findings);
        }
        // DeepSpeed's optimizer holds objects of its own, and padding that no tensor shows; files of ranks the specifications
        // of parts, and of a tensor that was cut storages with more than their part.
        if name.starts_with("dcp/") || name == "accelerate/fsdp" {
            open_folder(&folder, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[test]
fn what_a_second_rank_wrote_too_has_to_be_the_same() {
    let scratch = tempfile::TempDir::new().unwrap();
    let at = |name: &str| scratch.path().join(name);
    fs::create_dir(at("in")).unwrap();
    for entry in fs::read_dir(distributed("dcp/rank_local")).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), at("in").join(entry.file_name())).unwrap();
    }
    let convert = |to: &str| depickle(scratch.path(), &["convert", "in", "-o", to, "--strict"]);
    let converted = convert("same");
    assert_eq!(converted.code, 0, "{converted:?}");
    let manifest: Value = serde_json::from_slice(&fs::read(at("same/manifest.json")).unwrap()).unwrap();
    // An object of each rank is a value of its own.
    let values = manifest["values_left_out"].as_array().unwrap().iter().map(|v| v["path"].to_string());
    assert!(values.clone().any(|path| path.contains("epoch in __1_0.distcp at 0x0")), "{manifest}");
    let tensor = manifest["tensors"].as_array().unwrap().iter().find(|t| t["name"] == "plain").unwrap();
    let [start, end] = [0, 1].map(|i| tensor["to"]["offsets"][i].as_u64().unwrap() as usize);
    let output = fs::read(at("same/model.safetensors")).unwrap();
    let header = u64::from_le_bytes(output[..8].try_into().unwrap()) as usize + 8;
    let bytes = &output[header + start..header + end];
    let file = at("in/__1_0.distcp");
    let mut copy = fs::read(&file).unwrap();
    let places = (0..copy.len() - bytes.len()).filter(|i| copy[*i..].starts_with(bytes));
    let place = places.max().unwrap();
    copy[place] ^= 1;
    fs::write(&file, copy).unwrap();
    let refused = convert("other");
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.err.contains("its data is not the same in __0_0.distcp and __1_0.distcp"), "{refused:?}");
    assert!(!at("other").exists());
}

/// What a conversion with `--metadata` writes beside the weights, and the manifest of one without.
fn values_of(name: &str) -> (Value, Value) {
    let out = tempfile::TempDir::new().unwrap();
    let path = distributed(name);
    let folder = path.to_str().unwrap();
    let read = |file: &str| serde_json::from_slice(&fs::read(out.path().join(file)).unwrap()).unwrap();
    assert_eq!(depickle(out.path(), &["convert", folder, "-o", "plain"]).code, 0);
    assert_eq!(depickle(out.path(), &["convert", folder, "-o", "values", "--metadata"]).code, 0);
    let checked = depickle(out.path(), &["verify", "values", "--source", folder, "--reconvert"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    let with: Value = read("values/manifest.json");
    assert!(with["values_left_out"].as_array().unwrap().is_empty());
    let document: Value = read("values/model.metadata.json");
    schema::check(&schema::document("metadata"), &document);
    (document, read("plain/manifest.json"))
}

#[test]
fn values_of_distributed_checkpoints_are_kept_entry_by_entry() {
    for name in ["dcp/plain", "dcp/fsdp2", "dcp/zstd", "dcp/rank_local"] {
        let (document, manifest) = values_of(name);
        let left_out = manifest["values_left_out"].as_array().unwrap();
        assert!(!left_out.is_empty(), "{name}");
        let kept: Vec<&Value> =
            document["pickles"].as_array().unwrap().iter().map(|pickle| &pickle["path"]).collect();
        for values in left_out {
            assert!(kept.contains(&&values["path"]), "{name}: {values}");
        }
    }
    let (document, _) = values_of("dcp/plain");
    let value = |path: &[&str]| {
        let mut pickles = document["pickles"].as_array().unwrap().iter();
        pickles.find(|pickle| pickle["path"] == serde_json::json!(path)).unwrap()["value"].clone()
    };
    assert_eq!(value(&["epoch"]), 7);
    assert_eq!(value(&["optimizer", "param_groups", "0", "lr"]), 0.1);
}

#[test]
fn what_files_of_deepspeed_hold_beside_the_model_is_told_and_kept() {
    for name in expected().keys().filter(|name| name.starts_with("deepspeed")) {
        let (document, manifest) = values_of(name);
        let pickles = document["pickles"].as_array().unwrap();
        let sources = manifest["sources"].as_array().unwrap();
        assert_eq!(pickles.len(), sources.len(), "{name}");
        for (pickle, source) in pickles.iter().zip(sources) {
            assert_eq!(pickle["path"][0], source["path"]);
            let entries = &pickle["value"]["entries"];
            let is_known =
                ["module", "optimizer_state_dict", "param"].iter().any(|key| entries[key].is_object());
            assert!(is_known || pickle["value"]["type"] == "tensor", "{name}: {entries}");
        }
        let left_out = manifest["left_out"].as_array().unwrap();
        let reasons: Vec<&str> = left_out.iter().map(|group| group["reason"].as_str().unwrap()).collect();
        let known = ["optimizer state", "working copy of the weights", "state of the training run"];
        assert!(reasons.iter().all(|reason| known.contains(reason)), "{name}: {reasons:?}");
        assert!(
            !name.starts_with("deepspeed/stage") || name.ends_with("stage0") || !reasons.is_empty(),
            "{name}"
        );
    }
}

#[test]
fn buffers_that_deepspeed_casts_are_recorded_as_casts() {
    let out = tempfile::TempDir::new().unwrap();
    let path = distributed("deepspeed/buffers");
    let folder = path.to_str().unwrap();
    let converted = depickle(out.path(), &["convert", folder, "-o", "out"]);
    assert_eq!(converted.code, 0, "{converted:?}");
    let manifest: Value =
        serde_json::from_slice(&fs::read(out.path().join("out/manifest.json")).unwrap()).unwrap();
    let mut casts = Vec::new();
    for tensor in manifest["tensors"].as_array().unwrap() {
        let encoding = &tensor["encoding"];
        if encoding.is_null() {
            assert_eq!(tensor["from"][0]["dtype"] == "torch.float32", tensor["dtype"] == "F32", "{tensor}");
            continue;
        }
        assert_eq!((&encoding["kind"], &tensor["dtype"]), (&"cast".into(), &"F32".into()));
        assert_ne!(encoding["source_sha256"], tensor["sha256"]);
        casts.push((encoding["from"].as_str().unwrap(), encoding["exact"].as_bool().unwrap()));
    }
    assert_eq!(casts, [("BF16", true), ("F16", true), ("F64", false)]);
    assert_eq!(manifest["claim"], "lossy");
    let shown = depickle(out.path(), &["inspect", folder]);
    assert_eq!(shown.out.matches("cast from ").count(), 3);
    // What is cast to its own type again is what it was.
    for dtype in ["bf16", "f16"] {
        let converted = depickle(out.path(), &["convert", folder, "-o", dtype, "--dtype", dtype]);
        assert_eq!(converted.code, 0, "{converted:?}");
    }
    for folder_of in ["out", "bf16", "f16"] {
        let checked = depickle(out.path(), &["verify", folder_of, "--source", folder, "--reconvert"]);
        assert_eq!(checked.code, 0, "{checked:?}");
    }
    let exact = ["--include", "as_bfloat16", "--include", "as_float16"];
    let converted = depickle(out.path(), &[&["convert", folder, "-o", "exact"][..], &exact].concat());
    assert!(converted.out.contains("lossless"), "{converted:?}");
}
