//! Checkpoints of Megatron-LM and NeMo in files of ranks.
//!
//! ```text
//! latest_checkpointed_iteration.txt            the number of the last save, or `release`
//! iter_0000010/mp_rank_00/model_optim_rng.pt   of tensor-parallel rank 0
//! iter_0000010/mp_rank_00_001/model_optim_rng.pt           and pipeline rank 1
//! iter_0000010/mp_rank_00_001_002/model_optim_rng.pt       and expert rank 2
//! mp_rank_00/model_weights.ckpt, tp_rank_00_pp_rank_001/…  the same by NeMo
//! iter_0000010/.metadata, __0_0.distcp, common.pt          `torch_dist`: a distributed checkpoint of torch
//! ```
//!
//! How tensors were cut is known to the classes of the model alone, and layers of pipeline ranks begin anew at 0: each rank
//! stays a model of its own. What can be told is whether all are there, and of one save. Source:
//! `megatron/training/checkpointing.py`, `get_checkpoint_name` and `generate_state_dict`.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::LazyLock;

use regex::Regex;

use crate::container::{Archive, Format, TorchZip, detect};

use super::folder::{Folder, FolderError, Named, Plain, places, said};
use super::run::Ran;
use super::{Error, OpenOptions, Opened, zip};

const TRACKER: &str = "latest_checkpointed_iteration.txt";

/// Files of a rank that hold its weights, the first that is there.
const WEIGHTS: &[&str] = &["model_optim_rng.pt", "model_rng.pt", "model_weights.ckpt"];

/// Sizes that the arguments of a run say, in the order of the numbers in a folder's name.
const SIZES: [&str; 3] =
    ["tensor_model_parallel_size", "pipeline_model_parallel_size", "expert_model_parallel_size"];

/// Whether a folder is such a checkpoint, or holds that of the last save.
pub(super) fn is_here(folder: &Folder) -> bool {
    !ranks(folder, "").is_empty() || folder.has(TRACKER) && folder.files().any(is_in_save)
}

/// Whether a file is in the folder of a save. verl has a file of the tracker's name, too, beside folders `global_step_N`.
fn is_in_save(path: &str) -> bool {
    let folder = path.split_once('/').map_or("", |(folder, _)| folder);
    folder == "release" || folder.starts_with("iter_")
}

/// The folder of the last save, with a slash, if there is a file that names it.
///
/// # Errors
/// A name that is none, or of a folder that is not there.
pub(super) fn last_save(folder: &Folder) -> Result<Option<String>, Error> {
    if !folder.has(TRACKER) {
        return Ok(None);
    }
    let name = said(folder, TRACKER)?;
    let below = match name.parse::<u64>() {
        Ok(iteration) => format!("iter_{iteration:07}/"),
        Err(_) if name == "release" => "release/".to_owned(),
        Err(_) => String::new(),
    };
    let is_there = !below.is_empty() && folder.files().any(|path| path.starts_with(&below));
    if is_there {
        Ok(Some(below))
    } else {
        Err(FolderError::Tag { file: TRACKER.into(), name: name.into() }.into())
    }
}

/// The folders of ranks below a folder, and the file in each that holds its weights.
fn ranks<'a>(folder: &'a Folder, below: &str) -> BTreeMap<&'a str, &'a str> {
    let mut ranks: BTreeMap<&str, &str> = BTreeMap::new();
    for path in folder.files() {
        let Some((rank, file)) = path.strip_prefix(below).and_then(|path| path.split_once('/')) else {
            continue;
        };
        if numbers(rank).is_none() || file.contains('/') {
            continue;
        }
        let preference = |file: &str| WEIGHTS.iter().position(|name| *name == file);
        let is_weights =
            preference(file).is_some() || file.rsplit_once('.').is_some_and(|(_, end)| end == "ckpt");
        let known = ranks.get(rank).and_then(|path| path.rsplit('/').next());
        let better = known.is_none_or(|known| match (preference(file), preference(known)) {
            (Some(new), Some(old)) => new < old,
            (new, old) => new.is_some() && old.is_none(),
        });
        if is_weights && better {
            ranks.insert(rank, path);
        }
    }
    ranks
}

/// Whether a folder goes by the name of a rank, or a file that it became.
pub(crate) fn is_name_of_rank(name: &str) -> bool {
    numbers(name).is_some()
}

/// The numbers in the name of a rank's folder.
fn numbers(name: &str) -> Option<Box<[u64]>> {
    static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"^(?:mp_rank_(\d{2,})(?:_(\d{3,}))?(?:_(\d{3,}))?|tp_rank_(\d{2,})_pp_rank_(\d{3,}))$")
            .ok()
    });
    let found = NAME.as_ref()?.captures(name)?;
    found.iter().skip(1).flatten().map(|number| number.as_str().parse().ok()).collect()
}

