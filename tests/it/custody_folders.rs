//! Custody of outputs that are folders: documents over shards and their index, bits flipped in all of them, the source
//! checked again, and what is expected of each of its files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use depickle::custody::find_manifest;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::cli::{Ran, depickle, fixture};
use crate::convert_fixtures::hex;
use crate::folders::{copy, files};

fn key(name: &str) -> String {
    fixture("signing").join(format!("{name}.pem")).to_str().unwrap().to_owned()
}

/// A copy of a fixture as `in`, converted to `out`.
fn converted(name: &str, flags: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    copy(&fixture(name), &folder.path().join("in"));
    let ran = convert(folder.path(), flags);
    assert_eq!(ran.code, 0, "{ran:?}");
    folder
}

fn convert(folder: &Path, flags: &[&str]) -> Ran {
    depickle(folder, &[&["convert", "in", "-o", "out", "--quiet"], flags].concat())
}

fn verify(folder: &Path, flags: &[&str]) -> Ran {
    depickle(folder, &[&["verify", "out", "--json"], flags].concat())
}

const ALL: &[&str] = &["--provenance", "--bom"];
const SOURCE: &[&str] = &["--source", "in", "--reconvert"];

/// The levels at which something does not match.
fn levels(ran: &Ran) -> BTreeSet<String> {
    let document = ran.json();
    let mismatches = document["mismatches"].as_array().unwrap();
    mismatches.iter().map(|mismatch| mismatch["level"].as_str().unwrap().to_owned()).collect()
}

fn sha256(path: &Path) -> String {
    hex(&Sha256::digest(fs::read(path).unwrap()))
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn folders_are_derived_and_converted_again_from_their_manifest() {
    for (name, flags) in [
        ("hf/gpt2", &[][..]),
        ("hf/gpt2", &["--max-shard-size", "1KB"]),
        ("hf/gpt2", &["--max-shard-size", "5GB", "--no-copy-others", "--dtype", "bf16"]),
        ("hf/gpt2", &["--aliases", "copy", "--metadata"]),
        ("hf/pipeline", &["--dtype", "f16"]),
        ("hf/adapter", &[]),
        ("distributed/dcp/plain", &["--max-shard-size", "100"]),
    ] {
        let folder = converted(name, flags);
        let ran = verify(folder.path(), SOURCE);
        assert_eq!(ran.code, 0, "{name} {flags:?}: {ran:?}");
        let document = ran.json();
        let manifest = manifest(folder.path());
        let (tensors, outputs) = (length(&manifest["tensors"]), length(&manifest["outputs"]));
        assert!(document["source"].as_u64().unwrap() > tensors, "{document}");
        assert_eq!(document["reconversion"].as_u64(), Some(outputs + 1), "{document}");
    }
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("out/manifest.json")).unwrap()).unwrap()
}

fn length(list: &Value) -> u64 {
    list.as_array().unwrap().len() as u64
}

#[test]
fn each_file_of_a_folder_is_checked_against_the_manifest() {
    let folder = converted("hf/gpt2", &["--max-shard-size", "1KB"]);
    let second = folder.path().join("in/pytorch_model-00002-of-00002.bin");
    let good = fs::read(&second).unwrap();
    // In the weights, which no parser looks at, and in the pickle.
    for at in [good.len() / 2, 100] {
        flip(&second, at);
        let ran = verify(folder.path(), SOURCE);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(levels(&ran).contains("source"), "{ran:?}");
        assert!(ran.out.contains("pytorch_model-00002-of-00002.bin"), "{ran:?}");
        fs::write(&second, &good).unwrap();
    }
    fs::remove_file(&second).unwrap();
    let ran = verify(folder.path(), &["--source", "in"]);
    assert_eq!((ran.code, levels(&ran)), (1, BTreeSet::from(["source".to_owned()])), "{ran:?}");
    assert!(ran.out.contains("is not there"), "{ran:?}");
    // A shard more or less in the output.
    let shard = first_shard(folder.path());
    fs::copy(&shard, folder.path().join("out/model-00099-of-00099.safetensors")).unwrap();
    let ran = verify(folder.path(), &[]);
    assert!(ran.code == 1 && ran.out.contains("is not in the manifest"), "{ran:?}");
    fs::remove_file(folder.path().join("out/model-00099-of-00099.safetensors")).unwrap();
    fs::remove_file(shard).unwrap();
    assert_eq!(levels(&verify(folder.path(), &[])), BTreeSet::from(["files".to_owned()]));
}

fn first_shard(folder: &Path) -> std::path::PathBuf {
    let name = files(&folder.join("out")).into_iter().find(|name| name.ends_with(".safetensors")).unwrap();
    folder.join("out").join(name)
}

