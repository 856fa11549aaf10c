//! The walk over the graph, in three steps of linear cost and without recursion:
//!
//! 1. every object that can be reached from the root is looked at once, and what makes a tensor is interpreted;
//! 2. from the tensors back along the references: which objects lead to one;
//! 3. from the root along those, once for every path, which gives each place its name. A container of many names is
//!    walked under each; what leads to no tensor is counted and not entered.

use std::collections::{HashMap, HashSet};

use crate::bytes::length;
use crate::limits::{LimitKind, check};
use crate::pickle::{Graph, NodeId};
use crate::tensor::{EntryId, Kind, Leaf, Step, Streams, TensorId, Tree};

use super::builder::{Builder, Context, Rebuilt};
use super::children::{Children, Link};
use super::error::{Error, ErrorKind};
use super::keep::{Tensors, keep};
use super::torch::{Made, Parts};

/// Interprets the object at `root`.
///
/// # Errors
/// The first call that cannot be interpreted as its library would; a limit.
pub fn rebuild(
    graph: &Graph,
    root: NodeId,
    context: Context<'_>,
    streams: &mut Streams,
) -> Result<Rebuilt, Error> {
    rebuild_at(graph, root, context, streams, Rebuilt::default(), (None, Step::Root))
}

/// Interprets the object at `root` and adds what it holds to what other parts of the source gave, at a place of its
/// own.
///
/// # Errors
/// As [`rebuild`].
pub fn rebuild_at(
    graph: &Graph,
    root: NodeId,
    context: Context<'_>,
    streams: &mut Streams,
    rebuilt: Rebuilt,
    at: (Option<EntryId>, Step),
) -> Result<Rebuilt, Error> {
    let mut builder = Builder::new(graph, context, streams);
    builder.continue_from(rebuilt);
    let mut walk = Walk {
        builder,
        leaves: HashMap::new(),
        attributes: HashMap::new(),
        shells: HashSet::new(),
        places: HashMap::new(),
        leads: vec![false; graph.len()],
        kinds: HashMap::new(),
        shared: HashMap::new(),
        extra_names: 0,
        text: 0,
    };
    walk.join(root)?;
    let references = walk.reach(root)?;
    walk.mark(references);
    let before = walk.builder.rebuilt.tree.len();
    let at_root = walk.builder.rebuilt.tree.next();
    walk.name(root, at)?;
    if context.values && walk.builder.rebuilt.tree.len() > before {
        let tensors = Tensors { places: &walk.places, attributes: &walk.attributes };
        let values = keep(&walk.builder, &tensors, root, at_root);
        walk.builder.rebuilt.values.push(values);
    }
    Ok(walk.builder.finish())
}

/// What an interpreted object is.
#[derive(Debug, Clone)]
enum Found {
    Tensor(TensorId),
    Parts {
        whole: Option<TensorId>,
        parts: Vec<(&'static str, TensorId)>,
    },
    LeftOut {
        reason: Box<str>,
        bytes: u64,
    },
    Fields(Vec<(Box<str>, Made)>),
    /// A checkpoint of its own, whose tensors are counted from here on.
    Nested(usize),
}

struct Walk<'a> {
    builder: Builder<'a>,
    leaves: HashMap<NodeId, Found>,
    /// States that carry further attributes of a tensor.
    attributes: HashMap<NodeId, Vec<NodeId>>,
    /// Tensors for which those in their attributes stand.
    shells: HashSet<NodeId>,
    /// The first place of each tensor, where values are kept.
    places: HashMap<NodeId, EntryId>,
    /// Whether a node is a tensor or leads to one.
    leads: Vec<bool>,
    /// Kinds of the objects made by calls, as far as they were asked for.
    kinds: HashMap<NodeId, Kind>,
    /// Children of the containers that were entered more than once.
    shared: HashMap<NodeId, Children<'a>>,
    /// Names that shared containers gave beyond their first.
    extra_names: u64,
    /// Bytes of names so far.
    text: u64,
}

impl<'a> Walk<'a> {
    /// Puts arrays together that their writer split.
    fn join(&mut self, root: NodeId) -> Result<(), Error> {
        let joined = self.builder.joined(root).map_err(|kind| self.error(root, kind))?;
        let arrays = joined.iter().flat_map(|joined| &joined.arrays);
        self.leaves.extend(arrays.map(|(id, tensor)| (*id, Found::Tensor(*tensor))));
        self.builder.joined = joined;
        Ok(())
    }

