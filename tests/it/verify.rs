//! `verify`: each level by itself, and what is no manifest at all.

use std::fs;
use std::path::Path;

use depickle::checkpoint::OpenOptions;
use depickle::convert::{Options, check_source, convert, reconvert};
use depickle::custody::{VerifyError, read_manifest, verify};
use depickle::plan::{self, Aliases, NameRule};
use depickle::progress::Silent;
use depickle::tensor::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{depickle, fixture};
use crate::convert_fixtures::{fixtures, overrides};
use crate::schema;

/// Everything that a conversion of a fixture may be told, so that all of it has to come back from the manifest.
fn plans() -> Vec<plan::Options> {
    let default = plan::Options::default;
    vec![
        default(),
        plan::Options { all: true, aliases: Aliases::Once, ..default() },
        plan::Options { root: Some(String::new()), dtype: Some(Dtype::Bf16), metadata: true, ..default() },
        plan::Options {
            names: vec![NameRule::rename("^=x ").unwrap(), NameRule::strip_prefix("x ")],
            include: vec!["*e*".into()],
            ..default()
        },
    ]
}

#[test]
fn every_fixture_is_derived_and_converted_again_from_its_manifest() {
    let scratch = TempDir::new().unwrap();
    let output = scratch.path().join("o.safetensors");
    let mut checked = [0; 4];
    for (name, expected) in fixtures() {
        let source = fixture(&name);
        for (i, plan) in plans().into_iter().enumerate() {
            let open = OpenOptions { overrides: overrides(&expected), ..OpenOptions::default() };
            let options = Options { open, plan, force: true, ..Options::default() };
            let Ok(converted) = convert(&source, &output, &options, &Silent) else { continue };
            let (at, manifest) = read_manifest(&converted.manifest.unwrap()).unwrap();
            let level = check_source(&manifest, &source, Some(2), &Silent).unwrap();
            assert!(level.is_match(), "{name} {i}: {level:?}");
            assert!(level.checked > manifest.tensors.len() as u64);
            let level = reconvert(&manifest, &at, &source, Some(2), &Silent).unwrap();
            assert!(
                level.is_match() && level.checked == manifest.outputs.len() as u64 + 1,
                "{name} {i}: {level:?}"
            );
            checked[i] += 1;
        }
    }
    assert!(checked.iter().all(|n| *n > 10), "{checked:?}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 3);
}

fn converted() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::copy(fixture("torch/training.pt"), folder.path().join("a.pt")).unwrap();
    let ran = depickle(folder.path(), &["convert", "a.pt"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    folder
}

fn levels(folder: &Path, arguments: &[&str]) -> (i32, Vec<String>) {
    let ran = depickle(folder, &[&["verify", "a.manifest.json", "--json"], arguments].concat());
    if ran.code > 1 {
        return (ran.code, Vec::new());
    }
    let document = ran.json();
    schema::check(&schema::document("verify"), &document);
    let level = |mismatch: &Value| mismatch["level"].as_str().unwrap().to_owned();
    let mut levels: Vec<String> = document["mismatches"].as_array().unwrap().iter().map(level).collect();
    levels.dedup();
    assert_eq!(document["matches"].as_bool(), Some(levels.is_empty()));
    (ran.code, levels)
}

#[test]
fn each_level_is_told_by_itself() {
    let folder = converted();
    let at = |name: &str| folder.path().join(name);
    let all = &["--source", "a.pt", "--reconvert"][..];
    assert_eq!(levels(folder.path(), all), (0, vec![]));
    // Another source, that is no less honest.
    fs::copy(fixture("torch/state_dict.pth"), at("b.pt")).unwrap();
    let (code, found) = levels(folder.path(), &["--source", "b.pt", "--reconvert"]);
    assert_eq!((code, found), (1, vec!["source".to_owned(), "reconversion".to_owned()]));
    fs::write(at("words"), "# words").unwrap();
    assert_eq!(levels(folder.path(), &["--source", "words"]), (1, vec!["source".to_owned()]));
    assert_eq!(levels(folder.path(), &["--source", "nowhere.pt"]).0, 4);
    assert_eq!(levels(folder.path(), &["--reconvert"]).0, 2);
    let mut bytes = fs::read(at("a.safetensors")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(at("a.safetensors"), bytes).unwrap();
    let (_, found) = levels(folder.path(), all);
    assert_eq!(found, ["files", "tensors", "reconversion"]);
}

#[test]
fn a_flipped_bit_is_caught_wherever_it_is() {
    let folder = converted();
    for (file, step) in [("a.safetensors", 61), ("a.manifest.json", 197), ("a.pt", 1511)] {
        let path = folder.path().join(file);
        let good = fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(step) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 7);
            fs::write(&path, &bad).unwrap();
            let manifest = match read_manifest(&folder.path().join("a.manifest.json")) {
                Ok((_, manifest)) => manifest,
                Err(error) => {
                    assert!(file == "a.manifest.json", "{error}");
                    continue;
                }
            };
            let manifest_at = folder.path().join("a.manifest.json");
            let source = folder.path().join("a.pt");
            let caught = !verify(&manifest_at).is_ok_and(|report| report.is_match())
                || !check_source(&manifest, &source, Some(1), &Silent).is_ok_and(|level| level.is_match())
                || !reconvert(&manifest, &manifest_at, &source, Some(1), &Silent)
                    .is_ok_and(|level| level.is_match());
            // What the source was called is taken as it is recorded: a signature holds it.
            let named: Value = serde_json::from_slice(&bad).unwrap_or_default();
            let renamed = file == "a.manifest.json" && named["sources"][0]["path"] != "a.pt";
            assert!(caught || renamed, "{file} at {at}");
        }
        fs::write(&path, good).unwrap();
    }
}

fn write_manifest(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("a.manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(path, manifest.to_string()).unwrap();
}

#[test]
fn a_manifest_does_not_lead_outside_its_folder() {
    for path in ["../x.safetensors", "/etc/passwd", "a/../../x", "./../x"] {
        let folder = converted();
        write_manifest(folder.path(), |manifest| manifest["outputs"][0]["path"] = path.into());
        let error = verify(&folder.path().join("a.manifest.json")).unwrap_err();
        assert!(matches!(error, VerifyError::Outside { .. }), "{path}");
        assert_eq!(levels(folder.path(), &[]).0, 3);
    }
}

#[test]
fn what_is_no_manifest_of_this_kind_is_told_apart() {
    let folder = converted();
    let at = folder.path().join("a.manifest.json");
    write_manifest(folder.path(), |manifest| manifest["later"] = json!({"field": 1}));
    assert_eq!(levels(folder.path(), &[]).0, 0);
    write_manifest(folder.path(), |manifest| manifest["schema"] = "depickle-manifest/2".into());
    assert!(matches!(verify(&at), Err(VerifyError::Schema { .. })));
    assert_eq!(levels(folder.path(), &[]).0, 3);
    for text in ["", "{", "[]", "{\"schema\": 1}", "{\"schema\": \"depickle-manifest/1\"}"] {
        fs::write(&at, text).unwrap();
        assert!(matches!(verify(&at), Err(VerifyError::Malformed { .. })), "{text}");
    }
    fs::remove_file(&at).unwrap();
    let missing = verify(&folder.path().join("a.safetensors"));
    assert!(matches!(missing, Err(VerifyError::NoManifest { .. })));
    assert_eq!(levels(folder.path(), &[]).0, 2);
}

#[test]
fn weights_that_a_folder_does_not_list_are_told() {
    let folder = converted();
    let at = |name: &str| folder.path().join(name);
    fs::copy(at("a.safetensors"), at("foreign.bin")).unwrap();
    assert_eq!(levels(folder.path(), &[]), (0, vec![]));
    fs::rename(at("a.manifest.json"), at("manifest.json")).unwrap();
    let report = verify(folder.path()).unwrap();
    let names: Vec<&str> = report.mismatches.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["foreign.bin"]);
    fs::remove_file(at("foreign.bin")).unwrap();
    assert!(verify(folder.path()).unwrap().is_match());
}
