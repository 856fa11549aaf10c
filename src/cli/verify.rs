//! `depickle verify`

use std::collections::BTreeSet;
use std::path::Path;

use depickle::custody::{self, Report};
use depickle::report::{Mismatch, VERIFY_SCHEMA, Verification};
use depickle::{Error, ErrorKind};

use super::args::VerifyArgs;
use super::exit::Exit;
use super::printer::Printer;
use super::sanitize::{bounded, sanitize};
use super::text::length;

/// What a manifest without a signature shows.
const UNSIGNED: &str = "unsigned";

/// Checks the outputs of a manifest, and says what each level showed.
pub(crate) fn run(args: &VerifyArgs, printer: &mut Printer) -> Exit {
    let report = match custody::verify(&args.path) {
        Ok(report) => report,
        Err(error) => {
            // The error names its file itself.
            printer.error(bounded(&error.to_string(), 2_000));
            return class(&args.path, error.into());
        }
    };
    if printer.is_json() {
        printer.document(&document(&report));
    } else {
        print(&report, printer);
    }
    if report.is_match() { Exit::Done } else { Exit::No }
}

fn class(path: &Path, kind: ErrorKind) -> Exit {
    Error { path: path.display().to_string(), kind: Box::new(kind) }.class().into()
}

fn document(report: &Report) -> Verification {
    let mismatches = report.mismatches.iter().map(|check| Mismatch {
        level: check.level,
        name: check.name.clone(),
        mismatch: check.mismatch.clone().unwrap_or_default(),
    });
    let mut mismatches: Vec<Mismatch> = mismatches.collect();
    mismatches.sort_by_key(|mismatch| mismatch.level);
    Verification {
        schema: VERIFY_SCHEMA,
        manifest: report.manifest.clone(),
        matches: report.is_match(),
        files: report.files,
        tensors: report.tensors,
        signature: UNSIGNED,
        mismatches,
    }
}

fn print(report: &Report, printer: &mut Printer) {
    printer.data(sanitize(&report.manifest));
    for (level, all) in [("files", report.files), ("tensors", report.tensors)] {
        let found = report.mismatches.iter().filter(|check| check.level == level);
        let wrong: BTreeSet<&str> = found.clone().map(|check| check.name.as_str()).collect();
        let right = all.saturating_sub(length(wrong.len()));
        printer.data(format_args!("  {level:<7}  {right} of {all} match"));
        for check in found {
            let mismatch = check.mismatch.as_deref().unwrap_or_default();
            printer.data(format_args!("    {}: {}", bounded(&check.name, 400), bounded(mismatch, 1_000)));
        }
    }
    printer.data(format_args!("  {UNSIGNED}: integrity only"));
}
