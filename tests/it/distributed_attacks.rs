//! Checkpoints of many files that were tampered with, or not copied whole: each is an error that says what is wrong, and
//! none is opened.

use std::fs;
use std::path::Path;

use depickle::checkpoint::{Error, FolderError};
use tempfile::TempDir;

use crate::distributed::{distributed, open};

/// A copy of a fixture.
pub(crate) fn copy(name: &str) -> TempDir {
    fn files(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                files(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let folder = TempDir::new().unwrap();
    files(&distributed(name), folder.path());
    folder
}

pub(crate) fn refused(folder: &TempDir) -> Error {
    let mut error = open(folder.path()).unwrap_err();
    while let Error::Inside { error: inner, .. } = error {
        error = *inner;
    }
    error
}

/// Writes other text of the same length into a file, wherever it stands.
fn replace(file: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(file).unwrap();
    let places: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i..].starts_with(from.as_bytes())).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_path_out_of_the_folder_is_refused() {
    for path in ["../../../etc", "/etc/passwd1", "..\\x\\y\\zz.pt", "./__0_0.dis."] {
        let folder = copy("dcp/files");
        replace(&folder.path().join(".metadata"), "__1_0.distcp", path);
        assert!(matches!(refused(&folder), Error::Folder(FolderError::Outside(_))), "{path}");
    }
}

#[cfg(unix)]
#[test]
fn a_link_in_the_folder_is_no_file_of_it() {
    let folder = copy("dcp/files");
    let file = folder.path().join("__1_0.distcp");
    let elsewhere = copy("dcp/files");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("__1_0.distcp"), &file).unwrap();
    assert!(matches!(refused(&folder), Error::Folder(FolderError::Missing(_))));
}

#[test]
fn missing_files_are_named() {
    let folder = copy("dcp/mesh");
    fs::remove_file(folder.path().join("__2_0.distcp")).unwrap();
    assert!(
        matches!(refused(&folder), Error::Folder(FolderError::Missing(name)) if &*name == "__2_0.distcp")
    );
    let shard = |rank, file, of| format!("shard-{rank:05}-model-{file:05}-of-{of:05}.safetensors");
    let folder = copy("dcp/hf");
    let at = |name: &str| folder.path().join(name);
    let missing = |wanted: &str| {
        let error = refused(&folder);
        assert!(matches!(&error, Error::Folder(FolderError::Missing(name)) if **name == *wanted), "{error}");
    };
    fs::rename(at(&shard(2, 1, 1)), at(&shard(3, 1, 1))).unwrap();
    missing(&shard(2, 1, 1));
    fs::remove_file(at(&shard(1, 1, 1))).unwrap();
    missing(&shard(1, 1, 1));
    fs::rename(at(&shard(3, 1, 1)), at(&shard(1, 1, 2))).unwrap();
    missing(&shard(1, 2, 2));
}

#[test]
fn files_of_two_saves_by_their_names_are_refused() {
    let folder = copy("dcp/hf");
    let file = folder.path().join("shard-00002-model-00001-of-00001.safetensors");
    fs::rename(&file, folder.path().join("shard-00002-model-00001-of-00002.safetensors")).unwrap();
    assert!(matches!(refused(&folder), Error::Folder(FolderError::Differ { .. })));
}

/// Other programs call files of theirs shards, too.
#[test]
fn a_file_that_is_called_a_shard_makes_no_distributed_checkpoint() {
    let options = depickle::checkpoint::OpenOptions::default();
    let layout =
        |folder: &TempDir| depickle::checkpoint::Folder::list(folder.path(), &options).unwrap().layout();
    let from = copy("dcp/hf");
    let bytes = fs::read(from.path().join("shard-00001-model-00001-of-00001.safetensors")).unwrap();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("shard-00001.safetensors"), &bytes).unwrap();
    assert_eq!(layout(&folder), None);
    let named = folder.path().join("shard-00001-model-00001-of-00001.safetensors");
    fs::write(&named, &bytes).unwrap();
    assert_eq!(layout(&folder), Some("dcp"));
    replace(&named, "DCP_SHARDING_INFO", "DCP_SHARDING_NONE");
    assert_eq!(layout(&folder), None);
}

/// Accelerate numbers the folders of its models.
#[test]
fn every_model_of_accelerate_is_opened() {
    let folder = copy("accelerate/fsdp");
    let second = copy("accelerate/fsdp");
    let name = "pytorch_model_fsdp_0";
    fs::rename(second.path().join(name), folder.path().join("pytorch_model_fsdp_1")).unwrap();
    let out = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let converted = crate::cli::depickle(out.path(), &["convert", path, "-o", "out"]);
    assert_eq!(converted.code, 0, "{converted:?}");
    let output = |name: &str| fs::read(out.path().join("out").join(name)).unwrap();
    let files = ["model_fsdp_0.safetensors", "model_fsdp_1.safetensors"].map(output);
    assert_eq!(files[0], files[1]);
    let checked = crate::cli::depickle(out.path(), &["verify", "out", "--source", path, "--reconvert"]);
    assert_eq!(checked.code, 0, "{checked:?}");
}

#[test]
fn the_states_of_another_save_of_deepspeed_are_named_so() {
    let folder = copy("deepspeed/stage2_fp32");
    let (last, first) = (folder.path().join("global_step2"), folder.path().join("global_step1"));
    fs::create_dir(&first).unwrap();
    for entry in fs::read_dir(last).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), first.join(entry.file_name())).unwrap();
    }
    let out = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    assert_eq!(crate::cli::depickle(out.path(), &["convert", path, "-o", "out"]).code, 0);
    let manifest = fs::read(out.path().join("out/manifest.json")).unwrap();
    let manifest: depickle::custody::Manifest = serde_json::from_slice(&manifest).unwrap();
    let states = manifest.left_out_files.iter().find(|file| file.path.ends_with("model_states.pt")).unwrap();
    assert_eq!(states.reason, "weights of another save", "{}", states.path);
}

