//! The documents of a conversion, and that a bit flipped in any of its files is told at a level by name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use depickle::bytes::{FileSource, ReadAt};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{Ran, depickle};
use crate::folders::files;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn key(name: &str) -> String {
    repository().join("tests/fixtures/signing").join(format!("{name}.pem")).to_str().unwrap().to_owned()
}

/// Converts into the folder `model` with the flags.
fn convert(flags: &[&str]) -> (TempDir, PathBuf, Ran) {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(repository().join("tests/fixtures/torch/state_dict.pth"), folder.path().join("good.pth"))
        .unwrap();
    let ran = depickle(folder.path(), &[&["convert", "good.pth", "-o", "model", "--quiet"], flags].concat());
    let out = folder.path().join("model");
    (folder, out, ran)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn sha256(path: &Path) -> String {
    depickle::output::digest_of(&FileSource::open(path).unwrap() as &dyn ReadAt).unwrap().to_string()
}

const ALL: [&str; 8] = [
    "SHA256SUMS",
    "bom.cdx.json",
    "good.manifest.json",
    "good.safetensors",
    "model.sig",
    "provenance.dsse.json",
    "provenance.intoto.json",
    "provenance.predicate.json",
];

fn everything() -> (TempDir, PathBuf) {
    let (folder, out, ran) = convert(&[
        "--sign",
        &key("p256.key"),
        "--provenance",
        "--bom",
        "--builder-id",
        "https://example.org/builder",
        "--source-uri",
        "https://example.org/good.pth",
    ]);
    assert_eq!(ran.code, 0, "{ran:?}");
    (folder, out)
}

#[test]
fn every_document_is_written_and_two_runs_write_the_same() {
    let ((one_folder, one), (_other, two)) = (everything(), everything());
    assert_eq!(files(&one), ALL);
    for name in ALL {
        assert_eq!(fs::read(one.join(name)).unwrap(), fs::read(two.join(name)).unwrap(), "{name}");
    }
    let ran = depickle(one_folder.path(), &["verify", "model", "--key", &key("p256.pub")]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert!(ran.out.contains("  signature  4 of 4 files match"), "{ran:?}");
    assert!(ran.out.contains("  provenance  matches, and is signed"), "{ran:?}");
}

#[test]
fn documents_say_what_was_written() {
    let (_folder, out) = everything();
    let digest = |name: &str| sha256(&out.join(name));
    let statement = json(&out.join("provenance.intoto.json"));
    let subjects: Vec<(&str, &str)> = statement["subject"]
        .as_array()
        .unwrap()
        .iter()
        .map(|subject| (subject["name"].as_str().unwrap(), subject["digest"]["sha256"].as_str().unwrap()))
        .collect();
    assert_eq!(subjects[0], ("good.safetensors", &*digest("good.safetensors")));
    assert_eq!((subjects.len(), subjects[1].0), (2, "model"));
    let predicate = &statement["predicate"];
    assert_eq!(*predicate, json(&out.join("provenance.predicate.json")));
    assert_eq!(predicate["runDetails"]["builder"]["id"], "https://example.org/builder");
    assert_eq!(predicate["runDetails"]["byproducts"][0]["digest"]["sha256"], digest("good.manifest.json"));
    let source = &predicate["buildDefinition"]["resolvedDependencies"][0];
    assert_eq!(source["uri"], "https://example.org/good.pth");
    assert_eq!(source["digest"]["sha256"], sha256(&repository().join("tests/fixtures/torch/state_dict.pth")));
    assert!(predicate["runDetails"].get("metadata").is_none(), "no time makes two runs differ");

    let bom = json(&out.join("bom.cdx.json"));
    let component = &bom["metadata"]["component"];
    assert_eq!(component["components"][0]["hashes"][0]["content"], digest("good.safetensors"));
    assert_eq!(component["pedigree"]["ancestors"][0]["name"], "good.pth");
    let sums = fs::read_to_string(out.join("SHA256SUMS")).unwrap();
    let expected =
        ["good.manifest.json", "good.safetensors"].map(|name| format!("{}  {name}\n", digest(name)));
    assert_eq!(sums, expected.concat());
}

#[test]
fn nobody_vouches_for_a_local_run() {
    let (folder, out, ran) = convert(&["--provenance"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let without = ["SHA256SUMS", "good.manifest.json", "good.safetensors"];
    assert_eq!(
        files(&out),
        [&without[..], &["provenance.intoto.json", "provenance.predicate.json"]].concat()
    );
    let builder = &json(&out.join("provenance.predicate.json"))["runDetails"]["builder"]["id"];
    assert!(builder.as_str().unwrap().contains("unauthenticated"), "{builder}");
    let ran = depickle(folder.path(), &["verify", "model"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.contains("unsigned: integrity only") && ran.out.contains("provenance  matches, unsigned")
    );
    // A signature that was made later covers it like any file.
    assert_eq!(depickle(folder.path(), &["sign", "model", "--key", &key("p256.key")]).code, 0);
    let ran = depickle(folder.path(), &["verify", "model", "--key", &key("p256.pub")]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("5 of 5 files match") && ran.out.contains("matches, and is signed"), "{ran:?}");
}

#[test]
fn a_flipped_bit_anywhere_is_told_at_a_level() {
    /// Positions of a file that are tried, besides its first and last byte.
    const SAMPLES: usize = 12;
    let (folder, out) = everything();
    let verify = || depickle(folder.path(), &["verify", "model", "--key", &key("p256.pub"), "--json"]);
    assert_eq!(verify().code, 0);
    let mut levels: BTreeSet<(String, String)> = BTreeSet::new();
    for name in ALL {
        let good = fs::read(out.join(name)).unwrap();
        let last = good.len() - 1;
        for (i, at) in (0..=SAMPLES).map(|sample| last * sample / SAMPLES).enumerate() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (i % 8);
            fs::write(out.join(name), bad).unwrap();
            let ran = verify();
            if ran.code == 3 {
                // A manifest that cannot be read is named.
                assert!(name == "good.manifest.json" && ran.err.contains(name), "{name} {at}: {ran:?}");
                assert!(ran.err.contains("signature"), "{name} {at}: {ran:?}");
                continue;
            }
            assert_eq!(ran.code, 1, "{name} at {at}: {ran:?}");
            for mismatch in ran.json()["mismatches"].as_array().unwrap() {
                levels.insert((name.to_owned(), mismatch["level"].as_str().unwrap().to_owned()));
            }
        }
        fs::write(out.join(name), good).unwrap();
    }
    let at = |name: &str| {
        levels.iter().filter(|(own, _)| own == name).map(|(_, level)| level.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(at("good.safetensors"), ["files", "signature", "tensors"]);
    assert_eq!(at("SHA256SUMS"), ["files", "signature"]);
    assert_eq!(at("bom.cdx.json"), ["signature"]);
    assert_eq!(at("model.sig"), ["signature"]);
    assert!(at("good.manifest.json").contains(&"signature"));
    for name in ["provenance.dsse.json", "provenance.intoto.json", "provenance.predicate.json"] {
        assert_eq!(at(name), ["provenance"], "{name}");
    }
    assert_eq!(verify().code, 0);
}

#[test]
fn a_provenance_of_other_files_is_told() {
    let (folder, out) = everything();
    let verify = |flags: &[&str]| depickle(folder.path(), &[&["verify", "model", "--json"], flags].concat());
    let public = key("p256.pub");
    let (path, envelope) = (out.join("provenance.intoto.json"), out.join("provenance.dsse.json"));
    let good = fs::read_to_string(&path).unwrap();
    let told = |ran: &Ran| ran.json()["mismatches"][0]["mismatch"].as_str().unwrap().to_owned();
    for (from, to, message) in [
        ("good.safetensors", "other.safetensors", "says nothing of good.safetensors"),
        ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1", "_type is"),
        ("https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2", "predicateType is"),
        (&sha256(&out.join("good.safetensors")), &"0".repeat(64), "has another digest for good.safetensors"),
        (
            &sha256(&out.join("good.manifest.json")),
            &"0".repeat(64),
            "has another digest for good.manifest.json",
        ),
    ] {
        fs::write(&path, good.replace(from, to)).unwrap();
        let ran = verify(&[]);
        assert_eq!(ran.code, 1, "{from}: {ran:?}");
        assert!(told(&ran).contains(message), "{message}: {ran:?}");
    }
    fs::write(&path, good).unwrap();
    fs::rename(&envelope, folder.path().join("kept")).unwrap();
    let ran = verify(&["--key", &public]);
    assert_eq!((ran.code, told(&ran).as_str()), (1, "is not signed"), "{ran:?}");
    fs::rename(folder.path().join("kept"), &envelope).unwrap();
    fs::remove_file(&path).unwrap();
    let ran = verify(&["--key", &public]);
    assert_eq!((ran.code, told(&ran).as_str()), (1, "says nothing of provenance.intoto.json"), "{ran:?}");
}

#[test]
fn documents_need_a_folder_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        fs::copy(repository().join("tests/fixtures/torch/state_dict.pth"), folder.path().join(name)).unwrap()
    };
    let convert = |arguments: &[&str]| depickle(folder.path(), &[&["convert"], arguments].concat());
    copy("good.pth");
    copy("more.pth");
    let usage = |arguments: &[&str], message: &str| {
        let ran = convert(arguments);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains(message), "{message}: {ran:?}");
    };
    usage(&["good.pth", "--bom"], "need -o, a new or empty folder");
    usage(&["good.pth", "--bom", "-o", "x.safetensors"], "need -o, a new or empty folder");
    usage(&["good.pth", "--bom", "-o", "."], "is not empty");
    usage(&["good.pth", "more.pth", "--bom", "-o", "out"], "about one checkpoint, and there are 2");
    usage(&["good.pth", "--bom", "-o", "out", "--no-manifest"], "cannot be used with");
    usage(&["good.pth", "--builder-id", "x", "-o", "out"], "--provenance");
    usage(&["good.pth", "--sign", &key("p256.pub"), "-o", "out"], "no PEM block");
    assert!(!folder.path().join("out").exists());
    fs::create_dir(folder.path().join("out")).unwrap();
    let ran = convert(&["good.pth", "--bom", "-o", "out", "--dry-run", "--quiet"]);
    assert_eq!((ran.code, files(&folder.path().join("out"))), (0, vec![]), "{ran:?}");
    assert_eq!(convert(&["good.pth", "--bom", "-o", "out", "--quiet"]).code, 0);
}

#[test]
fn a_folder_of_outputs_lists_their_digests() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("runs/sub")).unwrap();
    for name in ["runs/a.pth", "runs/sub/b.pth", "c.pth"] {
        fs::copy(repository().join("tests/fixtures/torch/state_dict.pth"), folder.path().join(name)).unwrap();
    }
    let convert = |arguments: &[&str]| {
        depickle(folder.path(), &[&["convert", "--quiet", "-o", "out"], arguments].concat())
    };
    let out = folder.path().join("out");
    let listed = || {
        let text = fs::read_to_string(out.join("SHA256SUMS")).unwrap();
        text.lines().map(|line| line.split_once("  ").unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(convert(&["runs"]).code, 0);
    let first = ["a.manifest.json", "a.safetensors", "sub/b.manifest.json", "sub/b.safetensors"];
    assert_eq!(listed(), first);
    assert_eq!(convert(&["c.pth"]).code, 0);
    assert_eq!(listed().len(), 6);
    // The program that others have agrees; where there is none, the digests are compared by the tests above.
    if let Ok(done) = Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(&out).output() {
        assert!(done.status.success(), "{done:?}");
    }
    // Nothing is listed without digests, and a file of another kind is kept.
    fs::write(out.join("SHA256SUMS"), "words\n").unwrap();
    let ran = convert(&["c.pth", "--force"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("SHA256SUMS: exists already"), "{ran:?}");
    assert_eq!(fs::read_to_string(out.join("SHA256SUMS")).unwrap(), "words\n");
}
