//! Names: the steps below the root joined by dots, then the rules of the options in their order.
//!
//! - An empty key is an empty part between two dots. What would have no name at all is called `tensor`: the root of a
//!   source that is one tensor, and a tensor under an empty key.
//! - A part of a re-encoded tensor is named after it: `weight.scale`.
//! - Control characters are kept; JSON escapes them.

use regex::Regex;

use super::error::{Misuse, Structure};
use super::select::Mount;
use crate::tensor::{EntryId, Kind, Leaf, Step, Tree};

/// The name of a tensor that has none.
const UNNAMED: &str = "tensor";

/// Prefixes that wrappers put before every name: `DataParallel` and DDP, `torch.compile`.
pub(super) const WRAPPERS: &[&str] = &["module.", "_orig_mod."];

/// Bytes of names and paths that a source may spell, however few places it has.
const FREE_BYTES: u64 = 64 << 20;

/// And for each place. Twenty times what the longest honest names take.
const BYTES_A_PLACE: u64 = 1 << 10;

/// Bytes of a path in a note or an error, beyond which its first steps are left out.
const SHORT: u64 = 64 << 10;

/// A change of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameRule {
    /// Takes a prefix off the names that begin with it.
    StripPrefix(String),
    /// Takes `module.` and `_orig_mod.` off while all names carry them.
    StripPrefixAuto,
    /// Replaces every match of a regular expression.
    Rename {
        /// In the syntax of the regex crate.
        regex: String,
        /// With `$1` or `\1`, `${name}` for groups.
        replacement: String,
    },
}

impl NameRule {
    /// The rule of `--strip-prefix P`; `auto` is the word, a prefix of that name is written `auto.`.
    pub fn strip_prefix(prefix: &str) -> Self {
        match prefix {
            "auto" => Self::StripPrefixAuto,
            prefix => Self::StripPrefix(prefix.to_owned()),
        }
    }

    /// The rule of `--rename REGEX=REPLACEMENT`, cut at the first `=`; in the expression it is written `\x3d`.
    ///
    /// # Errors
    /// No `=`, an expression that does not compile, a replacement with a group that it does not have.
    pub fn rename(text: &str) -> Result<Self, Misuse> {
        let (regex, replacement) = text.split_once('=').ok_or_else(|| Misuse::RenameForm(text.to_owned()))?;
        compile(regex, replacement)?;
        Ok(Self::Rename { regex: regex.to_owned(), replacement: replacement.to_owned() })
    }

    /// The flag and its value, as messages show them.
    fn flag(&self) -> (&'static str, String) {
        match self {
            Self::StripPrefix(prefix) => ("--strip-prefix", prefix.clone()),
            Self::StripPrefixAuto => ("--strip-prefix", "auto".to_owned()),
            Self::Rename { regex, replacement } => ("--rename", format!("{regex}={replacement}")),
        }
    }
}

/// Bounds what names and paths take: a key of a megabyte, shared by a million places, spells a terabyte.
#[derive(Debug)]
pub(super) struct Purse {
    places: usize,
    spent: u64,
}

impl Purse {
    /// A purse for so many places.
    pub(super) fn new(places: usize) -> Self {
        Self { places, spent: 0 }
    }

    /// Spends before the memory is taken.
    fn spend(&mut self, bytes: u64) -> Result<(), Structure> {
        let places = crate::bytes::length(self.places);
        let allowed = places.saturating_mul(BYTES_A_PLACE).saturating_add(FREE_BYTES);
        self.spent = self.spent.saturating_add(bytes);
        if self.spent > allowed { Err(Structure::NamesTooLong { allowed, places }) } else { Ok(()) }
    }

    /// The path of a place.
    pub(super) fn path(&mut self, tree: &Tree, id: EntryId) -> Result<Vec<String>, Structure> {
        for (_, entry) in tree.ancestors(id) {
            self.spend(text_bytes(&entry.step))?;
        }
        Ok(tree.path(id))
    }

    /// The name of a place below a mount.
    pub(super) fn name(&mut self, tree: &Tree, mounts: &[Mount], id: EntryId) -> Result<String, Structure> {
        let mut steps: Vec<&Step> = Vec::new();
        let mut base = None;
        for (at, entry) in tree.ancestors(id) {
            if let Some(mount) = mounts.iter().find(|mount| mount.entry == at) {
                let tensor = matches!(entry.kind, Kind::Leaf(Leaf::Tensor(_)))
                    || matches!(steps.last(), Some(Step::Part(_)));
                base = mount.base.or(tensor.then_some(UNNAMED));
                break;
            }
            self.spend(text_bytes(&entry.step))?;
            steps.push(&entry.step);
        }
        let mut name = String::from(base.unwrap_or_default());
        for (i, step) in steps.iter().rev().enumerate() {
            if i > 0 || base.is_some() {
                name.push('.');
            }
            name.push_str(&step.text());
        }
        Ok(if name.is_empty() { UNNAMED.to_owned() } else { name })
    }
}

