//! Flags that change names, whose order counts.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use depickle::plan::NameRule;

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
