//! The program, run as users run it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::folders::files;

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

pub(crate) fn depickle(folder: &Path, arguments: &[&str]) -> Ran {
    with_input(folder, arguments, Stdio::null())
}

fn with_input(folder: &Path, arguments: &[&str], input: Stdio) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_depickle"));
    let output = command.args(arguments).current_dir(folder).stdin(input).output().unwrap();
    Ran {
        code: output.status.code().expect("an exit code"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// `os.system("id")`, protocol 0.
const EVIL: &[u8] = b"cos\nsystem\n(S'id'\ntR.";

/// A folder with a good checkpoint, one that needs `--inert`, one without tensors, a hostile and a plain file.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("sub")).unwrap();
    for (from, to) in [
        ("torch/state_dict.pth", "good.pth"),
        ("torch/training.pt", "sub/training.pt"),
        ("torch/values_enum.pt", "enum.pt"),
        ("torch/zip_no_tensors.pt", "none.pt"),
    ] {
        std::fs::copy(fixture(from), at(to)).unwrap();
    }
    std::fs::write(at("evil.pkl"), [b"\x80\x02", EVIL].concat()).unwrap();
    std::fs::write(at("readme.txt"), "# words\n").unwrap();
    folder
}

#[test]
fn a_checkpoint_is_converted_beside_itself_and_verified() {
    let folder = folder();
    let ran = depickle(folder.path(), &["convert", "good.pth"]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "good.safetensors  9 tensors, 920 bytes, bit-exact\n"),
        "{ran:?}"
    );
    assert!(ran.err.contains("root: the whole source"), "{ran:?}");
    let bytes = std::fs::read(folder.path().join("good.safetensors")).unwrap();
    assert_eq!(safetensors::SafeTensors::deserialize(&bytes).unwrap().len(), 9);
    let ran = depickle(folder.path(), &["convert", "good.pth", "--quiet"]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("good.safetensors: exists already"), "{ran:?}");
    assert_eq!(depickle(folder.path(), &["good.pth", "--force"]).code, 0);

    for path in ["good.safetensors", "good.manifest.json"] {
        let ran = depickle(folder.path(), &["verify", path]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.out.contains("tensors  9 of 9 match") && ran.out.contains("unsigned: integrity only"));
    }
    let mut bytes = bytes;
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(folder.path().join("good.safetensors"), bytes).unwrap();
    let ran = depickle(folder.path(), &["verify", "good.safetensors", "--json"]);
    assert_eq!(ran.code, 1);
    let report = ran.json();
    assert_eq!(report["matches"], false);
    let levels: Vec<&str> =
        report["mismatches"].as_array().unwrap().iter().map(|m| m["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["files", "tensors"]);
    assert_eq!(depickle(folder.path(), &["verify", "nothing.json"]).code, 2);
    assert_eq!(depickle(folder.path(), &["verify", "readme.txt"]).code, 3);
}

#[test]
fn outputs_go_where_they_are_sent() {
    let folder = folder();
    let ran = depickle(folder.path(), &["convert", "good.pth", "-o", "a/b/c.safetensors", "--no-manifest"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = depickle(folder.path(), &["convert", "good.pth", "-o", "d", "--manifest", "e/m.json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let input = std::fs::File::open(folder.path().join("good.pth")).unwrap();
    let ran = with_input(folder.path(), &["convert", "-", "-o", "f"], input.into());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(depickle(folder.path(), &["convert", "-"]).code, 2);
    let made: Vec<String> = files(folder.path()).into_iter().filter(|file| file.contains('/')).collect();
    assert_eq!(
        made,
        [
            "a/b/c.safetensors",
            "d/SHA256SUMS",
            "d/good.safetensors",
            "e/m.json",
            "f/SHA256SUMS",
            "f/stdin.manifest.json",
            "f/stdin.safetensors",
            "sub/training.pt"
        ]
    );
}

#[test]
fn a_failed_conversion_leaves_nothing_not_even_a_folder() {
    let folder = folder();
    let before = files(folder.path());
    for (input, code) in
        [("evil.pkl", 1), ("enum.pt", 1), ("none.pt", 3), ("readme.txt", 3), ("nowhere.pt", 4)]
    {
        let ran = depickle(folder.path(), &["convert", input, "-o", "x/y"]);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.out.is_empty() && ran.err.starts_with(input), "{ran:?}");
    }
    assert_eq!(depickle(folder.path(), &["convert", "good.pth", "-o", "readme.txt/x"]).code, 4);
    assert_eq!(files(folder.path()), before);
    assert!(!folder.path().join("x").exists());
}

#[test]
fn a_refusal_says_what_where_and_how_to_go_on() {
    let folder = folder();
    let ran = depickle(folder.path(), &["convert", "enum.pt"]);
    assert_eq!(
        ran.err,
        "enum.pt: not converted (nothing was run)\n  \
         values_enum/data.pkl @0xda  __main__.Precision(\"half\")  unknown; 0 of 1 tensor depends on it\n  \
         values_enum/data.pkl @0x100  __main__.Stage(2)  unknown; 0 of 1 tensor depends on it\n  \
         keep it as inert data: depickle convert enum.pt --inert __main__.Precision --inert __main__.Stage\n"
    );
    let go_on: Vec<&str> =
        ran.err.lines().last().unwrap().split(": depickle ").nth(1).unwrap().split(' ').collect();
    let ran = depickle(folder.path(), &go_on);
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("kept as inert data: __main__.Stage"), "{ran:?}");

    let ran = depickle(folder.path(), &["convert", "evil.pkl", "--inert", "unknown"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("system(\"id\")  dangerous") && !ran.err.contains("--inert"), "{ran:?}");
}

#[test]
fn a_folder_is_converted_file_by_file() {
    let folder = folder();
    let ran = depickle(folder.path(), &["convert", ".", "-o", "../out", "--dry-run"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let ran = depickle(folder.path(), &["convert", ".", "-o", "out"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let out = folder.path().join("out");
    assert_eq!(
        files(&out),
        [
            "SHA256SUMS",
            "good.manifest.json",
            "good.safetensors",
            "sub/training.manifest.json",
            "sub/training.safetensors"
        ]
    );
    // Sources are named from the folder that was given.
    for (manifest, source) in [("good", "good.pth"), ("sub/training", "sub/training.pt")] {
        let manifest = std::fs::read(out.join(format!("{manifest}.manifest.json"))).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["sources"][0]["path"], source);
    }
    for row in ["converted       2", "refused         2", "no tensors      1", "not applicable  1"] {
        assert!(ran.err.contains(row), "{row}: {ran:?}");
    }
    let command = "keep the unknown names as inert data: depickle convert ./enum.pt -o out --inert \
                   __main__.Precision --inert __main__.Stage";
    assert!(ran.err.contains(command), "{ran:?}");
    // What was written is no input of the next run.
    let ran = depickle(folder.path(), &["convert", ".", "-o", "out", "--force", "--quiet", "--json"]);
    let records = ran.json();
    let exits: Vec<(&str, i64)> = records
        .as_array()
        .unwrap()
        .iter()
        .map(|record| (record["input"].as_str().unwrap(), record["exit"].as_i64().unwrap()))
        .collect();
    assert_eq!(
        exits,
        [("./enum.pt", 1), ("./evil.pkl", 1), ("./good.pth", 0), ("./none.pt", 3), ("./sub/training.pt", 0)]
    );
    let only = folder.path().join("words");
    std::fs::create_dir(&only).unwrap();
    std::fs::write(only.join("a.txt"), "words").unwrap();
    assert_eq!(depickle(folder.path(), &["convert", "words"]).code, 3);
}

#[test]
fn inputs_that_get_in_each_others_way_are_told_before_anything_is_written() {
    let folder = folder();
    std::fs::copy(folder.path().join("good.pth"), folder.path().join("good.bin")).unwrap();
    std::fs::copy(folder.path().join("good.pth"), folder.path().join("w.safetensors")).unwrap();
    let before = files(folder.path());
    for arguments in [&["convert", "good.pth", "good.bin", "-o", "x"][..], &["convert", ".", "-o", "x"]] {
        let ran = depickle(folder.path(), arguments);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains("good.pth") && ran.err.contains("good.bin"), "{ran:?}");
    }
    let ran = depickle(folder.path(), &["convert", "w.safetensors", "-o", "./w.safetensors", "--force"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert_eq!(files(folder.path()), before);
}

#[test]
fn json_is_one_document() {
    let folder = folder();
    let record = depickle(folder.path(), &["convert", "good.pth", "--json"]).json();
    let keys: Vec<&String> = record.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["input", "exit", "error", "manifest"]);
    assert_eq!((&record["exit"], &record["error"]), (&0.into(), &Value::Null));
    assert!(folder.path().join(record["manifest"].as_str().unwrap()).exists());
    let records = depickle(folder.path(), &["convert", "enum.pt", "none.pt", "--format", "json"]).json();
    assert_eq!((&records[0]["exit"], &records[1]["exit"]), (&1.into(), &3.into()));
}

#[test]
fn names_are_changed_in_the_order_of_the_flags() {
    let folder = folder();
    let names = |arguments: &[&str]| {
        let all = [&["convert", "sub/training.pt", "--dry-run", "--all"], arguments].concat();
        depickle(folder.path(), &all).out
    };
    let one = names(&["--rename", "^model_state_dict=a.b", "--strip-prefix", "a."]);
    assert!(one.contains("  b.0.weight"), "{one}");
    let other = names(&["--strip-prefix", "model_state_dict.", "--rename", "^0=zero"]);
    assert!(other.contains("  zero.weight") && other.contains("not written: a dry run"), "{other}");
    assert_eq!(files(folder.path()).len(), 6);
    assert_eq!(depickle(folder.path(), &["convert", "good.pth", "--include", "nothing"]).code, 2);
}

#[test]
fn inspect_shows_what_is_there_and_what_refuses() {
    let folder = folder();
    let ran = depickle(folder.path(), &["inspect", "sub/training.pt", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let document = ran.json();
    assert_eq!(document["schema"], "depickle-inspect/1");
    let file = &document["files"][0];
    assert_eq!(
        (&file["container"], &file["plan"]["root"]),
        (&"torch-zip".into(), &"model_state_dict".into())
    );
    assert_eq!(file["tensors"].as_array().unwrap().len(), 27);
    assert_eq!(file["tensors"][0]["name"], "0.weight");
    let accounted: u64 =
        file["accounting"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert_eq!(Some(accounted), file["size"].as_u64());

    let ran = depickle(folder.path(), &["inspect", "evil.pkl"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("dangerous") && ran.out.contains("system(\"id\")"), "{ran:?}");
    assert_eq!(depickle(folder.path(), &["inspect", "readme.txt"]).code, 3);

    depickle(folder.path(), &["convert", "good.pth"]);
    let ran = depickle(folder.path(), &["inspect", "good.safetensors", "good.pth"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("good.safetensors  safetensors, 920 bytes"), "{ran:?}");
}

#[test]
fn help_completions_and_the_man_page_go_to_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in
        [&["--help"][..], &["convert", "--help"], &["--version"], &["completions", "bash"], &["man"]]
    {
        let ran = depickle(folder.path(), arguments);
        assert!(ran.code == 0 && ran.out.contains("depickle") && ran.err.is_empty(), "{ran:?}");
    }
    for arguments in [&[][..], &["nonsense"], &["convert"], &["convert", "x", "--jobs", "0"], &["scan"]] {
        assert_eq!(depickle(folder.path(), arguments).code, 2, "{arguments:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = folder();
    let mut command = Command::new(env!("CARGO_BIN_EXE_depickle"));
    command.args(["inspect", "sub/training.pt"]).current_dir(folder.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn values_are_written_beside_the_output_when_they_are_asked_for() {
    let folder = folder();
    let ran = depickle(folder.path(), &["sub/training.pt", "--metadata", "-o", "out", "--dry-run"]);
    assert_eq!((ran.code, folder.path().join("out").exists()), (0, false), "{ran:?}");
    let ran = depickle(folder.path(), &["sub/training.pt", "--metadata", "-o", "out"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.err.contains("not written"), "{ran:?}");
    let out = folder.path().join("out");
    let all = ["SHA256SUMS", "training.manifest.json", "training.metadata.json", "training.safetensors"];
    assert_eq!(files(&out), all);
    assert!(depickle(&out, &["verify", "training.safetensors"]).out.contains("files    2 of 2 match"));
    // One that exists is not replaced, and nothing is left behind.
    for name in ["training.manifest.json", "training.safetensors"] {
        std::fs::remove_file(out.join(name)).unwrap();
    }
    let ran = depickle(folder.path(), &["sub/training.pt", "--metadata", "-o", "out", "--no-manifest"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("training.metadata.json: exists already"), "{ran:?}");
    assert_eq!(files(&out), ["SHA256SUMS", "training.metadata.json"]);
    let ran =
        depickle(folder.path(), &["sub/training.pt", "--metadata", "-o", "out", "--no-manifest", "--force"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(files(&out), ["SHA256SUMS", "training.metadata.json", "training.safetensors"]);
    // Two outputs of one name.
    let arguments = ["good.pth", "--metadata", "-o", "x.safetensors", "--manifest", "x.metadata.json"];
    let ran = depickle(folder.path(), &arguments);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("x.metadata.json: is to be two outputs of one input"), "{ran:?}");
}
