//! Conversions of folders that are killed, and started again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::cli::{Ran, depickle};
use crate::folders::checkpoint;

const SHARDS: usize = 8;

/// Bytes of a tensor; each shard has two.
const TENSOR: usize = 600_000;

/// A folder with shards of noise, and a config.
fn model() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("in");
    fs::create_dir(&source).unwrap();
    for i in 1..=SHARDS {
        shard(&source, i, i);
    }
    fs::write(source.join("config.json"), "{}").unwrap();
    folder
}

fn shard(source: &Path, number: usize, seed: usize) {
    let bytes = noise(number, seed);
    fs::write(source.join(format!("pytorch_model-{number:05}-of-{SHARDS:05}.bin")), bytes).unwrap();
}

/// A checkpoint of two tensors of noise.
fn noise(number: usize, seed: usize) -> Vec<u8> {
    let noise = |seed: usize| (0..TENSOR).map(|i| (i.wrapping_mul(seed * 2 + 1) >> 3) as u8).collect();
    let (weight, bias) = (format!("layer.{number}.weight"), format!("layer.{number}.bias"));
    checkpoint(&[(&weight, noise(seed)), (&bias, noise(seed + 100))])
}

/// A folder of Megatron's, each rank of which becomes a file.
fn ranks() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for rank in 0..SHARDS {
        let place = folder.path().join(format!("in/mp_rank_{rank:02}"));
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("model_weights.ckpt"), noise(1, rank)).unwrap();
    }
    folder
}

type Tree = BTreeMap<PathBuf, Vec<u8>>;

fn tree(folder: &Path) -> Tree {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

const STAGING: &str = ".depickle.partial";

/// Bytes that wait for their names, and that have theirs.
fn written(out: &Path) -> u64 {
    let sizes: [u64; 2] = [out.join(STAGING), out.to_owned()].map(|folder| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.metadata().ok())
            .map(|file| if file.is_file() { file.len() } else { 0 })
            .sum()
    });
    sizes.into_iter().sum()
}

fn start(folder: &Path, flags: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_depickle"));
    command.args(["convert", "in", "-o", "out", "--no-progress"]).args(flags).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills it with SIGKILL once so many bytes are there; whether it had not come to its end.
fn kill_after(mut child: Child, out: &Path, bytes: u64) -> bool {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return false;
        }
        if written(out) >= bytes {
            child.kill().unwrap();
            return !child.wait().unwrap().success();
        }
    }
}

