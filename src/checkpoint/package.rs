//! `torch.package`: every pickle of the archive, each below the place of its resource.

use std::collections::HashMap;

use crate::accounting::{Accounting, shown};
use crate::bytes::Span;
use crate::container::{Classes, Member, Package, PackageRecords, Storages};
use crate::rebuild::Rebuilt;
use crate::tensor::{EntryId, Kind, Step, StreamId, Streams};

use super::{Error, OpenOptions, Opened, PickleInfo, Source, SourceFile, account, run, zip};

/// What was read so far.
struct Reading<'a> {
    source: &'a Source,
    package: &'a Package,
    classes: Classes,
    options: &'a OpenOptions,
    streams: Streams,
    rebuilt: Rebuilt,
    /// Places of the folders.
    folders: HashMap<&'a str, EntryId>,
    pickles: Vec<PickleInfo>,
    known: Accounting,
    strays: Vec<String>,
}

/// Opens every pickle of the package. Of the code in it nothing is read.
pub(super) fn open(source: &Source, package: &Package, options: &OpenOptions) -> Result<Opened, Error> {
    let mut reading = Reading {
        source,
        package,
        classes: package.classes(source, &options.limits)?,
        options,
        streams: Streams::new(source.clone()),
        rebuilt: Rebuilt::default(),
        folders: HashMap::new(),
        pickles: Vec::new(),
        known: Accounting::default(),
        strays: package.archive().strays().iter().map(ToString::to_string).collect(),
    };
    reading.rebuilt.tree.push(None, Step::Root, Kind::Mapping);
    let mut records = 0_u64;
    for member in package.archive().members() {
        let opened = match package.place(member) {
            Some(place) => reading.resource(member, place)?,
            None => false,
        };
        if package.is_record(member) {
            records = records.saturating_add(member.data.len());
        } else if !opened && package.is_other(member) {
            reading.known.other = reading.known.other.saturating_add(member.data.len());
            zip::judge_member(package.archive(), member, &mut reading.streams, options)?;
        }
    }
    let Reading { streams, rebuilt, pickles, mut known, strays, .. } = reading;
    known.tensors = shown(StreamId::SOURCE, &rebuilt.storages, &rebuilt.tensors);
    known.unreferenced = known.unreferenced.saturating_add(records.saturating_sub(known.tensors));
    let accounting = account::archive(source.size(), package.archive(), known);
    let big_endian = package.big_endian();
    let file = SourceFile { big_endian, pickles, ..SourceFile::new("torch-package", accounting) };
    Ok(Opened::new(file, strays, streams, rebuilt))
}

impl<'a> Reading<'a> {
    /// Opens a member if it is a pickle: by its name, or by its content, since resources may have any name.
    fn resource(&mut self, member: &Member, place: &'a str) -> Result<bool, Error> {
        let archive = self.package.archive();
        let named = place.strip_suffix(".pkl").is_some();
        if !named && archive.head(&**self.source, member, 1)?.first() != Some(&0x80) {
            return Ok(false);
        }
        let (stream, span) = zip::pickle(self.source, archive, member, &mut self.streams, self.options)?;
        let mut ran = match run::run(&self.streams, stream, span, Some(&member.name), self.options) {
            Ok(ran) => ran,
            // A binary file that only begins like one.
            Err(Error::Pickle { .. }) if !named => return Ok(false),
            Err(error) => return Err(error),
        };
        let (folder, name) = place.rsplit_once('/').map_or(("", place), |(folder, name)| (folder, name));
        let parent = self.folder(folder);
        let step = Step::Key(name.strip_suffix(".pkl").unwrap_or(name).into());
        let records: &dyn Storages = &PackageRecords { package: self.package, classes: &self.classes };
        let rebuilt = std::mem::take(&mut self.rebuilt);
        self.rebuilt =
            ran.rebuild_at(&mut self.streams, Some(records), self.options, rebuilt, (Some(parent), step))?;
        self.pickles.extend(ran.infos(&self.streams)?);
        self.known.pickle = self.known.pickle.saturating_add(member.data.len());
        let rest = Span::between(ran.span.end(), span.end());
        if !rest.is_empty() {
            run::judge_bystander(&self.streams, stream, rest, Some(&member.name), self.options)?;
            self.strays.push(format!(
                "{}: {} bytes follow the pickle",
                member.name.escape_debug(),
                rest.len()
            ));
            let dropped = rest.len().min(member.data.len());
            self.known.pickle = self.known.pickle.saturating_sub(dropped);
            self.known.unreferenced = self.known.unreferenced.saturating_add(dropped);
        }
        Ok(true)
    }

    /// The place of a folder, made with those above it where it is new.
    fn folder(&mut self, folder: &'a str) -> EntryId {
        let mut parent = EntryId::ROOT;
        let ends =
            folder.match_indices('/').map(|(at, _)| at).chain((!folder.is_empty()).then_some(folder.len()));
        let mut start = 0;
        for end in ends {
            let (path, name) =
                (folder.get(..end).unwrap_or_default(), folder.get(start..end).unwrap_or_default());
            let tree = &mut self.rebuilt.tree;
            parent = *self
                .folders
                .entry(path)
                .or_insert_with(|| tree.push(Some(parent), Step::Key(name.into()), Kind::Mapping));
            start = end.saturating_add(1);
        }
        parent
    }
}
