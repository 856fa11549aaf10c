//! Several sources as one: each tensor is read from its own file, and every place knows its file.

use std::sync::Arc;

use depickle::bytes::{FileSource, ReadAt};
use depickle::checkpoint::{OpenOptions, Opened, open};
use depickle::output::{Digest, Item, Metadata, Staged, WriteOptions, digest_of, spool, write};
use depickle::plan;
use depickle::progress::Silent;
use depickle::tensor::{EntryId, Kind, Leaf, Step, StorageId, StreamId};

use crate::fixtures_names::folder;

fn opened(fixture: &str) -> Opened {
    let path = folder().join(fixture);
    let source: Arc<dyn ReadAt> = Arc::new(FileSource::open(&path).unwrap());
    let siblings = Some(path.parent().unwrap().to_owned());
    open(&source, &OpenOptions { siblings, ..OpenOptions::default() }).unwrap()
}

/// A dictionary of a tensor or two in each container: with records, deflated, with files beside it.
const FIXTURES: &[&str] =
    &["torch/zip_deflated.pt", "arrays/old.pkl", "torch/zip_shared.pt", "arrays/compressed.npz"];

/// The digest of every tensor, by its path, in the order of the tree.
fn written(opened: &mut Opened) -> (Vec<(Vec<String>, Digest)>, Vec<Digest>) {
    let out = tempfile::tempdir().unwrap();
    let all = (0..).map(StorageId).take(opened.storages.len());
    spool(&mut opened.streams, &mut opened.storages, all, out.path(), 1, &Silent).unwrap();
    let options = plan::Options { all: true, ..plan::Options::default() };
    let plan = plan::plan(&opened.tree, &opened.tensors, &options).unwrap();
    let views = plan.tensors.iter().map(|planned| &opened.tensors[planned.tensor.index()].view);
    let items: Vec<Item<'_>> =
        views.zip(&plan.tensors).map(|(view, to)| Item { name: &to.name, view, cast: None }).collect();
    let sources: Vec<StreamId> = opened.files.iter().map(|file| file.stream).collect();
    let write_options = WriteOptions { jobs: 2, digests: true, sources: &sources };
    let target = Staged::create(&out.path().join("x.safetensors"), false).unwrap();
    let (streams, storages) = (&opened.streams, &opened.storages);
    let written =
        write(&target, streams, storages, &items, &Metadata::new(), write_options, &Silent).unwrap();
    let digests = written.tensors.iter().map(|tensor| tensor.sha256.unwrap());
    let paths = plan.tensors.iter().map(|planned| opened.place(planned.entry).1);
    (paths.zip(digests).collect(), written.sources)
}

fn join_all(at: impl Fn(usize) -> Option<Step>) {
    let alone: Vec<_> = FIXTURES.iter().map(|fixture| written(&mut opened(fixture))).collect();
    let mut joined = opened(FIXTURES[0]);
    for (i, fixture) in FIXTURES.iter().enumerate().skip(1) {
        joined.join(opened(fixture), at(i).as_ref());
    }
    let (tensors, sources) = written(&mut joined);
    assert_eq!(tensors, alone.iter().flat_map(|(tensors, _)| tensors.clone()).collect::<Vec<_>>());
    assert_eq!(sources, alone.iter().flat_map(|(_, sources)| sources.clone()).collect::<Vec<_>>());
    for (file, digest) in joined.files.iter().zip(sources) {
        assert_eq!(digest_of(joined.streams.stream(file.stream)).unwrap(), digest);
    }
    for (id, entry) in joined.tree.iter() {
        let Kind::Leaf(Leaf::Tensor(tensor)) = entry.kind else { continue };
        let storage = &joined.storages[joined.tensors[tensor.index()].view.storage().index()];
        let of = joined.streams.file_of(storage.place.stream());
        let (from, _) = joined.place(id);
        // A companion holds arrays of the pickle that names it.
        assert!(of == from || joined.files[of].container == "joblib-companion", "{of} {from}");
    }
}

#[test]
fn joined_sources_give_the_bytes_of_each() {
    join_all(|i| Some(Step::Key(format!("part{i}").into())));
}

#[test]
fn roots_become_one() {
    join_all(|_| None);
}

#[test]
fn a_source_joined_below_a_step_keeps_its_own_paths() {
    let mut joined = opened(FIXTURES[0]);
    let before = joined.tree.len();
    let below = opened(FIXTURES[1]);
    joined.join(below, Some(&Step::Key("other".into())));
    let (id, entry) = joined.tree.iter().nth(before).unwrap();
    assert_eq!((entry.parent, joined.place(id)), (Some(EntryId::ROOT), (1, vec![])));
    assert_eq!(joined.tree.path(id), ["other"]);
    assert_eq!(joined.place(EntryId::ROOT), (0, vec![]));
}
