//! [`Digest`], and the digest of a tensor without writing it.

use std::{fmt, io};

use sha2::{Digest as _, Sha256};

use crate::bytes::{ReadAt, Span, read_vec};
use crate::progress::Progress;
use crate::tensor::{Cast, ReadError, Reader, Scratch, Storage, Streams, View};

use super::{Error, ErrorKind, Item, MOST_JOBS, in_parallel};

/// A SHA-256 digest; shown as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::bytes::hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Digest {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(());
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(pair).map_err(|_| ())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}

impl From<Sha256> for Digest {
    fn from(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }
}

/// The digest of a whole source.
///
/// # Errors
/// Those of reading it.
pub fn digest_of(source: &dyn ReadAt) -> io::Result<Digest> {
    /// Bytes read at a time.
    const BLOCK: u64 = 1 << 20;
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < source.size() {
        let span = Span::between(at, at.saturating_add(BLOCK).min(source.size()));
        hash.update(read_vec(source, span)?);
        at = span.end();
    }
    Ok(hash.into())
}

/// The digests that writing these tensors would give, on several threads. Progress advances by the bytes of each.
///
/// # Errors
/// [`ErrorKind::Tensor`](super::ErrorKind::Tensor), and [`ErrorKind::NoStorage`](super::ErrorKind::NoStorage).
pub fn digest_all(
    streams: &Streams,
    storages: &[Storage],
    items: &[Item<'_>],
    jobs: usize,
    progress: &dyn Progress,
) -> Result<Vec<Digested>, Error> {
    /// Memory for gathering, of all threads together.
    const SCRATCH: usize = 24 << 20;
    let jobs = jobs.clamp(1, MOST_JOBS);
    let begin = || Digester::new(SCRATCH.checked_div(jobs).unwrap_or(SCRATCH));
    in_parallel(jobs, items.len(), begin, |thread, at| {
        let Some(item) = items.get(at) else { return Err(ErrorKind::TooLarge) };
        let storage = storages.get(item.view.storage().index());
        let storage = storage.ok_or_else(|| ErrorKind::NoStorage(item.name.into()))?;
        let digested = thread.digest(streams, storage, item.view, item.cast);
        let digested = digested.map_err(|error| ErrorKind::Tensor { name: item.name.into(), error })?;
        progress.advance(item.nbytes());
        Ok(digested)
    })
    .map_err(|kind| Error { path: "source".into(), kind })
}

/// The digests of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digested {
    /// Of its bytes as they are written.
    pub sha256: Digest,
    /// Of its bytes before they are cast, where they are.
    pub source_sha256: Option<Digest>,
    /// Whether every element keeps its value; true where nothing is cast.
    pub cast_exact: bool,
}

/// Computes digests of one tensor after the other, in fixed memory. One for each thread.
#[derive(Debug)]
pub struct Digester {
    scratch: Scratch,
    block: Vec<u8>,
    cast: Vec<u8>,
}

const BLOCK: usize = 1 << 20;

impl Digester {
    /// Gathers in about `scratch` bytes of memory.
    pub fn new(scratch: usize) -> Self {
        Self { scratch: Scratch::new(scratch), block: vec![0; BLOCK], cast: Vec::new() }
    }

    /// The digests that writing this view would give.
    ///
    /// # Errors
    /// Those of reading and casting.
    pub fn digest(
        &mut self,
        streams: &Streams,
        storage: &Storage,
        view: &View,
        cast: Option<Cast>,
    ) -> Result<Digested, ReadError> {
        let mut reader = Reader::new(streams, storage, view)?;
        let cast = cast.filter(|cast| cast.applies_to(view.dtype()));
        let (mut source, mut written, mut exact) = (Sha256::new(), Sha256::new(), true);
        loop {
            let n = reader.read(&mut self.scratch, &mut self.block)?;
            let block = self.block.get(..n).unwrap_or_default();
            if block.is_empty() {
                break;
            }
            source.update(block);
            if let Some(cast) = cast {
                self.cast.clear();
                exact &= cast.convert(view.dtype(), block, &mut self.cast)?;
                written.update(&self.cast);
            }
        }
        Ok(match cast {
            None => Digested { sha256: source.into(), source_sha256: None, cast_exact: true },
            Some(_) => {
                Digested { sha256: written.into(), source_sha256: Some(source.into()), cast_exact: exact }
            }
        })
    }
}
