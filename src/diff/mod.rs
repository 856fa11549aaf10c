//! `diff`: two files or folders, tensor by tensor, whatever their formats.
//!
//! Tensors are the same where element type, shape and the digest of their contiguous row-major little-endian bytes are.
//! Both sides are streamed through fixed buffers; of changed floats it is told how far apart they are.

mod compare;
mod document;
mod folder;
mod side;
mod values;

use std::collections::HashMap;
use std::path::Path;

use crate::bytes::length;
use crate::checkpoint::OpenOptions;
use crate::error::{Class, Error};
use crate::output::{self, in_parallel};
use crate::plan::{self, Filter, Misuse, NameRule};
use crate::progress::Progress;
use crate::report::Diff;
use crate::tensor::View;

use self::compare::{Compared, Comparer, Placed, Which};
use self::document::document;
use self::side::{Held, Side};

/// How to compare.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How to open pickles.
    pub open: OpenOptions,
    /// Place whose tensors are taken of the left and of the right; of a side without one, the source decides.
    pub roots: (Option<String>, Option<String>),
    /// Every tensor of a pickle under its full path.
    pub all: bool,
    /// Changes of names, on both sides.
    pub names: Vec<NameRule>,
    /// Patterns of names, after these changes; empty for all.
    pub include: Vec<String>,
    /// Patterns of names that are passed over.
    pub exclude: Vec<String>,
    /// Threads; `None` for one a core.
    pub jobs: Option<usize>,
}

impl Options {
    fn jobs(&self) -> usize {
        self.jobs.unwrap_or(output::WriteOptions::default().jobs).clamp(1, output::MOST_JOBS)
    }
}

/// Why two sides cannot be compared. That they differ is no error but a [`Diff`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// A file cannot be opened or read.
    #[error(transparent)]
    Open(#[from] Error),
    /// A side without tensors.
    #[error("{path}: no weights")]
    NoWeights {
        /// What was named.
        path: String,
    },
    /// A folder with more than one candidate.
    #[error("{path}: holds {first:?} and {second:?}, among others; name one")]
    Several {
        /// The folder.
        path: String,
        /// One.
        first: String,
        /// Another.
        second: String,
    },
    /// Two files of a folder with a tensor of one name.
    #[error("{path}: {name:?} is in {first:?} and in {second:?}; name one of them")]
    Doubled {
        /// The folder.
        path: String,
        /// The tensor.
        name: String,
        /// One file.
        first: String,
        /// The other.
        second: String,
    },
    /// An index that places a tensor in a file that does not have it.
    #[error("{path}: says that {name:?} is in {file:?}, which does not hold it")]
    NotInShard {
        /// The index.
        path: String,
        /// The tensor.
        name: String,
        /// The file.
        file: String,
    },
    /// Options that do not fit.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// A place was asked for where there are none to choose from.
    #[error("--root and --all choose places of a pickle, and neither side is one")]
    NoPlaces,
}

impl DiffError {
    /// What the caller can do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Open(error) => error.class(),
            Self::Misuse(_) | Self::NoPlaces | Self::Several { .. } => Class::Misuse,
            _ => Class::Malformed,
        }
    }
}

/// What was found, and what should be said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Compare {
    /// The document.
    pub diff: Diff,
    /// Which places were taken.
    pub notes: Vec<String>,
}

