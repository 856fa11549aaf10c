//! Reading a policy file: every value is checked where it stands, so that an error has its line.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::value::Datetime;

use super::file::{Entry, Expired, Level, Policy, PolicyError, PolicyErrorKind, Suppression};
use super::{Day, tables};

/// Modules that exist to run code or to reach the system. torch's own allowlist of the user refuses the first four.
const HARD_MODULES: &[&str] = &[
    "os",
    "posix",
    "nt",
    "sys",
    "_sys",
    "posixpath",
    "ntpath",
    "subprocess",
    "_posixsubprocess",
    "commands",
    "pty",
    "runpy",
    "importlib",
    "_imp",
    "imp",
    "ctypes",
    "_ctypes",
    "socket",
    "_socket",
    "shutil",
    "pickle",
    "_pickle",
    "cPickle",
    "marshal",
    "code",
    "codeop",
    "pdb",
    "bdb",
    "pip",
    "webbrowser",
    "multiprocessing",
    "asyncio",
    "pkgutil",
    "pydoc",
];
/// The same among the builtins.
const HARD_BUILTINS: &[&str] = &[
    "eval",
    "exec",
    "execfile",
    "compile",
    "__import__",
    "open",
    "file",
    "input",
    "breakpoint",
    "globals",
    "vars",
];

/// What no policy keeps as data. Not all that is in these modules is dangerous: `shutil.which` only looks for a name.
fn is_hard(name: &str) -> bool {
    let (module, attribute) = name.rsplit_once('.').unwrap_or((name, ""));
    let top = module.split('.').next().unwrap_or_default();
    let builtin = matches!(module, "builtins" | "__builtin__") && HARD_BUILTINS.contains(&attribute);
    builtin || HARD_MODULES.contains(&top) && tables::is_dangerous(module, attribute)
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    global: Vec<WrittenGlobal>,
    #[serde(default)]
    severity: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    suppress: Vec<WrittenSuppression>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGlobal {
    name: Spanned<String>,
    verdict: Spanned<String>,
    reason: Spanned<String>,
    expires: Spanned<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSuppression {
    rule: Spanned<String>,
    sha256: Spanned<String>,
    reason: Spanned<String>,
    expires: Spanned<toml::Value>,
}

impl Policy {
    /// Reads a policy file; `is_rule` knows the ids of rules. What has expired before `today` is set aside.
    ///
    /// # Errors
    /// Anything that is not understood: a policy that is read in part would let through what it forbids.
    pub fn parse(bytes: &[u8], is_rule: &dyn Fn(&str) -> bool, today: Day) -> Result<Self, PolicyError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            PolicyError { line: newlines(before), kind: PolicyErrorKind::NotUtf8 }
        })?;
        // An editor on Windows may have put a mark before it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let reading = Reading { text, is_rule, today };
        let written: Written = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| reading.line(span.start));
            PolicyError { line, kind: PolicyErrorKind::Toml(error) }
        })?;
        let mut policy = Self { sha256: crate::bytes::hex(&Sha256::digest(bytes)), ..Self::default() };
        reading.globals(written.global, &mut policy)?;
        reading.severities(written.severity, &mut policy)?;
        reading.suppressions(written.suppress, &mut policy)?;
        policy.expired.sort_by_key(|expired| expired.line);
        Ok(policy)
    }
}

/// Number of the line that follows so much text.
fn newlines(before: &[u8]) -> usize {
    before.split(|byte| *byte == b'\n').count()
}

struct Reading<'a> {
    text: &'a str,
    is_rule: &'a dyn Fn(&str) -> bool,
    today: Day,
}

