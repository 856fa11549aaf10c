//! What went wrong, in lines: which file and place, what was found, and what to do next.

use std::collections::BTreeSet;
use std::fmt::Write;

use depickle::checkpoint::{self, RefusedUse};
use depickle::custody::ExpectError;
use depickle::output::{self, ErrorKind as Output};
use depickle::plan::{Error as Plan, Refused, Structure};
use depickle::policy::Verdict;
use depickle::rebuild;
use depickle::{Error, ErrorKind};

use super::again::Again;
use super::sanitize::{bounded, sanitize};
use super::text::{Count, quote};

/// Uses that are shown of one file; a hostile one may have millions.
const SHOWN: usize = 20;

/// Characters of a message; it may carry a name of the file.
const LONGEST: usize = 2_000;

/// The lines of an error. With `again` a refusal ends with the command that goes on.
pub(crate) fn explain(error: &Error, again: Option<Again<'_>>) -> Vec<String> {
    let path = sanitize(&error.path);
    match &*error.kind {
        ErrorKind::Open(checkpoint::Error::Refused { uses }) => {
            let mut lines = vec![format!("{path}: not converted (nothing was run)")];
            lines.extend(uses.iter().take(SHOWN).map(|used| format!("  {}", refused(used))));
            if let Some(more) = uses.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                lines.push(format!(
                    "  and {more} more; depickle inspect {} lists them",
                    quote(error.path.as_ref())
                ));
            }
            let names = unknown_names(uses);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let command = again.filter(|_| !names.is_empty()).and_then(|again| again.keeping(&names));
            lines.extend(command.map(|command| format!("  keep it as inert data: {command}")));
            lines
        }
        ErrorKind::Expect(ExpectError::Mismatch { .. } | ExpectError::Size { .. })
        | ErrorKind::Open(checkpoint::Error::Strict(_))
        | ErrorKind::Plan(Plan::Refused(_)) => {
            let kind = bounded(&error.kind.to_string(), LONGEST).into_owned();
            let mut lines = vec![format!("{path}: not converted (nothing was run)"), format!("  {kind}")];
            lines.extend(next(error).map(|next| format!("  {next}")));
            lines
        }
        kind => {
            let mut lines = vec![format!("{path}: {}", bounded(&kind.to_string(), LONGEST))];
            lines.extend(next(error).map(|next| format!("  {next}")));
            lines
        }
    }
}

/// The cause alone, in one line.
pub(crate) fn cause(error: &Error) -> String {
    match &*error.kind {
        ErrorKind::Open(checkpoint::Error::Refused { uses }) => {
            let shown: Vec<String> = uses.iter().take(SHOWN).map(refused).collect();
            shown.join("; ")
        }
        kind => bounded(&kind.to_string(), LONGEST).into_owned(),
    }
}

/// One use: where, what, and how much depends on it.
pub(crate) fn refused(refused: &RefusedUse) -> String {
    let mut line = String::new();
    if let Some(entry) = &refused.entry {
        let _ = write!(line, "{} ", bounded(entry, 80));
    }
    let used = &refused.used;
    let _ = write!(line, "@{}  {}  {}", used.offset, bounded(&used.expression, 200), used.verdict);
    if let Some((dependents, all)) = refused.dependents.filter(|(_, all)| *all > 0) {
        let verb = if dependents == 1 || all == 1 { "depends" } else { "depend" };
        let _ = write!(line, "; {dependents} of {} {verb} on it", Count(all, "tensor"));
    }
    line
}

/// The names with which a conversion would go on: none where anything dangerous was met.
pub(crate) fn unknown_names(uses: &[RefusedUse]) -> BTreeSet<String> {
    if uses.iter().any(|refused| refused.used.verdict != Verdict::Unknown) {
        return BTreeSet::new();
    }
    uses.iter().map(|refused| refused.used.name.clone()).collect()
}

/// What to do next.
fn next(error: &Error) -> Option<String> {
    let inspect =
        || format!("depickle inspect {} shows what is in it", sanitize(&quote(error.path.as_ref())));
    Some(match &*error.kind {
        ErrorKind::Open(error) => open(error)?.to_owned(),
        ErrorKind::Expect(ExpectError::Mismatch { origin, .. } | ExpectError::Size { origin, .. }) => {
            expectation(origin).to_owned()
        }
        ErrorKind::Plan(Plan::Structure(Structure::NoTensors { .. })) => inspect(),
        ErrorKind::Plan(Plan::Refused(Refused::Alias { .. })) => {
            "--aliases copy or once writes it".to_owned()
        }
        ErrorKind::Plan(Plan::Misuse(_)) => inspect(),
        ErrorKind::Output(output::Error { kind, .. }) => match kind {
            Output::Exists => "--force replaces it, -o writes elsewhere".to_owned(),
            Output::NotAFile => "choose another with -o".to_owned(),
            Output::Interrupted => "--resume goes on with it, --force begins anew".to_owned(),
            Output::Busy => "wait for its end, or choose another folder with -o".to_owned(),
            Output::Stale => "--force removes it, -o writes elsewhere".to_owned(),
            Output::Write(_) | Output::Source(_) => {
                "nothing that looks finished was left behind; try again (a folder: with --resume)".to_owned()
            }
            Output::Crc { .. } | Output::Inflate { .. } | Output::InflatedSize { .. } => DAMAGED.to_owned(),
            _ => return None,
        },
        _ => return None,
    })
}

fn expectation(origin: &str) -> &'static str {
    if origin.starts_with("--expect") {
        "it is another file than the one that is meant, or damaged; nothing of it was used"
    } else {
        "it has changed since it was fetched, or is damaged; --expect none passes over what lies beside it"
    }
}

const DAMAGED: &str = "the file is damaged or was tampered with; nothing was written";

fn open(error: &checkpoint::Error) -> Option<&'static str> {
    match error {
        checkpoint::Error::Rebuild { error, .. } if error.kind.is_unresolved() => {
            Some("--skip-unresolved lists such tensors in the manifest and goes on")
        }
        checkpoint::Error::Rebuild { error, .. } if matches!(error.kind, rebuild::ErrorKind::Shard) => {
            Some("convert the folder that holds the files of all ranks: depickle convert FOLDER -o OUT")
        }
        checkpoint::Error::Ambiguous { .. } => Some("readers would not agree on it; nothing was written"),
        checkpoint::Error::Container(_)
        | checkpoint::Error::Pickle { .. }
        | checkpoint::Error::Legacy { .. } => Some(DAMAGED),
        checkpoint::Error::Unsupported(_) => {
            Some("supported: files of torch, joblib and numpy, plain pickles, any of them compressed")
        }
        checkpoint::Error::Strict(_) => {
            Some("without --strict it is kept as inert data, or dropped and recorded")
        }
        _ => None,
    }
}
