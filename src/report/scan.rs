//! What `scan --format json` prints, `depickle-scan/1`; a JSON Schema of it is `docs/scan.schema.json`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::accounting::Accounted;

use super::{InspectedPickle, Tool};

/// The value of `schema`.
pub const SCAN_SCHEMA: &str = "depickle-scan/1";

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scanned {
    /// [`SCAN_SCHEMA`]
    pub schema: &'static str,
    /// What wrote it.
    pub tool: Tool,
    /// Every file that could be read, in the order of the inputs.
    pub files: Vec<ScannedFile>,
    /// Files that could not be read.
    pub errors: Vec<ScanError>,
    /// How many of each.
    pub summary: ScanSummary,
    /// The policy in force; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<ScanPolicy>,
}

/// The policy that a scan was held to, without what has expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScanPolicy {
    /// SHA-256 of the file.
    pub sha256: String,
    /// Names that it keeps as data.
    pub inert: Vec<String>,
    /// Names that it denies.
    pub denied: Vec<String>,
    /// Severities of rules, by their ids.
    pub severity: BTreeMap<String, Severity>,
    /// How many suppressions it has.
    pub suppressions: usize,
}

impl Scanned {
    /// The document of these files, in this order.
    pub fn new(files: Vec<ScannedFile>, errors: Vec<ScanError>) -> Self {
        let summary = ScanSummary::of(&files, errors.len());
        Self { schema: SCAN_SCHEMA, tool: Tool::this(), files, errors, summary, policy: None }
    }
}

/// A file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScannedFile {
    /// As it was named or found, with forward slashes; `-` for standard input.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Of the whole file; absent unless it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Such as `torch-zip`; `unknown` where it is no model format.
    pub container: String,
    /// The verdict.
    pub verdict: FileVerdict,
    /// How much of it was understood.
    pub coverage: Coverage,
    /// What was found, worst first, then in the order of the file.
    pub findings: Vec<Finding>,
    /// Its pickles, as in the manifest.
    pub pickles: Vec<InspectedPickle>,
    /// Where its bytes went, as in the manifest.
    pub accounting: Accounted,
}

impl ScannedFile {
    /// The worst of its findings, without those that the policy passes over.
    pub fn worst(&self) -> Option<Severity> {
        self.findings
            .iter()
            .filter(|finding| finding.suppressed.is_none())
            .map(|finding| finding.severity)
            .max()
    }
}

/// What a file is, as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileVerdict {
    /// No model format, and nothing in it that a model loader would run.
    NotApplicable,
    /// Wholly understood, and loading it runs nothing but what its format needs.
    Clean,
    /// A recognised format that is not read.
    Unsupported,
    /// Damaged, ambiguous or beyond a limit, so that it is not known what it would do.
    Malformed,
    /// Something that an honest file does not need.
    Suspicious,
    /// Loading it runs code, or reaches what can.
    Dangerous,
}

impl FileVerdict {
    /// Its name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotApplicable => "not-applicable",
            Self::Clean => "clean",
            Self::Unsupported => "unsupported",
            Self::Malformed => "malformed",
            Self::Suspicious => "suspicious",
            Self::Dangerous => "dangerous",
        }
    }
}

/// How much of a file was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coverage {
    /// Nothing of it.
    None,
    /// Not all: it breaks off, a limit was met, or a part of it is in a format that is not read.
    Partial,
    /// All that a loader acts on.
    Complete,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing; leaves a file clean.
    Note,
    /// An honest file does not need it.
    Suspicious,
    /// It runs code, or reaches what can.
    Dangerous,
}

impl Severity {
    /// Its name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Suspicious => "suspicious",
            Self::Dangerous => "dangerous",
        }
    }
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Id of the rule.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is, in one line. It may quote the file, escaped and bounded.
    pub message: String,
    /// Member of the archive, `outer.zip!inner.pkl` for one in an archive in an archive; null for the file itself.
    pub entry: Option<String>,
    /// First byte of it, from the start of the entry as a loader sees it, or of the file; null where it has no place.
    pub offset: Option<u64>,
    /// How many bytes; null where that says nothing.
    pub length: Option<u64>,
    /// The name that it is about, `module.name`.
    pub global: Option<String>,
    /// Why the policy passes it over; it then has no part in the verdict. Absent where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<String>,
}

/// A file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScanError {
    /// As it was named or found.
    pub path: String,
    /// Why.
    pub error: String,
}

/// How many files had which verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ScanSummary {
    /// Files that were read.
    pub files: usize,
    /// Files that could not be read.
    pub errors: usize,
    /// Of each verdict.
    pub clean: usize,
    /// Of each verdict.
    pub suspicious: usize,
    /// Of each verdict.
    pub dangerous: usize,
    /// Of each verdict.
    pub malformed: usize,
    /// Of each verdict.
    pub unsupported: usize,
    /// Of each verdict.
    #[serde(rename = "not-applicable")]
    pub not_applicable: usize,
}

impl ScanSummary {
    fn of(files: &[ScannedFile], errors: usize) -> Self {
        let count = |verdict| files.iter().filter(|file| file.verdict == verdict).count();
        Self {
            files: files.len(),
            errors,
            clean: count(FileVerdict::Clean),
            suspicious: count(FileVerdict::Suspicious),
            dangerous: count(FileVerdict::Dangerous),
            malformed: count(FileVerdict::Malformed),
            unsupported: count(FileVerdict::Unsupported),
            not_applicable: count(FileVerdict::NotApplicable),
        }
    }
}
