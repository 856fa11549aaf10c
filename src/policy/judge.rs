//! The rule: from a recorded graph to a verdict for every name and every call.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::bytes::Offset;
use crate::pickle::{Call, Global, Graph, Node, NodeId};

use super::{Verdict, canonical, expression, tables};

/// What the user keeps as inert data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Exact names, `module.name`.
    pub names: Vec<String>,
    /// Every unknown name. Never a dangerous one.
    pub unknown: bool,
    /// Exact names that refuse, whatever else is said of them.
    pub denied: Vec<String>,
}

impl Overrides {
    fn apply(&self, name: &str, verdict: Verdict) -> Verdict {
        if self.denied.iter().any(|denied| denied == name) {
            return Verdict::Dangerous;
        }
        let kept = self.names.iter().any(|kept| kept == name) || self.unknown && verdict == Verdict::Unknown;
        if verdict.refuses() && kept { Verdict::Inert } else { verdict }
    }
}

/// A name that a pickle refers to, and the worst that it does with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedGlobal {
    /// `module.name`, in Python 3's terms.
    pub name: String,
    /// How often it is called; where it never is, how many opcodes refer to it.
    pub count: u64,
    /// The worst verdict of its uses.
    pub verdict: Verdict,
}

/// One use of a name that refuses a conversion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Position, from the start of the pickle.
    pub offset: Offset,
    /// The name, `module.name`.
    pub name: String,
    /// The call as a bounded expression, or the name alone.
    pub expression: String,
    /// Verdict.
    pub verdict: Verdict,
    /// How it is used.
    pub kind: UseKind,
}

/// How a name is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UseKind {
    /// It is called.
    Call,
    /// What is called is no name: the result of another call, a value, what a loader resolves.
    Computed,
    /// It is referred to, which imports its module.
    Reference,
    /// It makes code out of parts that the pickle carries.
    CarriesCode,
    /// It is risky, in a form that honest files have.
    HonestForm,
}

/// The verdicts of one pickle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Every name, sorted.
    pub globals: Vec<JudgedGlobal>,
    /// Every use that refuses, in the order of the pickle; the first of each name.
    pub refusals: Vec<Use>,
    /// Uses that do not refuse and should be known all the same; the first of each name.
    pub remarks: Vec<Use>,
}

impl Judgement {
    /// The worst verdict.
    pub fn verdict(&self) -> Verdict {
        self.globals.iter().map(|global| global.verdict).max().unwrap_or(Verdict::Allowed)
    }
}

/// Judges every name and call of a pickle, also those whose result was thrown away. `allowed` says what is in the
/// allowlist, by module and name.
pub fn judge(graph: &Graph, allowed: &dyn Fn(&str, &str) -> bool, overrides: &Overrides) -> Judgement {
    let called: HashSet<NodeId> = graph.calls().map(|(_, call)| call.callable).collect();
    let harmless = |global: &Global| allowed(canonical(&global.module, global.protocol), &global.name);
    let judge = Judge { graph, allowed: graph.globals().iter().map(harmless).collect(), called };
    let mut calls = vec![0_u64; graph.globals().len()];
    let mut verdicts: BTreeMap<String, (u64, Verdict)> = BTreeMap::new();
    let mut refusals: Vec<Use> = Vec::new();
    let mut remarks: Vec<Use> = Vec::new();
    let mut note = |name: &str, count: u64, (verdict, kind), at: Offset, expression: &dyn Fn() -> String| {
        let verdict = overrides.apply(name, verdict);
        let entry = verdicts.entry(name.to_owned()).or_insert((0, Verdict::Allowed));
        entry.0 = entry.0.saturating_add(count);
        entry.1 = entry.1.max(verdict);
        let worse = refusals.iter().any(|known| known.name == name && known.verdict >= verdict);
        if verdict.refuses() && !worse {
            refusals.push(Use { offset: at, name: name.to_owned(), expression: expression(), verdict, kind });
        }
        let remarkable = matches!(kind, UseKind::CarriesCode | UseKind::HonestForm);
        if remarkable && !remarks.iter().any(|known| known.name == name) {
            remarks.push(Use { offset: at, name: name.to_owned(), expression: expression(), verdict, kind });
        }
    };
    // Calls first: they say more than the reference that they go through.
    for (id, call) in graph.calls() {
        if let Node::Global(global) = graph.node(call.callable)
            && let Some(count) = calls.get_mut(global.index())
        {
            *count = count.saturating_add(1);
        }
        let verdict = judge.call(call, id);
        if verdict != Verdict::Allowed {
            let name = judge.callee(judge.class_of_module_id(call.callable).unwrap_or(call.callable));
            note(&name, 0, (verdict, judge.kind(call, id)), call.offset, &|| expression::call(graph, id));
        }
    }
    for id in graph.ids() {
        if let Some((callable, _)) = graph.package_call(id) {
            let verdict = judge.package_call(callable);
            let name = judge.callee(callable);
            let at = graph.as_global(callable).map_or(Offset(0), |global| global.offset);
            note(&name, 1, (verdict, UseKind::Call), at, &|| format!("{}(…)", name.escape_debug()));
        }
    }
    let excused = judge.excused();
    for ((i, global), calls) in graph.globals().iter().enumerate().zip(calls) {
        let module = canonical(&global.module, global.protocol);
        let name = format!("{module}.{}", global.name);
        let reference = if excused.contains(&i) { Verdict::Inert } else { judge.reference(i, global) };
        let count = if calls > 0 { calls } else { global.count };
        let shown = || name.escape_debug().to_string();
        note(&name, count, (reference, UseKind::Reference), global.offset, &shown);
    }
    refusals.sort_by_key(|a| a.offset);
    let globals = verdicts.into_iter().map(|(name, (count, verdict))| JudgedGlobal { name, count, verdict });
    Judgement {
        globals: globals.filter(|global| global.count > 0 || global.verdict.refuses()).collect(),
        refusals,
        remarks,
    }
}

