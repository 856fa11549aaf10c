//! Files of ranks that are not all there, are of other checkpoints, or lie: each is an error that says what is wrong, before
//! anything is written.

use std::fs;

use depickle::checkpoint::{Error, FolderError, OpenOptions};
use depickle::rebuild;
use depickle::tensor::TilingError;
use tempfile::TempDir;

use crate::asm::Op::{NewFalse, PyNone};
use crate::asm::*;
use crate::cli::depickle;
use crate::distributed::{open, read};
use crate::distributed_attacks::{copy, refused};
use crate::zips::{Zip, torch_entries};

/// What a rank says of a `DTensor` of floats, and has of it: the numbers from its position on.
#[derive(Clone)]
struct Rank {
    size: Vec<i64>,
    local: Vec<i64>,
    mesh: Vec<i64>,
    at: Vec<i64>,
    placements: Vec<Part>,
    /// Whether the mesh is told by its layout (torch 2.9), and not by a tensor of its ranks.
    layout: bool,
}

fn placement(name: &str, state: &[(&str, Part)]) -> Part {
    new_object("torch.distributed.tensor.placement_types", name, &dict(state))
}

fn shard(dim: i64) -> Part {
    placement("Shard", &[("dim", int(dim))])
}

/// Rank `at` of two of a tensor of four rows.
fn rows(at: i64) -> Rank {
    Rank {
        size: vec![4, 2],
        local: vec![2, 2],
        mesh: vec![2],
        at: vec![at],
        placements: vec![shard(0)],
        layout: false,
    }
}

fn local(shape: &[i64]) -> Part {
    let count = shape.iter().product::<i64>();
    let strides: Vec<i64> = (0..shape.len()).map(|d| shape[d + 1..].iter().product()).collect();
    tensor_of(&storage("FloatStorage", "0", count), 0, shape, &strides)
}

/// A wrapper around what a rank has.
fn wrapped(class: &Part, size: &[i64], state: Part) -> Part {
    let strides = vec![1; size.len()];
    let layout = reduce("torch.serialization", "_get_layout", &[text("torch.strided")]);
    let args = [class.clone(), global("torch", "float32"), ints(size), ints(&strides), int(0), layout];
    let function = global("torch._utils", "_rebuild_wrapper_subclass");
    reduce("torch._tensor", "_rebuild_from_type_v2", &[function, class.clone(), tuple(&args), state])
}

impl Rank {
    fn part(&self) -> Part {
        let layout = dict(&[("shape", ints(&self.mesh)), ("stride", ints(&self.mesh))]);
        let (key, ranks) = if self.layout {
            ("_layout", new_object("torch.distributed._mesh_layout", "_MeshLayout", &layout))
        } else {
            let count = self.mesh.iter().product();
            ("mesh", tensor_of(&storage("IntStorage", "1", count), 0, &self.mesh, &vec![1; self.mesh.len()]))
        };
        let mesh = dict(&[(key, ranks), ("_coordinate_on_dim", ints(&self.at))]);
        let mesh = new_object("torch.distributed.device_mesh", "DeviceMesh", &mesh);
        let spec = dict(&[("mesh", mesh), ("placements", tuple(&self.placements))]);
        let spec = new_object("torch.distributed.tensor._dtensor_spec", "DTensorSpec", &spec);
        let state = dict(&[("_local_tensor", local(&self.local)), ("_spec", spec)]);
        wrapped(&global("torch.distributed.tensor", "DTensor"), &self.size, state)
    }

    fn bytes(&self) -> Vec<(&'static str, Vec<u8>)> {
        let ranks = if self.layout { 0 } else { self.mesh.iter().product::<i64>() };
        vec![("0", floats(self.local.iter().product())), ("1", vec![0; ranks as usize * 4])]
    }
}

fn floats(count: i64) -> Vec<u8> {
    (0..count).flat_map(|i| f32::from(i16::try_from(i).unwrap()).to_le_bytes()).collect()
}

