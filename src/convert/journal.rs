//! What an interrupted conversion has finished: a folder in the output folder that holds finished files and a record of
//! them, one JSON document a line, each written after its file is on the disk.
//!
//! ```text
//! .depickle.partial/state.jsonl    the key of the conversion, then a line for each finished file of weights
//! .depickle.partial/0, 1, …        the files, by their position among the outputs
//! ```
//!
//! The key binds the version, the options, the sources by size and pickles, and the names of all outputs and tensors. A
//! finished file counts only if it and the sources that were hashed with it still have the recorded digests.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::output::{Error, ErrorKind, Written, WrittenTensor};

/// Name of the folder.
const FOLDER: &str = ".depickle.partial";

const STATE: &str = "state.jsonl";

/// A line of the record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Key {
        schema: String,
        key: String,
    },
    Done(Done),
    /// Everything is finished, and files are about to get their names.
    Naming {
        naming: bool,
    },
}

const SCHEMA: &str = "depickle-resume/1";

/// A file of weights that was finished.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Done {
    output: usize,
    pub(super) size: u64,
    pub(super) sha256: String,
    /// Digests of the source files that were hashed with it.
    pub(super) sources: Vec<String>,
    tensors: Vec<DoneTensor>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct DoneTensor {
    data_offsets: (u64, u64),
    dtype: Dtype,
    sha256: String,
    source_sha256: Option<String>,
    cast_exact: bool,
}

impl Done {
    fn new(output: usize, written: &Written) -> Self {
        let text = |digest: &crate::output::Digest| digest.to_string();
        Self {
            output,
            size: written.size,
            sha256: written.sha256.as_ref().map(text).unwrap_or_default(),
            sources: written.sources.iter().map(text).collect(),
            tensors: written
                .tensors
                .iter()
                .map(|tensor| DoneTensor {
                    data_offsets: tensor.data_offsets,
                    dtype: tensor.dtype,
                    sha256: tensor.sha256.as_ref().map(text).unwrap_or_default(),
                    source_sha256: tensor.source_sha256.as_ref().map(text),
                    cast_exact: tensor.cast_exact,
                })
                .collect(),
        }
    }

    /// What the run that finished it knew of it; `None` where the record is damaged.
    pub(super) fn written(&self) -> Option<Written> {
        let tensors = self.tensors.iter().map(|tensor| {
            Some(WrittenTensor {
                data_offsets: tensor.data_offsets,
                dtype: tensor.dtype,
                sha256: Some(tensor.sha256.parse().ok()?),
                source_sha256: tensor.source_sha256.as_ref().map(|text| text.parse()).transpose().ok()?,
                cast_exact: tensor.cast_exact,
            })
        });
        Some(Written {
            size: self.size,
            sha256: Some(self.sha256.parse().ok()?),
            sources: self.sources.iter().map(|text| text.parse().ok()).collect::<Option<_>>()?,
            tensors: tensors.collect::<Option<_>>()?,
        })
    }
}

/// The folder of finished files, held by this process alone.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    state: File,
    done: BTreeMap<usize, Done>,
    /// Whether an earlier run began to give files their names: what stands in the way then is its own.
    pub(super) is_naming: bool,
}

impl Journal {
    /// Makes the folder below `root`, or takes up the one that an interrupted run of the same key left there.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`], [`ErrorKind::Interrupted`] without `resume` and `force`, [`ErrorKind::Write`].
    pub(super) fn begin(root: &Path, key: &str, resume: bool, force: bool) -> Result<Self, Error> {
        let folder = root.join(FOLDER);
        let fail = |kind| Error { path: folder.clone(), kind };
        let io = |error| fail(ErrorKind::Write(error));
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(io)?,
        }
        // A link would lead the cleaning astray.
        if !folder.symlink_metadata().map_err(io)?.is_dir() {
            return Err(fail(ErrorKind::NotAFile));
        }
        let state = folder.join(STATE);
        let state = File::options().read(true).append(true).create(true).open(state).map_err(io)?;
        match state.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(fail(ErrorKind::Busy)),
            // A file system without locks has no more to offer.
            Err(TryLockError::Error(_)) => {}
        }
        let known = read(&state).map_err(io)?;
        if known.key.is_some() && !resume && !force {
            return Err(fail(ErrorKind::Interrupted));
        }
        let Known { key: of, done, is_naming, whole } = known;
        let mut journal = Self { folder: folder.clone(), state, done, is_naming };
        if of.as_deref() != Some(key) || !resume {
            journal.reset(key).map_err(io)?;
        } else {
            journal.state.set_len(whole).map_err(io)?;
        }
        Ok(journal)
    }

    /// Whether an interrupted run left a record below `root`. The folder alone is what a run leaves that was interrupted
    /// while it removed it, with everything done.
    pub(super) fn is_left(root: &Path) -> bool {
        let state = File::open(root.join(FOLDER).join(STATE));
        let left = state.and_then(|state| read(&state)).is_ok_and(|known| known.key.is_some());
        if !left {
            let _ = std::fs::remove_dir(root.join(FOLDER));
        }
        left
    }

    /// Forgets what is there and begins anew.
    fn reset(&mut self, key: &str) -> io::Result<()> {
        self.done.clear();
        self.is_naming = false;
        self.state.set_len(0)?;
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name != STATE) {
                std::fs::remove_file(path)?;
            }
        }
        self.append(&Line::Key { schema: SCHEMA.to_owned(), key: key.to_owned() })
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.state.write_all(&text)?;
        self.state.sync_data()
    }

    /// Where an output waits for its name.
    pub(super) fn place(&self, output: usize) -> PathBuf {
        self.folder.join(output.to_string())
    }

    /// What an earlier run finished at a position.
    pub(super) fn done(&self, output: usize) -> Option<&Done> {
        self.done.get(&output)
    }

    /// Records that an output is finished: it is on the disk.
    pub(super) fn record(&mut self, output: usize, written: &Written) -> Result<(), Error> {
        let done = Done::new(output, written);
        let appended = self.append(&Line::Done(done.clone()));
        appended.map_err(|error| Error { path: self.folder.clone(), kind: ErrorKind::Write(error) })?;
        self.done.insert(output, done);
        Ok(())
    }

    /// Records that every file is finished and about to get its name.
    pub(super) fn naming(&mut self) -> Result<(), Error> {
        let appended = self.append(&Line::Naming { naming: true });
        appended.map_err(|error| Error { path: self.folder.clone(), kind: ErrorKind::Write(error) })
    }

    /// Removes it: everything has its name, or nothing is worth keeping.
    pub(super) fn remove(self) {
        let Self { folder, state, .. } = self;
        // Windows removes no file that is open.
        drop(state);
        let _ = std::fs::remove_dir_all(folder);
    }

    /// After a failure, keeps what is finished if another try may go on with it.
    pub(super) fn abandon(self, retry: bool) {
        if !retry || self.done.is_empty() {
            self.remove();
        }
    }
}

