//! What an object holds, as a user of Python would see it: entries, items, attributes.

use crate::pickle::{Call, Node, NodeId};
use crate::tensor::{Kind, Step};

use super::allow::Callable;
use super::builder::Builder;

/// How a child is reached; turned into a [`Step`] only for those that lead to tensors.
#[derive(Debug, Clone, Copy)]
pub(super) enum Link<'a> {
    Key(NodeId),
    Index(usize),
    Member(NodeId),
    NonPersistent(NodeId),
    Attribute(NodeId),
    Named(&'a str),
    /// An attribute of a tensor for which its attributes stand.
    Part(NodeId),
}

impl Link<'_> {
    /// The same link, of a tensor for which its attributes stand.
    pub(super) fn part(self) -> Self {
        match self {
            Self::Attribute(key) => Self::Part(key),
            other => other,
        }
    }
}

pub(super) type Children<'a> = Vec<(Link<'a>, NodeId)>;

impl<'a> Builder<'a> {
    /// The children of a node in order. Says whether it is a container at all, even an empty one.
    pub(super) fn children(&self, id: NodeId, out: &mut Children<'a>) -> bool {
        let graph = self.graph;
        let id = self.untagged(id);
        match graph.node(id) {
            Node::Dict(items) => match &self.joined {
                Some(joined) if joined.dictionary == id => keyed(&joined.entries, out),
                _ => keyed(&graph.entries(items), out),
            },
            Node::List(items) | Node::Set(items) => indexed(items, out),
            Node::Tuple(items) | Node::FrozenSet(items) => indexed(items, out),
            Node::Call(call) => return self.call_children(id, call, out),
            Node::Persistent(_) => return self.packaged_children(id, out),
            _ => return false,
        }
        true
    }

    /// What the reader of `torch.package` would make of a function and arguments: the module whose state is the first of
    /// them (`torch.fx.GraphModule`), or the arguments as they are.
    fn packaged_children(&self, id: NodeId, out: &mut Children<'a>) -> bool {
        let Some((_, args)) = self.graph.package_call(id) else { return false };
        let args = self.graph.sequence(args).unwrap_or_default();
        let parts = args.first().and_then(|state| self.state_parts(*state));
        match parts {
            Some(parts) => self.part_children(parts, out),
            None => indexed(args, out),
        }
        true
    }

    /// The container in `restore_type_tag(container, type)`; anything else as it is.
    fn untagged(&self, id: NodeId) -> NodeId {
        let inside = || {
            let call = self.graph.call(id)?;
            let tagged = self.callable(call.callable) == Some(Callable::Tagged);
            let inside = *self.graph.tuple(call.args).filter(|_| tagged)?.first()?;
            let container = match self.graph.node(inside) {
                Node::Dict(_) | Node::List(_) | Node::Tuple(_) => true,
                Node::Call(call) => self.callable(call.callable) == Some(Callable::Sequence),
                _ => false,
            };
            let alone =
                call.states().next().is_none() && call.items().is_empty() && call.appended().is_empty();
            (container && alone).then_some(inside)
        };
        inside().unwrap_or(id)
    }

    /// What kind of place an object is.
    pub(super) fn kind(&self, id: NodeId) -> Kind {
        match self.graph.node(self.untagged(id)) {
            Node::Dict(_) => Kind::Mapping,
            Node::Call(call) => match self.callable(call.callable) {
                Some(Callable::Mapping | Callable::DefaultDict) => Kind::Mapping,
                Some(_) => Kind::Sequence,
                None if self.is_module(call) => Kind::Module,
                None if !call.items().is_empty() => Kind::Mapping,
                None if !call.appended().is_empty() => Kind::Sequence,
                None => Kind::Object,
            },
            Node::Persistent(_) => {
                let args = self.graph.package_call(id).and_then(|(_, args)| self.graph.sequence(args));
                let module = args.and_then(|args| self.state_parts(*args.first()?)).is_some();
                if module { Kind::Module } else { Kind::Object }
            }
            _ => Kind::Sequence,
        }
    }

