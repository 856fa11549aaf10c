//! Which places are taken: the root that was given, the one that a known writer names, or what looks like weights.

use std::collections::HashMap;

use super::Options;
use super::error::{Error, Misuse, Structure};
use super::index::Index;
use super::names::short_path;
use super::notes::{Found, Note};
use super::reason::Rule;
use super::writers::{COMMON, Take, WRITERS, Writer};
use crate::tensor::{EntryId, Kind, Step};

/// Places that a note or an error shows before it only counts.
const SHOWN: usize = 8;

/// A place whose tensors are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Which.
    pub(super) entry: EntryId,
    /// What stands before the steps below it in a name.
    pub(super) base: Option<&'static str>,
}

/// What is taken of a source.
#[derive(Debug)]
pub(super) struct Selection {
    /// The places, never one inside another.
    pub(super) mounts: Vec<Mount>,
    /// Whether keys such as `optimizer` below the places still leave their tensors out.
    judged: bool,
    /// Dotted path of the root, if it is one and not the whole.
    pub(super) root: Option<String>,
    /// What to say of it.
    pub(super) notes: Vec<Note>,
}

impl Selection {
    fn of(entry: EntryId, judged: bool, notes: Vec<Note>) -> Self {
        Self { mounts: vec![Mount { entry, base: None }], judged, root: None, notes }
    }

    /// For each entry whether its tensor is taken or which rule leaves it out.
    pub(super) fn statuses(&self, index: &Index<'_>, all: bool) -> Vec<Status> {
        let mut statuses = vec![Status::Out(Rule::OutsideRoot); index.order().len()];
        for &id in index.order() {
            let status = self.status(index, id, &statuses, all);
            if let Some(slot) = statuses.get_mut(id.index()) {
                *slot = status;
            }
        }
        statuses
    }

    fn status(&self, index: &Index<'_>, id: EntryId, above: &[Status], all: bool) -> Status {
        let outside = Status::Out(index.rule(id).unwrap_or(Rule::OutsideRoot));
        if self.mounts.iter().any(|mount| mount.entry == id) {
            return Status::Taken;
        }
        let Some((parent, entry)) = index.tree().entry(id).and_then(|entry| Some((entry.parent?, entry)))
        else {
            return outside;
        };
        match above.get(parent.index()) {
            // A place outside may hold the root.
            None | Some(Status::Out(Rule::OutsideRoot)) => return outside,
            Some(out @ Status::Out(_)) => return *out,
            Some(Status::Taken) => {}
        }
        if self.judged
            && let Some(rule) = index.rule(id)
        {
            return Status::Out(rule);
        }
        match (&entry.step, index.kind(parent)) {
            (Step::NonPersistent(_), Some(Kind::Module)) if !all => Status::Out(Rule::NonPersistent),
            (Step::Attribute(_), Some(Kind::Module)) if !all => Status::Out(Rule::PlainAttribute),
            _ => Status::Taken,
        }
    }
}

/// Whether the tensor at a place is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// It is.
    Taken,
    /// It is not.
    Out(Rule),
}

/// Decides by the options, or by the source where they are silent.
pub(super) fn select(index: &Index<'_>, options: &Options) -> Result<Selection, Error> {
    if let Some(root) = &options.root {
        let entry = find(index, root)?;
        let note = Note::Root { root: root.clone(), writer: None, others: Vec::new(), more: 0 };
        let mut selection = Selection::of(entry, false, vec![note]);
        selection.root = (entry != EntryId::ROOT).then(|| root.clone());
        return Ok(selection);
    }
    if options.all {
        return Ok(Selection::of(EntryId::ROOT, false, Vec::new()));
    }
    let mut selection = automatic(index, options.metadata);
    if let [Mount { entry, base: None }] = &*selection.mounts
        && *entry != EntryId::ROOT
    {
        selection.root = Some(dotted(index, *entry));
    }
    Ok(selection)
}

/// An entry's path, as `--root` takes it.
fn dotted(index: &Index<'_>, id: EntryId) -> String {
    short_path(index.tree(), id).join(".")
}

fn automatic(index: &Index<'_>, metadata: bool) -> Selection {
    let mut node = EntryId::ROOT;
    loop {
        if matches!(index.kind(node), Some(Kind::Mapping)) && index.live_containers(node).next().is_some() {
            let keys = Keys::of(index, node);
            if let Some(selection) = known(index, &keys, metadata) {
                return selection;
            }
            if let Some(child) = keys.first_live(index, COMMON) {
                let root = only_candidate(index, inner(index, child));
                let notes = vec![root_note(index, &[root], None)];
                return Selection::of(root, !index.is_pure(root), notes);
            }
        }
        match index.wrapped(node) {
            Some(only) => node = only,
            None => break,
        }
    }
    unknown(index, node)
}

