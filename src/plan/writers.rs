//! The known writers, one table: by which keys a checkpoint is recognised, what its loader takes, and what else it
//! needs.
//!
//! A row exists where the common order alone ([`COMMON`]) would take the wrong place or none, or where the loader needs
//! values that safetensors does not hold. To add one, write a row and a test.

/// Where weights stand, if no row of [`WRITERS`] fits: the first that holds tensors.
pub(super) const COMMON: &[&str] =
    &["model_state_dict", "state_dict", "params_ema", "params", "model", "net", "module"];

/// A program that writes checkpoints.
#[derive(Debug)]
pub(super) struct Writer {
    /// What it is called.
    pub(super) name: &'static str,
    /// At least one key of each group must be there.
    pub(super) keys: &'static [&'static [&'static str]],
    /// Places to take, each under a prefix; the first must hold tensors, the others may.
    pub(super) takes: &'static [Take],
    /// Keys beside the weights without which its loader cannot build the model.
    pub(super) needs: &'static [&'static str],
    /// Attributes of the module that it cannot do without.
    pub(super) needs_inside: &'static [&'static str],
    /// Whether the place must be a pickled module.
    pub(super) module: bool,
}

/// One place to take.
#[derive(Debug)]
pub(super) struct Take {
    /// The first of these keys that holds tensors.
    pub(super) from: &'static [&'static str],
    /// What its names begin with in the output.
    pub(super) prefix: Option<&'static str>,
}

const fn take(from: &'static [&'static str]) -> Take {
    Take { from, prefix: None }
}

