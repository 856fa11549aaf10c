//! Why the files of a folder do not fit together.

use std::io;

/// Which file, and what is wrong with it. Names are the folder's and its index's: they are escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder could not be listed, or its index not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// An index that is no JSON of its form.
    #[error("{path:?}: no index of weights: {error}")]
    Index {
        /// The index.
        path: String,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// An index of more bytes than any honest one.
    #[error("{path:?}: {size} bytes, at most {allowed} are read of an index")]
    IndexTooLarge {
        /// The index.
        path: String,
        /// Its size.
        size: u64,
        /// What is allowed.
        allowed: u64,
    },
    /// A file name in an index that is a path.
    #[error("{path:?}: names the file {file:?}, which leads out of the folder")]
    Outside {
        /// The index.
        path: String,
        /// The file that it names.
        file: String,
    },
    /// Weights that are a link to a place outside of the folder.
    #[error("{path:?}: a link that leads out of the folder; give the folder that it leads to")]
    Link {
        /// The link.
        path: String,
    },
    /// A shard that is not there.
    #[error("{missing:?}: {named_by:?} needs this shard, and it is not in the folder")]
    Missing {
        /// The shard.
        missing: String,
        /// The index, or another shard, by whose number it must be there.
        named_by: String,
    },
    /// A shard that belongs to no set: the index does not name it, or its number does not fit.
    #[error("{path:?}: a shard that does not belong to {set:?}; move it away, or convert it by itself")]
    Foreign {
        /// The shard.
        path: String,
        /// The index, or the first shard of the set.
        set: String,
    },
    /// The weights stand there twice: in one file and in shards.
    #[error("{first:?} and {second:?} both hold the weights; move one away, or convert a file by itself")]
    Both {
        /// One file.
        first: String,
        /// The other.
        second: String,
    },
    /// A tensor that two shards hold.
    #[error("tensor {name:?} stands in two shards: {first:?} and {second:?}")]
    Doubled {
        /// Its name.
        name: String,
        /// One shard.
        first: String,
        /// The other.
        second: String,
    },
    /// A tensor that does not stand in the shard that the index names.
    #[error("tensor {name:?} is not in {shard:?}, where {index:?} says it is")]
    Absent {
        /// Its name.
        name: String,
        /// The shard.
        shard: String,
        /// The index.
        index: String,
    },
}
