//! The program, from outside. To be two modules of `tests/it/main.rs` once that stands beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "it/cli.rs"]
mod cli;
#[path = "it/transcripts.rs"]
mod transcripts;
