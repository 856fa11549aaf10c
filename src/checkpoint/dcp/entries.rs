//! The entries of a file of a distributed checkpoint: each is a complete file of `torch.save`, compressed perhaps, or all
//! are together in one safetensors file.

use std::collections::HashSet;
use std::sync::Arc;

use crate::accounting::Accounting;
use crate::bytes::{Part, Span};
use crate::container::{Format, detect};
use crate::tensor::{EntryId, Kind, Leaf, Piece, Region, StreamId, Tree, View};

use super::super::folder::{FolderError, Held, Merge};
use super::super::layers::Found;
use super::super::open::open_bare;
use super::super::{Error, OpenOptions, PickleInfo, Source, SourceFile};
use super::metadata::Stored;
use super::safetensors;
use super::spool::Spool;

/// A chunk or an object that is to be found in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// Which item of the metadata it belongs to.
    pub(super) item: usize,
    pub(super) name: &'a str,
    pub(super) stored: &'a Stored,
    /// What it is of its tensor; `None` for an object.
    pub(super) region: Option<&'a Region>,
}

/// What an entry holds.
#[derive(Debug)]
pub(super) enum What {
    Piece(Piece),
    Object(Held),
}

impl What {
    pub(super) fn piece(self) -> Option<Piece> {
        match self {
            Self::Piece(piece) => Some(piece),
            Self::Object(_) => None,
        }
    }
}

/// One file and its reader.
pub(super) struct Entries<'a, 'b> {
    pub(super) path: &'a str,
    pub(super) source: Source,
    pub(super) merge: &'a mut Merge<'b>,
    pub(super) spool: &'a mut Spool,
    pub(super) options: &'a OpenOptions,
}

impl Entries<'_, '_> {
    /// Reads the entries in the order of the file, and gives each to its item.
    pub(super) fn read(mut self, mut entries: Vec<Entry<'_>>, held: &mut [Vec<What>]) -> Result<(), Error> {
        entries.sort_by_key(|entry| entry.stored.offset);
        let placeholder =
            SourceFile { name: self.path.into(), ..SourceFile::new("dcp", Accounting::default()) };
        let stream = self.merge.file(self.source.clone(), placeholder);
        let mut account = Accounting::default();
        let mut pickles = Pickles::default();
        let mut end = 0_u64;
        let mut before: Option<Entry<'_>> = None;
        let mut rest = entries.as_slice();
        while let Some((entry, after)) = rest.split_first() {
            let offset = entry.stored.offset;
            if offset < end {
                return Err(self.overlap(before.as_ref(), entry));
            }
            account.unreferenced = account.unreferenced.saturating_add(offset.saturating_sub(end));
            let blob =
                safetensors::blob(&self.source, offset).map_err(|error| error.inside(&self.place(entry)))?;
            if let Some(blob) = blob {
                let together = rest.iter().take_while(|entry| entry.stored.offset == offset).count();
                let (these, after) = rest.split_at(together);
                for entry in these {
                    let piece = blob.piece(self.merge, stream, entry)?;
                    give(held, entry, What::Piece(piece));
                }
                account = account.plus(blob.accounting(these));
                end = blob.end();
                (before, rest) = (these.last().copied(), after);
                continue;
            }
            end = self.end(entry)?;
            let (what, part) = self
                .one(entry, stream, Span::between(offset, end), &mut pickles)
                .map_err(|error| error.inside(&self.place(entry)))?;
            account = account.plus(part);
            give(held, entry, what);
            (before, rest) = (Some(*entry), after);
        }
        account.trailing = account.trailing.saturating_add(self.source.size().saturating_sub(end));
        if account.trailing > 0 || account.unreferenced > 0 {
            let count = account.trailing.saturating_add(account.unreferenced);
            self.merge.strays.push(format!("{}: {count} bytes belong to no entry", self.path.escape_debug()));
        }
        if let Some(file) = self.merge.files.last_mut() {
            file.accounting = account;
            file.pickles = pickles.all;
        }
        Ok(())
    }

