//! Folders in Hugging Face's layouts, which their libraries wrote: names, types, shapes and digests against what torch
//! saw; what is copied and what is never opened; what does not fit together.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use depickle::container::Archive;
use depickle::custody::{Manifest, verify};
use depickle::limits::Limits;
use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::asm::*;
use crate::cli::{depickle, fixture};
use crate::schema;
use crate::zips::{Zip, torch_entries};

type Listed = BTreeMap<String, (String, Vec<usize>, String)>;

fn hf(name: &str) -> PathBuf {
    fixture("hf").join(name)
}

fn expected(name: &str, folder: &str) -> Listed {
    let text = fs::read_to_string(fixture("hf/expected.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(all[name][folder].clone()).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    depickle::output::Digest(Sha256::digest(bytes).into()).to_string()
}

fn listed(path: &Path) -> Listed {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let listed = tensors.iter().map(|(name, view)| {
        (name.to_owned(), (view.dtype().to_string(), view.shape().to_vec(), sha256(view.data())))
    });
    listed.collect()
}

fn manifest(folder: &Path) -> Manifest {
    let value: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    schema::check(&schema::manifest(), &value);
    serde_json::from_value(value).unwrap()
}

pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path().strip_prefix(folder).unwrap().to_owned();
                files.push(path.to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    files.sort();
    files
}

pub(crate) fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        fs::create_dir_all(to.join(&file).parent().unwrap()).unwrap();
        fs::copy(from.join(&file), to.join(&file)).unwrap();
    }
}

/// Converts a folder into a new one beside it.
fn converted(folder: &Path, flags: &[&str]) -> (TempDir, PathBuf) {
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("out");
    let arguments = ["convert", folder.to_str().unwrap(), "-o", target.to_str().unwrap()];
    let ran = depickle(out.path(), &[&arguments, flags].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(verify(&target).unwrap().is_match());
    (out, target)
}

#[test]
fn shards_become_shards_and_a_tie_is_recorded_in_the_index() {
    let (_out, target) = converted(&hf("gpt2"), &[]);
    let all = [
        "SHA256SUMS",
        "config.json",
        "manifest.json",
        "merges.txt",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ];
    assert_eq!(files(&target), all);
    let mut expected = expected("gpt2", "");
    let tied = expected.remove("lm_head.weight").unwrap();
    assert_eq!(tied, expected["transformer.wte.weight"]);
    let parts = [1, 2].map(|i| listed(&target.join(format!("model-0000{i}-of-00002.safetensors"))));
    assert_eq!(parts.clone().into_iter().flatten().collect::<Listed>(), expected);

    let index: Value =
        serde_json::from_slice(&fs::read(target.join("model.safetensors.index.json")).unwrap()).unwrap();
    assert_eq!(index["metadata"]["lm_head.weight"], "transformer.wte.weight");
    assert!(index["weight_map"].get("lm_head.weight").is_none());
    for (part, number) in parts.iter().zip(1..) {
        for name in part.keys() {
            assert_eq!(index["weight_map"][name], format!("model-0000{number}-of-00002.safetensors"));
        }
    }
    let manifest = manifest(&target);
    let roles: Vec<&str> = manifest.outputs.iter().map(|output| &*output.role).collect();
    assert_eq!(roles, ["weights", "weights", "index", "other", "other"]);
    let sources: Vec<&str> = manifest.sources.iter().map(|source| &*source.path).collect();
    assert_eq!(sources, ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]);
    for source in &manifest.sources {
        assert_eq!(source.sha256, sha256(&fs::read(hf("gpt2").join(&source.path)).unwrap()));
    }
    assert!(manifest.tensors.iter().all(|tensor| tensor.from[0].source == tensor.to.output));
    assert_eq!((manifest.aliases.len(), manifest.aliases[0].source), (1, 1));
    let left_out: Vec<&str> = manifest.left_out_files.iter().map(|file| &*file.path).collect();
    let expected = [
        "modeling_custom.py",
        "optimizer.pt",
        "pytorch_model.bin.index.json",
        "rng_state.pth",
        "training_args.bin",
    ];
    assert_eq!(left_out, expected);
}

