//! Trees as small as can be, one for each rule.

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

#[test]
fn lightning() {
    let node = Map(vec![
        ("epoch", V(1)),
        ("pytorch-lightning_version", V(1)),
        ("state_dict", linear()),
        ("callbacks", Map(vec![("ema", Map(vec![("decay", T)]))])),
        (
            "optimizer_states",
            List(vec![Map(vec![("state", Map(vec![("0", T), ("1", T)])), ("param_groups", V(3))])]),
        ),
        ("hyper_parameters", V(7)),
    ]);
    let plan = auto(node.clone(), "state_dict", LINEAR);
    assert_eq!(
        left(&plan),
        [triple("callbacks", 1, "callback state"), triple("optimizer_states", 2, "optimizer state")]
    );
    assert_eq!(plan.left_out[1].bytes, 16);
    let needed = Note::Needed { writer: "PyTorch Lightning", keys: vec!["hyper_parameters".into()] };
    assert!(plan.notes.contains(&needed));
    assert!(plan.notes.contains(&Note::Values { count: 12 }));
    assert_eq!(plan.values_left_out.len(), 4);
    let ValuesLeftOut { path, type_name, count, .. } = plan.values_left_out[0].clone();
    assert_eq!((path, &*type_name, count), (vec!["epoch".to_owned()], "int", 1));
    assert_eq!(said(&plan).lines().next(), Some("root: state_dict"));

    let plan = planned(node, &Options { metadata: true, ..Options::default() }).unwrap();
    assert_eq!(plan.values_left_out, []);
    assert!(!said(&plan).contains("hyper_parameters"), "{}", said(&plan));
}

#[test]
fn whisper_names_its_dimensions() {
    let plan = auto(Map(vec![("dims", V(10)), ("model_state_dict", linear())]), "model_state_dict", LINEAR);
    assert!(said(&plan).contains("Whisper also needs dims"), "{}", said(&plan));
    assert!(matches!(&plan.notes[0], Note::Root { writer: Some("Whisper"), .. }));
}

#[test]
fn esrgan_prefers_the_average_and_says_so() {
    let plan = auto(Map(vec![("params", linear()), ("params_ema", linear())]), "params_ema", LINEAR);
    assert_eq!(plan.notes[0].to_string(), "root: params_ema (also found: params, 2 tensors; --root params)");
    assert_eq!(left(&plan), [triple("params", 2, "outside the root")]);
    auto(Map(vec![("params", linear()), ("iter", V(1))]), "params", LINEAR);
}

#[test]
fn fairseq() {
    let node = Map(vec![
        ("args", V(20)),
        ("cfg", V(30)),
        ("model", linear()),
        ("optimizer_history", V(4)),
        ("extra_state", V(4)),
        ("last_optimizer_state", Map(vec![("state", Map(vec![("0", T)])), ("param_groups", V(1))])),
    ]);
    let plan = auto(node, "model", LINEAR);
    assert_eq!(left(&plan), [triple("last_optimizer_state", 1, "optimizer state")]);
    assert!(
        plan.notes.contains(&Note::Needed { writer: "fairseq", keys: vec!["cfg".into(), "args".into()] })
    );
}

#[test]
fn opennmt_joins_model_and_generator() {
    let node = |generator| {
        Map(vec![
            ("model", Map(vec![("encoder.w", T)])),
            ("generator", generator),
            ("vocab", V(1)),
            ("opt", V(1)),
            ("optim", Map(vec![("state", Map(vec![("0", T)])), ("param_groups", V(1))])),
        ])
    };
    let plan = auto(node(linear()), "", &["encoder.w", "generator.weight", "generator.bias"]);
    assert_eq!(plan.notes[0].to_string(), "root: model, generator");
    assert_eq!(left(&plan), [triple("optim", 1, "optimizer state")]);
    // Newer writers leave the generator in the model.
    auto(node(V(1)), "model", &["encoder.w"]);
}

#[test]
fn rvc() {
    let node =
        Map(vec![("weight", linear()), ("config", V(18)), ("f0", V(1)), ("version", V(1)), ("info", V(1))]);
    let plan = auto(node, "weight", LINEAR);
    let keys = ["config", "f0", "version"].map(String::from).into();
    assert!(plan.notes.contains(&Note::Needed { writer: "RVC", keys }));
}

