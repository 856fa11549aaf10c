//! Known-good digests: what stops a conversion before the source is parsed, and what is only recorded.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use depickle::Class;
use depickle::bytes::ReadAt;
use depickle::convert::{Options, convert_source};
use depickle::custody::{Expect, Expectation};
use depickle::progress::Silent;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::cli::{Ran, depickle, fixture};
use crate::schema;

fn folder() -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let bytes = fs::read(fixture("torch/state_dict.pth")).unwrap();
    fs::write(folder.path().join("m.pth"), &bytes).unwrap();
    (folder, crate::convert_fixtures::hex(&Sha256::digest(&bytes)))
}

fn convert(folder: &Path, arguments: &[&str]) -> Ran {
    depickle(folder, &[&["convert", "m.pth", "--force"], arguments].concat())
}

/// What the manifest of the last conversion says.
fn expected(folder: &Path) -> Value {
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("m.manifest.json")).unwrap()).unwrap();
    schema::check(&schema::manifest(), &manifest);
    manifest["sources"][0]["expected"].clone()
}

#[test]
fn a_digest_that_matches_is_recorded() {
    let (folder, sha) = folder();
    let ran = convert(folder.path(), &["--expect", &format!("sha256:{sha}")]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let record = json!([{"origin": "--expect", "algorithm": "sha256", "value": sha, "result": "match"}]);
    assert_eq!(expected(folder.path()), record);
    let manifest = fs::read_to_string(folder.path().join("m.manifest.json")).unwrap();
    assert!(manifest.contains(&format!("\"sha256\": \"{sha}\"")));
    // What was hashed before it was parsed is recorded as what is hashed on the way.
    assert_eq!(convert(folder.path(), &["--expect", "none"]).code, 0);
    let plain = fs::read_to_string(folder.path().join("m.manifest.json")).unwrap();
    assert_eq!(plain.matches(&sha).count(), 1);
    let ran = convert(folder.path(), &["--expect", &format!("sha256:{}", &sha[..16])]);
    assert_eq!((ran.code, expected(folder.path())[0]["bits"].as_u64()), (0, Some(64)));
    assert!(ran.err.contains("64 bits, no proof"), "{ran:?}");
}

#[test]
fn a_digest_that_does_not_match_stops_before_anything_is_parsed() {
    let (folder, sha) = folder();
    let wrong = format!("sha256:{}", "0".repeat(64));
    // Even a file that would be refused as hostile is told apart by its digest first.
    fs::write(folder.path().join("evil.pkl"), b"\x80\x02cos\nsystem\n(S'id'\ntR.").unwrap();
    for input in ["m.pth", "evil.pkl"] {
        let ran = depickle(folder.path(), &["convert", input, "--expect", &wrong]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains("expected by --expect") && !ran.err.contains("dangerous"), "{ran:?}");
    }
    let ran = convert(folder.path(), &["--expect", &wrong]);
    assert!(ran.err.contains(&sha) && ran.err.contains(&"0".repeat(64)), "{ran:?}");
    assert!(!folder.path().join("m.safetensors").exists());
    for arguments in [&["--expect", "sha256:12"][..], &["--expect", "words"]] {
        assert_eq!(convert(folder.path(), arguments).code, 2);
    }
    let ran = depickle(folder.path(), &["convert", "m.pth", "evil.pkl", "--expect", &wrong]);
    assert_eq!(ran.code, 2, "{ran:?}");
}

#[test]
fn lists_have_to_name_the_input() {
    let (folder, sha) = folder();
    let at = |name: &str| folder.path().join(name);
    for (list, code) in [
        (format!("{sha}  m.pth\n"), 0),
        (format!("SHA256 (m.pth) = {sha}\n"), 0),
        (format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha}\nsize 1\n"), 1),
        (format!("{}  m.pth\n", "0".repeat(64)), 1),
        (format!("{}  m.pth\n", "0".repeat(32)), 1),
        (format!("{sha}  other.pth\n{sha}  third.pth\n"), 2),
        (format!("{sha}  a/m.pth\n{}  b/m.pth\n", "0".repeat(64)), 2),
        ("words\n".to_owned(), 2),
    ] {
        fs::write(at("list"), &list).unwrap();
        let ran = convert(folder.path(), &["--expect-file", "list"]);
        assert_eq!(ran.code, code, "{list}: {ran:?}");
    }
    fs::write(at("list"), format!("{sha}  m.pth\n")).unwrap();
    assert_eq!(convert(folder.path(), &["--expect-file", "nowhere"]).code, 4);
    // In a folder, files that are no models need no line.
    fs::write(at("readme.txt"), "# words").unwrap();
    let ran = depickle(folder.path(), &["convert", ".", "-o", "out", "--expect-file", "list"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn what_lies_beside_the_input_counts_unless_it_is_passed_over() {
    let (folder, sha) = folder();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("m.pth.sha256"), format!("{sha}  m.pth\n")).unwrap();
    assert_eq!(convert(folder.path(), &[]).code, 0);
    assert_eq!(expected(folder.path())[0]["origin"], "m.pth.sha256");
    fs::write(at("m.pth.sha256"), format!("{}  m.pth\n", "0".repeat(64))).unwrap();
    let ran = convert(folder.path(), &[]);
    assert!(ran.code == 1 && ran.err.contains("--expect none"), "{ran:?}");
    assert_eq!(convert(folder.path(), &["--expect", "none"]).code, 0);
    assert_eq!(expected(folder.path()), json!([]));
    fs::remove_file(at("m.pth.sha256")).unwrap();

    // A suffix may be a commit; under a published name it is a digest.
    for (name, code) in [("mine-deadbeef.pth", 0), ("resnet18-f37072fd.pth", 1), ("epoch-20240101.pth", 0)] {
        fs::copy(at("m.pth"), at(name)).unwrap();
        let ran = depickle(folder.path(), &["convert", name]);
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(ran.err.contains("does not begin with"), name.starts_with("mine"), "{ran:?}");
    }
    let named = format!("mine-{}.pth", &sha[..8]);
    fs::copy(at("m.pth"), at(&named)).unwrap();
    let ran = depickle(folder.path(), &["convert", &named]);
    assert!(ran.code == 0 && ran.err.contains("32 bits, no proof"), "{ran:?}");
}

#[test]
fn every_file_of_several_ranks_is_compared_before_any_is_parsed() {
    let out = TempDir::new().unwrap();
    let folder = crate::distributed::distributed("dcp/plain");
    let arguments = ["convert", folder.to_str().unwrap(), "-o", "out", "--expect"];
    let wrong = format!("sha256:{}", "0".repeat(64));
    let ran = depickle(out.path(), &[&arguments[..], &[&wrong]].concat());
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("expected by --expect"), "{ran:?}");
    assert!(!out.path().join("out/manifest.json").exists());
}

/// A file whose weights are others once it was read whole.
#[derive(Debug)]
struct Changing {
    bytes: Vec<u8>,
    /// A byte of the weights.
    at: u64,
    was_read: AtomicBool,
}

impl ReadAt for Changing {
    fn size(&self) -> u64 {
        self.bytes.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.bytes.read_exact_at(buf, offset)?;
        let changed = self.was_read.load(Ordering::Relaxed);
        let inside = self.at.checked_sub(offset).and_then(|at| buf.get_mut(at as usize));
        if let Some(byte) = inside.filter(|_| changed) {
            *byte ^= 1;
        }
        if buf.len() == self.bytes.len() {
            self.was_read.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[test]
fn a_source_that_changes_after_it_was_compared_is_told() {
    let folder = TempDir::new().unwrap();
    // A format without checksums of its own.
    let bytes = crate::world::large(100_000);
    let sha = crate::convert_fixtures::hex(&Sha256::digest(&bytes));
    let digest = Expectation::parse(&format!("sha256:{sha}")).unwrap();
    let options = Options {
        expect: Expect { digests: vec![digest], ..Expect::nothing() },
        force: true,
        ..Options::default()
    };
    let output = folder.path().join("m.safetensors");
    let plain: Arc<dyn ReadAt> = Arc::new(bytes.clone());
    convert_source(&plain, Path::new("m.npy"), &output, &options, &Silent).unwrap();
    let written = fs::read(&output).unwrap();
    for name in fs::read_dir(folder.path()).unwrap() {
        fs::remove_file(name.unwrap().path()).unwrap();
    }
    assert_eq!(written.last(), bytes.last());
    let at = bytes.size() - 1;
    let source: Arc<dyn ReadAt> = Arc::new(Changing { bytes, at, was_read: AtomicBool::new(false) });
    let error = convert_source(&source, Path::new("m.npy"), &output, &options, &Silent).unwrap_err();
    assert_eq!(error.class(), Class::Environment, "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
