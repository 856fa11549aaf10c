//! Numpy's own files: one array, or a zip archive of such files.

use std::sync::Arc;

use crate::accounting::Accounting;
use crate::bytes::{ReadAt, Span, index};
use crate::container::{Archive, Member, Method, Npy};
use crate::rebuild::{self, Array, Rebuilt};
use crate::tensor::{EntryId, Kind, Place, Step, Storage, StreamId, Streams};

use super::{Error, OpenOptions, Opened, PickleInfo, Source, SourceFile, run};

/// What was read so far.
struct Reading<'a> {
    options: &'a OpenOptions,
    streams: Streams,
    rebuilt: Rebuilt,
    pickles: Vec<PickleInfo>,
    accounting: Accounting,
    strays: Vec<String>,
}

/// A file of one array, as it lies in a stream.
struct File<'a> {
    entry: Option<&'a str>,
    stream: StreamId,
    span: Span,
    /// The run of stored bytes that holds it, with its checksum, where it is a member of an archive.
    storage: Option<Storage>,
}

impl Reading<'_> {
    /// Reads an array. What it takes of its file is counted where the file lies as it is.
    fn array(&mut self, file: File<'_>, header: Npy, at: (Option<EntryId>, Step)) -> Result<(), Error> {
        let data = Span::between(file.span.start().saturating_add(header.data), file.span.end());
        if header.element.has_objects() {
            return self.objects(&file, data, at);
        }
        let len = header.data_len().unwrap_or(u64::MAX);
        let entry = file.entry.map(Box::from);
        let whole = Storage {
            key: "".into(),
            entry: entry.clone(),
            place: Place::Stored { stream: file.stream, span: file.span },
            len: file.span.len(),
            big_endian: false,
            crc32: None,
        };
        let Npy { element, shape, fortran, data: start } = header;
        let array = Array { element, shape, fortran, storage: file.storage.unwrap_or(whole), start };
        let rebuilt = std::mem::take(&mut self.rebuilt);
        let limits = &self.options.limits;
        self.rebuilt = rebuild::array(&array, at, rebuilt, limits, &mut self.streams)
            .map_err(|error| Error::Array { entry, error })?;
        self.accounting.tensors = self.accounting.tensors.saturating_add(len);
        self.rest(file.entry, Span::between(data.start().saturating_add(len), file.span.end()), file.stream)
    }

    /// An array of Python objects: its data is a pickle.
    fn objects(&mut self, file: &File<'_>, data: Span, at: (Option<EntryId>, Step)) -> Result<(), Error> {
        let mut ran = run::run(&self.streams, file.stream, data, file.entry, self.options)?;
        let rebuilt = std::mem::take(&mut self.rebuilt);
        self.rebuilt = ran.rebuild_at(&mut self.streams, None, self.options, rebuilt, at)?;
        self.pickles.extend(ran.infos(&self.streams)?);
        self.accounting.pickle = self.accounting.pickle.saturating_add(ran.span.len());
        self.rest(file.entry, Span::between(ran.span.end(), file.span.end()), file.stream)
    }

    /// What follows the array in its file: judged as a pickle if it is one, and dropped.
    fn rest(&mut self, entry: Option<&str>, rest: Span, stream: StreamId) -> Result<(), Error> {
        if !rest.is_empty() {
            run::judge_bystander(&self.streams, stream, rest, entry, self.options)?;
            self.strays.push(match entry {
                Some(entry) => format!("{}: {} bytes follow the array", entry.escape_debug(), rest.len()),
                None => format!("{} bytes follow the array", rest.len()),
            });
        }
        Ok(())
    }

    fn opened(self, container: &'static str, accounting: Accounting) -> Opened {
        let Self { pickles, strays, streams, rebuilt, .. } = self;
        let file = SourceFile { pickles, ..SourceFile::new(container, accounting) };
        Opened::new(file, strays, streams, rebuilt)
    }
}

fn reading<'a>(source: &Source, options: &'a OpenOptions) -> Reading<'a> {
    Reading {
        options,
        streams: Streams::new(source.clone()),
        rebuilt: Rebuilt::default(),
        pickles: Vec::new(),
        accounting: Accounting::default(),
        strays: Vec::new(),
    }
}

