//! Known-good digests: what a source has to be before it is parsed, and what others say that it is.
//!
//! A digest that is whole and does not match stops a conversion. What is only the beginning of one, or MD5, shows
//! damage and no more: it is recorded as what it is, with its bits, and nothing here calls it proof of an author.

mod beside;
mod published;
mod sums;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use super::manifest::{Expected, SourceRecord};
use crate::bytes::{ReadAt, hex, index};

/// A way to compute a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256
    Sha256,
    /// SHA-512
    Sha512,
    /// SHA-1
    Sha1,
    /// MD5
    Md5,
    /// SHA-1 of a git blob: a header with the size, then the bytes.
    GitSha1,
}

/// Names and bits.
const ALGORITHMS: &[(Algorithm, &str, u32)] = &[
    (Algorithm::Sha256, "sha256", 256),
    (Algorithm::Sha512, "sha512", 512),
    (Algorithm::Sha1, "sha1", 160),
    (Algorithm::Md5, "md5", 128),
    (Algorithm::GitSha1, "git-sha1", 160),
];

impl Algorithm {
    fn row(self) -> (&'static str, u32) {
        let row = ALGORITHMS.iter().find(|row| row.0 == self);
        row.map_or(("", 0), |row| (row.1, row.2))
    }

    /// Such as `sha256`.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Bits of a whole digest.
    pub fn bits(self) -> u32 {
        self.row().1
    }

    fn from_name(name: &str) -> Option<Self> {
        ALGORITHMS.iter().find(|row| row.1 == name).map(|row| row.0)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What it means that a digest does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The source is another one or damaged.
    Stops,
    /// It should be known: what looks like a digest may be something else.
    Told,
    /// Nothing: it was a guess.
    Guess,
}

/// A digest that a source is said to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// Who says so.
    pub origin: String,
    /// Which digest.
    pub algorithm: Algorithm,
    /// The digest, or its beginning, in lower-case hexadecimal.
    pub value: String,
    /// Bytes of the source, where they are said.
    pub size: Option<u64>,
    /// What it means that it does not match.
    pub weight: Weight,
}

/// The shortest beginning of a digest that `--expect` takes.
const SHORTEST: usize = 8;

impl Expectation {
    /// What `--expect` takes: `sha256:HEX`, or another of `sha512`, `sha1`, `md5`; the beginning of a digest too.
    ///
    /// # Errors
    /// Text of another form.
    pub fn parse(text: &str) -> Result<Self, ExpectError> {
        let wrong = || ExpectError::Form(text.to_owned());
        let (name, value) = text.split_once(':').ok_or_else(wrong)?;
        let algorithm = Algorithm::from_name(&name.to_ascii_lowercase()).ok_or_else(wrong)?;
        let value = value.to_ascii_lowercase();
        let most = index(u64::from(algorithm.bits())) >> 2;
        if !is_hex(&value) || !(SHORTEST..=most).contains(&value.len()) {
            return Err(wrong());
        }
        let origin = "--expect".to_owned();
        Ok(Self { origin, algorithm, value, size: None, weight: Weight::Stops })
    }

    /// The digest of a file that a manifest states.
    pub(crate) fn of_manifest(algorithm: &str, value: &str) -> Option<Self> {
        let algorithm = Algorithm::from_name(algorithm)?;
        let (origin, value) = ("the manifest".to_owned(), value.to_owned());
        Some(Self { origin, algorithm, value, size: None, weight: Weight::Told })
    }

    /// What a manifest has recorded.
    pub(crate) fn recorded(expected: &Expected) -> Option<Self> {
        let algorithm = Algorithm::from_name(&expected.algorithm)?;
        let (origin, value) = (expected.origin.clone(), expected.value.clone());
        Some(Self { origin, algorithm, value, size: None, weight: Weight::Told })
    }

    /// Bits that it has, where they are not all of the digest's.
    fn bits(&self) -> Option<u32> {
        let bits = u32::try_from(self.value.len()).unwrap_or(u32::MAX).saturating_mul(4);
        (bits < self.algorithm.bits()).then_some(bits)
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
}

/// Where expectations come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// What lies beside the source: the Hugging Face cache and its metadata, lists of digests, its name.
    pub auto: bool,
    /// Digests, whatever the source is called.
    pub digests: Vec<Expectation>,
    /// Lists of digests that have to name the source.
    pub lists: Vec<PathBuf>,
    /// What a manifest has recorded of each source, by its path.
    pub recorded: Vec<(PathBuf, Vec<Expectation>)>,
}

impl Default for Expect {
    fn default() -> Self {
        Self { auto: true, digests: Vec::new(), lists: Vec::new(), recorded: Vec::new() }
    }
}

impl Expect {
    /// What is asked for, and nothing that lies beside the source.
    pub fn nothing() -> Self {
        Self { auto: false, ..Self::default() }
    }

    /// What was expected of the sources of a manifest, and nothing that lies beside them now.
    pub(crate) fn recorded(sources: &[SourceRecord]) -> Self {
        let of = |source: &SourceRecord| {
            let said = source.expected.iter().filter_map(Expectation::recorded);
            (PathBuf::from(&source.path), said.collect())
        };
        Self { recorded: sources.iter().map(of).collect(), ..Self::nothing() }
    }

