//! Which files of a folder are those of the ranks of one checkpoint, by their names.
//!
//! ```text
//! model_rank_0.pt, rank0.pt, ep1-ba20-rank3.pt                  whatever a script calls them
//! pytorch_model_fsdp_rank0.bin, pytorch_model_fsdp_1_rank0.bin  Accelerate, LOCAL_STATE_DICT
//! model_world_size_8_rank_0.pt, optim_world_size_8_rank_0.pt    verl
//! model_rank_0_of_8.pt, rank_0/model.pt                         and their like
//! ```

use std::collections::{BTreeMap, HashSet};
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
    // Files of a folder below are a checkpoint of their own, except where each rank has a folder.
    if before.contains('/') || after.matches('/').count() > 1 {
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
        /// Whole words, since a model may be an `upsampler`, and `random_features` are weights.
        const WORDS: [&str; 12] = [
            "_optim_",
            "_optims_",
            "_optimizer_",
            "_optimizers_",
            "_scheduler_",
            "_schedulers_",
            "_rng_",
            "_rngs_",
            "_random_state_",
            "_random_states_",
            "_extra_state_",
            "_sampler_",
        ];
        let name = self.pattern.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let words = name.split(|c: char| matches!(c, '-' | '_' | '.' | '*') || c.is_ascii_digit());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        let name = format!("_{}_", words.join("_"));
        WORDS.iter().any(|word| name.contains(word))
    }

    /// What its model is called, where a folder has several sets: its name without the number of the rank.
    fn key(&self) -> String {
        static WORDS: LazyLock<Option<Regex>> = LazyLock::new(|| {
            Regex::new(r"(?i)[-_./]*(world[-_.]?size[-_.]?\d+[-_.]?)?(rank|shard|part)[-_./]*$").ok()
        });
        let (before, after) = self.pattern.split_once('*').unwrap_or((&self.pattern, ""));
        let bare = WORDS.as_ref().map_or(before.into(), |words| words.replace(before, ""));
        let after = after.rsplit_once('.').map_or(after, |(stem, _)| stem);
        let name = format!("{bare}{}", after.replace('/', "_"));
        name.trim_matches(|c| matches!(c, '-' | '_' | '.')).to_owned()
    }
}

/// What the models of sets are called. No two have the same name.
pub(super) fn models(sets: &[Set]) -> Vec<Box<str>> {
    if let [_] = sets {
        return vec!["model".into()];
    }
    let mut known = HashSet::new();
    let name = |set: &Set| {
        let key = set.key();
        let key = if key.is_empty() { "model".to_owned() } else { key };
        // Patterns that differ in their folders or the ends of their names alone.
        let further = (2..).map(|number: u64| format!("{key}_{number}"));
        let mut names = std::iter::once(key.clone()).chain(further);
        let name = names.find(|name| known.insert(name.to_lowercase())).unwrap_or_default();
        name.into()
    };
    sets.iter().map(name).collect()
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
        for name in [
            "model.pt",
            "franklin.pt",
            "step3.pt",
            "a/rank0.pt",
            "a/b/rank0.pt",
            "rank99999999999999999999.pt",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn several_sets_are_told_apart_by_what_is_around_the_rank() {
        let names = |patterns: &[&str]| {
            let set = |pattern: &&str| Set { pattern: (*pattern).into(), ..Set::default() };
            models(&patterns.iter().map(set).collect::<Vec<_>>())
        };
        let several = names(&[
            "model_world_size_2_rank_*.pt",
            "model_rank_*_ema.pt",
            "pytorch_model_fsdp_1_rank*.bin",
            "rank*.pt",
            "rank*.bin",
            "rank_*/ema.pt",
        ]);
        let expected = ["model", "model_ema", "pytorch_model_fsdp_1", "model_2", "model_3", "ema"];
        assert_eq!(several.iter().map(|name| &**name).collect::<Vec<_>>(), expected);
        assert_eq!(names(&["ep1-rank*.pt"]), ["model".into()]);
    }

    #[test]
    fn what_a_run_needs_is_told_by_whole_words_of_the_name() {
        let is_of_run = |pattern: &str| Set { pattern: pattern.into(), ..Set::default() }.is_of_run();
        for name in [
            "optim_world_size_2_rank_*.pt",
            "lr_scheduler_rank*.pt",
            "random_states_rank*.pt",
            "rank_*/optimizer.pt",
        ] {
            assert!(is_of_run(name), "{name}");
        }
        for name in
            ["upsampler_rank_*.pt", "resampler_rank*.pt", "random_features_rank_*.pt", "optimus_rank*.pt"]
        {
            assert!(!is_of_run(name), "{name}");
        }
    }
}