    /// Looks at every object once. Returns who refers to whom, as (child, parent).
    fn reach(&mut self, root: NodeId) -> Result<Vec<(NodeId, NodeId)>, Error> {
        let mut seen = vec![false; self.leads.len()];
        let mut references = Vec::new();
        let mut stack = vec![root];
        let mut children = Vec::new();
        while let Some(id) = stack.pop() {
            match seen.get_mut(id.index()) {
                Some(flag) if !*flag => *flag = true,
                _ => continue,
            }
            self.interpret(id)?;
            children.clear();
            self.children(id, &mut children);
            for (_, child) in &children {
                references.push((*child, id));
                stack.push(*child);
            }
        }
        Ok(references)
    }

    fn interpret(&mut self, id: NodeId) -> Result<(), Error> {
        if let Some(nested) = self.builder.context.nested.and_then(|nested| nested.get(&id)) {
            let before = self.builder.rebuilt.absorb(nested);
            self.leaves.insert(id, Found::Nested(before));
            return Ok(());
        }
        let found = match self.builder.make(id) {
            None => return Ok(()),
            Some(Ok(Made::Tensor(tensor, attributes))) => {
                if !attributes.is_empty() {
                    self.attributes.insert(id, attributes);
                }
                Found::Tensor(tensor)
            }
            Some(Ok(Made::Parts(Parts { whole, below, attributes }))) => {
                if !attributes.is_empty() {
                    self.attributes.insert(id, attributes);
                }
                Found::Parts { whole, parts: below }
            }
            Some(Ok(Made::Shell(attributes))) if attributes.is_empty() => {
                Found::LeftOut { reason: "no data".into(), bytes: 0 }
            }
            Some(Ok(Made::Shell(attributes))) => {
                self.attributes.insert(id, attributes);
                self.shells.insert(id);
                return Ok(());
            }
            Some(Ok(Made::LeftOut { reason, bytes })) => Found::LeftOut { reason: reason.into(), bytes },
            Some(Ok(Made::Fields(fields))) => Found::Fields(fields),
            Some(Err(kind)) if self.builder.context.skip_unresolved && kind.is_unresolved() => {
                Found::LeftOut { reason: format!("unresolved: {kind}").into(), bytes: 0 }
            }
            Some(Err(kind)) => return Err(self.error(id, kind)),
        };
        self.leaves.insert(id, found);
        Ok(())
    }

    fn error(&self, id: NodeId, kind: ErrorKind) -> Error {
        match self.builder.graph.call(id) {
            Some(call) => self.builder.error(call, kind),
            None => Error {
                callable: self.builder.graph.node(id).type_name().into(),
                offset: self.builder.offset(id),
                kind,
            },
        }
    }

    /// The children of an object; of a tensor, its further attributes.
    fn children(&self, id: NodeId, out: &mut Children<'a>) {
        match (self.attributes.get(&id), self.leaves.contains_key(&id)) {
            (Some(states), _) => {
                let first = out.len();
                for state in states {
                    self.builder.attributes(*state, out);
                }
                if self.shells.contains(&id) {
                    out.iter_mut().skip(first).for_each(|(link, _)| *link = link.part());
                }
            }
            (None, true) => {}
            (None, false) => _ = self.builder.children(id, out),
        }
    }

    /// Marks every object that leads to a tensor.
    fn mark(&mut self, mut references: Vec<(NodeId, NodeId)>) {
        references.sort_unstable();
        let mut stack: Vec<NodeId> = self.leaves.keys().copied().collect();
        while let Some(id) = stack.pop() {
            match self.leads.get_mut(id.index()) {
                Some(flag) if !*flag => *flag = true,
                _ => continue,
            }
            let start = references.partition_point(|(child, _)| *child < id);
            let parents = references.get(start..).unwrap_or_default().iter();
            stack.extend(parents.take_while(|(child, _)| *child == id).map(|(_, parent)| *parent));
        }
    }

    fn leads(&self, id: NodeId) -> bool {
        self.leads.get(id.index()).copied().unwrap_or(false)
    }

