//! How a run over several inputs ended, class by class.

use std::collections::BTreeMap;

use depickle::plan::{Error as Plan, Structure};
use depickle::{Class, Error, ErrorKind, checkpoint};

use super::exit::Exit;
use super::text::{Align, columns};

/// What became of an input, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Converted,
    Refused,
    Misused,
    NoTensors,
    Unsupported,
    Malformed,
    Failed,
    NotApplicable,
    Skipped,
}

impl Outcome {
    /// What an error is. A file that was found in a folder and is no model format is nobody's fault.
    pub(crate) fn of(error: &Error, found: bool) -> Self {
        match (&*error.kind, error.class()) {
            (ErrorKind::Open(checkpoint::Error::NotApplicable), _) if found => Self::NotApplicable,
            (ErrorKind::Open(checkpoint::Error::NotApplicable | checkpoint::Error::Unsupported(_)), _) => {
                Self::Unsupported
            }
            (
                ErrorKind::Plan(Plan::Structure(Structure::NoTensors { .. } | Structure::NoWeights { .. })),
                _,
            ) => Self::NoTensors,
            (_, Class::Refused) => Self::Refused,
            (_, Class::Misuse) => Self::Misused,
            (_, Class::Malformed) => Self::Malformed,
            (_, Class::Environment) => Self::Failed,
        }
    }

    /// The exit code that the input would have by itself.
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::Converted | Self::NotApplicable | Self::Skipped => Exit::Done,
            Self::Refused => Exit::No,
            Self::Misused => Exit::Usage,
            Self::NoTensors | Self::Unsupported | Self::Malformed => Exit::Malformed,
            Self::Failed => Exit::Environment,
        }
    }

    fn label(self, dry_run: bool) -> (&'static str, &'static str) {
        match self {
            Self::Converted if dry_run => ("convertible", "nothing was written: a dry run"),
            Self::Converted => ("converted", ""),
            Self::Refused => ("refused", "by verdict, or by a flag that asks to refuse"),
            Self::Misused => ("not as asked", "flags that match nothing, outputs that exist"),
            Self::NoTensors => ("no tensors", ""),
            Self::Unsupported => ("unsupported", "a format that depickle does not convert"),
            Self::Malformed => ("malformed", "damaged, ambiguous or beyond a limit"),
            Self::Failed => ("failed", "could not be read or written: worth a retry"),
            Self::NotApplicable => ("not applicable", "no model files"),
            Self::Skipped => ("skipped", "links, safetensors files, what depickle wrote"),
        }
    }
}

/// Counts outcomes.
#[derive(Debug, Default)]
pub(crate) struct Summary(BTreeMap<Outcome, u64>);

impl Summary {
    pub(crate) fn add(&mut self, outcome: Outcome, count: u64) {
        let known = self.0.entry(outcome).or_default();
        *known = known.saturating_add(count);
    }

    /// The table: a row for each class that occurred.
    pub(crate) fn lines(&self, dry_run: bool) -> Vec<String> {
        let rows = self.0.iter().filter(|(outcome, count)| **outcome == Outcome::Converted || **count > 0);
        let rows = rows.map(|(outcome, count)| {
            let (label, meaning) = outcome.label(dry_run);
            vec![label.to_owned(), count.to_string(), meaning.to_owned()]
        });
        columns(&rows.collect::<Vec<_>>(), &[Align::Left, Align::Right, Align::Left])
    }

    /// The exit code of the run. One that met no model file at all has done nothing.
    pub(crate) fn exit(&self) -> Exit {
        let met = |outcome: Outcome| self.0.get(&outcome).is_some_and(|count| *count > 0);
        let exits = self.0.iter().filter(|(_, count)| **count > 0).map(|(outcome, _)| outcome.exit());
        match Exit::of_several(exits) {
            Exit::Done if !met(Outcome::Converted) => Exit::Malformed,
            exit => exit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_a_row_and_only_those_that_occurred() {
        let mut summary = Summary::default();
        summary.add(Outcome::Converted, 0);
        assert_eq!(summary.exit(), Exit::Malformed);
        summary.add(Outcome::Converted, 12);
        summary.add(Outcome::NotApplicable, 3);
        summary.add(Outcome::Skipped, 0);
        assert_eq!(summary.lines(false), ["converted       12", "not applicable   3  no model files"]);
        assert_eq!(summary.exit(), Exit::Done);
        summary.add(Outcome::Malformed, 1);
        assert_eq!(summary.exit(), Exit::Malformed);
        summary.add(Outcome::Refused, 1);
        assert_eq!(summary.exit(), Exit::No);
    }
}
