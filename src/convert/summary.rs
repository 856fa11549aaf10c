//! What is said of a conversion.

use std::collections::HashMap;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::custody::documents::Documents;
use crate::output::Digest;
use crate::plan::Note;

use super::Converted;
use super::job::{Done, Job};
use super::journal::Journal;
use super::model::Model;
use super::record::Record;

impl Job<'_> {
    /// With `--resume`, what there is to say of a conversion that was not interrupted at all.
    pub(super) fn is_complete(&self) -> Option<Converted> {
        if !self.options.resume || Journal::is_left(self.root) {
            return None;
        }
        let text = std::fs::read(self.manifest.as_ref()?).ok()?;
        let manifest: crate::custody::Manifest = serde_json::from_slice(&text).ok()?;
        let record = Record { job: self, done: &Done::default() };
        let documents = self.options.documents.iter().flat_map(Documents::names);
        let is_there = |name: &str| self.root.join(name).is_file();
        if !record.is_of(&manifest) || !documents.into_iter().all(is_there) {
            return None;
        }
        let weights = manifest.outputs.iter().filter(|output| output.role == "weights");
        let mut summary = self.summary();
        summary.manifest.clone_from(&self.manifest);
        summary.bytes = weights.clone().fold(0, |sum, output| sum.saturating_add(output.size));
        summary.taken_over = crate::bytes::length(weights.count());
        let outputs = manifest.outputs.iter();
        summary.files = outputs.map(|output| (self.root.join(&output.path), output.sha256.clone())).collect();
        summary.files.push((self.manifest.clone()?, Digest(Sha256::digest(&text).into()).to_string()));
        summary.claim = match &*manifest.claim {
            "bit-exact" => "bit-exact",
            "lossless" => "lossless",
            _ => "lossy",
        };
        Some(summary)
    }

    /// What the outputs are, compared with the sources.
    pub(super) fn claim(&self, done: Option<&Done>) -> &'static str {
        let changes = self.models.iter().map(Model::changes);
        let (casts, encoded) = changes.fold((false, false), |all, own| (all.0 | own.0, all.1 | own.1));
        let is_exact = |done: &Done| {
            let written = done.weights.iter().flat_map(|file| &file.tensors).all(|tensor| tensor.cast_exact);
            written && done.before.iter().flat_map(HashMap::values).all(|before| before.exact)
        };
        match () {
            () if casts && !done.is_some_and(is_exact) => "lossy",
            () if casts || encoded => "lossless",
            () => "bit-exact",
        }
    }

    /// The file, where there is one, or the folder.
    pub(super) fn shown(&self) -> PathBuf {
        match self.models.as_slice() {
            [model] if !self.is_folder => match model.shards.as_slice() {
                [shard] => self.root.join(&shard.path),
                _ => self.root.to_owned(),
            },
            _ => self.root.to_owned(),
        }
    }

    /// What was or will be written, without sizes.
    pub(super) fn summary(&self) -> Converted {
        let models = || self.models.iter();
        let count = |n: usize| crate::bytes::length(n);
        let planned = models().flat_map(|model| model.planned(self.options));
        Converted {
            output: self.shown(),
            manifest: None,
            metadata: self
                .models
                .first()
                .filter(|_| self.options.plan.metadata)
                .map(|model| self.root.join(model.naming.metadata())),
            files: Vec::new(),
            shards: count(models().map(|model| model.shards.len()).fold(0, usize::saturating_add)),
            copied: count(self.others.len()),
            taken_over: 0,
            tensors: count(models().map(|model| model.plan.tensors.len()).fold(0, usize::saturating_add)),
            aliases: count(models().map(|model| model.plan.aliases.len()).fold(0, usize::saturating_add)),
            left_out: models().flat_map(|model| model.plan.left_out.clone()).collect(),
            left_out_files: self.left_out_files.clone(),
            bytes: 0,
            claim: self.claim(None),
            notes: self.notes(),
            expected: models()
                .flat_map(|model| &model.checked)
                .flat_map(|file| file.expected.clone())
                .collect(),
            strays: models().flat_map(|model| model.opened.strays.clone()).collect(),
            overridden: self.overridden(),
            planned: if self.options.dry_run { planned.collect() } else { Vec::new() },
        }
    }

    /// What should be said, each thing once.
    fn notes(&self) -> Vec<Note> {
        let mut notes: Vec<Note> = Vec::new();
        for note in self.models.iter().flat_map(|model| &model.plan.notes) {
            if !notes.contains(note) {
                notes.push(note.clone());
            }
        }
        notes
    }

    /// Names that the rule would refuse and the user kept.
    fn overridden(&self) -> Vec<String> {
        let named = |name: &String| {
            let pickles = self.models.iter().flat_map(|model| model.opened.pickles());
            pickles.flat_map(|pickle| &pickle.globals).any(|global| global.name == *name)
        };
        self.options.open.overrides.names.iter().filter(|name| named(name)).cloned().collect()
    }
}
