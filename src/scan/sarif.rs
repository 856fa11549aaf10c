//! A scan as SARIF 2.1.0, as GitHub code scanning takes it: one run, one rule a rule id, a result a finding.
//!
//! Source: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/>, and GitHub's limits in "SARIF support for code scanning".

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::bytes::hex;
use crate::report::{Coverage, FileVerdict, Finding, Scanned, ScannedFile, Severity};

use super::rules::{RULES, Rule};

/// Results that GitHub takes of one run.
const MOST: usize = 25_000;
const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// What paths are relative to: the folder in which the scan was run.
const BASE: &str = "%SRCROOT%";

/// The document. `exit` is the exit code of the run.
pub fn sarif(scanned: &Scanned, exit: u8) -> Value {
    let mut artifacts = Artifacts::default();
    let mut findings: Vec<(&ScannedFile, &Finding)> = Vec::new();
    for file in &scanned.files {
        artifacts.file(file);
        findings.extend(file.findings.iter().map(|finding| (file, finding)));
    }
    let all = findings.len();
    if all > MOST {
        findings.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.severity));
        findings.truncate(MOST);
    }
    let results: Vec<Value> =
        findings.iter().map(|(file, finding)| artifacts.result(file, finding)).collect();
    let mut notices = gaps(scanned);
    if all > MOST {
        let left_out = all.saturating_sub(MOST);
        notices.push(notice("warning", &format!("{left_out} findings are left out, the least severe"), None));
    }
    let mut invocation = json!({ "executionSuccessful": true, "exitCode": exit });
    if !notices.is_empty() {
        set(&mut invocation, "toolExecutionNotifications", notices.into());
    }
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": scanned.tool.name,
                "semanticVersion": scanned.tool.version,
                "rules": RULES.iter().map(rule).collect::<Vec<_>>(),
            } },
            "invocations": [invocation],
            "artifacts": artifacts.list,
            "results": results,
        }],
    })
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

/// A rule as GitHub shows it.
fn rule(rule: &Rule) -> Value {
    let (level, security, precision) = match rule.severity {
        Severity::Dangerous => ("error", "9.0", "very-high"),
        Severity::Suspicious => ("warning", "6.0", "high"),
        Severity::Note => ("note", "2.0", "high"),
    };
    let name: String = rule.id.split('-').map(capitalised).collect();
    let title = capitalised(rule.title) + ".";
    json!({
        "id": rule.id,
        "name": name,
        "shortDescription": { "text": title },
        "fullDescription": { "text": format!("{title} {}", rule.help) },
        "help": { "text": rule.help, "markdown": rule.help },
        "defaultConfiguration": { "level": level },
        "properties": { "tags": ["security", "pickle"], "precision": precision, "security-severity": security },
    })
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Dangerous => "error",
        Severity::Suspicious => "warning",
        Severity::Note => "note",
    }
}

/// Files and their members, each once.
#[derive(Default)]
struct Artifacts {
    list: Vec<Value>,
    /// Of a file and a member of it, the position in the list; the file itself has no member.
    known: HashMap<(String, Option<String>), usize>,
}

impl Artifacts {
    fn file(&mut self, file: &ScannedFile) -> usize {
        let key = (file.path.clone(), None);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let mut artifact = json!({
            "location": location(&file.path),
            "length": file.size,
            "roles": ["analysisTarget"],
        });
        if let Some(sha256) = &file.sha256 {
            set(&mut artifact, "hashes", json!({ "sha-256": sha256 }));
        }
        self.push(key, artifact)
    }

    /// A member of an archive; `outer.zip!inner.pkl` is one of a member.
    fn member(&mut self, file: &ScannedFile, entry: &str) -> usize {
        let mut parent = self.file(file);
        let mut whole = String::new();
        for part in entry.split('!') {
            whole = if whole.is_empty() { part.to_owned() } else { format!("{whole}!{part}") };
            let key = (file.path.clone(), Some(whole.clone()));
            parent = if let Some(known) = self.known.get(&key) {
                *known
            } else {
                let uri = encoded(part.trim_start_matches('/'));
                self.push(key, json!({ "location": { "uri": uri }, "parentIndex": parent }))
            };
        }
        parent
    }

    fn push(&mut self, key: (String, Option<String>), artifact: Value) -> usize {
        let index = self.list.len();
        self.list.push(artifact);
        self.known.insert(key, index);
        index
    }

