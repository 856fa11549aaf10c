//! The documents beside a manifest, staged like everything else that is written.

use std::io::Write as _;
use std::path::Path;

use crate::custody::documents::{Document, Subject, documents};
use crate::error::{Error, ErrorKind};
use crate::output::{self, Staged};

use super::record::Recorded;
use super::{Job, folder_of};

/// What documents are made from.
pub(super) struct Making<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) name: &'a Path,
    /// Where the manifest will stand.
    pub(super) manifest: &'a Path,
}

impl Making<'_> {
    /// Makes and stages those that are wanted.
    pub(super) fn stage(&self, recorded: &Recorded) -> Result<Vec<Staged>, Error> {
        let Some(wanted) = &self.job.options.documents else { return Ok(Vec::new()) };
        let folder = folder_of(self.manifest);
        let absolute = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        // Documents name the folder; the root of a file system has no name.
        let own = absolute.file_name().and_then(|name| name.to_str()).unwrap_or("model");
        let name = self.manifest.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Error::new(self.name, ErrorKind::PathNotUtf8))?;
        let (manifest, manifest_file) = (&recorded.manifest, (name, &*recorded.sha256));
        let subject = Subject { manifest, manifest_file, folder: own };
        let made =
            documents(&subject, wanted).map_err(|error| Error::new(self.name, failed(folder, error)))?;
        made.into_iter().map(|document| self.stage_one(folder, &document)).collect()
    }

    fn stage_one(&self, folder: &Path, document: &Document) -> Result<Staged, Error> {
        let fail = |error| Error::new(self.name, ErrorKind::Output(error));
        let staged = Staged::create(&folder.join(document.name), self.job.options.force).map_err(fail)?;
        let written = staged.file().write_all(&document.bytes);
        let write =
            |error| output::Error { path: staged.target().to_owned(), kind: output::ErrorKind::Write(error) };
        written.map_err(|error| fail(write(error)))?;
        Ok(staged)
    }
}

#[cfg(feature = "sign")]
fn failed(folder: &Path, error: crate::custody::oms::KeyError) -> ErrorKind {
    crate::custody::oms::Error::Key { path: folder.to_owned(), error }.into()
}

#[cfg(not(feature = "sign"))]
fn failed(_: &Path, error: std::convert::Infallible) -> ErrorKind {
    match error {}
}