    /// Walks every path to a tensor and gives each place its entry.
    fn name(&mut self, root: NodeId, (parent, step): (Option<EntryId>, Step)) -> Result<(), Error> {
        let mut tree = std::mem::take(&mut self.builder.rebuilt.tree);
        let mut counted = vec![false; self.leads.len()];
        let mut entered = vec![false; self.leads.len()];
        let mut path = Path::default();
        let mut stack = vec![Visit::Enter { id: root, parent, step }];
        while let Some(visit) = stack.pop() {
            let (id, parent, step) = match visit {
                Visit::Enter { id, parent, step } => (id, parent, step),
                Visit::Leave(id) => {
                    path.leave(id);
                    continue;
                }
            };
            if !self.leads(id) {
                self.count(&mut tree, &mut counted, id, parent, step)?;
                continue;
            }
            self.remember(id, tree.next());
            if let Some(Found::Fields(fields)) = self.leaves.get(&id) {
                super::array::place(&mut tree, parent, step, Made::Fields(fields.clone()));
                continue;
            }
            if let Some(Found::Nested(before)) = self.leaves.get(&id) {
                let before = *before;
                self.place_nested(&mut tree, &mut entered, id, (parent, step), before)?;
                continue;
            }
            let kind = self.kind(id);
            if self.leaves.contains_key(&id) && !self.attributes.contains_key(&id) {
                let entry = tree.push(parent, step, kind);
                self.push_parts(&mut tree, id, entry);
                continue;
            }
            let limits = self.builder.context.limits;
            let half = length(limits.extra_names).checked_div(2).unwrap_or(0);
            let again = tree.len() < self.leads.len() && self.extra_names < half;
            if !path.enter(id, &kind, again) {
                continue;
            }
            stack.push(Visit::Leave(id));
            check(LimitKind::Depth, length(limits.depth), length(path.open.len()))
                .map_err(|e| self.error(id, e.into()))?;
            let mut children = self.listed(id, &mut entered)?;
            let is_module = kind == Kind::Module;
            let entry = tree.push(parent, step, kind);
            self.push_parts(&mut tree, id, entry);
            if is_module {
                self.count_together(&mut tree, &mut counted, entry, id, &mut children)?;
            }
            let first = stack.len();
            for (position, (link, child)) in children.iter().enumerate() {
                let step = self.builder.step(*link, position);
                self.spend_text(id, step.text().len())?;
                stack.push(Visit::Enter { id: *child, parent: Some(entry), step });
            }
            stack.get_mut(first..).unwrap_or_default().reverse();
        }
        self.builder.rebuilt.tree = tree;
        Ok(())
    }

    /// Remembers the first place of a tensor. An array that safetensors cannot hold, and that lies in the pickle, is a value
    /// like others.
    fn remember(&mut self, id: NodeId, entry: EntryId) {
        let value = match self.leaves.get(&id) {
            Some(Found::LeftOut { .. }) => true,
            Some(Found::Fields(fields)) => {
                fields.iter().any(|(_, made)| matches!(made, Made::LeftOut { .. } | Made::Fields(_)))
            }
            Some(_) => false,
            None => return,
        };
        if self.builder.context.values && !(value && self.builder.is_embedded_array(id)) {
            self.places.entry(id).or_insert(entry);
        }
    }

    /// A checkpoint of its own. Each place but the first repeats all of its names, which is paid for.
    fn place_nested(
        &mut self,
        tree: &mut Tree,
        entered: &mut [bool],
        id: NodeId,
        at: (Option<EntryId>, Step),
        before: usize,
    ) -> Result<(), Error> {
        let Some(nested) = self.builder.context.nested.and_then(|nested| nested.get(&id)) else {
            return Ok(());
        };
        let again = entered.get_mut(id.index()).is_some_and(|flag| std::mem::replace(flag, true));
        if again {
            self.spend_names(id, nested.tree.len())?;
        }
        for (_, entry) in nested.tree.iter() {
            self.spend_text(id, entry.step.text().len())?;
        }
        let (parent, step) = at;
        let step = super::graft::at(step);
        super::graft::graft_tree(tree, &nested.tree, before, parent, |entry| Some(step(entry)));
        Ok(())
    }

    /// The parts of a tensor that safetensors has no type for. There are at most four, so that they cost no more than
    /// the place that they stand at.
    fn push_parts(&self, tree: &mut Tree, id: NodeId, entry: EntryId) {
        if let Some(Found::Parts { parts, .. }) = self.leaves.get(&id) {
            for (name, tensor) in parts {
                tree.push(Some(entry), Step::Part((*name).into()), Kind::Leaf(Leaf::Tensor(*tensor)));
            }
        }
    }