    fn place(&self, entry: &Entry<'_>) -> String {
        format!("{} at {:#x}, {:?}", self.path.escape_debug(), entry.stored.offset, entry.name)
    }

    fn overlap(&self, first: Option<&Entry<'_>>, second: &Entry<'_>) -> Error {
        let first = first.map_or("", |first| first.name);
        let (file, at) = (self.path.into(), second.stored.offset);
        FolderError::Overlap { file, first: first.into(), second: second.name.into(), at }.into()
    }

    fn end(&self, entry: &Entry<'_>) -> Result<u64, Error> {
        let (stored, size) = (entry.stored, self.source.size());
        let end = stored.offset.saturating_add(stored.length);
        if end <= size {
            return Ok(end);
        }
        Err(FolderError::Short { file: self.path.into(), name: entry.name.into(), end, size }.into())
    }

    /// Opens an entry that is a file of its own.
    fn one(
        &mut self,
        entry: &Entry<'_>,
        stream: StreamId,
        span: Span,
        pickles: &mut Pickles,
    ) -> Result<(What, Accounting), Error> {
        let no_tensor = || FolderError::NoTensor { name: entry.name.into() };
        let part = Part::new(self.source.clone(), span).ok_or_else(no_tensor)?;
        let mut part: Source = Arc::new(part);
        let (mut home, mut shift) = (stream, span.start());
        let stored_as_it_is = entry.stored.transforms.is_empty();
        if !stored_as_it_is {
            (part, shift) = self.spool.undo(&part, entry, self.options)?;
            home = self.spool.stream(&mut self.merge.streams, stream);
        }
        if !matches!(detect(&*part)?, Format::Zip) {
            return Err(Error::Unsupported("an entry that is no file of torch.save"));
        }
        let Found::Opened(opened) = open_bare(&part, self.options)? else {
            return Err(Error::Unsupported("an entry around another file"));
        };
        let accounting = match opened.files.first() {
            Some(file) if stored_as_it_is => file.accounting,
            _ if entry.region.is_some() => Accounting { tensors: span.len(), ..Accounting::default() },
            _ => Accounting { pickle: span.len(), ..Accounting::default() },
        };
        let prefix = format!("{:#x}/", entry.stored.offset);
        let mut opened = *opened;
        for file in &mut opened.files {
            pickles.add(std::mem::take(&mut file.pickles), &prefix);
        }
        let held = self.merge.take(opened, (home, shift), self.path, &prefix);
        let Some(region) = entry.region else { return Ok((What::Object(held), accounting)) };
        let view = self.only_tensor(&held.tree).ok_or_else(no_tensor)?;
        Ok((What::Piece(piece(entry.name, region, view)), accounting))
    }

    /// The tensor that an entry is.
    fn only_tensor(&self, tree: &Tree) -> Option<View> {
        let Kind::Leaf(Leaf::Tensor(id)) = tree.entry(EntryId::ROOT)?.kind else { return None };
        let tensor = self.merge.tensors.get(id.index())?;
        tensor.encoding.is_none().then(|| tensor.view.clone())
    }
}

fn give(held: &mut [Vec<What>], entry: &Entry<'_>, what: What) {
    if let Some(held) = held.get_mut(entry.item) {
        held.push(what);
    }
}

pub(super) fn piece(name: &str, region: &Region, view: View) -> Piece {
    let path = Box::new([Box::from(name)]);
    Piece { view, path, start: region.start.clone(), size: region.size.clone() }
}

/// The pickles of a file. Those of chunks of one type and size are the same bytes, and stand once: a checkpoint of a
/// thousand ranks has a million entries.
#[derive(Default)]
struct Pickles {
    all: Vec<PickleInfo>,
    seen: HashSet<String>,
}

impl Pickles {
    fn add(&mut self, pickles: Vec<PickleInfo>, prefix: &str) {
        for mut pickle in pickles {
            if self.seen.insert(pickle.sha256.clone()) {
                pickle.entry = pickle.entry.map(|entry| format!("{prefix}{entry}").into());
                self.all.push(pickle);
            }
        }
    }
}
