//! Tensors as views of storages, proven to lie inside them, and the tree of places where a source holds them.

mod assembled;
mod cast;
mod dtype;
mod error;
mod gather;
mod gathered;
mod numpy;
mod storage;
mod tiling;
mod tree;
mod view;

pub use assembled::{Assembled, Fragment};
pub use cast::{Cast, CastError};
pub use dtype::{Dtype, Family, Layout};
pub use error::{Error, ErrorKind};
pub use gather::{ReadError, Reader, Scratch, read_into};
pub(crate) use gathered::Gathered;
pub use numpy::{Element, Part, Scalar};
pub use storage::{Place, Storage, StorageId, StreamId, Streams};
pub use tiling::{Region, TilingError};
pub use tree::{Entry, EntryId, Kind, Leaf, Step, Tree};
pub use view::{Encoding, Piece, Tensor, TensorId, View, ViewSpec};
