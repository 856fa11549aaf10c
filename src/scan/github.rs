//! A scan as GitHub workflow commands, which become annotations, and as a summary in Markdown.
//!
//! Source: "Workflow commands for GitHub Actions". Everything in them may be an attacker's: what would end a property or
//! begin another command is encoded.

use std::fmt::Write as _;

use crate::report::{FileVerdict, Finding, Scanned, ScannedFile, Severity};

/// Annotations that are written; GitHub shows ten of each kind in a step.
const ANNOTATIONS: usize = 1_000;
/// Rows of a table; a summary may have a mebibyte.
const ROWS: usize = 500;
/// Characters of a message, a path or a name.
const LONGEST: usize = 300;

/// What a policy passes over is not reported.
fn counting(file: &ScannedFile) -> impl Iterator<Item = &Finding> {
    file.findings.iter().filter(|finding| finding.suppressed.is_none())
}

/// One line an annotation, the worst first.
pub fn annotations(scanned: &Scanned) -> Vec<String> {
    let of = |file| counting(file).map(move |finding| (file, finding));
    let mut findings: Vec<(&ScannedFile, &Finding)> = scanned.files.iter().flat_map(of).collect();
    findings.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.severity));
    let left_out = findings.len().saturating_sub(ANNOTATIONS);
    let mut lines: Vec<String> =
        findings.iter().take(ANNOTATIONS).map(|(file, finding)| annotation(file, finding)).collect();
    for file in &scanned.files {
        if matches!(file.verdict, FileVerdict::Malformed | FileVerdict::Unsupported) {
            let message = format!("{}: not known what loading it would do", file.verdict.name());
            lines.push(command("warning", &file.path, file.verdict.name(), &message));
        }
    }
    lines
        .extend(scanned.errors.iter().map(|error| command("error", &error.path, "unreadable", &error.error)));
    if left_out > 0 {
        lines.push(format!("::warning title=depickle::{left_out} more findings are not annotated"));
    }
    lines
}

fn annotation(file: &ScannedFile, finding: &Finding) -> String {
    let kind = match finding.severity {
        Severity::Dangerous => "error",
        Severity::Suspicious => "warning",
        Severity::Note => "notice",
    };
    let message = format!("{}{}", place(finding), finding.message);
    command(kind, &file.path, finding.rule, &message)
}

fn command(kind: &str, path: &str, title: &str, message: &str) -> String {
    format!(
        "::{kind} file={},line=1,title={}::{}",
        property(path),
        property(&format!("depickle {title}")),
        data(message)
    )
}

/// `member @0x2c: `
fn place(finding: &Finding) -> String {
    let entry = finding.entry.as_deref().unwrap_or_default();
    match (entry, finding.offset) {
        ("", None) => String::new(),
        ("", Some(offset)) => format!("@{offset:#x}: "),
        (entry, None) => format!("{entry}: "),
        (entry, Some(offset)) => format!("{entry} @{offset:#x}: "),
    }
}

/// What follows the second pair of colons.
fn data(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(LONGEST) {
        match c {
            '%' => shown.push_str("%25"),
            '\r' => shown.push_str("%0D"),
            '\n' => shown.push_str("%0A"),
            // The log shows it as it is: nothing in it moves the cursor or turns the text around.
            c if !c.is_ascii() && c.escape_debug().len() > 1 || c.is_ascii_control() => {
                shown.extend(c.escape_unicode());
            }
            c => shown.push(c),
        }
    }
    shown
}