#[test]
fn averaged_weights_are_preferred_where_the_loader_prefers_them() {
    let optimizer = || Map(vec![("state", Map(vec![("0", T)])), ("param_groups", V(1))]);
    for (trained, average) in [("state_dict", "state_dict_ema"), ("model", "model_ema")] {
        let plan = auto(Map(vec![(trained, linear()), (average, linear()), ("arch", V(1))]), average, LINEAR);
        assert_eq!(left(&plan), [triple(trained, 2, "outside the root")]);
        assert!(matches!(&plan.notes[0], Note::Root { writer: Some("timm"), .. }));
    }
    let node = Map(vec![("model", linear()), ("ema", linear()), ("opt", optimizer()), ("args", V(9))]);
    let plan = auto(node, "ema", LINEAR);
    assert!(matches!(&plan.notes[0], Note::Root { writer: Some("DiT"), .. }));
}

#[test]
fn configurations_that_loaders_build_models_from_are_named() {
    for (writer, weights, needs) in [
        ("nanoGPT", "model", &["model_args"][..]),
        ("ESM", "model", &["cfg"]),
        ("GPT-SoVITS", "weight", &["config"]),
        ("DALLE-pytorch", "weights", &["hparams", "vae_params"]),
        ("RLlib", "weights", &["policy_spec"]),
    ] {
        let mut fields = vec![(weights, linear()), ("info", V(1))];
        fields.extend(needs.iter().map(|key| (*key, V(3))));
        let plan = auto(Map(fields), weights, LINEAR);
        let keys = needs.iter().map(ToString::to_string).collect();
        assert!(plan.notes.contains(&Note::Needed { writer, keys }), "{writer}: {:?}", plan.notes);
    }
}

#[test]
fn textual_inversion() {
    let node = Map(vec![
        ("string_to_token", Map(vec![("*", T)])),
        ("string_to_param", Map(vec![("*", T)])),
        ("name", V(1)),
    ]);
    let plan = auto(node, "string_to_param", &["*"]);
    assert!(said(&plan).contains("needs name"));
}

#[test]
fn ultralytics_takes_the_average_if_it_is_a_module() {
    let model = || {
        Module(vec![
            (Step::Attribute("yaml".into()), V(9)),
            (member("model"), Module(vec![(member("0"), layer())])),
            (Step::Attribute("stride".into()), T),
            (Step::NonPersistent("anchors".into()), T),
        ])
    };
    let node = |ema, model| {
        Map(vec![("epoch", V(1)), ("model", model), ("ema", ema), ("updates", V(1)), ("train_args", V(5))])
    };
    let expected = &["model.0.weight", "model.0.bias"];
    let plan = auto(node(model(), model()), "ema", expected);
    assert_eq!(
        left(&plan),
        [
            triple("model", 4, "outside the root"),
            triple("ema/stride", 1, "plain attribute"),
            triple("ema/anchors", 1, "non-persistent buffer")
        ]
    );
    let plan = auto(node(V(1), model()), "model", expected);
    assert!(said(&plan).contains("ultralytics also needs train_args, model.yaml"), "{}", said(&plan));
}

#[test]
fn generators_of_gans() {
    let node = Map(vec![("G", layer()), ("D", layer()), ("G_ema", layer()), ("training_set_kwargs", V(4))]);
    let plan = auto(node, "G_ema", LINEAR);
    assert!(said(&plan).contains("(also found: G, 2 tensors; D, 2 tensors; --root G)"), "{}", said(&plan));
    let plan = auto(Map(vec![("g", linear()), ("g_ema", linear()), ("latent_avg", T)]), "g_ema", LINEAR);
    assert!(said(&plan).contains("needs latent_avg"));
    let node = Map(vec![("ema", layer()), ("augment_pipe", layer()), ("dataset_kwargs", V(3))]);
    auto(node, "ema", LINEAR);
}

#[test]
fn other_rows() {
    auto(Map(vec![("meta", V(3)), ("state_dict", linear())]), "state_dict", LINEAR);
    auto(
        Map(vec![("student", linear()), ("teacher", linear()), ("dino_loss", Map(vec![("center", T)]))]),
        "teacher",
        LINEAR,
    );
    auto(Map(vec![("best_state", linear()), ("xp.cfg", V(1)), ("other", linear())]), "best_state", LINEAR);
    auto(Map(vec![("klass", V(1)), ("args", V(1)), ("kwargs", V(1)), ("state", linear())]), "state", LINEAR);
    let flax = Map(vec![
        ("params", Map(vec![("d", linear())])),
        ("batch_stats", Map(vec![("mean", T)])),
        ("step", V(1)),
    ]);
    auto(flax, "", &["params.d.weight", "params.d.bias", "batch_stats.mean"]);
}

