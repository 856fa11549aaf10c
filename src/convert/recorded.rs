//! Options as a manifest records them, and back: a conversion that is run again takes what the first one took.

use super::Options;
use crate::checkpoint::OpenOptions;
use crate::custody::{Expect, Manifest, OptionsRecord};
use crate::plan::{self, Aliases, NameRule};
use crate::policy::Overrides;
use crate::tensor::Dtype;

/// Every option that changes bytes. `root` is the place that was taken.
pub(super) fn record(options: &Options, root: Option<String>) -> OptionsRecord {
    let (plan, open) = (&options.plan, &options.open);
    let mut inert = open.overrides.names.clone();
    inert.extend(open.overrides.unknown.then(|| "unknown".to_owned()));
    OptionsRecord {
        strict: open.strict,
        root,
        root_given: plan.root.is_some(),
        all: plan.all,
        include: plan.include.clone(),
        exclude: plan.exclude.clone(),
        names: plan.names.iter().map(rule).collect(),
        dtype: plan.dtype.map(|dtype| dtype.stored().to_string()),
        max_shard_size: options.max_shard_size,
        aliases: match plan.aliases {
            Aliases::Auto if plan.prefer_once => "once",
            Aliases::Auto | Aliases::Copy => "copy",
            Aliases::Once => "once",
            Aliases::Refuse => "refuse",
        }
        .to_owned(),
        inert,
        denied: open.overrides.denied.clone(),
        policy: options.policy.clone(),
        skip_unresolved: open.skip_unresolved,
        paddle_bf16: open.paddle_bf16,
        metadata: plan.metadata,
    }
}

/// The options of a manifest, to convert its source once more: to the same bytes, if it is the same.
pub(super) fn options(manifest: &Manifest) -> Options {
    let record = &manifest.options;
    let (unknown, names): (Vec<String>, Vec<String>) =
        record.inert.iter().cloned().partition(|name| name == "unknown");
    let source = manifest.sources.first();
    Options {
        open: OpenOptions {
            overrides: Overrides { names, unknown: !unknown.is_empty(), denied: record.denied.clone() },
            skip_unresolved: record.skip_unresolved,
            strict: record.strict,
            paddle_bf16: record.paddle_bf16,
            ..OpenOptions::default()
        },
        plan: plan::Options {
            root: record.root_given.then(|| record.root.clone().unwrap_or_default()),
            all: record.all,
            include: record.include.clone(),
            exclude: record.exclude.clone(),
            names: record.names.iter().filter_map(|text| rule_of(text)).collect(),
            dtype: record.dtype.as_deref().and_then(dtype_of),
            aliases: match record.aliases.as_str() {
                "once" => Aliases::Once,
                "refuse" => Aliases::Refuse,
                _ => Aliases::Copy,
            },
            strict: record.strict,
            metadata: record.metadata,
            ..plan::Options::default()
        },
        max_shard_size: record.max_shard_size,
        copy_others: manifest.outputs.iter().any(|output| output.role == "other"),
        policy: record.policy.clone(),
        expect: Expect::recorded(&manifest.sources),
        recorded: source.map(|source| source.path.clone().into()),
        ..Options::default()
    }
}

/// What a floating type is cast to, by its name in safetensors.
fn dtype_of(name: &str) -> Option<Dtype> {
    [Dtype::F32, Dtype::F16, Dtype::Bf16].into_iter().find(|dtype| dtype.stored().to_string() == name)
}

/// What [`rule`] wrote.
fn rule_of(text: &str) -> Option<NameRule> {
    match text.split_once(' ')? {
        ("strip-prefix", prefix) => Some(NameRule::strip_prefix(prefix)),
        ("rename", rename) => NameRule::rename(rename).ok(),
        _ => None,
    }
}

fn rule(rule: &NameRule) -> String {
    match rule {
        plan::NameRule::StripPrefix(prefix) => format!("strip-prefix {prefix}"),
        plan::NameRule::StripPrefixAuto => "strip-prefix auto".to_owned(),
        plan::NameRule::Rename { regex, replacement } => format!("rename {regex}={replacement}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_names_come_back() {
        let rules = [
            NameRule::strip_prefix("auto"),
            NameRule::strip_prefix("a b."),
            NameRule::rename("^x (.*)=$1=").unwrap(),
        ];
        for one in rules {
            assert_eq!(rule_of(&rule(&one)), Some(one));
        }
    }
}
