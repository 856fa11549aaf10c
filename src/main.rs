//! The program `depickle`: reads its arguments, runs the command, gives the exit code.
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

mod cli;

fn main() -> std::process::ExitCode {
    cli::run(std::env::args_os().collect()).into()
}