#[test]
fn latent_diffusion_with_averages() {
    let state =
        Map(vec![("model.w", T), ("model_ema.decay", T), ("model_ema.num_updates", T), ("model_ema.w", T)]);
    let plan = planned(Map(vec![("state_dict", state), ("global_step", V(1))]), &Options::default()).unwrap();
    assert_eq!(plan.tensors.len(), 4);
    assert!(plan.notes.contains(&Note::Averaged { prefix: "model_ema.", tensors: 3, bytes: 24 }));
}

#[test]
fn every_row_has_what_the_walk_needs() {
    for writer in writers::WRITERS {
        assert!(!writer.name.is_empty() && !writer.keys.is_empty() && !writer.takes.is_empty());
        assert!(writer.takes.iter().all(|take| !take.from.is_empty()), "{}", writer.name);
    }
}

// The common order and what looks like weights

#[test]
fn the_common_order_decides_between_known_names() {
    for pair in writers::COMMON.windows(2) {
        auto(Map(vec![("epoch", V(1)), (pair[1], linear()), (pair[0], linear())]), pair[0], LINEAR);
    }
}

#[test]
fn common_names_nest() {
    auto(Map(vec![("model", Map(vec![("state_dict", linear())]))]), "model.state_dict", LINEAR);
    auto(
        Map(vec![("model", Map(vec![("state_dict", linear()), ("epoch", V(1))]))]),
        "model.state_dict",
        LINEAR,
    );
    auto(
        Map(vec![("checkpoint", Map(vec![("model_state_dict", linear()), ("epoch", V(1))]))]),
        "checkpoint.model_state_dict",
        LINEAR,
    );
    auto(List(vec![Map(vec![("state_dict", linear())]), V(3)]), "0.state_dict", LINEAR);
    // A model of submodules is one root, whatever they are called.
    let parts = Map(vec![("net", linear()), ("head", linear())]);
    auto(Map(vec![("model", parts)]), "model", &["net.weight", "net.bias", "head.weight", "head.bias"]);
    auto(
        Map(vec![("model", Map(vec![("language_model", linear())]))]),
        "model",
        &["language_model.weight", "language_model.bias"],
    );
}

#[test]
fn a_common_name_that_holds_no_weights_is_passed_over() {
    auto(Map(vec![("model", V(1)), ("net", linear())]), "net", LINEAR);
    auto(Map(vec![("state_dict", Map(vec![("w", Meta)])), ("net", linear())]), "net", LINEAR);
    // A tensor is no place.
    let plan = auto(Map(vec![("params", T), ("x", T)]), "", &["params", "x"]);
    assert_eq!(said(&plan), "root: the whole source");
}

#[test]
fn a_module_is_the_root_whatever_its_members_are_called() {
    let plan = auto(
        Module(vec![(member("model"), layer()), (member("optimizer"), layer())]),
        "",
        &["model.weight", "model.bias", "optimizer.weight", "optimizer.bias"],
    );
    assert_eq!(said(&plan), "root: the whole source");
}

#[test]
fn one_candidate_is_taken() {
    auto(Map(vec![("generator", linear())]), "generator", LINEAR);
    let plan = auto(
        Map(vec![("generator", linear()), ("epoch", V(1)), ("optimizer", linear())]),
        "generator",
        LINEAR,
    );
    assert_eq!(left(&plan), [triple("optimizer", 2, "optimizer state")]);
    auto(
        Map(vec![("g", Map(vec![("a", linear()), ("b", linear())])), ("n", V(1))]),
        "g",
        &["a.weight", "a.bias", "b.weight", "b.bias"],
    );
    auto(List(vec![linear(), V(1)]), "0", LINEAR);
    auto(Object(vec![("net_", layer()), ("n", V(1))]), "net_", LINEAR);
}

#[test]
fn several_candidates_stand_under_their_full_paths() {
    let node = Map(vec![
        ("epoch", V(1)),
        ("gen", Map(vec![("sd", linear()), ("step", V(1))])),
        ("disc", linear()),
        ("gen_opt", Map(vec![("state", Map(vec![("0", T)])), ("param_groups", V(1))])),
        ("lr_scheduler", Map(vec![("lr", T), ("n", V(1))])),
        ("rng_state", T),
        ("cuda_rng", List(vec![V(1)])),
    ]);
    let plan = auto(node, "", &["gen.sd.weight", "gen.sd.bias", "disc.weight", "disc.bias"]);
    assert_eq!(
        left(&plan),
        [
            triple("gen_opt", 1, "optimizer state"),
            triple("lr_scheduler", 1, "scheduler state"),
            triple("rng_state", 1, "random state")
        ]
    );
    let found = |path: &str| Found { path: path.into(), tensors: 2 };
    assert_eq!(plan.notes[0], Note::Several { found: vec![found("gen.sd"), found("disc")], more: 0 });
    let many: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(|n| (n, linear())).into();
    let plan = planned(Map(many), &Options::default()).unwrap();
    assert!(matches!(&plan.notes[0], Note::Several { found, more: 2 } if found.len() == 8));
}

