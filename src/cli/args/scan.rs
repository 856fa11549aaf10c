//! `scan`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use depickle::report::Severity;

use super::common::{PolicyArgs, WorkArgs};

/// `scan`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  depickle scan model.pt
  depickle scan downloads/ --fail-on dangerous
  depickle scan models/ --format sarif > scan.sarif
  depickle scan models/ --deep --digest --format json > scan.json")]
pub(crate) struct ScanArgs {
    /// Files, folders (every file in them, whatever its name), or - for standard input
    #[arg(value_name = "PATH", required = true)]
    pub(crate) inputs: Vec<PathBuf>,

    /// The least severe finding that makes the exit code 1
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t = FailOn::Suspicious)]
    pub(crate) fail_on: FailOn,

    /// Read every byte: search all of the storages and of what belongs to nothing
    #[arg(long)]
    pub(crate) deep: bool,

    /// Compute the SHA-256 of each file
    #[arg(long)]
    pub(crate) digest: bool,

    #[command(flatten)]
    pub(crate) work: WorkArgs,

    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    /// Form of the results on standard output
    #[arg(long, value_enum, default_value_t = ScanFormat::Text, help_heading = "Messages")]
    format: ScanFormat,

    /// Short for --format json
    #[arg(long, conflicts_with = "format", help_heading = "Messages")]
    json: bool,
}

impl ScanArgs {
    /// The form of the results.
    pub(crate) fn format(&self) -> ScanFormat {
        if self.json { ScanFormat::Json } else { self.format }
    }
}

/// What `scan --format` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScanFormat {
    /// For people
    Text,
    /// One JSON document
    Json,
    /// SARIF 2.1.0, as GitHub code scanning takes it
    Sarif,
    /// Annotations of a GitHub workflow, and a summary of the step
    Github,
    /// Tables
    Markdown,
}

/// What `--fail-on` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// Anything at all
    Note,
    /// What an honest file does not need
    Suspicious,
    /// What runs code, or reaches what can
    Dangerous,
}

impl FailOn {
    /// As a severity.
    pub(crate) fn severity(self) -> Severity {
        match self {
            Self::Note => Severity::Note,
            Self::Suspicious => Severity::Suspicious,
            Self::Dangerous => Severity::Dangerous,
        }
    }
}