/// Opens every rank of the last save, each by itself.
///
/// # Errors
/// Ranks that are missing, doubled, or of another save.
pub(super) fn open(folder: &Folder, options: &OpenOptions) -> Result<Vec<Named>, Error> {
    let below =
        if ranks(folder, "").is_empty() { last_save(folder)?.unwrap_or_default() } else { String::new() };
    let ranks = ranks(folder, &below);
    if ranks.is_empty() {
        return Err(Error::Unsupported(
            "a Megatron checkpoint that is neither files of ranks nor torch_dist (zarr: save it again as torch_dist)",
        ));
    }
    let mut models = Vec::with_capacity(ranks.len());
    let mut facts = Vec::with_capacity(ranks.len());
    for (rank, path) in &ranks {
        let (opened, said) = open_rank(folder, path, options)
            .map_err(|error| error.inside(&path.escape_debug().to_string()))?;
        models.push(((*rank).into(), opened));
        facts.push(said);
    }
    let paths: Vec<&str> = ranks.values().copied().collect();
    check_one_save(&paths, &facts)?;
    let sizes = facts.iter().find_map(|facts| facts.sizes);
    check_complete(&ranks.keys().copied().collect::<Vec<_>>(), sizes, &below)?;
    Ok(models)
}

/// What a file says of the save that it is of.
#[derive(Debug, Default)]
struct Facts {
    /// `args.rank`: of the process that wrote it.
    rank: Option<u64>,
    sizes: Option<[u64; 3]>,
    iteration: Option<u64>,
    /// Sizes and checksums of what is in the archive, if it has any.
    contents: Option<Box<[(u64, u32)]>>,
}

impl Facts {
    fn read(ran: &Ran, archive: &Archive) -> Self {
        let plain = Plain { graph: &ran.graph };
        let number = |id| plain.number(id);
        let args = plain.get(ran.root, "args");
        let argument = |name| args.and_then(|args| plain.attribute(args, name)).and_then(number);
        // Each was added by a later version, and is 1 before.
        let [tensor, pipeline, expert] = SIZES;
        let sizes = argument(tensor)
            .map(|tensor| [tensor, argument(pipeline).unwrap_or(1), argument(expert).unwrap_or(1)]);
        let members = archive.members();
        let has_checksums = members.iter().any(|member| member.crc32 != 0);
        let contents = members.iter().map(|member| (member.size, member.crc32)).collect();
        Self {
            rank: argument("rank"),
            sizes,
            iteration: plain.get(ran.root, "iteration").and_then(number),
            contents: has_checksums.then_some(contents),
        }
    }
}

fn open_rank(folder: &Folder, path: &str, options: &OpenOptions) -> Result<(Opened, Facts), Error> {
    let source = folder.source(path)?;
    let mut archive = None;
    if detect(&*source)? == Format::Zip {
        archive = TorchZip::open(&*source, Archive::open(&*source, &options.limits)?, &options.limits)?;
    }
    let (mut opened, facts) = match archive {
        Some(torch) => {
            let (ran, opened) = zip::read(&source, &torch, options)?;
            (opened, Facts::read(&ran, torch.archive()))
        }
        // As torch wrote files before 1.6: what it says of itself is not asked.
        None => (super::open(&source, options)?, Facts::default()),
    };
    opened.name(path);
    Ok((opened, facts))
}

/// Every file says the same of the save, and each is of another process. What transformers' conversion script
/// (`checkpoint_reshaping_and_interoperability.py`) writes has the arguments of one process in every file: there what is in
/// the files tells them apart.
fn check_one_save(paths: &[&str], facts: &[Facts]) -> Result<(), FolderError> {
    let path = |at: usize| paths.get(at).map_or("".into(), |path| Box::from(*path));
    let Some(first) = facts.first() else { return Ok(()) };
    let shared = facts.iter().all(|fact| fact.rank == first.rank);
    let mut seen = HashMap::new();
    for (at, fact) in facts.iter().enumerate() {
        let differs = [("args", fact.sizes != first.sizes), ("iteration", fact.iteration != first.iteration)];
        if let Some((name, _)) = differs.into_iter().find(|(_, differs)| *differs) {
            let (first, second) = (path(0), path(at));
            return Err(FolderError::Differ { name: name.into(), what: "what the save was", first, second });
        }
        let Some(rank) = fact.rank else { continue };
        let contents = fact.contents.as_deref().filter(|_| shared);
        if shared && contents.is_none() {
            continue;
        }
        if let Some(other) = seen.insert((rank, contents), at) {
            let (first, second) = (path(other), path(at));
            return Err(FolderError::SameRank { first, second, rank: Box::new([rank]) });
        }
    }
    Ok(())
}

