//! `convert`: what is taken, what is written, and where.

use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use depickle::plan::Aliases;
use depickle::tensor::Dtype;

use super::common::{PolicyArgs, SayArgs, TrustArgs, WorkArgs};
use super::names::NameArgs;
use crate::cli::custody::CustodyArgs;

const CONVERT_EXAMPLES: &str = "\
Examples:
  depickle convert model.pt
  depickle convert model.ckpt --root model_ema -o model.safetensors
  depickle convert last.ckpt --metadata  # epoch, hyper-parameters, … in last.metadata.json
  depickle convert runs/ -o converted/ --dtype bf16
  curl -L https://example.org/model.pt | depickle convert - -o model.safetensors
  depickle convert model.pt --strip-prefix auto --rename '^backbone\\.=' --dry-run

Which command for which library: docs/where-from.md. \"Weights only load failed\": docs/weights-only.md";

/// `convert`
#[derive(Debug, Args)]
#[command(after_help = CONVERT_EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that a user gives or not")]
pub(crate) struct ConvertArgs {
    /// Files, folders (every checkpoint in them), or - for standard input
    #[arg(value_name = "INPUT", required = true)]
    pub(crate) inputs: Vec<PathBuf>,

    /// Where to write: a file if it ends in .safetensors, else a folder, which may be the input [default: beside the
    /// input]
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) select: SelectArgs,

    #[command(flatten)]
    pub(crate) trust: TrustArgs,

    #[command(flatten, next_help_heading = "Trust")]
    pub(crate) policy: PolicyArgs,

    #[command(flatten)]
    pub(crate) custody: CustodyArgs,

    #[command(flatten)]
    pub(crate) expect: ExpectArgs,

    /// Where to write the manifest [default: <stem>.manifest.json beside the output]
    #[arg(long, value_name = "PATH", conflicts_with = "no_manifest")]
    pub(crate) manifest: Option<PathBuf>,

    /// Write no manifest, and compute no digests
    #[arg(long)]
    pub(crate) no_manifest: bool,

    /// Say what would be written, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Replace outputs that exist; never an input
    #[arg(long)]
    pub(crate) force: bool,

    /// Split what has more bytes of tensors into several files, with an index (5GB = 5,000,000,000 bytes)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_shard_size: Option<u64>,

    /// Of a Hugging Face folder, copy configs, tokenizers and text too; never a pickle, never code [default]
    #[arg(long, overrides_with = "no_copy_others")]
    pub(crate) copy_others: bool,

    /// Write the weights of a folder alone
    #[arg(long)]
    pub(crate) no_copy_others: bool,

    /// Go on with an interrupted conversion of a folder, or into several files
    #[arg(long, conflicts_with = "no_manifest")]
    pub(crate) resume: bool,

    #[command(flatten)]
    pub(crate) work: WorkArgs,

    #[command(flatten)]
    pub(crate) say: SayArgs,
}

/// Which tensors, under which names and types.
#[derive(Debug, Args)]
#[command(next_help_heading = "Tensors")]
pub(crate) struct SelectArgs {
    /// Take the tensors below this place (such as model.ema); '' for the whole file
    #[arg(long, value_name = "PATH")]
    pub(crate) root: Option<String>,

    /// Take every tensor under its full path: optimizer state, non-persistent buffers, attributes too
    #[arg(long)]
    pub(crate) all: bool,

    /// Take only tensors whose final name matches (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,

    /// Leave out tensors whose final name matches (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,

    #[command(flatten)]
    pub(crate) names: NameArgs,

    /// Cast floating tensors: f32, f16 or bf16
    #[arg(long, value_name = "TYPE", value_parser = dtype)]
    pub(crate) dtype: Option<Dtype>,

    /// What becomes of names that show the same data
    #[arg(long, value_name = "HOW", value_enum, default_value_t = AliasChoice(Aliases::Auto))]
    pub(crate) aliases: AliasChoice,

    /// Write the values that are no tensors (epoch, hyper-parameters, class names) to <stem>.metadata.json
    #[arg(long)]
    pub(crate) metadata: bool,

    /// Read arrays of uint16 as bfloat16, which `PaddlePaddle` writes without saying so
    #[arg(long)]
    pub(crate) paddle_bf16: bool,
}

/// What an input has to be.
#[derive(Debug, Args)]
#[command(next_help_heading = "Trust")]
pub(crate) struct ExpectArgs {
    /// The digest that the input has to have before it is parsed; none: pass over what lies beside it (repeatable)
    #[arg(long, value_name = "sha256:HEX|auto|none")]
    pub(crate) expect: Vec<String>,

