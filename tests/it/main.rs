//! Everything that is tested through the public library, in one binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::doc_markdown,
    clippy::needless_pass_by_value,
    clippy::needless_for_each,
    clippy::print_stderr,
    clippy::print_stdout
)]

#[macro_use]
mod asm;
mod schema;
mod support;
mod zips;

mod abuses;
mod bytes;
mod cli;
mod cli_sign;
mod container_export;
mod container_legacy;
mod container_tar;
mod container_torch;
mod container_zip;
mod container_zip_directory;
mod convert_fixtures;
mod corpus;
mod custody;
mod custody_folders;
mod diff;
mod disasm;
mod distributed;
mod distributed_attacks;
mod embedded;
mod expect;
mod fixtures_names;
mod folders;
mod folders_read;
mod folders_walked;
mod imports;
mod join;
#[cfg(feature = "keyless")]
mod keyless;
mod megatron;
mod metadata;
mod mutate;
mod paddle;
mod policy;
mod policy_forms;
mod ranks_attacks;
mod rebuild_containers;
mod rebuild_graphs;
mod rebuild_modules;
mod rebuild_numpy;
mod rebuild_parts;
mod rebuild_storages;
mod rebuild_torch;
mod resume;
mod same;
mod scan_archives;
mod scan_formats;
mod scan_hostile;
mod scan_pickles;
mod signing;
mod tensors;
mod transcripts;
mod verify;
mod vm_calls;
mod vm_errors;
mod vm_frames;
mod vm_limits;
mod vm_memo;
mod vm_opcodes;
mod vm_stack;
mod vm_values;
mod world;
