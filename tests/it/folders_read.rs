//! Folders that are one checkpoint, as `inspect`, `diff` and the library read them: what `convert` would write.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use depickle::convert::{Options, convert_folder};
use depickle::custody::Manifest;
use depickle::diff::{self, diff};
use depickle::plan::{self, Aliases};
use depickle::progress::Silent;
use depickle::{Checkpoint, Class, ErrorKind, Root};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::asm::Op::{BinUnicode, Global, Mark, Proto, Reduce, Stop, Tuple};
use crate::cli::depickle;
use crate::distributed::{distributed, expected, listed, merged};
use crate::fixtures_names::folder;

/// Every fixture that is such a folder.
fn folders() -> Vec<PathBuf> {
    let hub = ["gpt2", "adapter", "pipeline"].map(|name| folder().join("hf").join(name));
    expected().keys().map(|name| distributed(name)).chain(hub).collect()
}

fn convert(from: &Path, to: &Path) -> Manifest {
    let plan = plan::Options { aliases: Aliases::Copy, ..plan::Options::default() };
    let options = Options { plan, copy_others: true, ..Options::default() };
    convert_folder(from, to, &options, &Silent).unwrap();
    serde_json::from_slice(&fs::read(to.join("manifest.json")).unwrap()).unwrap()
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    depickle(folder, arguments).json()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn inspect_shows_what_convert_would_write_and_from_which_files() {
    for path in folders() {
        let out = TempDir::new().unwrap();
        let manifest = convert(&path, out.path());
        let document = json(out.path(), &["inspect", path.to_str().unwrap(), "--json"]);
        let files = document["files"].as_array().unwrap();
        let (mut names, mut sources) = (BTreeSet::new(), BTreeMap::new());
        for file in files {
            assert!(file["error"].is_null() && file["plan"]["error"].is_null(), "{file}");
            assert!(file["model"].is_string() == (files.len() > 1));
            let own = file["sources"].as_array().unwrap();
            for tensor in file["tensors"].as_array().unwrap() {
                let written = tensor["name"].as_str().map(str::to_owned);
                names.extend(written.or_else(|| tensor["same_as"].is_array().then(String::new)));
                assert!(tensor["source"].as_u64().unwrap() < own.len() as u64);
            }
            for source in own {
                let size = source["size"].as_u64().unwrap();
                let parts = source["accounting"].as_object().unwrap().values();
                assert_eq!(parts.map(|n| n.as_u64().unwrap()).sum::<u64>(), size, "{source}");
                assert_eq!(fs::metadata(path.join(text(&source["path"]))).unwrap().len(), size);
                sources.insert(text(&source["path"]), text(&source["container"]));
            }
        }
        names.remove("");
        let written = manifest.tensors.iter().map(|tensor| &tensor.name);
        let missing: Vec<_> = names.iter().filter(|name| !written.clone().any(|w| w == *name)).collect();
        assert!(missing.is_empty() && !names.is_empty(), "{path:?}: {missing:?}");
        let recorded: BTreeMap<_, _> =
            manifest.sources.iter().map(|source| (source.path.clone(), source.container.clone())).collect();
        assert_eq!(sources, recorded, "{path:?}");
        let left_out = files[0]["left_out_files"].as_array().unwrap().iter().map(|file| text(&file["path"]));
        let recorded = manifest.left_out_files.iter().map(|file| file.path.clone());
        assert_eq!(left_out.collect::<Vec<_>>(), recorded.collect::<Vec<_>>(), "{path:?}");
    }
}

#[test]
fn inspect_names_the_layout_and_the_parts_of_tensors() {
    let here = TempDir::new().unwrap();
    let shown = depickle(here.path(), &["inspect", distributed("dcp/fsdp2").to_str().unwrap()]);
    assert_eq!(shown.code, 0);
    assert!(shown.out.contains("  dcp, 3 files, ") && shown.out.contains("file     __1_0.distcp"));
    let document =
        json(here.path(), &["inspect", distributed("deepspeed/stage3_bf16").to_str().unwrap(), "--json"]);
    let file = &document["files"][0];
    assert_eq!(file["container"], "deepspeed");
    let parts = file["tensors"].as_array().unwrap().iter().filter_map(|tensor| tensor["parts"].as_array());
    let from: BTreeSet<u64> = parts.flatten().map(|part| part["source"].as_u64().unwrap()).collect();
    assert!(from.len() > 1, "{from:?}");
}

#[test]
fn a_folder_is_the_same_as_its_conversion_and_the_same_after_one_into_itself() {
    for path in folders() {
        let out = TempDir::new().unwrap();
        let manifest = convert(&path, out.path());
        let found = diff(&path, out.path(), &diff::Options::default(), &Silent);
        let found = found.unwrap_or_else(|error| panic!("{path:?}: {error}")).diff;
        assert!(found.same, "{path:?}");
        assert!(
            manifest.outputs.len() > 1 || found.right.tensor_set == manifest.digests.tensor_set,
            "{path:?}"
        );
        // With the converted weights beside the pickles, those count.
        let both = TempDir::new().unwrap();
        copy(&path, both.path());
        convert(both.path(), both.path());
        let found = diff(both.path(), out.path(), &diff::Options::default(), &Silent).unwrap().diff;
        assert!(found.same && found.left.files.iter().all(|file| file.container == "safetensors"));
    }
}

#[test]
fn a_folder_that_is_converted_into_itself_again_gives_the_same_bytes() {
    let flags: [&[&str]; 4] = [&[], &["--metadata"], &["--max-shard-size", "100"], &["--metadata"]];
    for path in folders() {
        let both = TempDir::new().unwrap();
        let here = both.path().join("model");
        copy(&path, &here);
        let mut manifests: BTreeMap<&[&str], String> = BTreeMap::new();
        for flags in flags.iter().chain(&flags) {
            // What an interrupted run leaves is none of the folder either.
            fs::create_dir(here.join(".depickle.partial")).unwrap();
            fs::write(here.join(".depickle.partial/0.partial"), "").unwrap();
            let arguments = [&["convert", "model", "-o", "model", "--force", "--quiet"][..], flags].concat();
            let ran = depickle(both.path(), &arguments);
            assert_eq!(ran.code, 0, "{path:?} {ran:?}");
            let manifest = fs::read_to_string(here.join("manifest.json")).unwrap();
            assert_eq!(*manifests.entry(flags).or_insert_with(|| manifest.clone()), manifest, "{path:?}");
        }
        let inside = ["convert", "model", "-o", "model/out", "--force", "--quiet"];
        let mut outputs = Vec::new();
        for _ in 0..2 {
            assert_eq!(depickle(both.path(), &inside).code, 0, "{path:?}");
            outputs.push(fs::read_to_string(here.join("out/manifest.json")).unwrap());
        }
        assert_eq!(outputs[0], outputs[1], "{path:?}");
        assert!(!outputs[0].contains("\"out/") && !manifests[flags[0]].contains(".partial"), "{path:?}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn the_library_opens_a_folder_as_a_file() {
    for (name, fixture) in &merged() {
        let checkpoint = Checkpoint::open(distributed(name)).unwrap();
        let weights = checkpoint.weights(Root::All).unwrap();
        let found = weights.iter().map(|tensor| {
            let digest = Sha256::digest(tensor.bytes().unwrap());
            let digest = digest.iter().fold(String::new(), |text, b| text + &format!("{b:02x}"));
            let shape = tensor.shape().iter().map(|n| *n as u64).collect();
            (tensor.name().to_owned(), (tensor.dtype().to_string(), shape, digest))
        });
        assert_eq!(found.collect::<BTreeMap<_, _>>(), listed(fixture), "{name}");
    }
    let ranks = Checkpoint::open(distributed("megatron/ranks")).unwrap_err();
    assert!(matches!(*ranks.kind, ErrorKind::SeveralModels { .. }));
    let gpt2 = Checkpoint::open(folder().join("hf/gpt2")).unwrap();
    assert_eq!(gpt2.weights(Root::Auto).unwrap().len(), 17);
    let pipeline = folder().join("hf/pipeline");
    let error = Checkpoint::open(&pipeline).unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::SeveralModels { .. }) && error.class() == Class::Misuse);
    assert!(Checkpoint::open(pipeline.join("vae")).is_ok());
    assert_eq!(Checkpoint::open(folder()).unwrap_err().class(), Class::Malformed);
}

#[test]
fn what_refuses_a_folder_is_shown_with_its_file() {
    let here = TempDir::new().unwrap();
    let evil = asm![Proto(2), Global("os", "system"), Mark, BinUnicode("x"), Tuple, Reduce, Stop];
    for (fixture, file) in
        [("hf/gpt2", "pytorch_model-00002-of-00002.bin"), ("distributed/dcp/plain", ".metadata")]
    {
        let to = here.path().join(file);
        copy(&folder().join(fixture), &to);
        fs::write(to.join(file), &evil).unwrap();
        let document = json(here.path(), &["inspect", file, "--json"]);
        let refusal = &document["files"][0]["refusals"][0];
        assert_eq!((&refusal["name"], &refusal["entry"]), (&Value::from("os.system"), &Value::from(file)));
        assert_eq!(document["files"][0]["exit"], 1);
        let refused = depickle(here.path(), &["convert", file, "-o", "out"]);
        assert_eq!(refused.code, 1);
        assert!(refused.err.contains("os.system(\"x\")  dangerous"), "{refused:?}");
    }
}
