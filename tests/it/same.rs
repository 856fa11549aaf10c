//! The same input gives the same bytes: every fixture, every output, on every run and for every number of threads.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::cli::{depickle, fixture};
use crate::folders::{copy, files};

/// Every file below a folder.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    files(folder).into_iter().map(|name| (name.clone(), fs::read(folder.join(name)).unwrap())).collect()
}

/// A folder in memory, where the system has one: what is written is synced file by file.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

/// Runs a command once for each number of threads. What it writes to `out` and to standard output is the same each time,
/// and is given.
fn same(folder: &Path, command: &[&str], runs: &[&str]) -> (i32, BTreeMap<String, Vec<u8>>, String) {
    let out = folder.join("out");
    let mut first = None;
    for jobs in runs {
        if out.exists() {
            fs::remove_dir_all(&out).unwrap();
        }
        let ran = depickle(folder, &[command, &["--jobs", jobs]].concat());
        let written = if out.is_dir() { tree(&out) } else { BTreeMap::new() };
        let all = (ran.code, written, ran.out);
        match &first {
            None => first = Some(all),
            Some(first) => assert!(*first == all, "{command:?} --jobs {jobs}: {}", ran.err),
        }
    }
    first.unwrap()
}

/// The fixtures in a folder of their own each, as many of them have names that give one output: files with what stands
/// beside them, and folders that are one checkpoint.
fn all_fixtures(to: &Path) -> usize {
    const WHOLE: [&str; 2] = ["hf/", "distributed/"];
    let root = fixture("");
    let all = files(&root);
    let is_checkpoint = |name: &&String| {
        let is_text = [".md", ".py", ".json", ".pem", ".sig"].iter().any(|suffix| name.ends_with(suffix));
        !is_text && !WHOLE.iter().any(|folder| name.starts_with(folder))
    };
    let mut count = 0;
    for name in all.iter().filter(is_checkpoint) {
        let own = to.join("in").join(format!("{count:03}"));
        fs::create_dir_all(&own).unwrap();
        // joblib's arrays are called after their pickle.
        let is_own = |other: &&String| *other == name || other.starts_with(&format!("{name}_"));
        for beside in all.iter().filter(is_own) {
            fs::copy(root.join(beside), own.join(Path::new(beside).file_name().unwrap())).unwrap();
        }
        count += 1;
    }
    for whole in WHOLE {
        copy(&root.join(whole), &to.join("in").join(whole));
    }
    count
}

#[test]
fn every_fixture_gives_the_same_bytes_on_every_run_and_for_every_number_of_threads() {
    let folder = scratch();
    let count = all_fixtures(folder.path());
    assert!(count > 150, "{count}");
    let convert = ["convert", "in", "-o", "out", "--json", "--metadata", "--inert", "unknown"];
    let (_, written, told) = same(folder.path(), &convert, &["1", "3"]);
    let weights = written.keys().filter(|name| name.ends_with(".safetensors")).count();
    assert!(weights > 150 && written.contains_key("SHA256SUMS"), "{weights}");
    assert!(told.contains("\"exit\": 0") || told.contains("\"exit\":0"), "{told}");
    for form in ["json", "sarif"] {
        let (_, _, told) = same(folder.path(), &["scan", "in", "--digest", "--format", form], &["1", "3"]);
        assert!(told.len() > 50_000, "{form}");
    }
}

#[test]
fn documents_and_checks_are_the_same_on_every_run_and_for_every_number_of_threads() {
    let runs = ["1", "8", "2", "1"];
    let key = fixture("signing/p256.key.pem");
    let documents = ["--sign", key.to_str().unwrap(), "--provenance", "--bom", "--metadata", "--quiet"];
    for name in ["hf/gpt2", "hf/pipeline", "distributed/dcp/plain", "torch/training.pt"] {
        let folder = scratch();
        let source = folder.path().join("in");
        match fixture(name) {
            whole if whole.is_dir() => copy(&whole, &source),
            file => _ = fs::copy(file, source).unwrap(),
        }
        let convert = [&["convert", "in", "-o", "out", "--max-shard-size", "3KB"][..], &documents].concat();
        let (code, written, _) = same(folder.path(), &convert, &runs);
        assert!(code == 0 && written.contains_key("model.sig"), "{name}: {:?}", written.keys());
        fs::rename(folder.path().join("out"), folder.path().join("done")).unwrap();
        let verify = ["verify", "done", "--source", "in", "--reconvert", "--json"];
        assert_eq!(same(folder.path(), &verify, &runs[..2]).0, 0, "{name}");
        let (code, _, told) = same(folder.path(), &["diff", "in", "done", "--json", "--all"], &runs[..2]);
        assert!(code < 2 && told.contains("depickle-diff/1"), "{name}: {told}");
    }
}
