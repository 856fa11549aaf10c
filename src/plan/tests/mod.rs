//! Trees as small as can be, one for each rule.

mod names;
mod roots;
mod ties;
mod writers;

use super::*;
use crate::bytes::Span;
use crate::limits::Limits;
use crate::tensor::{Encoding, Family, Place, Step, Storage, StorageId, StreamId, View, ViewSpec};

/// A source to be: what stands at a place.
#[derive(Clone)]
enum Node {
    /// A tensor of its own storage.
    T,
    /// A tensor of this number: the same number is the same view.
    Same(u32),
    /// A tensor of this type.
    Of(Dtype),
    /// So many values.
    V(u64),
    /// A tensor without data.
    Meta,
    Map(Vec<(&'static str, Node)>),
    List(Vec<Node>),
    Object(Vec<(&'static str, Node)>),
    Module(Vec<(Step, Node)>),
    /// A tensor in parts.
    Parts(Vec<(&'static str, Node)>),
}

use Node::{List, Map, Meta, Module, Object, Of, Parts, Same, T, V};

fn member(name: &str) -> Step {
    Step::Member(name.into())
}

fn linear() -> Node {
    Map(vec![("weight", T), ("bias", T)])
}

fn layer() -> Node {
    Module(vec![(member("weight"), T), (member("bias"), T)])
}

#[derive(Default)]
struct Source {
    tree: Tree,
    tensors: Vec<Tensor>,
    shared: HashMap<u32, TensorId>,
}

impl Source {
    fn new(node: Node) -> Self {
        let mut source = Self::default();
        source.add(None, Step::Root, node);
        source
    }

    fn tensor(&mut self, storage: u32, dtype: Dtype) -> TensorId {
        let place = Place::Stored { stream: StreamId::SOURCE, span: Span::between(0, 64) };
        let data = Storage { key: "0".into(), entry: None, place, len: 64, big_endian: false, crc32: None };
        let spec = ViewSpec {
            dtype,
            family: Family::Torch,
            offset: 0,
            shape: vec![2],
            strides: vec![1],
            negated: false,
            conjugated: false,
        };
        let view = View::new(StorageId(storage), &data, &spec, &Limits::default()).unwrap();
        self.tensors.push(Tensor::new(view));
        TensorId(u32::try_from(self.tensors.len()).unwrap() - 1)
    }

    fn own(&mut self, dtype: Dtype) -> TensorId {
        self.tensor(1000 + u32::try_from(self.tensors.len()).unwrap(), dtype)
    }

    fn add(&mut self, parent: Option<EntryId>, step: Step, node: Node) {
        let tensor = |id| Kind::Leaf(Leaf::Tensor(id));
        let (kind, children): (Kind, Vec<(Step, Node)>) = match node {
            T => (tensor(self.own(Dtype::F32)), vec![]),
            Of(dtype) => (tensor(self.own(dtype)), vec![]),
            Same(n) => {
                let id = match self.shared.get(&n) {
                    Some(id) => *id,
                    None => self.tensor(n, Dtype::F32),
                };
                self.shared.insert(n, id);
                (tensor(id), vec![])
            }
            V(count) => (Kind::Leaf(Leaf::Values { type_name: "int".into(), count }), vec![]),
            Meta => (Kind::Leaf(Leaf::LeftOut { reason: "no data".into(), bytes: 0 }), vec![]),
            Map(items) => (Kind::Mapping, steps(items, Step::Key)),
            Object(items) => (Kind::Object, steps(items, Step::Attribute)),
            Parts(items) => (Kind::Object, steps(items, Step::Part)),
            List(items) => (Kind::Sequence, (0..).map(Step::Index).zip(items).collect()),
            Module(items) => (Kind::Module, items),
        };
        let id = self.tree.push(parent, step, kind);
        for (step, node) in children {
            self.add(Some(id), step, node);
        }
    }

    /// Plans, and checks that every tensor stands in exactly one list.
    fn plan(&self, options: &Options) -> Result<Plan, Error> {
        let plan = plan(&self.tree, &self.tensors, options)?;
        let left_out: u64 = plan.left_out.iter().map(|place| place.tensors).sum();
        let reachable = self
            .tree
            .iter()
            .filter(|(_, e)| matches!(e.kind, Kind::Leaf(Leaf::Tensor(_) | Leaf::LeftOut { .. })))
            .count();
        let written: Vec<EntryId> = plan.tensors.iter().map(|t| t.entry).collect();
        let aliased: Vec<EntryId> = plan.aliases.iter().map(|a| a.entry).collect();
        let left_out = usize::try_from(left_out).unwrap();
        assert_eq!(written.len() + aliased.len() + left_out, reachable, "{plan:?}");
        assert!(aliased.iter().all(|entry| !written.contains(entry)));
        for entry in written.iter().chain(&aliased) {
            let path = self.tree.path(*entry);
            let covers =
                |place: &&LeftOut| path.starts_with(&place.path) && matches!(place.reason, Reason::Rule(_));
            assert_eq!(plan.left_out.iter().find(covers), None);
        }
        assert!(plan.tensors.is_sorted_by_key(|t| t.entry) && plan.aliases.is_sorted_by_key(|a| a.entry));
        Ok(plan)
    }
}

fn steps(items: Vec<(&'static str, Node)>, step: fn(Box<str>) -> Step) -> Vec<(Step, Node)> {
    items.into_iter().map(|(name, node)| (step(name.into()), node)).collect()
}

fn planned(node: Node, options: &Options) -> Result<Plan, Error> {
    Source::new(node).plan(options)
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.tensors.iter().map(|tensor| &*tensor.name).collect()
}

#[track_caller]
fn check(node: Node, options: &Options, expected: &[&str]) -> Plan {
    let plan = planned(node, options).unwrap();
    assert_eq!(names(&plan), expected);
    plan
}

#[track_caller]
fn auto(node: Node, root: &str, expected: &[&str]) -> Plan {
    let plan = check(node, &Options::default(), expected);
    assert_eq!(plan.root.as_deref().unwrap_or_default(), root);
    plan
}

fn root(path: &str) -> Options {
    Options { root: Some(path.into()), ..Options::default() }
}

fn left(plan: &Plan) -> Vec<(String, u64, String)> {
    plan.left_out.iter().map(|l| (l.path.join("/"), l.tensors, l.reason.to_string())).collect()
}

fn triple(path: &str, tensors: u64, reason: &str) -> (String, u64, String) {
    (path.into(), tensors, reason.into())
}

fn said(plan: &Plan) -> String {
    plan.notes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

const LINEAR: &[&str] = &["weight", "bias"];

// Roots that are known

fn scale() -> Encoding {
    Encoding { kind: "quantized", part: "scale", scheme: None, axis: None, shape: None }
}
