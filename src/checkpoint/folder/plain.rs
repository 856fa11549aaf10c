//! [`Plain`]: what the objects of a pickle that describes tensors say, as plain data: attributes of instances, keys of
//! dictionaries, integers. Nothing is interpreted that is not asked for by name.

use std::borrow::Cow;

use crate::pickle::{Graph, Node, NodeId};
use crate::policy::canonical;
use crate::rebuild::{Callable, callable};

/// A reader of the objects of one pickle.
#[derive(Clone, Copy)]
pub(in crate::checkpoint) struct Plain<'a> {
    pub(in crate::checkpoint) graph: &'a Graph,
}

impl<'a> Plain<'a> {
    /// Module and name of what a name refers to.
    pub(in crate::checkpoint) fn name(self, id: NodeId) -> Option<(&'a str, &'a str)> {
        let global = self.graph.as_global(id)?;
        Some((canonical(&global.module, global.protocol), &global.name))
    }

    /// Module and name of the class that an object is an instance of, or of the function that made it.
    pub(in crate::checkpoint) fn class(self, id: NodeId) -> Option<(&'a str, &'a str)> {
        self.name(self.graph.call(id)?.callable)
    }

    /// An attribute of an instance: from the last state that sets it.
    pub(in crate::checkpoint) fn attribute(self, id: NodeId, name: &str) -> Option<NodeId> {
        let states = self.graph.call(id)?.states();
        states.filter_map(|state| self.in_state(state, name)).last()
    }

    /// A state is a dictionary, or a pair of one and of what slots hold.
    pub(in crate::checkpoint) fn in_state(self, state: NodeId, name: &str) -> Option<NodeId> {
        match self.graph.tuple(state) {
            Some(pair) => pair.iter().rev().find_map(|half| self.get(*half, name)),
            None => self.get(state, name),
        }
    }

    /// Keys and values of a dictionary of any class.
    pub(in crate::checkpoint) fn entries(self, id: NodeId) -> Option<Vec<(NodeId, NodeId)>> {
        match self.graph.node(id) {
            Node::Dict(items) => Some(self.graph.entries(items)),
            Node::Call(call) => {
                let kind = callable(self.graph, call.callable)?;
                if !matches!(kind, Callable::Mapping | Callable::DefaultDict) {
                    return None;
                }
                // From an argument before protocol 2, and from items that were set since.
                let given = self.graph.tuple(call.args)?.last().copied();
                let mut items = given.and_then(|given| self.pairs(given)).unwrap_or_default();
                items.extend_from_slice(call.items());
                Some(self.graph.entries(&items))
            }
            _ => None,
        }
    }

    fn pairs(self, id: NodeId) -> Option<Vec<(NodeId, NodeId)>> {
        if let Node::Dict(items) = self.graph.node(id) {
            return Some(items.clone());
        }
        let pair = |id: &NodeId| match self.graph.sequence(*id) {
            Some([key, value]) => Some((*key, *value)),
            _ => None,
        };
        self.graph.sequence(id)?.iter().map(pair).collect()
    }

    /// The value of a key that is text.
    pub(in crate::checkpoint) fn get(self, id: NodeId, name: &str) -> Option<NodeId> {
        let named = |key: NodeId| self.graph.text(key).is_some_and(|text| text == name);
        match self.graph.node(id) {
            Node::Dict(items) => items.iter().rev().find(|(key, _)| named(*key)).map(|(_, value)| *value),
            _ => self.entries(id)?.into_iter().find(|(key, _)| named(*key)).map(|(_, value)| value),
        }
    }

    /// The value below a path of keys.
    pub(in crate::checkpoint) fn find(self, id: NodeId, path: &[&str]) -> Option<NodeId> {
        path.iter().try_fold(id, |id, key| self.get(id, key))
    }

    /// Text.
    pub(in crate::checkpoint) fn text(self, id: NodeId) -> Option<Cow<'a, str>> {
        self.graph.text(id)
    }

    /// A number that is not negative.
    pub(in crate::checkpoint) fn number(self, id: NodeId) -> Option<u64> {
        self.graph.int(id).and_then(|n| u64::try_from(n).ok())
    }

    /// The items of a tuple, a list, or a `torch.Size`, `set` or the like that was made of one.
    pub(in crate::checkpoint) fn items(self, id: NodeId) -> Option<&'a [NodeId]> {
        let Some(call) = self.graph.call(id) else { return self.graph.sequence(id) };
        let args = self.graph.tuple(call.args)?;
        match (callable(self.graph, call.callable)?, args) {
            (Callable::Sequence, []) => Some(call.appended()),
            (Callable::Sequence, [items]) => self.graph.sequence(*items),
            _ => None,
        }
    }

    /// The numbers of a tuple, a list or a `torch.Size`.
    pub(in crate::checkpoint) fn numbers(self, id: NodeId) -> Option<Box<[u64]>> {
        self.items(id)?.iter().map(|item| self.number(*item)).collect()
    }

    /// Whether it is `None`.
    pub(in crate::checkpoint) fn is_none(self, id: NodeId) -> bool {
        matches!(self.graph.node(id), Node::None)
    }
}