    fn call_children(&self, id: NodeId, call: &'a Call, out: &mut Children<'a>) -> bool {
        match self.callable(call.callable) {
            Some(Callable::Mapping | Callable::DefaultDict) => {
                match self.mapping(id) {
                    Some(entries) => keyed(&entries, out),
                    None => return self.uninterpreted(call, out),
                }
                call.states().for_each(|state| self.attributes(state, out));
                indexed(call.appended(), out);
            }
            Some(Callable::Sequence) => {
                let Some(items) = self.items(id) else { return self.uninterpreted(call, out) };
                let mut items = items.to_vec();
                items.extend(call.appended());
                indexed(&items, out);
                keyed(&self.graph.entries(call.items()), out);
                call.states().for_each(|state| self.attributes(state, out));
            }
            Some(Callable::Tagged) => indexed(self.graph.sequence(call.args).unwrap_or_default(), out),
            Some(Callable::NdArray | Callable::JoblibArray | Callable::RebuiltArray) => {
                indexed(self.object_array(call).unwrap_or_default(), out);
            }
            Some(_) => return false,
            None if self.module_children(call, out) => {}
            None => self.inert(call, out),
        }
        true
    }

    /// A container made from something that is not read here: what it was given is walked as it is, so that no tensor
    /// in it is lost.
    fn uninterpreted(&self, call: &'a Call, out: &mut Children<'a>) -> bool {
        self.inert(call, out);
        true
    }

    /// An object that is not interpreted: arguments by position, state by attribute, then what was set and appended.
    fn inert(&self, call: &'a Call, out: &mut Children<'a>) {
        let graph = self.graph;
        match self.global_name(call.callable) {
            // (class, base, state of the base)
            Some(("copyreg", "_reconstructor")) => {
                let base = graph.tuple(call.args).and_then(|args| args.get(2));
                if let Some(state) = base {
                    self.attributes(*state, out);
                }
            }
            _ => match self.persistent_state(call) {
                Some(state) => self.attributes(state, out),
                None => indexed(graph.sequence(call.args).unwrap_or_default(), out),
            },
        }
        call.kwargs.into_iter().for_each(|kwargs| self.attributes(kwargs, out));
        call.states().for_each(|state| self.attributes(state, out));
        keyed(&graph.entries(call.items()), out);
        indexed(call.appended(), out);
    }

    /// The attributes that a state sets: a dictionary, a pair of one and slots, or a value for `__setstate__`.
    pub(super) fn attributes(&self, state: NodeId, out: &mut Children<'a>) {
        let graph = self.graph;
        match graph.node(state) {
            Node::None => {}
            Node::Dict(items) => {
                out.extend(
                    graph.entries(items).into_iter().map(|(key, value)| (Link::Attribute(key), value)),
                );
            }
            Node::Tuple(items) if is_pair_of_states(self, items) => {
                for part in items {
                    if let Node::Dict(items) = graph.node(*part) {
                        let entries = graph.entries(items).into_iter();
                        out.extend(entries.map(|(key, value)| (Link::Attribute(key), value)));
                    }
                }
            }
            Node::Tuple(items) => indexed(items, out),
            _ => out.push((Link::Named("state"), state)),
        }
    }

    /// The step that a link is in names.
    pub(super) fn step(&self, link: Link<'_>, position: usize) -> Step {
        match link {
            Link::Key(key) => Step::Key(self.key_text(key, position)),
            Link::Index(i) => Step::Index(crate::bytes::length(i)),
            Link::Member(key) => Step::Member(self.key_text(key, position)),
            Link::NonPersistent(key) => Step::NonPersistent(self.key_text(key, position)),
            Link::Attribute(key) => Step::Attribute(self.key_text(key, position)),
            Link::Named(name) => Step::Attribute(name.into()),
            Link::Part(key) => Step::Part(self.key_text(key, position)),
        }
    }
}

/// `(state or None, slots)`: what `copyreg` makes of an object with `__slots__`.
fn is_pair_of_states(builder: &Builder<'_>, items: &[NodeId]) -> bool {
    let graph = builder.graph;
    let state = |id: &NodeId| matches!(graph.node(*id), Node::Dict(_) | Node::None);
    matches!(items, [first, second] if state(first) && state(second))
}

pub(super) fn keyed(entries: &[(NodeId, NodeId)], out: &mut Children<'_>) {
    out.extend(entries.iter().map(|(key, value)| (Link::Key(*key), *value)));
}

pub(super) fn indexed(items: &[NodeId], out: &mut Children<'_>) {
    out.extend(items.iter().enumerate().map(|(i, item)| (Link::Index(i), *item)));
}
