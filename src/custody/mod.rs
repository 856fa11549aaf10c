//! Documents that say where every byte came from and went to, and what can be checked with them.

mod digest;
pub mod documents;
mod expect;
mod find;
mod listed;
mod manifest;
#[cfg(feature = "sign")]
pub mod oms;
mod statement;
#[cfg(feature = "sign")]
mod strict;
mod verify;

pub use crate::accounting::{Accounted, Inside};
pub use crate::report::Tool;
pub(crate) use digest::Hashing;
pub use digest::TensorSet;
pub use expect::{Algorithm, Expect, ExpectError, Expectation, Weight};
pub(crate) use expect::{Checked, check};
pub use find::{find_manifest, manifest_name};
pub(crate) use manifest::Lazy;
pub use manifest::{
    AliasRecord, Digests, EncodingRecord, Expected, GlobalRecord, LeftOutFile, LeftOutRecord, Manifest,
    OptionsRecord, OutputRecord, PickleRecord, Piece, Region, SCHEMA, SourceRecord, Target, TensorRecord,
    ValuesRecord,
};
pub use statement::{STATEMENT_TYPE, Statement, Subject};
pub use verify::{Check, Report, VerifyError, read_manifest, verify, verify_manifest};
