//! Containers: where in a source the pickles and the storages are. Nothing here looks inside a pickle.
//!
//! Each container has a module with `open`; [`detect`] says which one a source needs, by content and never by name.

mod detect;
mod error;
mod npy;
mod package;
mod pt2;
mod safetensors;
mod script;
mod storages;
mod torch_legacy;
mod torch_tar;
mod torch_zip;
mod zip;

pub use detect::{Format, detect};
pub use error::{Error, ErrorKind};
pub use npy::Npy;
pub use package::{Package, PackageRecords};
pub use pt2::{Payload, Program, Pt2};
pub use safetensors::Safetensors;
pub use script::{Classes, ScriptRecords};
pub use storages::{Embedded, Numbered, ScriptClass, Storages};
pub use torch_legacy::{MAGIC as LEGACY_MAGIC, TorchLegacy};
pub use torch_tar::{Tar, TorchTar};
pub use torch_zip::{BOOKKEEPING, TorchZip};
pub(crate) use zip::joined;
pub use zip::{Archive, Member, Method, Stray};
