//! Folders whose files are the parts of one model, one or several for each rank that trained it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::bytes::{FileSource, ReadAt};
use crate::checkpoint::{self, Folder, OpenOptions};
use crate::custody::{Expect, Expected};
use crate::error::Error;

use super::Options;
use super::model::{Model, Naming, Spread};

/// Whether a folder is a checkpoint of several ranks.
pub(super) fn are_here(path: &Path) -> bool {
    Folder::list(path, &OpenOptions::default()).is_ok_and(|folder| folder.is_checkpoint())
}

/// Opens and plans the model, and says which files of the folder are no part of it. What has to be expanded goes to
/// `spool`.
pub(super) fn model(
    input: &Path,
    spool: &Path,
    options: &Options,
) -> Result<(Model, Vec<(String, String)>), Error> {
    let fail = |error: checkpoint::Error| Error::new(input, error);
    let mut open = options.open.clone();
    open.spool = open.spool.or_else(|| spool.is_dir().then(|| spool.to_owned()));
    let folder = Folder::list(input, &open).map_err(fail)?;
    let expected = expected(&folder, input, &options.expect)?;
    let opened = checkpoint::open_folder(&folder, &open).map_err(fail)?;
    let opened = opened.ok_or_else(|| fail(checkpoint::Error::NotApplicable))?;
    let beside = folder.files().filter(|path| !opened.files.iter().any(|file| *file.name == **path));
    let beside = beside.map(|path| (path.to_owned(), "no weights".to_owned())).collect();
    let naming = Naming { folder: String::new(), stem: "model".to_owned(), variant: None };
    let spread = options.max_shard_size.map_or(Spread::One, Spread::BySize);
    let said = |name: &str| expected.get(name).cloned().unwrap_or_default();
    let expected = opened.files.iter().map(|file| said(&file.name)).collect();
    let model = Model::new(opened, naming, &spread, &options.plan).map_err(|kind| Error::new(input, kind))?;
    Ok((Model { expected, ..model }, beside))
}

/// Compares every file of a folder with what is expected of it, before any is parsed.
fn expected(folder: &Folder, input: &Path, expect: &Expect) -> Result<HashMap<String, Vec<Expected>>, Error> {
    let mut expected = HashMap::new();
    for name in folder.files() {
        let path = input.join(name);
        let source =
            FileSource::open(&path).map_err(|error| Error::new(&path, checkpoint::Error::Io(error)))?;
        let source: Arc<dyn ReadAt> = Arc::new(source);
        let said = super::check(&source, &path, expect).map_err(|kind| Error::new(&path, kind))?;
        expected.insert(name.to_owned(), said);
    }
    Ok(expected)
}
