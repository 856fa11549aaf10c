//! Checkpoints of Megatron-LM: each rank a model of its own, all of one save.

use std::collections::BTreeMap;
use std::fs;

use depickle::checkpoint::{Error, Folder, FolderError, Named, OpenOptions, open_folder};
use depickle::custody::{Manifest, verify};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::depickle;
use crate::distributed::{distributed, expected, listed, open};
use crate::distributed_attacks::{copy, refused};

const RANKS: &[&str] = &["megatron/ranks", "megatron/nemo"];

fn models(folder: &std::path::Path) -> Result<Vec<Named>, Error> {
    let options = OpenOptions::default();
    open_folder(&Folder::list(folder, &options)?, &options)
}

fn error(folder: &TempDir) -> Error {
    match models(folder.path()).unwrap_err() {
        Error::Inside { error, .. } => *error,
        error => error,
    }
}

/// The tensors of each rank, by the name of its folder.
fn by_rank(fixture: &Value) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut ranks: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (name, (_, _, sha256)) in listed(fixture) {
        let (rank, name) = name.split_once('.').unwrap();
        ranks.entry(rank.to_owned()).or_default().insert(name.to_owned(), sha256);
    }
    ranks
}

#[test]
fn every_rank_gives_a_file_with_the_rank_in_its_name() {
    for name in RANKS {
        let out = TempDir::new().unwrap();
        let folder = distributed(name);
        let path = folder.to_str().unwrap();
        let converted = depickle(out.path(), &["convert", path, "-o", "out"]);
        assert_eq!(converted.code, 0, "{name} {converted:?}");
        let out_folder = out.path().join("out");
        let manifest = fs::read(out_folder.join("manifest.json")).unwrap();
        let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
        let mut found: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for tensor in &manifest.tensors {
            let output = &manifest.outputs[tensor.to.output as usize].path;
            let rank = output.strip_suffix(".safetensors").unwrap().to_owned();
            found.entry(rank).or_default().insert(tensor.name.clone(), tensor.sha256.clone());
        }
        assert_eq!(found, by_rank(&expected()[*name]), "{name}");
        for (rank, tensors) in &found {
            let bytes = fs::read(out_folder.join(format!("{rank}.safetensors"))).unwrap();
            let output = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            assert_eq!(output.len(), tensors.len(), "{name} {rank}");
        }
        assert!(verify(&out_folder).unwrap().is_match(), "{name}");
        let checked = depickle(out.path(), &["verify", "out", "--source", path, "--reconvert"]);
        assert_eq!(checked.code, 0, "{name} {checked:?}");
    }
}

