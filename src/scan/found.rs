//! What was found so far, in bounded memory, and the verdict that follows from it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::report::{Coverage, FileVerdict, Finding, Severity};

use super::rules::Rule;

/// Where in a file something is: an entry, and a position in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Spot {
    entry: Option<Arc<str>>,
    base: u64,
}

impl Spot {
    /// A member of what lies here.
    pub(super) fn inside(&self, name: &str) -> Self {
        let entry = match &self.entry {
            Some(outer) => format!("{outer}!{name}").into(),
            None => name.into(),
        };
        Self { entry: Some(entry), base: 0 }
    }

    /// The same entry, positions counted from `base` in it.
    pub(super) fn plus(&self, base: u64) -> Self {
        Self { entry: self.entry.clone(), base: self.base.saturating_add(base) }
    }

    pub(super) fn entry(&self) -> Option<&str> {
        self.entry.as_deref()
    }

    /// Bytes from here.
    pub(super) fn at(&self, offset: u64, length: impl Into<Option<u64>>) -> Where<'_> {
        Where { spot: self, offset: Some(offset), length: length.into() }
    }

    /// The entry as a whole.
    pub(super) fn whole(&self) -> Where<'_> {
        Where { spot: self, offset: None, length: None }
    }
}

/// A place that a finding names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Where<'a> {
    spot: &'a Spot,
    offset: Option<u64>,
    length: Option<u64>,
}

/// What makes a finding another: rule, entry, position, name.
type Key = (&'static str, Option<String>, Option<u64>, Option<String>);

/// The findings of one file.
#[derive(Debug, Default)]
pub(super) struct Found {
    findings: Vec<Finding>,
    seen: HashSet<Key>,
    counts: HashMap<&'static str, usize>,
    /// Something of it is a model format.
    pub(super) model: bool,
    /// Damaged or beyond a limit: not known what it would do.
    pub(super) malformed: bool,
    /// A part of it is in a format that is not read.
    pub(super) unsupported: bool,
}

/// Findings kept of one rule; a hostile file could have millions.
const MOST: usize = 100;

impl Found {
    /// Records a finding.
    pub(super) fn add(&mut self, rule: &Rule, at: Where<'_>, message: String) {
        self.add_about(rule, at, message, None);
    }

    /// Records a finding about a name.
    pub(super) fn add_about(&mut self, rule: &Rule, at: Where<'_>, message: String, global: Option<&str>) {
        let finding = Finding {
            rule: rule.id,
            severity: rule.severity,
            message,
            entry: at.spot.entry.as_deref().map(str::to_owned),
            offset: at.offset.map(|offset| at.spot.base.saturating_add(offset)),
            length: at.length,
            global: global.map(str::to_owned),
            suppressed: None,
        };
        let key = (rule.id, finding.entry.clone(), finding.offset, finding.global.clone());
        let count = self.counts.entry(rule.id).or_default();
        if *count < MOST && self.seen.insert(key) {
            *count = count.saturating_add(1);
            self.findings.push(finding);
        }
    }

    /// The worst severity.
    pub(super) fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    pub(super) fn verdict(&self) -> FileVerdict {
        match self.worst() {
            Some(Severity::Dangerous) => FileVerdict::Dangerous,
            Some(Severity::Suspicious) => FileVerdict::Suspicious,
            _ if self.malformed => FileVerdict::Malformed,
            _ if self.unsupported => FileVerdict::Unsupported,
            _ if self.model => FileVerdict::Clean,
            _ => FileVerdict::NotApplicable,
        }
    }

    pub(super) fn coverage(&self) -> Coverage {
        match self.verdict() {
            FileVerdict::NotApplicable => Coverage::None,
            _ if self.malformed || self.unsupported => {
                if self.model {
                    Coverage::Partial
                } else {
                    Coverage::None
                }
            }
            _ => Coverage::Complete,
        }
    }

    /// The findings, worst first, then by entry and position.
    pub(super) fn into_sorted(mut self) -> Vec<Finding> {
        self.findings.sort_by(|a, b| {
            b.severity
                .cmp(&a.severity)
                .then_with(|| a.entry.cmp(&b.entry))
                .then_with(|| a.offset.cmp(&b.offset))
        });
        self.findings
    }
}
