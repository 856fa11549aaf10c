//! The claim of a signature: which files there are, and how they were found.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bytes::hex;

use super::error::Fault;

/// `predicateType` of a signature.
pub(super) const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";

/// What lies at the top of a folder and is never signed: what version control and its hosts put there.
pub(super) const ALWAYS_IGNORED: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// The files of a folder. Readers ignore what else is in a predicate or a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Predicate {
    pub(super) serialization: Serialization,
    pub(super) resources: Vec<Resource>,
}

/// How the files were found and hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Serialization {
    /// `files`, or `shards`, which is not supported.
    pub(super) method: String,
    /// `sha256`; others are not supported.
    pub(super) hash_type: String,
    pub(super) allow_symlinks: bool,
    /// Absent before version 1.1 of the reference implementation.
    #[serde(default)]
    pub(super) ignore_paths: Vec<String>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Resource {
    /// Relative path with forward slashes.
    pub(super) name: String,
    pub(super) algorithm: String,
    /// In hexadecimal.
    pub(super) digest: String,
}

impl Predicate {
    /// The claim about files with their digests, sorted by code points as the specification has it.
    pub(super) fn new(
        files: &BTreeMap<String, String>,
        allow_symlinks: bool,
        ignored: BTreeSet<String>,
    ) -> Self {
        let sha256 = || "sha256".to_owned();
        let resources = files.iter();
        Self {
            serialization: Serialization {
                method: "files".to_owned(),
                hash_type: sha256(),
                allow_symlinks,
                ignore_paths: ignored.into_iter().collect(),
            },
            resources: resources
                .map(|(name, digest)| Resource {
                    name: name.clone(),
                    algorithm: sha256(),
                    digest: digest.clone(),
                })
                .collect(),
        }
    }

    /// The files by name, once the claim has been held to the specification.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn files(&self) -> Result<BTreeMap<String, String>, Fault> {
        let Serialization { method, hash_type, .. } = &self.serialization;
        if method != "files" {
            return Err(Fault::Unsupported { what: "serialization", found: method.clone(), known: "files" });
        }
        if hash_type != "sha256" {
            return Err(Fault::Unsupported { what: "hash", found: hash_type.clone(), known: "sha256" });
        }
        if self.resources.is_empty() {
            return Err(Fault::NoResources);
        }
        let mut files = BTreeMap::new();
        for Resource { name, algorithm, digest } in &self.resources {
            if algorithm != hash_type {
                return Err(Fault::Unsupported { what: "hash", found: algorithm.clone(), known: "sha256" });
            }
            if !is_inside(name) {
                return Err(Fault::ResourceName(name.clone()));
            }
            if !is_sha256(digest) {
                return Err(Fault::ResourceDigest { name: name.clone(), digest: digest.clone() });
            }
            if files.insert(name.clone(), digest.clone()).is_some() {
                return Err(Fault::ResourceTwice(name.clone()));
            }
        }
        Ok(files)
    }
}

/// Whether a name stays in the folder, spelled in the one way that the specification allows. A model that is one file
/// has the name `.` in the reference implementation.
fn is_inside(name: &str) -> bool {
    name == "." || name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether a text is a digest in lower-case hexadecimal.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The digest over all digests, in the order of the specification: by the code points of the whole name.
pub(super) fn root(files: &BTreeMap<String, String>) -> String {
    digest_of(files.values())
}

/// The same in the order of the reference implementation, which compares names component by component, so that `a/b`
/// comes before `a b`.
pub(super) fn root_by_components(files: &BTreeMap<String, String>) -> String {
    let mut sorted: Vec<(Vec<&str>, &String)> =
        files.iter().map(|(name, digest)| (name.split('/').collect(), digest)).collect();
    sorted.sort();
    digest_of(sorted.into_iter().map(|(_, digest)| digest))
}

fn digest_of<'a>(digests: impl Iterator<Item = &'a String>) -> String {
    let mut hasher = Sha256::new();
    for digest in digests {
        hasher.update(unhex(digest));
    }
    hex(&hasher.finalize())
}

/// The bytes of a digest that [`is_sha256`] has accepted.
fn unhex(digest: &str) -> Vec<u8> {
    let digits: Vec<u8> = digest.chars().filter_map(|c| u8::try_from(c.to_digit(16)?).ok()).collect();
    digits.chunks_exact(2).filter_map(|pair| Some(pair.first()? << 4 | pair.last()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|name| ((*name).to_owned(), hex(&Sha256::digest(name)))).collect()
    }

    #[test]
    fn orders_differ_where_a_name_has_bytes_below_the_slash() {
        // Digests of the reference implementation for these three files, and of the specification's order.
        let three = files(&["a b", "a.txt", "a/b"]);
        assert_ne!(root(&three), root_by_components(&three));
        let two = files(&["a/b", "b"]);
        assert_eq!(root(&two), root_by_components(&two));
        let by_hand =
            Sha256::digest(["a b", "a.txt", "a/b"].map(|name| Sha256::digest(name).to_vec()).concat());
        assert_eq!(root(&three), hex(&by_hand));
    }

    #[test]
    fn claims_are_held_to_the_specification() {
        let good = Predicate::new(&files(&["b", "a/b"]), false, BTreeSet::new());
        assert_eq!(good.files().unwrap(), files(&["a/b", "b"]));
        let with = |change: &dyn Fn(&mut Predicate)| {
            let mut changed = good.clone();
            change(&mut changed);
            changed.files().unwrap_err()
        };
        assert!(matches!(with(&|p| p.resources.clear()), Fault::NoResources));
        assert!(matches!(with(&|p| p.resources[0].name = "b".into()), Fault::ResourceTwice(_)));
        for name in ["", "/a", "a/", "../a", "a/../b", "./a", "a//b"] {
            assert!(matches!(with(&|p| p.resources[0].name = name.into()), Fault::ResourceName(_)), "{name}");
        }
        for digest in ["", "00", &"A".repeat(64)] {
            assert!(matches!(with(&|p| p.resources[0].digest = digest.into()), Fault::ResourceDigest { .. }));
        }
        let shards = with(&|p| p.serialization.method = "shards".into());
        assert!(matches!(shards, Fault::Unsupported { what: "serialization", .. }));
        assert!(matches!(with(&|p| p.serialization.hash_type = "blake2b".into()), Fault::Unsupported { .. }));
        assert!(matches!(with(&|p| p.resources[0].algorithm = "blake3".into()), Fault::Unsupported { .. }));
    }
}
