//! From what was named on the command line to the files that are tried.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use depickle::bytes::{FileSource, ReadAt};
use depickle::convert::is_checkpoint_folder;
use depickle::hub::is_own as is_own_name;
use walkdir::{DirEntry, WalkDir};

use super::sanitize::sanitize;

/// What standard input is called where a file has its name.
const STDIN: &str = "stdin";

/// Where the bytes of an input are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    /// A folder that is one checkpoint, named or found in another.
    Checkpoint(PathBuf),
    Stdin,
    /// A folder, or a part of one, that cannot be listed.
    Unlisted(PathBuf, String),
}

/// Something that is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) source: Source,
    /// The folder in which it was found, relative to the folder that was named; `None` for what was named itself.
    pub(crate) below: Option<PathBuf>,
}

/// All that is tried, and how many files were passed over without a look.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    pub(crate) all: Vec<Input>,
    pub(crate) skipped: u64,
}

impl Input {
    fn named(source: Source) -> Self {
        Self { source, below: None }
    }

    /// Whether it was found in a folder.
    pub(crate) fn is_found(&self) -> bool {
        self.below.is_some()
    }

    /// The file, or the name that stands for it in documents.
    pub(crate) fn path(&self) -> &Path {
        match &self.source {
            Source::File(path) | Source::Checkpoint(path) | Source::Unlisted(path, _) => path,
            Source::Stdin => Path::new(STDIN),
        }
    }

    /// Its path from the folder in which it was found.
    pub(crate) fn relative(&self) -> Option<PathBuf> {
        self.below.as_ref().zip(self.path().file_name()).map(|(below, name)| below.join(name))
    }

    /// The folder that it lies in, where some of its arrays may have files of their own.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        let Source::File(path) = &self.source else { return None };
        Some(folder_of(path).to_owned())
    }

    /// As the user knows it, for documents.
    pub(crate) fn name(&self) -> String {
        match &self.source {
            Source::Stdin => "-".to_owned(),
            _ => self.path().display().to_string(),
        }
    }

    /// As the user knows it, safe to print.
    pub(crate) fn shown(&self) -> String {
        sanitize(&self.path().display().to_string()).into_owned()
    }

    /// Opens it. Standard input is first copied to a nameless file in `spool`, which disappears by itself.
    pub(crate) fn open(&self, spool: &Path) -> io::Result<Arc<dyn ReadAt>> {
        Ok(match &self.source {
            Source::File(path) => Arc::new(FileSource::open(path)?),
            Source::Stdin => Arc::new(FileSource::from_file(spooled(spool)?)?),
            Source::Checkpoint(_) => return Err(io::ErrorKind::IsADirectory.into()),
            Source::Unlisted(_, why) => return Err(io::Error::other(why.clone())),
        })
    }
}

fn spooled(folder: &Path) -> io::Result<File> {
    let mut file = tempfile::tempfile_in(folder)?;
    io::copy(&mut io::stdin().lock(), &mut file)?;
    Ok(file)
}

/// Lists what is tried. A file that does not exist is listed too: that it cannot be opened stops none of the others.
///
/// # Errors
/// What cannot be an input at all, as a message.
pub(crate) fn find(named: &[PathBuf]) -> Result<Inputs, String> {
    find_with(named, |_| false, is_own)
}

/// As [`find`]; a folder that is one checkpoint is an input itself, whether it is named or found.
///
/// # Errors
/// As [`find`].
pub(crate) fn find_checkpoints(named: &[PathBuf]) -> Result<Inputs, String> {
    find_with(named, is_checkpoint_folder, is_own)
}

/// As [`find`], without passing over any regular file.
///
/// # Errors
/// As [`find`].
pub(crate) fn find_all(named: &[PathBuf]) -> Result<Inputs, String> {
    find_with(named, |_| false, |_| false)
}

fn find_with(
    named: &[PathBuf],
    is_one: impl Fn(&Path) -> bool,
    is_skipped: fn(&DirEntry) -> bool,
) -> Result<Inputs, String> {
    let mut inputs = Inputs::default();
    for path in named {
        if path.as_os_str() == "-" {
            if inputs.all.iter().any(|input| input.source == Source::Stdin) {
                return Err("-: standard input can be read only once".to_owned());
            }
            inputs.all.push(Input::named(Source::Stdin));
            continue;
        }
        match path.metadata() {
            Ok(there) if there.is_dir() && is_one(path) => {
                inputs.all.push(Input::named(Source::Checkpoint(path.clone())));
            }
            Ok(there) if there.is_dir() => walk(path, &is_one, is_skipped, &mut inputs),
            Ok(there) => {
                check_regular(path, &there)?;
                inputs.all.push(Input::named(Source::File(path.clone())));
            }
            Err(_) if cfg!(windows) && is_pattern(path) => expand(path, &mut inputs)?,
            Err(_) => inputs.all.push(Input::named(Source::File(path.clone()))),
        }
    }
    Ok(inputs)
}