#[test]
fn loose_tensors_count_as_several() {
    let plan = auto(Map(vec![("g", linear()), ("best_loss", T)]), "", &["g.weight", "g.bias", "best_loss"]);
    assert!(matches!(&plan.notes[0], Note::Several { found, .. } if found.len() == 2));
    let node = Map(vec![("g", linear()), ("betas", List(vec![T, T])), ("n", V(1))]);
    auto(node, "", &["g.weight", "g.bias", "betas.0", "betas.1"]);
    auto(List(vec![T, V(1), T]), "", &["0", "2"]);
    auto(
        Object(vec![("coef_", T), ("n", V(1)), ("tree", Object(vec![("value", T)]))]),
        "",
        &["coef_", "tree.value"],
    );
    auto(Map(vec![("w", T), ("sub", Map(vec![("x", T), ("n", V(1))]))]), "", &["w", "sub.x"]);
}

#[test]
fn keys_that_never_hold_weights_are_weights_in_a_flat_mapping() {
    auto(Map(vec![("scaler", T), ("rng", T), ("optimizer.w", T)]), "", &["scaler", "rng", "optimizer.w"]);
    // And below a place that is known to hold weights.
    let params = Map(vec![("scaler", linear()), ("d", linear())]);
    auto(
        Map(vec![("params", params), ("step", V(1))]),
        "params",
        &["scaler.weight", "scaler.bias", "d.weight", "d.bias"],
    );
    let deep = Map(vec![("a", Map(vec![("scaler", linear()), ("d", linear())])), ("b", linear())]);
    assert_eq!(planned(deep, &Options::default()).unwrap().tensors.len(), 6);
}

#[test]
fn a_lone_tensor_is_called_tensor() {
    auto(T, "", &["tensor"]);
    auto(Parts(vec![("indices", T), ("values", T)]), "", &["tensor.indices", "tensor.values"]);
    check(Map(vec![("a", T), ("b", T)]), &root("b"), &["tensor"]);
    auto(Map(vec![("", T), ("b", T)]), "", &["tensor", "b"]);
    auto(Map(vec![("", Map(vec![("x", T)])), ("b", linear())]), "", &[".x", "b.weight", "b.bias"]);
}

#[test]
fn parts_are_named_after_their_tensor() {
    let node = Map(vec![("q", Parts(vec![("values", T), ("scale", T)])), ("w", T)]);
    let plan = auto(node, "", &["q.values", "q.scale", "w"]);
    // A tensor in parts is no place of its own.
    assert_eq!(said(&plan), "root: the whole source");
}

#[test]
fn attributes_of_a_state_dict_do_not_make_it_less_of_one() {
    let mut source = Source::default();
    let top = source.tree.push(None, Step::Root, Kind::Mapping);
    source.add(Some(top), Step::Key("a".into()), linear());
    source.add(Some(top), Step::Key("b".into()), linear());
    source.add(Some(top), Step::Attribute("_metadata".into()), V(5));
    assert_eq!(source.plan(&Options::default()).unwrap().tensors.len(), 4);
}

// --root and --all

#[test]
fn a_root_is_found_by_its_dotted_path() {
    let node = || {
        Map(vec![
            ("model", Map(vec![("ema", linear()), ("net", linear())])),
            ("a.b", Map(vec![("c.d", linear())])),
            ("list", List(vec![V(1), linear()])),
            ("n", V(1)),
        ])
    };
    let plan = check(node(), &root("model.ema"), LINEAR);
    assert_eq!(plan.root.as_deref(), Some("model.ema"));
    assert_eq!(said(&plan).lines().next(), Some("root: model.ema"));
    assert_eq!(left(&plan).len(), 3);
    check(node(), &root("a.b.c.d"), LINEAR);
    check(node(), &root("list.1"), LINEAR);
    check(node(), &root("a.b"), &["c.d.weight", "c.d.bias"]);
    assert_eq!(planned(node(), &root("")).unwrap().tensors.len(), 8);
    for (path, near) in [("ema", "model.ema"), ("model.x", "model.ema"), ("", "")] {
        match planned(node(), &root(path)) {
            Err(Error::Misuse(Misuse::RootNotFound { near: found, .. })) => {
                assert!(found.contains(&near.to_owned()));
            }
            other => assert!(path.is_empty(), "{other:?}"),
        }
    }
    assert!(matches!(planned(node(), &root("n")), Err(Error::Misuse(Misuse::RootWithoutTensors { .. }))));
    assert!(matches!(planned(node(), &root("model.")), Err(Error::Misuse(Misuse::RootNotFound { .. }))));
    let message = planned(node(), &root("ema")).unwrap_err().to_string();
    assert_eq!(
        message,
        "--root ema: no such place; there is --root model.ema, --root model, --root a.b, --root list"
    );
}

