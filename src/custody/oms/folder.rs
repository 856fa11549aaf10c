//! Which files of a folder are signed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::error::Error;

/// What is in a folder and is no file to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stray {
    /// A symbolic link.
    Link,
    /// A device, socket or pipe.
    Special,
    /// A name that JSON cannot hold.
    NotUtf8,
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "is a symbolic link",
            Self::Special => "is no regular file",
            Self::NotUtf8 => "has a name that is not UTF-8",
        })
    }
}

/// The contents of a folder. Names are relative, with forward slashes.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Files, and where each is.
    pub(super) files: BTreeMap<String, PathBuf>,
    /// Everything else.
    pub(super) strays: BTreeMap<String, Stray>,
    /// Whether some of the files are links.
    pub(super) linked: bool,
    /// What was passed over because it is to be ignored.
    pub(super) ignored: BTreeSet<String>,
}

/// Lists a folder. What `ignored` names is passed over, with all that is below it. Links are strays, but those that
/// `links` lets through: they are read as the files that they point to.
pub(super) fn list(folder: &Path, ignored: &BTreeSet<String>, links: &Links) -> Result<Contents, Error> {
    let mut contents = Contents::default();
    let mut open = vec![(String::new(), folder.to_owned())];
    while let Some((prefix, path)) = open.pop() {
        for entry in fs::read_dir(&path).map_err(Error::io(&path))? {
            let entry = entry.map_err(Error::io(&path))?;
            let (path, file_name) = (entry.path(), entry.file_name());
            let name = format!("{prefix}{}", file_name.to_string_lossy());
            if ignored.contains(&name) {
                contents.ignored.insert(name);
                continue;
            }
            let kind = entry.file_type().map_err(Error::io(&path))?;
            if file_name.to_str().is_none() {
                contents.strays.insert(name, Stray::NotUtf8);
            } else if kind.is_dir() {
                open.push((format!("{name}/"), path));
            } else if kind.is_file() {
                contents.files.insert(name, path);
            } else if !kind.is_symlink() {
                contents.strays.insert(name, Stray::Special);
            } else if links.allow(&path) {
                contents.linked = true;
                contents.files.insert(name, path);
            } else {
                contents.strays.insert(name, Stray::Link);
            }
        }
    }
    Ok(contents)
}

/// Which symbolic links are read as the files that they point to.
#[derive(Debug)]
pub(super) struct Links(Vec<PathBuf>);

impl Links {
    /// Those of a Hugging Face cache: `snapshots/<revision>/file` points to `../../blobs/<digest>`. With `signed`, where
    /// the signature says that links were followed, those that stay in the folder, too.
    pub(super) fn of(folder: &Path, signed: bool) -> io::Result<Self> {
        let folder = folder.canonicalize()?;
        let snapshots = folder.parent().filter(|parent| parent.ends_with("snapshots"));
        let blobs = snapshots.and_then(Path::parent).map(|cache| cache.join("blobs"));
        let blobs = blobs.and_then(|blobs| blobs.canonicalize().ok());
        Ok(Self(blobs.into_iter().chain(signed.then_some(folder)).collect()))
    }

    /// Folders are never followed, so that there are no circles.
    fn allow(&self, link: &Path) -> bool {
        let target = link.canonicalize().ok().filter(|target| target.is_file());
        target.is_some_and(|target| self.0.iter().any(|folder| target.starts_with(folder)))
    }
}

/// A path to leave out, relative to the folder as a signature records it: given so, or as an absolute path inside.
pub(super) fn relative(folder: &Path, path: &Path) -> Result<String, Error> {
    let outside = || Error::IgnoreOutside(path.to_owned());
    let absolute;
    let inside = if path.is_absolute() {
        absolute = resolve(path).map_err(Error::io(path))?;
        absolute.strip_prefix(folder.canonicalize().map_err(Error::io(folder))?).map_err(|_| outside())?
    } else {
        path
    };
    let parts = inside.components().filter(|part| *part != Component::CurDir);
    let parts: Option<Vec<&str>> = parts
        .map(|part| match part {
            Component::Normal(part) => part.to_str(),
            _ => None,
        })
        .collect();
    parts.filter(|parts| !parts.is_empty()).map(|parts| parts.join("/")).ok_or_else(outside)
}

/// The file's own name in the folder that it really lies in; the file itself need not exist.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match (path.parent().map(Path::canonicalize).transpose()?, path.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.join(name)),
        _ => path.canonicalize(),
    }
}

/// The name of a file in the folder, and none where it lies elsewhere.
pub(super) fn name_inside(folder: &Path, file: &Path) -> Option<String> {
    let absolute = std::path::absolute(file).ok()?;
    relative(folder, &absolute).ok()
}