#[test]
fn a_pipeline_converts_model_by_model_in_one_commit() {
    let (_out, target) = converted(&hf("pipeline"), &[]);
    let weights = ["text_encoder/model.fp16.safetensors", "vae/diffusion_pytorch_model.safetensors"];
    for (path, folder) in weights.into_iter().zip(["text_encoder/", "vae/"]) {
        assert_eq!(listed(&target.join(path)), expected("pipeline", folder));
    }
    let manifest = manifest(&target);
    let of_weights = manifest.outputs.iter().filter(|output| output.role == "weights");
    assert_eq!(of_weights.map(|output| &*output.path).collect::<Vec<_>>(), weights);
    assert_eq!(manifest.sources[1].path, "vae/diffusion_pytorch_model.bin");
    for copied in ["model_index.json", "scheduler/scheduler_config.json", "vae/config.json"] {
        assert!(target.join(copied).is_file(), "{copied}");
    }
}

#[test]
fn weights_that_are_damaged_leave_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("in");
    copy(&hf("pipeline"), &source);
    let shard = source.join("vae/diffusion_pytorch_model.bin");
    let mut bytes = fs::read(&shard).unwrap();
    let archive = Archive::open(&bytes, &Limits::default()).unwrap();
    let storage = archive.members().iter().find(|member| member.name.ends_with("/data/0")).unwrap();
    bytes[usize::try_from(storage.data.start()).unwrap()] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let ran = depickle(place.path(), &["convert", "in", "-o", "out"]);
    assert!(ran.code == 3 && ran.err.contains("CRC-32"), "{ran:?}");
    assert!(!place.path().join("out").exists(), "not even the folders of its models");
}

#[test]
fn an_adapter_keeps_its_name() {
    let (_out, target) = converted(&hf("adapter"), &["--no-copy-others"]);
    assert_eq!(files(&target), ["SHA256SUMS", "adapter_model.safetensors", "manifest.json"]);
    assert_eq!(listed(&target.join("adapter_model.safetensors")), expected("adapter", ""));
}

#[test]
fn the_folder_itself_takes_the_new_files_beside_the_old() {
    let folder = tempfile::tempdir().unwrap();
    copy(&hf("gpt2"), folder.path());
    let before = files(folder.path());
    let ran = depickle(folder.path(), &["convert", "."]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let after = files(folder.path());
    assert!(before.iter().all(|file| after.contains(file)));
    assert_eq!(after.len(), before.len() + 4);
    // It is converted already: nothing is replaced unasked, and asked for it is the same again.
    assert_eq!(depickle(folder.path(), &["convert", "."]).code, 2);
    let first = fs::read(folder.path().join("manifest.json")).unwrap();
    assert_eq!(depickle(folder.path(), &["convert", ".", "--force"]).code, 0);
    assert_eq!(fs::read(folder.path().join("manifest.json")).unwrap(), first);
    assert_eq!(files(folder.path()), after);
}

#[test]
fn shards_of_another_number_are_stale_and_go_with_force_alone() {
    let folder = tempfile::tempdir().unwrap();
    copy(&hf("gpt2"), folder.path());
    assert_eq!(depickle(folder.path(), &["convert", ".", "--max-shard-size", "2KB"]).code, 0);
    let split = files(folder.path());
    let ran = depickle(folder.path(), &["convert", ".", "-o", "."]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert_eq!(files(folder.path()), split);
    assert_eq!(depickle(folder.path(), &["convert", ".", "--force"]).code, 0);
    let safetensors: Vec<String> =
        files(folder.path()).into_iter().filter(|file| file.contains("safetensors")).collect();
    assert_eq!(safetensors.len(), 3, "{safetensors:?}");
}

#[test]
fn shards_are_filled_in_order_as_the_hub_fills_them() {
    let (_out, target) = converted(&hf("gpt2"), &["--max-shard-size", "1KB", "--no-copy-others"]);
    let manifest = manifest(&target);
    assert_eq!(manifest.options.max_shard_size, Some(1_000));
    let shards = manifest.outputs.iter().filter(|output| output.role == "weights");
    let shards: Vec<Listed> = shards.map(|output| listed(&target.join(&output.path))).collect();
    assert!(shards.len() > 3 && shards.iter().all(|shard| !shard.is_empty()));
    let (_out, whole) = converted(&hf("gpt2"), &["--max-shard-size", "5GB", "--no-copy-others"]);
    assert_eq!(files(&whole), ["SHA256SUMS", "manifest.json", "model.safetensors"]);
    assert_eq!(listed(&whole.join("model.safetensors")), shards.into_iter().flatten().collect());
    // Two conversions of the same tensors have one set.
    assert_eq!(self::manifest(&whole).digests, manifest.digests);
}

#[test]
fn a_single_file_is_split_into_a_folder_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture("torch/state_dict.pth"), folder.path().join("net.pth")).unwrap();
    assert_eq!(depickle(folder.path(), &["convert", "net.pth", "--max-shard-size", "200"]).code, 0);
    let written = files(&folder.path().join("net"));
    assert!(written.contains(&"model.safetensors.index.json".to_owned()), "{written:?}");
    assert!(written.contains(&"manifest.json".to_owned()));
    let ran =
        depickle(folder.path(), &["convert", "net.pth", "-o", "x.safetensors", "--max-shard-size", "1MB"]);
    assert_eq!(ran.code, 2, "{ran:?}");
}