#[test]
fn the_optimizer_is_left_out_and_recorded() {
    let out = TempDir::new().unwrap();
    let folder = distributed("megatron/ranks");
    assert_eq!(depickle(out.path(), &["convert", folder.to_str().unwrap(), "-o", "out"]).code, 0);
    let manifest = fs::read(out.path().join("out/manifest.json")).unwrap();
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    let optimizers = manifest.left_out.iter().filter(|left| left.reason == "optimizer state");
    assert_eq!(optimizers.map(|left| left.source).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(manifest.sources[1].path, "iter_0000010/mp_rank_00_001/model_optim_rng.pt");
    assert_eq!(manifest.left_out_files[0].path, "latest_checkpointed_iteration.txt");
}

#[test]
fn torch_dist_is_a_distributed_checkpoint_without_its_optimizer() {
    let out = TempDir::new().unwrap();
    let folder = distributed("megatron/torch_dist");
    assert_eq!(Folder::list(&folder, &OpenOptions::default()).unwrap().layout(), Some("dcp"));
    let converted = depickle(out.path(), &["convert", folder.to_str().unwrap(), "-o", "out"]);
    assert_eq!(converted.code, 0, "{converted:?}");
    let bytes = fs::read(out.path().join("out/model.safetensors")).unwrap();
    let output = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names: Vec<_> = output.names().into_iter().collect();
    names.sort_unstable();
    assert_eq!(names, ["decoder.final_layernorm.weight", "decoder.layers.self_attention.linear_qkv.weight"]);
    assert!(open(&folder).is_ok());
}

#[test]
fn a_rank_that_is_not_there_is_named() {
    for (name, rank) in [("megatron/ranks", "iter_0000010/mp_rank_01_000"), ("megatron/nemo", "mp_rank_00")] {
        let folder = copy(name);
        fs::remove_dir_all(folder.path().join(rank)).unwrap();
        let error = error(&folder);
        assert!(
            matches!(&error, Error::Folder(FolderError::Missing(path)) if &**path == rank),
            "{name}: {error}"
        );
    }
    // The last one is missed by the arguments of the run.
    let folder = copy("megatron/ranks");
    fs::remove_dir_all(folder.path().join("iter_0000010/mp_rank_01_001")).unwrap();
    assert!(matches!(error(&folder), Error::Folder(FolderError::Missing(_))));
}

#[test]
fn a_rank_in_the_place_of_another_or_of_another_save_is_refused() {
    let place = |folder: &TempDir, rank: &str| {
        folder.path().join("iter_0000010").join(rank).join("model_optim_rng.pt")
    };
    let folder = copy("megatron/ranks");
    fs::copy(place(&folder, "mp_rank_00_000"), place(&folder, "mp_rank_01_000")).unwrap();
    assert!(matches!(error(&folder), Error::Folder(FolderError::SameRank { .. })));
    let folder = copy("megatron/ranks");
    fs::create_dir(folder.path().join("iter_0000010/mp_rank_02_000")).unwrap();
    fs::copy(distributed("megatron/nemo/mp_rank_00/model_weights.ckpt"), place(&folder, "mp_rank_02_000"))
        .unwrap();
    assert!(matches!(error(&folder), Error::Folder(FolderError::Differ { .. })));
    let folder = copy("megatron/ranks");
    let file = place(&folder, "mp_rank_01_001");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();
    assert!(models(folder.path()).is_err());
}

/// verl keeps its number in a file of the same name, beside folders of files of ranks.
#[test]
fn a_tracker_without_folders_of_saves_is_not_megatrons() {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("latest_checkpointed_iteration.txt"), "20").unwrap();
    let actor = root.path().join("global_step_20/actor");
    fs::create_dir_all(&actor).unwrap();
    fs::copy(distributed("megatron/nemo/mp_rank_00/model_weights.ckpt"), actor.join("model.pt")).unwrap();
    assert_eq!(Folder::list(root.path(), &OpenOptions::default()).unwrap().layout(), None);
    let out = TempDir::new().unwrap();
    let converted = depickle(out.path(), &["convert", root.path().to_str().unwrap(), "-o", "out"]);
    assert!(out.path().join("out/global_step_20/actor/model.safetensors").exists(), "{converted:?}");
}

#[test]
fn the_number_of_the_last_save_stays_in_the_folder() {
    for text in ["../iter_0000010", "11", "", "-10", "iter_0000010", "release"] {
        let folder = copy("megatron/ranks");
        fs::write(folder.path().join("latest_checkpointed_iteration.txt"), text).unwrap();
        assert!(matches!(error(&folder), Error::Folder(FolderError::Tag { .. })), "{text}");
    }
}

#[test]
fn the_parameters_of_a_universal_checkpoint_are_all_there() {
    const PARAMETER: &str = "global_step2_universal/zero/embed.weight";
    for name in ["deepspeed/universal_stage1", "deepspeed/universal_stage3"] {
        let folder = copy(name);
        fs::remove_dir_all(folder.path().join(PARAMETER)).unwrap();
        let error = refused(&folder);
        let named =
            matches!(&error, Error::Folder(FolderError::Missing(path)) if path.starts_with(PARAMETER));
        assert!(named, "{name}: {error}");
        // Another parameter's, cut off, and one that no model has.
        let folder = copy(name);
        let file = folder.path().join(PARAMETER).join("fp32.pt");
        let bytes = fs::read(&file).unwrap();
        fs::copy(folder.path().join("global_step2_universal/zero/first.bias/fp32.pt"), &file).unwrap();
        assert!(matches!(refused(&folder), Error::Folder(FolderError::Part { .. })), "{name}");
        fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();
        assert!(open(folder.path()).is_err(), "{name}");
        fs::write(&file, &bytes).unwrap();
        let stranger = folder.path().join("global_step2_universal/zero/stranger");
        fs::create_dir(&stranger).unwrap();
        fs::write(stranger.join("fp32.pt"), &bytes).unwrap();
        assert_eq!(open(folder.path()).unwrap().strays.len(), 1, "{name}");
    }
    let folder = copy("deepspeed/universal_stage1");
    let states =
        |rank: u8| folder.path().join(format!("global_step2_universal/mp_rank_0{rank}_model_states.pt"));
    fs::copy(states(0), states(1)).unwrap();
    assert!(matches!(refused(&folder), Error::Unsupported(_)));
    fs::remove_file(states(0)).unwrap();
    fs::remove_file(states(1)).unwrap();
    assert!(open(&folder.path().join("global_step2_universal")).is_err());
}
