//! `--policy FILE`: read once, before the first input is opened.

use depickle::policy::{Day, Policy};
use depickle::scan::RULES;

use super::args::PolicyArgs;
use super::exit::Exit;
use super::printer::Printer;
use super::sanitize::{bounded, sanitize};

/// Longer files are no policies.
const LARGEST: u64 = 1 << 20;

fn is_rule(id: &str) -> bool {
    RULES.iter().any(|rule| rule.id == id)
}

/// Reads the policy, if one was named, and tells what of it is no longer in force.
///
/// # Errors
/// The exit code; what is wrong has been said.
pub(crate) fn load(args: &PolicyArgs, printer: &mut Printer) -> Result<Option<Policy>, Exit> {
    let Some(path) = &args.file else { return Ok(None) };
    let shown = path.display().to_string();
    let shown = sanitize(&shown);
    let bytes = std::fs::metadata(path).and_then(|there| {
        if there.len() > LARGEST {
            return Err(std::io::Error::other("too large for a policy"));
        }
        std::fs::read(path)
    });
    let bytes = bytes.map_err(|error| {
        printer.error(format_args!("error: {shown}: {error}"));
        Exit::Environment
    })?;
    let policy = Policy::parse(&bytes, &is_rule, Day::today()).map_err(|error| {
        printer.error(format_args!("error: {shown}: {}", bounded(&error.to_string(), 1_000)));
        Exit::Usage
    })?;
    for expired in &policy.expired {
        printer.note(format_args!("{shown}: {}", bounded(&expired.to_string(), 1_000)));
    }
    printer.detail(format_args!("policy: {shown}, sha256 {}", policy.sha256));
    for (what, entries) in [("inert", &policy.inert), ("denied", &policy.denied)] {
        for entry in entries {
            let (name, reason) = (bounded(&entry.name, 200), bounded(&entry.reason, 400));
            printer.detail(format_args!("policy: {name} is {what}: {reason}"));
        }
    }
    Ok(Some(policy))
}