#[test]
fn a_root_of_two_readings_is_an_error_that_shows_both() {
    let node = Map(vec![("a", Map(vec![("b", linear())])), ("a.b", linear())]);
    let first = vec!["a".to_owned(), "b".into()];
    let error = Structure::AmbiguousRoot { root: "a.b".into(), first, second: vec!["a.b".into()] };
    assert_eq!(planned(node, &root("a.b")), Err(Error::Structure(error)));
    // One that holds no tensor is no reading.
    check(Map(vec![("a", Map(vec![("b", V(1)), ("c", T)])), ("a.b", linear())]), &root("a.b"), LINEAR);
}

#[test]
fn a_given_root_takes_what_the_rule_would_not() {
    let node = || {
        Map(vec![
            ("model", linear()),
            ("optimizer", Map(vec![("state", Map(vec![("0", T)])), ("param_groups", V(1))])),
        ])
    };
    let plan = check(node(), &root("optimizer"), &["state.0"]);
    assert_eq!(left(&plan), [triple("model", 2, "outside the root")]);
    let plan = check(node(), &root("model"), LINEAR);
    assert_eq!(left(&plan), [triple("optimizer", 1, "optimizer state")]);
}

#[test]
fn all_takes_everything_under_full_paths() {
    let node = || {
        Map(vec![
            (
                "model",
                Module(vec![
                    (member("w"), T),
                    (Step::NonPersistent("mask".into()), T),
                    (Step::Attribute("cache".into()), Map(vec![("k", T)])),
                ]),
            ),
            ("optimizer", Map(vec![("state", List(vec![T]))])),
            ("x", Meta),
        ])
    };
    let all = Options { all: true, ..Options::default() };
    let plan = check(node(), &all, &["model.w", "model.mask", "model.cache.k", "optimizer.state.0"]);
    assert_eq!(left(&plan), [triple("x", 1, "no data")]);
    assert_eq!(plan.root, None);
    check(node(), &Options { all: true, ..root("model") }, &["w", "mask", "cache.k"]);
    let plan = check(node(), &root("model"), &["w"]);
    assert_eq!(left(&plan)[0], triple("model/mask", 1, "non-persistent buffer"));
    assert_eq!(left(&plan)[1], triple("model/cache", 1, "plain attribute"));
}

#[test]
fn attributes_of_objects_are_kept() {
    let node = Map(vec![("est", Object(vec![("coef_", T), ("inner", Object(vec![("mean_", T)]))]))]);
    check(node, &root("est"), &["coef_", "inner.mean_"]);
}

// What is not written

#[test]
fn what_has_no_data_keeps_its_own_reason_and_does_not_split_its_place() {
    let node = Map(vec![
        ("state_dict", Map(vec![("w", T), ("m", Meta)])),
        ("optimizer", List(vec![T, Meta, T])),
        ("ghost", Map(vec![("a", Meta), ("b", Meta)])),
    ]);
    let plan = auto(node, "state_dict", &["w"]);
    assert_eq!(
        left(&plan),
        [
            triple("state_dict/m", 1, "no data"),
            triple("optimizer", 2, "optimizer state"),
            triple("optimizer/1", 1, "no data"),
            triple("ghost", 2, "no data")
        ]
    );
}

#[test]
fn no_tensors_and_no_weights_are_kept_apart() {
    let plan = |node| planned(node, &Options::default());
    assert_eq!(plan(V(3)), Err(Structure::NoTensors { unwritable: 0 }.into()));
    assert_eq!(plan(Map(vec![("a", Meta)])), Err(Structure::NoTensors { unwritable: 1 }.into()));
    assert_eq!(
        super::plan(&Tree::default(), &[], &Options::default()),
        Err(Structure::NoTensors { unwritable: 0 }.into())
    );
    let optimizer = || Map(vec![("state", Map(vec![("0", T)])), ("param_groups", V(1))]);
    assert!(
        matches!(plan(optimizer()), Err(Error::Structure(Structure::NoWeights { places })) if places.len() == 1)
    );
    assert_eq!(
        plan(optimizer()).unwrap_err().to_string(),
        "no weights, only optimizer state in the whole source (1 tensor); --all takes everything"
    );
    let error =
        plan(Map(vec![("optimizer", optimizer()), ("scheduler", List(vec![T])), ("n", V(1))])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no weights, only optimizer state in optimizer (1 tensor), scheduler state in scheduler (1 tensor); --all \
         takes everything, --root optimizer one place"
    );
    let module = Module(vec![(Step::Attribute("t".into()), T)]);
    assert!(plan(module).unwrap_err().to_string().contains("plain attribute in t"));
}