/// A folder for each rank that there has to be, by the arguments of the run, or else by the highest numbers in the names.
fn check_complete(names: &[&str], sizes: Option<[u64; 3]>, below: &str) -> Result<(), FolderError> {
    let found: Vec<Box<[u64]>> = names.iter().filter_map(|name| numbers(name)).collect();
    let Some(length) = found.first().map(|numbers| numbers.len()) else { return Ok(()) };
    let name = names.first().copied().unwrap_or_default();
    let highest = |at: usize| found.iter().filter_map(|numbers| numbers.get(at)).max().copied().unwrap_or(0);
    let counted: Vec<u64> = (0..length).map(|at| highest(at).saturating_add(1)).collect();
    let wanted = match sizes {
        // The second of two numbers is of an expert where there is one stage of a pipeline.
        Some([tensor, 1, expert]) if length == 2 => vec![tensor, expert],
        Some(sizes) => sizes.into_iter().take(length).collect(),
        None => counted.clone(),
    };
    let product = |sizes: &[u64]| sizes.iter().fold(1_u64, |n, size| n.saturating_mul(*size));
    if let Some(missing) = places(&wanted).find(|place| !found.contains(place)) {
        let path = format!("{below}{}", renamed(name, &missing));
        return Err(FolderError::Missing(path.into()));
    }
    let found = crate::bytes::length(found.len());
    // Names of too few numbers are of a save without pipeline or experts.
    let expected = sizes.map_or_else(|| product(&counted), |sizes| product(&sizes));
    let pattern = format!("{below}{}", name.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default());
    if found == expected {
        Ok(())
    } else {
        Err(FolderError::World { pattern: pattern.into(), expected, found })
    }
}

/// The name of a folder with other numbers, as wide as they are.
fn renamed(name: &str, numbers: &[u64]) -> String {
    let mut renamed = String::new();
    let mut numbers = numbers.iter();
    let mut rest = name;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (text, tail) = rest.split_at(at);
        let width = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let number = numbers.next().copied().unwrap_or(0);
        let _ = write!(renamed, "{text}{number:0width$}");
        rest = tail.get(width..).unwrap_or_default();
    }
    renamed + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_ranks_are_known_by_their_names() {
        assert_eq!(numbers("mp_rank_07"), Some([7].into()));
        assert_eq!(numbers("mp_rank_00_003"), Some([0, 3].into()));
        assert_eq!(numbers("mp_rank_00_003_011"), Some([0, 3, 11].into()));
        assert_eq!(numbers("tp_rank_01_pp_rank_002"), Some([1, 2].into()));
        for name in ["mp_rank_1", "mp_rank_00_x", "rank_00", "mp_rank_00_000_000_000"] {
            assert_eq!(numbers(name), None, "{name}");
        }
        assert_eq!(renamed("tp_rank_00_pp_rank_000", &[1, 12]), "tp_rank_01_pp_rank_012");
    }

    #[test]
    fn files_of_one_process_are_told_apart_by_what_is_in_them() {
        let fact = |rank, crc32| Facts {
            rank: Some(rank),
            contents: Some([(4, 7), (8, crc32)].into()),
            ..Facts::default()
        };
        let check = |facts: &[Facts]| check_one_save(&["a", "b", "c"], facts);
        assert_eq!(check(&[fact(0, 1), fact(0, 2), fact(0, 3)]), Ok(()));
        assert_eq!(check(&[fact(0, 1), fact(1, 1), fact(2, 1)]), Ok(()));
        let twice = Err(FolderError::SameRank { first: "a".into(), second: "c".into(), rank: [0].into() });
        assert_eq!(check(&[fact(0, 1), fact(0, 2), fact(0, 1)]), twice);
        assert_eq!(check(&[fact(0, 1), fact(1, 2), fact(0, 3)]), twice);
    }

    #[test]
    fn every_rank_has_to_be_there() {
        let check = |names: &[&str], sizes| check_complete(names, sizes, "iter_0000010/");
        let missing = |name: &str| Err(FolderError::Missing(format!("iter_0000010/{name}").into()));
        assert_eq!(check(&["mp_rank_00", "mp_rank_01"], Some([2, 1, 1])), Ok(()));
        assert_eq!(check(&["mp_rank_00", "mp_rank_01"], Some([4, 1, 1])), missing("mp_rank_02"));
        assert_eq!(check(&["mp_rank_00_000", "mp_rank_01_001"], None), missing("mp_rank_00_001"));
        assert_eq!(check(&["mp_rank_00_000", "mp_rank_00_001"], Some([1, 1, 2])), Ok(()));
        let fewer = check(&["mp_rank_00"], Some([1, 4, 1]));
        assert!(matches!(fewer, Err(FolderError::World { expected: 4, found: 1, .. })));
        let more = check(&["mp_rank_00", "mp_rank_01", "mp_rank_02"], Some([2, 1, 1]));
        assert!(matches!(more, Err(FolderError::World { expected: 2, found: 3, .. })));
        assert_eq!(check(&["mp_rank_00"], Some([u64::MAX, 1, 1])), missing("mp_rank_01"));
    }
}
