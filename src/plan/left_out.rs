//! What is left out, told by the largest places that are left out whole and for one reason.

use std::collections::HashMap;

use super::error::Structure;
use super::index::Index;
use super::names::Purse;
use super::reason::Reason;
use super::select::Status;
use crate::tensor::{EntryId, Kind, Leaf};

/// Tensors of the source that are not written, all for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The place that holds them and nothing that is written.
    pub entry: EntryId,
    /// Steps to it from the root of the source.
    pub path: Vec<String>,
    /// How many.
    pub tensors: u64,
    /// Their bytes, each counted where it is named.
    pub bytes: u64,
    /// Why.
    pub reason: Reason,
}

/// What a place says of the tensors below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Below<T> {
    /// There are none.
    #[default]
    Nothing,
    /// All are left out for one reason.
    Whole(T),
    /// Some are written, or there are several reasons.
    Mixed,
}

impl<T: Copy + PartialEq> Below<T> {
    fn add(&mut self, other: Self) {
        *self = match (*self, other) {
            (Self::Nothing, other) => other,
            (own, Self::Nothing) => own,
            (own, other) if own == other => own,
            _ => Self::Mixed,
        };
    }
}

/// The groups of what is left out.
///
/// Tensors that cannot be written keep their own reason wherever they stand and form groups of their own; a place is
/// left out whole whether or not it holds some of them.
///
/// # Errors
/// Paths that are too long.
pub(super) fn left_out(
    index: &Index<'_>,
    statuses: &[Status],
    nbytes: impl Fn(EntryId) -> u64,
) -> Result<Vec<LeftOut>, Structure> {
    let mut sources: Vec<&str> = Vec::new();
    let mut ids: HashMap<&str, u32> = HashMap::new();
    let by_rule = |id: EntryId| match (index.kind(id), statuses.get(id.index())) {
        (Some(Kind::Leaf(Leaf::Tensor(_))), Some(Status::Out(rule))) => Below::Whole(*rule),
        (Some(Kind::Leaf(Leaf::Tensor(_))), _) => Below::Mixed,
        _ => Below::Nothing,
    };
    let mut by_source = |id: EntryId| match index.kind(id) {
        Some(Kind::Leaf(Leaf::LeftOut { reason, .. })) => {
            let next = u32::try_from(sources.len()).unwrap_or(u32::MAX);
            Below::Whole(*ids.entry(reason).or_insert_with(|| {
                sources.push(reason);
                next
            }))
        }
        Some(Kind::Leaf(Leaf::Tensor(_))) => Below::Mixed,
        _ => Below::Nothing,
    };
    let mut groups = group(index, by_rule, &nbytes, Reason::Rule);
    let lost = |id: EntryId| match index.kind(id) {
        Some(Kind::Leaf(Leaf::LeftOut { bytes, .. })) => *bytes,
        _ => 0,
    };
    let named: Vec<Below<u32>> = index.order().iter().map(|id| by_source(*id)).collect();
    let reason = |id: u32| {
        let text = usize::try_from(id).ok().and_then(|id| sources.get(id));
        Reason::Source((*text.unwrap_or(&"")).into())
    };
    groups.extend(group(index, |id| named.get(id.index()).copied().unwrap_or_default(), &lost, reason));
    groups.sort_by_key(|group| group.place);
    let mut purse = Purse::new(groups.len());
    groups
        .into_iter()
        .map(|group| {
            let path = purse.path(index.tree(), group.place)?;
            Ok(LeftOut {
                entry: group.place,
                path,
                tensors: group.tensors,
                bytes: group.bytes,
                reason: group.reason,
            })
        })
        .collect()
}

struct Group {
    place: EntryId,
    tensors: u64,
    bytes: u64,
    reason: Reason,
}

fn group<T: Copy + PartialEq>(
    index: &Index<'_>,
    leaf: impl Fn(EntryId) -> Below<T>,
    nbytes: &impl Fn(EntryId) -> u64,
    reason: impl Fn(T) -> Reason,
) -> Vec<Group> {
    const NONE: u32 = u32::MAX;
    let tree = index.tree();
    let mut below: Vec<Below<T>> = index.order().iter().map(|id| leaf(*id)).collect();
    for &id in index.order().iter().rev() {
        let own = below.get(id.index()).copied().unwrap_or(Below::Nothing);
        let parent = tree.entry(id).and_then(|entry| entry.parent);
        if let Some(slot) = parent.and_then(|parent| below.get_mut(parent.index())) {
            slot.add(own);
        }
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut member = vec![NONE; below.len()];
    for &id in index.order() {
        let own = below.get(id.index()).copied().unwrap_or(Below::Nothing);
        let parent = tree.entry(id).and_then(|entry| entry.parent).map(EntryId::index);
        let whole = match own {
            Below::Whole(whole) => Some(whole),
            // A tensor whose parts fare differently.
            _ => match leaf(id) {
                Below::Whole(whole) => Some(whole),
                _ => None,
            },
        };
        let Some(whole) = whole else { continue };
        let inherited = parent.filter(|parent| below.get(*parent) == Some(&own)).and_then(|p| member.get(p));
        let group = match inherited.copied() {
            Some(group) if group != NONE => group,
            _ => {
                groups.push(Group { place: id, tensors: 0, bytes: 0, reason: reason(whole) });
                u32::try_from(groups.len().saturating_sub(1)).unwrap_or(NONE)
            }
        };
        if let Some(slot) = member.get_mut(id.index()) {
            *slot = group;
        }
        if leaf(id) != Below::Nothing
            && let Some(group) = usize::try_from(group).ok().and_then(|group| groups.get_mut(group))
        {
            group.tensors = group.tensors.saturating_add(1);
            group.bytes = group.bytes.saturating_add(nbytes(id));
        }
    }
    groups
}