    /// What stands at a node. Whether an object is a module takes a look at all of its state, which is taken once.
    fn kind(&mut self, id: NodeId) -> Kind {
        match self.leaves.get(&id) {
            Some(Found::Tensor(tensor) | Found::Parts { whole: Some(tensor), .. }) => {
                Kind::Leaf(Leaf::Tensor(*tensor))
            }
            Some(Found::Parts { whole: None, .. }) => Kind::Object,
            None if self.shells.contains(&id) => Kind::Object,
            Some(Found::LeftOut { reason, bytes }) => {
                Kind::Leaf(Leaf::LeftOut { reason: reason.clone(), bytes: *bytes })
            }
            Some(Found::Fields(_) | Found::Nested(_)) => Kind::Mapping,
            None if self.builder.graph.call(id).is_none() => self.builder.kind(id),
            None => self.kinds.entry(id).or_insert_with(|| self.builder.kind(id)).clone(),
        }
    }

    /// The children of an object that is entered. From the second time on, each is a further name, which is paid for,
    /// and they are kept: to list them may cost more than there are.
    fn listed(&mut self, id: NodeId, entered: &mut [bool]) -> Result<Children<'a>, Error> {
        let again = entered.get_mut(id.index()).is_some_and(|flag| std::mem::replace(flag, true));
        if !again {
            let mut children = Vec::new();
            self.children(id, &mut children);
            return Ok(children);
        }
        let children = if let Some(children) = self.shared.get(&id) {
            children.clone()
        } else {
            let mut children = Vec::new();
            self.children(id, &mut children);
            self.shared.insert(id, children.clone());
            children
        };
        self.spend_names(id, children.len())?;
        Ok(children)
    }

    /// Further names of objects that have one already.
    fn spend_names(&mut self, id: NodeId, names: usize) -> Result<(), Error> {
        let limits = self.builder.context.limits;
        self.extra_names = self.extra_names.saturating_add(length(names).max(1));
        check(LimitKind::ExtraNames, length(limits.extra_names), self.extra_names)
            .map_err(|e| self.error(id, e.into()))
    }

    /// Names repeat text of the pickle, which two bytes refer to.
    fn spend_text(&mut self, id: NodeId, bytes: usize) -> Result<(), Error> {
        self.text = self.text.saturating_add(length(bytes));
        check(LimitKind::StringBytes, self.builder.context.limits.string_bytes, self.text)
            .map_err(|e| self.error(id, e.into()))
    }

    /// One entry for a part of the source that holds no tensor.
    fn count(
        &mut self,
        tree: &mut Tree,
        counted: &mut [bool],
        id: NodeId,
        parent: Option<EntryId>,
        step: Step,
    ) -> Result<(), Error> {
        let count = self.builder.count_values(id, counted);
        if count > 0 {
            let type_name = self.builder.type_name(id);
            self.spend_text(id, type_name.len())?;
            tree.push(parent, step, Kind::Leaf(Leaf::Values { type_name, count }));
        }
        Ok(())
    }

    /// A module has a dozen attributes that are no tensors: they are counted together and taken from its children.
    fn count_together(
        &mut self,
        tree: &mut Tree,
        counted: &mut [bool],
        entry: EntryId,
        module: NodeId,
        children: &mut Children<'a>,
    ) -> Result<(), Error> {
        let values = children
            .extract_if(.., |(link, child)| matches!(link, Link::Attribute(_)) && !self.leads(*child));
        let count =
            values.fold(0_u64, |n, (_, child)| n.saturating_add(self.builder.count_values(child, counted)));
        if count > 0 {
            let type_name = self.builder.type_name(module);
            self.spend_text(module, type_name.len())?;
            tree.push(Some(entry), Step::Root, Kind::Leaf(Leaf::Values { type_name, count }));
        }
        Ok(())
    }
}

enum Visit {
    Enter { id: NodeId, parent: Option<EntryId>, step: Step },
    Leave(NodeId),
}

/// The objects that are open on the way to the current one.
#[derive(Default)]
struct Path {
    open: HashSet<NodeId>,
    /// Objects other than containers and modules that were entered. They may refer to each other in ways that would
    /// give a tensor more names than there are atoms: once places outnumber objects, or shared ones have given half
    /// the names that they may, each is entered no more.
    objects: HashSet<NodeId>,
}

impl Path {
    /// False where the object is open already (a cycle), or may not be entered `again`.
    fn enter(&mut self, id: NodeId, kind: &Kind, again: bool) -> bool {
        (*kind != Kind::Object || self.objects.insert(id) || again) && self.open.insert(id)
    }

    fn leave(&mut self, id: NodeId) {
        self.open.remove(&id);
    }
}
