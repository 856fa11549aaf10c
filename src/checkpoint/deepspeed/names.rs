//! What the names of files say: which rank wrote them, and whether all did.

use super::super::Error;
use super::super::folder::FolderError;

const RANK: &str = "pp_rank_";

/// Names in the order of their numbers: rank 10 follows rank 9.
pub(super) fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(end);
        parts.push((text.to_owned(), number.parse().unwrap_or(u64::MAX)));
        rest = tail;
    }
    parts
}

/// The rank in the name of a file, and what stands before and behind it.
fn split(name: &str) -> Option<(&str, u64, &str)> {
    let at = name.find(RANK)?.saturating_add(RANK.len());
    let (before, tail) = name.split_at(at);
    let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
    let (number, after) = tail.split_at(end);
    Some((before, number.parse().ok()?, after))
}

/// Files of ranks, in the order of their numbers, are those of all ranks from 0 on and of one precision. Partitions know
/// no place but the number in the name of their file.
pub(super) fn check_all(paths: &[String]) -> Result<(), Error> {
    let named = paths.iter().filter_map(|path| split(path));
    let Some((before, _, after)) = named.clone().next() else { return Ok(()) };
    for (expected, (first, rank, last)) in (0_u64..).zip(named) {
        if (first, rank, last) != (before, expected, after) {
            return Err(FolderError::missing(&format!("{before}{expected}{after}")).into());
        }
    }
    Ok(())
}

/// Torch calls the folder in an archive after the file that it is first written to.
pub(super) fn check_own(path: &str, archive: &str) -> Result<(), Error> {
    let rank = |name| split(name).map(|(_, rank, _)| rank);
    match (rank(path), rank(archive)) {
        (Some(of_file), Some(inside)) if of_file != inside => {
            let name = archive.trim_end_matches('/').into();
            Err(FolderError::Renamed { file: path.into(), name }.into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_stand_in_the_order_of_their_numbers() {
        let mut names = ["zero_pp_rank_10_mp_rank_00", "zero_pp_rank_9_mp_rank_00", "bf16_zero_pp_rank_0"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(names, ["bf16_zero_pp_rank_0", "zero_pp_rank_9_mp_rank_00", "zero_pp_rank_10_mp_rank_00"]);
    }

    #[test]
    fn every_rank_has_its_file() {
        let check = |names: &[&str]| {
            let names: Vec<String> =
                names.iter().map(|name| format!("t/{name}_mp_rank_00_optim_states.pt")).collect();
            match check_all(&names) {
                Err(Error::Folder(FolderError::Missing(name))) => Some(name),
                other => other.map(|()| None).unwrap(),
            }
        };
        assert_eq!(check(&["zero_pp_rank_0", "zero_pp_rank_1", "zero_pp_rank_2"]), None);
        assert_eq!(check(&["other"]), None);
        let missing = |rank| Some(format!("t/{rank}_mp_rank_00_optim_states.pt").into());
        assert_eq!(check(&["zero_pp_rank_0", "zero_pp_rank_2"]), missing("zero_pp_rank_1"));
        assert_eq!(check(&["zero_pp_rank_1", "zero_pp_rank_2"]), missing("zero_pp_rank_0"));
        assert_eq!(check(&["bf16_zero_pp_rank_0", "zero_pp_rank_1"]), missing("bf16_zero_pp_rank_1"));
    }
}