fn write(folder: &TempDir, name: &str, object: &Part, storages: &[(&str, Vec<u8>)]) {
    let archive = Zip::of(torch_entries(&pickle(object), storages));
    fs::write(folder.path().join(name), archive.bytes()).unwrap();
}

/// A folder of a file for each rank.
fn folder(ranks: &[Rank]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (i, rank) in ranks.iter().enumerate() {
        write(&folder, &format!("model_rank_{i}.pt"), &dict(&[("w", rank.part())]), &rank.bytes());
    }
    folder
}

/// What the files of these ranks are refused for.
fn error(ranks: &[Rank]) -> Error {
    refused(&folder(ranks))
}

#[test]
fn what_two_ranks_have_of_a_tensor_is_put_together() {
    for layout in [false, true] {
        let rows = |at: i64| Rank { layout, ..rows(at) };
        let whole = read(&open(folder(&[rows(0), rows(1)]).path()).unwrap());
        assert_eq!(whole["w"].1, [4, 2]);
    }
    // A single file is one rank of as many as its mesh has.
    assert!(matches!(error(&[rows(0)]), Error::Folder(FolderError::NoRank { rank, .. }) if *rank == [1]));
}

#[test]
fn a_file_of_a_rank_that_is_not_there_is_named() {
    let folder = copy("ranks/dtensor");
    fs::remove_file(folder.path().join("model_rank_2.pt")).unwrap();
    let error = refused(&folder);
    assert!(
        matches!(&error, Error::Folder(FolderError::Missing(name)) if &**name == "model_rank_2.pt"),
        "{error}"
    );
    // The last one is missed by what the others say of the mesh, or by what the names say.
    let folder = copy("ranks/dtensor");
    fs::remove_file(folder.path().join("model_rank_3.pt")).unwrap();
    let error = refused(&folder);
    assert!(matches!(&error, Error::Folder(FolderError::NoRank { rank, .. }) if **rank == [3]), "{error}");
    let folder = copy("ranks/strided");
    fs::remove_file(folder.path().join("model_rank_3_of_4.pt")).unwrap();
    assert!(matches!(refused(&folder), Error::Folder(FolderError::Missing(_))));
    let folder = copy("ranks/sharded");
    fs::remove_file(folder.path().join("ep1-ba20-rank1.pt")).unwrap();
    assert!(matches!(refused(&folder), Error::Folder(FolderError::NoRank { .. })));
}

#[test]
fn a_file_in_the_place_of_another_is_refused_and_both_are_named() {
    for (name, from, to) in [
        ("ranks/dtensor", "model_rank_1.pt", "model_rank_2.pt"),
        ("ranks/dtensor", "model_rank_0.pt", "model_rank_4.pt"),
        ("ranks/sharded", "ep1-ba20-rank0.pt", "ep1-ba20-rank1.pt"),
        ("ranks/sharded", "ep1-ba20-rank0.pt", "ep1-ba20-rank2.pt"),
    ] {
        let folder = copy(name);
        fs::copy(folder.path().join(from), folder.path().join(to)).unwrap();
        let error = refused(&folder);
        let named = matches!(&error, Error::Folder(FolderError::SameRank { first, second, .. }) if &**first == from && &**second == to);
        let missed = matches!(&error, Error::Folder(FolderError::NoRank { .. }));
        assert!(named || missed, "{name} {from} as {to}: {error}");
    }
    // The number of one rank, written in two ways.
    let folder = copy("ranks/dtensor");
    fs::copy(folder.path().join("model_rank_1.pt"), folder.path().join("model_rank_01.pt")).unwrap();
    assert!(matches!(refused(&folder), Error::Folder(FolderError::SameRank { .. })));
    // More than the names say that there are.
    let folder = copy("ranks/strided");
    fs::copy(folder.path().join("model_rank_0_of_4.pt"), folder.path().join("model_rank_4_of_4.pt")).unwrap();
    assert!(matches!(refused(&folder), Error::Folder(FolderError::World { expected: 4, found: 5, .. })));
}

