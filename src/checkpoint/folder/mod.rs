//! [`Folder`]: the files of a checkpoint that is a folder, listed once, and the layouts that make one.
//!
//! A file is reached by its place in the listing and by nothing else, so that no name inside the data can lead out of the
//! folder, or to a link.

mod beside;
mod error;
mod merge;
mod places;
mod plain;
mod rank_file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bytes::FileSource;
use crate::limits::{LimitKind, check};

use super::{Error, OpenOptions, Opened, Source, dcp, deepspeed};

pub use error::FolderError;
pub(super) use merge::{Merge, contiguous};
pub(super) use places::Held;
pub(super) use plain::Plain;
pub(super) use rank_file::RankFile;

/// A layout in which a folder is one checkpoint.
struct Layout {
    /// What it is called.
    name: &'static str,
    /// Whether a folder has it, by the names of its files.
    has: fn(&Folder) -> bool,
    open: fn(&Folder, &OpenOptions) -> Result<Opened, Error>,
}

/// Every layout, the most telling first.
const LAYOUTS: &[Layout] = &[
    Layout { name: "dcp", has: dcp::is_here, open: dcp::open },
    Layout { name: "deepspeed", has: deepspeed::is_here, open: deepspeed::open },
];

/// Opens a folder that is one checkpoint; `None` for any other folder.
///
/// # Errors
/// As [`open`](super::open); what does not fit together.
pub fn open_folder(folder: &Folder, options: &OpenOptions) -> Result<Option<Opened>, Error> {
    let layout = LAYOUTS.iter().find(|layout| (layout.has)(folder));
    let opened = layout.map(|layout| (layout.open)(folder, options)).transpose()?;
    if let Some(opened) = opened.as_ref().filter(|_| options.strict) {
        super::open::check_strict(opened)?;
    }
    Ok(opened)
}

/// Folders below the one that is named: those of tags, iterations and ranks.
const DEPTH: usize = 3;

/// Regular files by their path from the folder, with forward slashes.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    files: BTreeMap<Box<str>, u64>,
}

impl Folder {
    /// Lists a folder. Links are not followed, and names that are not UTF-8 are passed over.
    ///
    /// # Errors
    /// Those of listing it; a limit on the number of files.
    pub fn list(root: &Path, options: &OpenOptions) -> Result<Self, Error> {
        let mut files = BTreeMap::new();
        let mut folders = vec![(root.to_owned(), String::new(), 0)];
        while let Some((folder, prefix, depth)) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                let path = format!("{prefix}{name}");
                let kind = entry.file_type()?;
                if kind.is_dir() && depth < DEPTH {
                    folders.push((entry.path(), format!("{path}/"), depth.saturating_add(1)));
                } else if kind.is_file() {
                    let limit = crate::bytes::length(options.limits.entries);
                    check(LimitKind::Entries, limit, crate::bytes::length(files.len()))?;
                    files.insert(path.into(), entry.metadata()?.len());
                }
            }
        }
        Ok(Self { root: root.to_owned(), files })
    }

    /// Whether it has a layout that makes it one checkpoint.
    pub fn is_checkpoint(&self) -> bool {
        self.layout().is_some()
    }

    /// The name of the layout that makes it one checkpoint.
    pub fn layout(&self) -> Option<&'static str> {
        LAYOUTS.iter().find(|layout| (layout.has)(self)).map(|layout| layout.name)
    }

    /// Every file in order.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(|name| &**name)
    }

    /// Files that stand directly in a folder, which is empty or ends in a slash: their names there.
    pub(in crate::checkpoint) fn beside<'a>(&'a self, below: &'a str) -> impl Iterator<Item = &'a str> {
        self.files().filter_map(move |path| path.strip_prefix(below)).filter(|name| !name.contains('/'))
    }

    /// Whether there is a file of this path.
    pub(in crate::checkpoint) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Opens a file of the listing.
    ///
    /// # Errors
    /// A path that is none of the listing; those of opening it.
    pub fn source(&self, path: &str) -> Result<Source, Error> {
        if !self.has(path) {
            return Err(FolderError::missing(path).into());
        }
        let source = FileSource::open(&self.root.join(path))?;
        Ok(Arc::new(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn only_regular_files_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("tag/rank/deeper/deepest")).unwrap();
        for name in ["a", "tag/b", "tag/rank/c", "tag/rank/deeper/d", "tag/rank/deeper/deepest/e"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink(folder.path().join("a"), folder.path().join("link")).unwrap();
        let listed = Folder::list(folder.path(), &OpenOptions::default()).unwrap();
        assert_eq!(listed.files().collect::<Vec<_>>(), ["a", "tag/b", "tag/rank/c", "tag/rank/deeper/d"]);
        assert_eq!(listed.beside("tag/").collect::<Vec<_>>(), ["b"]);
        for missing in ["link", "../a", "tag/../a", "/etc/passwd", ""] {
            assert!(matches!(listed.source(missing), Err(Error::Folder(_))), "{missing}");
        }
    }
}