/// The root by the table of known writers.
fn known(index: &Index<'_>, keys: &Keys<'_>, metadata: bool) -> Option<Selection> {
    let (writer, mounts) = WRITERS.iter().find_map(|writer| Some((writer, fits(index, keys, writer)?)))?;
    let entries: Vec<EntryId> = mounts.iter().map(|mount| mount.entry).collect();
    let mut notes = vec![root_note(index, &entries, Some(writer.name))];
    let inside = entries.first().into_iter().flat_map(|root| {
        let children = index.children(*root).iter();
        children.filter(|child| {
            let step = index.tree().entry(**child).map(|entry| &entry.step);
            step.is_some_and(|step| writer.needs_inside.contains(&&*step.text()))
        })
    });
    let needed: Vec<String> = (writer.needs.iter().filter_map(|key| keys.0.get(key)).chain(inside))
        .filter(|id| !(metadata && index.tensors(**id) == 0))
        .map(|id| dotted(index, *id))
        .collect();
    if !needed.is_empty() {
        notes.push(Note::Needed { writer: writer.name, keys: needed });
    }
    let judged = entries.iter().any(|entry| !index.is_pure(*entry));
    Some(Selection { mounts, judged, root: None, notes })
}

fn fits(index: &Index<'_>, keys: &Keys<'_>, writer: &Writer) -> Option<Vec<Mount>> {
    if !writer.keys.iter().all(|group| group.iter().any(|key| keys.0.contains_key(key))) {
        return None;
    }
    let mount = |take: &Take| {
        let entry = keys.first_live(index, take.from)?;
        Some(Mount { entry, base: take.prefix })
    };
    let mounts: Vec<Mount> = writer.takes.iter().filter_map(mount).collect();
    // Without what its first row takes it is some other file that has the same keys.
    let first = writer.takes.first().and_then(mount)?;
    let module = matches!(index.kind(first.entry), Some(Kind::Module));
    (module || !writer.module).then_some(mounts)
}

/// From a place of a common name to the innermost of its kind: `{"model": {"state_dict": …}}`.
fn inner(index: &Index<'_>, mut id: EntryId) -> EntryId {
    while matches!(index.kind(id), Some(Kind::Mapping)) {
        let only = index.wrapped(id);
        if index.is_candidate(id) && only.is_none() {
            break;
        }
        match Keys::of(index, id).first_live(index, COMMON) {
            Some(child) => id = child,
            None => break,
        }
    }
    id
}

/// A place that holds values and one candidate, and no tensor besides, stands for that candidate.
fn only_candidate(index: &Index<'_>, id: EntryId) -> EntryId {
    if !matches!(index.kind(id), Some(Kind::Mapping)) || index.is_candidate(id) || index.is_pure(id) {
        return id;
    }
    let walk = Walk::below(index, id, &[]);
    match (&*walk.candidates, &*walk.loose) {
        ([only], []) => *only,
        _ => id,
    }
}

/// What to take where nothing is known, below the outermost place that holds more than one other.
fn unknown(index: &Index<'_>, node: EntryId) -> Selection {
    if index.is_candidate(node) || index.is_tensor(node) {
        let flat = index.live_containers(node).next().is_none();
        let module = matches!(index.kind(node), Some(Kind::Module));
        if flat || module || node != EntryId::ROOT {
            return Selection::of(node, !module, vec![root_note(index, &[node], None)]);
        }
    }
    let walk = Walk::below(index, node, &[]);
    match (&*walk.candidates, &*walk.loose) {
        ([only], []) => Selection::of(*only, true, vec![root_note(index, &[*only], None)]),
        ([], _) => Selection::of(EntryId::ROOT, true, vec![root_note(index, &[EntryId::ROOT], None)]),
        _ => {
            let (found, more) = walk.found(index);
            Selection::of(EntryId::ROOT, true, vec![Note::Several { found, more }])
        }
    }
}

fn root_note(index: &Index<'_>, taken: &[EntryId], writer: Option<&'static str>) -> Note {
    let root: Vec<String> = taken.iter().map(|id| dotted(index, *id)).collect();
    let (others, more) = if taken.contains(&EntryId::ROOT) {
        (Vec::new(), 0)
    } else {
        Walk::below(index, EntryId::ROOT, taken).found(index)
    };
    Note::Root { root: root.join(", "), writer, others, more }
}

/// Children of a mapping by key.
struct Keys<'t>(HashMap<&'t str, EntryId>);

