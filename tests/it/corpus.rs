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
