//! Arguments that several commands have.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// How the work is done.
#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// Threads [default: one a core]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,

    /// Draw no progress bar
    #[arg(long)]
    pub(crate) no_progress: bool,
}

impl WorkArgs {
    /// The number of threads, where one is given.
    pub(crate) fn jobs(&self) -> Option<usize> {
        self.jobs.map(NonZeroUsize::get)
    }
}

/// What is let through.
#[derive(Debug, Args)]
#[command(next_help_heading = "Trust")]
pub(crate) struct TrustArgs {
    /// Refuse everything outside the allowlist, any unused byte, any re-encoding
    #[arg(long)]
    pub(crate) strict: bool,

    /// Keep calls of this global as inert data, or of every unknown one: runs nothing (repeatable)
    #[arg(long, value_name = "MODULE.NAME|unknown")]
    pub(crate) inert: Vec<String>,

    /// List tensors that depend on a call that is not interpreted in the manifest, and go on
    #[arg(long)]
    pub(crate) skip_unresolved: bool,
}

/// A policy file.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// Names that are inert or denied, each with a reason and an expiry, in TOML (see docs/policy.md)
    #[arg(long = "policy", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// How much is said, and in which form.
#[derive(Debug, Args)]
#[command(next_help_heading = "Messages")]
pub(crate) struct SayArgs {
    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Say more: what was left out and dropped, and how long it took
    #[arg(short, long)]
    pub(crate) verbose: bool,

    #[command(flatten)]
    pub(crate) form: FormArgs,
}

/// The form of results.
#[derive(Debug, Args)]
#[command(next_help_heading = "Messages")]
pub(crate) struct FormArgs {
    /// Form of the results on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Short for --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl FormArgs {
    /// Whether results are one JSON document.
    pub(crate) fn is_json(&self) -> bool {
        self.json || self.format == Format::Json
    }
}

/// The form of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON document
    Json,
}
