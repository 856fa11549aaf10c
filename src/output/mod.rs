//! Writes tensors to a safetensors file: a header, then every tensor's bytes without a gap.
//!
//! The bytes are those of the [stock library](https://docs.rs/safetensors/0.8.0/safetensors/tensor/fn.serialize.html);
//! what it does not do is done here. Reading, hashing and writing overlap on all cores, memory is fixed, errors of
//! the source are passed on, and the file appears under its name only once it is whole.

mod atomic;
mod chains;
mod digest;
mod engine;
mod error;
mod folders;
mod layout;
mod parallel;
mod produce;
mod sidecar;
mod spool;
mod units;

pub use atomic::{Finished, Staged, sync_folder};
pub use digest::{Digest, Digested, Digester, digest_all, digest_of};
pub use engine::write;
pub use error::{Error, ErrorKind};
pub use folders::Folders;
pub(crate) use parallel::in_parallel;
pub use sidecar::{Sidecar, Surroundings, write_values};
pub use spool::spool;

use std::collections::BTreeMap;

use safetensors::Dtype as Stored;

use crate::tensor::{Cast, Dtype, StreamId, View};

/// One tensor to write.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// The name that it gets.
    pub name: &'a str,
    /// Where its bytes are.
    pub view: &'a View,
    /// The type to cast it to; passed over where the tensor has no plain floats or has this type already.
    pub cast: Option<Cast>,
}

impl Item<'_> {
    fn cast(&self) -> Option<Cast> {
        self.cast.filter(|cast| cast.applies_to(self.view.dtype()))
    }

    /// The element type that it has in the output.
    pub(crate) fn dtype(&self) -> Dtype {
        self.cast().map_or(self.view.dtype(), Cast::to)
    }

    fn nbytes(&self) -> u64 {
        self.view.elements().saturating_mul(self.dtype().size())
    }
}

/// `__metadata__` of the header.
pub type Metadata = BTreeMap<String, String>;

/// What to do beside copying.
#[derive(Debug, Clone, Copy)]
pub struct WriteOptions<'a> {
    /// Threads; one does everything by itself. More than 8 make no difference.
    pub jobs: usize,
    /// Whether to compute the digests of the output and of each tensor.
    pub digests: bool,
    /// Source files whose digests are to be computed, and with them the CRC-32 of all of their storages.
    pub sources: &'a [StreamId],
}

/// Threads beyond this number wait for memory and for the sequential digests.
pub(crate) const MOST_JOBS: usize = 8;

impl Default for WriteOptions<'_> {
    fn default() -> Self {
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { jobs: jobs.min(MOST_JOBS), digests: true, sources: &[StreamId::SOURCE] }
    }
}

/// What was written.
#[derive(Debug, Clone)]
pub struct Written {
    /// Bytes of the file.
    pub size: u64,
    /// Digest of the file, where asked for.
    pub sha256: Option<Digest>,
    /// Digests of the source files, as asked for.
    pub sources: Vec<Digest>,
    /// Each tensor, in the order of the items.
    pub tensors: Vec<WrittenTensor>,
}

/// One tensor that was written. Its shape is [`View::stored_shape`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenTensor {
    /// Where its bytes begin and end, counted from the end of the header.
    pub data_offsets: (u64, u64),
    /// Its type in the output.
    pub dtype: Stored,
    /// Digest of its bytes, where asked for.
    pub sha256: Option<Digest>,
    /// Digest of its bytes before they were cast, where asked for and where they were.
    pub source_sha256: Option<Digest>,
    /// Whether every element kept its value; true where nothing was cast.
    pub cast_exact: bool,
}

#[cfg(test)]
mod tests;
