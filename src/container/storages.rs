//! How `rebuild` asks a container for the storage of a persistent id.

use crate::tensor::{Dtype, Storage};

use super::Error;

/// A container that holds storages by key.
pub trait Storages {
    /// The storage of a key. `nbytes` is what the pickle says that it holds.
    ///
    /// # Errors
    /// A missing record, a wrong length.
    fn storage(&self, key: &str, nbytes: u64) -> Result<Storage, Error>;

    /// Whether the writer is known to leave out the data of this storage.
    fn is_without_data(&self, key: &str) -> bool {
        let _ = key;
        false
    }

    /// What a persistent id stands for that is only a number, as in torch's tar archives.
    fn numbered(&self, key: &str) -> Option<Numbered<'_>> {
        let _ = key;
        None
    }

    /// What a class of `TorchScript` is, by the source text in the archive; `None` for any other.
    fn script_class(&self, module: &str, name: &str) -> Option<ScriptClass<'_>> {
        let _ = (module, name);
        None
    }

    /// Whether persistent ids are numbers. Then a tuple that is one is a class with its source, and what other programs
    /// write is taken too: tuples `("storage", …)` that are no persistent ids.
    fn is_numbered(&self) -> bool {
        false
    }
}

/// What a class of `TorchScript` is.
#[derive(Debug, Clone, Copy)]
pub enum ScriptClass<'a> {
    /// A module, with the names of its parameters and buffers.
    Module(&'a [Box<str>]),
    /// Any other class.
    Plain,
    /// The archive has no source text: a module whose tensors cannot be told apart.
    Unknown,
}

/// What a number stands for.
#[derive(Debug, Clone, Copy)]
pub enum Numbered<'a> {
    /// A storage.
    Storage {
        /// Element type.
        dtype: Dtype,
        /// Bytes.
        nbytes: u64,
    },
    /// A tensor.
    Tensor {
        /// Number of its storage; `None` for a tensor that never had one.
        storage: Option<&'a str>,
        /// Sizes, in elements.
        sizes: &'a [i64],
        /// Strides, in elements.
        strides: &'a [i64],
        /// First element.
        offset: i64,
    },
}