/// What a step takes in a name or a path, with its dot.
fn text_bytes(step: &Step) -> u64 {
    crate::bytes::length(step.text().len()).saturating_add(1)
}

/// A path for a note or an error: whole, unless it is so long that nobody would read it.
pub(super) fn short_path(tree: &Tree, id: EntryId) -> Vec<String> {
    let mut path = Vec::new();
    let mut bytes = 0_u64;
    for (_, entry) in tree.ancestors(id).filter(|(_, entry)| entry.step != Step::Root) {
        bytes = bytes.saturating_add(text_bytes(&entry.step));
        if bytes > SHORT {
            path.push("…".to_owned());
            break;
        }
        path.push(entry.step.text().into_owned());
    }
    path.reverse();
    path
}

/// Applies the rules in their order to all names.
pub(super) fn apply(rules: &[NameRule], names: &mut [String]) -> Result<(), Misuse> {
    rename_both(rules, names, &mut [])
}

/// Applies the rules in their order to all names of two lists, in at least one of which each has to match.
pub(crate) fn rename_both(
    rules: &[NameRule],
    left: &mut [String],
    right: &mut [String],
) -> Result<(), Misuse> {
    for rule in rules {
        let (left, right) = (apply_one(rule, left)?, apply_one(rule, right)?);
        if !(left || right) {
            let (flag, pattern) = rule.flag();
            return Err(Misuse::MatchesNothing { flag, pattern });
        }
    }
    Ok(())
}

/// Whether a rule matched any of the names, which it has changed.
fn apply_one(rule: &NameRule, names: &mut [String]) -> Result<bool, Misuse> {
    match rule {
        NameRule::StripPrefix(prefix) => strip(rule, prefix, names),
        NameRule::StripPrefixAuto => Ok(strip_auto(names)),
        NameRule::Rename { regex, replacement } => rename(rule, regex, replacement, names),
    }
}

fn empties(rule: &NameRule, name: &str) -> Misuse {
    let (flag, pattern) = rule.flag();
    Misuse::EmptiesName { flag, pattern, name: name.to_owned() }
}

fn strip(rule: &NameRule, prefix: &str, names: &mut [String]) -> Result<bool, Misuse> {
    let mut matched = false;
    for name in names.iter_mut().filter(|_| !prefix.is_empty()) {
        if let Some(rest) = name.strip_prefix(prefix) {
            if rest.is_empty() {
                return Err(empties(rule, name));
            }
            *name = rest.to_owned();
            matched = true;
        }
    }
    Ok(matched)
}

/// The wrapper whose prefix all names carry.
pub(super) fn wrapper(names: &[String]) -> Option<&'static str> {
    let carries =
        |prefix: &&&str| names.iter().all(|name| name.len() > prefix.len() && name.starts_with(**prefix));
    WRAPPERS.iter().find(carries).copied().filter(|_| !names.is_empty())
}

fn strip_auto(names: &mut [String]) -> bool {
    let mut matched = false;
    while let Some(prefix) = wrapper(names) {
        for name in &mut *names {
            name.drain(..prefix.len());
        }
        matched = true;
    }
    matched
}

fn rename(rule: &NameRule, regex: &str, replacement: &str, names: &mut [String]) -> Result<bool, Misuse> {
    let (regex, replacement) = compile(regex, replacement)?;
    let mut matched = false;
    for name in names {
        if let std::borrow::Cow::Owned(new) = regex.replace_all(name, &replacement) {
            if new.is_empty() {
                return Err(empties(rule, name));
            }
            *name = new;
            matched = true;
        }
    }
    Ok(matched)
}

/// The expression, and the replacement in the syntax of the regex crate.
fn compile(regex: &str, replacement: &str) -> Result<(Regex, String), Misuse> {
    let compiled = Regex::new(regex).map_err(|e| {
        // The last line says what is wrong; those before draw the expression.
        let text = e.to_string();
        let message = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned();
        Misuse::BadRegex { regex: regex.to_owned(), message }
    })?;
    let (text, groups) = expand(replacement);
    let known = |group: &String| match group.parse::<usize>() {
        Ok(n) => n < compiled.captures_len(),
        Err(_) => compiled.capture_names().flatten().any(|name| name == group),
    };
    match groups.into_iter().find(|group| !known(group)) {
        Some(group) => Err(Misuse::BadReplacement {
            regex: regex.to_owned(),
            replacement: replacement.to_owned(),
            group,
        }),
        None => Ok((compiled, text)),
    }
}