    /// A list of digests that has to name the input: of sha256sum, md5sum, BSD tools or git-lfs (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) expect_file: Vec<PathBuf>,
}

/// [`Aliases`] as a value of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AliasChoice(pub(crate) Aliases);

impl ValueEnum for AliasChoice {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(Aliases::Auto), Self(Aliases::Once), Self(Aliases::Copy), Self(Aliases::Refuse)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self.0 {
            Aliases::Auto => PossibleValue::new("auto").help("copy, so that strict loading works"),
            Aliases::Once => PossibleValue::new("once").help("write once, record the other names"),
            Aliases::Copy => PossibleValue::new("copy").help("write each"),
            Aliases::Refuse => PossibleValue::new("refuse").help("refuse the file"),
        })
    }
}

/// A size as `huggingface_hub` takes it: `5GB` is 5,000,000,000 bytes.
fn size(text: &str) -> Result<u64, &'static str> {
    const UNITS: &[(&str, u64)] =
        &[("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000), ("", 1)];
    const EXPECTED: &str = "expected a size such as 5GB, 500MB or a number of bytes";
    let text = text.trim().to_ascii_uppercase();
    let split = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    let (number, unit) = split.ok_or(EXPECTED)?;
    let (whole, part) = number.trim().split_once('.').unwrap_or((number.trim(), ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 12 {
        return Err(EXPECTED);
    }
    let whole: u64 = whole.parse().map_err(|_| EXPECTED)?;
    let part_of = 10_u64.checked_pow(u32::try_from(part.len()).unwrap_or(0)).ok_or(EXPECTED)?;
    let part = if part.is_empty() { 0 } else { part.parse().map_err(|_| EXPECTED)? };
    let part = u128::from(unit).checked_mul(part).and_then(|bytes| bytes.checked_div(u128::from(part_of)));
    let part = part.and_then(|bytes| u64::try_from(bytes).ok());
    let bytes = whole.checked_mul(unit).zip(part).and_then(|(whole, part)| whole.checked_add(part));
    bytes.filter(|bytes| *bytes > 0).ok_or(EXPECTED)
}

fn dtype(text: &str) -> Result<Dtype, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "f32" | "fp32" | "float32" | "float" => Ok(Dtype::F32),
        "f16" | "fp16" | "float16" | "half" => Ok(Dtype::F16),
        "bf16" | "bfloat16" => Ok(Dtype::Bf16),
        _ => Err("expected f32, f16 or bf16"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use depickle::plan::NameRule;

    use super::super::{Cli, Task};
    use super::*;

    fn convert(arguments: &[&str]) -> Result<ConvertArgs, clap::Error> {
        let all = ["depickle", "convert", "a.pt"].iter().chain(arguments);
        match Cli::try_parse_from(all)?.command {
            Task::Convert(args) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn changes_of_names_keep_their_order() {
        let args = ["--rename", "a=b", "--strip-prefix", "x.", "--rename=c=d", "--strip-prefix=auto"];
        let rename = |text| NameRule::rename(text).unwrap();
        let expected =
            [rename("a=b"), NameRule::strip_prefix("x."), rename("c=d"), NameRule::StripPrefixAuto];
        assert_eq!(convert(&args).unwrap().select.names.0, expected);
    }

    #[test]
    fn sizes_are_decimal() {
        for (text, bytes) in [("5GB", 5_000_000_000), ("1.5mb", 1_500_000), ("200 KB", 200_000), ("77", 77)] {
            assert_eq!(convert(&["--max-shard-size", text]).unwrap().max_shard_size, Some(bytes));
        }
    }

    #[test]
    fn types_go_by_several_names() {
        for (text, dtype) in [("f32", Dtype::F32), ("Float16", Dtype::F16), ("BF16", Dtype::Bf16)] {
            assert_eq!(convert(&["--dtype", text]).unwrap().select.dtype, Some(dtype));
        }
    }

    #[test]
    fn wrong_usage_is_told() {
        for arguments in [
            &["--dtype", "f64"][..],
            &["--jobs", "0"],
            &["--max-shard-size", "0"],
            &["--max-shard-size", "5 gigabytes"],
            &["--resume", "--no-manifest"],
            &["--rename", "a"],
            &["--rename", "(=b"],
            &["--aliases", "never"],
            &["--quiet", "--verbose"],
            &["--manifest", "m", "--no-manifest"],
        ] {
            assert_eq!(convert(arguments).unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }
}
