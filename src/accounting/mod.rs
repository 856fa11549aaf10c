//! Where every byte of a source went.

mod shown;

pub use shown::{shown, unshown};

use serde::{Deserialize, Serialize};

/// Bytes of a source as they are stored in it, each counted once; they add up to its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Accounting {
    /// Pickle streams, with the arrays embedded in their opcodes.
    pub pickle: u64,
    /// Bytes that any tensor shows, written or left out.
    pub tensors: u64,
    /// Headers, directories, padding.
    pub container: u64,
    /// Further members.
    pub other: u64,
    /// Storages, or parts of them, that no tensor shows, and bytes where none belong.
    pub unreferenced: u64,
    /// What follows the end of the format.
    pub trailing: u64,
}

impl Accounting {
    /// Gives what is left of `size` to the container.
    pub(crate) fn with_container(mut self, size: u64) -> Self {
        let known = [self.pickle, self.tensors, self.other, self.unreferenced, self.trailing];
        self.container = known.iter().fold(size, |left, part| left.saturating_sub(*part));
        self
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            pickle: self.pickle.saturating_add(other.pickle),
            tensors: self.tensors.saturating_add(other.tensors),
            container: self.container.saturating_add(other.container),
            other: self.other.saturating_add(other.other),
            unreferenced: self.unreferenced.saturating_add(other.unreferenced),
            trailing: self.trailing.saturating_add(other.trailing),
        }
    }

    /// Whether every byte has a use that the format knows.
    pub fn is_clean(&self) -> bool {
        self.unreferenced == 0 && self.trailing == 0 && self.other == 0
    }
}

/// Where the bytes of a source went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Accounted {
    /// A file that is as it was written.
    Plain(Accounting),
    /// A file that is compressed as a whole.
    Compressed {
        /// Its bytes.
        compressed: u64,
        /// What is inside.
        inside: Inside,
    },
}

/// What is inside a compressed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    /// Bytes, once expanded.
    pub size: u64,
    /// Where they went.
    #[serde(flatten)]
    pub accounting: Accounting,
}
