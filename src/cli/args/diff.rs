//! `diff`.

use std::path::PathBuf;

use clap::Args;

use super::common::{SayArgs, TrustArgs, WorkArgs};
use super::names::NameArgs;

/// `diff`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  depickle diff model.pt model.safetensors
  depickle diff checkpoint-1000/ checkpoint-2000/ --json
  depickle diff last.ckpt ema.safetensors --root model_ema --strip-prefix module.
  depickle diff last.ckpt last.ckpt --root state_dict --root model_ema")]
pub(crate) struct DiffArgs {
    /// A checkpoint, a safetensors file, an index of shards, or a folder with one of them
    #[arg(value_name = "A")]
    pub(crate) left: PathBuf,

    /// What it is compared with
    #[arg(value_name = "B")]
    pub(crate) right: PathBuf,

    /// Take the tensors of pickles below this place; given twice, the first is A's and the second B's
    #[arg(long, value_name = "PATH", help_heading = "Tensors")]
    pub(crate) root: Vec<String>,

    /// Take every tensor of pickles under its full path
    #[arg(long, help_heading = "Tensors")]
    pub(crate) all: bool,

    /// Compare only tensors whose name matches (repeatable)
    #[arg(long, value_name = "GLOB", help_heading = "Tensors")]
    pub(crate) include: Vec<String>,

    /// Pass over tensors whose name matches (repeatable)
    #[arg(long, value_name = "GLOB", help_heading = "Tensors")]
    pub(crate) exclude: Vec<String>,

    #[command(flatten, next_help_heading = "Tensors")]
    pub(crate) names: NameArgs,

    /// Read arrays of uint16 as bfloat16, which `PaddlePaddle` writes without saying so
    #[arg(long, help_heading = "Tensors")]
    pub(crate) paddle_bf16: bool,

    #[command(flatten)]
    pub(crate) trust: TrustArgs,

    #[command(flatten)]
    pub(crate) work: WorkArgs,

    #[command(flatten)]
    pub(crate) say: SayArgs,
}
