//! [`Job`]: models that are open and planned, on their way to files that appear together.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::bytes::{ReadAt, folder_of, or_current};
use crate::error::{Class, Error, ErrorKind};
use crate::output::{self, Digest, Sidecar, Staged, WriteOptions, Written, WrittenTensor};
use crate::progress::Progress;
use crate::tensor::TensorId;

use super::before::{Before, before};
use super::documents::Making;
use super::journal::Journal;
use super::model::{Model, Shard};
use super::others::{self, Other};
use super::record::{OutputFile, Record};
use super::stage::Stage;
use super::{Converted, Options};

/// A conversion of one or several models into one folder.
pub(super) struct Job<'a> {
    pub(super) models: Vec<Model>,
    /// What is converted, for errors.
    pub(super) input: &'a Path,
    /// The folder that the paths of outputs are relative to.
    pub(super) root: &'a Path,
    pub(super) manifest: Option<PathBuf>,
    pub(super) options: &'a Options,
    /// Whether it makes a folder, and not one file: it can then be resumed.
    pub(super) is_folder: bool,
    /// What is copied.
    pub(super) others: Vec<Other>,
    /// Files of the input folder that are neither opened nor copied, and why.
    pub(super) left_out_files: Vec<(String, String)>,
}

/// What was written so far.
#[derive(Default)]
pub(super) struct Done {
    /// Each file of weights, model by model.
    pub(super) weights: Vec<Written>,
    /// What tensors were that their library casts, model by model.
    pub(super) before: Vec<HashMap<TensorId, Before>>,
    /// Digests of the source files, model by model: `None` where the file lies inside another.
    pub(super) sources: Vec<Vec<Option<Digest>>>,
    /// Every output, those of weights first.
    pub(super) outputs: Vec<OutputFile>,
    /// Every output and the manifest, with their digests.
    pub(super) files: Vec<(PathBuf, String)>,
    /// Files of weights that an earlier run had finished.
    taken_over: u64,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        models: Vec<Model>,
        input: &'a Path,
        root: &'a Path,
        manifest: Option<PathBuf>,
        options: &'a Options,
    ) -> Self {
        Self {
            models,
            input,
            root,
            manifest,
            options,
            is_folder: false,
            others: Vec::new(),
            left_out_files: Vec::new(),
        }
    }

    /// Writes everything, unless it is only to be said what would be written.
    pub(super) fn run(mut self, progress: &dyn Progress) -> Result<Converted, Error> {
        if self.options.dry_run {
            return Ok(self.summary());
        }
        if let Some(complete) = self.is_complete() {
            return Ok(complete);
        }
        let bytes = self.models.iter().map(Model::bytes).fold(0, u64::saturating_add);
        progress.begin(&self.shown().display().to_string(), bytes);
        let converted = self.write(progress);
        progress.finish();
        converted
    }

    fn write(&mut self, progress: &dyn Progress) -> Result<Converted, Error> {
        let (mut stage, outdated) = self.stage()?;
        match self.fill(&mut stage, progress) {
            Ok((done, manifest)) => {
                stage.commit(manifest, &outdated).map_err(|error| self.fail(error))?;
                let mut summary = self.summary();
                summary.manifest.clone_from(&self.manifest);
                summary.bytes = done.weights.iter().fold(0, |sum, file| sum.saturating_add(file.size));
                summary.claim = self.claim(Some(&done));
                summary.taken_over = done.taken_over;
                summary.files = done.files;
                Ok(summary)
            }
            Err(error) => {
                stage.abandon(error.class() == Class::Environment);
                Err(error)
            }
        }
    }

    /// Makes sure that nothing is in the way, and takes up what an earlier run has finished. Also the files of an earlier
    /// conversion that are to go.
    fn stage(&self) -> Result<(Stage, Vec<PathBuf>), Error> {
        let force = self.options.force;
        let stage = if self.is_folder {
            let key = self.key();
            let journal = Journal::begin(self.root, &key, self.options.resume, force);
            Stage::folder(self.root, force, journal.map_err(|error| self.fail(error))?)
        } else {
            Stage::beside(self.root, force)
        };
        match self.in_the_way(&stage) {
            Ok(outdated) => Ok((stage, outdated)),
            Err(error) => {
                stage.abandon(self.options.resume);
                Err(self.fail(error))
            }
        }
    }

    fn in_the_way(&self, stage: &Stage) -> Result<Vec<PathBuf>, output::Error> {
        let outputs = self.outputs();
        let force = stage.replaces();
        for path in outputs.iter().map(|path| self.root.join(path)).chain(self.manifest.clone()) {
            Staged::check(&path, force)?;
        }
        let mut outdated = Vec::new();
        for model in self.models.iter().filter(|_| self.is_folder) {
            outdated.extend(stage.outdated(&model.naming, &outputs)?);
        }
        Ok(outdated)
    }

    /// Paths of all outputs but the manifest: weights, indexes, values, copies.
    fn outputs(&self) -> Vec<String> {
        let weights = self.models.iter().flat_map(|model| &model.shards).map(|shard| shard.path.clone());
        let indexes = self.models.iter().filter(|model| model.indexed).map(|model| model.naming.index());
        let values = self.models.iter().filter(|_| self.options.plan.metadata);
        let values = values.map(|model| model.naming.metadata());
        let others = self.others.iter().map(|other| other.path.clone());
        weights.chain(indexes).chain(values).chain(others).collect()
    }

    /// Writes every output to its stage; the manifest last.
    fn fill(
        &mut self,
        stage: &mut Stage,
        progress: &dyn Progress,
    ) -> Result<(Done, Option<(PathBuf, Staged)>), Error> {
        // Made before the work, so that a target in the way is met at once.
        let number = self.outputs().len();
        let manifest = self.manifest.clone();
        let manifest = manifest.map(|path| Ok((stage.create(number, &path)?, path))).transpose();
        let manifest = manifest.map_err(|error| self.fail(error))?;
        let mut done = Done::default();
        for at in 0..self.models.len() {
            self.weights(at, stage, &mut done, progress)?;
        }
        for model in self.models.iter().filter(|_| self.manifest.is_some()) {
            done.before.push(before(model).map_err(|error| {
                self.fail(output::Error {
                    path: self.input.to_owned(),
                    kind: output::ErrorKind::Source(error),
                })
            })?);
        }
        for model in &self.models {
            model.opened.on_disk().iter().try_for_each(ReadAt::check_unchanged).map_err(|error| {
                let kind = output::ErrorKind::Changed(error);
                self.fail(output::Error { path: self.input.to_owned(), kind })
            })?;
        }
        self.indexes(stage, &mut done)?;
        self.values(stage, &mut done).map_err(|error| self.fail(error))?;
        self.copies(stage, &mut done)?;
        if let Some((staged, path)) = &manifest {
            let recorded = Record { job: self, done: &done }.write(staged)?;
            let documents = Making { job: self, manifest: path }.make(&recorded)?;
            for (document, number) in documents.iter().zip(number.saturating_add(1)..) {
                self.put(stage, number, &folder_of(path).join(document.name), &document.bytes)?;
            }
            let outputs = recorded.manifest.outputs.iter();
            done.files =
                outputs.map(|output| (self.root.join(&output.path), output.sha256.clone())).collect();
            done.files.push((path.clone(), recorded.sha256));
        }
        Ok((done, manifest.map(|(staged, path)| (path, staged))))
    }

    /// Writes a small file to its stage.
    fn put(&self, stage: &mut Stage, number: usize, target: &Path, bytes: &[u8]) -> Result<(), Error> {
        let staged = stage.create(number, target).map_err(|error| self.fail(error))?;
        std::io::Write::write_all(&mut staged.file(), bytes).map_err(|error| {
            self.fail(output::Error { path: target.to_owned(), kind: output::ErrorKind::Write(error) })
        })?;
        stage.keep(staged).map_err(|error| self.fail(error))
    }

    /// Writes the files of one model's weights.
    fn weights(
        &mut self,
        at: usize,
        stage: &mut Stage,
        done: &mut Done,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let jobs = self.options.jobs.unwrap_or(WriteOptions::default().jobs);
        let (root, input) = (self.root, self.input);
        let Some(model) = self.models.get_mut(at) else { return Ok(()) };
        model.spool(or_current(root), jobs, progress).map_err(|error| Error::new(input, error))?;
        let Some(model) = self.models.get(at) else { return Ok(()) };
        let digests = self.manifest.is_some();
        let mut sources: Vec<Option<Digest>> = vec![None; model.opened.files.len()];
        let passes = if digests { model.hashed_with() } else { vec![Vec::new(); model.shards.len()] };
        for (shard, files) in model.shards.iter().zip(passes) {
            let number = done.weights.len();
            let streams =
                files.iter().filter_map(|file| model.opened.files.get(*file)).map(|file| file.stream);
            let streams: Vec<_> = streams.collect();
            let target = root.join(&shard.path);
            let known: Vec<&dyn ReadAt> =
                streams.iter().map(|stream| model.opened.streams.stream(*stream)).collect();
            let written = if let Some(written) = stage.taken_over(number, &target, &known) {
                progress.advance(written.size);
                done.taken_over = done.taken_over.saturating_add(1);
                written
            } else {
                let write = WriteOptions { jobs, digests, sources: &streams };
                self.shard(model, shard, number, write, stage, progress).map_err(|error| self.fail(error))?
            };
            for (file, digest) in files.into_iter().zip(&written.sources) {
                if let Some(known) = sources.get_mut(file) {
                    *known = Some(*digest);
                }
            }
            done.outputs.push(OutputFile::new(&shard.path, "weights", written.size, written.sha256));
            done.weights.push(written);
        }
        done.sources.push(sources);
        Ok(())
    }

    fn shard(
        &self,
        model: &Model,
        shard: &Shard,
        number: usize,
        write: WriteOptions<'_>,
        stage: &mut Stage,
        progress: &dyn Progress,
    ) -> Result<Written, output::Error> {
        let target = self.root.join(&shard.path);
        let staged = stage.create(number, &target)?;
        let items = model.items(shard, self.options);
        let (streams, storages) = (&model.opened.streams, &model.opened.storages);
        let written = output::write(&staged, streams, storages, &items, &model.metadata(), write, progress)?;
        stage.keep_weights(number, staged, &written)?;
        Ok(written)
    }

    fn indexes(&self, stage: &mut Stage, done: &mut Done) -> Result<(), Error> {
        let mut first = 0_usize;
        for model in &self.models {
            let after = first.saturating_add(model.shards.len());
            let files = done.weights.get(first..after).unwrap_or_default();
            first = after;
            if !model.indexed {
                continue;
            }
            let tensors: Vec<&[WrittenTensor]> = files.iter().map(|file| &*file.tensors).collect();
            let text = model.index(&tensors);
            let path = model.naming.index();
            let target = self.root.join(&path);
            self.put(stage, done.outputs.len(), &target, &text)?;
            let digest = Digest(Sha256::digest(&text).into());
            done.outputs.push(OutputFile::new(
                &path,
                "index",
                crate::bytes::length(text.len()),
                Some(digest),
            ));
        }
        Ok(())
    }

    fn values(&self, stage: &mut Stage, done: &mut Done) -> Result<(), output::Error> {
        for model in self.models.iter().filter(|_| self.options.plan.metadata) {
            let path = model.naming.metadata();
            let staged = stage.create(done.outputs.len(), &self.root.join(&path))?;
            let Sidecar { size, sha256 } = model.write_values(&staged)?;
            stage.keep(staged)?;
            done.outputs.push(OutputFile::new(&path, "metadata", size, Some(sha256)));
        }
        Ok(())
    }

    fn copies(&self, stage: &mut Stage, done: &mut Done) -> Result<(), Error> {
        for other in &self.others {
            let target = self.root.join(&other.path);
            let staged = stage.create(done.outputs.len(), &target).map_err(|error| self.fail(error))?;
            let (size, digest) = others::copy(&other.source, &staged)
                .map_err(|error| Error::new(&other.source, ErrorKind::Copy(error)))?;
            stage.keep(staged).map_err(|error| self.fail(error))?;
            done.outputs.push(OutputFile::new(&other.path, "other", size, Some(digest)));
        }
        Ok(())
    }

    fn fail(&self, error: output::Error) -> Error {
        Error::new(self.input, error)
    }

    /// What an interrupted run must have in common with this one: all that determines the bytes, short of the weights.
    fn key(&self) -> String {
        let sources: Vec<_> = self
            .models
            .iter()
            .flat_map(|model| {
                model.opened.files.iter().map(|file| {
                    let pickles: Vec<&str> = file.pickles.iter().map(|pickle| &*pickle.sha256).collect();
                    let size = match &file.outer {
                        Some(outer) => outer.source.size(),
                        None => model.opened.streams.stream(file.stream).size(),
                    };
                    (&*file.name, size, pickles)
                })
            })
            .collect();
        let names: Vec<_> = self
            .models
            .iter()
            .flat_map(|model| {
                model.shards.iter().map(|shard| {
                    let planned = shard.tensors.iter().filter_map(|i| model.plan.tensors.get(*i));
                    let names: Vec<(&str, bool)> =
                        planned.map(|planned| (planned.name.as_str(), planned.cast)).collect();
                    (&*shard.path, names)
                })
            })
            .collect();
        let options = Record { job: self, done: &Done::default() }.options();
        let version = env!("CARGO_PKG_VERSION");
        let text = serde_json::to_vec(&(version, options, sources, names)).unwrap_or_default();
        Digest(Sha256::digest(text).into()).to_string()
    }
}