/// A file of one array.
pub(super) fn open_npy(source: &Source, options: &OpenOptions) -> Result<Opened, Error> {
    let mut reading = reading(source, options);
    let span = Span::between(0, source.size());
    let header = Npy::open(&**source, span, None)?;
    let start = header.data;
    let file = File { entry: None, stream: StreamId::SOURCE, span, storage: None };
    reading.array(file, header, (None, Step::Root))?;
    let Accounting { pickle, tensors, .. } = reading.accounting;
    let trailing = source.size().saturating_sub(start).saturating_sub(pickle).saturating_sub(tensors);
    let accounting = Accounting { trailing, container: start, ..reading.accounting };
    Ok(reading.opened("npy", accounting))
}

/// Whether an archive holds arrays, each under its name with `.npy` behind it.
pub(super) fn is_npz(archive: &Archive) -> bool {
    let arrays = archive.members().iter().filter(|member| array_name(member).is_some()).count();
    arrays > 0 && arrays.saturating_mul(2) >= archive.members().len()
}

fn array_name(member: &Member) -> Option<&str> {
    member.name.strip_suffix(".npy").filter(|name| !name.is_empty())
}

/// An archive of arrays.
pub(super) fn open_npz(source: &Source, archive: &Archive, options: &OpenOptions) -> Result<Opened, Error> {
    let mut reading = reading(source, options);
    let root = reading.rebuilt.tree.push(None, Step::Root, Kind::Mapping);
    let mut stored = Accounting::default();
    for member in archive.members() {
        let len = member.data.len();
        let Some(name) = array_name(member) else {
            stored.other = stored.other.saturating_add(len);
            continue;
        };
        reading.accounting = Accounting::default();
        reading.member(source, archive, member, (Some(root), Step::Key(name.into())))?;
        // Of a compressed member only the whole has a stored size.
        let Accounting { pickle, tensors, .. } = reading.accounting;
        let (pickle, tensors) = match member.method {
            Method::Stored => (pickle, tensors),
            Method::Deflated if pickle > 0 => (len, 0),
            Method::Deflated => (0, len),
        };
        stored.pickle = stored.pickle.saturating_add(pickle);
        stored.tensors = stored.tensors.saturating_add(tensors);
    }
    let strays = archive.strays().iter().fold(0_u64, |n, stray| n.saturating_add(stray.span.len()));
    reading.strays.extend(archive.strays().iter().map(ToString::to_string));
    let trailing = source.size().saturating_sub(archive.end());
    let accounting = Accounting { unreferenced: strays, trailing, ..stored }.with_container(source.size());
    Ok(reading.opened("npz", accounting))
}

impl Reading<'_> {
    fn member(
        &mut self,
        source: &Source,
        archive: &Archive,
        member: &Member,
        at: (Option<EntryId>, Step),
    ) -> Result<(), Error> {
        let entry = Some(&*member.name);
        let checked = |place| Storage {
            key: "".into(),
            entry: Some(member.name.clone()),
            place,
            len: member.size,
            big_endian: false,
            crc32: archive.checksum(member),
        };
        if member.method == Method::Stored {
            let span = member.data;
            let header = Npy::open(&**source, span, entry)?;
            let storage = checked(Place::Stored { stream: StreamId::SOURCE, span });
            let whole = is_plain(&header);
            if !whole {
                archive.verify(&**source, member)?;
            }
            let storage = whole.then_some(storage);
            return self.array(File { entry, stream: StreamId::SOURCE, span, storage }, header, at);
        }
        let limit = self.options.limits.inflated_pickle;
        let mut head = archive.head(&**source, member, Npy::HEAD)?;
        let header = Npy::open(&head, Span::between(0, head.size()), entry)?;
        let span = Span::between(0, member.size);
        let exact = header.data_len().and_then(|len| len.checked_add(header.data)) == Some(member.size);
        if is_plain(&header) && exact {
            // Inflated only when it is written. What is kept of the head until then is the header.
            head.truncate(index(header.data));
            head.shrink_to_fit();
            let storage = Some(checked(Place::Deflated { stream: StreamId::SOURCE, span: member.data }));
            let stream = self.streams.push(Arc::new(head));
            return self.array(File { entry, stream, span, storage }, header, at);
        }
        let bytes = archive.read(&**source, member, limit)?;
        let stream = self.streams.push(Arc::new(bytes));
        self.array(File { entry, stream, span, storage: None }, header, at)
    }
}

/// Whether the array is numbers that begin at a multiple of their size, so that the file as a whole can be its storage.
fn is_plain(header: &Npy) -> bool {
    let size = header.element.scalar().map(crate::tensor::Scalar::size);
    !header.element.has_objects() && size.is_some_and(|size| header.data.checked_rem(size) == Some(0))
}