    /// Everything that is expected of the source at a path.
    ///
    /// # Errors
    /// A list that cannot be read, is none, or does not name the source.
    pub fn of(&self, path: &Path) -> Result<Vec<Expectation>, ExpectError> {
        let mut all = self.digests.clone();
        for list in &self.lists {
            all.extend(sums::named(list, path)?);
        }
        // The one source of a manifest may have another name now.
        all.extend(self.said(path).or(self.recorded.first()).into_iter().flat_map(|(_, said)| said.clone()));
        all.extend(self.beside(path));
        Ok(all)
    }

    /// What is expected of a file that comes with the source, such as an index or an array in a file of its own: a digest that
    /// is given is the source's, and a list need not name it.
    ///
    /// # Errors
    /// A list that cannot be read or is none.
    pub(crate) fn of_companion(&self, path: &Path) -> Result<Vec<Expectation>, ExpectError> {
        let mut all = Vec::new();
        for list in &self.lists {
            match sums::named(list, path) {
                Err(ExpectError::NotListed { .. }) => {}
                named => all.extend(named?),
            }
        }
        all.extend(self.said(path).into_iter().flat_map(|(_, said)| said.clone()));
        all.extend(self.beside(path));
        Ok(all)
    }

    /// What a manifest has recorded of the source at a path.
    fn said(&self, path: &Path) -> Option<&(PathBuf, Vec<Expectation>)> {
        let own = self.recorded.iter().filter(|(name, _)| path.ends_with(name));
        own.max_by_key(|(name, _)| name.components().count())
    }

    fn beside(&self, path: &Path) -> Vec<Expectation> {
        if self.auto { beside::beside(path) } else { Vec::new() }
    }
}

/// Why a source is not what it was expected to be, or that cannot be found out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExpectError {
    /// The digest is another.
    #[error("{algorithm} is {got}, {expected} expected by {origin}")]
    Mismatch {
        /// Who expects it.
        origin: String,
        /// Which digest.
        algorithm: Algorithm,
        /// The digest, or its beginning.
        expected: String,
        /// As it is.
        got: String,
    },
    /// The size is another.
    #[error("has {got} bytes, {expected} expected by {origin}")]
    Size {
        /// Who expects it.
        origin: String,
        /// Bytes.
        expected: u64,
        /// Bytes that there are.
        got: u64,
    },
    /// A list that does not name the source.
    #[error("{list}: names no digest of {name}")]
    NotListed {
        /// The list.
        list: String,
        /// The name of the source.
        name: String,
    },
    /// A list with two digests of one kind for the source.
    #[error("{list}: names {first} and {second} for {name}")]
    Contradiction {
        /// The list.
        list: String,
        /// The name of the source.
        name: String,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A file that is no list of digests.
    #[error("{list}: no list of digests, as sha256sum, md5sum, BSD tools or git-lfs write")]
    NoList {
        /// The file.
        list: String,
    },
    /// A list that cannot be read.
    #[error("{list}: cannot be read: {error}")]
    List {
        /// The list.
        list: String,
        /// Why.
        error: io::Error,
    },
    /// Text that is no digest.
    #[error("{0:?}: expected sha256:HEX (or sha512, sha1, md5; at least 8 digits), auto or none")]
    Form(String),
    /// The source cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// What `result` says of a digest that matches.
const MATCH: &str = "match";
const MISMATCH: &str = "mismatch";

/// How a source compares with what is expected of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checked {
    /// Each digest that it was compared with.
    pub(crate) expected: Vec<Expected>,
    /// Its SHA-256 at that time, if it was read. It is hashed again while it is converted, and has to be the same.
    pub(crate) sha256: Option<String>,
}

/// Compares a source with what is expected of it, reading it once.
///
/// # Errors
/// [`ExpectError::Mismatch`], [`ExpectError::Size`]; those of reading.
pub(crate) fn check(source: &dyn ReadAt, expectations: &[Expectation]) -> Result<Checked, ExpectError> {
    let mut checked = Checked::default();
    for expectation in expectations {
        let (origin, got) = (expectation.origin.clone(), source.size());
        if let Some(expected) = expectation.size.filter(|size| *size != got) {
            return Err(ExpectError::Size { origin, expected, got });
        }
    }
    if expectations.is_empty() {
        return Ok(checked);
    }
    let wanted = |algorithm| {
        algorithm == Algorithm::Sha256
            || expectations.iter().any(|expectation| expectation.algorithm == algorithm)
    };
    let digests = Digests::of(source, wanted)?;
    checked.sha256 = Some(digests.get(Algorithm::Sha256));
    for expectation in expectations {
        let Expectation { origin, algorithm, value, weight, .. } = expectation;
        let got = digests.get(*algorithm);
        let result = match (got.starts_with(value.as_str()), weight) {
            (true, _) => MATCH,
            (false, Weight::Told) => MISMATCH,
            (false, Weight::Guess) => continue,
            (false, Weight::Stops) => {
                let (origin, expected) = (origin.clone(), value.clone());
                return Err(ExpectError::Mismatch { origin, algorithm: *algorithm, expected, got });
            }
        };
        checked.expected.push(Expected {
            origin: origin.clone(),
            algorithm: algorithm.name().to_owned(),
            value: value.clone(),
            bits: expectation.bits(),
            result: result.to_owned(),
        });
    }
    Ok(checked)
}

