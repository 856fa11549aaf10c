//! `SHA256SUMS`, which `sha256sum -c` checks.

use std::collections::BTreeMap;

/// The name of the file.
pub const SUMS: &str = "SHA256SUMS";

/// A line a file, sorted by name, as GNU coreutils write it.
pub(super) fn write<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let sorted: BTreeMap<&str, &str> = files.collect();
    sorted.into_iter().map(|(name, digest)| line(name, digest)).collect()
}

/// Names with line ends or backslashes are escaped, and the line begins with a backslash to say so.
fn line(name: &str, digest: &str) -> String {
    let escaped = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    let mark = if escaped == name { "" } else { "\\" };
    format!("{mark}{digest}  {escaped}\n")
}

/// The text of a file that has `files` besides what it had; `None` where it is no such file.
pub fn merge_sums(text: &str, files: &BTreeMap<String, String>) -> Option<String> {
    let mut all = read(text)?;
    all.extend(files.iter().map(|(name, digest)| (name.clone(), digest.clone())));
    Some(write(all.iter().map(|(name, digest)| (name.as_str(), digest.as_str()))))
}

/// Every name with its digest; `None` where it is no such file.
pub(in crate::custody) fn read(text: &str) -> Option<BTreeMap<String, String>> {
    text.lines().map(parse).collect()
}

/// A name with its digest, of a line as GNU coreutils write and read it.
fn parse(line: &str) -> Option<(String, String)> {
    let (escaped, line) = line.strip_prefix('\\').map_or((false, line), |rest| (true, rest));
    let (digest, name) = line.split_once(' ')?;
    let name = name.strip_prefix([' ', '*'])?;
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_digest || name.is_empty() {
        return None;
    }
    Some((if escaped { unescape(name)? } else { name.to_owned() }, digest.to_ascii_lowercase()))
}

fn unescape(name: &str) -> Option<String> {
    let mut plain = String::with_capacity(name.len());
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            c => c,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_what_it_had() {
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        let files = BTreeMap::from([("b".to_owned(), two.clone()), ("n\n".to_owned(), one.clone())]);
        let first = merge_sums("", &files).unwrap();
        assert_eq!(first, format!("{two}  b\n\\{one}  n\\n\n"));
        let more = BTreeMap::from([("a".to_owned(), one.clone()), ("b".to_owned(), one.clone())]);
        let second = merge_sums(&first.replace("  b", " *b"), &more).unwrap();
        assert_eq!(second, format!("{one}  a\n{one}  b\n\\{one}  n\\n\n"));
        for text in ["words", "12  a", &format!("{one}  "), &format!("\\{one}  \\x")] {
            assert_eq!(merge_sums(text, &more), None, "{text}");
        }
    }

    #[test]
    fn lines_are_those_of_coreutils() {
        let text = write([("b", "2"), ("a b/ü", "1"), ("new\nline\\", "3")].into_iter());
        assert_eq!(text, "1  a b/ü\n2  b\n\\3  new\\nline\\\\\n");
    }
}
