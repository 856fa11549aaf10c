//! Files beside a checkpoint that hold some of its arrays: joblib before 0.10 wrote each array of some size to
//! `<name>_01.npy`, or compressed to `<name>_01.npy.z`, and named it in the pickle.
//!
//! A name is a name and no path: it is looked for in the folder of the checkpoint alone, and a link is not followed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::accounting::Accounting;
use crate::bytes::{FileSource, Offset, ReadAt, Span};
use crate::container::{Format, Npy, detect};
use crate::pickle::Graph;
use crate::rebuild::{self, Array, Companion, CompanionForm};
use crate::tensor::{Place, Scalar, Storage, StreamId, Streams};

use super::{Error, OpenOptions, Source, SourceFile, expand, run};

/// The companions of a pickle.
#[derive(Debug, Default)]
pub(super) struct Companions {
    /// What is in them, by the position of the call that names the file.
    pub(super) arrays: HashMap<Offset, Array>,
    pub(super) files: Vec<SourceFile>,
}

/// Companions of one checkpoint: more than any honest one has.
const MOST: usize = 100_000;

/// Opens the companions that a pickle names.
pub(super) fn open(graph: &Graph, streams: &mut Streams, options: &OpenOptions) -> Result<Companions, Error> {
    let named = rebuild::companions(graph, &options.limits);
    let named = named.map_err(|error| Error::Rebuild { entry: None, error })?;
    let mut companions = Companions::default();
    for companion in named.into_iter().take(MOST) {
        let fail = |reason: String| Error::Companion { file: companion.file.clone(), reason };
        let file = find(&companion, options)?;
        let size = file.size();
        let (stream, array, data) = match &companion.form {
            CompanionForm::Npy => {
                let whole = Span::between(0, size);
                let mut header = Npy::open(&*file, whole, Some(&companion.file))?;
                let stream = streams.push_file(file);
                if header.element.has_objects() {
                    // Its pickle is judged as joblib would run it, and its objects are left out.
                    let data = Span::between(header.data, size);
                    let ran = run::run(streams, stream, data, Some(&companion.file), options)?;
                    ran.admit(streams, None, options)?;
                    header.element = Scalar::Other("array of objects in a file of its own", 0).into();
                }
                let data = header.data_len().unwrap_or(u64::MAX);
                (stream, array(header, stream, size, &companion.file), data)
            }
            CompanionForm::Compressed(form) => {
                let Format::Packed(packing) = detect(&*file)? else {
                    return Err(fail("it is not compressed".to_owned()));
                };
                let expanded = expand::expand(&file, packing, options)?.0;
                let outer = streams.push_file(file);
                let stream = streams.push_beside(expanded.clone(), outer);
                let mut form = (**form).clone();
                form.storage = storage(stream, expanded.size(), &companion.file);
                companions.arrays.insert(companion.at, form);
                companions.note(
                    &companion.file,
                    outer,
                    Accounting { tensors: size, ..Accounting::default() },
                );
                continue;
            }
        };
        let tensors = data.min(size.saturating_sub(array.start));
        let trailing = size.saturating_sub(array.start).saturating_sub(tensors);
        companions.arrays.insert(companion.at, array);
        let accounting = Accounting { tensors, trailing, ..Accounting::default() }.with_container(size);
        companions.note(&companion.file, stream, accounting);
    }
    Ok(companions)
}

impl Companions {
    fn note(&mut self, file: &str, stream: StreamId, accounting: Accounting) {
        let known = SourceFile::new("joblib-companion", accounting);
        self.files.push(SourceFile { name: file.into(), stream, ..known });
    }
}

fn storage(stream: StreamId, size: u64, file: &str) -> Storage {
    let place = Place::Stored { stream, span: Span::between(0, size) };
    Storage { key: "".into(), entry: Some(file.into()), place, len: size, big_endian: false, crc32: None }
}

fn array(header: Npy, stream: StreamId, size: u64, file: &str) -> Array {
    let Npy { element, shape, fortran, data } = header;
    Array { element, shape, fortran, storage: storage(stream, size, file), start: data }
}

/// The file in the folder of the checkpoint.
fn find(companion: &Companion, options: &OpenOptions) -> Result<Source, Error> {
    let file = &companion.file;
    let fail = |reason: String| Error::Companion { file: file.clone(), reason };
    let plain = !file.is_empty() && !file.contains(['/', '\\', ':', '\0']) && !matches!(&**file, "." | "..");
    if !plain {
        return Err(fail("the checkpoint keeps an array under a name that is no plain file name".to_owned()));
    }
    let Some(folder) = &options.siblings else {
        return Err(fail("the checkpoint keeps an array in this file, and has no folder".to_owned()));
    };
    let path = folder.join(&**file);
    let source = open_unlinked(&path)
        .map_err(|error| fail(format!("the checkpoint keeps an array in this file: {error}")))?;
    Ok(Arc::new(source))
}

/// Opens a regular file that is no link, and makes sure that it is the one that was looked at.
fn open_unlinked(path: &Path) -> std::io::Result<FileSource> {
    let before = std::fs::symlink_metadata(path)?;
    if !before.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = std::fs::File::open(path)?;
    if !is_same(&before, &file.metadata()?) {
        return Err(std::io::Error::other("the file was replaced while it was opened"));
    }
    FileSource::from_file(file)
}

#[cfg(unix)]
fn is_same(before: &std::fs::Metadata, after: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (before.dev(), before.ino()) == (after.dev(), after.ino())
}

#[cfg(not(unix))]
fn is_same(before: &std::fs::Metadata, after: &std::fs::Metadata) -> bool {
    before.len() == after.len() && after.is_file()
}
