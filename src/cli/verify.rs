//! `depickle verify`

use std::collections::BTreeSet;
use std::path::Path;

use depickle::custody::{self, Report, VerifyError};
use depickle::report::{Mismatch, VERIFY_SCHEMA, Verification};
use depickle::{Error, ErrorKind};

use super::args::VerifyArgs;
use super::exit::Exit;
use super::printer::Printer;
use super::sanitize::{bounded, sanitize};
use super::sign;
use super::text::length;

/// Checks the outputs of a manifest and the signature of their folder, and says what each level showed.
pub(crate) fn run(args: &VerifyArgs, printer: &mut Printer) -> Exit {
    let mut signature = match sign::Level::check(&args.path, &args.signature) {
        Ok(signature) => signature,
        Err(error) => return failed(&args.path, error.into(), printer),
    };
    let report = match custody::verify(&args.path) {
        // Another tool's folder has a signature and no manifest.
        Err(_) if signature.is_alone && signature.is_checked() => None,
        Err(VerifyError::NoManifest { .. }) if signature.is_checked() => None,
        Err(error) => {
            if !signature.is_match() {
                signature.lines().iter().for_each(|line| printer.error(line));
            }
            return failed(&args.path, error.into(), printer);
        }
        Ok(report) => Some(report),
    };
    if let Some(report) = &report
        && let Err(error) = signature.check_manifest(Path::new(&report.manifest))
    {
        return failed(&args.path, error.into(), printer);
    }
    if printer.is_json() {
        printer.document(&document(report.as_ref(), &signature));
    } else {
        print(&args.path, report.as_ref(), &signature, printer);
    }
    if let Some(note) = signature.note() {
        printer.note(note);
    }
    let is_match = signature.is_match() && report.is_none_or(|report| report.is_match());
    if is_match { Exit::Done } else { Exit::No }
}

/// Tells of an error that names its file itself.
fn failed(path: &Path, kind: ErrorKind, printer: &mut Printer) -> Exit {
    printer.error(bounded(&kind.to_string(), 2_000));
    Error { path: path.display().to_string(), kind: Box::new(kind) }.class().into()
}

fn document(report: Option<&Report>, signature: &sign::Level) -> Verification {
    let mismatches = report.into_iter().flat_map(|report| &report.mismatches).map(|check| Mismatch {
        level: check.level,
        name: check.name.clone(),
        mismatch: check.mismatch.clone().unwrap_or_default(),
    });
    let mut mismatches: Vec<Mismatch> = mismatches.collect();
    mismatches.sort_by_key(|mismatch| mismatch.level);
    mismatches.extend(signature.mismatches());
    Verification {
        schema: VERIFY_SCHEMA,
        manifest: report.map(|report| report.manifest.clone()),
        matches: mismatches.is_empty(),
        files: report.map_or(0, |report| report.files),
        tensors: report.map_or(0, |report| report.tensors),
        signature: signature.state(),
        mismatches,
    }
}

fn print(path: &Path, report: Option<&Report>, signature: &sign::Level, printer: &mut Printer) {
    match report {
        Some(report) => levels(report, printer),
        None => printer.data(format_args!("{}  no manifest", sanitize(&path.display().to_string()))),
    }
    signature.lines().iter().for_each(|line| printer.data(line));
}

fn levels(report: &Report, printer: &mut Printer) {
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
}