#[test]
fn a_tensor_that_nobody_listed_is_an_error() {
    let mut source = Source::new(Map(vec![("a", T)]));
    source.tensors.clear();
    let path = vec!["a".to_owned()];
    assert_eq!(source.plan(&Options::default()), Err(Structure::UnknownTensor { path }.into()));
}

// Names

#[test]
fn include_and_exclude_go_by_final_names() {
    let node = || Map(vec![("module.enc.w", T), ("module.enc.b", T), ("module.dec.w", T)]);
    let options = |include: &[&str], exclude: &[&str]| Options {
        include: include.iter().map(ToString::to_string).collect(),
        exclude: exclude.iter().map(ToString::to_string).collect(),
        names: vec![NameRule::StripPrefixAuto],
        ..Options::default()
    };
    let plan = check(node(), &options(&["enc.*"], &["*.b"]), &["enc.w"]);
    assert_eq!(left(&plan), [triple("module.enc.b", 1, "excluded"), triple("module.dec.w", 1, "excluded")]);
    check(node(), &options(&["enc.?", "dec.[w]"], &[]), &["enc.w", "enc.b", "dec.w"]);
    for (include, exclude, flag) in [
        (&["x"][..], &[][..], "--include"),
        (&["enc.*", "x"], &[], "--include"),
        (&[], &["module.*"], "--exclude"),
    ] {
        let error = planned(node(), &options(include, exclude)).unwrap_err();
        assert!(
            matches!(&error, Error::Misuse(Misuse::MatchesNothing { flag: f, .. }) if *f == flag),
            "{error}"
        );
    }
    let error = planned(node(), &options(&[], &["*"])).unwrap_err();
    assert_eq!(error, Misuse::NothingLeft(3).into());
    let error = planned(node(), &options(&["{a"], &[])).unwrap_err();
    assert!(matches!(error, Error::Misuse(Misuse::BadGlob { flag: "--include", .. })));
}

#[test]
fn exclusion_of_a_whole_place_is_told_as_one() {
    let node = Module(vec![(member("enc"), layer()), (member("dec"), layer())]);
    let plan = check(
        node,
        &Options { exclude: vec!["enc.*".into()], ..Options::default() },
        &["dec.weight", "dec.bias"],
    );
    assert_eq!(left(&plan), [triple("enc", 2, "excluded")]);
}

#[test]
fn wrappers_are_hinted_at_and_peeled_on_request() {
    let node = || Map(vec![("state_dict", Map(vec![("module.a", T), ("module.b", T)])), ("n", V(1))]);
    let plan = check(node(), &Options::default(), &["module.a", "module.b"]);
    assert!(said(&plan).contains("every name begins with module.; --strip-prefix auto takes it off"));
    let plan =
        check(node(), &Options { names: vec![NameRule::StripPrefixAuto], ..Options::default() }, &["a", "b"]);
    assert!(!plan.notes.iter().any(|note| matches!(note, Note::Prefix(_))));
    let names = vec![NameRule::strip_prefix("x.")];
    let error = planned(node(), &Options { names, ..Options::default() }).unwrap_err();
    assert!(matches!(error, Error::Misuse(Misuse::MatchesNothing { .. })));
}

#[test]
fn two_places_of_one_name_are_an_error_that_shows_both() {
    let path = |steps: &[&str]| steps.iter().map(ToString::to_string).collect::<Vec<_>>();
    let node = Map(vec![("a.b", T), ("a", Map(vec![("b", T)]))]);
    let error = Structure::Collision { name: "a.b".into(), first: path(&["a.b"]), second: path(&["a", "b"]) };
    assert_eq!(planned(node.clone(), &Options::default()), Err(error.into()));
    // Of the same data too: whose name would it be?
    let same = Map(vec![("a.b", Same(1)), ("a", Map(vec![("b", Same(1))]))]);
    assert!(matches!(planned(same, &Options::default()), Err(Error::Structure(Structure::Collision { .. }))));
    check(
        Map(vec![("x1", T), ("y", T)]),
        &Options { names: vec![NameRule::rename("x1=z").unwrap()], ..Options::default() },
        &["z", "y"],
    );
    let names = vec![NameRule::rename("x1=y").unwrap()];
    let error =
        planned(Map(vec![("x1", T), ("y", T)]), &Options { names, ..Options::default() }).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"two tensors of one name "y": ["x1"] and ["y"]; --rename or --exclude one"#
    );
}

