//! `.pt2`: weights and constants as raw records, which need no pickle, and what `torch.save` wrote beside them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::accounting::{Accounting, shown};
use crate::container::{self, Member, Method, Payload, Program, Pt2};
use crate::rebuild::{self, ErrorKind, Rebuilt};
use crate::tensor::{
    Dtype, EntryId, Family, Kind, Leaf, Step, StorageId, StreamId, Streams, Tensor, View, ViewSpec,
};

use super::nested::{self, Inside};
use super::{Error, OpenOptions, Opened, PickleInfo, Source, SourceFile, account, zip};

/// What was read so far.
struct Reading<'a> {
    source: &'a Source,
    pt2: &'a Pt2,
    options: &'a OpenOptions,
    streams: Streams,
    rebuilt: Rebuilt,
    /// Records that are storages, and of which type.
    storages: HashMap<Box<str>, (StorageId, Dtype)>,
    /// Records that were opened as checkpoints of their own.
    opened: HashMap<Box<str>, u64>,
    pickles: Vec<PickleInfo>,
    known: Accounting,
    strays: Vec<String>,
}

/// Opens the weights of every program, and what lies beside them. Of several programs each has a place of its own.
pub(super) fn open(source: &Source, pt2: &Pt2, options: &OpenOptions) -> Result<Opened, Error> {
    let mut reading = Reading {
        source,
        pt2,
        options,
        streams: Streams::new(source.clone()),
        rebuilt: Rebuilt::default(),
        storages: HashMap::new(),
        opened: HashMap::new(),
        pickles: Vec::new(),
        known: Accounting::default(),
        strays: pt2.archive().strays().iter().map(ToString::to_string).collect(),
    };
    let root = reading.rebuilt.tree.push(None, Step::Root, Kind::Mapping);
    let programs: Vec<(&Member, Program<'_>)> =
        pt2.archive().members().iter().filter_map(|member| Some((member, pt2.program(member)?))).collect();
    let mut places: HashMap<&str, EntryId> = HashMap::new();
    let several =
        programs.iter().any(|(_, program)| program.name() != programs.first().map_or("", |(_, p)| p.name()));
    for (member, program) in &programs {
        let name = program.name();
        let tree = &mut reading.rebuilt.tree;
        let place = if several {
            *places
                .entry(name)
                .or_insert_with(|| tree.push(Some(root), Step::Key(name.into()), Kind::Mapping))
        } else {
            root
        };
        reading.program(member, *program, place)?;
    }
    let mut records = 0_u64;
    for member in pt2.archive().members() {
        if pt2.is_other(member) {
            reading.known.other = reading.known.other.saturating_add(member.data.len());
        }
        if pt2.is_record(member) && !reading.opened.contains_key(&member.name) {
            records = records.saturating_add(member.data.len());
        }
        if pt2.is_other(member) || pt2.is_record(member) && !reading.is_used(member) {
            zip::judge_member(pt2.archive(), member, &mut reading.streams, options)?;
        }
    }
    let Reading { streams, rebuilt, pickles, mut known, strays, .. } = reading;
    let raw = shown(StreamId::SOURCE, &rebuilt.storages, &rebuilt.tensors);
    known.tensors = known.tensors.saturating_add(raw);
    known.unreferenced = known.unreferenced.saturating_add(records.saturating_sub(raw));
    let accounting = account::archive(source.size(), pt2.archive(), known);
    let big_endian = pt2.big_endian();
    let file = SourceFile { big_endian, pickles, ..SourceFile::new("pt2", accounting) };
    Ok(Opened::new(file, strays, streams, rebuilt))
}

impl Reading<'_> {
    fn is_used(&self, member: &Member) -> bool {
        self.opened.contains_key(&member.name) || self.storages.contains_key(&member.name)
    }

    /// Takes what a member says of a program.
    fn program(&mut self, member: &Member, program: Program<'_>, place: EntryId) -> Result<(), Error> {
        let at = (Some(place), Step::Key(program.part().into()));
        match program {
            Program::Weights(_) | Program::Constants(_) => {
                let folder = self.rebuilt.tree.push(at.0, at.1, Kind::Mapping);
                for payload in self.pt2.payloads(&**self.source, member, &self.options.limits)? {
                    self.payload(&payload, member, folder)?;
                }
                Ok(())
            }
            Program::SavedWeights(_) | Program::SavedConstants(_) | Program::Inputs(_) => {
                self.saved(member, at)
            }
        }
    }

    fn payload(&mut self, payload: &Payload, config: &Member, folder: EntryId) -> Result<(), Error> {
        let at = (Some(folder), Step::Key(payload.name.clone()));
        let entry = Some(payload.record.clone());
        let Some(raw) = &payload.raw else {
            let member = self.pt2.archive().member(&payload.record).cloned();
            let missing = || container::Error {
                entry: entry.clone(),
                offset: crate::bytes::Offset(config.data.start()),
                kind: container::ErrorKind::Missing,
            };
            return self.saved(&member.ok_or_else(missing)?, at);
        };
        let fail = |error: ErrorKind| Error::Array { entry: entry.clone(), error };
        let (id, first) = match self.storages.entry(payload.record.clone()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                let storage = self.rebuilt.add_storage(self.pt2.storage(&payload.record)?);
                *vacant.insert((storage, raw.dtype))
            }
        };
        // Torch reads a record by the type of the first that describes it.
        if first != raw.dtype {
            return Err(fail(ErrorKind::StorageType {
                key: payload.record.clone(),
                first,
                second: raw.dtype,
            }));
        }
        let spec = ViewSpec {
            dtype: raw.dtype,
            family: Family::Torch,
            offset: raw.offset,
            shape: raw.shape.clone(),
            strides: raw.strides.clone(),
            negated: false,
            conjugated: false,
        };
        let storage = self.rebuilt.storages.get(id.index());
        let storage = storage.ok_or_else(|| fail(ErrorKind::PersistentId("storage is missing")))?;
        let view = View::new(id, storage, &spec, &self.options.limits).map_err(|error| fail(error.into()))?;
        let tensor = self.rebuilt.add_tensor(Tensor::plain(view));
        self.rebuilt.tree.push(at.0, at.1, Kind::Leaf(Leaf::Tensor(tensor)));
        Ok(())
    }

    /// Opens a member that `torch.save` wrote.
    fn saved(&mut self, member: &Member, at: (Option<EntryId>, Step)) -> Result<(), Error> {
        if self.opened.insert(member.name.clone(), member.size).is_some() {
            let kind = container::ErrorKind::Duplicate(crate::bytes::Offset(member.header));
            let offset = crate::bytes::Offset(member.header);
            return Err(container::Error { entry: Some(member.name.clone()), offset, kind }.into());
        }
        let archive = self.pt2.archive();
        let place = zip::pickle(self.source, archive, member, &mut self.streams, self.options)?;
        let inside = nested::open(&mut self.streams, place, &member.name, self.options)?;
        let unsupported = Error::Unsupported("a record that is no checkpoint of torch");
        let Inside { rebuilt, pickles, accounting, strays } = inside.ok_or(unsupported)?;
        self.rebuilt.graft(&rebuilt, at.0, rebuild::at(at.1));
        self.pickles.extend(pickles);
        self.strays.extend(strays);
        match member.method {
            Method::Stored => self.count(accounting),
            // Of a deflated member only the whole has a stored size.
            Method::Deflated => self.count(Accounting { pickle: member.data.len(), ..Accounting::default() }),
        }
        Ok(())
    }

    fn count(&mut self, inside: Accounting) {
        let known = &mut self.known;
        known.pickle = known.pickle.saturating_add(inside.pickle);
        known.tensors = known.tensors.saturating_add(inside.tensors);
        known.other = known.other.saturating_add(inside.other);
        let lost = inside.unreferenced.saturating_add(inside.trailing);
        known.unreferenced = known.unreferenced.saturating_add(lost);
    }
}