pub(super) struct Judge<'a> {
    pub(super) graph: &'a Graph,
    /// Whether each name is in the allowlist.
    allowed: Vec<bool>,
    /// Nodes that something calls.
    pub(super) called: HashSet<NodeId>,
}

impl<'a> Judge<'a> {
    pub(super) fn names(&self, id: NodeId) -> Option<(&'a str, &'a str)> {
        let graph = self.graph;
        let global = graph.as_global(id)?;
        Some((canonical(&global.module, global.protocol), &global.name))
    }

    pub(super) fn is_allowed(&self, index: usize) -> bool {
        self.allowed.get(index).copied().unwrap_or(false)
    }

    /// A name that is only referred to.
    fn reference(&self, index: usize, global: &Global) -> Verdict {
        let (module, name) = (canonical(&global.module, global.protocol), &*global.name);
        match () {
            () if self.is_allowed(index) => Verdict::Allowed,
            () if tables::is_data_only(module, name) => Verdict::Inert,
            () if tables::loads_from_package(module, name) => Verdict::Inert,
            () if tables::is_harmless_uncalled(module, name) => Verdict::Inert,
            () if tables::is_dangerous(module, name) => Verdict::Dangerous,
            () => Verdict::Inert,
        }
    }

    /// A call that Python would make.
    fn call(&self, call: &Call, id: NodeId) -> Verdict {
        let callable = self.class_of_module_id(call.callable).unwrap_or(call.callable);
        if let Node::Global(global) = self.graph.node(callable)
            && self.is_allowed(global.index())
        {
            return Verdict::Allowed;
        }
        let Some((module, name)) = self.names(callable) else {
            let honest = self.is_by_value(call, callable);
            return if honest { Verdict::Inert } else { Verdict::Dangerous };
        };
        match () {
            () if tables::is_data_only(module, name) && self.is_given_data(module, name, call) => {
                Verdict::Inert
            }
            () if self.is_honest_form(module, name, call, id) => Verdict::Inert,
            () if tables::is_dangerous(module, name) => Verdict::Dangerous,
            // Objects of TorchScript, such as enums: torch's reader in C++ looks these up in the archive's own classes.
            () if module == "__torch__" || module.starts_with("__torch__.") => Verdict::Inert,
            () if call.how.is_new() => Verdict::Inert,
            () if tables::makes_instance(module, name) => self.instance(call),
            () => Verdict::Unknown,
        }
    }

    /// Whether a constructor that only holds data is given nothing that it could call: no name of another library than its
    /// own. `numpy.random._pickle.__generator_ctor(name, constructor)` calls what it is given.
    fn is_given_data(&self, module: &str, name: &str, call: &Call) -> bool {
        let top = |module: &str| module.split('.').next().map(str::to_owned);
        let harmless = |id: &NodeId| match self.graph.node(*id) {
            Node::Global(global) => {
                let theirs = self.names(*id).unwrap_or_default();
                self.is_allowed(global.index())
                    || tables::is_data_only(theirs.0, theirs.1)
                    || tables::makes_instance(theirs.0, theirs.1)
                    || top(theirs.0) == top(module) && !tables::is_dangerous(theirs.0, theirs.1)
            }
            _ => true,
        };
        let args = self.graph.tuple(call.args).unwrap_or_default();
        let own = |id: &NodeId| self.names(*id) == Some((module, "__bit_generator_ctor"));
        let fits = !tables::calls_second(module, name) || args.get(1).is_none_or(own);
        fits && (tables::carries_code(module, name) || args.iter().all(harmless))
    }

