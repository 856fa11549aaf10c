//! [`Stage`]: all outputs of a conversion appear together, the manifest last, or none does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::bytes::{folder_of, or_current};
use crate::output::{Error, ErrorKind, Finished, Folders, Staged, Written, digest_of, sync_folder};

use super::journal::Journal;
use super::model::Naming;

/// Outputs that are finished and wait for their names.
pub(super) struct Stage {
    root: PathBuf,
    force: bool,
    /// Of a conversion of several files: what can be taken up again.
    journal: Option<Journal>,
    waiting: Vec<Finished>,
    /// Last, so that they are empty by then where nothing came of it.
    made: Vec<Folders>,
}

impl Stage {
    /// A stage for a single output: temporary files beside it, which vanish with the process's failure.
    pub(super) fn beside(root: &Path, force: bool) -> Self {
        Self { root: root.to_owned(), force, journal: None, waiting: Vec::new(), made: Vec::new() }
    }

    /// A stage for several, in a folder of its own.
    pub(super) fn folder(root: &Path, force: bool, journal: Journal) -> Self {
        Self { root: root.to_owned(), force, journal: Some(journal), waiting: Vec::new(), made: Vec::new() }
    }

    /// Whether outputs may be replaced: by the user's will, or because a run that is taken up again was interrupted while
    /// files got their names, and what stands there is its own.
    pub(super) fn replaces(&self) -> bool {
        self.force || self.journal.as_ref().is_some_and(|journal| journal.is_naming)
    }

    /// A new file that will stand at `target`, the output of this number.
    pub(super) fn create(&mut self, number: usize, target: &Path) -> Result<Staged, Error> {
        let folder = or_current(folder_of(target));
        let made = Folders::create(folder);
        self.made
            .push(made.map_err(|error| Error { path: folder.to_owned(), kind: ErrorKind::Write(error) })?);
        // A manifest may stand elsewhere, even on another disk, where nothing can be renamed to.
        match self.journal.as_ref().filter(|_| target.starts_with(&self.root)) {
            None => Staged::create(target, self.force),
            Some(journal) => Staged::create_at(&journal.place(number), target),
        }
    }

    /// A file that is whole.
    pub(super) fn keep(&mut self, staged: Staged) -> Result<(), Error> {
        self.waiting.push(staged.finish()?);
        Ok(())
    }

    /// A file of weights that is whole, so that another run need not make it again.
    pub(super) fn keep_weights(
        &mut self,
        number: usize,
        staged: Staged,
        written: &Written,
    ) -> Result<(), Error> {
        self.keep(staged)?;
        self.journal.as_mut().map_or(Ok(()), |journal| journal.record(number, written))
    }

    /// What an earlier run wrote, if it is still there and `sources` still are what it was written from.
    pub(super) fn taken_over(
        &mut self,
        number: usize,
        target: &Path,
        sources: &[&dyn crate::bytes::ReadAt],
    ) -> Option<Written> {
        let journal = self.journal.as_ref()?;
        let written = journal.done(number)?.written()?;
        let place = journal.place(number);
        let is_same = |path: &Path| {
            let there = crate::bytes::FileSource::open(path).ok();
            there.is_some_and(|file| digest_of(&file).ok() == written.sha256)
        };
        let waits = is_same(&place);
        // Where the run was interrupted while files got their names, it has its own.
        if !waits && (place.exists() || !is_same(target)) {
            return None;
        }
        let mut digests = sources.iter().map(|source| digest_of(*source).ok());
        let unchanged = written.sources.len() == sources.len()
            && written.sources.iter().all(|known| digests.next().flatten() == Some(*known));
        if !unchanged {
            return None;
        }
        if waits {
            self.waiting.push(Finished::kept(&place, target).ok()?);
        }
        Some(written)
    }

    /// Gives every file its name, removes what `outdated` names and renames the manifest last.
    pub(super) fn commit(
        self,
        manifest: Option<(PathBuf, Staged)>,
        outdated: &[PathBuf],
    ) -> Result<(), Error> {
        let replace = self.replaces();
        let Self { root, mut journal, waiting, .. } = self;
        // The others were synced when they were whole. From here on there are only names to give.
        let manifest = manifest.map(|(path, staged)| Ok((path, staged.finish()?))).transpose()?;
        if let Some(journal) = &mut journal {
            // From here on, what stands in the way is taken for this conversion's own.
            waiting.iter().try_for_each(|finished| finished.check(replace))?;
            journal.naming()?;
        }
        if let Some((path, _)) = manifest.as_ref().filter(|_| replace && journal.is_some()) {
            // The old one speaks of files that are about to be replaced.
            remove(path)?;
        }
        let mut folders = BTreeSet::from([or_current(&root).to_owned()]);
        for finished in waiting {
            folders.insert(folder_of(finished.target()).to_owned());
            finished.commit(replace)?;
        }
        for path in outdated {
            remove(path)?;
        }
        // The manifest says that the others are there: their names have to be as durable before it has its own.
        for folder in &folders {
            sync_folder(folder);
        }
        if let Some((path, manifest)) = manifest {
            manifest.commit(replace)?;
            sync_folder(folder_of(&path));
        }
        if let Some(journal) = journal {
            journal.remove();
        }
        Ok(())
    }

    /// After a failure: whether to keep what is finished for another try.
    pub(super) fn abandon(self, retry: bool) {
        let Self { journal, waiting, .. } = self;
        drop(waiting);
        if let Some(journal) = journal {
            journal.abandon(retry);
        }
    }

    /// Files that loaders would take for parts of a model together with its new ones.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] where they are not to be removed.
    pub(super) fn outdated(&self, naming: &Naming, outputs: &[String]) -> Result<Vec<PathBuf>, Error> {
        let folder = self.root.join(&naming.folder);
        let names = std::fs::read_dir(or_current(&folder)).into_iter().flatten().flatten();
        let mut outdated = Vec::new();
        for entry in names {
            let name = entry.file_name();
            let Some(path) = name.to_str().map(|name| format!("{}{name}", naming.folder)) else { continue };
            if naming.covers(&path) && !outputs.contains(&path) {
                outdated.push(entry.path());
            }
        }
        outdated.sort();
        match outdated.first().filter(|_| !self.force) {
            Some(path) => Err(Error { path: path.clone(), kind: ErrorKind::Stale }),
            None => Ok(outdated),
        }
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error { path: path.to_owned(), kind: ErrorKind::Write(error) })
        }
        _ => Ok(()),
    }
}
