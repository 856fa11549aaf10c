//! The further forms of a scan, and what a policy makes of it. `tests/sarif.py` validates SARIF against its schema.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::asm::Op::*;
use crate::asm::{reduce, text};
use crate::schema;

/// A folder with a hostile file, one that calls an unknown name, a clean one, and no policy.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("evil.pkl"), asm![Proto(2), reduce("os", "system", &[text("a\n::error::b")]), Stop])
        .unwrap();
    std::fs::write(at("face.pkl"), asm![Proto(2), reduce("mylib", "Face", &[text("x")]), Stop]).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch/state_dict.pth");
    std::fs::copy(fixture, at("good.pth")).unwrap();
    folder
}

fn scan(folder: &TempDir, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_depickle"));
    command.arg("scan").args(arguments).current_dir(folder.path()).env_remove("GITHUB_STEP_SUMMARY");
    command.env("GITHUB_STEP_SUMMARY", folder.path().join("summary.md"));
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn document(folder: &TempDir, arguments: &[&str]) -> (i32, Value) {
    let (code, out) = scan(folder, &[arguments, &["--json"]].concat());
    let document = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
    schema::check(&schema::document("scan"), &document);
    (code, document)
}

fn policy(folder: &TempDir, text: &str) {
    std::fs::write(folder.path().join("p.toml"), text).unwrap();
}

const FOREVER: &str = "reason = \"because\"\nexpires = 2999-12-31\n";

#[test]
fn sarif_has_a_rule_a_level_and_a_place_for_each_finding() {
    let folder = folder();
    let (code, out) = scan(&folder, &["evil.pkl", "face.pkl", "good.pth", "--format", "sarif"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 1);
    assert_eq!(document["version"], "2.1.0");
    let run = &document["runs"][0];
    assert_eq!(run["invocations"][0], json!({ "executionSuccessful": true, "exitCode": 1 }));
    let levels: Vec<&str> =
        run["results"].as_array().unwrap().iter().map(|result| result["level"].as_str().unwrap()).collect();
    assert!(levels.contains(&"error") && levels.contains(&"warning"), "{out}");
    let result = &run["results"][0];
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"], json!({ "uri": "evil.pkl", "uriBaseId": "%SRCROOT%", "index": 0 }));
    assert_eq!(place["region"]["startLine"], 1);
    assert!(place["region"]["byteOffset"].is_u64());
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(rules[result["ruleIndex"].as_u64().unwrap() as usize]["id"], result["ruleId"]);
    for rule in rules {
        assert!(
            !rule["help"]["text"].as_str().unwrap().is_empty()
                && rule["defaultConfiguration"]["level"].is_string()
        );
    }
    assert!(!out.contains("null"), "SARIF has no nulls");
    assert_eq!(
        scan(&folder, &["evil.pkl", "face.pkl", "good.pth", "--format", "sarif"]).1,
        out,
        "the same again"
    );
}

#[test]
fn annotations_go_to_the_workflow_and_tables_to_the_summary() {
    let folder = folder();
    let (code, out) = scan(&folder, &["evil.pkl", "good.pth", "--format", "github"]);
    assert_eq!(code, 1);
    assert!(out.starts_with("::error file=evil.pkl,line=1,title=depickle "), "{out}");
    assert!(out.lines().all(|line| line.starts_with("::") && !line.starts_with("::error::")), "{out}");
    let summary = std::fs::read_to_string(folder.path().join("summary.md")).unwrap();
    assert!(
        summary.contains("| dangerous | 1 |") && summary.contains("<code>evil&#46;pkl</code>"),
        "{summary}"
    );
    assert_eq!(scan(&folder, &["evil.pkl", "good.pth", "--format", "markdown"]).1, summary);
}

#[test]
fn a_policy_gives_severities_and_is_recorded() {
    let folder = folder();
    policy(&folder, "[severity]\nunknown-call = \"dangerous\"\n");
    let (code, document) = document(&folder, &["face.pkl", "--policy", "p.toml", "--fail-on", "dangerous"]);
    assert_eq!((code, &document["files"][0]["verdict"]), (1, &json!("dangerous")));
    assert_eq!(document["policy"]["severity"], json!({ "unknown-call": "dangerous" }));
    policy(&folder, "[severity]\nno-such-rule = \"note\"\n");
    assert_eq!(scan(&folder, &["face.pkl", "--policy", "p.toml"]).0, 2);
}

#[test]
fn a_policy_names_what_is_inert_and_what_is_denied() {
    let folder = folder();
    let entry =
        |name: &str, verdict: &str| format!("[[global]]\nname = {name:?}\nverdict = {verdict:?}\n{FOREVER}");
    policy(&folder, &entry("mylib.Face", "inert"));
    let (code, document) = document(&folder, &["face.pkl", "--policy", "p.toml"]);
    assert_eq!((code, &document["files"][0]["verdict"]), (0, &json!("clean")), "{document}");
    policy(&folder, &entry("torch._utils._rebuild_tensor_v2", "denied"));
    let (code, document) = self::document(&folder, &["good.pth", "--policy", "p.toml"]);
    assert_eq!((code, &document["files"][0]["verdict"]), (1, &json!("dangerous")), "{document}");
}

#[test]
fn a_suppression_holds_for_one_rule_in_one_file_and_stays_visible() {
    let folder = folder();
    let (_, plain) = document(&folder, &["face.pkl", "--digest"]);
    let digest = plain["files"][0]["sha256"].as_str().unwrap();
    policy(&folder, &format!("[[suppress]]\nrule = \"unknown-call\"\nsha256 = {digest:?}\n{FOREVER}"));
    let (code, document) = document(&folder, &["face.pkl", "--policy", "p.toml"]);
    assert_eq!((code, &document["files"][0]["verdict"]), (0, &json!("clean")), "{document}");
    assert_eq!(document["files"][0]["findings"][0]["suppressed"], "because");
    let (_, out) = scan(&folder, &["face.pkl", "--policy", "p.toml", "--format", "sarif"]);
    let sarif: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(sarif["runs"][0]["results"][0]["suppressions"][0]["justification"], "because");
    let (_, out) = scan(&folder, &["face.pkl", "--policy", "p.toml", "--format", "github"]);
    assert_eq!(out, "");
    let (_, out) = scan(&folder, &["face.pkl", "--policy", "p.toml"]);
    assert!(out.contains("passed over by the policy: because"), "{out}");
    // Another file with the same finding.
    std::fs::write(
        folder.path().join("face.pkl"),
        asm![Proto(2), reduce("mylib", "Face", &[text("y")]), Stop],
    )
    .unwrap();
    assert_eq!(scan(&folder, &["face.pkl", "--policy", "p.toml"]).0, 1);
}
