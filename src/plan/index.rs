//! [`Index`]: the tree with children, and for each place how many tensors it holds that may be weights.
//!
//! Four passes over the entries, none of them recursive; 28 bytes an entry.

use super::reason::{Rule, never};
use crate::tensor::{Entry, EntryId, Kind, Leaf, Step, Tree};

/// What the passes note of one entry.
#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, 16 bytes for each of a million entries"
)]
struct Facts {
    /// Tensors at and below it.
    tensors: u32,
    /// Those among them that may be weights.
    live: u32,
    /// What its key, or one above it, says that it holds.
    rule: Option<Rule>,
    /// One tensor in several parts.
    parts: bool,
    /// A value that is no tensor stands below it.
    values: bool,
    /// The same, not counting places that never hold weights.
    live_values: bool,
    /// It or a place above it is a module: its names are its own business.
    module: bool,
    /// `state_dict()` of a module above does not give it.
    hidden: bool,
    /// The root, or all that the root holds.
    top: bool,
}

/// A tree, ready for questions about its places.
#[derive(Debug)]
pub(super) struct Index<'t> {
    tree: &'t Tree,
    /// Every entry, in order.
    order: Vec<EntryId>,
    /// Where the children of each entry begin.
    starts: Vec<u32>,
    /// Children of the first entry, then of the second, and so on.
    children: Vec<EntryId>,
    facts: Vec<Facts>,
}

impl<'t> Index<'t> {
    pub(super) fn new(tree: &'t Tree) -> Self {
        let (starts, children) = children(tree);
        let mut index = Self {
            tree,
            order: tree.iter().map(|(id, _)| id).collect(),
            starts,
            children,
            facts: vec![Facts::default(); tree.len()],
        };
        index.count();
        index.judge();
        index.count_live();
        index
    }

