//! `verify`.

use std::path::PathBuf;

use clap::Args;

use super::common::{FormArgs, WorkArgs};
use crate::cli::sign::SignatureArgs;

/// `verify`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  depickle verify model.safetensors
  depickle verify model.manifest.json --json
  depickle verify model.safetensors --source model.pt --reconvert
  depickle verify released/ --key publisher.pub.pem
  depickle verify released/ --certificate-chain authority.pem --identity release@example.org")]
pub(crate) struct VerifyArgs {
    /// A manifest, a folder with a manifest.json, or an output; with --key any signed folder
    pub(crate) path: PathBuf,

    /// Check the source too, a file or folder: its digest, and whether it still gives the same tensors
    #[arg(long, value_name = "PATH")]
    pub(crate) source: Option<PathBuf>,

    /// Convert the source again with the options of the manifest, and compare the files byte by byte
    #[arg(long, requires = "source")]
    pub(crate) reconvert: bool,

    #[command(flatten)]
    pub(crate) work: WorkArgs,

    #[command(flatten)]
    pub(crate) signature: SignatureArgs,

    #[command(flatten)]
    pub(crate) form: FormArgs,
}
