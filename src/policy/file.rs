//! Policy files: what an organisation lets through and what it never does, in TOML.
//!
//! ```toml
//! [[global]]
//! name = "mylib.Precision"        # exact; nothing matches by pattern
//! verdict = "inert"               # or "denied"
//! reason = "our own enum, reviewed in #1234"
//! expires = 2027-06-30            # the last day on which it holds
//!
//! [severity]
//! unreferenced-storage = "suspicious"   # note, suspicious or dangerous
//!
//! [[suppress]]                    # one rule, in one file
//! rule = "trailing-data"
//! sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//! reason = "the vendor appends a signature"
//! expires = 2027-06-30
//! ```
//!
//! What a file may not do: match by pattern, stand without a reason or for ever, or keep as data what exists to run code or
//! to reach the system. That takes `--inert` on the command line, for one run.

use std::collections::BTreeMap;
use std::fmt;

use super::{Day, Overrides};

/// A policy, as far as it is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// SHA-256 of the file, in lower-case hexadecimal.
    pub sha256: String,
    /// Names that are kept as inert data, in the order of the file.
    pub inert: Vec<Entry>,
    /// Names that refuse, whatever else is said of them.
    pub denied: Vec<Entry>,
    /// Severities of rules, by their ids.
    pub severity: BTreeMap<String, Level>,
    /// Findings that are passed over.
    pub suppressed: Vec<Suppression>,
    /// What is no longer in force.
    pub expired: Vec<Expired>,
}

/// A name, and why it stands in the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `module.name`
    pub name: String,
    /// Why.
    pub reason: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Worth knowing.
    Note,
    /// An honest file does not need it.
    Suspicious,
    /// It runs code.
    Dangerous,
}

/// A finding of one rule in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    /// Id of the rule.
    pub rule: String,
    /// SHA-256 of the file, in lower-case hexadecimal.
    pub sha256: String,
    /// Why.
    pub reason: String,
}

/// An entry that is no longer in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// Line of the file.
    pub line: usize,
    /// What it is about: the name, or the rule.
    pub what: String,
    /// The last day on which it held.
    pub day: Day,
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}: {} has expired on {}, and is ignored",
            self.line,
            self.what.escape_debug(),
            self.day
        )
    }
}

impl Policy {
    /// Adds its names to what the user gave. What it denies wins over both.
    pub fn apply(&self, overrides: &mut Overrides) {
        overrides.names.extend(self.inert.iter().map(|entry| entry.name.clone()));
        overrides.denied.extend(self.denied.iter().map(|entry| entry.name.clone()));
    }

    /// Why a name is denied, where it is.
    pub fn denies(&self, name: &str) -> Option<&str> {
        self.denied.iter().find(|entry| entry.name == name).map(|entry| &*entry.reason)
    }

    /// Why a finding of a rule in a file is passed over, where it is.
    pub fn suppresses(&self, rule: &str, sha256: &str) -> Option<&str> {
        let found = self.suppressed.iter().find(|entry| entry.rule == rule && entry.sha256 == sha256);
        found.map(|entry| &*entry.reason)
    }
}

/// Why a policy file is none, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct PolicyError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub kind: PolicyErrorKind,
}

/// Why a policy file is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyErrorKind {
    /// It is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// It is not TOML, or has a key that is none, or lacks one.
    #[error("{}", .0.message())]
    Toml(toml::de::Error),
    /// A name that is not `module.name`.
    #[error("{0:?}: an exact name is expected, as module.name; nothing matches by pattern")]
    Name(String),
    /// A verdict that a policy cannot give.
    #[error("{0:?} found, \"inert\" or \"denied\" expected")]
    Verdict(String),
    /// A severity that there is not.
    #[error("{0:?} found, \"note\", \"suspicious\" or \"dangerous\" expected")]
    Severity(String),
    /// No reason is given.
    #[error("an empty reason")]
    Reason,
    /// No day, or more than a day.
    #[error("{0} found, a day as 2027-06-30 expected")]
    Expires(String),
    /// No digest.
    #[error("{0:?} found, 64 hexadecimal digits expected")]
    Sha256(String),
    /// No id of a rule.
    #[error("{0:?} is no rule")]
    Rule(String),
    /// The same twice.
    #[error("{what:?} stands on line {first} already")]
    Twice {
        /// The name or rule.
        what: String,
        /// Where it stands, too.
        first: usize,
    },
    /// A name that no policy can keep as data.
    #[error(
        "{0} runs code or reaches the system, and no policy can keep it as data; --inert does, for one run"
    )]
    Hard(String),
}
