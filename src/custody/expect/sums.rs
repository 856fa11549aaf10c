//! Lists of digests, as `sha256sum` and its relatives, BSD tools, `openssl dgst` and git-lfs write them.

use std::path::Path;

use super::{Algorithm, ExpectError, Expectation, Weight, is_hex};

/// Bytes of a list. One line of a million is 100.
const LONGEST: u64 = 256 << 20;

/// One digest of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) algorithm: Algorithm,
    pub(super) value: String,
    /// The file; `None` for a digest that stands alone.
    pub(super) name: Option<String>,
    pub(super) size: Option<u64>,
}

/// What a list says of the file at a path, which it has to name.
pub(super) fn named(list: &Path, path: &Path) -> Result<Vec<Expectation>, ExpectError> {
    let shown = list.display().to_string();
    let lines = read(list).map_err(|error| ExpectError::List { list: shown.clone(), error })?;
    let lines = lines.filter(|lines| !lines.is_empty());
    let lines = lines.ok_or_else(|| ExpectError::NoList { list: shown.clone() })?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let found = of(&lines, path);
    for line in &found {
        if let Some(other) = found.iter().find(|o| o.algorithm == line.algorithm && o.value != line.value) {
            let (first, second) = (line.value.clone(), other.value.clone());
            return Err(ExpectError::Contradiction { list: shown, name, first, second });
        }
    }
    if found.is_empty() {
        return Err(ExpectError::NotListed { list: shown, name });
    }
    Ok(expectations(&found, &format!("--expect-file {}", file_name(list))))
}

/// Lines as what is expected.
pub(super) fn expectations(lines: &[&Line], origin: &str) -> Vec<Expectation> {
    let expectation = |line: &&Line| Expectation {
        origin: origin.to_owned(),
        algorithm: line.algorithm,
        value: line.value.clone(),
        size: line.size,
        weight: Weight::Stops,
    };
    let mut all: Vec<Expectation> = lines.iter().map(expectation).collect();
    all.dedup();
    all
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Reads a list; `None` where it is no text or longer than any.
pub(super) fn read(list: &Path) -> std::io::Result<Option<Vec<Line>>> {
    if std::fs::metadata(list)?.len() > LONGEST {
        return Ok(None);
    }
    Ok(String::from_utf8(std::fs::read(list)?).ok().map(|text| parse(&text)))
}

/// The lines about the file at a path: those with the longest end of it, or the one without a name.
pub(super) fn of<'l>(lines: &'l [Line], path: &Path) -> Vec<&'l Line> {
    if let [only] = lines
        && only.name.is_none()
    {
        return vec![only];
    }
    let shared = |line: &Line| {
        let name = line.name.as_deref().unwrap_or_default().replace('\\', "/");
        let parts = Path::new(&name).components().rev().zip(path.components().rev());
        parts.take_while(|(a, b)| a == b).count()
    };
    let most = lines.iter().map(shared).max().filter(|most| *most > 0);
    lines.iter().filter(|line| Some(shared(line)) == most).collect()
}

fn parse(text: &str) -> Vec<Line> {
    let text = text.trim_start_matches('\u{feff}');
    if text.starts_with("version https://git-lfs.github.com/spec/") {
        return pointer(text).into_iter().collect();
    }
    text.lines().filter_map(|line| tagged(line).or_else(|| plain(line))).collect()
}

/// <https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>
fn pointer(text: &str) -> Option<Line> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = field("oid")?.strip_prefix("sha256:")?.to_owned();
    let size = field("size")?.parse().ok()?;
    let line = Line { algorithm: Algorithm::Sha256, value, name: None, size: Some(size) };
    (algorithm_of(&line.value) == Some(Algorithm::Sha256)).then_some(line)
}

/// `SHA256 (name) = digest`, and `SHA2-256(name)= digest` of openssl.
fn tagged(line: &str) -> Option<Line> {
    let (tag, rest) = line.split_once('(')?;
    let (name, value) = rest.rsplit_once(") = ").or_else(|| rest.rsplit_once(")= "))?;
    let algorithm = match tag.trim_end() {
        "SHA256" | "SHA2-256" => Algorithm::Sha256,
        "SHA512" | "SHA2-512" => Algorithm::Sha512,
        "SHA1" => Algorithm::Sha1,
        "MD5" => Algorithm::Md5,
        _ => return None,
    };
    let value = value.trim().to_ascii_lowercase();
    let whole = algorithm_of(&value) == Some(algorithm);
    whole.then(|| Line { algorithm, value, name: Some(name.to_owned()), size: None })
}

/// `digest  name`, `digest *name`, a line that begins with a backslash where the name has escapes; or a digest alone.
fn plain(line: &str) -> Option<Line> {
    let (line, escaped) = match line.strip_prefix('\\') {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let (value, name) = match line.split_once([' ', '\t']) {
        Some((value, name)) => (value, name.strip_prefix([' ', '*']).unwrap_or(name).trim_end_matches('\r')),
        None => (line.trim_end(), ""),
    };
    let value = value.to_ascii_lowercase();
    let algorithm = algorithm_of(&value)?;
    let name = if escaped { unescape(name) } else { name.to_owned() };
    Some(Line { algorithm, value, name: Some(name).filter(|name| !name.trim().is_empty()), size: None })
}

fn unescape(name: &str) -> String {
    let mut out = String::new();
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                other => out.extend(other),
            },
            (c, false) => out.push(c),
        }
    }
    out
}

/// By the number of digits.
fn algorithm_of(value: &str) -> Option<Algorithm> {
    match value.len() {
        _ if !is_hex(value) => None,
        32 => Some(Algorithm::Md5),
        40 => Some(Algorithm::Sha1),
        64 => Some(Algorithm::Sha256),
        128 => Some(Algorithm::Sha512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "900150983cd24fb0d6963f7d28e17f72";
    const SHA: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn every_form_is_read() {
        for (text, algorithm, name) in [
            (format!("{SHA}  a.pt\n"), Algorithm::Sha256, Some("a.pt")),
            (format!("{SHA} *a.pt\r\n"), Algorithm::Sha256, Some("a.pt")),
            (format!("# words\n{}\ta.pt", SHA.to_uppercase()), Algorithm::Sha256, Some("a.pt")),
            (format!("\\{MD5}  a\\\\b\\nc"), Algorithm::Md5, Some("a\\b\nc")),
            (format!("SHA256 (a (1).pt) = {SHA}\n"), Algorithm::Sha256, Some("a (1).pt")),
            (format!("MD5(a.pt)= {MD5}\n"), Algorithm::Md5, Some("a.pt")),
            (format!("{MD5}\n"), Algorithm::Md5, None),
        ] {
            let lines = parse(&text);
            assert_eq!(lines.len(), 1, "{text}");
            assert_eq!((lines[0].algorithm, lines[0].name.as_deref()), (algorithm, name), "{text}");
        }
        let text = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{SHA}\nsize 3\n");
        assert_eq!((parse(&text)[0].size, parse(&text)[0].name.is_none()), (Some(3), true));
        assert!(parse("words\nmore words\n").is_empty());
    }

    #[test]
    fn the_longest_end_of_a_path_decides() {
        let text = format!("{SHA}  7B/consolidated.00.pth\n{}  13B/consolidated.00.pth\n", "0".repeat(64));
        let lines = parse(&text);
        let of = |path: &str| of(&lines, Path::new(path)).len();
        assert_eq!(of("llama/13B/consolidated.00.pth"), 1);
        assert_eq!(of("consolidated.00.pth"), 2);
        assert_eq!(of("params.json"), 0);
    }
}
