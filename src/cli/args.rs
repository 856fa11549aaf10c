//! The arguments, as clap types and nothing else.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use depickle::plan::{Aliases, NameRule};
use depickle::report::Severity;
use depickle::tensor::Dtype;

use super::custody::CustodyArgs;
use super::sign::{SignArgs, SignModelArgs, SignatureArgs, VerifyModelArgs};

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

    /// Threads [default: one a core]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,

    /// Draw no progress bar
    #[arg(long)]
    pub(crate) no_progress: bool,

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

/// `scan`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  depickle scan model.pt
  depickle scan downloads/ --fail-on dangerous
  depickle scan models/ --format sarif > scan.sarif
  depickle scan models/ --deep --digest --format json > scan.json")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that a user gives or not")]
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

    /// Threads [default: one a core]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,

    /// Draw no progress bar
    #[arg(long)]
    pub(crate) no_progress: bool,

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

    /// Threads [default: one a core]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,

    #[command(flatten)]
    pub(crate) signature: SignatureArgs,

    #[command(flatten)]
    pub(crate) form: FormArgs,
}

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

    /// Threads [default: one a core]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,

    /// Draw no progress bar
    #[arg(long)]
    pub(crate) no_progress: bool,

    #[command(flatten)]
    pub(crate) say: SayArgs,
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

/// `--strip-prefix` and `--rename`, in the order in which they stand on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameArgs(pub(crate) Vec<NameRule>);

const STRIP_PREFIX: &str = "strip_prefix";
const RENAME: &str = "rename";

impl FromArgMatches for NameArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let of = |id| {
            let rules = matches.get_many::<NameRule>(id).into_iter().flatten().cloned();
            matches.indices_of(id).into_iter().flatten().zip(rules)
        };
        let mut rules: Vec<(usize, NameRule)> = of(STRIP_PREFIX).chain(of(RENAME)).collect();
        rules.sort_by_key(|(at, _)| *at);
        Ok(Self(rules.into_iter().map(|(_, rule)| rule).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for NameArgs {
    fn augment_args(command: Command) -> Command {
        let strip = Arg::new(STRIP_PREFIX)
            .long("strip-prefix")
            .value_name("PREFIX|auto")
            .help("Take a prefix off names; auto: module. and _orig_mod. while all carry them (repeatable)")
            .action(ArgAction::Append)
            .value_parser(|text: &str| Ok::<_, std::convert::Infallible>(NameRule::strip_prefix(text)));
        let rename = Arg::new(RENAME)
            .long("rename")
            .value_name("REGEX=REPLACEMENT")
            .help("Replace in names; $1 is a group (repeatable, in order with --strip-prefix)")
            .action(ArgAction::Append)
            .value_parser(NameRule::rename);
        command.arg(strip).arg(rename)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
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
    use clap::CommandFactory;

    use super::*;

    fn convert(arguments: &[&str]) -> Result<ConvertArgs, clap::Error> {
        let all = ["depickle", "convert", "a.pt"].iter().chain(arguments);
        match Cli::try_parse_from(all)?.command {
            Task::Convert(args) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
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
