//! [`Reason`]: why a tensor is not written, and the table of keys below which no weights are looked for.

use std::fmt;

/// Why tensors of the source are not written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// By a rule of the plan.
    Rule(Rule),
    /// What the tree says of the tensor: `no data`, no type for it in safetensors, an unresolved call.
    Source(Box<str>),
}

/// A rule of the plan that leaves tensors out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// Not below the root that was given or found.
    OutsideRoot,
    /// State of an optimizer.
    Optimizer,
    /// State of a learning rate or noise scheduler.
    Scheduler,
    /// State of random number generators.
    Random,
    /// State of Lightning's callbacks.
    Callbacks,
    /// State of Lightning's loops.
    Loops,
    /// Hyper-parameters.
    HyperParameters,
    /// State of a gradient scaler.
    Scaler,
    /// A buffer that `state_dict()` leaves out.
    NonPersistent,
    /// An attribute of a module that is neither parameter nor buffer.
    PlainAttribute,
    /// By `--include` or `--exclude`.
    Excluded,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutsideRoot => "outside the root",
            Self::Optimizer => "optimizer state",
            Self::Scheduler => "scheduler state",
            Self::Random => "random state",
            Self::Callbacks => "callback state",
            Self::Loops => "training loop state",
            Self::HyperParameters => "hyper-parameters",
            Self::Scaler => "gradient scaler state",
            Self::NonPersistent => "non-persistent buffer",
            Self::PlainAttribute => "plain attribute",
            Self::Excluded => "excluded",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => rule.fmt(f),
            Self::Source(text) => f.write_str(text),
        }
    }
}

/// What a checkpoint keeps under a key, where that is never weights. Exact names and prefixes are the contract's;
/// `*optimizer_state*` and `*rng_state*` are how fairseq (`last_optimizer_state`), accelerate and others say the same.
pub(super) fn never(key: &str) -> Option<Rule> {
    if key.starts_with("optimizer") || key.contains("optimizer_state") {
        return Some(Rule::Optimizer);
    }
    if key.contains("scheduler") {
        return Some(Rule::Scheduler);
    }
    if key.starts_with("rng") || key.contains("rng_state") {
        return Some(Rule::Random);
    }
    match key {
        "callbacks" => Some(Rule::Callbacks),
        "loops" => Some(Rule::Loops),
        "hyper_parameters" => Some(Rule::HyperParameters),
        "scaler" => Some(Rule::Scaler),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_never_hold_weights() {
        for (key, rule) in [
            ("optimizer", Some(Rule::Optimizer)),
            ("optimizer_states", Some(Rule::Optimizer)),
            ("last_optimizer_state", Some(Rule::Optimizer)),
            ("lr_scheduler", Some(Rule::Scheduler)),
            ("lr_schedulers", Some(Rule::Scheduler)),
            ("rng", Some(Rule::Random)),
            ("cuda_rng_state", Some(Rule::Random)),
            ("callbacks", Some(Rule::Callbacks)),
            ("loops", Some(Rule::Loops)),
            ("hyper_parameters", Some(Rule::HyperParameters)),
            ("scaler", Some(Rule::Scaler)),
            ("scalers", None),
            ("model", None),
            ("", None),
        ] {
            assert_eq!(never(key), rule, "{key}");
        }
    }

    #[test]
    fn the_manifest_example_reads_as_written() {
        assert_eq!(Reason::Rule(Rule::Optimizer).to_string(), "optimizer state");
        assert_eq!(Reason::Source("no data".into()).to_string(), "no data");
    }
}
