//! [`spool`]: inflates deflated storages into one temporary file, since strided tensors need random access.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::{Decompress, FlushDecompress, Status};

use crate::bytes::{FileSource, ReadAt, Span, index, length};
use crate::progress::Progress;
use crate::tensor::{Place, Storage, StorageId, StreamId, Streams};

use super::atomic::write_at;
use super::chains::{entry, mismatch};
use super::{Error, ErrorKind, MOST_JOBS};

const INPUT: u64 = 128 << 10;
const OUTPUT: usize = 512 << 10;

/// A storage to inflate: from where in which source, and to where in the spool.
#[derive(Debug, Clone, Copy)]
struct Job {
    id: StorageId,
    source: StreamId,
    from: Span,
    to: u64,
}

/// Inflates those of the `needed` storages that are deflated, each once and never beyond its stated size, into a file
/// in `folder` that has no name and vanishes with `streams`. Afterwards they lie in a stream of their own, their
/// CRC-32 checked. Does nothing where none is deflated.
///
/// # Errors
/// [`ErrorKind::Inflate`], [`ErrorKind::InflatedSize`], [`ErrorKind::Crc`]; those of reading and writing.
pub fn spool(
    streams: &mut Streams,
    storages: &mut [Storage],
    needed: impl IntoIterator<Item = StorageId>,
    folder: &Path,
    jobs: usize,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let fail = |kind| Error { path: folder.to_owned(), kind };
    let (list, size) = list(storages, needed).map_err(fail)?;
    if list.is_empty() {
        return Ok(());
    }
    let file = tempfile::tempfile_in(folder).map_err(|error| fail(ErrorKind::Write(error)))?;
    file.set_len(size).map_err(|error| fail(ErrorKind::Write(error)))?;
    inflate_all(streams, storages, &list, &file, jobs, progress).map_err(fail)?;
    let spool = FileSource::from_file(file).map_err(|error| fail(ErrorKind::Write(error)))?;
    let spool: Arc<dyn ReadAt> = Arc::new(spool);
    // One file, but a stream for each source: a storage still says which source it is from.
    let mut spooled: BTreeMap<StreamId, StreamId> = BTreeMap::new();
    for job in list {
        let stream = spooled.entry(job.source);
        let stream = *stream.or_insert_with(|| streams.push_beside(spool.clone(), job.source));
        place(storages, job, stream);
    }
    Ok(())
}

fn list(
    storages: &[Storage],
    needed: impl IntoIterator<Item = StorageId>,
) -> Result<(Vec<Job>, u64), ErrorKind> {
    let mut list = Vec::new();
    let mut seen = vec![false; storages.len()];
    let mut size = 0_u64;
    for id in needed {
        let (Some(storage), Some(seen)) = (storages.get(id.index()), seen.get_mut(id.index())) else {
            continue;
        };
        let Place::Deflated { stream: source, span: from } = storage.place else { continue };
        if !std::mem::replace(seen, true) {
            list.push(Job { id, source, from, to: size });
            size = size.checked_add(storage.len).ok_or(ErrorKind::TooLarge)?;
        }
    }
    Ok((list, size))
}

fn place(storages: &mut [Storage], job: Job, stream: StreamId) {
    if let Some(storage) = storages.get_mut(job.id.index()) {
        let span = Span::between(job.to, job.to.saturating_add(storage.len));
        storage.place = Place::Stored { stream, span };
        storage.crc32 = None;
    }
}

fn inflate_all(
    streams: &Streams,
    storages: &[Storage],
    list: &[Job],
    file: &File,
    jobs: usize,
    progress: &dyn Progress,
) -> Result<(), ErrorKind> {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let work = || {
        let mut buffers = (vec![0; index(INPUT)], vec![0; OUTPUT]);
        while let Some(job) = list.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(storage) = storages.get(job.id.index()) else { continue };
            let source = streams.stream(job.source);
            if let Err(kind) = inflate(source, storage, *job, file, &mut buffers, progress) {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(kind);
                next.store(list.len(), Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.clamp(1, MOST_JOBS).min(list.len()) {
            scope.spawn(work);
        }
        work();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn inflate(
    source: &dyn ReadAt,
    storage: &Storage,
    job: Job,
    file: &File,
    (input, output): &mut (Vec<u8>, Vec<u8>),
    progress: &dyn Progress,
) -> Result<(), ErrorKind> {
    let damaged = |reason: &str| ErrorKind::Inflate { entry: entry(storage), reason: reason.into() };
    let wrong = |got| ErrorKind::InflatedSize { entry: entry(storage), got, expected: storage.len };
    let mut stream = Decompress::new(false);
    let mut crc = crc32fast::Hasher::new();
    let (mut at, mut written) = (job.from.start(), 0_u64);
    loop {
        let part = input.get_mut(..index(job.from.end().saturating_sub(at).min(INPUT))).unwrap_or_default();
        source.read_exact_at(part, at).map_err(ErrorKind::Source)?;
        let (taken, made) = (stream.total_in(), stream.total_out());
        let status = stream.decompress(part, output, FlushDecompress::None);
        let status = status.map_err(|error| damaged(error.message().unwrap_or("invalid stream")))?;
        let (taken, made) =
            (stream.total_in().saturating_sub(taken), stream.total_out().saturating_sub(made));
        at = at.saturating_add(taken);
        let made = output.get(..index(made)).unwrap_or_default();
        if length(made.len()) > storage.len.saturating_sub(written) {
            return Err(wrong(written.saturating_add(length(made.len()))));
        }
        crc.update(made);
        write_at(file, made, job.to.saturating_add(written)).map_err(ErrorKind::Write)?;
        written = written.saturating_add(length(made.len()));
        progress.advance(length(made.len()));
        if status == Status::StreamEnd {
            break;
        }
        if taken == 0 && made.is_empty() {
            return Err(damaged("ends in the middle"));
        }
    }
    if written != storage.len {
        return Err(wrong(written));
    }
    if at != job.from.end() {
        return Err(damaged("has bytes after its end"));
    }
    let computed = crc.finalize();
    if storage.crc32.is_some_and(|stated| stated != computed) {
        return Err(mismatch(storage, computed));
    }
    Ok(())
}
