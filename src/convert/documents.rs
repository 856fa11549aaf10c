//! The documents beside a manifest.

use std::path::Path;

use crate::bytes::folder_of;
use crate::custody::documents::{Document, Subject, documents};
use crate::error::{Error, ErrorKind};

use super::job::Job;
use super::record::Recorded;

/// What documents are made from.
pub(super) struct Making<'a> {
    pub(super) job: &'a Job<'a>,
    /// Where the manifest will stand.
    pub(super) manifest: &'a Path,
}

impl Making<'_> {
    /// Makes those that are wanted.
    pub(super) fn make(&self, recorded: &Recorded) -> Result<Vec<Document>, Error> {
        let Some(wanted) = &self.job.options.documents else { return Ok(Vec::new()) };
        let folder = folder_of(self.manifest);
        let absolute = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        // Documents name the folder; the root of a file system has no name.
        let own = absolute.file_name().and_then(|name| name.to_str()).unwrap_or("model");
        let name = self.manifest.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Error::new(self.job.input, ErrorKind::PathNotUtf8))?;
        let (manifest, manifest_file) = (&recorded.manifest, (name, &*recorded.sha256));
        let subject = Subject { manifest, manifest_file, folder: own };
        documents(&subject, wanted).map_err(|error| Error::new(self.job.input, failed(folder, error)))
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
