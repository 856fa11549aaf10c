//! A scan, for people: a line for each clean file, and what was found in the others.

use std::fmt::Write;

use depickle::report::{FileVerdict, Finding, ScanError, Scanned, ScannedFile, Severity};

use super::super::color::Color;
use super::super::printer::Printer;
use super::super::sanitize::{bounded, sanitize};
use super::super::text::{Align, Count, Size, columns, length};

/// Findings shown of one file.
const SHOWN: usize = 30;

/// Shows every file, then how many there were of each kind.
pub(super) fn show(document: &Scanned, skipped: u64, printer: &mut Printer) {
    let color = Color::of_stdout();
    for file in document.files.iter().filter(|file| file.verdict != FileVerdict::NotApplicable) {
        printer.data(head(file, color));
        for finding in file.findings.iter().take(SHOWN) {
            printer.data(line(finding, color));
        }
        if let Some(more) = file.findings.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            printer.data(format_args!(
                "  and {} more; --format json lists them",
                Count(length(more), "finding")
            ));
        }
    }
    for failed in &document.errors {
        printer.error(error(failed));
    }
    if document.files.len().saturating_add(document.errors.len()) > 1 || skipped > 0 {
        for row in summary(document, skipped) {
            printer.note(row);
        }
    } else if document.summary.not_applicable > 0 {
        printer.note(format_args!("no model file: {}", names(document)));
    }
}

/// A file that could not be read.
pub(super) fn error(error: &ScanError) -> String {
    format!("{}: {}", sanitize(&error.path), bounded(&error.error, 500))
}

fn names(document: &Scanned) -> String {
    document.files.iter().map(|file| sanitize(&file.path).into_owned()).collect::<Vec<_>>().join(", ")
}

/// `model.pt  clean  torch-zip, 12 pickles`
fn head(file: &ScannedFile, color: Color) -> String {
    let verdict = color.verdict(file.verdict);
    let mut text = format!("{}  {verdict}  {}, {}", sanitize(&file.path), file.container, Size(file.size));
    if let Some(sha256) = &file.sha256 {
        let _ = write!(text, ", sha256:{sha256}");
    }
    text
}

/// `  data.pkl @0x1f3a  os.system("x")  dangerous  [dangerous-call]`
fn line(finding: &Finding, color: Color) -> String {
    let mut place =
        finding.entry.as_deref().map(|entry| bounded(entry, 120).into_owned()).unwrap_or_default();
    if let Some(offset) = finding.offset {
        let gap = if place.is_empty() { "" } else { " " };
        let _ = write!(place, "{gap}@{offset:#x}");
    }
    let gap = if place.is_empty() { "" } else { "  " };
    let severity = color.severity(finding.severity);
    let message = bounded(&finding.message, 400);
    let suppressed = finding
        .suppressed
        .as_ref()
        .map(|reason| format!("  passed over by the policy: {}", bounded(reason, 200)));
    format!("  {severity}  {place}{gap}{message}  [{}]{}", finding.rule, suppressed.unwrap_or_default())
}

fn summary(document: &Scanned, skipped: u64) -> Vec<String> {
    let summary = &document.summary;
    let rows = [
        ("clean", summary.clean, ""),
        ("suspicious", summary.suspicious, "honest files do not need this"),
        ("dangerous", summary.dangerous, "loading runs code, or reaches what can"),
        ("malformed", summary.malformed, "damaged or beyond a limit: not known what it would do"),
        ("unsupported", summary.unsupported, "a format that is not read"),
        ("failed", summary.errors, "could not be read: worth a retry"),
        ("not applicable", summary.not_applicable, "no model files"),
        ("skipped", usize::try_from(skipped).unwrap_or(usize::MAX), "links"),
    ];
    let rows = rows.iter().filter(|(label, count, _)| *count > 0 || *label == "clean");
    let rows: Vec<_> = rows
        .map(|(label, count, meaning)| vec![(*label).to_owned(), count.to_string(), (*meaning).to_owned()])
        .collect();
    columns(&rows, &[Align::Left, Align::Right, Align::Left])
}

impl Color {
    fn verdict(self, verdict: FileVerdict) -> String {
        let paint = match verdict {
            FileVerdict::Clean => Self::green,
            FileVerdict::Dangerous => Self::red,
            _ => Self::yellow,
        };
        paint(self, verdict.name())
    }

    fn severity(self, severity: Severity) -> String {
        match severity {
            Severity::Note => "note".to_owned(),
            Severity::Suspicious => self.yellow("suspicious"),
            Severity::Dangerous => self.red("dangerous"),
        }
    }
}