/// Compares two files or folders.
///
/// # Errors
/// Where one of them cannot be read, or the options do not fit.
pub fn diff(
    left: &Path,
    right: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Compare, DiffError> {
    let mut left = Side::open(left, options.roots.0.as_deref(), options)?;
    let mut right = Side::open(right, options.roots.1.as_deref(), options)?;
    let asks = options.all || options.roots.0.is_some() || options.roots.1.is_some();
    if asks && !left.has_places() && !right.has_places() {
        return Err(DiffError::NoPlaces);
    }
    plan::rename_both(&options.names, &mut left.names, &mut right.names)?;
    let mut filter = Filter::new(&options.include, &options.exclude)?;
    left.retain(|name| filter.keeps(name));
    right.retain(|name| filter.keeps(name));
    filter.check()?;
    let names = pairs(&left, &right)?;
    let label = format!("{} {}", left.path.display(), right.path.display());
    let bytes = left.tensors.iter().chain(&right.tensors).map(Held::nbytes);
    progress.begin(&label, bytes.fold(0, u64::saturating_add));
    let compared = compare_all(&left, &right, &names, options.jobs(), progress);
    progress.finish();
    let compared = compared?;
    left.check_unchanged()?;
    right.check_unchanged()?;
    let notes = left.notes.iter().chain(&right.notes).cloned().collect();
    Ok(Compare { diff: document(&left, &right, &names, &compared), notes })
}

/// The positions of a name on the left and on the right.
type Pair = (Option<usize>, Option<usize>);

/// Every name: those of the left in their order, then those of the right alone.
fn pairs(left: &Side, right: &Side) -> Result<Vec<Pair>, DiffError> {
    let (by_left, by_right) = (positions(left)?, positions(right)?);
    let both = left.names.iter().enumerate().map(|(i, name)| (Some(i), by_right.get(name.as_str()).copied()));
    let rest = right.names.iter().enumerate().filter(|(_, name)| !by_left.contains_key(name.as_str()));
    Ok(both.chain(rest.map(|(i, _)| (None, Some(i)))).collect())
}

fn positions(side: &Side) -> Result<HashMap<&str, usize>, DiffError> {
    let mut positions = HashMap::with_capacity(side.names.len());
    for (i, name) in side.names.iter().enumerate() {
        if let Some(first) = positions.insert(name.as_str(), i) {
            let file = |i: usize| {
                let part = side.tensors.get(i).and_then(|held| side.part(held));
                part.and_then(|part| part.files.first()).map(|file| file.path.clone()).unwrap_or_default()
            };
            return Err(DiffError::Doubled {
                path: side.path.display().to_string(),
                name: name.clone(),
                first: file(first),
                second: file(i),
            });
        }
    }
    Ok(positions)
}

/// What a tensor shows: names of the same data are compared once.
type Shown<'a> = Option<(usize, &'a View)>;

/// Compares every pair, on all threads. Names that show the same data share what was found.
fn compare_all(
    left: &Side,
    right: &Side,
    names: &[Pair],
    jobs: usize,
    progress: &dyn Progress,
) -> Result<Vec<Compared>, Error> {
    let mut first: HashMap<(Shown<'_>, Shown<'_>), usize> = HashMap::new();
    let mut work: Vec<Pair> = Vec::new();
    let mut work_of = Vec::with_capacity(names.len());
    for (l, r) in names {
        let key = (view(left, *l), view(right, *r));
        let next = work.len();
        let at = *first.entry(key).or_insert(next);
        if at == next {
            work.push((*l, *r));
        }
        work_of.push(at);
    }
    let results = in_parallel(
        jobs,
        work.len(),
        || Comparer::new(jobs),
        |comparer, at| {
            let (l, r) = work.get(at).copied().unwrap_or_default();
            let advance = |n: usize| progress.advance(length(n));
            comparer.compare(placed(left, l), placed(right, r), &advance).map_err(|(which, error)| {
                let (side, i) = if which == Which::Left { (left, l) } else { (right, r) };
                unreadable(side, i, error)
            })
        },
    )?;
    Ok(work_of.into_iter().filter_map(|at| results.get(at).cloned()).collect())
}

fn view(side: &Side, i: Option<usize>) -> Shown<'_> {
    side.tensors.get(i?).map(|held| (held.part, &held.view))
}

fn placed(side: &Side, i: Option<usize>) -> Option<Placed<'_>> {
    let held = side.tensors.get(i?)?;
    Some(Placed { held, part: side.part(held)? })
}

fn unreadable(side: &Side, i: Option<usize>, error: crate::tensor::ReadError) -> Error {
    let name = i.and_then(|i| side.names.get(i)).cloned().unwrap_or_default().into();
    let part = i.and_then(|i| side.tensors.get(i)).and_then(|held| side.part(held));
    let path = part.map_or(&side.path, |part| &part.path);
    Error::new(path, output::Error { path: path.clone(), kind: output::ErrorKind::Tensor { name, error } })
}