/// Digests of one source, of one read.
#[derive(Debug, Default)]
struct Digests(Vec<(Algorithm, String)>);

impl Digests {
    fn of(source: &dyn ReadAt, wanted: impl Fn(Algorithm) -> bool) -> io::Result<Self> {
        /// Bytes read at a time.
        const BLOCK: u64 = 1 << 20;
        let mut sha256 = wanted(Algorithm::Sha256).then(Sha256::new);
        let mut sha512 = wanted(Algorithm::Sha512).then(Sha512::new);
        let mut sha1 = wanted(Algorithm::Sha1).then(Sha1::new);
        let mut md5 = wanted(Algorithm::Md5).then(Md5::new);
        let mut git = wanted(Algorithm::GitSha1).then(Sha1::new);
        if let Some(git) = &mut git {
            git.update(format!("blob {}\0", source.size()));
        }
        let mut block = vec![0; index(BLOCK.min(source.size()))];
        let mut at = 0;
        while at < source.size() {
            let n = BLOCK.min(source.size().saturating_sub(at));
            let block = block.get_mut(..index(n)).unwrap_or_default();
            source.read_exact_at(block, at)?;
            if let Some(hash) = &mut sha256 {
                hash.update(&*block);
            }
            if let Some(hash) = &mut sha512 {
                hash.update(&*block);
            }
            for hash in sha1.iter_mut().chain(&mut git) {
                hash.update(&*block);
            }
            if let Some(hash) = &mut md5 {
                hash.update(&*block);
            }
            at = at.saturating_add(n);
        }
        let all = [
            sha256.map(|hash| (Algorithm::Sha256, hex(&hash.finalize()))),
            sha512.map(|hash| (Algorithm::Sha512, hex(&hash.finalize()))),
            sha1.map(|hash| (Algorithm::Sha1, hex(&hash.finalize()))),
            md5.map(|hash| (Algorithm::Md5, hex(&hash.finalize()))),
            git.map(|hash| (Algorithm::GitSha1, hex(&hash.finalize()))),
        ];
        Ok(Self(all.into_iter().flatten().collect()))
    }

    fn get(&self, algorithm: Algorithm) -> String {
        let found = self.0.iter().find(|(known, _)| *known == algorithm);
        found.map(|(_, digest)| digest.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expect(text: &str, weight: Weight) -> Expectation {
        Expectation { weight, ..Expectation::parse(text).unwrap() }
    }

    #[test]
    fn digests_are_those_of_the_tools() {
        // printf abc | sha256sum, sha512sum, sha1sum, md5sum, git hash-object --stdin
        let all = [
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "sha512:ddaf35a193617abacc417349ae204131",
            "sha1:a9993e364706816aba3e25717850c26c9cd0d89d",
            "md5:900150983cd24fb0d6963f7d28e17f72",
            "git-sha1:f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f",
        ];
        let all: Vec<Expectation> = all.iter().map(|text| expect(text, Weight::Stops)).collect();
        let checked = check(&b"abc".to_vec(), &all).unwrap();
        assert!(checked.expected.iter().all(|expected| expected.result == "match"));
        let bits: Vec<Option<u32>> = checked.expected.iter().map(|expected| expected.bits).collect();
        assert_eq!(bits, [None, Some(128), None, None, None]);
    }

    #[test]
    fn what_does_not_match_stops_or_is_told_or_was_a_guess() {
        let wrong = "sha256:00000000";
        let error = check(&b"abc".to_vec(), &[expect(wrong, Weight::Stops)]).unwrap_err();
        assert!(matches!(error, ExpectError::Mismatch { algorithm: Algorithm::Sha256, .. }));
        let told = check(&b"abc".to_vec(), &[expect(wrong, Weight::Told)]).unwrap().expected;
        assert_eq!((told[0].result.as_str(), told[0].bits), ("mismatch", Some(32)));
        assert!(check(&b"abc".to_vec(), &[expect(wrong, Weight::Guess)]).unwrap().expected.is_empty());
        let size = Expectation { size: Some(4), ..expect(wrong, Weight::Stops) };
        assert!(matches!(
            check(&b"abc".to_vec(), &[size]),
            Err(ExpectError::Size { expected: 4, got: 3, .. })
        ));
    }

    #[test]
    fn only_digests_are_taken_for_digests() {
        for text in ["abc", "sha256:", "sha256:xyz01234", "sha256:1234567", "crc32:01234567"] {
            assert!(matches!(Expectation::parse(text), Err(ExpectError::Form(_))), "{text}");
        }
        let long = format!("md5:{}", "0".repeat(33));
        assert!(Expectation::parse(&long).is_err());
        assert_eq!(Expectation::parse("SHA256:ABCDEF01").unwrap().value, "abcdef01");
    }
}
