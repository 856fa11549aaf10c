//! Whole conversions of every fixture: names, types, shapes and digests against what torch saw, the output read back
//! with the safetensors crate and rebuilt by it byte for byte, the manifest verified and true to its schema.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use depickle::checkpoint::OpenOptions;
use depickle::convert::{Converted, Options, convert};
use depickle::custody::{Accounted, Manifest, verify};
use depickle::plan::{self, Aliases};
use depickle::policy::Overrides;
use depickle::progress::Silent;
use depickle::{Class, Error};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::fixtures_names::folder;
use crate::schema;

pub(crate) fn fixtures() -> BTreeMap<String, Value> {
    let text = fs::read_to_string(folder().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

pub(crate) fn overrides(fixture: &Value) -> Overrides {
    let args = fixture["args"].as_array().map(Vec::as_slice).unwrap_or_default();
    let args: Vec<&str> = args.iter().map(|arg| arg.as_str().unwrap()).collect();
    let names = args.chunks(2).map(|pair| {
        assert_eq!(pair[0], "--inert");
        pair[1].to_owned()
    });
    Overrides { names: names.collect(), ..Overrides::default() }
}

fn run(fixture: &str, options: &Options, out: &Path) -> Result<Converted, Error> {
    convert(&folder().join(fixture), out, options, &Silent)
}

fn options(fixture: &Value, all: bool, aliases: Aliases) -> Options {
    Options {
        open: OpenOptions { overrides: overrides(fixture), ..OpenOptions::default() },
        plan: plan::Options { all, aliases, ..plan::Options::default() },
        ..Options::default()
    }
}

fn manifest(converted: &Converted) -> Manifest {
    serde_json::from_slice(&fs::read(converted.manifest.as_ref().unwrap()).unwrap()).unwrap()
}

type Listed = BTreeMap<String, (String, Vec<u64>, String)>;

fn listed(manifest: &Manifest) -> Listed {
    let tensors = manifest.tensors.iter();
    tensors.map(|t| (t.name.clone(), (t.dtype.clone(), t.shape.clone(), t.sha256.clone()))).collect()
}

fn expected(fixture: &Value) -> Listed {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let tensors = fixture["tensors"].as_array().unwrap().iter();
    tensors
        .map(|t| {
            let shape = t["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
            (text(&t["name"]), (text(&t["dtype"]), shape, text(&t["sha256"])))
        })
        .collect()
}

/// The output holds what the manifest says, and is what the stock library would have written.
fn check_output(path: &Path, manifest: &Manifest) {
    let bytes = fs::read(path).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let found: Listed = read
        .iter()
        .map(|(name, view)| {
            let shape = view.shape().iter().map(|n| *n as u64).collect();
            let digest = hex(&Sha256::digest(view.data()));
            (name.to_owned(), (view.dtype().to_string(), shape, digest))
        })
        .collect();
    assert_eq!(found, listed(manifest));
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata: HashMap<String, String> = header.metadata().clone().unwrap();
    if metadata.len() == 1 {
        let views: Vec<(&str, TensorView<'_>)> = read.iter().collect();
        assert!(
            safetensors::serialize(views, Some(metadata)).unwrap() == bytes,
            "not the stock library's bytes"
        );
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, b| text + &format!("{b:02x}"))
}

fn check_accounting(manifest: &Manifest, source: &Path) {
    for record in &manifest.sources {
        // Further sources are files beside the first.
        let size = fs::metadata(source.with_file_name(&record.path)).unwrap().len();
        let Accounted::Plain(a) = record.accounting else { continue };
        let sum = a.pickle + a.tensors + a.container + a.other + a.unreferenced + a.trailing;
        assert_eq!((record.size, sum), (size, size), "{}", record.path);
    }
}

#[test]
fn every_fixture_converts_to_what_torch_saw() {
    let schema = schema::manifest();
    let scratch = TempDir::new().unwrap();
    let mut converted_files = 0;
    for (name, fixture) in fixtures() {
        if fixture["later"] == Value::Bool(true) {
            continue;
        }
        let out = scratch.path().join("all.safetensors");
        let mut all = options(&fixture, true, Aliases::Copy);
        all.force = true;
        let expected = expected(&fixture);
        if expected.is_empty() {
            assert_eq!(run(&name, &all, &out).unwrap_err().class(), Class::Malformed, "{name}");
            continue;
        }
        let converted = run(&name, &all, &out).unwrap_or_else(|e| panic!("{name}: {e}"));
        let record = manifest(&converted);
        assert_eq!(listed(&record), expected, "{name}");
        check_output(&out, &record);
        check_accounting(&record, &folder().join(&name));
        assert!(verify(&out).unwrap().is_match(), "{name}");
        let document: Value =
            serde_json::from_slice(&fs::read(converted.manifest.unwrap()).unwrap()).unwrap();
        schema::check(&schema, &document);
        converted_files += 1;
    }
    assert!(converted_files > 100, "{converted_files} fixtures");
}

#[test]
fn the_default_root_gives_the_names_that_loaders_take() {
    let scratch = TempDir::new().unwrap();
    let mut checked = 0;
    for (name, fixture) in fixtures() {
        let Some(names) = fixture["root_names"].as_array().filter(|_| fixture["later"] != Value::Bool(true))
        else {
            continue;
        };
        let out = scratch.path().join(format!("{checked}.safetensors"));
        let converted = run(&name, &options(&fixture, false, Aliases::Copy), &out);
        let record = manifest(&converted.unwrap_or_else(|e| panic!("{name}: {e}")));
        let mut got: Vec<&str> = record.tensors.iter().map(|t| t.name.as_str()).collect();
        let mut wanted: Vec<&str> = names.iter().map(|n| n.as_str().unwrap()).collect();
        got.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(got, wanted, "{name}");
        checked += 1;
    }
    assert!(checked > 10, "{checked} fixtures");
}

#[test]
fn ties_are_written_once_and_recorded_where_asked() {
    let scratch = TempDir::new().unwrap();
    let mut checked = 0;
    for (name, fixture) in fixtures() {
        let Some(ties) = fixture["ties"].as_array().filter(|_| fixture["later"] != Value::Bool(true)) else {
            continue;
        };
        let out = scratch.path().join(format!("{checked}.safetensors"));
        let converted = run(&name, &options(&fixture, true, Aliases::Once), &out);
        let record = manifest(&converted.unwrap_or_else(|e| panic!("{name}: {e}")));
        for group in ties {
            let group: Vec<&str> = group.as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
            let written = |name: &str| record.tensors.iter().any(|t| t.name == name);
            let kept: Vec<&&str> = group.iter().filter(|name| written(name)).collect();
            assert_eq!(kept.len(), 1, "{name}: {group:?}");
            let dropped = group.iter().filter(|name| !written(name));
            for dropped in dropped {
                let alias = record.aliases.iter().find(|alias| alias.name == **dropped).unwrap();
                assert_eq!(alias.of, *kept[0], "{name}");
            }
        }
        check_output(&out, &record);
        assert!(verify(&out).unwrap().is_match(), "{name}");
        checked += 1;
    }
    assert!(checked > 5, "{checked} fixtures");
}

#[test]
fn the_same_input_gives_the_same_bytes_whatever_the_threads() {
    let scratch = TempDir::new().unwrap();
    let name = "torch/zip_module_user_net.pt";
    let fixture = &fixtures()[name];
    let outputs: Vec<(Vec<u8>, Vec<u8>)> = [1, 2, 5]
        .into_iter()
        .map(|jobs| {
            let out = scratch.path().join("same.safetensors");
            let options = Options { jobs: Some(jobs), force: true, ..options(fixture, true, Aliases::Once) };
            let converted = run(name, &options, &out).unwrap();
            (fs::read(out).unwrap(), fs::read(converted.manifest.unwrap()).unwrap())
        })
        .collect();
    assert!(outputs[0] == outputs[1] && outputs[1] == outputs[2]);
}

#[test]
fn verify_finds_any_flipped_bit() {
    let scratch = TempDir::new().unwrap();
    let name = "torch/training.pt";
    let out = scratch.path().join("model.safetensors");
    run(name, &options(&fixtures()[name], false, Aliases::Copy), &out).unwrap();
    let bytes = fs::read(&out).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 60) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        fs::write(&out, flipped).unwrap();
        assert!(!verify(&out).unwrap().is_match(), "byte {at}");
    }
    fs::write(&out, &bytes[..bytes.len() - 1]).unwrap();
    assert!(!verify(&out).unwrap().is_match());
    fs::write(&out, &bytes).unwrap();
    assert!(verify(&out).unwrap().is_match());
}
