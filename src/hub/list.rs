//! Listing a folder, and sorting its weights into sets.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::index::Index;
use super::names::Name;
use super::{Error, WeightSet, below};

/// Folders below the one that is named: those of a pipeline's models, and their parts.
const DEPTH: usize = 3;

/// Files of one folder: more than any honest repository has.
const MOST: usize = 100_000;

/// A file of the folder.
#[derive(Debug)]
pub(super) struct Listed {
    /// Its path from there, with forward slashes.
    pub(super) path: String,
    pub(super) found: Found,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A regular file, perhaps through a link that stays inside.
    File,
    /// A link that leads out of the folder.
    Outside,
}

/// Every file below a folder, by name. Hidden ones, and names that are not UTF-8, are passed over; linked folders are not
/// followed.
pub(super) fn list(root: &Path) -> io::Result<Vec<Listed>> {
    let inside = Inside::new(root)?;
    let mut files = Vec::new();
    let mut folders = vec![(root.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() && depth < DEPTH {
                folders.push((entry.path(), format!("{path}/"), depth.saturating_add(1)));
            } else if kind.is_file() {
                files.push(Listed { path, found: Found::File });
            } else if kind.is_symlink() && entry.path().metadata().is_ok_and(|there| there.is_file()) {
                let found = if inside.holds(&entry.path()) { Found::File } else { Found::Outside };
                files.push(Listed { path, found });
            }
            if files.len() > MOST {
                return Err(io::Error::other(format!("more than {MOST} files")));
            }
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

/// Where a link may lead: into the folder itself, or, from a snapshot of a Hugging Face cache, to the files that the cache
/// keeps beside it: `models--a--b/snapshots/REVISION/config.json -> ../../blobs/HASH`.
struct Inside {
    root: PathBuf,
    blobs: Option<PathBuf>,
}

impl Inside {
    fn new(root: &Path) -> io::Result<Self> {
        let root = root.canonicalize()?;
        let snapshots = root.parent().filter(|folder| folder.ends_with("snapshots"));
        let blobs = snapshots.and_then(Path::parent).map(|cache| cache.join("blobs"));
        Ok(Self { blobs: blobs.filter(|blobs| blobs.is_dir()), root })
    }

    fn holds(&self, path: &Path) -> bool {
        let Ok(path) = path.canonicalize() else { return false };
        path.starts_with(&self.root) || self.blobs.as_ref().is_some_and(|blobs| path.starts_with(blobs))
    }
}

/// The weights that were met, by folder and stem.
#[derive(Debug, Default)]
pub(super) struct Sets(BTreeMap<(String, String), Set>);

#[derive(Debug, Default)]
struct Set {
    variant: Option<String>,
    whole: Option<String>,
    shards: Vec<(u32, u32, String)>,
    index: Option<String>,
}

impl Sets {
    /// Adds a file of weights.
    pub(super) fn add(&mut self, file: &Listed, name: Name) {
        let (shard, path) = (name.shard, file.path.clone());
        let set = self.set(file, name);
        match shard {
            Some((number, of)) => set.shards.push((number, of, path)),
            None => set.whole = Some(path),
        }
    }

    /// Adds an index.
    pub(super) fn add_index(&mut self, file: &Listed, name: Name) {
        self.set(file, name).index = Some(file.path.clone());
    }

    fn set(&mut self, file: &Listed, name: Name) -> &mut Set {
        let set = self.0.entry((file.folder().to_owned(), name.stem())).or_default();
        set.variant = name.variant;
        set
    }

    /// Checks each set against its index, or the numbers of its shards.
    pub(super) fn finish(self, root: &Path) -> Result<Vec<WeightSet>, Error> {
        let sets = self.0.into_iter().map(|((folder, stem), set)| set.finish(root, folder, stem));
        sets.collect()
    }
}

impl Set {
    fn finish(mut self, root: &Path, folder: String, stem: String) -> Result<WeightSet, Error> {
        self.shards.sort();
        let index = self.index.as_ref().map(|path| Index::read(root, path)).transpose()?;
        let second = self.index.as_ref().or(self.shards.first().map(|(.., path)| path));
        if let (Some(first), Some(second)) = (&self.whole, second) {
            // An index may name the one file that there is.
            let named =
                index.as_ref().is_some_and(|index| index.files().any(|file| below(&folder, file) == *first));
            if !named || !self.shards.is_empty() {
                return Err(Error::Both { first: first.clone(), second: second.clone() });
            }
        }
        let shards = match &index {
            Some(index) => self.indexed(index, &folder)?,
            None if self.whole.is_some() => self.whole.into_iter().collect(),
            None => self.numbered()?,
        };
        Ok(WeightSet { folder, stem, variant: self.variant, shards, index })
    }

    /// The shards that an index names.
    fn indexed(&self, index: &Index, folder: &str) -> Result<Vec<String>, Error> {
        let there = || self.shards.iter().map(|(.., path)| path).chain(&self.whole);
        let mut named: Vec<String> = index.files().map(|file| below(folder, file)).collect();
        named.sort();
        named.dedup();
        if let Some(missing) = named.iter().find(|name| !there().any(|path| path == *name)) {
            return Err(Error::Missing { missing: missing.clone(), named_by: index.path.clone() });
        }
        match there().find(|path| !named.contains(path)) {
            Some(path) => Err(Error::Foreign { path: path.clone(), set: index.path.clone() }),
            None => Ok(named),
        }
    }

    /// Shards without an index: one of each number.
    fn numbered(&self) -> Result<Vec<String>, Error> {
        let Some((_, of, first)) = self.shards.first() else { return Ok(Vec::new()) };
        if let Some((.., path)) = self.shards.iter().find(|(_, other, _)| other != of) {
            return Err(Error::Foreign { path: path.clone(), set: first.clone() });
        }
        for ((number, _, path), expected) in self.shards.iter().zip(1..) {
            if *number != expected {
                let set = first.clone();
                // Twice the same number, or one left out: `-00001-of-00003`, `-00003-of-00003`.
                return Err(if *number < expected {
                    Error::Foreign { path: path.clone(), set }
                } else {
                    missing(path, *number, expected)
                });
            }
        }
        match self.shards.last() {
            Some((number, of, path)) if number < of => Err(missing(path, *number, number.saturating_add(1))),
            Some((number, of, path)) if number > of => {
                Err(Error::Foreign { path: path.clone(), set: first.clone() })
            }
            _ => Ok(self.shards.iter().map(|(.., path)| path.clone()).collect()),
        }
    }
}

/// The shard that has to stand there by the number of another.
fn missing(named_by: &str, number: u32, expected: u32) -> Error {
    let missing = named_by.replace(&format!("-{number:05}-of-"), &format!("-{expected:05}-of-"));
    Error::Missing { missing, named_by: named_by.to_owned() }
}
