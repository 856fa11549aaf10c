#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod accounting;
pub mod bytes;
pub mod checkpoint;
pub mod container;
pub mod convert;
pub mod custody;
pub mod diff;
pub mod disasm;
mod error;
pub mod folder;
pub mod hub;
pub mod limits;
pub mod output;
pub mod pickle;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod rebuild;
pub mod report;
pub mod scan;
pub mod tensor;
pub mod values;
mod weights;

pub use error::{Class, Error, ErrorKind};
pub use weights::{Checkpoint, Loaded, Root, Tensor, Weights};