/// What a record says.
#[derive(Debug, Default)]
struct Known {
    key: Option<String>,
    done: BTreeMap<usize, Done>,
    is_naming: bool,
    /// Bytes of it that are whole.
    whole: u64,
}

/// Reads a record. A line that was cut off is as good as none, and so is all that follows it.
fn read(mut state: &File) -> io::Result<Known> {
    let mut known = Known::default();
    let mut text = Vec::new();
    state.read_to_end(&mut text)?;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match serde_json::from_slice(line) {
            _ if !line.ends_with(b"\n") => break,
            Ok(Line::Key { schema, key }) if schema == SCHEMA && known.key.is_none() => known.key = Some(key),
            Ok(Line::Done(done)) if known.key.is_some() => _ = known.done.insert(done.output, done),
            Ok(Line::Naming { naming }) if known.key.is_some() => known.is_naming = naming,
            _ => break,
        }
        known.whole = known.whole.saturating_add(crate::bytes::length(line.len()));
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Written {
        let digest = crate::output::Digest([7; 32]);
        let tensor = WrittenTensor {
            data_offsets: (0, 4),
            dtype: Dtype::F32,
            sha256: Some(digest),
            source_sha256: None,
            cast_exact: true,
        };
        Written { size: 9, sha256: Some(digest), sources: vec![digest], tensors: vec![tensor] }
    }

    fn begin(root: &Path, key: &str, resume: bool, force: bool) -> Result<Journal, ErrorKind> {
        Journal::begin(root, key, resume, force).map_err(|error| error.kind)
    }

    #[test]
    fn what_was_finished_is_taken_up_by_the_same_conversion_only() {
        let root = tempfile::tempdir().unwrap();
        let mut first = begin(root.path(), "a", false, false).unwrap();
        first.record(1, &written()).unwrap();
        assert!(matches!(begin(root.path(), "a", true, false), Err(ErrorKind::Busy)));
        drop(first);
        assert!(matches!(begin(root.path(), "a", false, false), Err(ErrorKind::Interrupted)));
        let again = begin(root.path(), "a", true, false).unwrap();
        assert_eq!(again.done(1).unwrap().written().unwrap().tensors, written().tensors);
        assert!(again.done(0).is_none());
        drop(again);
        std::fs::write(root.path().join(FOLDER).join("1"), "x").unwrap();
        let other = begin(root.path(), "b", true, false).unwrap();
        assert!(other.done(1).is_none() && !other.place(1).exists());
        other.abandon(true);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_without_a_record_is_what_is_left_of_one_that_was_removed() {
        let root = tempfile::tempdir().unwrap();
        assert!(!Journal::is_left(root.path()));
        let journal = begin(root.path(), "a", false, false).unwrap();
        assert!(Journal::is_left(root.path()));
        drop(journal);
        std::fs::remove_file(root.path().join(FOLDER).join(STATE)).unwrap();
        assert!(!Journal::is_left(root.path()));
        assert!(!root.path().join(FOLDER).exists());
    }

    #[test]
    fn a_line_that_was_cut_off_is_as_good_as_none() {
        let root = tempfile::tempdir().unwrap();
        let mut first = begin(root.path(), "a", false, false).unwrap();
        first.record(0, &written()).unwrap();
        first.record(1, &written()).unwrap();
        let state = root.path().join(FOLDER).join(STATE);
        drop(first);
        let text = std::fs::read(&state).unwrap();
        std::fs::write(&state, &text[..text.len() - 9]).unwrap();
        let again = begin(root.path(), "a", true, false).unwrap();
        assert!(again.done(0).is_some() && again.done(1).is_none());
        drop(again);
        std::fs::write(&state, &text[..9]).unwrap();
        assert!(begin(root.path(), "a", false, false).unwrap().done(0).is_none());
    }
}
