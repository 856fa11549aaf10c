//! Why a tensor cannot be a view of its storage.

use crate::limits::LimitExceeded;

/// What is wrong with a tensor, and of which storage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tensor of storage {storage:?}: {kind}")]
pub struct Error {
    /// Key of the storage.
    pub storage: Box<str>,
    /// What is wrong.
    pub kind: ErrorKind,
}

/// What is wrong with a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Sizes and strides do not pair up.
    #[error("{sizes} sizes and {strides} strides")]
    RankMismatch {
        /// Number of sizes.
        sizes: usize,
        /// Number of strides.
        strides: usize,
    },
    /// A size, stride or offset below zero.
    #[error("negative {what} {value}")]
    Negative {
        /// `size`, `stride` or `offset`.
        what: &'static str,
        /// What the file says.
        value: i64,
    },
    /// More elements than 64 bits can count.
    #[error("shape {0:?} has more elements than 64 bits can count")]
    TooLarge(Box<[u64]>),
    /// The view reaches beyond its storage.
    #[error("view ends at byte {end}, storage has {len}")]
    OutOfBounds {
        /// One past the last byte that the view shows; saturates.
        end: u64,
        /// Bytes that the storage holds.
        len: u64,
    },
    /// A limit was met.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
}