#[test]
fn the_name_of_the_header_is_refused() {
    let error = planned(Map(vec![("__metadata__", T), ("a", T)]), &Options::default()).unwrap_err();
    assert!(matches!(error, Error::Structure(Structure::ReservedName { .. })), "{error}");
}

#[test]
fn a_long_key_shared_by_many_places_is_stopped_before_it_is_spelled() {
    let mut source = Source::default();
    let mut at = source.tree.push(None, Step::Root, Kind::Mapping);
    let key: Box<str> = "k".repeat(1 << 20).into();
    for _ in 0..80 {
        at = source.tree.push(Some(at), Step::Key(key.clone()), Kind::Mapping);
    }
    source.add(Some(at), Step::Key("v".into()), V(1));
    source.add(Some(at), Step::Key("w".into()), T);
    for options in [Options::default(), Options { all: true, metadata: true, ..Options::default() }] {
        let error = source.plan(&options).unwrap_err();
        assert!(matches!(error, Error::Structure(Structure::NamesTooLong { places: 1, .. })), "{error}");
    }
}

// Types

#[test]
fn floats_are_cast_and_nothing_else() {
    let node = || {
        Map(vec![
            ("a", Of(Dtype::F32)),
            ("b", Of(Dtype::F16)),
            ("c", Of(Dtype::I64)),
            ("d", Of(Dtype::F8E4M3)),
            ("e", Of(Dtype::F64)),
            ("f", Of(Dtype::C64)),
        ])
    };
    let cast = |plan: &Plan| plan.tensors.iter().map(|t| t.cast).collect::<Vec<_>>();
    let f16 = Options { dtype: Some(Dtype::F16), ..Options::default() };
    let plan = planned(node(), &f16).unwrap();
    assert_eq!(cast(&plan), [true, false, false, false, true, false]);
    assert_eq!(cast(&planned(node(), &Options::default()).unwrap()), [false; 6]);
    let plan = planned(Map(vec![("a", Of(Dtype::I8))]), &f16).unwrap();
    assert!(plan.notes.contains(&Note::NothingToCast(Dtype::F16)));
    let f64 = Options { dtype: Some(Dtype::F64), ..Options::default() };
    assert_eq!(planned(node(), &f64), Err(Misuse::Uncastable(Dtype::F64).into()));
}

#[test]
fn optimizer_state_and_parts_are_not_cast() {
    let node = Map(vec![("model", linear()), ("optimizer", Map(vec![("state", List(vec![T]))]))]);
    let options = Options { dtype: Some(Dtype::Bf16), all: true, ..Options::default() };
    let plan = planned(node, &options).unwrap();
    assert_eq!(plan.tensors.iter().map(|t| t.cast).collect::<Vec<_>>(), [true, true, false]);
    let mut source = Source::new(Map(vec![("q", Parts(vec![("scale", T)])), ("w", T)]));
    source.tensors[0].encoding = Some(Box::new(scale()));
    let plan = source.plan(&options).unwrap();
    assert_eq!(plan.tensors.iter().map(|t| t.cast).collect::<Vec<_>>(), [false, true]);
}

fn scale() -> Encoding {
    Encoding { kind: "quantized", part: "scale", scheme: None, axis: None, shape: None }
}

#[test]
fn strict_refuses_what_is_re_encoded() {
    let strict = Options { strict: true, ..Options::default() };
    let error = planned(Map(vec![("a", Of(Dtype::C128))]), &strict).unwrap_err();
    assert_eq!(error, Refused::Reencoded { name: "a".into() }.into());
    let mut source = Source::new(Map(vec![("q", Parts(vec![("scale", T)]))]));
    source.tensors[0].encoding = Some(Box::new(scale()));
    assert!(matches!(source.plan(&strict), Err(Error::Refused(Refused::Reencoded { .. }))));
    check(Map(vec![("a", Of(Dtype::F4E2M1X2)), ("b", T)]), &strict, &["a", "b"]);
}

// Aliases

fn tied() -> Node {
    Map(vec![("wte", Same(1)), ("x", T), ("head", Same(1)), ("format", Same(1))])
}

#[test]
fn auto_copies_unless_the_layout_ties() {
    let plan = check(tied(), &Options::default(), &["wte", "x", "head", "format"]);
    let aliased = |names, bytes| Aliased { names, bytes, first: "head".into(), of: "wte".into() };
    assert!(plan.notes.contains(&Note::AliasesCopied(aliased(2, 16))));
    assert_eq!(plan.metadata, BTreeMap::from([("format".into(), "pt".into())]));

    let plan = check(tied(), &Options { prefer_once: true, ..Options::default() }, &["wte", "x", "format"]);
    assert!(plan.notes.contains(&Note::AliasesOnce(aliased(1, 8))));
    let copy = Options { prefer_once: true, aliases: Aliases::Copy, ..Options::default() };
    check(tied(), &copy, &["wte", "x", "head", "format"]);
}