impl<'t> Keys<'t> {
    fn of(index: &Index<'t>, id: EntryId) -> Self {
        let mut keys = HashMap::new();
        for &child in index.children(id) {
            if let Some(Step::Key(key)) = index.tree().entry(child).map(|entry| &entry.step) {
                keys.entry(&**key).or_insert(child);
            }
        }
        Self(keys)
    }

    /// The first of these that holds weights and is a place of its own.
    fn first_live(&self, index: &Index<'_>, names: &[&str]) -> Option<EntryId> {
        let place = |id: &EntryId| {
            index.live(*id) > 0
                && matches!(index.kind(*id), Some(Kind::Mapping | Kind::Module | Kind::Object))
                && !index.is_tensor(*id)
        };
        names.iter().filter_map(|name| self.0.get(name)).copied().find(place)
    }
}

/// The outermost candidates below a place, and the tensors that stand in none.
#[derive(Default)]
struct Walk {
    candidates: Vec<EntryId>,
    loose: Vec<EntryId>,
}

impl Walk {
    /// Walks all but what is taken already.
    fn below(index: &Index<'_>, start: EntryId, taken: &[EntryId]) -> Self {
        let mut open: Vec<EntryId> = vec![start];
        for id in taken {
            open.extend(index.tree().ancestors(*id).skip(1).map(|(id, _)| id));
        }
        let mut walk = Self::default();
        let mut stack = vec![start];
        while let Some(id) = stack.pop() {
            if index.live(id) == 0 || taken.contains(&id) {
                continue;
            }
            if index.is_tensor(id) {
                walk.loose.push(id);
            } else if !open.contains(&id) && index.is_candidate(id) {
                match index.wrapped(id) {
                    Some(only) => stack.push(only),
                    None => walk.candidates.push(id),
                }
            } else {
                stack.extend(index.children(id).iter().rev());
            }
        }
        walk
    }

    /// The first few, and how many more.
    fn found(&self, index: &Index<'_>) -> (Vec<Found>, u64) {
        let all = self.candidates.iter().chain(&self.loose);
        let found =
            all.take(SHOWN).map(|id| Found { path: dotted(index, *id), tensors: u64::from(index.live(*id)) });
        let more = self.candidates.len().saturating_add(self.loose.len()).saturating_sub(SHOWN);
        (found.collect(), crate::bytes::length(more))
    }
}

/// The place of a dotted path. Keys may hold dots, so a path is tried in every way that it can be cut.
fn find(index: &Index<'_>, root: &str) -> Result<EntryId, Error> {
    let mut matches = Vec::new();
    let mut deepest = (EntryId::ROOT, 0);
    if root.is_empty() {
        matches.push(EntryId::ROOT);
    }
    let mut stack = vec![(EntryId::ROOT, 0_usize)];
    while let Some((id, at)) = stack.pop() {
        if at > deepest.1 {
            deepest = (id, at);
        }
        let Some(rest) = root.get(at..) else { continue };
        for &child in index.children(id) {
            let Some(entry) = index.tree().entry(child) else { continue };
            match rest.strip_prefix(&*entry.step.text()) {
                Some("") => matches.push(child),
                Some(more) if more.starts_with('.') => {
                    stack.push((child, root.len().saturating_sub(more.len()).saturating_add(1)));
                }
                _ => {}
            }
        }
    }
    matches.sort_unstable();
    let found = !matches.is_empty();
    matches.retain(|id| index.tensors(*id) > 0);
    match &*matches {
        [one] => Ok(*one),
        [first, second, ..] => {
            let path = |id: &EntryId| short_path(index.tree(), *id);
            let (first, second) = (path(first), path(second));
            Err(Structure::AmbiguousRoot { root: root.into(), first, second }.into())
        }
        [] => {
            let (root, near) = (root.to_owned(), near(index, root, deepest.0));
            let error = if found {
                Misuse::RootWithoutTensors { root, near }
            } else {
                Misuse::RootNotFound { root, near }
            };
            Err(error.into())
        }
    }
}

/// Places that may have been meant: of the same last name elsewhere, then those where the path breaks off.
fn near(index: &Index<'_>, root: &str, deepest: EntryId) -> Vec<String> {
    let last = root.rsplit('.').next().unwrap_or(root);
    let place = |id: &&EntryId| index.tensors(**id) > 0 && !index.is_tensor(**id) && **id != EntryId::ROOT;
    let named = index.order().iter().filter(place).filter(|id| {
        index.tree().entry(**id).is_some_and(|entry| entry.step.text().eq_ignore_ascii_case(last))
    });
    let mut near: Vec<String> = Vec::new();
    for id in named.chain(index.children(deepest).iter().filter(place)).take(SHOWN) {
        let path = dotted(index, *id);
        if !near.contains(&path) {
            near.push(path);
        }
    }
    near
}
