//! What a file is for, by its name.

use std::sync::LazyLock;

use regex::Regex;

/// What the weights of each library are called.
const FAMILIES: &[&str] = &[
    "pytorch_model",
    "diffusion_pytorch_model",
    "adapter_model",
    // LoRA weights of diffusers.
    "pytorch_lora_weights",
];

/// State of a training run, as transformers' Trainer and accelerate write it: pickles that nobody needs for the weights.
const TRAINING: &str = r"^(training_args\.bin|(optimizer|scheduler|scaler)(_\d+)?\.(bin|pt|pth)|rng_state.*\.pth|random_states_\d+\.pkl|sampler(_\d+)?\.bin|dl_state_dict.*\.bin)$";

/// Suffixes of configs, vocabularies and text, which a converted copy needs.
const TEXT: &[&str] = &[
    "json", "jsonl", "txt", "md", "model", "spm", "bpe", "tiktoken", "vocab", "merges", "jinja", "yaml",
    "yml", "toml", "csv", "tsv",
];

/// Text files without a suffix.
const BARE: &[&str] = &["LICENSE", "NOTICE", "README", "COPYING"];

/// What depickle writes beside weights, besides manifests of single files.
const OWN: &[&str] = &[
    "manifest.json",
    "SHA256SUMS",
    "model.sig",
    "provenance.intoto.json",
    "provenance.predicate.json",
    "provenance.dsse.json",
    "bom.cdx.json",
];

/// Whether a file or folder has the name of what depickle writes beside weights, or leaves behind when it is interrupted.
pub fn is_own(name: &str) -> bool {
    OWN.contains(&name)
        || name.ends_with(".manifest.json")
        || name.starts_with('.') && name.ends_with(".partial")
}

/// What a file is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// Pickled weights.
    Weights(Name),
    /// The index of shards.
    Index(Name),
    /// A config, a vocabulary or text, and weights in safetensors.
    Other,
    /// What depickle itself writes.
    Own,
    /// None of these, and why.
    LeftOut(&'static str),
}

/// The parts of the name of a file of weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// The library's name for weights.
    pub(super) family: &'static str,
    /// Such as `fp16`.
    pub(super) variant: Option<String>,
    /// Number of the shard, and of how many.
    pub(super) shard: Option<(u32, u32)>,
}

impl Name {
    /// The name up to shard number and suffix.
    pub(super) fn stem(&self) -> String {
        let Self { family, variant, .. } = self;
        variant.as_ref().map_or_else(|| (*family).to_owned(), |variant| format!("{family}.{variant}"))
    }
}

/// What a file of this name is for.
pub(super) fn role(name: &str) -> Role {
    if let Some(parts) = family(name).and_then(|(family, rest)| parts(family, rest)) {
        return parts;
    }
    let suffix = name.rsplit_once('.').map(|(_, suffix)| suffix.to_ascii_lowercase());
    let suffix = suffix.as_deref().unwrap_or_default();
    match () {
        () if is_own(name) => Role::Own,
        () if is_training_state(name) => Role::LeftOut("state of a training run"),
        () if suffix == "py" => Role::LeftOut("code"),
        () if suffix == "safetensors" || TEXT.contains(&suffix) || BARE.contains(&name) => Role::Other,
        () => Role::LeftOut("no weights under a name that the libraries load, and no config or text"),
    }
}

/// What a file of weights in safetensors is, or their index, by its name.
pub(super) fn stock(name: &str) -> Option<Name> {
    let (before, after) = name.rsplit_once(".safetensors")?;
    let pickled =
        match before.strip_prefix("model").filter(|rest| rest.is_empty() || rest.starts_with(['.', '-'])) {
            Some(rest) => format!("pytorch_model{rest}.bin{after}"),
            None => format!("{before}.bin{after}"),
        };
    match role(&pickled) {
        Role::Weights(name) | Role::Index(name) => Some(name),
        _ => None,
    }
}

/// Whether a file has the name of what a trainer keeps beside the weights.
pub fn is_training_state(name: &str) -> bool {
    static STATE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(TRAINING).ok());
    STATE.as_ref().is_some_and(|state| state.is_match(name))
}