#[test]
fn a_file_that_is_cut_off_is_refused() {
    let folder = copy("ranks/dtensor");
    let file = folder.path().join("model_rank_1.pt");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();
    assert!(open(folder.path()).is_err());
}

#[test]
fn a_file_of_another_save_is_refused() {
    let other = |change: fn(&mut Rank)| {
        let mut rank = rows(1);
        change(&mut rank);
        error(&[rows(0), rank])
    };
    let differs = |error: Error| matches!(error, Error::Folder(FolderError::Differ { .. }));
    assert!(matches!(other(|rank| rank.size = vec![4, 3]), Error::Folder(FolderError::Part { .. })));
    assert!(differs(other(|rank| (rank.size, rank.local) = (vec![6, 2], vec![3, 2]))));
    assert!(differs(other(|rank| (rank.mesh, rank.local) = (vec![4], vec![1, 2]))));
    // The same tensors of another step, of which nothing else tells.
    let steps = folder(&[rows(0), rows(1)]);
    for (rank, step) in [(0, 100), (1, 200)] {
        let state = dict(&[("w", rows(rank).part()), ("global_step", int(step))]);
        write(&steps, &format!("model_rank_{rank}.pt"), &state, &rows(rank).bytes());
    }
    assert!(
        matches!(refused(&steps), Error::Folder(FolderError::Differ { name, .. }) if &*name == "global_step")
    );
    // A tensor of a mesh by one, and a whole one by the other.
    let folder = folder(&[rows(0), rows(1)]);
    write(&folder, "model_rank_1.pt", &dict(&[("w", local(&[4, 2]))]), &[("0", floats(8))]);
    assert!(matches!(refused(&folder), Error::Folder(FolderError::Ranks { .. })));
}

#[test]
fn parts_that_overlap_or_leave_holes_are_refused() {
    let overlap =
        |at: i64| Rank { placements: vec![placement("Replicate", &[])], local: vec![4, 2], ..rows(at) };
    // Both ranks have all of it, which is the same data here.
    assert!(open(folder(&[overlap(0), overlap(1)]).path()).is_ok());
    let tiling = |error: Error| match error {
        Error::Folder(FolderError::Tiling { error, .. }) => error,
        error => panic!("{error}"),
    };
    // One says that it has all, the other half of it.
    assert!(matches!(tiling(error(&[overlap(0), rows(1)])), TilingError::Overlap { .. }));
    let hole = |at: i64| Rank { size: vec![4, 2], local: vec![2, 2], placements: vec![shard(0)], ..rows(at) };
    let columns = Rank { placements: vec![shard(1)], local: vec![4, 1], ..rows(1) };
    assert!(matches!(
        tiling(error(&[hole(0), columns])),
        TilingError::Overlap { .. } | TilingError::Hole { .. }
    ));
}

#[test]
fn a_local_part_of_another_shape_is_refused() {
    for lie in [vec![1, 2], vec![4, 1], vec![2, 1], vec![4]] {
        let part = error(&[Rank { local: lie.clone(), ..rows(0) }, rows(1)]);
        assert!(matches!(part, Error::Folder(FolderError::Part { .. })), "{lie:?}: {part}");
    }
}

#[test]
fn sizes_that_are_negative_or_huge_are_refused() {
    for size in [vec![-4, 2], vec![i64::MAX, i64::MAX], vec![i64::MAX, 2], vec![]] {
        assert!(open(folder(&[Rank { size: size.clone(), ..rows(0) }, rows(1)]).path()).is_err(), "{size:?}");
    }
    for mesh in [vec![i64::MAX], vec![-2], vec![0], vec![], vec![2, 1 << 40]] {
        let lie = |at: i64| Rank { mesh: mesh.clone(), layout: true, ..rows(at) };
        assert!(open(folder(&[lie(0), lie(1)]).path()).is_err(), "{mesh:?}");
    }
    for at in [vec![-1], vec![2], vec![i64::MAX], vec![0, 0], vec![]] {
        assert!(open(folder(&[Rank { at: at.clone(), ..rows(0) }, rows(1)]).path()).is_err(), "{at:?}");
    }
    for dim in [-1, 2, i64::MAX] {
        let lie = Rank { placements: vec![shard(dim)], ..rows(0) };
        assert!(matches!(error(&[lie, rows(1)]), Error::Folder(FolderError::Lacks { .. })), "{dim}");
    }
}

