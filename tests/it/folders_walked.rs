//! Folders that are one checkpoint, found in a folder that is none: each converts as it would if it were named.

use std::fs;

use serde_json::Value;

use crate::cli::{depickle, fixture};
use crate::folders::{copy, files};

const FOUND: [&str; 4] =
    ["hf/gpt2", "distributed/dcp/mesh", "distributed/deepspeed/stage2_fp16", "distributed/megatron/ranks"];

#[test]
fn a_checkpoint_of_many_files_in_a_folder_converts_as_one() {
    let place = tempfile::tempdir().unwrap();
    let runs = place.path().join("runs");
    for name in FOUND {
        copy(&fixture(name), &runs.join("of").join(name));
        let out = place.path().join("named").join(name);
        let named = depickle(
            place.path(),
            &["convert", fixture(name).to_str().unwrap(), "-o", out.to_str().unwrap()],
        );
        assert_eq!(named.code, 0, "{named:?}");
    }
    fs::copy(fixture("torch/compiled.pt"), runs.join("plain.pt")).unwrap();
    let ran = depickle(place.path(), &["convert", "runs", "-o", "out", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let records: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(records.len(), FOUND.len() + 1, "a record for each, and none for their files: {ran:?}");
    let sums = fs::read_to_string(place.path().join("out/SHA256SUMS")).unwrap();
    for name in FOUND {
        let (found, named) = (place.path().join("out/of").join(name), place.path().join("named").join(name));
        let files: Vec<_> = files(&named).into_iter().filter(|file| file != "SHA256SUMS").collect();
        assert_eq!(
            crate::folders::files(&found),
            files,
            "{name}: one list of digests stands in the folder of -o"
        );
        for file in files {
            assert_eq!(
                fs::read(found.join(&file)).unwrap(),
                fs::read(named.join(&file)).unwrap(),
                "{name}/{file}"
            );
            assert!(sums.contains(&format!("  of/{name}/{file}\n")), "{name}/{file}");
        }
    }
    assert!(place.path().join("out/plain.safetensors").is_file());

    let inspected = depickle(place.path(), &["inspect", "runs", "--json"]);
    let inspected: Value = serde_json::from_str(&inspected.out).unwrap();
    let paths: Vec<_> =
        inspected["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert!(
        paths.iter().all(|path| *path == "runs/plain.pt" || FOUND.iter().any(|name| path.ends_with(name))),
        "{paths:?}"
    );
}

#[test]
fn without_an_output_each_stands_beside_its_source() {
    let place = tempfile::tempdir().unwrap();
    copy(&fixture("hf/adapter"), &place.path().join("runs/adapter"));
    copy(&fixture("distributed/dcp/plain"), &place.path().join("runs/step-1"));
    let ran = depickle(place.path(), &["convert", "runs"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for file in ["adapter/adapter_model.safetensors", "step-1/model.safetensors", "step-1/manifest.json"] {
        assert!(place.path().join("runs").join(file).is_file(), "{file}");
    }
}

#[test]
fn one_that_does_not_fit_together_stops_none_of_the_others() {
    let place = tempfile::tempdir().unwrap();
    let runs = place.path().join("runs");
    copy(&fixture("distributed/dcp/mesh"), &runs.join("broken"));
    fs::remove_file(runs.join("broken/__1_0.distcp")).unwrap();
    copy(&fixture("distributed/dcp/mesh"), &runs.join("whole"));
    let ran = depickle(place.path(), &["convert", "runs", "-o", "out"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("__1_0.distcp"), "{ran:?}");
    assert!(place.path().join("out/whole/model.safetensors").is_file());
    assert!(!place.path().join("out/broken").exists());
}
