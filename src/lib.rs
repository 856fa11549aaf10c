//! lib
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
pub mod bytes;
pub mod limits;
pub mod output;
pub mod pickle;
pub mod progress;
pub mod tensor;