impl Reading<'_> {
    fn line(&self, at: usize) -> usize {
        newlines(self.text.as_bytes().get(..at).unwrap_or_default())
    }

    fn error<T>(&self, at: &Spanned<T>, kind: PolicyErrorKind) -> PolicyError {
        PolicyError { line: self.line(at.span().start), kind }
    }

    fn globals(&self, written: Vec<WrittenGlobal>, policy: &mut Policy) -> Result<(), PolicyError> {
        let mut seen = HashMap::new();
        for WrittenGlobal { name, verdict, reason, expires } in written {
            if !is_name(name.get_ref()) {
                return Err(self.error(&name, PolicyErrorKind::Name(name.get_ref().clone())));
            }
            self.once(&name, name.get_ref().clone(), &mut seen)?;
            let inert = match verdict.get_ref().as_str() {
                "inert" => true,
                "denied" => false,
                other => return Err(self.error(&verdict, PolicyErrorKind::Verdict(other.to_owned()))),
            };
            if inert && is_hard(name.get_ref()) {
                return Err(self.error(&name, PolicyErrorKind::Hard(name.get_ref().clone())));
            }
            let reason = self.reason(reason)?;
            if let Some(expired) = self.expired(&name, name.get_ref(), &expires)? {
                policy.expired.push(expired);
                continue;
            }
            let entries = if inert { &mut policy.inert } else { &mut policy.denied };
            entries.push(Entry { name: name.into_inner(), reason });
        }
        Ok(())
    }

    fn severities(
        &self,
        written: BTreeMap<Spanned<String>, Spanned<String>>,
        policy: &mut Policy,
    ) -> Result<(), PolicyError> {
        for (rule, severity) in written {
            self.rule(&rule)?;
            let level = match severity.get_ref().as_str() {
                "note" => Level::Note,
                "suspicious" => Level::Suspicious,
                "dangerous" => Level::Dangerous,
                other => return Err(self.error(&severity, PolicyErrorKind::Severity(other.to_owned()))),
            };
            policy.severity.insert(rule.into_inner(), level);
        }
        Ok(())
    }

    fn suppressions(&self, written: Vec<WrittenSuppression>, policy: &mut Policy) -> Result<(), PolicyError> {
        let mut seen = HashMap::new();
        for WrittenSuppression { rule, sha256, reason, expires } in written {
            self.rule(&rule)?;
            let digest = sha256.get_ref().to_ascii_lowercase();
            if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(self.error(&sha256, PolicyErrorKind::Sha256(sha256.get_ref().clone())));
            }
            self.once(&rule, format!("{} {digest}", rule.get_ref()), &mut seen)?;
            let reason = self.reason(reason)?;
            match self.expired(&rule, rule.get_ref(), &expires)? {
                Some(expired) => policy.expired.push(expired),
                None => {
                    policy.suppressed.push(Suppression { rule: rule.into_inner(), sha256: digest, reason });
                }
            }
        }
        Ok(())
    }

    fn once(
        &self,
        at: &Spanned<String>,
        what: String,
        seen: &mut HashMap<String, usize>,
    ) -> Result<(), PolicyError> {
        let line = self.line(at.span().start);
        match seen.insert(what.clone(), line) {
            Some(first) => Err(self.error(at, PolicyErrorKind::Twice { what, first })),
            None => Ok(()),
        }
    }

    fn rule(&self, rule: &Spanned<String>) -> Result<(), PolicyError> {
        if (self.is_rule)(rule.get_ref()) {
            return Ok(());
        }
        Err(self.error(rule, PolicyErrorKind::Rule(rule.get_ref().clone())))
    }

    fn reason(&self, reason: Spanned<String>) -> Result<String, PolicyError> {
        if reason.get_ref().trim().is_empty() {
            return Err(self.error(&reason, PolicyErrorKind::Reason));
        }
        Ok(reason.into_inner())
    }

    /// Whether an entry has expired. A day is one of TOML's, or the same in quotes.
    fn expired(
        &self,
        at: &Spanned<String>,
        what: &str,
        expires: &Spanned<toml::Value>,
    ) -> Result<Option<Expired>, PolicyError> {
        let found = match expires.get_ref() {
            toml::Value::Datetime(found) => Some(*found),
            toml::Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let Some(Datetime { date: Some(date), time: None, offset: None }) = found else {
            let found = self.text.get(expires.span()).unwrap_or_default().to_owned();
            return Err(self.error(expires, PolicyErrorKind::Expires(found)));
        };
        let day = Day { year: date.year, month: date.month, day: date.day };
        let line = self.line(at.span().start);
        Ok((day < self.today).then(|| Expired { line, what: what.to_owned(), day }))
    }
}

