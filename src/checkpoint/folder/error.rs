//! Why the files of a folder do not make up a checkpoint.

use crate::tensor::{Dtype, TilingError};

/// What does not fit together, and in which file or tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// A file that the checkpoint names and that is not there.
    #[error("{}: the checkpoint needs this file, and it is not in the folder", .0.escape_debug())]
    Missing(Box<str>),
    /// A name that is a path out of the folder.
    #[error("{}: leads out of the folder", .0.escape_debug())]
    Outside(Box<str>),
    /// A file that ends before what is said to be in it.
    #[error("{}: has {size} bytes, {name:?} ends at {end}: the file is cut off or another's", file.escape_debug())]
    Short {
        /// The file.
        file: Box<str>,
        /// What is said to be in it.
        name: Box<str>,
        /// Where that ends.
        end: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// Two entries of one file that share bytes.
    #[error("{}: {first:?} and {second:?} overlap at byte {at}", file.escape_debug())]
    Overlap {
        /// The file.
        file: Box<str>,
        /// What comes first.
        first: Box<str>,
        /// What begins before its end.
        second: Box<str>,
        /// Where it begins.
        at: u64,
    },
    /// Something else in the metadata than torch writes there.
    #[error("{found} in the metadata, {expected} expected")]
    Metadata {
        /// What it is.
        found: Box<str>,
        /// What it has to be.
        expected: &'static str,
    },
    /// A chunk or object that is stored in two places.
    #[error("{name:?} is stored in two places")]
    Twice {
        /// Name in the checkpoint.
        name: Box<str>,
    },
    /// A chunk or object of which the metadata does not say where it is.
    #[error("{name:?}: the metadata does not say where a part of it is stored")]
    NotStored {
        /// Name in the checkpoint.
        name: Box<str>,
    },
    /// What is one tensor by one rank and another by the next.
    #[error("{name:?}: the files of two ranks disagree about what it is")]
    Ranks {
        /// Name in the checkpoint.
        name: Box<str>,
    },
    /// More files than ranks: one is left from another save.
    #[error("{}: {expected} ranks by the names of the files, {found} found", pattern.escape_debug())]
    World {
        /// What they are called, with a star for the number.
        pattern: Box<str>,
        /// How many there are to be.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// A file that stands under the name of another rank than the one that wrote it.
    #[error("{}: was written as {name:?}: it is a copy, in the place of another rank's file", file.escape_debug())]
    Renamed {
        /// The file.
        file: Box<str>,
        /// What its archive calls itself.
        name: Box<str>,
    },
    /// Two files of which one stands in the place of another rank's.
    #[error("{} and {} are both of rank {rank:?}: one is a copy, in the place of another", first.escape_debug(), second.escape_debug())]
    SameRank {
        /// One file.
        first: Box<str>,
        /// The other.
        second: Box<str>,
        /// The rank, along each dimension of its mesh.
        rank: Box<[u64]>,
    },
    /// A rank whose part of a tensor is in none of the files.
    #[error("{name:?}: no file of rank {rank:?} of {mesh:?} is in the folder")]
    NoRank {
        /// Name of the tensor.
        name: Box<str>,
        /// The rank, along each dimension of its mesh.
        rank: Box<[u64]>,
        /// Sizes of the mesh.
        mesh: Box<[u64]>,
    },
    /// Two files that say different things of what has to be the same in both.
    #[error("{name:?}: {what} is not the same in {} and {}", first.escape_debug(), second.escape_debug())]
    Differ {
        /// Name in the checkpoint.
        name: Box<str>,
        /// What has to be the same.
        what: &'static str,
        /// One file.
        first: Box<str>,
        /// The other.
        second: Box<str>,
    },
    /// Copies of a tensor in two files that are not the same, such as statistics that each rank counted by itself.
    #[error(
        "{name:?}: {what} is not the same in {} and {}; --exclude goes on without it",
        first.escape_debug(),
        second.escape_debug()
    )]
    Copies {
        /// Name in the checkpoint.
        name: Box<str>,
        /// What has to be the same.
        what: &'static str,
        /// One file.
        first: Box<str>,
        /// The other.
        second: Box<str>,
    },
    /// A name in a file of the checkpoint that is no file name.
    #[error("{}: {name:?} is no name of a folder beside it", file.escape_debug())]
    Tag {
        /// The file.
        file: Box<str>,
        /// What it says.
        name: Box<str>,
    },
    /// More or fewer files than the checkpoint was written with: one was not copied, or is left from another save.
    #[error("{expected} files *{suffix} expected, {found} found")]
    Count {
        /// How their names end.
        suffix: &'static str,
        /// How many the checkpoint was written with.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// A value that a file of such a checkpoint has and this one lacks, or has in another form.
    #[error("{}: no {what} as the writer leaves it", file.escape_debug())]
    Lacks {
        /// The file.
        file: Box<str>,
        /// The value.
        what: &'static str,
    },
    /// Parameters that take more or less than what their partitions hold.
    #[error("parameters of group {group} take {needed} elements, its partitions hold {available}")]
    Partition {
        /// Position of the group.
        group: u64,
        /// Elements that the parameters take.
        needed: u64,
        /// Elements that there are.
        available: u64,
    },
    /// Two things at one place of the tree.
    #[error("{0:?}: two entries have this path")]
    SamePlace(Box<str>),
    /// Parts that do not make up the tensor.
    #[error("{name:?}: {error}")]
    Tiling {
        /// Name of the tensor.
        name: Box<str>,
        /// What is wrong with them.
        error: TilingError,
    },
    /// A part of another type or shape than the checkpoint says.
    #[error("{name:?}: {found:?} of {dtype} found, {expected:?} of {wanted} expected")]
    Part {
        /// Name of the tensor.
        name: Box<str>,
        /// Shape of the part.
        found: Box<[u64]>,
        /// Its type.
        dtype: Dtype,
        /// Shape that it has to have.
        expected: Box<[u64]>,
        /// Type that it has to have.
        wanted: Dtype,
    },
    /// A part that is no plain tensor.
    #[error("{name:?}: what is stored is no plain tensor")]
    NoTensor {
        /// Name of the tensor.
        name: Box<str>,
    },
    /// A transformation of the stored bytes that is not known here.
    #[error("{name:?}: stored through {transform:?}, which is not supported")]
    Transform {
        /// Name in the checkpoint.
        name: Box<str>,
        /// Its name and version.
        transform: Box<str>,
    },
}

impl FolderError {
    /// A file that is not there: because its name is no name in the folder, or for no such reason.
    pub(in crate::checkpoint) fn missing(path: &str) -> Self {
        let leaves = |part: &str| matches!(part, "" | "." | "..");
        let outside = path.contains(['\\', ':']) || path.split('/').any(leaves);
        if outside { Self::Outside(path.into()) } else { Self::Missing(path.into()) }
    }
}
