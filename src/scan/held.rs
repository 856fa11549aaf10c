//! What a policy makes of the findings of a file.

use crate::policy::{Level, Policy};
use crate::report::{Coverage, FileVerdict, ScanPolicy, ScannedFile, Severity};

fn severity(level: Level) -> Severity {
    match level {
        Level::Note => Severity::Note,
        Level::Suspicious => Severity::Suspicious,
        Level::Dangerous => Severity::Dangerous,
    }
}

/// Gives the findings of a file the severities of a policy, passes over what it suppresses, and judges the file again.
/// Suppressions are bound to a digest: without one none applies.
pub fn hold(policy: &Policy, file: &mut ScannedFile) {
    let mut changed = false;
    for finding in &mut file.findings {
        if let Some(level) = policy.severity.get(finding.rule) {
            changed |= finding.severity != severity(*level);
            finding.severity = severity(*level);
        }
        if let Some(reason) =
            file.sha256.as_deref().and_then(|sha256| policy.suppresses(finding.rule, sha256))
        {
            finding.suppressed = Some(reason.to_owned());
            changed = true;
        }
    }
    if changed {
        file.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        file.verdict = match file.worst() {
            Some(Severity::Dangerous) => FileVerdict::Dangerous,
            Some(Severity::Suspicious) => FileVerdict::Suspicious,
            _ if file.verdict <= FileVerdict::Malformed => file.verdict,
            _ if file.coverage != Coverage::Complete => FileVerdict::Malformed,
            _ => FileVerdict::Clean,
        };
    }
}

/// What the document says of a policy.
pub fn in_force(policy: &Policy) -> ScanPolicy {
    let names = |entries: &[crate::policy::Entry]| entries.iter().map(|entry| entry.name.clone()).collect();
    ScanPolicy {
        sha256: policy.sha256.clone(),
        inert: names(&policy.inert),
        denied: names(&policy.denied),
        severity: policy.severity.iter().map(|(rule, level)| (rule.clone(), severity(*level))).collect(),
        suppressions: policy.suppressed.len(),
    }
}