/// `module.name`: dotted, without anything that could be meant as a pattern.
fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.chars().any(|c| c.is_whitespace() || c.is_control() || "*?[]{}()|\\^$+".contains(c))
    };
    name.contains('.') && name.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: Day = Day { year: 2026, month: 11, day: 26 };

    fn is_rule(rule: &str) -> bool {
        matches!(rule, "trailing-data" | "dangerous-call")
    }

    fn parse(text: &str) -> Result<Policy, PolicyError> {
        Policy::parse(text.as_bytes(), &is_rule, TODAY)
    }

    fn global(name: &str, verdict: &str, reason: &str, expires: &str) -> String {
        format!(
            "[[global]]\nname = {name:?}\nverdict = {verdict:?}\nreason = {reason:?}\nexpires = {expires}\n"
        )
    }

    /// The line and kind of the error.
    fn error(text: &str) -> (usize, PolicyErrorKind) {
        let error = parse(text).unwrap_err();
        (error.line, error.kind)
    }

    #[test]
    fn a_whole_policy() {
        let digest = "AB".repeat(32);
        let text = [
            global("mylib.Precision", "inert", "ours", "2026-11-26"),
            global("numpy.load", "denied", "never", "\"2999-01-01\""),
            "[severity]\ntrailing-data = \"dangerous\"\n".to_owned(),
            format!(
                "[[suppress]]\nrule = \"trailing-data\"\nsha256 = \"{digest}\"\nreason = \"signed\"\nexpires = 2027-01-01\n"
            ),
        ];
        let policy = parse(&text.concat()).unwrap();
        assert_eq!(policy.inert, [Entry { name: "mylib.Precision".to_owned(), reason: "ours".to_owned() }]);
        assert_eq!(policy.denies("numpy.load"), Some("never"));
        assert_eq!(policy.severity.get("trailing-data"), Some(&Level::Dangerous));
        assert_eq!(policy.suppresses("trailing-data", &digest.to_lowercase()), Some("signed"));
        assert_eq!(policy.suppresses("dangerous-call", &digest.to_lowercase()), None);
        assert_eq!(policy.sha256.len(), 64);
        assert!(policy.expired.is_empty());
        assert_eq!(parse("").unwrap().inert, []);
        assert!(parse("\u{feff}# nothing\r\n").is_ok());
    }

    #[test]
    fn what_has_expired_is_set_aside_and_told() {
        let text = global("a.b", "inert", "ours", "2026-11-25") + &global("c.d", "denied", "x", "2026-11-26");
        let policy = parse(&text).unwrap();
        assert!(policy.inert.is_empty());
        assert_eq!(policy.denied.len(), 1);
        assert_eq!(policy.expired[0].to_string(), "line 2: a.b has expired on 2026-11-25, and is ignored");
    }

    #[test]
    fn every_error_has_its_line() {
        use PolicyErrorKind as Kind;
        let good = global("a.b", "inert", "ours", "2027-01-01");
        let with = |from: &str, to: &str| good.replace(from, to);
        assert_eq!(error(&with("a.b", "a.*")), (2, Kind::Name("a.*".to_owned())));
        assert_eq!(error(&with("a.b", "ab")), (2, Kind::Name("ab".to_owned())));
        assert_eq!(error(&with("a.b", "a..b")), (2, Kind::Name("a..b".to_owned())));
        assert_eq!(error(&with("inert", "allowed")), (3, Kind::Verdict("allowed".to_owned())));
        assert_eq!(error(&with("ours", " ")), (4, Kind::Reason));
        assert_eq!(
            error(&with("2027-01-01", "2027-01-01T00:00:00Z")),
            (5, Kind::Expires("2027-01-01T00:00:00Z".to_owned()))
        );
        assert_eq!(error(&with("2027-01-01", "\"soon\"")), (5, Kind::Expires("\"soon\"".to_owned())));
        assert_eq!(error(&with("2027-01-01", "2027")), (5, Kind::Expires("2027".to_owned())));
        let twice = Kind::Twice { what: "a.b".to_owned(), first: 2 };
        assert_eq!(error(&good.repeat(2)), (7, twice));
        for name in ["os.system", "builtins.eval", "__builtin__.exec", "subprocess.Popen", "sys.modules"] {
            assert_eq!(error(&with("a.b", name)), (2, Kind::Hard(name.to_owned())));
            assert!(parse(&with("a.b", name).replace("inert", "denied")).is_ok());
        }
        assert!(parse(&with("a.b", "shutil.which")).is_ok());
        assert_eq!(error("[severity]\nnothing = \"note\"\n"), (2, Kind::Rule("nothing".to_owned())));
        assert_eq!(error("\n[severity]\ntrailing-data = \"low\"\n"), (3, Kind::Severity("low".to_owned())));
        let suppress =
            "[[suppress]]\nrule = \"trailing-data\"\nsha256 = \"12\"\nreason = \"x\"\nexpires = 2027-01-01\n";
        assert_eq!(error(suppress), (3, Kind::Sha256("12".to_owned())));
        assert_eq!(error(&suppress.replace("trailing-data", "x")), (2, Kind::Rule("x".to_owned())));
        assert!(matches!(error("[[global]]\nnames = \"a.b\"\n"), (_, Kind::Toml(_))));
        assert!(matches!(error(&with("reason", "why")), (4, Kind::Toml(_))));
        assert!(matches!(error("\n\n[[global]\n"), (3, Kind::Toml(_))));
        assert!(matches!(error("[policy]\nmode = \"strict\"\n"), (1, Kind::Toml(_))));
        assert!(matches!(error("[[global]]\nname = \"a.b\"\n"), (1, Kind::Toml(_))));
        let bytes = b"# a\n# \xff\n";
        assert_eq!(
            Policy::parse(bytes, &is_rule, TODAY).unwrap_err(),
            PolicyError { line: 2, kind: Kind::NotUtf8 }
        );
    }
}