#[test]
fn documents_over_shards_speak_of_every_file() {
    for (name, flags) in [("hf/gpt2", &["--max-shard-size", "1KB"][..]), ("hf/pipeline", &[])] {
        let folder = converted(name, &[ALL, &["--sign", &key("p256.key")], flags].concat());
        let out = folder.path().join("out");
        let ran = verify(folder.path(), &[&["--key", &key("p256.pub")], SOURCE].concat());
        assert_eq!((ran.code, ran.json()["signature"].as_str()), (0, Some("good")), "{ran:?}");
        if let Ok(done) =
            Command::new("sha256sum").args(["-c", "--strict", "SHA256SUMS"]).current_dir(&out).output()
        {
            assert!(done.status.success(), "{done:?}");
        }
        let read =
            |name: &str| -> Value { serde_json::from_slice(&fs::read(out.join(name)).unwrap()).unwrap() };
        let manifest = read("manifest.json");
        let outputs = manifest["outputs"].as_array().unwrap();
        let sums = fs::read_to_string(out.join("SHA256SUMS")).unwrap();
        let (statement, bom) = (read("provenance.intoto.json"), read("bom.cdx.json"));
        let components = &bom["metadata"]["component"]["components"];
        for output in outputs {
            let path = output["path"].as_str().unwrap();
            let digest = sha256(&out.join(path));
            assert!(sums.contains(&format!("{digest}  {path}\n")), "{path}");
            let has = |list: &Value, wanted: Value| list.as_array().unwrap().contains(&wanted);
            assert!(
                has(&statement["subject"], json!({"name": path, "digest": {"sha256": digest}})),
                "{path}"
            );
            let component =
                json!({"type": "file", "name": path, "hashes": [{"alg": "SHA-256", "content": digest}]});
            assert!(has(components, component), "{path}");
        }
        assert_eq!(sums.lines().count(), outputs.len() + 1);
        let sources = &statement["predicate"]["buildDefinition"]["resolvedDependencies"];
        for (source, recorded) in
            sources.as_array().unwrap().iter().zip(manifest["sources"].as_array().unwrap())
        {
            assert_eq!(
                (&source["name"], &source["digest"]["sha256"]),
                (&recorded["path"], &recorded["sha256"])
            );
        }
        assert_eq!(length(sources), length(&manifest["sources"]));
    }
}

#[test]
fn a_bit_flipped_in_any_file_of_a_signed_folder_is_told() {
    /// Positions of a file that are tried, besides its first and last byte.
    const SAMPLES: usize = 4;
    let flags = ["--max-shard-size", "2KB", "--metadata", "--sign", &key("p256.key")];
    let folder = converted("hf/gpt2", &[ALL, &flags].concat());
    let out = folder.path().join("out");
    let public = key("p256.pub");
    let all = files(&out);
    for kind in
        ["manifest.json", "safetensors", "index.json", "SHA256SUMS", "model.sig", "dsse", "intoto", "bom"]
    {
        assert!(all.iter().any(|name| name.contains(kind)), "{kind}: {all:?}");
    }
    for name in &all {
        let good = fs::read(out.join(name)).unwrap();
        for sample in 0..=SAMPLES {
            flip(&out.join(name), (good.len() - 1) * sample / SAMPLES);
            let ran = verify(folder.path(), &["--key", &public]);
            match ran.code {
                1 => assert!(!levels(&ran).is_empty()),
                // A manifest that cannot be read is named, and the signature with it.
                3 => assert!(name == "manifest.json" && ran.err.contains("signature"), "{name}: {ran:?}"),
                _ => panic!("{name} {sample}: {ran:?}"),
            }
            fs::write(out.join(name), &good).unwrap();
        }
    }
    assert_eq!(verify(folder.path(), &["--key", &public]).code, 0);
}

#[test]
fn a_bit_flipped_in_an_unsigned_folder_is_told_where_a_digest_covers_it() {
    let folder = converted("hf/gpt2", ALL);
    let out = folder.path().join("out");
    // Nothing speaks of the bill of materials and of what a builder adds to a provenance but a signature.
    for name in files(&out).iter().filter(|name| !name.contains("bom") && !name.contains("provenance")) {
        let good = fs::read(out.join(name)).unwrap();
        let step = (good.len() / 9).max(1);
        for at in (0..good.len()).step_by(step) {
            flip(&out.join(name), at);
            let ran = verify(folder.path(), &[]);
            assert!(ran.code == 1 || (ran.code == 3 && name == "manifest.json"), "{name} at {at}: {ran:?}");
            fs::write(out.join(name), &good).unwrap();
        }
    }
    // What the source was called, of which the manifest alone knows, is in the list of digests too.
    let path = out.join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("pytorch_model-00001", "pytorch_model-10001", 1)).unwrap();
    let ran = verify(folder.path(), &[]);
    assert!(ran.code == 1 && ran.out.contains("SHA256SUMS"), "{ran:?}");
}

