//! Files as sources: positional reads for conversions, a mapping for lazy views.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use super::ReadAt;

/// A file, read by position. Its size and time of change are taken when it is opened, and compared at the end.
///
/// A checkpoint may have more files than a process may have open (256 where nothing else is set up on macOS): of those that
/// were opened by name, the ones that were read last stay open. Another is opened again when it is read, and has to be
/// the file that it was.
#[derive(Debug)]
pub struct FileSource {
    path: Option<PathBuf>,
    held: Arc<Held>,
    stamp: Stamp,
}

/// A descriptor, as long as it is open.
type Held = Mutex<Option<Arc<File>>>;

/// Files that stay open.
const MOST: usize = 64;

/// Those that were opened by name and may be open, the one that was opened first in front.
static OPEN: Mutex<VecDeque<Weak<Held>>> = Mutex::new(VecDeque::new());

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
        // The name has to lead to the same file when it is opened again, also if a link in it was changed.
        let path = path.canonicalize().or_else(|_| std::path::absolute(path))?;
        let source = Self { path: Some(path.clone()), ..Self::from_file(File::open(path)?)? };
        keep(&source.held);
        Ok(source)
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
        let stamp = Stamp::of(&metadata);
        Ok(Self { path: None, held: Arc::new(Mutex::new(Some(Arc::new(file)))), stamp })
    }

    /// The open file, which is opened again if it was closed.
    fn file(&self) -> io::Result<Arc<File>> {
        let mut held = lock(&self.held);
        if let Some(file) = &*held {
            return Ok(file.clone());
        }
        let path = self.path.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let file = File::open(path)?;
        if Stamp::of(&file.metadata()?) != self.stamp {
            return Err(changed());
        }
        let file = held.insert(Arc::new(file)).clone();
        drop(held);
        keep(&self.held);
        Ok(file)
    }
}

/// Counts a file among the open ones, and closes the first of too many. One that is being read is closed when it was.
fn keep(held: &Arc<Held>) {
    let mut open = lock(&OPEN);
    open.retain(|other| other.strong_count() > 0);
    open.push_back(Arc::downgrade(held));
    let surplus = open.len().saturating_sub(MOST);
    let closed: Vec<_> = open.drain(..surplus).filter_map(|other| other.upgrade()).collect();
    // Never both locks at once: a file may be on its way in here while it is closed.
    drop(open);
    for other in closed.iter().filter(|other| !Arc::ptr_eq(other, held)) {
        lock(other).take();
    }
}

/// What a panic of another thread leaves behind is whole: nothing here panics between two changes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which file it is, and in which state.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    /// Device, number of the file there, and when it or what is known of it was changed.
    identity: Option<(u64, u64, i64, i64)>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt;
            Some((metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
        };
        #[cfg(not(unix))]
        let identity = None;
        Self { size: metadata.len(), modified: metadata.modified().ok(), identity }
    }
}

/// Of a source that is not what it was a moment ago.
pub(crate) fn changed() -> io::Error {
    io::Error::other("the source changed while it was read; convert a copy that nothing writes to")
}

impl ReadAt for FileSource {
    fn size(&self) -> u64 {
        self.stamp.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        read_exact_at(&*self.file()?, buf, offset)
    }

    fn check_unchanged(&self) -> io::Result<()> {
        let now = Stamp::of(&self.file()?.metadata()?);
        // Of an open descriptor it is known which file it is. Links to it may come and go meanwhile.
        if (now.size, now.modified) == (self.stamp.size, self.stamp.modified) {
            Ok(())
        } else {
            Err(changed())
        }
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
        let source = FileSource::open(path)?.file()?;
        #[expect(unsafe_code, reason = "the one mapping call; its contract is in the type's documentation")]
        // SAFETY: the mapping is private to this value and read-only. Another process that writes to the file could
        // change bytes under a borrowed slice; the bytes are plain data (u8), for which every value is valid, and
        // they are never used to compute an address or a length after they were checked.
        let map = unsafe { memmap2::Mmap::map(&*source)? };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_files_than_stay_open_are_read_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = |i: usize| folder.path().join(i.to_string());
        let sources: Vec<FileSource> = (0..3 * MOST)
            .map(|i| {
                std::fs::write(path(i), [u8::try_from(i).unwrap()]).unwrap();
                FileSource::open(&path(i)).unwrap()
            })
            .collect();
        let open = || sources.iter().filter(|source| lock(&source.held).is_some()).count();
        assert!(open() <= MOST, "{}", open());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for (i, source) in sources.iter().enumerate() {
                        let mut byte = [0];
                        source.read_exact_at(&mut byte, 0).unwrap();
                        assert_eq!(usize::from(byte[0]), i);
                        source.check_unchanged().unwrap();
                    }
                });
            }
        });
        assert!(open() <= MOST + 4, "{}", open());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_another_when_it_is_opened_again_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        std::fs::write(&path, "first").unwrap();
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        let source = FileSource::open(&path).unwrap();
        lock(&source.held).take();
        let mut buf = [0; 5];
        source.read_exact_at(&mut buf, 0).unwrap();
        lock(&source.held).take();
        // Of the same size and time, in the place of the first.
        let other = folder.path().join("other");
        std::fs::write(&other, "other").unwrap();
        File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(source.read_exact_at(&mut buf, 0).is_err() && source.check_unchanged().is_err());
        assert_eq!(&buf, b"first");
    }
}
