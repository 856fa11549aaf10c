//! `depickle sign`, and the signature level of `depickle verify`.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::cli::depickle;

fn key(name: &str) -> String {
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/signing");
    keys.join(format!("{name}.pem")).to_str().unwrap().to_owned()
}

/// A folder `out` with a conversion that is signed.
fn signed() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch/state_dict.pth");
    fs::copy(source, folder.path().join("good.pth")).unwrap();
    assert_eq!(depickle(folder.path(), &["convert", "good.pth", "-o", "out", "--quiet"]).code, 0);
    let ran = depickle(folder.path(), &["sign", "out", "--key", &key("p256.key")]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "out/model.sig  3 files signed\n"), "{ran:?}");
    let out = folder.path().join("out");
    (folder, out)
}

#[test]
fn a_folder_is_signed_once_and_again_the_same() {
    let (folder, out) = signed();
    let first = fs::read(out.join("model.sig")).unwrap();
    let ran = depickle(folder.path(), &["sign", "out", "--key", &key("p256.key")]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("exists already") && ran.err.contains("--force"), "{ran:?}");
    let ran = depickle(folder.path(), &["sign", "out", "--key", &key("p256.key"), "--force", "--json"]);
    assert_eq!((ran.code, ran.json()["files"].as_u64()), (0, Some(3)), "{ran:?}");
    assert_eq!(fs::read(out.join("model.sig")).unwrap(), first);
    // The same key, encrypted.
    let encrypted = key("encrypted.key");
    let arguments = ["sign", "out", "--key", &encrypted, "--force"];
    let ran = depickle(folder.path(), &arguments);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("its password is needed"), "{ran:?}");
    fs::write(folder.path().join("password"), "test only\n").unwrap();
    let ran = depickle(folder.path(), &[&arguments[..], &["--password-file", "password"]].concat());
    assert_eq!((ran.code, fs::read(out.join("model.sig")).unwrap()), (0, first), "{ran:?}");
    let names: Vec<_> = fs::read_dir(out).unwrap().collect();
    assert_eq!(names.len(), 4, "{names:?}");
}

#[test]
fn every_way_to_a_signed_folder_checks_it() {
    let (folder, _) = signed();
    for path in ["out", "out/good.safetensors", "out/good.manifest.json"] {
        let ran = depickle(folder.path(), &["verify", path, "--key", &key("p256.pub")]);
        assert_eq!(ran.code, 0, "{path}: {ran:?}");
        assert!(ran.out.contains("  signature  3 of 3 files match, signed by the key "), "{ran:?}");
        assert!(ran.out.contains("tensors  9 of 9 match"), "{ran:?}");
    }
    let ran = depickle(folder.path(), &["verify", "out", "--key", &key("p256.pub"), "--json"]);
    assert_eq!((ran.code, ran.json()["signature"].as_str()), (0, Some("good")));
    let ran = depickle(folder.path(), &["verify", "out", "--json"]);
    assert_eq!((ran.code, ran.json()["signature"].as_str()), (0, Some("not checked")));
    let ran = depickle(folder.path(), &["verify", "out", "--key", &key("p384.pub"), "--json"]);
    let json = ran.json();
    assert_eq!(
        (ran.code, json["signature"].as_str(), json["matches"].as_bool()),
        (1, Some("bad"), Some(false))
    );
    assert_eq!(json["mismatches"][0]["level"], "signature");
    // A key that cannot be used says nothing about the files.
    let ran = depickle(folder.path(), &["verify", "out", "--key", &key("ed25519.pub")]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    let ran = depickle(folder.path(), &["verify", "out", "--key", "missing.pem"]);
    assert_eq!((ran.code, ran.out.as_str()), (4, ""));
}

#[test]
fn the_manifest_has_to_be_signed() {
    let (folder, out) = signed();
    fs::rename(out.join("good.manifest.json"), folder.path().join("kept")).unwrap();
    let ran = depickle(folder.path(), &["sign", "out", "--key", &key("p256.key"), "--force"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    fs::rename(folder.path().join("kept"), out.join("good.manifest.json")).unwrap();
    for passed in [&["--ignore-unsigned-files"][..], &["--ignore-paths", "good.manifest.json"]] {
        let public = key("p256.pub");
        let ran = depickle(folder.path(), &[&["verify", "out", "--key", &public], passed].concat());
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.out.contains("    good.manifest.json: is not signed"), "{ran:?}");
    }
}

#[test]
fn a_folder_of_another_tool_is_checked_by_its_signature_alone() {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/signing");
    let model = fixtures.join("model").to_str().unwrap().to_owned();
    let signature = fixtures.join("p256.sig").to_str().unwrap().to_owned();
    let public = key("p256.pub");
    let arguments = ["verify", &model, "--key", &public, "--signature", &signature];
    let ran = depickle(folder.path(), &arguments);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("no manifest") && ran.out.contains("signature  4 of 4 files match"), "{ran:?}");
    let ran = depickle(folder.path(), &[&arguments[..], &["--json"]].concat());
    assert_eq!((ran.code, ran.json()["manifest"].is_null()), (0, true));

    let (single, signature) = (format!("{model}/config.json"), fixtures.join("single.sig"));
    fs::copy(single, folder.path().join("config.bin")).unwrap();
    fs::copy(signature, folder.path().join("model.sig")).unwrap();
    let ran = depickle(folder.path(), &["verify", "config.bin", "--key", &key("p256.pub")]);
    assert_eq!(ran.code, 0, "{ran:?}");
    // Without a key there is nothing to check.
    assert_eq!(depickle(folder.path(), &["verify", "."]).code, 2);
}

#[test]
fn certificates_need_an_identity() {
    let (folder, _) = signed();
    let (private, signer, middle) = (key("p256.key"), key("signer"), key("middle"));
    let sign = ["sign", "out", "--force", "--key", &private, "--certificate", &signer];
    let chain = ["--certificate-chain", &middle];
    assert_eq!(depickle(folder.path(), &[&sign[..], &chain].concat()).code, 0);
    let verify = |more: &[&str]| depickle(folder.path(), &[&["verify", "out"], more].concat());
    let root = key("root");
    let ran = verify(&["--certificate-chain", &root, "--identity", "release@example.org"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("signed by release@example.org"), "{ran:?}");
    let ran = verify(&["--certificate-chain", &root, "--identity", "else@example.org"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("not for \"else@example.org\""), "{ran:?}");
    for usage in [
        &["--certificate-chain", &root][..],
        &["--identity", "release@example.org"],
        &["--certificate-chain", &root, "--identity", "release@example.org", "--key", &private],
    ] {
        assert_eq!(verify(usage).code, 2, "{usage:?}");
    }
    let ran = verify(&["--key", &key("p256.pub")]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("was made with certificates, and is checked with a key"), "{ran:?}");
}