    pub(super) fn tree(&self) -> &'t Tree {
        self.tree
    }

    /// Every entry; parents stand before children.
    pub(super) fn order(&self) -> &[EntryId] {
        &self.order
    }

    pub(super) fn children(&self, id: EntryId) -> &[EntryId] {
        let bound = |at: usize| self.starts.get(at).and_then(|n| usize::try_from(*n).ok());
        let (start, end) = (bound(id.index()), bound(id.index().saturating_add(1)));
        start.zip(end).and_then(|(start, end)| self.children.get(start..end)).unwrap_or_default()
    }

    fn entry(&self, id: EntryId) -> Option<&'t Entry> {
        self.tree.entry(id)
    }

    pub(super) fn kind(&self, id: EntryId) -> Option<&'t Kind> {
        self.entry(id).map(|entry| &entry.kind)
    }

    fn facts(&self, id: EntryId) -> Facts {
        self.facts.get(id.index()).copied().unwrap_or_default()
    }

    fn edit(&mut self, id: EntryId, edit: impl FnOnce(&mut Facts)) {
        if let Some(facts) = self.facts.get_mut(id.index()) {
            edit(facts);
        }
    }

    /// Tensors at and below a place.
    pub(super) fn tensors(&self, id: EntryId) -> u32 {
        self.facts(id).tensors
    }

    /// Tensors at and below a place that may be weights.
    pub(super) fn live(&self, id: EntryId) -> u32 {
        self.facts(id).live
    }

    /// What the keys on the way to a place say that it holds, if that is never weights.
    pub(super) fn rule(&self, id: EntryId) -> Option<Rule> {
        self.facts(id).rule
    }

    /// Whether a place is one tensor, perhaps in parts.
    pub(super) fn is_tensor(&self, id: EntryId) -> bool {
        self.facts(id).parts
            || matches!(self.kind(id), Some(Kind::Leaf(Leaf::Tensor(_) | Leaf::LeftOut { .. })))
    }

    /// Its children that hold weights and are no tensors themselves.
    pub(super) fn live_containers(&self, id: EntryId) -> impl Iterator<Item = EntryId> {
        self.children(id).iter().copied().filter(|child| self.live(*child) > 0 && !self.is_tensor(*child))
    }

    /// Whether a tensor that may be a weight stands directly in it.
    pub(super) fn has_live_tensor(&self, id: EntryId) -> bool {
        self.children(id).iter().any(|child| self.live(*child) > 0 && self.is_tensor(*child))
    }

    /// The one container in it, where it holds nothing else.
    pub(super) fn wrapped(&self, id: EntryId) -> Option<EntryId> {
        if self.has_live_tensor(id) || !matches!(self.kind(id), Some(Kind::Mapping | Kind::Sequence)) {
            return None;
        }
        let mut containers = self.live_containers(id);
        containers.next().filter(|_| containers.next().is_none())
    }

    /// Whether it can be the root: a module, or a mapping of tensors.
    pub(super) fn is_candidate(&self, id: EntryId) -> bool {
        self.live(id) > 0
            && match self.kind(id) {
                Some(Kind::Module) => true,
                Some(Kind::Mapping) => !self.facts(id).live_values || self.has_live_tensor(id),
                _ => false,
            }
    }

    /// Whether it holds nothing but tensors, or is a module: what stands there are weights whatever its keys say.
    pub(super) fn is_pure(&self, id: EntryId) -> bool {
        matches!(self.kind(id), Some(Kind::Module)) || !self.facts(id).values
    }

    /// Tensors and values below each place.
    fn count(&mut self) {
        for at in (0..self.order.len()).rev() {
            let Some((id, entry)) = self.order.get(at).and_then(|id| Some((*id, self.entry(*id)?))) else {
                continue;
            };
            match entry.kind {
                Kind::Leaf(Leaf::Tensor(_)) => self.edit(id, |f| f.tensors = f.tensors.saturating_add(1)),
                Kind::Leaf(Leaf::Values { count, .. }) => {
                    // What hangs on a state_dict as an attribute (`_metadata`) does not make it less of one.
                    let counts = count > 0 && !matches!(entry.step, Step::Attribute(_));
                    self.edit(id, |f| f.values |= counts);
                }
                _ => {}
            }
            let own = self.facts(id);
            if let Some(parent) = entry.parent {
                let part = matches!(entry.step, Step::Part(_));
                self.edit(parent, |f| {
                    f.tensors = f.tensors.saturating_add(own.tensors);
                    f.values |= own.values;
                    f.parts |= part;
                });
            }
        }
    }

    /// What the keys say, from the root down.
    fn judge(&mut self) {
        self.edit(EntryId::ROOT, |f| f.top = true);
        if self.is_optimizer(EntryId::ROOT) {
            self.edit(EntryId::ROOT, |f| f.rule = Some(Rule::Optimizer));
        }
        for at in 0..self.order.len() {
            let Some(id) = self.order.get(at).copied() else { continue };
            if self.children(id).is_empty() {
                continue;
            }
            let module = matches!(self.kind(id), Some(Kind::Module));
            self.edit(id, |f| f.module |= module);
            self.judge_children(id, module);
        }
    }

    fn judge_children(&mut self, id: EntryId, module: bool) {
        let own = self.facts(id);
        // Below a pure mapping of tensors keys are names of layers; the outermost level is the writer's.
        let judged = own.rule.is_none() && !own.module && !own.parts && (own.top || own.values);
        let (start, len) = (self.first_child(id), self.children(id).len());
        let mut containers = false;
        for at in start..start.saturating_add(len) {
            let Some((child, entry)) = self.child_at(at) else { continue };
            let hidden = module && matches!(entry.step, Step::NonPersistent(_) | Step::Attribute(_));
            let rule =
                if judged && !self.is_tensor(child) { self.judged(child, &entry.step) } else { own.rule };
            containers |= rule.is_none() && !self.is_tensor(child) && self.tensors(child) > 0;
            self.edit(child, |f| {
                f.module = own.module;
                f.hidden = own.hidden || hidden;
                f.rule = rule;
            });
        }
        if judged && containers {
            // A tensor of such a name beside mappings of tensors is `rng_state`; in a flat mapping it is a weight.
            for at in start..start.saturating_add(len) {
                let Some((child, entry)) = self.child_at(at) else { continue };
                if self.is_tensor(child) {
                    let rule = named(&entry.step);
                    self.edit(child, |f| f.rule = rule);
                }
            }
        }
        if own.top {
            self.mark_wrapped(start, len);
        }
    }

    fn mark_wrapped(&mut self, start: usize, len: usize) {
        let mut live = (start..start.saturating_add(len))
            .filter_map(|at| self.child_at(at))
            .map(|(child, _)| child)
            .filter(|child| self.rule(*child).is_none() && self.tensors(*child) > 0);
        if let Some(only) = live.next().filter(|_| live.next().is_none()) {
            self.edit(only, |f| f.top = true);
        }
    }

    fn first_child(&self, id: EntryId) -> usize {
        self.starts.get(id.index()).and_then(|n| usize::try_from(*n).ok()).unwrap_or(usize::MAX)
    }

    fn child_at(&self, at: usize) -> Option<(EntryId, &'t Entry)> {
        let id = *self.children.get(at)?;
        self.entry(id).map(|entry| (id, entry))
    }

    fn judged(&self, id: EntryId, step: &Step) -> Option<Rule> {
        named(step).or_else(|| self.is_optimizer(id).then_some(Rule::Optimizer))
    }

    /// Whether it has the form that `torch.optim.Optimizer.state_dict()` gives, whatever its key.
    fn is_optimizer(&self, id: EntryId) -> bool {
        let has = |key: &str| {
            // Both keys stand among the first few: never search a state_dict of a million.
            self.children(id).iter().take(8).any(
                |child| matches!(self.entry(*child), Some(Entry { step: Step::Key(k), .. }) if **k == *key),
            )
        };
        matches!(self.kind(id), Some(Kind::Mapping)) && has("state") && has("param_groups")
    }

    /// Tensors that may be weights below each place.
    fn count_live(&mut self) {
        for at in (0..self.order.len()).rev() {
            let Some((id, entry)) = self.order.get(at).and_then(|id| Some((*id, self.entry(*id)?))) else {
                continue;
            };
            let own = self.facts(id);
            if own.rule.is_some() || own.hidden {
                // Nothing below it counts for those above.
                self.edit(id, |f| f.live = 0);
                continue;
            }
            let tensor = u32::from(matches!(entry.kind, Kind::Leaf(Leaf::Tensor(_))));
            let values = matches!(entry.kind, Kind::Leaf(_)) && own.values;
            self.edit(id, |f| {
                f.live = f.live.saturating_add(tensor);
                f.live_values |= values;
            });
            let own = self.facts(id);
            if let Some(parent) = entry.parent {
                self.edit(parent, |f| {
                    f.live = f.live.saturating_add(own.live);
                    f.live_values |= own.live_values;
                });
            }
        }
    }
}

fn named(step: &Step) -> Option<Rule> {
    match step {
        Step::Key(name) | Step::Attribute(name) => never(name),
        _ => None,
    }
}

/// Children of every entry, one after the other, and where those of each begin.
fn children(tree: &Tree) -> (Vec<u32>, Vec<EntryId>) {
    let mut starts = vec![0_u32; tree.len().saturating_add(1)];
    let mut children = vec![EntryId::ROOT; tree.len()];
    for (_, entry) in tree.iter() {
        if let Some(n) = entry.parent.and_then(|parent| starts.get_mut(parent.index())) {
            *n = n.saturating_add(1);
        }
    }
    let mut total = 0_u32;
    for start in &mut starts {
        total = total.saturating_add(std::mem::replace(start, total));
    }
    let mut next = starts.clone();
    for (id, entry) in tree.iter() {
        let Some(at) = entry.parent.and_then(|parent| next.get_mut(parent.index())) else { continue };
        if let Some(slot) = usize::try_from(*at).ok().and_then(|at| children.get_mut(at)) {
            *slot = id;
        }
        *at = at.saturating_add(1);
    }
    (starts, children)
}
