//! `depickle scan`: what would these files do if Python loaded them? Nothing is run.

mod show;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use depickle::progress::Progress;
use depickle::report::{Coverage, FileVerdict, ScanError, Scanned, ScannedFile, Severity};
use depickle::scan::{Options, annotations, hold, in_force, markdown, sarif, scan_source};

use super::args::{FailOn, ScanArgs, ScanFormat};
use super::exit::Exit;
use super::inputs::{self, Input};
use super::policy;
use super::printer::Printer;
use super::progress::progress;
use super::text::length;

/// Scans every input.
pub(crate) fn run(args: &ScanArgs, printer: &mut Printer) -> Exit {
    let inputs = match inputs::find_all(&args.inputs) {
        Ok(inputs) => inputs,
        Err(message) => {
            printer.error(format_args!("error: {message}"));
            return Exit::Usage;
        }
    };
    let policy = match policy::load(&args.policy, printer) {
        Ok(policy) => policy,
        Err(exit) => return exit,
    };
    // Suppressions are bound to digests.
    let digest = args.digest || policy.as_ref().is_some_and(|policy| !policy.suppressed.is_empty());
    let mut options = Options { digest, deep: args.deep, ..Options::default() };
    if let Some(policy) = &policy {
        policy.apply(&mut options.overrides);
    }
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.work.jobs().unwrap_or_else(cores).min(inputs.all.len().max(1));
    let bar = progress(!args.work.no_progress && !printer.is_json() && inputs.all.len() > 1);
    let results = scan_all(&inputs.all, &options, jobs, &*bar);
    let mut files = Vec::with_capacity(results.len());
    let mut errors = Vec::new();
    for (input, result) in inputs.all.iter().zip(results) {
        match result {
            Ok(mut file) => {
                if let Some(policy) = &policy {
                    hold(policy, &mut file);
                }
                files.push(file);
            }
            Err(error) => errors.push(ScanError { path: input.name(), error: error.to_string() }),
        }
    }
    let mut document = Scanned::new(files, errors);
    document.policy = policy.as_ref().map(in_force);
    let exit = exit(&document, args.fail_on);
    match args.format() {
        ScanFormat::Text => show::show(&document, inputs.skipped, printer),
        ScanFormat::Json => printer.document(&document),
        ScanFormat::Sarif => printer.document(&sarif(&document, exit.code())),
        ScanFormat::Markdown => printer.bytes(markdown(&document).as_bytes()),
        ScanFormat::Github => {
            for line in annotations(&document) {
                printer.data(line);
            }
            step_summary(&document, printer);
        }
    }
    if args.format() != ScanFormat::Text {
        for error in &document.errors {
            printer.error(show::error(error));
        }
    }
    exit
}

/// Adds to the summary of the step, where a workflow says which file that is.
fn step_summary(document: &Scanned, printer: &mut Printer) {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) else { return };
    let file = OpenOptions::new().append(true).create(true).open(&path);
    if let Err(error) = file.and_then(|mut file| file.write_all(markdown(document).as_bytes())) {
        printer.error(format_args!("GITHUB_STEP_SUMMARY: {error}"));
    }
}

/// Scans with several threads; the results are in the order of the inputs.
fn scan_all(
    inputs: &[Input],
    options: &Options,
    jobs: usize,
    bar: &dyn Progress,
) -> Vec<io::Result<ScannedFile>> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, io::Result<ScannedFile>)>> = Mutex::new(Vec::with_capacity(inputs.len()));
    bar.begin("scan", length(inputs.len()));
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((i, input)) = {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    inputs.get(i).map(|input| (i, input))
                } {
                    let result = scan_one(input, options);
                    bar.advance(1);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((i, result));
                }
            });
        }
    });
    bar.finish();
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}

fn scan_one(input: &Input, options: &Options) -> io::Result<ScannedFile> {
    let source = input.open(&std::env::temp_dir())?;
    let folder = input.folder();
    scan_source(&source, &input.name(), folder.as_deref().map(Path::new), options)
}

/// The exit code: findings, then what is not known, then what could not be read.
fn exit(document: &Scanned, fail_on: FailOn) -> Exit {
    let summary = &document.summary;
    let met = summary.files.saturating_sub(summary.not_applicable);
    if met == 0 && summary.errors == 0 {
        return Exit::Malformed;
    }
    let files = document.files.iter().map(|file| of_file(file, fail_on.severity()));
    Exit::of_several(files.chain(document.errors.iter().map(|_| Exit::Environment)))
}

fn of_file(file: &ScannedFile, fail_on: Severity) -> Exit {
    let worst = file.worst();
    match file.verdict {
        _ if worst >= Some(fail_on) => Exit::No,
        FileVerdict::Malformed | FileVerdict::Unsupported => Exit::Malformed,
        FileVerdict::NotApplicable => Exit::Done,
        _ if file.coverage != Coverage::Complete => Exit::Malformed,
        _ => Exit::Done,
    }
}
