//! From recorded calls to tensors: what the allowlisted callables would have made, worked out here and never by
//! calling them.
//!
//! [`allow`] is the one table of callables. [`rebuild`] walks the graph from the root of a pickle and yields a
//! [`Tree`](crate::tensor::Tree) of the places that hold tensors, the tensors as proven views, and their storages.
//! Everything that is not in the table stays inert: its arguments and state are walked, because honest objects carry
//! tensors there.

mod allow;
mod array;
mod builder;
mod children;
mod distributed;
mod error;
mod graft;
mod integers;
mod joblib;
mod keep;
mod module;
mod nested;
mod numpy;
mod paddle;
mod persistent;
mod quantized;
mod sparse;
mod torch;
mod values;
mod walk;

pub use allow::{Callable, allow, dtype as torch_dtype};
pub use array::{Array, array};
pub use builder::{Context, Rebuilt};
pub use distributed::{Shard, ShardForm};
pub use error::{Error, ErrorKind};
pub use graft::{at, graft_tree};
pub use joblib::{Companion, CompanionForm, Raw, companions, raw};
pub use persistent::{callable, name_of, storage_class, storage_keys, storage_named};
pub use walk::{rebuild, rebuild_at};