/// The family of a name, and what follows.
fn family(name: &str) -> Option<(&'static str, &str)> {
    FAMILIES.iter().find_map(|family| {
        let rest = name.strip_prefix(family)?;
        rest.starts_with(['.', '-']).then_some((*family, rest))
    })
}

fn parts(family: &'static str, rest: &str) -> Option<Role> {
    // Both orders of number and variant were written; an index has its variant before `.json`.
    static WEIGHTS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"^(?:\.(?<before>\w+))?(?:-(?<i>\d{5})-of-(?<n>\d{5}))?(?:\.(?<after>\w+))?\.bin$").ok()
    });
    static INDEX: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^(?:\.(?<before>\w+))?\.bin\.index(?:\.(?<after>\w+))?\.json$").ok());
    let (captures, is_index) = match WEIGHTS.as_ref()?.captures(rest) {
        Some(captures) => (captures, false),
        None => (INDEX.as_ref()?.captures(rest)?, true),
    };
    let text = |name| captures.name(name).map(|found| found.as_str());
    let number = |name| text(name).and_then(|digits| digits.parse().ok());
    let variant = text("before").or(text("after")).map(str::to_owned);
    let name = |shard| Name { family, variant, shard };
    Some(if is_index { Role::Index(name(None)) } else { Role::Weights(name(number("i").zip(number("n")))) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_weights_come_apart() {
        for (name, variant, shard) in [
            ("pytorch_model.bin", None, None),
            ("pytorch_model.fp16.bin", Some("fp16"), None),
            ("pytorch_model-00001-of-00002.bin", None, Some((1, 2))),
            ("pytorch_model.fp16-00002-of-00002.bin", Some("fp16"), Some((2, 2))),
            ("pytorch_model-00002-of-00002.fp16.bin", Some("fp16"), Some((2, 2))),
            ("diffusion_pytorch_model.bin", None, None),
            ("adapter_model.bin", None, None),
        ] {
            let Role::Weights(parts) = role(name) else { panic!("{name}") };
            assert_eq!((parts.variant.as_deref(), parts.shard), (variant, shard), "{name}");
        }
        for (name, stem) in [
            ("pytorch_model.bin.index.json", "pytorch_model"),
            ("pytorch_model.bin.index.fp16.json", "pytorch_model.fp16"),
            ("diffusion_pytorch_model.fp16.bin.index.json", "diffusion_pytorch_model.fp16"),
        ] {
            let Role::Index(parts) = role(name) else { panic!("{name}") };
            assert_eq!(parts.stem(), stem);
        }
    }

    #[test]
    fn weights_in_safetensors_are_told_by_their_names() {
        for (name, family) in [
            ("model.safetensors", Some("pytorch_model")),
            ("model-00001-of-00002.safetensors", Some("pytorch_model")),
            ("model.safetensors.index.json", Some("pytorch_model")),
            ("diffusion_pytorch_model.fp16.safetensors", Some("diffusion_pytorch_model")),
            ("adapter_model.safetensors", Some("adapter_model")),
            ("last.safetensors", None),
            ("modeling.safetensors", None),
            ("model.bin", None),
        ] {
            assert_eq!(stock(name).map(|name| name.family), family, "{name}");
        }
        assert_eq!(stock("model.fp16.safetensors").unwrap().variant.as_deref(), Some("fp16"));
    }

    #[test]
    fn pickles_of_a_training_run_and_code_are_left_out() {
        for name in [
            "training_args.bin",
            "optimizer.pt",
            "scheduler.pt",
            "scaler.pt",
            "rng_state.pth",
            "rng_state_3.pth",
            "modeling.py",
            "model.pkl",
            "tf_model.h5",
            "pytorch_model_fsdp.bin",
        ] {
            assert!(matches!(role(name), Role::LeftOut(_)), "{name}");
        }
        for name in ["config.json", "tokenizer.model", "merges.txt", "LICENSE", "model.safetensors"] {
            assert_eq!(role(name), Role::Other, "{name}");
        }
    }
}