#[test]
fn placements_that_cannot_be_put_together_are_refused_by_name() {
    for name in ["Partial", "_MaskPartial", "_NormPartial", "MyPlacement"] {
        let lie = |at: i64| Rank { placements: vec![placement(name, &[("dim", int(0))])], ..rows(at) };
        assert!(matches!(error(&[lie(0), lie(1)]), Error::Unsupported(_)), "{name}");
    }
    let factor = |factor: i64| {
        let strided = placement("_StridedShard", &[("dim", int(0)), ("split_factor", int(factor))]);
        Rank { placements: vec![strided], size: vec![1 << 40], local: vec![2], ..rows(0) }
    };
    assert!(matches!(error(&[factor(1 << 39), rows(1)]), Error::Unsupported(_)));
    assert!(matches!(error(&[factor(-1), rows(1)]), Error::Folder(FolderError::Lacks { .. })));
}

/// Files of two ranks by each of these names, with the rank in the place of the star.
fn named(patterns: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for pattern in patterns {
        for rank in 0..2 {
            let name = pattern.replace('*', &rank.to_string());
            fs::create_dir_all(folder.path().join(&name).parent().unwrap()).unwrap();
            write(&folder, &name, &dict(&[("w", rows(rank).part())]), &rows(rank).bytes());
        }
    }
    folder
}

/// The models of a folder, and what is left out of it.
fn models(folder: &TempDir) -> (Vec<String>, Vec<(String, String)>) {
    let opened = depickle::folder::open(folder.path(), &OpenOptions::default(), &mut |_, _| Ok(())).unwrap();
    (opened.models.into_iter().map(|model| model.set.stem).collect(), opened.left_out)
}

#[test]
fn a_factor_that_only_takes_time_is_refused() {
    let strided = placement("_StridedShard", &[("dim", int(0)), ("split_factor", int(1 << 34))]);
    let lie =
        Rank { placements: vec![strided], size: vec![1 << 40], local: vec![2], mesh: vec![1], ..rows(0) };
    assert!(matches!(error(&[lie]), Error::Unsupported(_)));
}

#[test]
fn pieces_are_counted_over_all_tensors() {
    let strided = placement("_StridedShard", &[("dim", int(0)), ("split_factor", int(1000))]);
    let lie = Rank { placements: vec![strided], size: vec![2000], local: vec![1000], ..rows(0) };
    let names: Vec<String> = (0..1_100).map(|i| format!("w{i}")).collect();
    let all: Vec<(&str, Part)> = names.iter().map(|name| (name.as_str(), lie.part())).collect();
    let folder = TempDir::new().unwrap();
    write(&folder, "rank0.pt", &dict(&all), &lie.bytes());
    assert!(refused(&folder).to_string().contains("in thousands of pieces"));
}

#[test]
fn each_set_of_files_is_a_model_of_its_own() {
    for (patterns, expected) in [
        (["model_rank_*_step100.pt", "model_rank_*_step200.pt"], ["model_step100", "model_step200"]),
        (["ep1-ba20-rank*.pt", "ep2-ba40-rank*.pt"], ["ep1-ba20", "ep2-ba40"]),
        (["upsampler_rank_*.pt", "model_rank_*_ema.pt"], ["model_ema", "upsampler"]),
    ] {
        assert_eq!(models(&named(&patterns)).0, expected);
    }
}

