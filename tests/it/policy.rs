//! `convert --policy`: what the file changes, and what it cannot. What is wrong with a file is tested where it is read.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch").join(name)
}

/// A folder with a checkpoint that calls an unknown enum, one that needs nothing, and a policy.
fn folder(policy: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("values_enum.pt"), folder.path().join("enum.pt")).unwrap();
    std::fs::copy(fixture("state_dict.pth"), folder.path().join("good.pt")).unwrap();
    std::fs::write(folder.path().join("p.toml"), policy).unwrap();
    folder
}

fn convert(folder: &TempDir, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_depickle"));
    command.arg("convert").args(arguments).args(["--policy", "p.toml"]).current_dir(folder.path());
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn entry(name: &str, verdict: &str, expires: &str) -> String {
    format!("[[global]]\nname = {name:?}\nverdict = {verdict:?}\nreason = \"because\"\nexpires = {expires}\n")
}

fn options(folder: &TempDir, manifest: &str) -> Value {
    let text = std::fs::read_to_string(folder.path().join(manifest)).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["options"].clone()
}

/// The names that `enum.pt` needs.
const NAMES: [&str; 2] = ["__main__.Precision", "__main__.Stage"];

fn entries(expires: &str) -> String {
    NAMES.iter().map(|name| entry(name, "inert", expires)).collect()
}

#[test]
fn an_inert_name_goes_on_and_is_recorded_with_the_policy() {
    let folder = folder(&entries("2999-12-31"));
    let (code, said) = convert(&folder, &["enum.pt"]);
    assert_eq!(code, 0, "{said}");
    let options = options(&folder, "enum.manifest.json");
    assert_eq!(options["inert"], serde_json::json!(NAMES));
    assert_eq!(options["denied"], serde_json::json!([]));
    assert_eq!(options["policy"].as_str().unwrap().len(), 64);
    // Names of the policy that a file does not have are nothing to tell of.
    let (code, said) = convert(&folder, &["good.pt"]);
    assert_eq!((code, said.contains("no such name")), (0, false), "{said}");
}

#[test]
fn an_expired_entry_is_ignored_and_told() {
    let folder = folder(&entries("2020-01-01"));
    let (code, said) = convert(&folder, &["enum.pt"]);
    assert_eq!(code, 1);
    assert!(said.contains("p.toml: line 2") && said.contains("expired on 2020-01-01"), "{said}");
}

#[test]
fn a_denied_name_refuses_whatever_else_is_said_of_it() {
    let name = "torch._utils._rebuild_tensor_v2";
    let folder = folder(&entry(name, "denied", "2999-12-31"));
    for arguments in [&["good.pt"][..], &["good.pt", "--inert", name], &["good.pt", "--inert", "unknown"]] {
        let (code, said) = convert(&folder, arguments);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&format!("the policy denies {name}: because")), "{said}");
        assert!(!said.contains("keep it as inert data"), "{said}");
    }
    assert!(!folder.path().join("good.safetensors").exists());
}

#[test]
fn a_policy_that_is_not_understood_ends_the_run_before_anything_is_read() {
    for (policy, says) in [
        (entry("a.*", "inert", "2999-12-31"), "p.toml: line 2: \"a.*\""),
        (entry("os.system", "inert", "2999-12-31"), "no policy can keep it as data"),
        (entry("a.b", "inert", "2999-12-31") + "mode = 1\n", "line 6"),
        ("[[globals]]\n".to_owned(), "line 1"),
    ] {
        let folder = folder(&policy);
        let (code, said) = convert(&folder, &["good.pt"]);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(says), "{said}");
        assert!(!folder.path().join("good.safetensors").exists());
    }
    let folder = folder("");
    std::fs::remove_file(folder.path().join("p.toml")).unwrap();
    assert_eq!(convert(&folder, &["good.pt"]).0, 4);
}