/// The value of a property, which a comma or a colon would end.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// A page with a table of the verdicts and one of the findings, for `GITHUB_STEP_SUMMARY` and for comments.
pub fn markdown(scanned: &Scanned) -> String {
    let summary = &scanned.summary;
    let mut page = String::from("## depickle scan\n\n| verdict | files |\n|---|---:|\n");
    let counts = [
        ("dangerous", summary.dangerous),
        ("suspicious", summary.suspicious),
        ("malformed", summary.malformed),
        ("unsupported", summary.unsupported),
        ("clean", summary.clean),
        ("no model file", summary.not_applicable),
        ("could not be read", summary.errors),
    ];
    for (verdict, count) in counts.iter().filter(|(_, count)| *count > 0) {
        let _ = writeln!(page, "| {verdict} | {count} |");
    }
    let mut rows: Vec<(Severity, String)> = Vec::new();
    for file in &scanned.files {
        let path = code(&file.path);
        if file.findings.is_empty()
            && matches!(file.verdict, FileVerdict::Malformed | FileVerdict::Unsupported)
        {
            rows.push((Severity::Suspicious, format!("| {} | {path} | | | |", file.verdict.name())));
        }
        rows.extend(counting(file).map(|finding| {
            let (severity, rule) = (finding.severity.name(), finding.rule);
            let place = place(finding);
            let place = if place.is_empty() { String::new() } else { code(place.trim_end_matches(": ")) };
            (
                finding.severity,
                format!("| {severity} | {path} | {place} | {rule} | {} |", code(&finding.message)),
            )
        }));
    }
    rows.sort_by_key(|(severity, _)| std::cmp::Reverse(*severity));
    if !rows.is_empty() {
        page.push_str("\n| severity | file | place | rule | finding |\n|---|---|---|---|---|\n");
    }
    for (_, row) in rows.iter().take(ROWS) {
        let _ = writeln!(page, "{row}");
    }
    if let Some(more) = rows.len().checked_sub(ROWS).filter(|more| *more > 0) {
        let _ = writeln!(page, "\n{more} more findings are not shown.");
    }
    page
}

/// Text in which nothing is markup, a link, or somebody's name.
fn code(text: &str) -> String {
    let mut shown = String::from("<code>");
    for c in text.chars().take(LONGEST) {
        if c.is_alphanumeric() || " /-=,".contains(c) {
            shown.push(c);
        } else {
            let _ = write!(shown, "&#{};", u32::from(c));
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown.push_str("</code>");
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounting::{Accounted, Accounting};
    use crate::report::{Coverage, ScanError};

    fn scanned(path: &str, message: &str) -> Scanned {
        let finding = |severity| Finding {
            rule: "dangerous-call",
            severity,
            message: message.to_owned(),
            entry: Some("a.pkl".to_owned()),
            offset: Some(16),
            length: None,
            global: None,
            suppressed: None,
        };
        let file = ScannedFile {
            path: path.to_owned(),
            size: 9,
            sha256: None,
            container: "pickle".to_owned(),
            verdict: FileVerdict::Dangerous,
            coverage: Coverage::Complete,
            findings: vec![finding(Severity::Note), finding(Severity::Dangerous)],
            pickles: Vec::new(),
            accounting: Accounted::Plain(Accounting::default()),
        };
        let errors = vec![ScanError { path: "gone".to_owned(), error: "denied".to_owned() }];
        Scanned::new(vec![file], errors)
    }

    #[test]
    fn nothing_in_an_annotation_begins_another_command() {
        let lines = annotations(&scanned("a,b:c\n::error::x.pt", "50% off\r\n::stop-commands::x"));
        assert_eq!(
            lines[0],
            "::error file=a%2Cb%3Ac%0A%3A%3Aerror%3A%3Ax.pt,line=1,title=depickle dangerous-call::a.pkl @0x10: 50%25 off%0D%0A::stop-commands::x"
        );
        assert!(lines[1].starts_with("::notice "));
        assert_eq!(lines[2], "::error file=gone,line=1,title=depickle unreadable::denied");
        assert!(lines.iter().all(|line| !line.contains(['\n', '\r'])));
    }

    #[test]
    fn nothing_in_a_summary_is_markup() {
        let page = markdown(&scanned("x|y`<img src=x>`.pt", "[a](http://b) @team &amp; **c**\n| d |"));
        assert!(page.contains("| dangerous | 1 |\n| could not be read | 1 |\n"), "{page}");
        let row = page.lines().find(|line| line.contains("dangerous-call")).unwrap();
        assert_eq!(row.matches('|').count(), 6, "{row}");
        assert!(row.starts_with("| dangerous | <code>x&#124;y&#96;&#60;img src=x&#62;"), "{row}");
        assert!(
            !row.contains("http://") && !row.contains('@') && !row.contains("**") && !row.contains('['),
            "{row}"
        );
    }

    #[test]
    fn long_reports_are_cut_and_say_so() {
        let mut scanned = scanned("m.pt", "x");
        let finding = scanned.files[0].findings[0].clone();
        scanned.files[0].findings = vec![finding; 5_000];
        assert!(annotations(&scanned).last().unwrap().contains("4000 more findings"));
        let page = markdown(&scanned);
        assert!(page.contains("4500 more findings") && page.len() < 1 << 20);
    }
}