#[test]
fn files_beside_those_of_ranks_are_not_said_to_hold_nothing() {
    let folder = named(&["rank*.pt"]);
    for name in ["head.pt", "notes.log"] {
        write(&folder, name, &dict(&[("b", local(&[2]))]), &[("0", floats(2))]);
    }
    let (found, left_out) = models(&folder);
    assert_eq!(found, ["model"]);
    let head = left_out.iter().find(|(name, _)| name == "head.pt").unwrap();
    assert!(head.1.contains("convert it by itself"), "{left_out:?}");
    let out = TempDir::new().unwrap();
    let converted = depickle(out.path(), &["convert", folder.path().to_str().unwrap(), "-o", "out"]);
    assert!(converted.err.contains("NOT CONVERTED: 1 file (head.pt)"), "{converted:?}");
    // Checkpoints in folders of their own are not one.
    let folder = named(&["exp1/rank*.pt", "exp2/rank*.pt"]);
    assert!(!depickle::folder::is_checkpoint(folder.path()));
    assert!(depickle::folder::is_checkpoint(&folder.path().join("exp1")));
}

#[test]
fn copies_that_are_not_the_same_are_refused_and_both_files_named() {
    let folder = folder(&[rows(0), rows(1)]);
    for (rank, value) in [(0, 1.0_f32), (1, 2.0)] {
        let plain = tensor_of(&storage("FloatStorage", "2", 1), 0, &[1], &[1]);
        let mut storages = rows(rank).bytes();
        storages.push(("2", value.to_le_bytes().to_vec()));
        write(
            &folder,
            &format!("model_rank_{rank}.pt"),
            &dict(&[("w", rows(rank).part()), ("b", plain)]),
            &storages,
        );
    }
    let out = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let converted = depickle(out.path(), &["convert", path, "-o", "out"]);
    assert_eq!(converted.code, 3, "{converted:?}");
    for part in ["\"b\": its data is not the same", "--exclude goes on", "model_rank_0.pt", "model_rank_1.pt"]
    {
        assert!(converted.err.contains(part), "{converted:?}");
    }
    assert!(!out.path().join("out").exists());
    // What is not taken is not compared.
    let without = depickle(out.path(), &["convert", path, "-o", "out", "--exclude", "b"]);
    assert_eq!(without.code, 0, "{without:?}");
}

/// What a rank says of a `ShardedTensor`.
fn sharded(size: i64, parts: &[(i64, i64)], mine: &[usize], (rank, world): (i64, i64)) -> Part {
    const METADATA: &str = "torch.distributed._shard.sharded_tensor.metadata";
    const SHARD: &str = "torch.distributed._shard.sharded_tensor.shard";
    let metadata = |(start, len): (i64, i64)| {
        let state = dict(&[("shard_offsets", list(&[int(start)])), ("shard_sizes", list(&[int(len)]))]);
        new_object("torch.distributed._shard.metadata", "ShardMetadata", &state)
    };
    let shards: Vec<Part> = mine
        .iter()
        .map(|i| {
            let tensor = local(&[parts[*i].1.clamp(0, 4)]);
            new_object(SHARD, "Shard", &dict(&[("tensor", tensor), ("metadata", metadata(parts[*i]))]))
        })
        .collect();
    let all: Vec<Part> = parts.iter().map(|part| metadata(*part)).collect();
    let whole = dict(&[("shards_metadata", list(&all)), ("size", ints(&[size]))]);
    let whole = new_object(METADATA, "ShardedTensorMetadata", &whole);
    let group = dict(&[("global_rank", int(rank)), ("global_world_size", int(world))]);
    let group = new_object("my", "ProcessGroupState", &group);
    let state = tuple(&[list(&shards), whole, group, asm![PyNone], asm![NewFalse]]);
    wrapped(&global("torch.distributed._shard.sharded_tensor.api", "ShardedTensor"), &[size], state)
}

fn listed(parts: &[Part]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (i, part) in parts.iter().enumerate() {
        write(&folder, &format!("rank{i}.pt"), &dict(&[("w", part.clone())]), &[("0", floats(4))]);
    }
    folder
}