    /// A call that the reader of `torch.package` makes of a persistent id, with the package as first argument.
    fn package_call(&self, callable: NodeId) -> Verdict {
        match self.names(callable) {
            Some((module, name)) if tables::loads_from_package(module, name) => Verdict::Inert,
            Some((module, name)) if !tables::is_dangerous(module, name) => Verdict::Unknown,
            _ => Verdict::Dangerous,
        }
    }

    /// A call of what `NEWOBJ` does, by name: its first argument is a class, which is judged where it is referred to.
    fn instance(&self, call: &Call) -> Verdict {
        let class = self.graph.tuple(call.args).and_then(|args| args.first());
        let is_class = |id: NodeId| {
            let class = self.class_of_module_id(id).unwrap_or(id);
            let maker = self.graph.call(class).and_then(|maker| self.names(maker.callable));
            self.names(class).is_some()
                || maker.is_some_and(|(module, name)| tables::makes_class(module, name))
        };
        if class.is_some_and(|class| is_class(*class)) { Verdict::Inert } else { Verdict::Unknown }
    }

    /// How a call that is not allowed uses its name.
    fn kind(&self, call: &Call, id: NodeId) -> UseKind {
        let callable = self.class_of_module_id(call.callable).unwrap_or(call.callable);
        match self.names(callable) {
            None if self.is_attribute(callable) => UseKind::HonestForm,
            None if self.is_by_value(call, callable) => UseKind::CarriesCode,
            None => UseKind::Computed,
            Some((module, name)) if tables::names_types(module, name) => UseKind::Call,
            Some((module, name)) if tables::carries_code(module, name) => UseKind::CarriesCode,
            Some((module, name)) if self.is_honest_form(module, name, call, id) => match name {
                // A module that functions carried by value refer to; by itself it is an import and nothing else.
                "subimport" | "_import_module" => UseKind::CarriesCode,
                _ => UseKind::HonestForm,
            },
            Some(_) => UseKind::Call,
        }
    }

    /// The name to report for a call of an object.
    fn callee(&self, callable: NodeId) -> String {
        match self.names(callable) {
            Some((module, name)) => format!("{module}.{name}"),
            None => match self.graph.call(callable) {
                Some(_) => "(the result of a call)".to_owned(),
                None => format!("({})", self.graph.node(callable).type_name()),
            },
        }
    }

    /// The class in a legacy `("module", class, file, source)` id, or in the `(class, file, source)` of a tar.
    fn class_of_module_id(&self, id: NodeId) -> Option<NodeId> {
        let Node::Persistent(pid) = self.graph.node(id) else { return None };
        match self.graph.tuple(*pid) {
            Some([tag, class, ..]) if self.graph.text(*tag).as_deref() == Some("module") => Some(*class),
            Some([class, _file, _source]) if self.graph.as_global(*class).is_some() => Some(*class),
            _ => None,
        }
    }

    /// Names of which every reference is the callable of an honest form, or the metaclass of a class carried by value.
    fn excused(&self) -> HashSet<usize> {
        let mut honest: HashMap<usize, u64> = HashMap::new();
        let mut seen = HashSet::new();
        for (id, call) in self.graph.calls() {
            if let (Node::Global(global), Some((module, name))) =
                (self.graph.node(call.callable), self.names(call.callable))
                && self.is_honest_form(module, name, call, id)
                && seen.insert(call.callable)
            {
                let count = honest.entry(global.index()).or_default();
                *count = count.saturating_add(1);
            }
            // An array in a file, of which the class is only named: `_reconstruct(numpy.memmap, …)`.
            let class = self.graph.tuple(call.args).and_then(|args| args.first().copied());
            let reconstructs = self
                .names(call.callable)
                .is_some_and(|(module, name)| module.starts_with("numpy.") && name == "_reconstruct");
            if let Some(class) = class.filter(|_| reconstructs)
                && let Node::Global(global) = self.graph.node(class)
                && matches!(self.names(class), Some(("numpy" | "numpy.core.memmap", "memmap")))
                && seen.insert(class)
            {
                let count = honest.entry(global.index()).or_default();
                *count = count.saturating_add(1);
            }
            let makes_class =
                self.names(call.callable).is_some_and(|(module, name)| tables::makes_class(module, name));
            let metaclass = self.graph.tuple(call.args).and_then(|args| args.first().copied());
            if let Some(metaclass) = metaclass.filter(|_| makes_class)
                && let Node::Global(global) = self.graph.node(metaclass)
                && self.names(metaclass) == Some(("builtins", "type"))
                && seen.insert(metaclass)
            {
                let count = honest.entry(global.index()).or_default();
                *count = count.saturating_add(1);
            }
        }
        let all =
            |(index, uses): &(usize, u64)| self.graph.globals().get(*index).is_some_and(|g| g.count == *uses);
        honest.into_iter().filter(all).map(|(index, _)| index).collect()
    }
}
