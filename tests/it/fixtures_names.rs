//! Real checkpoints: names, types and shapes of every tensor, against what torch itself says of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use depickle::bytes::{FileSource, ReadAt};
use depickle::checkpoint::{Error, OpenOptions, Opened, open};
use serde_json::Value;

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn open_fixture(path: &str) -> Result<Opened, Error> {
    let source: Arc<dyn ReadAt> = Arc::new(FileSource::open(&folder().join(path)).unwrap());
    let siblings = folder().join(path).parent().map(std::path::Path::to_owned);
    open(&source, &OpenOptions { siblings, ..OpenOptions::default() })
}

type Listed = BTreeMap<String, (String, Vec<u64>)>;

fn listed(opened: &Opened) -> Listed {
    let entry = |(entry, tensor): (depickle::tensor::EntryId, depickle::tensor::TensorId)| {
        let view = &opened.tensors[tensor.index()].view;
        let path = opened.tree.path(entry);
        let name = if path.is_empty() { "tensor".to_owned() } else { path.join(".") };
        (name, (format!("{:?}", view.dtype().stored()), view.stored_shape()))
    };
    opened.tree.tensors().map(entry).collect()
}

fn expected(fixture: &Value) -> Listed {
    let tensors = fixture["tensors"].as_array().unwrap().iter();
    tensors
        .map(|tensor| {
            let shape = tensor["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
            let dtype = tensor["dtype"].as_str().unwrap().to_owned();
            (tensor["name"].as_str().unwrap().to_owned(), (dtype, shape))
        })
        .collect()
}

#[test]
fn every_fixture_gives_the_tensors_that_torch_sees() {
    let text = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    let all: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    for (path, fixture) in &all {
        if fixture.get("args").is_some() || path.starts_with("..") {
            continue;
        }
        match open_fixture(path) {
            Ok(opened) if listed(&opened) == expected(fixture) => {}
            Ok(opened) => {
                let (got, wanted) = (listed(&opened), expected(fixture));
                let odd: Vec<_> =
                    got.iter().filter(|e| !wanted.contains_key(e.0) || wanted[e.0] != *e.1).collect();
                let missing: Vec<_> = wanted.keys().filter(|name| !got.contains_key(*name)).collect();
                wrong.push(format!("{path}: unexpected {odd:?}, missing {missing:?}"));
            }
            Err(_) if fixture.get("exit").is_some() => {}
            Err(error) => wrong.push(format!("{path}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
