//! Which files of a folder are those of the ranks of one checkpoint, by their names.
//!
//! ```text
//! model_rank_0.pt, rank0.pt, ep1-ba20-rank3.pt                  whatever a script calls them
//! pytorch_model_fsdp_rank0.bin, pytorch_model_fsdp_1_rank0.bin  Accelerate, LOCAL_STATE_DICT
//! model_world_size_8_rank_0.pt, optim_world_size_8_rank_0.pt    verl
//! model_rank_0_of_8.pt, rank_0/model.pt                         and their like
//! ```

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use super::super::folder::{Folder, FolderError};

/// Files that differ in the number of their rank alone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    /// What they are called, with a star in the place of the number.
    pub(super) pattern: Box<str>,
    /// The files by their rank; those of one rank that is written in two ways stand side by side.
    pub(super) files: BTreeMap<u64, Vec<Box<str>>>,
    /// How many there have to be, where their names say so.
    pub(super) world: Option<u64>,
}

/// Every set of a folder.
pub(super) fn sets(folder: &Folder) -> Vec<Set> {
    let mut sets: BTreeMap<Box<str>, Set> = BTreeMap::new();
    for path in folder.files() {
        let Some((pattern, rank, world)) = parse(path) else { continue };
        let set = sets.entry(pattern.clone()).or_default();
        set.pattern = pattern;
        set.files.entry(rank).or_default().push(path.into());
        set.world = world;
    }
    sets.into_values().collect()
}

/// The name without its number, the number, and how many ranks there are.
fn parse(path: &str) -> Option<(Box<str>, u64, Option<u64>)> {
    static RANK: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let words = "rank|shard|local[-_.]?model|part";
        Regex::new(&format!(r"^(?i:(.*(?:{words})[-_.]?)(\d+)(?:([-_.]?of[-_.]?)(\d+))?(\D.*|))$")).ok()
    });
    static WORLD: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?i)world[-_.]?size[-_.]?(\d+)").ok());
    let found = RANK.as_ref()?.captures(path)?;
    let (before, after) = (found.get(1)?.as_str(), found.get(5)?.as_str());
    // Further folders are those of other checkpoints.
    if before.matches('/').count().saturating_add(after.matches('/').count()) > 1 {
        return None;
    }
    let of = found.get(3).map_or("", |of| of.as_str());
    let world = found.get(4).or_else(|| WORLD.as_ref()?.captures(path)?.get(1));
    let size = found.get(4).map_or("", |size| size.as_str());
    let rank = found.get(2)?.as_str().parse().ok()?;
    Some((format!("{before}*{of}{size}{after}").into(), rank, world.and_then(|n| n.as_str().parse().ok())))
}

impl Set {
    /// Every file in the order of the ranks, of which none is missing between the first and the last, or up to the number
    /// that the names say.
    pub(super) fn complete(&self) -> Result<Vec<&str>, FolderError> {
        for (rank, files) in &self.files {
            if let [first, second, ..] = files.as_slice() {
                let (first, second) = (first.clone(), second.clone());
                return Err(FolderError::SameRank { first, second, rank: Box::new([*rank]) });
            }
        }
        // Some count from 1.
        let first = self.files.keys().next().copied().unwrap_or(0).min(1);
        let highest = self.files.keys().next_back().copied().unwrap_or(0);
        let end = self.world.map_or(highest, |world| world.saturating_sub(1).saturating_add(first));
        let missing = (first..=end.max(highest)).find(|rank| !self.files.contains_key(rank));
        if let Some(rank) = missing {
            return Err(FolderError::Missing(self.pattern.replacen('*', &rank.to_string(), 1).into()));
        }
        let found = crate::bytes::length(self.files.len());
        match self.world {
            Some(expected) if found > expected => {
                Err(FolderError::World { pattern: self.pattern.clone(), expected, found })
            }
            _ => Ok(self.files().collect()),
        }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.values().flatten().map(|file| &**file)
    }

    /// Whether its files are the state of an optimizer, or what else a run needs to go on.
    pub(super) fn is_of_run(&self) -> bool {
        let name = self.pattern.to_ascii_lowercase();
        ["optim", "scheduler", "rng", "random", "extra_state", "sampler"]
            .iter()
            .any(|word| name.contains(word))
    }

    /// What its tensors stand below, where a folder has several sets.
    pub(super) fn key(&self) -> Box<str> {
        static WORDS: LazyLock<Option<Regex>> = LazyLock::new(|| {
            Regex::new(r"(?i)[-_./]*(world[-_.]?size[-_.]?\d+[-_.]?)?(rank|shard|part)[-_./]*$").ok()
        });
        let name = self.pattern.split('*').next().unwrap_or_default();
        let bare = WORDS.as_ref().map_or(name.into(), |words| words.replace(name, ""));
        if bare.is_empty() { self.pattern.clone() } else { (&*bare).into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_rank_is_found_in_the_names_that_programs_give() {
        for (name, pattern, rank, world) in [
            ("model_rank_3.pt", "model_rank_*.pt", 3, None),
            ("rank0.pt", "rank*.pt", 0, None),
            ("ep1-ba20-rank3.pt", "ep1-ba20-rank*.pt", 3, None),
            ("pytorch_model_fsdp_1_rank0.bin", "pytorch_model_fsdp_1_rank*.bin", 0, None),
            ("model_world_size_8_rank_7.pt", "model_world_size_8_rank_*.pt", 7, Some(8)),
            ("model_rank_1_of_8.pt", "model_rank_*_of_8.pt", 1, Some(8)),
            ("rank_2/model.pt", "rank_*/model.pt", 2, None),
            ("local_model_5", "local_model_*", 5, None),
        ] {
            assert_eq!(parse(name), Some((pattern.into(), rank, world)), "{name}");
        }
        for name in ["model.pt", "franklin.pt", "step3.pt", "a/b/rank0.pt", "rank99999999999999999999.pt"] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn several_sets_are_told_apart_by_what_is_before_the_rank() {
        let key = |pattern: &str| Set { pattern: pattern.into(), ..Set::default() }.key().into_string();
        assert_eq!(key("model_world_size_2_rank_*.pt"), "model");
        assert_eq!(key("pytorch_model_fsdp_1_rank*.bin"), "pytorch_model_fsdp_1");
        assert_eq!(key("rank*.pt"), "rank*.pt");
    }
}
