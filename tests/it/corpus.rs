//! Every checkpoint of a corpus, against the digests of its reference. Runs where `DEPICKLE_CORPUS` names the folder
//! that holds `real/INDEX.tsv` and `real/reference.jsonl`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use depickle::Class;
use depickle::convert::{Options, convert};
use depickle::custody::Manifest;
use depickle::plan;
use depickle::progress::Silent;
use depickle::report::FileVerdict;
use depickle::scan::{Options as ScanOptions, scan};
use serde_json::Value;

fn reference(folder: &Path) -> HashMap<String, Vec<String>> {
    let text = fs::read_to_string(folder.join("reference.jsonl")).unwrap();
    let file = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        let digests = record["tensors"].as_array().unwrap().iter().filter_map(|t| t["sha256"].as_str());
        (record["id"].as_str().unwrap().to_owned(), digests.map(str::to_owned).collect())
    };
    text.lines().map(file).collect()
}

fn digests(input: &Path, out: &Path) -> Result<Vec<String>, Class> {
    let plan = plan::Options { all: true, ..plan::Options::default() };
    let options = Options { plan, force: true, ..Options::default() };
    let converted = convert(input, out, &options, &Silent).map_err(|error| error.class())?;
    let manifest: Manifest = serde_json::from_slice(&fs::read(converted.manifest.unwrap()).unwrap()).unwrap();
    Ok(manifest.tensors.into_iter().map(|tensor| tensor.sha256).collect())
}

#[test]
fn torch_files_of_the_corpus_convert_to_the_reference() {
    let Some(corpus) = std::env::var_os("DEPICKLE_CORPUS").map(PathBuf::from) else {
        println!("DEPICKLE_CORPUS is not set: no corpus to check");
        return;
    };
    let folder = corpus.join("real");
    let reference = reference(&folder);
    let index = fs::read_to_string(folder.join("INDEX.tsv")).unwrap();
    let mut rows = index.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let head = rows.next().unwrap();
    let column = |name: &str| head.iter().position(|h| *h == name).unwrap();
    let (id, container, file) = (column("id"), column("container"), column("file"));
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out.safetensors");
    let mut checked = 0;
    for row in rows.filter(|row| matches!(row[container], "torch-zip" | "torch-legacy")) {
        let mut wanted = reference[row[id]].clone();
        match digests(&folder.join(row[file]), &out) {
            Ok(got) => {
                for digest in got {
                    wanted.iter().position(|w| *w == digest).map(|at| wanted.swap_remove(at));
                }
                assert!(wanted.is_empty(), "{}: {} tensors are missing", row[file], wanted.len());
            }
            Err(class) => assert!(wanted.is_empty() && class == Class::Malformed, "{}: {class:?}", row[file]),
        }
        checked += 1;
    }
    assert!(checked > 50, "{checked} files");
}

/// The rows of an index, each as its columns by name.
fn rows(folder: &Path) -> Vec<HashMap<String, String>> {
    let index = fs::read_to_string(folder.join("INDEX.tsv")).unwrap();
    let mut lines = index.lines().map(|line| line.split('\t').map(str::to_owned));
    let head: Vec<String> = lines.next().unwrap().collect();
    lines.map(|cells| head.iter().cloned().zip(cells).collect()).collect()
}

/// A row's column; empty where there is none.
fn cell<'a>(row: &'a HashMap<String, String>, name: &str) -> &'a str {
    row.get(name).map_or("", String::as_str)
}

fn scanned(folder: &Path, row: &HashMap<String, String>) -> FileVerdict {
    scan(&folder.join(cell(row, "file")), &ScanOptions::default()).unwrap().verdict
}

#[test]
fn scans_of_the_corpus_miss_nothing_and_raise_no_false_alarm() {
    let Some(corpus) = std::env::var_os("DEPICKLE_CORPUS").map(PathBuf::from) else {
        println!("DEPICKLE_CORPUS is not set: no corpus to check");
        return;
    };
    let hostile = corpus.join("malicious");
    let (mut malicious, mut dangerous) = (0, 0);
    for row in rows(&hostile) {
        let (file, note) = (cell(&row, "file"), cell(&row, "note"));
        // The modules that would shadow others are no part of the corpus; their test is `scan_pickles`.
        if note.contains("SOFT") || note.starts_with("neutral") || cell(&row, "class").starts_with("sibling")
        {
            continue;
        }
        let verdict = scanned(&hostile, &row);
        assert!(!matches!(verdict, FileVerdict::Clean | FileVerdict::NotApplicable), "{file}: {verdict:?}");
        if cell(&row, "expected_verdict") == "malicious" {
            assert!(
                verdict >= FileVerdict::Suspicious || verdict == FileVerdict::Unsupported,
                "{file}: {verdict:?}"
            );
            malicious += 1;
            dangerous += usize::from(verdict == FileVerdict::Dangerous);
        }
    }
    println!("{dangerous} of {malicious} malicious files are called dangerous");
    assert!(malicious > 100 && dangerous * 100 >= malicious * 95, "{dangerous} of {malicious}");
    for folder in ["benign", "real"].map(|name| corpus.join(name)) {
        let honest = rows(&folder);
        for row in honest.iter().filter(|row| !cell(row, "note").starts_with("neutral")) {
            let expected = match cell(row, "scan") {
                "malformed" => continue,
                "suspicious" => FileVerdict::Suspicious,
                _ => FileVerdict::Clean,
            };
            assert_eq!(scanned(&folder, row), expected, "{}", cell(row, "file"));
        }
        assert!(honest.len() > 40, "{} files", honest.len());
    }
}
