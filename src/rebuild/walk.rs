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
    let mut walk = Walk {
        builder: Builder::new(graph, context, streams),
        leaves: HashMap::new(),
        attributes: HashMap::new(),
        shells: HashSet::new(),
        leads: vec![false; graph.len()],
    };
    let references = walk.reach(root)?;
    walk.mark(references);
    walk.name(root)?;
    Ok(walk.builder.finish())
}

/// What an interpreted object is.
#[derive(Debug, Clone)]
enum Found {
    Tensor(TensorId),
    Parts { whole: Option<TensorId>, parts: Vec<(&'static str, TensorId)> },
    LeftOut { reason: Box<str>, bytes: u64 },
}

struct Walk<'a> {
    builder: Builder<'a>,
    leaves: HashMap<NodeId, Found>,
    /// States that carry further attributes of a tensor.
    attributes: HashMap<NodeId, Vec<NodeId>>,
    /// Tensors for which those in their attributes stand.
    shells: HashSet<NodeId>,
    /// Whether a node is a tensor or leads to one.
    leads: Vec<bool>,
}

impl<'a> Walk<'a> {
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
    fn name(&mut self, root: NodeId) -> Result<(), Error> {
        let mut tree = Tree::default();
        let mut counted = vec![false; self.leads.len()];
        let mut path = Path::default();
        let mut stack = vec![Visit::Enter { id: root, parent: None, step: Step::Root }];
        while let Some(visit) = stack.pop() {
            let (id, parent, step) = match visit {
                Visit::Enter { id, parent, step } => (id, parent, step),
                Visit::Leave(id) => {
                    path.leave(id);
                    continue;
                }
            };
            if !self.leads(id) {
                self.count(&mut tree, &mut counted, id, parent, step);
                continue;
            }
            let leaf = self.leaves.get(&id).cloned();
            let again = tree.len() < self.leads.len();
            let is_leaf = leaf.is_some();
            let kind = self.kind(id, leaf.as_ref());
            if !is_leaf && !path.enter(id, &kind, again) {
                continue;
            }
            self.check(&tree, &path).map_err(|kind| self.error(id, kind))?;
            let is_module = kind == Kind::Module;
            let entry = tree.push(parent, step, kind);
            if let Some(Found::Parts { parts, .. }) = leaf {
                for (name, tensor) in parts {
                    tree.push(Some(entry), Step::Part(name.into()), Kind::Leaf(Leaf::Tensor(tensor)));
                }
            }
            if !is_leaf {
                stack.push(Visit::Leave(id));
            }
            let mut children = Vec::new();
            self.children(id, &mut children);
            if is_module {
                self.count_together(&mut tree, &mut counted, entry, id, &mut children);
            }
            let steps = children.iter().enumerate().map(|(position, (link, child))| Visit::Enter {
                id: *child,
                parent: Some(entry),
                step: self.builder.step(*link, position),
            });
            let first = stack.len();
            stack.extend(steps);
            stack.get_mut(first..).unwrap_or_default().reverse();
        }
        self.builder.rebuilt.tree = tree;
        Ok(())
    }

    fn kind(&self, id: NodeId, leaf: Option<&Found>) -> Kind {
        match leaf {
            Some(Found::Tensor(tensor) | Found::Parts { whole: Some(tensor), .. }) => {
                Kind::Leaf(Leaf::Tensor(*tensor))
            }
            Some(Found::Parts { whole: None, .. }) => Kind::Object,
            Some(Found::LeftOut { reason, bytes }) => {
                Kind::Leaf(Leaf::LeftOut { reason: reason.clone(), bytes: *bytes })
            }
            None if self.shells.contains(&id) => Kind::Object,
            None => self.builder.kind(id),
        }
    }

    fn check(&self, tree: &Tree, path: &Path) -> Result<(), ErrorKind> {
        let limits = self.builder.context.limits;
        check(LimitKind::Depth, length(limits.depth), length(path.open.len()))?;
        // Each object and its parts, of which there are at most four.
        let allowed = self.leads.len().saturating_mul(5).saturating_add(limits.extra_names);
        Ok(check(LimitKind::ExtraNames, length(allowed), length(tree.len()))?)
    }

    /// One entry for a part of the source that holds no tensor.
    fn count(&self, tree: &mut Tree, counted: &mut [bool], id: NodeId, parent: Option<EntryId>, step: Step) {
        let count = self.builder.count_values(id, counted);
        if count > 0 {
            let type_name = self.builder.type_name(id);
            tree.push(parent, step, Kind::Leaf(Leaf::Values { type_name, count }));
        }
    }

    /// A module has a dozen attributes that are no tensors: they are counted together and taken from its children.
    fn count_together(
        &self,
        tree: &mut Tree,
        counted: &mut [bool],
        entry: EntryId,
        module: NodeId,
        children: &mut Children<'a>,
    ) {
        let values = children
            .extract_if(.., |(link, child)| matches!(link, Link::Attribute(_)) && !self.leads(*child));
        let count =
            values.fold(0_u64, |n, (_, child)| n.saturating_add(self.builder.count_values(child, counted)));
        if count > 0 {
            let type_name = self.builder.type_name(module);
            tree.push(Some(entry), Step::Root, Kind::Leaf(Leaf::Values { type_name, count }));
        }
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
    /// give a tensor more names than there are atoms: once places outnumber objects, each is entered no more.
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