/// A file as torch writes it, with a vector of floats under each name.
pub(crate) fn checkpoint(tensors: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let keys: Vec<String> = (0..tensors.len()).map(|i| i.to_string()).collect();
    let items =
        tensors.iter().zip(&keys).map(|((name, data), key)| (*name, tensor(key, data.len() as i64 / 4)));
    let object = pickle(&state_dict(&items.collect::<Vec<_>>()));
    let records = keys.iter().zip(tensors).map(|(key, (_, data))| (key.as_str(), data.clone()));
    Zip::of(torch_entries(&object, &records.collect::<Vec<_>>())).bytes()
}

const FIRST: &str = "pytorch_model-00001-of-00002.bin";
const SECOND: &str = "pytorch_model-00002-of-00002.bin";

/// A folder of two shards with a tensor each, and an index that says so; `change` makes it another.
fn refused(change: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("in");
    fs::create_dir(&source).unwrap();
    fs::write(source.join(FIRST), checkpoint(&[("a", vec![1; 64])])).unwrap();
    fs::write(source.join(SECOND), checkpoint(&[("b", vec![2; 64])])).unwrap();
    let index = format!(r#"{{"metadata": {{}}, "weight_map": {{"a": "{FIRST}", "b": "{SECOND}"}}}}"#);
    fs::write(source.join("pytorch_model.bin.index.json"), index).unwrap();
    change(&source);
    let ran = depickle(folder.path(), &["convert", "in", "-o", "out"]);
    assert_ne!(ran.code, 0, "{ran:?}");
    assert!(!folder.path().join("out").exists(), "something was written");
    format!("{} {}", ran.code, ran.err)
}

#[test]
fn what_does_not_fit_together_is_told_before_anything_is_written() {
    let write =
        |name: &'static str, data: Vec<u8>| move |folder: &Path| fs::write(folder.join(name), data).unwrap();
    let index = |text: String| write("pytorch_model.bin.index.json", text.into_bytes());
    for (error, expected) in [
        (refused(|folder| fs::remove_file(folder.join(SECOND)).unwrap()), "needs this shard"),
        (refused(write(SECOND, checkpoint(&[("a", vec![2; 64])]))), "stands in two shards"),
        (refused(write(SECOND, checkpoint(&[("c", vec![2; 64])]))), "is not in"),
        (refused(write("pytorch_model-00003-of-00003.bin", vec![])), "does not belong"),
        (refused(index(format!(r#"{{"weight_map": {{"a": "../{FIRST}"}}}}"#))), "leads out of the folder"),
        (refused(index("{".to_owned())), "no index of weights"),
        (refused(write(SECOND, checkpoint(&[("b", vec![2; 64])])[..300].to_vec())), SECOND),
    ] {
        assert!(error.starts_with("3 ") && error.contains(expected), "{expected}: {error}");
    }
    // Every shard is judged, the last one too.
    let evil = [b"\x80\x02".as_slice(), b"cos\nsystem\n(S'id'\ntR."].concat();
    let error = refused(write(SECOND, evil));
    assert!(error.starts_with("1 ") && error.contains("os.system"), "{error}");
}

#[test]
fn a_pickle_is_not_copied_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("in");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("pytorch_model.bin"), checkpoint(&[("a", vec![1; 64])])).unwrap();
    fs::write(source.join("config.json"), "{}").unwrap();
    fs::write(source.join("vocab.txt"), b"cos\nsystem\n(S'id'\ntR.").unwrap();
    fs::write(source.join("tokenizer.model"), checkpoint(&[("a", vec![1; 64])])).unwrap();
    fs::write(source.join("extra.safetensors"), b"\x80\x04N.").unwrap();
    let (_out, target) = converted(&source, &[]);
    assert_eq!(files(&target), ["SHA256SUMS", "config.json", "manifest.json", "model.safetensors"]);
    assert_eq!(manifest(&target).left_out_files.len(), 3);
}

#[test]
fn weights_in_safetensors_are_copied_where_nothing_takes_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("in");
    copy(&hf("pipeline"), &source);
    let unet = source.join("unet");
    fs::create_dir(&unet).unwrap();
    let (_own, weights) = converted(&hf("adapter"), &[]);
    let weights = weights.join("adapter_model.safetensors");
    fs::copy(&weights, unet.join("diffusion_pytorch_model.safetensors")).unwrap();
    fs::copy(&weights, source.join("vae/diffusion_pytorch_model.safetensors")).unwrap();
    let (_out, target) = converted(&source, &[]);
    let there = fs::read(target.join("unet/diffusion_pytorch_model.safetensors")).unwrap();
    assert_eq!(there, fs::read(&weights).unwrap());
    assert_eq!(listed(&target.join("vae/diffusion_pytorch_model.safetensors")), expected("pipeline", "vae/"));
    // Into itself, what is there is in the way.
    assert_eq!(depickle(folder.path(), &["convert", "in"]).code, 2);
}

#[cfg(unix)]
#[test]
fn a_snapshot_of_a_cache_needs_another_folder() {
    let cache = tempfile::tempdir().unwrap();
    let snapshot = cache.path().join("models--a--b/snapshots/r");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir(cache.path().join("models--a--b/blobs")).unwrap();
    for file in files(&hf("adapter")) {
        fs::copy(hf("adapter").join(&file), cache.path().join("models--a--b/blobs").join(&file)).unwrap();
        std::os::unix::fs::symlink(Path::new("../../blobs").join(&file), snapshot.join(&file)).unwrap();
    }
    assert_eq!(depickle(&snapshot, &["convert", "."]).code, 2);
    let (_out, target) = converted(&snapshot, &[]);
    assert_eq!(listed(&target.join("adapter_model.safetensors")), expected("adapter", ""));
    assert!(!target.join("adapter_config.json").is_symlink());
}

#[cfg(unix)]
#[test]
fn a_folder_may_have_more_shards_than_a_process_may_have_files_open() {
    const SHARDS: usize = 150;
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("in");
    fs::create_dir(&source).unwrap();
    let name = |i: usize| format!("pytorch_model-{:05}-of-{SHARDS:05}.bin", i + 1);
    let mut map = serde_json::Map::new();
    for i in 0..SHARDS {
        let tensor = format!("layer.{i}.weight");
        fs::write(source.join(name(i)), checkpoint(&[(&tensor, vec![u8::try_from(i).unwrap(); 64])]))
            .unwrap();
        map.insert(tensor, name(i).into());
    }
    let index = serde_json::json!({"metadata": {"total_size": 64 * SHARDS}, "weight_map": map});
    fs::write(source.join("pytorch_model.bin.index.json"), index.to_string()).unwrap();
    for (what, code) in [
        ("convert in -o out --jobs 2", 0),
        ("convert in -o few --max-shard-size 1KB --jobs 2", 0),
        ("verify out --source in", 0),
        ("diff in out", 0),
        ("inspect in --json", 0),
    ] {
        let command = format!("ulimit -n 100 && exec \"$0\" {what} --quiet");
        let command = if what.starts_with("inspect") || what.starts_with("verify") {
            command.replace(" --quiet", "")
        } else {
            command
        };
        let ran = std::process::Command::new("sh")
            .args(["-c", &command, env!("CARGO_BIN_EXE_depickle")])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(ran.status.code(), Some(code), "{what}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    assert_eq!(fs::read_dir(folder.path().join("out")).unwrap().count(), SHARDS + 3);
}
