//! Copying what a converted model needs beside its weights: configs, vocabularies, text. Never a pickle.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::bytes::{FileSource, ReadAt, Span, read_vec};
use crate::checkpoint::{self, OpenOptions};
use crate::output::{Digest, Staged};

/// A file that is copied.
#[derive(Debug)]
pub(super) struct Other {
    /// Its path from the input folder, and from the output folder.
    pub(super) path: String,
    /// Where it is.
    pub(super) source: PathBuf,
}

/// Why a file is not copied; `None` where it is. What is called a config may be a pickle all the same.
pub(super) fn refusal(path: &Path, options: &OpenOptions) -> io::Result<Option<&'static str>> {
    let source: Arc<dyn ReadAt> = Arc::new(FileSource::open(path)?);
    let is_weights = path.extension().is_some_and(|suffix| suffix == "safetensors");
    Ok(match checkpoint::open(&source, options) {
        Err(checkpoint::Error::NotApplicable) if !is_weights => None,
        Err(checkpoint::Error::Unsupported(_)) if is_weights => None,
        Err(checkpoint::Error::Io(error)) => return Err(error),
        _ => Some("holds something else than its name says, perhaps a pickle"),
    })
}

/// Copies a file; its size and digest.
pub(super) fn copy(from: &Path, to: &Staged) -> io::Result<(u64, Digest)> {
    /// Bytes moved at a time.
    const BLOCK: u64 = 1 << 20;
    let source = FileSource::open(from)?;
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < source.size() {
        let span = Span::between(at, at.saturating_add(BLOCK).min(source.size()));
        let block = read_vec(&source, span)?;
        hash.update(&block);
        io::Write::write_all(&mut to.file(), &block)?;
        at = span.end();
    }
    source.check_unchanged()?;
    Ok((source.size(), hash.into()))
}