fn check_regular(path: &Path, metadata: &Metadata) -> Result<(), String> {
    let shown = path.display().to_string();
    if metadata.is_file() {
        return Ok(());
    }
    Err(format!("{}: not a regular file; pipe it to the input -", sanitize(&shown)))
}

/// Every regular file below a folder, by name, and every folder that is one checkpoint instead of what is in it. Links are
/// not followed.
fn walk(
    folder: &Path,
    is_one: &dyn Fn(&Path) -> bool,
    is_skipped: fn(&DirEntry) -> bool,
    inputs: &mut Inputs,
) {
    let below = |path: &Path| {
        path.parent().and_then(|parent| parent.strip_prefix(folder).ok()).unwrap_or(Path::new("")).to_owned()
    };
    let walk = WalkDir::new(folder).sort_by_file_name().into_iter();
    let mut walk = walk.filter_entry(|entry| !(entry.file_type().is_dir() && is_skipped(entry)));
    while let Some(entry) = walk.next() {
        match entry {
            Ok(entry) if entry.file_type().is_dir() => {
                if entry.depth() > 0 && is_one(entry.path()) {
                    let below = Some(below(entry.path()));
                    inputs.all.push(Input { source: Source::Checkpoint(entry.into_path()), below });
                    walk.skip_current_dir();
                }
            }
            Ok(entry) if !entry.file_type().is_file() || is_skipped(&entry) => {
                inputs.skipped = inputs.skipped.saturating_add(1);
            }
            Ok(entry) => {
                let below = Some(below(entry.path()));
                inputs.all.push(Input { source: Source::File(entry.into_path()), below });
            }
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_owned();
                let why = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                inputs.all.push(Input { source: Source::Unlisted(path, why), below: Some(PathBuf::new()) });
            }
        }
    }
}

/// What depickle itself writes beside an output, or left behind when it was killed.
fn is_own(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    is_own_name(&name) || name.ends_with(".metadata.json")
}

fn is_pattern(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(['*', '?']))
}

/// The folder that a file lies in, by a name under which it can be opened.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The files that a pattern stands for in its folder, where the shell leaves that to programs.
fn expand(pattern: &Path, inputs: &mut Inputs) -> Result<(), String> {
    let shown = pattern.display().to_string();
    let name = pattern.file_name().unwrap_or_default().to_string_lossy();
    let glob =
        globset::Glob::new(&name).map_err(|error| format!("{}: {}", sanitize(&shown), error.kind()))?;
    let matcher = glob.compile_matcher();
    let folder = folder_of(pattern);
    let before = inputs.all.len();
    for entry in WalkDir::new(folder).max_depth(1).sort_by_file_name().into_iter().flatten() {
        if entry.file_type().is_file() && matcher.is_match(entry.file_name()) {
            inputs.all.push(Input::named(Source::File(entry.into_path())));
        }
    }
    if inputs.all.len() > before {
        return Ok(());
    }
    Err(format!("{}: matches no file", sanitize(&shown)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("b/c")).unwrap();
        for file in ["a.pt", "b/x.pt", "b/c/y.txt", "b/x.manifest.json", "manifest.json", ".a.1.partial"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        folder
    }

    #[test]
    fn a_folder_is_walked_in_order_without_what_depickle_wrote() {
        let folder = folder();
        let inputs = find(&[folder.path().to_owned()]).unwrap();
        let below: Vec<_> = inputs.all.iter().map(|input| input.below.clone().unwrap()).collect();
        assert_eq!(below, [Path::new(""), Path::new("b/c"), Path::new("b")]);
        assert_eq!(inputs.skipped, 3);
        assert!(inputs.all[2].path().ends_with("b/x.pt"));
    }

    #[cfg(unix)]
    #[test]
    fn links_in_a_folder_are_not_followed_and_a_named_link_is() {
        let folder = folder();
        std::os::unix::fs::symlink(folder.path().join("a.pt"), folder.path().join("link.pt")).unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("b/loop")).unwrap();
        let inputs = find(&[folder.path().to_owned(), folder.path().join("link.pt")]).unwrap();
        assert_eq!((inputs.all.len(), inputs.skipped), (4, 5));
    }

    #[cfg(unix)]
    #[test]
    fn devices_are_refused_and_standard_input_comes_once() {
        assert!(find(&["/dev/null".into()]).unwrap_err().contains("not a regular file"));
        assert!(find(&["-".into(), "-".into()]).is_err());
        assert_eq!(find(&["-".into(), "nowhere.pt".into()]).unwrap().all.len(), 2);
    }

    #[test]
    fn patterns_are_expanded_where_the_shell_does_not() {
        let folder = folder();
        let mut inputs = Inputs::default();
        expand(&folder.path().join("*.pt"), &mut inputs).unwrap();
        assert_eq!(inputs.all.len(), 1);
        assert!(expand(&folder.path().join("*.bin"), &mut inputs).is_err());
    }
}
