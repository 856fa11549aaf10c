use std::fs;
use std::path::Path;

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

const INDEX: &str = r#"{"metadata": {"total_size": 8}, "weight_map":
    {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}}"#;

#[test]
fn shards_are_those_of_their_index() {
    let folder = folder(&[
        ("pytorch_model.bin.index.json", INDEX),
        ("pytorch_model-00001-of-00002.bin", ""),
        ("pytorch_model-00002-of-00002.bin", ""),
        ("pytorch_model.fp16.bin", ""),
        ("config.json", "{}"),
        ("training_args.bin", ""),
        (".git/config", ""),
        ("manifest.json", ""),
    ]);
    let repository = open(folder.path()).unwrap();
    let sets: Vec<_> =
        repository.sets.iter().map(|set| (&*set.stem, set.shards.len(), set.is_sharded())).collect();
    assert_eq!(sets, [("pytorch_model", 2, true), ("pytorch_model.fp16", 1, false)]);
    assert_eq!(repository.others, ["config.json"]);
    let left_out: Vec<&str> = repository.left_out.iter().map(|(path, _)| &**path).collect();
    assert_eq!(left_out, ["pytorch_model.bin.index.json", "training_args.bin"]);
    assert!(is_here(folder.path()).unwrap());
}

#[test]
fn a_pipeline_is_one_by_its_own_index_and_other_folders_of_models_are_not() {
    let files = [("unet/diffusion_pytorch_model.bin", ""), ("text_encoder/pytorch_model.bin", "")];
    let folder = folder(&files);
    assert!(!is_here(folder.path()).unwrap());
    fs::write(folder.path().join("model_index.json"), "{}").unwrap();
    assert!(is_here(folder.path()).unwrap());
    let repository = open(folder.path()).unwrap();
    let folders: Vec<_> = repository.sets.iter().map(|set| &*set.folder).collect();
    assert_eq!(folders, ["text_encoder/", "unet/"]);
}

fn refused(files: &[(&str, &str)]) -> Error {
    open(folder(files).path()).unwrap_err()
}

#[test]
fn shards_that_are_missing_foreign_or_doubled_are_refused() {
    let index = ("pytorch_model.bin.index.json", INDEX);
    let (first, second) =
        (("pytorch_model-00001-of-00002.bin", ""), ("pytorch_model-00002-of-00002.bin", ""));
    assert!(matches!(refused(&[index, first]), Error::Missing { .. }));
    assert!(matches!(refused(&[index]), Error::Missing { .. }));
    assert!(matches!(refused(&[first]), Error::Missing { .. }));
    assert!(matches!(refused(&[second]), Error::Missing { .. }));
    let foreign = ("pytorch_model-00001-of-00003.bin", "");
    assert!(matches!(refused(&[index, first, second, foreign]), Error::Foreign { .. }));
    assert!(matches!(refused(&[first, second, foreign]), Error::Foreign { .. }));
    assert!(matches!(refused(&[("pytorch_model-00000-of-00002.bin", ""), first]), Error::Foreign { .. }));
    assert!(matches!(refused(&[("pytorch_model.bin", ""), index, first, second]), Error::Both { .. }));
    assert!(matches!(refused(&[("pytorch_model.bin", ""), first, second]), Error::Both { .. }));
}

#[test]
fn an_index_names_files_of_its_folder_each_tensor_once() {
    let index = |text: &str| refused(&[("pytorch_model.bin.index.json", text)]);
    for file in ["../x.bin", "/etc/passwd", "a/b.bin", "..", "", "c:x", "a\\\\b"] {
        let text = format!(r#"{{"weight_map": {{"a": "{file}"}}}}"#);
        assert!(matches!(index(&text), Error::Outside { .. }), "{file}");
    }
    for text in ["", "[]", "{}", r#"{"weight_map": {"a": 1}}"#, r#"{"weight_map": {"a": "x", "a": "y"}}"#] {
        assert!(matches!(index(text), Error::Index { .. }), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn links_stay_in_the_folder_or_in_its_cache() {
    use std::os::unix::fs::symlink;
    let cache =
        folder(&[("models--a--b/blobs/1", ""), ("models--a--b/snapshots/r/config.json", ""), ("secret", "")]);
    let snapshot = cache.path().join("models--a--b/snapshots/r");
    symlink("../../blobs/1", snapshot.join("pytorch_model.bin")).unwrap();
    symlink(cache.path().join("secret"), snapshot.join("vocab.txt")).unwrap();
    let repository = open(&snapshot).unwrap();
    assert_eq!(repository.sets.len(), 1);
    assert_eq!(repository.left_out, [("vocab.txt".to_owned(), "a link that leads out of the folder")]);
    symlink(Path::new("../../../secret"), snapshot.join("adapter_model.bin")).unwrap();
    assert!(matches!(open(&snapshot), Err(Error::Link { .. })));
}