    fn result(&mut self, file: &ScannedFile, finding: &Finding) -> Value {
        let mut place = location(&file.path);
        set(&mut place, "index", self.file(file).into());
        // GitHub wants a line. What is in a member has its bytes in the related location.
        let own = if finding.entry.is_none() { region(finding) } else { Map::new() };
        let mut first = Map::from_iter([("startLine".to_owned(), 1.into())]);
        first.extend(own);
        let mut where_it_is = json!({
            "physicalLocation": { "artifactLocation": place, "region": first },
        });
        if finding.entry.is_some() || finding.offset.is_some() {
            let entry = finding.entry.as_deref().unwrap_or_default();
            let name = match finding.offset {
                Some(offset) => format!("{entry}@{offset:#x}"),
                None => entry.to_owned(),
            };
            let logical = json!([{ "fullyQualifiedName": name, "kind": "member" }]);
            set(&mut where_it_is, "logicalLocations", logical);
        }
        let mut result = json!({
            "ruleId": finding.rule,
            "level": level(finding.severity),
            "message": { "text": text(&finding.message) },
            "locations": [where_it_is],
            "partialFingerprints": fingerprints(file, finding),
        });
        if let Some(reason) = &finding.suppressed {
            let suppression = json!([{ "kind": "external", "status": "accepted", "justification": reason }]);
            set(&mut result, "suppressions", suppression);
        }
        if let Some(index) = RULES.iter().position(|rule| rule.id == finding.rule) {
            set(&mut result, "ruleIndex", index.into());
        }
        if let Some(entry) = &finding.entry {
            let index = self.member(file, entry);
            let mut physical = json!({ "artifactLocation": { "index": index } });
            let region = region(finding);
            if !region.is_empty() {
                set(&mut physical, "region", region.into());
            }
            set(&mut result, "relatedLocations", json!([{ "id": 1, "physicalLocation": physical }]));
        }
        result
    }
}

fn region(finding: &Finding) -> Map<String, Value> {
    let offset = finding.offset.map(|offset| ("byteOffset".to_owned(), offset.into()));
    let length =
        finding.length.filter(|_| offset.is_some()).map(|length| ("byteLength".to_owned(), length.into()));
    offset.into_iter().chain(length).collect()
}

/// What stays the same when the file is scanned again, wherever the run takes place.
fn fingerprints(file: &ScannedFile, finding: &Finding) -> Value {
    let entry = finding.entry.as_deref().unwrap_or_default();
    let global = finding.global.as_deref().unwrap_or_default();
    // Each part ends with a byte that no path or name has, so that no two lists of parts are one text.
    let parts = [finding.rule, &file.path, entry, global].join("\0");
    let digest = hex(&Sha256::digest(parts));
    let line = digest.get(..16).unwrap_or_default();
    json!({ "primaryLocationLineHash": format!("{line}:1"), "depickle/v1": digest })
}

/// Where coverage ends, and files that could not be read.
fn gaps(scanned: &Scanned) -> Vec<Value> {
    let partial = scanned
        .files
        .iter()
        .filter(|file| file.coverage != Coverage::Complete && file.verdict != FileVerdict::NotApplicable);
    let partial = partial.map(|file| {
        let text = format!(
            "{} ({}) was not understood as a whole: {}",
            file.path,
            file.container,
            file.verdict.name()
        );
        notice("warning", &text, Some(&file.path))
    });
    let errors = scanned.errors.iter().map(|error| {
        let text = format!("{} could not be read: {}", error.path, error.error);
        notice("error", &text, Some(&error.path))
    });
    partial.chain(errors).collect()
}

fn notice(level: &str, message: &str, path: Option<&str>) -> Value {
    let mut notice = json!({ "level": level, "message": { "text": text(message) } });
    if let Some(path) = path {
        let locations = json!([{ "physicalLocation": { "artifactLocation": location(path) } }]);
        set(&mut notice, "locations", locations);
    }
    notice
}

