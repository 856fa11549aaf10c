//! Where the weights are, where no row says it.

use super::*;

#[test]
fn the_common_order_decides_between_known_names() {
    for pair in super::super::writers::COMMON.windows(2) {
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
