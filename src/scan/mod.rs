//! What would a file do if Python loaded it, and where did every byte of it go?
//!
//! Files are read in every way that some reader might, and nothing is run. [`RULES`] lists what can be found.

mod arguments;
mod beside;
mod blob;
mod found;
mod github;
mod held;
mod json;
mod loose;
mod pickle;
mod rules;
mod sarif;
mod search;
mod shape;
mod signature;
mod storages;
mod tar;
mod texts;
mod zip;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::accounting::{Accounted, Inside};
use crate::bytes::{FileSource, ReadAt, Span, folder_of, read_vec};
use crate::checkpoint::OpenOptions;
use crate::limits::Limits;
use crate::policy::Overrides;
use crate::report::{InspectedPickle, ScannedFile};

use self::blob::{Blob, Role};
use self::found::{Found, Spot};

pub use self::github::{annotations, markdown};
pub use self::held::{hold, in_force};
pub use self::rules::{RULES, Rule, rule};
pub use self::sarif::sarif;

type Source = Arc<dyn ReadAt>;

/// Archives inside each other.
const DEPTH: usize = 6;
/// Bytes of a storage that are looked at.
const HEAD: u64 = 4096;
/// Bytes of a file that belong to nothing and are searched.
const SEARCHED: u64 = 64 << 20;
/// Places in a file where a pickle may begin and that are tried.
const ATTEMPTS: u64 = 200_000;

/// How to scan.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Bounds on what a file may make the scanner spend.
    pub limits: Limits,
    /// Names that the user takes for inert data.
    pub overrides: Overrides,
    /// Computes the digest of the file.
    pub digest: bool,
    /// Reads every byte: all offsets of storages and of what belongs to nothing.
    pub deep: bool,
    /// The folder for temporary files that compressed sources are expanded into; the system's where `None`.
    pub spool: Option<PathBuf>,
}

/// The state of a scan of one file.
struct Scanner<'a> {
    options: &'a Options,
    open: OpenOptions,
    found: Found,
    pickles: Vec<InspectedPickle>,
    /// Top-level modules of the names that its pickles refer to.
    modules: BTreeSet<String>,
    depth: usize,
    /// Bytes that may still be searched.
    unsearched: u64,
    attempts: u64,
}

/// Scans a file.
///
/// # Errors
/// Those of reading it.
pub fn scan(path: &Path, options: &Options) -> io::Result<ScannedFile> {
    let source: Source = Arc::new(FileSource::open(path)?);
    scan_source(&source, &path.display().to_string(), Some(folder_of(path)), options)
}

/// Scans anything with positions. `name` is its path in the document; `folder` is where files beside it would be.
///
/// # Errors
/// Those of reading it.
pub fn scan_source(
    source: &Arc<dyn ReadAt>,
    name: &str,
    folder: Option<&Path>,
    options: &Options,
) -> io::Result<ScannedFile> {
    let open = OpenOptions {
        limits: options.limits.clone(),
        overrides: options.overrides.clone(),
        siblings: folder.map(Path::to_owned),
        spool: options.spool.clone(),
        ..OpenOptions::default()
    };
    let mut scanner = Scanner {
        options,
        open,
        found: Found::default(),
        pickles: Vec::new(),
        modules: BTreeSet::new(),
        depth: 0,
        unsearched: SEARCHED,
        attempts: ATTEMPTS,
    };
    let part = scanner.blob(&Blob { source, spot: Spot::default(), role: Role::File })?;
    if let Some(folder) = folder {
        scanner.siblings(folder);
    }
    let size = source.size();
    let accounting = match part.inside {
        Some((inside, accounting)) => {
            Accounted::Compressed { compressed: size, inside: Inside { size: inside, accounting } }
        }
        None => Accounted::Plain(part.accounting),
    };
    Ok(ScannedFile {
        path: name.replace('\\', "/"),
        size,
        sha256: options.digest.then(|| digest(&**source)).transpose()?,
        container: part.container.unwrap_or_else(|| "unknown".to_owned()),
        verdict: scanner.found.verdict(),
        coverage: scanner.found.coverage(),
        findings: scanner.found.into_sorted(),
        pickles: scanner.pickles,
        accounting,
    })
}

fn digest(source: &dyn ReadAt) -> io::Result<String> {
    const BLOCK: u64 = 1 << 20;
    let mut hasher = Sha256::new();
    let mut at = 0;
    while at < source.size() {
        let next = at.saturating_add(BLOCK).min(source.size());
        hasher.update(read_vec(source, Span::between(at, next))?);
        at = next;
    }
    Ok(crate::bytes::hex(&hasher.finalize()))
}
