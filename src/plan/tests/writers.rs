//! Rows of the table of writers.

use super::*;

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
fn megatron_names_its_arguments_and_keeps_the_stages_of_a_rank_apart() {
    let optimizer = || Map(vec![("state", Map(vec![("0", T)]))]);
    let rest = || vec![("args", V(9)), ("checkpoint_version", V(1)), ("optimizer", optimizer())];
    let one = [vec![("model", linear())], rest()].concat();
    let plan = auto(Map(one), "model", LINEAR);
    assert!(said(&plan).contains("Megatron-LM also needs args"), "{}", said(&plan));
    let stages = [vec![("model0", linear()), ("model1", linear())], rest()].concat();
    let plan = planned(Map(stages), &Options::default()).unwrap();
    let names: Vec<_> = plan.tensors.iter().map(|planned| planned.name.as_str()).collect();
    let expected: Vec<String> = ["model0", "model1"]
        .iter()
        .flat_map(|stage| LINEAR.iter().map(move |name| format!("{stage}.{name}")))
        .collect();
    assert_eq!(names, expected);
    assert_eq!(left(&plan), [triple("optimizer", 1, "optimizer state")]);
}

#[test]
fn flat_parameters_are_said_to_be_what_they_are() {
    let plan =
        planned(Map(vec![("_flat_param", T), ("body.0._flat_param", T), ("steps", T)]), &Options::default());
    assert!(plan.unwrap().notes.contains(&Note::Flat { tensors: 2 }));
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
    for writer in super::super::writers::WRITERS {
        assert!(!writer.name.is_empty() && !writer.keys.is_empty() && !writer.takes.is_empty());
        assert!(writer.takes.iter().all(|take| !take.from.is_empty()), "{}", writer.name);
    }
}

// The common order and what looks like weights
