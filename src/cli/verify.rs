//! `depickle verify`

use std::collections::BTreeSet;
use std::path::Path;

use depickle::convert::{Level, check_source, reconvert};
use depickle::custody::{self, Check, Manifest, Report, VerifyError};
use depickle::report::{Mismatch, VERIFY_SCHEMA, Verification};
use depickle::{Error, ErrorKind};

use super::args::VerifyArgs;
use super::exit::Exit;
use super::explain::explain;
use super::printer::Printer;
use super::progress::progress;
use super::sanitize::{bounded, sanitize};
use super::sign;
use super::text::length;

/// Checks the outputs of a manifest, its source where one is given, and the signature of their folder, and says what each
/// level showed.
pub(crate) fn run(args: &VerifyArgs, printer: &mut Printer) -> Exit {
    let mut signature = match sign::Level::check(&args.path, &args.signature) {
        Ok(signature) => signature,
        Err(error) => return failed(&args.path, error.into(), printer),
    };
    let read = match custody::read_manifest(&args.path) {
        // Another tool's folder has a signature and no manifest.
        Err(_) if signature.is_alone && signature.is_checked() => None,
        Err(VerifyError::NoManifest { .. }) if signature.is_checked() => None,
        Err(error) => {
            if !signature.is_match() {
                signature.lines().iter().for_each(|line| printer.error(line));
            }
            return failed(&args.path, error.into(), printer);
        }
        Ok(read) => Some(read),
    };
    let levels = read.map(|(path, manifest)| {
        let report = custody::verify_manifest(&path, &manifest);
        let further = further(args, &path, &manifest)?;
        Ok(Levels { report, further })
    });
    let levels = match levels.transpose() {
        Ok(levels) => levels,
        Err(error) => return unreadable(&error, printer),
    };
    if let Some(levels) = &levels
        && let Err(error) = signature.check_manifest(Path::new(&levels.report.manifest))
    {
        return failed(&args.path, error.into(), printer);
    }
    if printer.is_json() {
        printer.document(&document(levels.as_ref(), &signature));
    } else {
        print(&args.path, levels.as_ref(), &signature, printer);
    }
    for note in levels.iter().flat_map(|levels| &levels.further).flat_map(|level| &level.notes) {
        printer.note(bounded(note, 1_000));
    }
    if let Some(note) = signature.note() {
        printer.note(note);
    }
    let is_match = signature.is_match() && levels.is_none_or(|levels| levels.is_match());
    if is_match { Exit::Done } else { Exit::No }
}

/// What the levels showed, but for the signature.
struct Levels {
    report: Report,
    /// Those that need the source.
    further: Vec<Level>,
}

impl Levels {
    fn is_match(&self) -> bool {
        self.report.is_match() && self.further.iter().all(Level::is_match)
    }

    fn mismatches(&self) -> impl Iterator<Item = &Check> {
        self.report.mismatches.iter().chain(self.further.iter().flat_map(|level| &level.mismatches))
    }

    /// How many things a level checked; `None` where it was not asked for.
    fn checked(&self, level: &str) -> Option<u64> {
        match level {
            FILES => Some(self.report.files),
            TENSORS => Some(self.report.tensors),
            level => self.further.iter().find(|known| known.level == level).map(|known| known.checked),
        }
    }
}

const FILES: &str = "files";
const TENSORS: &str = "tensors";
const SOURCE: &str = "source";
const RECONVERSION: &str = "reconversion";

fn further(args: &VerifyArgs, at: &Path, manifest: &Manifest) -> Result<Vec<Level>, Error> {
    let Some(source) = &args.source else { return Ok(Vec::new()) };
    let jobs = args.work.jobs();
    let bars = progress(!args.work.no_progress);
    let mut levels = vec![check_source(manifest, source, jobs, &*bars)?];
    if args.reconvert {
        levels.push(reconvert(manifest, at, source, jobs, &*bars)?);
    }
    Ok(levels)
}

/// Tells of an error that names its file itself.
fn failed(path: &Path, kind: ErrorKind, printer: &mut Printer) -> Exit {
    printer.error(bounded(&kind.to_string(), 2_000));
    Error { path: path.display().to_string(), kind: Box::new(kind) }.class().into()
}

/// Tells of a source that cannot be read.
fn unreadable(error: &Error, printer: &mut Printer) -> Exit {
    for line in explain(error, None) {
        printer.error(line);
    }
    error.class().into()
}

fn document(levels: Option<&Levels>, signature: &sign::Level) -> Verification {
    let mismatches = levels.into_iter().flat_map(Levels::mismatches).map(|check| Mismatch {
        level: check.level,
        name: check.name.clone(),
        mismatch: check.mismatch.clone().unwrap_or_default(),
    });
    let mut mismatches: Vec<Mismatch> = mismatches.collect();
    // Files before tensors; the other levels come in their order.
    mismatches.sort_by_key(|mismatch| {
        [FILES, TENSORS].iter().position(|level| *level == mismatch.level).unwrap_or(2)
    });
    mismatches.extend(signature.mismatches());
    let checked = |level| levels.and_then(|levels| levels.checked(level));
    Verification {
        schema: VERIFY_SCHEMA,
        manifest: levels.map(|levels| levels.report.manifest.clone()),
        matches: mismatches.is_empty(),
        files: checked(FILES).unwrap_or(0),
        tensors: checked(TENSORS).unwrap_or(0),
        source: checked(SOURCE),
        reconversion: checked(RECONVERSION),
        signature: signature.state(),
        mismatches,
    }
}

fn print(path: &Path, levels: Option<&Levels>, signature: &sign::Level, printer: &mut Printer) {
    match levels {
        Some(levels) => print_levels(levels, printer),
        None => printer.data(format_args!("{}  no manifest", sanitize(&path.display().to_string()))),
    }
    signature.lines().iter().for_each(|line| printer.data(line));
}

fn print_levels(levels: &Levels, printer: &mut Printer) {
    printer.data(sanitize(&levels.report.manifest));
    for level in [FILES, TENSORS, SOURCE, RECONVERSION] {
        let Some(all) = levels.checked(level) else { continue };
        let found: Vec<&Check> = levels.mismatches().filter(|check| check.level == level).collect();
        let wrong: BTreeSet<&str> = found.iter().map(|check| check.name.as_str()).collect();
        let right = all.saturating_sub(length(wrong.len()));
        printer.data(format_args!("  {level:<7}  {right} of {all} match"));
        for check in found {
            let mismatch = check.mismatch.as_deref().unwrap_or_default();
            printer.data(format_args!("    {}: {}", bounded(&check.name, 400), bounded(mismatch, 1_000)));
        }
    }
}