#[test]
fn shards_that_lie_about_their_place_are_refused() {
    let two = [(0, 2), (2, 2)];
    let of = |parts: [(i64, i64); 2], size: i64| {
        listed(&[sharded(size, &parts, &[0], (0, 2)), sharded(size, &parts, &[1], (1, 2))])
    };
    assert_eq!(read(&open(of(two, 4).path()).unwrap())["w"].1, [4]);
    for (lie, size) in [
        ([(0, 2), (1, 2)], 4),
        ([(0, 2), (3, 2)], 4),
        ([(0, 2), (2, 2)], 5),
        ([(0, 2), (-2, 2)], 4),
        ([(0, 2), (2, -2)], 4),
        ([(0, 2), (i64::MAX, 2)], 4),
        ([(0, 2), (2, 1)], 4),
        ([(0, 2), (0, 2)], 4),
        ([(0, 2), (2, 2)], -4),
        ([(0, 2), (2, 2)], i64::MAX),
    ] {
        assert!(open(of(lie, size).path()).is_err(), "{lie:?} of {size}");
    }
    // A part that the list of all does not have.
    let stranger = listed(&[sharded(4, &two, &[0], (0, 2)), sharded(4, &[(0, 2), (2, 2)], &[1], (0, 2))]);
    assert!(matches!(refused(&stranger), Error::Folder(FolderError::NoRank { .. })));
    let alone = listed(&[sharded(4, &two, &[0, 1], (0, 1))]);
    assert!(open(alone.path()).is_ok(), "one rank may have several shards");
    let none = listed(&[sharded(4, &two, &[0, 1], (0, 2)), sharded(4, &two, &[], (1, 2))]);
    assert!(open(none.path()).is_ok(), "and another none");
}

#[test]
fn a_file_of_one_rank_is_refused_with_what_to_do() {
    let folder = copy("ranks/dtensor");
    let converted = depickle(folder.path(), &["convert", "model_rank_1.pt"]);
    assert_eq!(converted.code, 3, "{converted:?}");
    assert!(converted.err.contains("convert the folder that holds the files of all ranks"), "{converted:?}");
    let alone = depickle::checkpoint::open(
        &(std::sync::Arc::new(fs::read(folder.path().join("model_rank_1.pt")).unwrap()) as std::sync::Arc<_>),
        &depickle::checkpoint::OpenOptions::default(),
    );
    let kind = match alone.unwrap_err() {
        Error::Rebuild { error, .. } => error.kind,
        error => panic!("{error}"),
    };
    assert!(matches!(kind, rebuild::ErrorKind::Shard));
}

#[test]
fn a_payload_in_the_file_of_any_rank_refuses_all() {
    let folder = folder(&[rows(0), rows(1)]);
    let object = dict(&[("w", rows(1).part()), ("x", reduce("os", "system", &[text("id")]))]);
    write(&folder, "model_rank_1.pt", &object, &rows(1).bytes());
    assert!(matches!(refused(&folder), Error::Refused { .. }));
    let out = TempDir::new().unwrap();
    let converted = depickle(out.path(), &["convert", folder.path().to_str().unwrap(), "-o", "out"]);
    assert_eq!((converted.code, out.path().join("out").exists()), (1, false), "{converted:?}");
}

#[test]
fn files_of_ranks_without_parts_of_tensors_are_files_of_their_own() {
    let folder = TempDir::new().unwrap();
    for rank in 0..2 {
        write(&folder, &format!("model_rank_{rank}.pt"), &dict(&[("w", local(&[2]))]), &[("0", floats(2))]);
    }
    assert!(!depickle::folder::is_checkpoint(folder.path()));
    // Of an optimizer beside a model that is whole.
    for rank in 0..2 {
        let part = dict(&[("w", rows(rank).part())]);
        write(&folder, &format!("optim_rank_{rank}.pt"), &part, &rows(rank).bytes());
    }
    assert!(!depickle::folder::is_checkpoint(folder.path()));
    for rank in 0..2 {
        fs::remove_file(folder.path().join(format!("model_rank_{rank}.pt"))).unwrap();
    }
    assert!(depickle::folder::is_checkpoint(folder.path()));
}
