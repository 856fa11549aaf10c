//! Why nothing can be written as asked, kept apart by what the caller does about it.

use std::fmt;

use super::LeftOut;
use super::notes::Count;
use crate::tensor::Dtype;

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The options do not fit the source or themselves: exit code 2.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// The source has nothing to write, or names that cannot stand side by side: exit code 3.
    #[error(transparent)]
    Structure(#[from] Structure),
    /// An option asks to refuse what the source holds: exit code 1.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// An option that is wrong in itself, matches nothing or leaves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// No place has this path.
    #[error("--root {root}: no such place{}", Near(near))]
    RootNotFound {
        /// What was asked for.
        root: String,
        /// Paths that may have been meant.
        near: Vec<String>,
    },
    /// The place exists and has no tensor below it that can be written.
    #[error("--root {root}: no tensors there{}", Near(near))]
    RootWithoutTensors {
        /// What was asked for.
        root: String,
        /// Paths that may have been meant.
        near: Vec<String>,
    },
    /// A pattern for names that does not compile.
    #[error("{flag} {glob}: {message}")]
    BadGlob {
        /// `--include` or `--exclude`.
        flag: &'static str,
        /// The pattern.
        glob: String,
        /// What is wrong with it.
        message: String,
    },
    /// A regular expression that does not compile.
    #[error("--rename {regex}: {message}")]
    BadRegex {
        /// The expression.
        regex: String,
        /// What is wrong with it.
        message: String,
    },
    /// A replacement that refers to a group that the expression does not have.
    #[error(
        "--rename {regex}={replacement}: no group {group}; write ${{1}} where a letter, digit or _ follows"
    )]
    BadReplacement {
        /// The expression.
        regex: String,
        /// The replacement.
        replacement: String,
        /// The group.
        group: String,
    },
    /// A rename without `=`.
    #[error("--rename {0}: expected REGEX=REPLACEMENT")]
    RenameForm(String),
    /// A flag about names that no name matches.
    #[error("{flag} {pattern}: matches no name")]
    MatchesNothing {
        /// The flag.
        flag: &'static str,
        /// Its value.
        pattern: String,
    },
    /// The flags about names leave a tensor without one.
    #[error("{flag} {pattern}: leaves nothing of the name {name:?}")]
    EmptiesName {
        /// The flag.
        flag: &'static str,
        /// Its value.
        pattern: String,
        /// The name that it empties.
        name: String,
    },
    /// Include and exclude together leave no tensor.
    #[error("--include and --exclude leave none of {}", Count(*.0, "tensor"))]
    NothingLeft(u64),
    /// A type that tensors are not cast to.
    #[error("--dtype {0}: expected f32, f16 or bf16")]
    Uncastable(Dtype),
}

/// What is wrong with the places and names of the source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Structure {
    /// No tensor at all, or none that can be written.
    #[error("no tensors{}", Unwritable(*unwritable))]
    NoTensors {
        /// Tensors that cannot be written: without data, or of no type that safetensors has.
        unwritable: u64,
    },
    /// Tensors, but all in places that hold no weights.
    #[error("no weights, only {}", Places(places))]
    NoWeights {
        /// Where the tensors are.
        places: Vec<LeftOut>,
    },
    /// The path of `--root` can be read in two ways.
    #[error("--root {root}: could be {first:?} or {second:?}")]
    AmbiguousRoot {
        /// What was asked for.
        root: String,
        /// One place.
        first: Vec<String>,
        /// The other.
        second: Vec<String>,
    },
    /// Two places with one name.
    #[error("two tensors of one name {name:?}: {first:?} and {second:?}; --rename or --exclude one")]
    Collision {
        /// The name.
        name: String,
        /// Path of the first.
        first: Vec<String>,
        /// Path of the second.
        second: Vec<String>,
    },
    /// A name that safetensors keeps for itself.
    #[error("tensor {path:?} has the name {name:?}, which safetensors keeps for itself; --rename it")]
    ReservedName {
        /// The name.
        name: String,
        /// Path in the source.
        path: Vec<String>,
    },
    /// Names so long that no checkpoint needs them: a few shared keys can spell gigabytes.
    #[error("names of more than {allowed} bytes for {places} places")]
    NamesTooLong {
        /// Bytes that are allowed.
        allowed: u64,
        /// Number of places to be named.
        places: u64,
    },
    /// The tree speaks of a tensor that the list does not have.
    #[error("tensor {path:?} is not in the list of tensors")]
    UnknownTensor {
        /// Path in the source.
        path: Vec<String>,
    },
}

/// What an option asked to refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// `--aliases refuse`, and two names show the same data.
    #[error("{name:?} and {of:?} are the same view of the same storage")]
    Alias {
        /// The later name.
        name: String,
        /// The earlier one.
        of: String,
    },
    /// `--strict`, and safetensors has no type for a tensor.
    #[error("{name:?} can only be written re-encoded")]
    Reencoded {
        /// Its name.
        name: String,
    },
}

struct Near<'a>(&'a [String]);

impl fmt::Display for Near<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, path) in self.0.iter().enumerate() {
            write!(f, "{}--root {path}", if i == 0 { "; there is " } else { ", " })?;
        }
        Ok(())
    }
}

struct Unwritable(u64);

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " that can be written, {n} that cannot"),
        }
    }
}

struct Places<'a>(&'a [LeftOut]);

impl fmt::Display for Places<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        for (i, place) in self.0.iter().take(SHOWN).enumerate() {
            let path = place.path.join(".");
            let path = if place.path.is_empty() { "the whole source" } else { &path };
            let (comma, tensors) = (if i == 0 { "" } else { ", " }, Count(place.tensors, "tensor"));
            write!(f, "{comma}{} in {path} ({tensors})", place.reason)?;
        }
        if let Some(more) = self.0.len().checked_sub(SHOWN).filter(|n| *n > 0) {
            write!(f, " and {}", Count(crate::bytes::length(more), "more place"))?;
        }
        f.write_str("; --all takes everything")?;
        match self.0.first() {
            Some(place) if !place.path.is_empty() => write!(f, ", --root {} one place", place.path.join(".")),
            _ => Ok(()),
        }
    }
}