const fn under(prefix: &'static str, from: &'static [&'static str]) -> Take {
    Take { from, prefix: Some(prefix) }
}

const ROW: Writer = Writer { name: "", keys: &[], takes: &[], needs: &[], needs_inside: &[], module: false };

/// Every known writer; the first that fits decides.
pub(super) const WRITERS: &[Writer] = &[
    // https://github.com/openai/whisper/blob/main/whisper/__init__.py: ModelDimensions(**checkpoint["dims"])
    Writer {
        name: "Whisper",
        keys: &[&["dims"], &["model_state_dict"]],
        takes: &[take(&["model_state_dict"])],
        needs: &["dims"],
        ..ROW
    },
    // load_from_checkpoint hands hyper_parameters to the constructor; pyannote keeps its architecture beside them.
    Writer {
        name: "PyTorch Lightning",
        keys: &[&["state_dict"], &["pytorch-lightning_version", "optimizer_states", "callbacks"]],
        takes: &[take(&["state_dict"])],
        needs: &["hyper_parameters", "pyannote.audio"],
        ..ROW
    },
    // mmcv and mmengine read classes and palette from `meta`.
    Writer {
        name: "OpenMMLab",
        keys: &[&["meta"], &["state_dict"]],
        takes: &[take(&["state_dict"])],
        needs: &["meta"],
        ..ROW
    },
    // variables = {"params": …, "batch_stats": …}: apply() needs both.
    Writer {
        name: "Flax",
        keys: &[&["params"], &["batch_stats"]],
        takes: &[under("params", &["params"]), under("batch_stats", &["batch_stats"])],
        ..ROW
    },
    // BasicSR's and Real-ESRGAN's load_network prefer the averaged weights.
    Writer { name: "BasicSR", keys: &[&["params_ema"], &["params"]], takes: &[take(&["params_ema"])], ..ROW },
    // fairseq/checkpoint_utils.py: the architecture is in `cfg`, before 0.10 in `args`.
    Writer {
        name: "fairseq",
        keys: &[
            &["model"],
            &["args", "cfg"],
            &["extra_state", "optimizer_history", "last_optimizer_state", "task_state"],
        ],
        takes: &[take(&["model"])],
        needs: &["cfg", "args", "task_state"],
        ..ROW
    },
    // megatron/training/checkpointing.py: the model is built from `args`.
    Writer {
        name: "Megatron-LM",
        keys: &[&["model"], &["args"], &["checkpoint_version"]],
        takes: &[take(&["model"])],
        needs: &["args"],
        ..ROW
    },
    // The same with a virtual pipeline: one rank has several stages.
    Writer {
        name: "Megatron-LM",
        keys: &[&["model0"], &["model1"], &["args"], &["checkpoint_version"]],
        takes: &[
            under("model0", &["model0"]),
            under("model1", &["model1"]),
            under("model2", &["model2"]),
            under("model3", &["model3"]),
        ],
        needs: &["args"],
        ..ROW
    },
    // The generator is a module of the model, saved apart; OpenNMT-py's safetensors loader asks for `generator.weight`.
    Writer {
        name: "OpenNMT",
        keys: &[&["model"], &["generator"], &["opt"], &["vocab", "fields"]],
        takes: &[take(&["model"]), under("generator", &["generator"])],
        needs: &["opt", "vocab", "fields"],
        ..ROW
    },
    // infer/modules/vc: the synthesizer is built from these.
    Writer {
        name: "RVC",
        keys: &[&["weight"], &["config"], &["f0", "version"]],
        takes: &[take(&["weight"])],
        needs: &["config", "f0", "version", "sr"],
        ..ROW
    },
    // One vector for each string; loaders take the first tensor and the token from `name` or the file's name.
    Writer {
        name: "textual inversion",
        keys: &[&["string_to_param"]],
        takes: &[take(&["string_to_param"])],
        needs: &["name"],
        ..ROW
    },
    // `ckpt.get("ema") or ckpt["model"]`; `model` is None in half of the files.
    Writer {
        name: "ultralytics",
        keys: &[&["ema", "model"], &["train_args", "updates", "best_fitness"]],
        takes: &[take(&["ema", "model"])],
        needs: &["train_args"],
        needs_inside: &["yaml", "names"],
        module: true,
    },
    // NVlabs: legacy.load_network_pkl(f)["G_ema"].
    Writer { name: "StyleGAN", keys: &[&["G_ema"], &["G", "D"]], takes: &[take(&["G_ema"])], ..ROW },
    // rosinality/stylegan2-pytorch and those after it.
    Writer {
        name: "stylegan2-pytorch",
        keys: &[&["g_ema"], &["g", "d", "latent_avg"]],
        takes: &[take(&["g_ema"])],
        needs: &["latent_avg"],
        ..ROW
    },
    // facebookresearch/dino, bytedance/ibot: --checkpoint_key defaults to the teacher.
    Writer {
        name: "DINO",
        keys: &[&["student"], &["teacher"], &["dino_loss", "ibot_loss"]],
        takes: &[take(&["teacher"])],
        needs: &["args"],
        ..ROW
    },
    // audiocraft/models/loaders.py
    Writer {
        name: "audiocraft",
        keys: &[&["best_state"], &["xp.cfg"]],
        takes: &[take(&["best_state"])],
        needs: &["xp.cfg"],
        ..ROW
    },
    // demucs/states.py: klass(*args, **kwargs)
    Writer {
        name: "Demucs",
        keys: &[&["klass"], &["args"], &["kwargs"], &["state"]],
        takes: &[take(&["state"])],
        needs: &["klass", "args", "kwargs"],
        ..ROW
    },
    // timm/models/_helpers.py, load_state_dict(use_ema=True): state_dict_ema, model_ema, state_dict, model. torchvision's
    // references, ConvNeXt and k-diffusion write these keys too, and evaluate the average.
    Writer {
        name: "timm",
        keys: &[&["state_dict_ema", "model_ema"], &["state_dict", "model"]],
        takes: &[take(&["state_dict_ema", "model_ema"])],
        ..ROW
    },
    // facebookresearch/DiT, download.py, find_model: checkpoint["ema"] of what train.py saves.
    Writer {
        name: "DiT",
        keys: &[&["ema"], &["model"], &["opt"], &["args"]],
        takes: &[take(&["ema"])],
        ..ROW
    },
    // NVlabs/edm, generate.py: pickle.load(f)["ema"].
    Writer {
        name: "EDM",
        keys: &[&["ema"], &["loss_fn", "augment_pipe", "dataset_kwargs"]],
        takes: &[take(&["ema"])],
        module: true,
        ..ROW
    },
    // karpathy/nanoGPT, sample.py: GPTConfig(**checkpoint["model_args"]); Bark and llama2.c do the same.
    Writer {
        name: "nanoGPT",
        keys: &[&["model"], &["model_args"]],
        takes: &[take(&["model"])],
        needs: &["model_args"],
        ..ROW
    },
    // facebookresearch/esm, esm/pretrained.py: ESM-2 is built from model_data["cfg"]["model"], as fairseq's inference
    // checkpoints are.
    Writer { name: "ESM", keys: &[&["model"], &["cfg"]], takes: &[take(&["model"])], needs: &["cfg"], ..ROW },
    // RVC-Boss/GPT-SoVITS, inference_webui.py: hps = dict_s2["config"], then load_state_dict(dict_s2["weight"]).
    Writer {
        name: "GPT-SoVITS",
        keys: &[&["weight"], &["config"], &["info"]],
        takes: &[take(&["weight"])],
        needs: &["config"],
        ..ROW
    },
    // lucidrains/DALLE-pytorch, generate.py: DALLE(vae=vae, **load_obj.pop("hparams")).
    Writer {
        name: "DALLE-pytorch",
        keys: &[&["weights"], &["hparams"], &["vae_params"]],
        takes: &[take(&["weights"])],
        needs: &["hparams", "vae_params", "vae_class_name"],
        ..ROW
    },
    // ray/rllib/policy/policy.py, get_state: numpy weights, and the spec that from_state builds the policy from.
    Writer {
        name: "RLlib",
        keys: &[&["weights"], &["policy_spec"]],
        takes: &[take(&["weights"])],
        needs: &["policy_spec"],
        ..ROW
    },
];

/// Names by which `LitEma` (latent diffusion) shows itself in a `state_dict`, and what its averaged copies begin with.
pub(super) const LIT_EMA: (&str, &str) = ("model_ema.num_updates", "model_ema.");