#[test]
fn a_list_of_digests_beside_a_manifest_has_to_agree() {
    let folder = converted("hf/adapter", &["--no-copy-others"]);
    let path = folder.path().join("out/SHA256SUMS");
    let good = fs::read_to_string(&path).unwrap();
    let told = |text: &str| {
        fs::write(&path, text).unwrap();
        let ran = verify(folder.path(), &[]);
        (ran.code, ran.json()["mismatches"][0]["mismatch"].as_str().unwrap_or_default().to_owned())
    };
    let (code, message) = told(&good.replacen(&good[..8], "00000000", 1));
    assert!(code == 1 && message.starts_with("says 00000000"), "{message}");
    assert_eq!(
        told(&good.replace("manifest.json", "manifest.jsom")),
        (1, "names manifest.jsom, which is not there".into())
    );
    assert_eq!(told(&good.replace("  manifest.json", " manifest.json")), (1, "is no list of digests".into()));
    // A list of other files, in whatever form, says nothing of these.
    let published = format!("{}  adapter_model.safetensors\n{}  x.bin\n", "0".repeat(64), "1".repeat(64));
    assert_eq!(told(&published).0, 0);
    assert_eq!(told("words\n").0, 0);
    assert_eq!(told(&format!("{}  pytorch_model.bin\n", "0".repeat(64))).0, 0);
    // Others may list some of the files, and files of their own.
    fs::write(folder.path().join("out/notes.txt"), "words").unwrap();
    let own = format!("{}  notes.txt\n", "0".repeat(64));
    assert_eq!(told(&own).0, 0);
    assert_eq!(told(&(good.clone() + &own)).0, 0);
    fs::remove_file(folder.path().join("out/notes.txt")).unwrap();
    assert_eq!(told(&(good + &own)).0, 0);
    fs::remove_file(&path).unwrap();
    assert_eq!(verify(folder.path(), &[]).code, 0);
}