/// Text of a message, in which brackets would make a link (3.11.6).
fn text(message: &str) -> String {
    let mut escaped = String::with_capacity(message.len());
    for c in message.chars() {
        if matches!(c, '\\' | '[' | ']') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A path as a URI: relative to where the scan was run, or absolute.
fn location(path: &str) -> Value {
    let is_drive =
        path.as_bytes().get(1) == Some(&b':') && path.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
    match path {
        "-" => json!({ "uri": "stdin" }),
        _ if is_drive => json!({ "uri": format!("file:///{}", encoded(path)) }),
        _ if path.starts_with('/') => json!({ "uri": format!("file://{}", encoded(path)) }),
        _ => json!({ "uri": encoded(path.strip_prefix("./").unwrap_or(path)), "uriBaseId": BASE }),
    }
}

/// A path with everything encoded that is more than a part of a path in a URI (RFC 3986).
fn encoded(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push('%');
            uri.push_str(&hex(&[byte]).to_ascii_uppercase());
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounting::{Accounted, Accounting};
    use crate::report::ScanError;

    fn finding(rule: &'static str, severity: Severity, entry: Option<&str>) -> Finding {
        Finding {
            rule,
            severity,
            message: "os.system(\"[x](http://a)\")".to_owned(),
            entry: entry.map(str::to_owned),
            offset: Some(0x2c),
            length: Some(1),
            global: Some("os.system".to_owned()),
            suppressed: None,
        }
    }

    fn file(path: &str, findings: Vec<Finding>) -> ScannedFile {
        ScannedFile {
            path: path.to_owned(),
            size: 9,
            sha256: Some("ab".repeat(32)),
            container: "torch-zip".to_owned(),
            verdict: FileVerdict::Dangerous,
            coverage: Coverage::Partial,
            findings,
            pickles: Vec::new(),
            accounting: Accounted::Plain(Accounting::default()),
        }
    }

    fn index(value: &Value) -> usize {
        usize::try_from(value.as_u64().unwrap()).unwrap()
    }

    #[test]
    fn a_finding_has_its_rule_its_place_and_its_member() {
        let rule = RULES.iter().find(|rule| rule.id == "dangerous-call").unwrap();
        let findings = vec![
            finding(rule.id, Severity::Dangerous, Some("m/data.pkl")),
            finding(rule.id, Severity::Note, Some("in.zip!a b.pkl")),
            finding(rule.id, Severity::Suspicious, None),
        ];
        let errors = vec![ScanError { path: "gone.pt".to_owned(), error: "denied".to_owned() }];
        let document = sarif(&Scanned::new(vec![file("a dir/m.pt", findings)], errors), 1);
        let run = &document["runs"][0];
        let result = &run["results"][0];
        assert_eq!(result["level"], "error");
        assert_eq!(run["tool"]["driver"]["rules"][index(&result["ruleIndex"])]["id"], rule.id);
        let place = &result["locations"][0];
        assert_eq!(place["physicalLocation"]["artifactLocation"]["uri"], "a%20dir/m.pt");
        assert_eq!(place["physicalLocation"]["region"], json!({ "startLine": 1 }));
        assert_eq!(place["logicalLocations"][0]["fullyQualifiedName"], "m/data.pkl@0x2c");
        let related = &result["relatedLocations"][0]["physicalLocation"];
        assert_eq!(related["region"], json!({ "byteOffset": 0x2c, "byteLength": 1 }));
        let member = &run["artifacts"][index(&related["artifactLocation"]["index"])];
        assert_eq!(member, &json!({ "location": { "uri": "m/data.pkl" }, "parentIndex": 0 }));
        // A member of a member.
        assert_eq!(run["artifacts"][3], json!({ "location": { "uri": "a%20b.pkl" }, "parentIndex": 2 }));
        let own = &run["results"][2]["locations"][0]["physicalLocation"]["region"];
        assert_eq!(own, &json!({ "startLine": 1, "byteOffset": 0x2c, "byteLength": 1 }));
        assert_eq!(result["message"]["text"], "os.system(\"\\[x\\](http://a)\")");
        let notices = run["invocations"][0]["toolExecutionNotifications"].as_array().unwrap();
        assert_eq!(
            notices.iter().map(|n| n["level"].as_str().unwrap()).collect::<Vec<_>>(),
            ["warning", "error"]
        );
    }

    #[test]
    fn paths_become_uris() {
        let uri = |path| location(path)["uri"].as_str().unwrap().to_owned();
        assert_eq!(uri("./a/b c.pt"), "a/b%20c.pt");
        assert_eq!(uri("/a/ö#?.pt"), "file:///a/%C3%B6%23%3F.pt");
        assert_eq!(uri("C:/x.pt"), "file:///C%3A/x.pt");
        assert_eq!(uri("-"), "stdin");
        assert_eq!(uri("javascript:alert(1)"), "javascript%3Aalert%281%29");
    }

    #[test]
    fn what_github_does_not_take_is_left_out_and_told() {
        let mut findings = vec![finding("padding-after-stop", Severity::Note, None); MOST];
        findings.push(finding("dangerous-call", Severity::Dangerous, None));
        let document = sarif(&Scanned::new(vec![file("m.pt", findings)], Vec::new()), 1);
        let results = document["runs"][0]["results"].as_array().unwrap();
        assert_eq!(results.len(), MOST);
        assert_eq!(results[0]["level"], "error");
        let notices = &document["runs"][0]["invocations"][0]["toolExecutionNotifications"];
        assert!(notices.to_string().contains("1 findings are left out"));
    }
}