fn resume(folder: &Path) -> Ran {
    let ran = depickle(folder, &["convert", "in", "-o", "out", "--resume"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    ran
}

#[test]
fn a_conversion_that_is_killed_at_any_point_ends_in_the_same_tree() {
    kill_anywhere(&model(), 24);
}

#[test]
fn so_does_one_of_ranks() {
    kill_anywhere(&ranks(), 12);
}

fn kill_anywhere(folder: &TempDir, points: u64) {
    let out = folder.path().join("out");
    assert_eq!(depickle(folder.path(), &["convert", "in", "-o", "out"]).code, 0);
    let expected = tree(&out);
    let all: u64 = expected.values().map(|bytes| bytes.len() as u64).sum();
    let (mut killed, mut taken_over) = (0, 0);
    for point in 0..points {
        fs::remove_dir_all(&out).unwrap();
        // The last points are beyond the weights: in the manifest, the renaming, the end.
        let bytes = all * point / (points - 4);
        killed += u64::from(kill_after(start(folder.path(), &[]), &out, bytes.min(all)));
        if point % 3 == 0 {
            killed +=
                u64::from(kill_after(start(folder.path(), &["--resume"]), &out, u64::midpoint(bytes, all)));
        }
        let ran = resume(folder.path());
        taken_over += u64::from(ran.err.contains("resumed: "));
        assert_eq!(tree(&out), expected, "killed after {bytes} of {all} bytes");
    }
    assert!(killed >= points / 2 && taken_over > points / 8, "{killed} killed, {taken_over} taken over");
}

/// A folder whose conversion was interrupted with at least one file finished.
fn interrupted() -> TempDir {
    let folder = model();
    let out = folder.path().join("out");
    for _ in 0..20 {
        let _ = fs::remove_dir_all(&out);
        kill_after(start(folder.path(), &[]), &out, (TENSOR * 6) as u64);
        let state = fs::read_to_string(out.join(STAGING).join("state.jsonl")).unwrap_or_default();
        if state.lines().count() > 2 && !out.join("manifest.json").exists() {
            return folder;
        }
    }
    panic!("never interrupted in the middle");
}

#[test]
fn what_is_left_of_a_conversion_is_neither_mixed_up_nor_thrown_away_unasked() {
    let folder = interrupted();
    let out = folder.path().join("out");
    let before = tree(&out.join(STAGING));
    let ran = depickle(folder.path(), &["convert", "in", "-o", "out"]);
    assert!(ran.code == 2 && ran.err.contains("--resume goes on with it"), "{ran:?}");
    assert_eq!(tree(&out.join(STAGING)), before);
    // Another conversion takes nothing over.
    let ran = depickle(folder.path(), &["convert", "in", "-o", "out", "--resume", "--rename", "layer=block"]);
    assert!(ran.code == 0 && !ran.err.contains("resumed: "), "{ran:?}");
    let ran = depickle(folder.path(), &["convert", "in", "-o", "new", "--rename", "layer=block"]);
    assert_eq!((ran.code, tree(&out)), (0, tree(&folder.path().join("new"))));

    let folder = interrupted();
    assert_eq!(depickle(folder.path(), &["convert", "in", "-o", "out", "--force"]).code, 0);
    assert!(!folder.path().join("out").join(STAGING).exists());
}

#[test]
fn finished_files_count_only_while_they_and_their_sources_are_what_they_were() {
    for change in ["source", "staged"] {
        let folder = interrupted();
        let out = folder.path().join("out");
        if change == "source" {
            // The same size, the same pickle: only the weights are others.
            shard(&folder.path().join("in"), 1, 77);
        } else {
            let staged = out.join(STAGING).join("0");
            let mut bytes = fs::read(&staged).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(staged, bytes).unwrap();
        }
        resume(folder.path());
        assert_eq!(depickle(folder.path(), &["convert", "in", "-o", "new"]).code, 0);
        assert_eq!(tree(&out), tree(&folder.path().join("new")), "{change}");
    }
}

/// Kills a conversion of a folder at moments that are spread over its length. `DEPICKLE_KILL_POINTS` says at how many:
/// `tests/kill.py` does the same with folders of any size.
#[cfg(unix)]
fn killed_at_moments(source: &str) {
    let points = std::env::var("DEPICKLE_KILL_POINTS").ok().and_then(|n| n.parse().ok()).unwrap_or(8_u32);
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(crate::fixtures_names::folder().join(source), folder.path().join("in"))
        .unwrap();
    let flags = ["--max-shard-size", "200", "--metadata"];
    let run = |flags: &[&str]| start(folder.path(), flags);
    let resumed = [&flags[..], &["--resume"]].concat();
    let out = folder.path().join("out");
    let begun = Instant::now();
    assert!(run(&flags).wait().unwrap().success());
    let length = begun.elapsed();
    let expected = tree(&out);
    assert!(expected.len() > 5, "{source}");
    let mut killed = 0;
    for point in 0..points {
        fs::remove_dir_all(&out).unwrap();
        let mut child = run(&flags);
        std::thread::sleep(length * point / points);
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
        if out.join("manifest.json").exists() {
            for path in expected.keys().filter(|path| !path.ends_with("SHA256SUMS")) {
                assert_eq!(fs::read(out.join(path)).unwrap(), expected[path], "{source} {}", path.display());
            }
        }
        assert!(run(&resumed).wait().unwrap().success(), "{source}, {point} of {points}");
        assert_eq!(tree(&out), expected, "{source}, {point} of {points}");
    }
    assert!(killed > 0, "{source}");
}

#[cfg(unix)]
#[test]
fn folders_of_every_layout_end_in_the_same_tree_whenever_they_are_killed() {
    for source in ["hf/gpt2", "distributed/dcp/fsdp2", "distributed/deepspeed/stage3_bf16"] {
        killed_at_moments(source);
    }
}

#[cfg(unix)]
#[test]
fn documents_are_made_again_with_what_was_interrupted() {
    let folder = model();
    let key = crate::fixtures_names::folder().join("signing/p256.key.pem");
    let key = key.to_str().unwrap();
    let flags = ["--sign", key, "--provenance", "--bom", "--max-shard-size", "1MB"];
    let resumed = [&flags[..], &["--resume"]].concat();
    let out = folder.path().join("out");
    let run = |flags: &[&str]| start(folder.path(), flags).wait().unwrap();
    assert!(run(&flags).success());
    let expected = tree(&out);
    let all: u64 = expected.values().map(|bytes| bytes.len() as u64).sum();
    for part in [1, 2, 4, 5, 8, 9, 10] {
        fs::remove_dir_all(&out).unwrap();
        kill_after(start(folder.path(), &flags), &out, all * part / 10);
        assert!(run(&resumed).success(), "{part}");
        assert_eq!(tree(&out), expected, "{part}");
    }
    // A finished one is left alone, unless it lacks what is asked for.
    assert!(run(&resumed).success());
    assert_eq!(tree(&out), expected);
    fs::remove_file(out.join("model.sig")).unwrap();
    assert_eq!(run(&resumed).code(), Some(2));
    fs::remove_file(out.join("manifest.json")).unwrap();
    assert_eq!(run(&resumed).code(), Some(2));
}

#[test]
fn a_run_that_was_killed_with_everything_done_is_complete() {
    let folder = model();
    let out = folder.path().join("out");
    resume(folder.path());
    let expected = tree(&out);
    // While it removed what it no longer needed, and while it listed its outputs.
    fs::create_dir(out.join(STAGING)).unwrap();
    fs::remove_file(out.join("SHA256SUMS")).unwrap();
    fs::write(out.join(".SHA256SUMS.abc.partial"), "half").unwrap();
    assert!(resume(folder.path()).err.contains("resumed: 8 of 8 files"));
    assert_eq!(tree(&out), expected);
}

#[test]
fn what_is_complete_is_left_alone() {
    let folder = model();
    resume(folder.path());
    let before = tree(&folder.path().join("out"));
    assert!(resume(folder.path()).err.contains("resumed: 8 of 8 files"));
    assert_eq!(tree(&folder.path().join("out")), before);
}
