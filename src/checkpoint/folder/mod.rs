//! [`Folder`]: the files of a checkpoint that is a folder, listed once, and the layouts that make one.
//!
//! A file is reached by its place in the listing and by nothing else, so that no name inside the data can lead out of the
//! folder, or to a link.

mod beside;
mod error;
mod grid;
mod merge;
mod places;
mod plain;
mod rank_file;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::bytes::{FileSource, Span, read_vec};
use crate::limits::{LimitKind, check};

use super::{Error, OpenOptions, Opened, Source, dcp, deepspeed, megatron, ranks};

pub use error::FolderError;
pub(super) use grid::places;
pub(super) use merge::{Merge, bytes_of, contiguous};
pub(super) use places::Held;
pub(super) use plain::Plain;
pub(super) use rank_file::RankFile;

/// A layout in which a folder is one checkpoint.
#[derive(Debug)]
struct Layout {
    /// What it is called.
    name: &'static str,
    /// Whether a folder has it, by the names of its files and what they begin with.
    has: fn(&Folder) -> bool,
    open: fn(&Folder, &OpenOptions) -> Result<Vec<Named>, Error>,
}

/// A model of a folder, and what its files are to be called.
pub type Named = (Box<str>, Opened);

/// A checkpoint that is one model.
pub(super) fn one(opened: Opened) -> Vec<Named> {
    vec![("model".into(), opened)]
}

/// The layout of which each rank is a model.
pub(crate) const MEGATRON: &str = "megatron";

/// Every layout, the most telling first.
const LAYOUTS: &[Layout] = &[
    Layout { name: "dcp", has: dcp::is_here, open: dcp::open },
    Layout {
        name: "deepspeed",
        has: deepspeed::is_here,
        open: |folder, options| deepspeed::open(folder, options).map(one),
    },
    Layout { name: MEGATRON, has: megatron::is_here, open: megatron::open },
    Layout { name: "ranks", has: ranks::is_here, open: ranks::open },
];

/// Opens a folder that is one checkpoint: its model, or one for each rank where ranks cannot be merged. Empty for any other
/// folder.
///
/// # Errors
/// As [`open`](super::open); what does not fit together.
pub fn open_folder(folder: &Folder, options: &OpenOptions) -> Result<Vec<Named>, Error> {
    let models = folder.known().map_or_else(|| Ok(Vec::new()), |layout| (layout.open)(folder, options))?;
    if options.strict {
        models.iter().try_for_each(|(_, opened)| super::open::check_strict(opened))?;
    }
    Ok(models)
}

/// Folders below the one that is named: those of tags, iterations and ranks.
const DEPTH: usize = 3;

/// Regular files by their path from the folder, with forward slashes.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    files: BTreeMap<Box<str>, u64>,
    /// Those that were opened: what was compared with a digest is what is read.
    sources: Arc<Mutex<HashMap<Box<str>, Arc<FileSource>>>>,
    /// Its layout, once it was asked for: that of files of ranks is told by what each file says.
    layout: OnceLock<Option<&'static Layout>>,
}

/// What a small file says that names a folder beside it, such as that of the last save.
pub(super) fn said(folder: &Folder, file: &str) -> Result<String, Error> {
    /// A name is a word and a number, or what the user called it.
    const LONGEST: u64 = 1024;
    let source = folder.source(file)?;
    let text = read_vec(&*source, Span::between(0, source.size().min(LONGEST)))?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
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
        Ok(Self { root: root.to_owned(), files, sources: Arc::default(), layout: OnceLock::new() })
    }

    /// Whether it has a layout that makes it one checkpoint.
    pub fn is_checkpoint(&self) -> bool {
        self.known().is_some()
    }

    /// The name of the layout that makes it one checkpoint.
    pub fn layout(&self) -> Option<&'static str> {
        self.known().map(|layout| layout.name)
    }

    fn known(&self) -> Option<&'static Layout> {
        *self.layout.get_or_init(|| LAYOUTS.iter().find(|layout| (layout.has)(self)))
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

    /// Opens a file of the listing, each once.
    ///
    /// # Errors
    /// A path that is none of the listing; those of opening it.
    pub fn source(&self, path: &str) -> Result<Source, Error> {
        if !self.has(path) {
            return Err(FolderError::missing(path).into());
        }
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sources.get(path) {
            return Ok(known.clone());
        }
        let source = Arc::new(FileSource::open(&self.root.join(path))?);
        sources.insert(path.into(), source.clone());
        Ok(source)
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
        // A file that takes the place of one that was looked at is not read.
        let first = listed.source("a").unwrap();
        std::fs::rename(folder.path().join("tag/b"), folder.path().join("a")).unwrap();
        assert!(Arc::ptr_eq(&first, &listed.source("a").unwrap()));
    }
}
