//! Digests of many files, several at a time.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::bytes::{FileSource, ReadAt, Span};
use crate::custody::digest::digest_of;

use super::error::Error;

/// SHA-256 of each file, by name.
pub(super) fn hash(files: &BTreeMap<String, PathBuf>) -> Result<BTreeMap<String, String>, Error> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(files.len());
    let queue = Mutex::new(files.iter());
    let next = || queue.lock().ok().and_then(|mut files| files.next());
    let work = || {
        let mut done = Vec::new();
        while let Some((name, path)) = next() {
            done.push((name.clone(), sha256(path).map_err(Error::io(path))?));
        }
        Ok(done)
    };
    let done: Result<Vec<_>, Error> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(died()))).collect()
    });
    Ok(done?.into_iter().flatten().collect())
}

fn died() -> Error {
    Error::Io { path: PathBuf::new(), error: io::Error::other("hashing failed") }
}

fn sha256(path: &Path) -> io::Result<String> {
    let file = FileSource::open(path)?;
    let digest = digest_of(&file, Span::between(0, file.size()))?;
    // A file that grows meanwhile would be signed in part.
    file.check_unchanged()?;
    Ok(digest)
}
