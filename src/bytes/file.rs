//! Files as sources: positional reads for conversions, a mapping for lazy views.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::ReadAt;

/// An open file, read by position. Its size and time of change are taken when it is opened, and compared at the end.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    size: u64,
    modified: Option<SystemTime>,
}

impl FileSource {
    /// Opens a regular file for reading. A symbolic link is followed once, by the operating system.
    ///
    /// # Errors
    /// Those of opening it; [`io::ErrorKind::InvalidInput`] for anything but a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Asked before the file is opened: opening a FIFO would wait for its writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Self::from_file(File::open(path)?)
    }

    /// Reads from a file that is already open.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for anything but a regular file.
    pub fn from_file(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Self { size: metadata.len(), modified: metadata.modified().ok(), file })
    }
}

impl ReadAt for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        read_exact_at(&self.file, buf, offset)
    }

    fn check_unchanged(&self) -> io::Result<()> {
        let now = self.file.metadata()?;
        if now.len() != self.size || now.modified().ok() != self.modified {
            let message = "the source changed while it was read; convert a copy that nothing writes to";
            return Err(io::Error::other(message));
        }
        Ok(())
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buf, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buf, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                buf = buf.get_mut(n..).unwrap_or_default();
                offset = offset.saturating_add(super::length(n));
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(not(any(unix, windows)))]
fn read_exact_at(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A file mapped into memory, for views that borrow their bytes.
///
/// A file that another process truncates while it is mapped ends this process with a signal: the operating system
/// offers no other answer. Conversions therefore never map; see [`FileSource`].
#[cfg(feature = "mmap")]
#[derive(Debug)]
pub struct Mapping(memmap2::Mmap);

#[cfg(feature = "mmap")]
impl Mapping {
    /// Maps a regular file for reading.
    ///
    /// # Errors
    /// Those of opening and mapping it; [`io::ErrorKind::InvalidInput`] for anything but a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let source = FileSource::open(path)?;
        #[expect(unsafe_code, reason = "the one mapping call; its contract is in the type's documentation")]
        // SAFETY: the mapping is private to this value and read-only. Another process that writes to the file could
        // change bytes under a borrowed slice; the bytes are plain data (u8), for which every value is valid, and
        // they are never used to compute an address or a length after they were checked.
        let map = unsafe { memmap2::Mmap::map(&source.file)? };
        Ok(Self(map))
    }
}

#[cfg(feature = "mmap")]
impl ReadAt for Mapping {
    fn size(&self) -> u64 {
        ReadAt::size(&*self.0)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        ReadAt::read_exact_at(&*self.0, buf, offset)
    }

    fn borrow(&self, span: super::Span) -> Option<&[u8]> {
        ReadAt::borrow(&*self.0, span)
    }
}
