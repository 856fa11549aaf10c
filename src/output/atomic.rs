//! [`Staged`]: a file that appears under its name only once it is whole.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use super::{Error, ErrorKind};
use crate::bytes::folder_of;

/// A new file beside the place where it will stand. Dropped without [`Staged::commit`], it is removed.
#[derive(Debug)]
pub struct Staged {
    file: NamedTempFile,
    target: PathBuf,
}

impl Staged {
    /// Creates the temporary file in the target's folder, with the permissions of an ordinary new file. Where
    /// something exists at the target and `force` is not set, fails at once rather than after the work.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`], [`ErrorKind::NotAFile`], [`ErrorKind::Write`].
    pub fn create(target: &Path, force: bool) -> Result<Self, Error> {
        let fail = |kind| Error { path: target.to_owned(), kind };
        check(target, force).map_err(fail)?;
        let name = target.file_name().ok_or_else(|| fail(ErrorKind::NotAFile))?;
        let mut prefix = std::ffi::OsString::from(".");
        // A name may be as long as the file system allows; the temporary one must not be longer.
        prefix.push(name.to_str().filter(|name| name.len() <= 200).unwrap_or("depickle"));
        prefix.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".partial");
        #[cfg(unix)]
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        #[cfg(unix)]
        builder.permissions(permissions);
        let file = builder.tempfile_in(folder_of(target)).map_err(|error| fail(ErrorKind::Write(error)))?;
        Ok(Self { file, target: target.to_owned() })
    }

    /// Creates the file at a place of its own, where it stays if it is never committed: in a folder of what one
    /// conversion has finished so far. What an earlier run left there is replaced.
    ///
    /// # Errors
    /// [`ErrorKind::Write`].
    pub fn create_at(place: &Path, target: &Path) -> Result<Self, Error> {
        let fail = |error| Error { path: target.to_owned(), kind: ErrorKind::Write(error) };
        match std::fs::remove_file(place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let file = File::options().read(true).write(true).create_new(true).open(place).map_err(fail)?;
        let mut file = NamedTempFile::from_parts(file, TempPath::try_from_path(place).map_err(fail)?);
        file.disable_cleanup(true);
        Ok(Self { file, target: target.to_owned() })
    }

    /// Fails where something is in the way of a target.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`], [`ErrorKind::NotAFile`], [`ErrorKind::Write`].
    pub fn check(target: &Path, force: bool) -> Result<(), Error> {
        check(target, force).map_err(|kind| Error { path: target.to_owned(), kind })
    }

    /// Where it will stand.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The file to write to.
    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Syncs the file to the disk and gives it its name. With `force` it takes the place of what is there (a symbolic
    /// link itself, not what it points to); without, nothing is ever replaced, even if it came up meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`], [`ErrorKind::NotAFile`], [`ErrorKind::Write`]. The temporary file is removed.
    pub fn commit(self, force: bool) -> Result<(), Error> {
        let folder = folder_of(&self.target).to_owned();
        self.finish()?.commit(force)?;
        sync_folder(&folder);
        Ok(())
    }

    /// Syncs the file to the disk and closes it, so that a thousand of them can wait for their names.
    ///
    /// # Errors
    /// [`ErrorKind::Write`].
    pub fn finish(self) -> Result<Finished, Error> {
        let Self { file, target } = self;
        let (file, path) = file.into_parts();
        match file.sync_all() {
            Ok(()) => Ok(Finished { path, target }),
            Err(error) => Err(Error { path: target, kind: ErrorKind::Write(error) }),
        }
    }
}

/// A file that is whole and has not its name yet. Dropped, it is removed, but for one of [`Staged::create_at`].
#[derive(Debug)]
pub struct Finished {
    path: TempPath,
    target: PathBuf,
}

impl Finished {
    /// A file that an earlier run finished at a place of its own.
    ///
    /// # Errors
    /// [`ErrorKind::Write`] where the place is no path of a file.
    pub fn kept(place: &Path, target: &Path) -> Result<Self, Error> {
        let fail = |error| Error { path: target.to_owned(), kind: ErrorKind::Write(error) };
        let mut path = TempPath::try_from_path(place).map_err(fail)?;
        path.disable_cleanup(true);
        Ok(Self { path, target: target.to_owned() })
    }

    /// Where it will stand.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Fails where something is in the way of its name.
    ///
    /// # Errors
    /// As [`Staged::check`].
    pub fn check(&self, force: bool) -> Result<(), Error> {
        Staged::check(&self.target, force)
    }

    /// Gives it its name, see [`Staged::commit`], which is durable after [`sync_folder`].
    ///
    /// # Errors
    /// As [`Staged::commit`].
    pub fn commit(self, force: bool) -> Result<(), Error> {
        let Self { path, target } = self;
        let fail = |kind| Error { path: target.clone(), kind };
        check(&target, force).map_err(fail)?;
        let result = if force { path.persist(&target) } else { path.persist_noclobber(&target) };
        result.map_err(|failed| {
            fail(match failed.error.kind() {
                io::ErrorKind::AlreadyExists => ErrorKind::Exists,
                _ => ErrorKind::Write(failed.error),
            })
        })
    }
}

/// Makes the names in a folder as durable as the bytes. A file system that cannot sync a folder has no more to offer.
pub fn sync_folder(folder: &Path) {
    #[cfg(unix)]
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    #[cfg(not(unix))]
    let _ = folder;
}

fn check(target: &Path, force: bool) -> Result<(), ErrorKind> {
    match target.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ErrorKind::Write(error)),
        Ok(_) if !force => Err(ErrorKind::Exists),
        // Renaming over a device or a pipe would put a file in its place.
        Ok(there) if there.is_file() || there.is_symlink() => Ok(()),
        Ok(_) => Err(ErrorKind::NotAFile),
    }
}

/// Writes all of `bytes` at a position.
pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    imp::write_all_at(file, bytes, offset)
}

/// Reads exactly `bytes` at a position, of a file that was written here.
pub(super) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    imp::read_exact_at(file, bytes, offset)
}

#[cfg(unix)]
mod imp {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;

    pub(super) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(file, bytes, offset)
    }

    pub(super) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(file, bytes, offset)
    }
}

#[cfg(windows)]
mod imp {
    use std::fs::File;
    use std::io;
    use std::os::windows::fs::FileExt;

    use crate::bytes::length;

    pub(super) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match file.seek_write(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    bytes = bytes.get(n..).unwrap_or_default();
                    offset = offset.saturating_add(length(n));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match file.seek_read(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    bytes = bytes.get_mut(n..).unwrap_or_default();
                    offset = offset.saturating_add(length(n));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(not(any(unix, windows)))]
mod imp {
    use std::fs::File;
    use std::io;

    pub(super) fn write_all_at(_: &File, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn read_exact_at(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
