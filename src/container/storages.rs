//! How `rebuild` asks a container for the storage of a persistent id.

use crate::tensor::Storage;

use super::Error;

/// A container that holds storages by key.
pub trait Storages {
    /// The storage of a key. `nbytes` is what the pickle says that it holds.
    ///
    /// # Errors
    /// A missing record, a wrong length.
    fn storage(&self, key: &str, nbytes: u64) -> Result<Storage, Error>;
}
