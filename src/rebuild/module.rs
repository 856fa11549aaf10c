//! Pickled `nn.Module` objects of any class: their state gives the names that `state_dict()` would give.
//!
//! A module is recognised by its state, a dictionary with `_parameters`, `_buffers` and `_modules`; its class is never
//! looked at. Source: `torch/nn/modules/module.py`.

use crate::pickle::{Call, Node, NodeId};

use super::allow::Callable;
use super::builder::Builder;
use super::children::Link;

/// The dictionaries of a module that hold tensors.
struct Parts {
    parameters: NodeId,
    buffers: NodeId,
    modules: NodeId,
    transient: Option<NodeId>,
    others: Vec<(NodeId, NodeId)>,
}

impl<'a> Builder<'a> {
    /// Whether an object is a module.
    pub(super) fn is_module(&self, call: &Call) -> bool {
        self.parts(call).is_some()
    }

    /// The children of a module in the order of `state_dict()`: parameters, buffers, submodules; then everything else
    /// as attributes.
    pub(super) fn module_children(&self, call: &Call, out: &mut Vec<(Link<'a>, NodeId)>) -> bool {
        let Some(parts) = self.parts(call) else { return false };
        let graph = self.graph;
        let present = |(_, value): &(NodeId, NodeId)| *graph.node(*value) != Node::None;
        let transient = parts.transient.map(|set| self.texts(set)).unwrap_or_default();
        for (key, value) in self.mapping(parts.parameters).into_iter().filter(present) {
            out.push((Link::Member(key), value));
        }
        for (key, value) in self.mapping(parts.buffers).into_iter().filter(present) {
            let hidden = graph.text(key).is_some_and(|name| transient.iter().any(|hidden| *hidden == name));
            out.push((if hidden { Link::NonPersistent(key) } else { Link::Member(key) }, value));
        }
        for (key, value) in self.mapping(parts.modules).into_iter().filter(present) {
            out.push((Link::Member(key), value));
        }
        out.extend(parts.others.into_iter().map(|(key, value)| (Link::Attribute(key), value)));
        true
    }

    fn parts(&self, call: &Call) -> Option<Parts> {
        let graph = self.graph;
        let state = call.states().next()?;
        let Node::Dict(items) = graph.node(state) else { return None };
        let (mut parameters, mut buffers, mut modules, mut transient) = (None, None, None, None);
        let mut others = Vec::new();
        for (key, value) in graph.entries(items) {
            match graph.text(key).as_deref() {
                Some("_parameters") => parameters = Some(value),
                Some("_buffers") => buffers = Some(value),
                Some("_modules") => modules = Some(value),
                Some("_non_persistent_buffers_set") => transient = Some(value),
                _ => others.push((key, value)),
            }
        }
        Some(Parts { parameters: parameters?, buffers: buffers?, modules: modules?, transient, others })
    }

    fn texts(&self, set: NodeId) -> Vec<String> {
        let graph = self.graph;
        let items: &[NodeId] = match graph.node(set) {
            Node::Set(items) => items,
            Node::FrozenSet(items) => items,
            _ => self.items(set).unwrap_or_default(),
        };
        items.iter().filter_map(|item| graph.text(*item)).map(std::borrow::Cow::into_owned).collect()
    }

    /// The entries of a dictionary, given as one or made by an allowlisted class.
    pub(super) fn mapping(&self, id: NodeId) -> Vec<(NodeId, NodeId)> {
        let graph = self.graph;
        let mut items = Vec::new();
        self.mapping_items(id, &mut items);
        graph.entries(&items)
    }

    fn mapping_items(&self, id: NodeId, out: &mut Vec<(NodeId, NodeId)>) {
        let graph = self.graph;
        match graph.node(id) {
            Node::Dict(items) => out.extend(items),
            Node::Call(call) => {
                let args = graph.tuple(call.args).unwrap_or_default();
                let initial = match self.callable(call.callable) {
                    Some(Callable::Mapping) => args.first(),
                    Some(Callable::DefaultDict) => args.get(1),
                    _ => None,
                };
                if let Some(initial) = initial {
                    self.pairs(*initial, out);
                }
                out.extend(call.items());
            }
            _ => {}
        }
    }

    /// What a dictionary is made from: another one, or a sequence of pairs.
    fn pairs(&self, id: NodeId, out: &mut Vec<(NodeId, NodeId)>) {
        let graph = self.graph;
        match graph.node(id) {
            Node::Dict(items) => out.extend(items),
            _ => out.extend(self.items(id).unwrap_or_default().iter().filter_map(|pair| {
                match graph.sequence(*pair)? {
                    [key, value] => Some((*key, *value)),
                    _ => None,
                }
            })),
        }
    }
}
