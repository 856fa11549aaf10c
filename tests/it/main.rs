//! Everything that is tested through the public library, in one binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::print_stderr
)]

#[macro_use]
mod asm;
mod support;

mod fixtures_names;
mod rebuild_containers;
mod rebuild_graphs;
mod rebuild_modules;
mod rebuild_numpy;
mod rebuild_storages;
mod rebuild_torch;
mod tensors;
mod vm_calls;
mod vm_errors;
mod vm_frames;
mod vm_limits;
mod vm_memo;
mod vm_opcodes;
mod vm_stack;
mod vm_values;