/// Turns `\1` into `${1}`, as sed and Python write it, and lists the groups that a replacement asks for.
fn expand(replacement: &str) -> (String, Vec<String>) {
    let (mut text, mut groups) = (String::with_capacity(replacement.len()), Vec::new());
    let mut rest = replacement;
    while let Some(at) = rest.find(['$', '\\']) {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        let mut chars = from.chars();
        let sigil = chars.next();
        let after = chars.as_str();
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let len = match (sigil, after.chars().next()) {
            (Some('\\'), Some(digit)) if digit.is_ascii_digit() => 1,
            (Some('$'), Some('{')) => 0,
            (Some('$'), Some(c)) if word(c) => after.find(|c| !word(c)).unwrap_or(after.len()),
            (Some('$'), Some('$')) => {
                text.push_str("$$");
                rest = after.get(1..).unwrap_or_default();
                continue;
            }
            _ => {
                text.push_str(if sigil == Some('$') { "$$" } else { "\\" });
                rest = after;
                continue;
            }
        };
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (group, remaining) = match braced {
            Some(pair) if len == 0 => pair,
            _ if len == 0 => ("{", after.get(1..).unwrap_or_default()),
            _ => after.split_at(len),
        };
        groups.push(group.to_owned());
        text.push_str("${");
        text.push_str(group);
        text.push('}');
        rest = remaining;
    }
    text.push_str(rest);
    (text, groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn applied(rules: &[NameRule], given: &[&str]) -> Result<Vec<String>, Misuse> {
        let mut names = names(given);
        apply(rules, &mut names).map(|()| names)
    }

    #[test]
    fn a_prefix_is_stripped_where_it_stands() {
        let rule = NameRule::strip_prefix("model.");
        assert_eq!(applied(std::slice::from_ref(&rule), &["model.a", "b"]), Ok(names(&["a", "b"])));
        assert!(matches!(
            applied(std::slice::from_ref(&rule), &["b"]),
            Err(Misuse::MatchesNothing { flag: "--strip-prefix", pattern }) if pattern == "model."
        ));
        assert!(matches!(applied(&[rule], &["model."]), Err(Misuse::EmptiesName { .. })));
        assert!(applied(&[NameRule::strip_prefix("")], &["a"]).is_err());
    }

    #[test]
    fn auto_peels_wrappers_while_all_names_carry_them() {
        let auto = [NameRule::strip_prefix("auto")];
        assert_eq!(applied(&auto, &["module._orig_mod.a", "module._orig_mod.b"]), Ok(names(&["a", "b"])));
        assert_eq!(applied(&auto, &["module.module.a"]), Ok(names(&["a"])));
        assert_eq!(applied(&auto, &["module.module.a", "module.b"]), Ok(names(&["module.a", "b"])));
        assert!(matches!(applied(&auto, &["module.a", "b"]), Err(Misuse::MatchesNothing { .. })));
        // Never down to nothing.
        assert!(applied(&auto, &["module."]).is_err());
        assert_eq!(wrapper(&[]), None);
    }

    #[test]
    fn rename_knows_groups_of_both_tastes() {
        let rename = |text: &str, name: &str| {
            NameRule::rename(text).and_then(|rule| applied(&[rule], &[name])).map(|names| names.concat())
        };
        assert_eq!(rename(r"^layer(\d)\.=h.$1.", "layer3.w"), Ok("h.3.w".into()));
        assert_eq!(rename(r"^layer(\d)\.=h.\1.", "layer3.w"), Ok("h.3.w".into()));
        assert_eq!(rename(r"(\d)=${1}_x", "a1b2"), Ok("a1_xb2_x".into()));
        assert_eq!(rename(r"(?<n>\d)=<${n}>", "a1"), Ok("a<1>".into()));
        assert_eq!(rename("a==", "aa"), Ok("==".into()));
        assert_eq!(rename(r"a=$$\n$", "a"), Ok(r"$\n$".into()));
        assert!(
            matches!(rename(r"(\d)=$1_x", "a1"), Err(Misuse::BadReplacement { group, .. }) if group == "1_x")
        );
        assert!(matches!(rename("a=${1", "a"), Err(Misuse::BadReplacement { .. })));
        assert!(matches!(rename("(=x", "a"), Err(Misuse::BadRegex { .. })));
        assert!(matches!(rename("x", "a"), Err(Misuse::RenameForm(_))));
        assert!(matches!(rename("b=x", "a"), Err(Misuse::MatchesNothing { flag: "--rename", .. })));
        assert!(matches!(rename("a=", "a"), Err(Misuse::EmptiesName { .. })));
    }

    #[test]
    fn rules_apply_in_their_order() {
        let rules = [NameRule::rename("^x=module.").unwrap(), NameRule::StripPrefixAuto];
        assert_eq!(applied(&rules, &["xa"]), Ok(names(&["a"])));
        let rules = [NameRule::StripPrefixAuto, NameRule::rename("^x=module.").unwrap()];
        assert!(applied(&rules, &["xa"]).is_err());
    }

    #[test]
    fn the_purse_is_empty_before_the_memory_is() {
        let mut purse = Purse::new(1);
        assert_eq!(purse.spend(FREE_BYTES), Ok(()));
        assert_eq!(purse.spend(BYTES_A_PLACE), Ok(()));
        let allowed = FREE_BYTES + BYTES_A_PLACE;
        assert_eq!(purse.spend(1), Err(Structure::NamesTooLong { allowed, places: 1 }));
    }
}