#[test]
fn once_records_the_dropped_name_and_copies_a_reserved_one() {
    let plan =
        check(tied(), &Options { aliases: Aliases::Once, ..Options::default() }, &["wte", "x", "format"]);
    assert_eq!(plan.aliases.len(), 1);
    assert_eq!((&*plan.aliases[0].name, plan.aliases[0].of), ("head", 0));
    let metadata = [("format", "pt"), ("head", "wte")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(plan.metadata, BTreeMap::from(metadata));
}

#[test]
fn refuse_names_the_pair() {
    let error = planned(tied(), &Options { aliases: Aliases::Refuse, ..Options::default() }).unwrap_err();
    assert_eq!(error, Refused::Alias { name: "head".into(), of: "wte".into() }.into());
}

#[test]
fn only_equal_views_are_aliases() {
    let mut source = Source::new(Map(vec![("a", Same(1)), ("b", T), ("c", T), ("empty", T), ("empty2", T)]));
    let view = source.tensors[0].view.clone();
    let place = Place::Stored { stream: StreamId::SOURCE, span: Span::between(0, 64) };
    let data = Storage { key: "0".into(), entry: None, place, len: 64, big_endian: false, crc32: None };
    let spec = |offset, shape: i64| ViewSpec {
        dtype: Dtype::F32,
        family: Family::Torch,
        offset,
        shape: vec![shape],
        strides: vec![1],
        negated: false,
        conjugated: false,
    };
    let other = |spec| View::new(view.storage(), &data, &spec, &Limits::default()).unwrap();
    source.tensors[1].view = other(spec(1, 2));
    source.tensors[2].view = other(spec(0, 3));
    source.tensors[3].view = other(spec(0, 0));
    source.tensors[4].view = other(spec(0, 0));
    let refuse = Options { aliases: Aliases::Refuse, ..Options::default() };
    assert_eq!(source.plan(&refuse).unwrap().tensors.len(), 5);
    // Two handles of one view are aliases as well as one handle at two places.
    source.tensors[1].view = view;
    assert!(source.plan(&refuse).is_err());
    source.tensors[1].encoding = Some(Box::new(scale()));
    assert!(source.plan(&refuse).is_ok());
}

#[test]
fn an_alias_outside_of_what_is_written_is_none() {
    let node = || Map(vec![("ema", Map(vec![("a", Same(1))])), ("state_dict", Map(vec![("a", Same(1))]))]);
    let plan = planned(node(), &Options { aliases: Aliases::Once, ..Options::default() }).unwrap();
    assert_eq!((names(&plan), plan.aliases.len()), (vec!["a"], 0));
    // A cast copy cannot stand for one that is to stay as it is.
    let options =
        Options { aliases: Aliases::Once, all: true, dtype: Some(Dtype::F16), ..Options::default() };
    let node =
        Map(vec![("model", Map(vec![("a", Same(1)), ("b", Same(1))])), ("optimizer", List(vec![Same(1)]))]);
    let plan = check(node, &options, &["model.a", "optimizer.0"]);
    let aliased = Aliased { names: 1, bytes: 4, first: "model.b".into(), of: "model.a".into() };
    assert!(plan.notes.contains(&Note::AliasesOnce(aliased)));
}

#[test]
fn a_million_tensors_take_linear_time() {
    let mut source = Source::default();
    let top = source.tree.push(None, Step::Root, Kind::Mapping);
    let dict = source.tree.push(Some(top), Step::Key("state_dict".into()), Kind::Mapping);
    for i in 0..1_000_000_u32 {
        let tensor = if i % 2 == 0 { source.tensor(i, Dtype::F32) } else { TensorId(i / 2) };
        source.tree.push(
            Some(dict),
            Step::Key(format!("module.layer.{i}").into()),
            Kind::Leaf(Leaf::Tensor(tensor)),
        );
    }
    let options = Options {
        aliases: Aliases::Once,
        names: vec![NameRule::StripPrefixAuto, NameRule::rename(r"^layer\.=h.").unwrap()],
        exclude: vec!["h.7".into()],
        ..Options::default()
    };
    let start = std::time::Instant::now();
    let plan = plan(&source.tree, &source.tensors, &options).unwrap();
    assert_eq!((plan.tensors.len() + plan.aliases.len(), plan.left_out.len()), (999_999, 1));
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
