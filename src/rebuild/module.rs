//! Pickled `nn.Module` objects of any class: their state gives the names that `state_dict()` would give.
//!
//! A module is recognised by its state, a dictionary with `_parameters`, `_buffers` and `_modules`; its class is never
//! looked at. Source: `torch/nn/modules/module.py`.

use std::collections::HashSet;

use crate::container::ScriptClass;
use crate::pickle::{Call, Node, NodeId};

use super::allow::Callable;
use super::builder::Builder;
use super::children::{Link, indexed, keyed};
use super::torch::makes_tensors;

/// The dictionaries of a module that hold tensors.
pub(super) struct Parts {
    parameters: Entries,
    buffers: Entries,
    modules: Entries,
    transient: Option<NodeId>,
    others: Entries,
}

type Entries = Vec<(NodeId, NodeId)>;

impl<'a> Builder<'a> {
    /// Whether an object is a module.
    pub(super) fn is_module(&self, call: &Call) -> bool {
        self.parts(call).is_some()
    }

    /// The children of a module in the order of `state_dict()`: parameters, buffers, submodules; then everything else
    /// as attributes.
    pub(super) fn module_children(&self, call: &'a Call, out: &mut Vec<(Link<'a>, NodeId)>) -> bool {
        let Some(parts) = self.parts(call) else { return false };
        let graph = self.graph;
        self.part_children(parts, out);
        // What a class adds that is a list, a dictionary or takes arguments besides being a module.
        if self.persistent_state(call).is_some() {
            call.states().for_each(|state| self.attributes(state, out));
            return true;
        }
        indexed(graph.sequence(call.args).unwrap_or_default(), out);
        call.states().skip(1).for_each(|state| self.attributes(state, out));
        keyed(&graph.entries(call.items()), out);
        indexed(call.appended(), out);
        true
    }

    /// Parameters, buffers, submodules, then everything else as attributes.
    pub(super) fn part_children(&self, parts: Parts, out: &mut Vec<(Link<'a>, NodeId)>) {
        let graph = self.graph;
        let present = |(_, value): &(NodeId, NodeId)| *graph.node(*value) != Node::None;
        let transient = parts.transient.map(|set| self.texts(set)).unwrap_or_default();
        for (key, value) in parts.parameters.into_iter().filter(present) {
            out.push((Link::Member(key), value));
        }
        for (key, value) in parts.buffers.into_iter().filter(present) {
            let hidden = graph.text(key).is_some_and(|name| transient.contains(&*name));
            out.push((if hidden { Link::NonPersistent(key) } else { Link::Member(key) }, value));
        }
        for (key, value) in parts.modules.into_iter().filter(present) {
            out.push((Link::Member(key), value));
        }
        out.extend(parts.others.into_iter().map(|(key, value)| (Link::Attribute(key), value)));
    }

    /// The state in `torch_utils.persistence._reconstruct_persistent_obj(meta)` (`StyleGAN`), which would run the source
    /// text in `meta` and fill an instance of the class that it defines: here the text is a value. So it is in
    /// `torch.fx.graph_module.reduce_graph_module(state, imports)`, whose state has the text of `forward`.
    pub(super) fn persistent_state(&self, call: &Call) -> Option<NodeId> {
        let meta = *self.graph.tuple(call.args)?.first()?;
        match self.global_name(call.callable)? {
            ("torch_utils.persistence", "_reconstruct_persistent_obj") => {}
            ("torch.fx.graph_module", "reduce_graph_module") => return Some(meta),
            _ => return None,
        }
        let Node::Dict(items) = self.graph.node(meta) else { return None };
        let mut entries = self.graph.entries(items).into_iter();
        entries.find(|(key, _)| self.graph.text(*key).as_deref() == Some("state")).map(|(_, state)| state)
    }

    fn parts(&self, call: &Call) -> Option<Parts> {
        let graph = self.graph;
        let state = self.persistent_state(call).or_else(|| call.states().next())?;
        if let Some(class) = self.script_class(call) {
            let Node::Dict(items) = graph.node(state) else { return None };
            return self.script_parts(class, graph.entries(items));
        }
        self.state_parts(state)
    }

    /// The parts of a module, if a dictionary is the state of one.
    pub(super) fn state_parts(&self, state: NodeId) -> Option<Parts> {
        let graph = self.graph;
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
        let (parameters, buffers, modules) =
            (self.mapping(parameters?)?, self.mapping(buffers?)?, self.mapping(modules?)?);
        Some(Parts { parameters, buffers, modules, transient, others })
    }

    fn script_class(&self, call: &Call) -> Option<ScriptClass<'a>> {
        let (module, name) = self.global_name(call.callable)?;
        self.context.storages?.script_class(module, name)
    }

    /// A module of `TorchScript`: its state holds all attributes, and its class says which are parameters and buffers.
    fn script_parts(&self, class: ScriptClass<'_>, entries: Entries) -> Option<Parts> {
        let graph = self.graph;
        let named: Option<HashSet<&str>> = match class {
            ScriptClass::Module(names) => Some(names.iter().map(|name| &**name).collect()),
            ScriptClass::Plain => return None,
            ScriptClass::Unknown => None,
        };
        let mut parts = Parts {
            parameters: Vec::new(),
            buffers: Vec::new(),
            modules: Vec::new(),
            transient: None,
            others: Vec::new(),
        };
        for (key, value) in entries {
            let call = graph.call(value);
            let member = match &named {
                Some(named) => graph.text(key).is_some_and(|name| named.contains(&*name)),
                None => call.is_some_and(|call| self.is_tensor_call(call)),
            };
            // One whose class gives something else for its state is an object: its parts have no names of their own.
            let module = call.filter(|call| {
                let state = call.states().next();
                state.is_some_and(|state| matches!(graph.node(state), Node::Dict(_)))
                    && matches!(self.script_class(call), Some(ScriptClass::Module(_) | ScriptClass::Unknown))
            });
            match () {
                () if member => parts.parameters.push((key, value)),
                () if module.is_some() => parts.modules.push((key, value)),
                () => parts.others.push((key, value)),
            }
        }
        Some(parts)
    }

    fn is_tensor_call(&self, call: &Call) -> bool {
        self.callable(call.callable).is_some_and(makes_tensors)
    }

    fn texts(&self, set: NodeId) -> HashSet<String> {
        let graph = self.graph;
        let items = self.items(set).unwrap_or_default();
        items.iter().filter_map(|item| graph.text(*item)).map(std::borrow::Cow::into_owned).collect()
    }

    /// The entries of a dictionary, given as one or made by an allowlisted class; `None` for anything else.
    pub(super) fn mapping(&self, id: NodeId) -> Option<Entries> {
        let graph = self.graph;
        let call = match graph.node(id) {
            Node::Dict(items) => return Some(graph.entries(items)),
            Node::Call(call) => call,
            _ => return None,
        };
        let args = graph.tuple(call.args)?;
        let initial = match self.callable(call.callable)? {
            // `__new__` takes no notice of its arguments.
            Callable::Mapping | Callable::DefaultDict if call.how.is_new() => None,
            Callable::Mapping => args.first(),
            Callable::DefaultDict => args.get(1),
            _ => return None,
        };
        let mut items = initial.map_or(Some(Vec::new()), |initial| self.pairs(*initial))?;
        items.extend(call.items());
        Some(graph.entries(&items))
    }

    /// What a dictionary is made from: another one, or a sequence of pairs.
    fn pairs(&self, id: NodeId) -> Option<Entries> {
        let graph = self.graph;
        if let Node::Dict(items) = graph.node(id) {
            return Some(items.clone());
        }
        let pair = |pair: &NodeId| match graph.sequence(*pair)? {
            [key, value] => Some((*key, *value)),
            _ => None,
        };
        self.items(id)?.iter().map(pair).collect()
    }
}