#[test]
fn a_renamed_source_is_said_and_no_mismatch() {
    let folder = TempDir::new().unwrap();
    fs::copy(fixture("torch/state_dict.pth"), folder.path().join("a.pth")).unwrap();
    assert_eq!(depickle(folder.path(), &["convert", "a.pth", "--quiet"]).code, 0);
    fs::rename(folder.path().join("a.pth"), folder.path().join("b.pth")).unwrap();
    let ran = depickle(folder.path(), &["verify", "a.safetensors", "--source", "b.pth", "--reconvert"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("b.pth is called a.pth in the manifest"), "{ran:?}");
}

#[test]
fn an_output_below_finds_the_manifest_of_its_folder() {
    let folder = converted("hf/pipeline", &["--sign", &key("p256.key")]);
    let public = key("p256.pub");
    let out = folder.path().join("out");
    let weights = "vae/diffusion_pytorch_model.safetensors";
    for (from, path, manifest) in [
        (folder.path(), format!("out/{weights}"), "out/manifest.json".to_owned()),
        (&out, weights.to_owned(), "manifest.json".to_owned()),
        (&out.join("vae"), "diffusion_pytorch_model.safetensors".to_owned(), "../manifest.json".to_owned()),
        (
            &out.join("vae"),
            "../text_encoder/model.fp16.safetensors".to_owned(),
            "../manifest.json".to_owned(),
        ),
        (
            folder.path(),
            out.join(weights).to_str().unwrap().to_owned(),
            out.join("manifest.json").to_str().unwrap().to_owned(),
        ),
    ] {
        let ran = depickle(from, &["verify", &path, "--key", &public, "--json"]);
        assert_eq!((ran.code, ran.json()["signature"].as_str()), (0, Some("good")), "{path}: {ran:?}");
        let found = ran.json()["manifest"].as_str().unwrap().to_owned();
        assert_eq!(
            fs::canonicalize(from.join(&found)).unwrap(),
            fs::canonicalize(from.join(manifest)).unwrap()
        );
    }
    // A manifest above that does not list the file is somebody else's.
    fs::create_dir(out.join("unet")).unwrap();
    fs::copy(out.join(weights), out.join("unet/x.safetensors")).unwrap();
    assert_eq!(find_manifest(&out.join("unet/x.safetensors")), None);
    assert_eq!(depickle(folder.path(), &["verify", "out/unet/x.safetensors"]).code, 2);
}

/// A list of the digests of all files in `in`.
fn sums(folder: &Path) -> String {
    let names = files(&folder.join("in"));
    let line = |name: &String| format!("{}  {name}\n", sha256(&folder.join("in").join(name)));
    names.iter().map(line).collect::<Vec<_>>().concat()
}

#[test]
fn every_shard_and_the_index_are_compared_with_a_list() {
    let folder = TempDir::new().unwrap();
    copy(&fixture("hf/gpt2"), &folder.path().join("in"));
    let good = sums(folder.path());
    let with = |list: &str| {
        fs::write(folder.path().join("list"), list).unwrap();
        convert(folder.path(), &["--expect-file", "list", "--force"])
    };
    let lines = |wanted: &dyn Fn(&str) -> bool| -> String {
        good.split_inclusive('\n').filter(|line| wanted(line)).collect()
    };
    let changed = |name: &str| -> String {
        let zeros = "0".repeat(64);
        good.lines()
            .map(|line| if line.ends_with(name) { format!("{zeros}  {name}\n") } else { format!("{line}\n") })
            .collect()
    };
    for name in [
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
        "pytorch_model.bin.index.json",
    ] {
        let ran = with(&changed(name));
        assert!(
            ran.code == 1 && ran.err.contains(name) && ran.err.contains("expected by"),
            "{name}: {ran:?}"
        );
        assert!(!folder.path().join("out").exists(), "{name}");
    }
    // A shard has to be listed, an index need not.
    assert_eq!(with(&lines(&|line| !line.contains("00002-of-00002"))).code, 2);
    assert_eq!(with(&lines(&|line| !line.contains("index"))).code, 0);
    assert_eq!(with(&good).code, 0);
    let manifest = manifest(folder.path());
    for source in manifest["sources"].as_array().unwrap() {
        let expected = json!([{"origin": "--expect-file list", "algorithm": "sha256", "value": source["sha256"], "result": "match"}]);
        assert_eq!(source["expected"], expected);
    }
    // Each file is compared with its own digest when all is done again.
    let ran = verify(folder.path(), SOURCE);
    assert_eq!(ran.code, 0, "{ran:?}");
    // One digest cannot be that of two files.
    let first = manifest["sources"][0]["sha256"].as_str().unwrap();
    let ran = convert(folder.path(), &["--expect", &format!("sha256:{first}"), "--force"]);
    assert!(ran.code == 1 && ran.err.contains("expected by --expect"), "{ran:?}");
    // What lies beside the shards is compared without being asked for.
    fs::write(folder.path().join("in/SHA256SUMS"), changed("pytorch_model.bin.index.json")).unwrap();
    let ran = convert(folder.path(), &["--force"]);
    assert!(ran.code == 1 && ran.err.contains("pytorch_model.bin.index.json"), "{ran:?}");
}

#[test]
fn arrays_in_files_beside_a_pickle_are_compared_too() {
    for (pickle, array) in [("old.pkl", "old.pkl_01.npy"), ("oldz.pkl", "oldz.pkl_01.npy.z")] {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [pickle, array] {
            fs::copy(fixture("arrays").join(name), at(name)).unwrap();
        }
        let run = |flags: &[&str]| {
            depickle(folder.path(), &[&["convert", pickle, "-o", "o.safetensors", "--force"], flags].concat())
        };
        let good = format!("{}  {pickle}\n{}  {array}\n", sha256(&at(pickle)), sha256(&at(array)));
        let bad = format!("{}  {pickle}\n{}  {array}\n", sha256(&at(pickle)), "0".repeat(64));
        for (list, code) in [(&good, 0), (&bad, 1)] {
            fs::write(at("list"), list).unwrap();
            let ran = run(&["--expect-file", "list"]);
            assert_eq!(ran.code, code, "{ran:?}");
            assert_eq!(ran.err.starts_with(array), code == 1, "{ran:?}");
        }
        let manifest: Value = serde_json::from_slice(&fs::read(at("o.manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest["sources"][1]["expected"][0]["result"], "match", "{pickle}");
        let ran = depickle(folder.path(), &["verify", "o.safetensors", "--source", pickle, "--reconvert"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        // A digest is that of the pickle, and a list need not have the array.
        let own = format!("sha256:{}", sha256(&at(pickle)));
        assert_eq!(run(&["--expect", &own]).code, 0);
        fs::write(at("list"), format!("{}  {pickle}\n", sha256(&at(pickle)))).unwrap();
        assert_eq!(run(&["--expect-file", "list"]).code, 0);
        fs::write(at("SHA256SUMS"), &bad).unwrap();
        assert_eq!(run(&[]).code, 1);
    }
}
