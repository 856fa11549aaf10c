//! The arguments, as clap types and nothing else: what all commands share here and in `common`, the larger commands by file.

mod common;
mod convert;
mod diff;
mod names;
mod scan;
mod verify;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::sign::{SignArgs, SignModelArgs, VerifyModelArgs};

pub(crate) use common::{FormArgs, PolicyArgs, SayArgs, TrustArgs};
pub(crate) use convert::{ConvertArgs, ExpectArgs};
pub(crate) use diff::DiffArgs;
pub(crate) use scan::{FailOn, ScanArgs, ScanFormat};
pub(crate) use verify::VerifyArgs;

/// The program.
#[derive(Debug, Parser)]
#[command(name = "depickle", version, about, long_about = LONG_ABOUT, after_help = EXAMPLES)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Task,
}

const LONG_ABOUT: &str = "\
Turns pickle-based model checkpoints into safetensors without executing anything.

A file as the first argument means `depickle convert FILE`.";

const EXAMPLES: &str = "\
Examples:
  depickle convert model.pt              write model.safetensors and model.manifest.json beside it
  depickle inspect model.pt              show what is in it, reading no weights
  depickle scan models/                  say what loading these files would do
  depickle verify model.safetensors      check it against its manifest
  depickle diff old.pt new.safetensors   which tensors differ, and by how much

Exit codes:
  0 done   1 findings, refused, or a mismatch   2 wrong usage   3 malformed, unsupported or no tensors   4 I/O, worth a retry";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Convert checkpoints to safetensors, each with a manifest
    Convert(Box<ConvertArgs>),
    /// Show names, types, shapes, globals and bytes of checkpoints and safetensors files; reads no weights
    Inspect(InspectArgs),
    /// Say what loading these files would do, and where every byte of them went; runs nothing
    Scan(ScanArgs),
    /// Check that outputs still match their manifest
    Verify(VerifyArgs),
    /// Compare the tensors of two files or folders, checkpoints and safetensors alike
    Diff(Box<DiffArgs>),
    /// Sign a folder with OpenSSF Model Signing (model.sig)
    Sign(SignArgs),
    /// Sign as the public conformance suite asks for it
    #[command(hide = true)]
    SignModel(SignModelArgs),
    /// Verify as the public conformance suite asks for it
    #[command(hide = true)]
    VerifyModel(VerifyModelArgs),
    /// List the opcodes of every pickle in a file, with what each does; runs nothing
    Disasm(DisasmArgs),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// Shell to complete for
        shell: Shell,
    },
    /// Print the man page
    #[command(after_help = "Examples:\n  depickle man | man -l -")]
    Man,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  depickle completions bash > ~/.local/share/bash-completion/completions/depickle
  depickle completions zsh > ~/.zfunc/_depickle
  depickle completions fish > ~/.config/fish/completions/depickle.fish";

/// `inspect`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  depickle inspect model.pt
  depickle inspect model.safetensors --json | jq '.files[0].tensors[].name'
  depickle inspect suspicious.bin")]
pub(crate) struct InspectArgs {
    /// Files, folders (every model file in them), or - for standard input
    #[arg(value_name = "INPUT", required = true)]
    pub(crate) inputs: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) form: FormArgs,
}

/// `disasm`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  depickle disasm model.pt | less
  depickle disasm suspicious.bin --full
  depickle disasm model.pt --json | jq '.pickles[].ops[] | select(.call)'")]
pub(crate) struct DisasmArgs {
    /// A file, or - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Show arguments of any length whole
    #[arg(long)]
    pub(crate) full: bool,

    #[command(flatten)]
    pub(crate) form: FormArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }
}