/// The part of a rank that has one entry is an archive like any other, and its tensor no whole one.
#[test]
fn parts_without_their_metadata_are_no_models() {
    for name in ["dcp/mesh", "dcp/old_2_1"] {
        let folder = copy(name);
        fs::remove_file(folder.path().join(".metadata")).unwrap();
        let error = refused(&folder);
        assert!(
            matches!(&error, Error::Folder(FolderError::Missing(path)) if &**path == ".metadata"),
            "{error:?}"
        );
    }
}

#[test]
fn files_that_are_cut_off_are_refused() {
    for name in ["dcp/mesh", "dcp/zstd", "dcp/plain"] {
        let folder = copy(name);
        let file = folder.path().join("__0_0.distcp");
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(refused(&folder), Error::Folder(FolderError::Short { .. })), "{name}");
    }
    let folder = copy("dcp/safetensors");
    let file = folder.path().join("__0_0.distcp");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert!(open(folder.path()).is_err());
}

#[test]
fn a_file_named_for_two_ranks_is_refused() {
    let folder = copy("dcp/mesh");
    replace(&folder.path().join(".metadata"), "__1_0.distcp", "__0_0.distcp");
    assert!(matches!(refused(&folder), Error::Folder(FolderError::Overlap { .. })));
}

#[test]
fn a_file_of_another_rank_in_the_place_of_one_is_refused() {
    let folder = copy("dcp/files");
    fs::copy(folder.path().join("__1_2.distcp"), folder.path().join("__1_0.distcp")).unwrap();
    assert!(open(folder.path()).is_err());
}

#[test]
fn what_belongs_to_no_entry_is_said() {
    let folder = copy("dcp/files");
    fs::write(folder.path().join("__7_0.distcp"), "left over").unwrap();
    let file = folder.path().join("__0_0.distcp");
    let mut bytes = fs::read(&file).unwrap();
    bytes.extend_from_slice(b"tail");
    fs::write(&file, bytes).unwrap();
    let opened = open(folder.path()).unwrap();
    assert_eq!(opened.strays.len(), 2, "{:?}", opened.strays);
}

#[test]
fn a_rank_of_deepspeed_that_is_not_there_is_named_or_counted() {
    let is_missing = |error: Error, name: &str| {
        assert!(
            matches!(&error, Error::Folder(FolderError::Missing(path)) if path.ends_with(name)),
            "{error}"
        );
    };
    let optim = |rank: u64| format!("zero_pp_rank_{rank}_mp_rank_00_optim_states.pt");
    let folder = copy("deepspeed/stage2_fp32");
    let tag = folder.path().join("global_step2");
    fs::rename(tag.join(optim(1)), tag.join(optim(3))).unwrap();
    is_missing(refused(&folder), &optim(1));
    fs::remove_file(tag.join(optim(3))).unwrap();
    is_missing(refused(&folder), &optim(1));
    let folder = copy("deepspeed/stage3_fp16");
    let tag = folder.path().join("global_step2");
    fs::remove_file(tag.join("zero_pp_rank_2_mp_rank_00_model_states.pt")).unwrap();
    let error = refused(&folder);
    assert!(matches!(error, Error::Folder(FolderError::Count { expected: 3, found: 2, .. })), "{error}");
    for rank in [0, 1] {
        fs::remove_file(tag.join(optim(rank))).unwrap();
    }
    is_missing(refused(&folder), &optim(0));
}

#[test]
fn a_rank_of_deepspeed_in_the_place_of_another_is_refused() {
    let folder = copy("deepspeed/stage2_fp32");
    let tag = folder.path().join("global_step2");
    let optim = |rank: u64| format!("zero_pp_rank_{rank}_mp_rank_00_optim_states.pt");
    fs::copy(tag.join(optim(0)), tag.join(optim(1))).unwrap();
    let error = refused(&folder);
    assert!(
        matches!(&error, Error::Folder(FolderError::Renamed { file, .. }) if file.ends_with(&optim(1))),
        "{error}"
    );
}

#[test]
fn a_partition_of_deepspeed_twice_is_another_checkpoint() {
    let folder = copy("deepspeed/stage3_fp16");
    let tag = folder.path().join("global_step2");
    let other =
        distributed("deepspeed/stage3_bf16/global_step2/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt");
    fs::copy(other, tag.join("zero_pp_rank_1_mp_rank_00_optim_states.pt")).unwrap();
    assert!(matches!(refused(&folder), Error::Folder(FolderError::Count { .. })));
}

#[test]
fn the_tag_of_deepspeed_stays_in_the_folder() {
    for tag in ["../global_step2", "/tmp", "", "global_step9", "global_step2/x"] {
        let folder = copy("deepspeed/stage0");
        fs::write(folder.path().join("latest"), tag).unwrap();
        assert!(matches!(refused(&folder), Error::Folder(FolderError::Tag { .. })), "{tag}");
    }
}

#[test]
fn what_needs_the_model_to_be_merged_is_refused_by_name() {
    for name in ["layer_0_expert_0_mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"] {
        let folder = copy("deepspeed/stage2_fp32");
        fs::write(folder.path().join("global_step2").join(name), "").unwrap();
        assert!(matches!(refused(&folder), Error::Unsupported(_)), "{name}");
    }
}
