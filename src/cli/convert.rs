//! `depickle convert`

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use depickle::bytes::ReadAt;
use depickle::checkpoint::{self, OpenOptions};
use depickle::container::{Format, detect};
use depickle::convert::{Converted, Options, convert_folder, convert_source};
use depickle::custody::{Expect, Expectation, Expected};
use depickle::folder::UNOPENED;
use depickle::output::Folders;
use depickle::policy::{Overrides, Policy};
use depickle::progress::{Progress, Silent};
use depickle::report::ConvertRecord;
use depickle::{Error, ErrorKind, plan};

use super::again::Again;
use super::args::{ConvertArgs, ExpectArgs, TrustArgs};
use super::custody;
use super::exit::Exit;
use super::explain::{cause, explain, unknown_names};
use super::inputs::{self, Input, Source, folder_of};
use super::outputs::{Job, assign};
use super::policy;
use super::printer::Printer;
use super::progress::progress;
use super::sanitize::{bounded, sanitize};
use super::summary::{Outcome, Summary};
use super::text::{Align, Count, Size, columns, length};

/// Converts every input. `arguments` are those of this run, for the command that goes on.
pub(crate) fn run(args: &ConvertArgs, arguments: &[OsString], printer: &mut Printer) -> Exit {
    let policy = match policy::load(&args.policy, printer) {
        Ok(policy) => policy,
        Err(exit) => return exit,
    };
    let prepared = inputs::find_checkpoints(&args.inputs).and_then(|inputs| {
        let mut options = Options { expect: expect(args, &inputs.all)?, ..options(args) };
        if let Some(policy) = &policy {
            policy.apply(&mut options.open.overrides);
            options.policy = Some(policy.sha256.clone());
        }
        let writes = |job: &Job| would_write(job, &options);
        let jobs = assign(inputs.all, args, &writes)?;
        let counts = |job: &&Job| !job.input.is_found() || writes(job);
        options.documents = custody::documents(args, || jobs.iter().filter(counts).count())?;
        Ok((jobs, inputs.skipped, options))
    });
    let (jobs, skipped, options) = match prepared {
        Ok(prepared) => prepared,
        Err(message) => {
            printer.error(format_args!("error: {message}"));
            return Exit::Usage;
        }
    };
    let is_one = args.inputs.len() == 1 && matches!(jobs.as_slice(), [job] if !job.input.is_found());
    let bars = progress(!args.work.no_progress && !args.say.quiet);
    let mut run = Run {
        options,
        inert: args.trust.inert.iter().filter(|name| *name != "unknown").cloned().collect(),
        policy: policy.unwrap_or_default(),
        printer,
        again: Again(arguments),
        bars: &*bars,
        is_one,
        summary: Summary::default(),
        records: Vec::new(),
        refused: Refused::default(),
        files: Vec::new(),
    };
    run.summary.add(Outcome::Converted, 0);
    run.summary.add(Outcome::Skipped, skipped);
    for job in &jobs {
        run.job(job);
    }
    let recorded = run.record_sums(args);
    Exit::of_several([run.finish(), recorded])
}

fn options(args: &ConvertArgs) -> Options {
    let (select, trust) = (&args.select, &args.trust);
    Options {
        open: OpenOptions { paddle_bf16: select.paddle_bf16, ..open_options(trust) },
        plan: plan::Options {
            root: select.root.clone(),
            all: select.all,
            include: select.include.clone(),
            exclude: select.exclude.clone(),
            names: select.names.0.clone(),
            dtype: select.dtype,
            aliases: select.aliases.0,
            metadata: select.metadata,
            strict: trust.strict,
            ..plan::Options::default()
        },
        jobs: args.work.jobs(),
        max_shard_size: args.max_shard_size,
        copy_others: !args.no_copy_others,
        resume: args.resume,
        force: args.force,
        dry_run: args.dry_run,
        ..Options::default()
    }
}

/// What every input has to be.
fn expect(args: &ConvertArgs, inputs: &[Input]) -> Result<Expect, String> {
    let ExpectArgs { expect, expect_file } = &args.expect;
    let mut wanted = Expect { lists: expect_file.clone(), ..Expect::default() };
    for text in expect {
        match text.as_str() {
            "auto" => wanted.auto = true,
            "none" => wanted.auto = false,
            text => {
                let digest = Expectation::parse(text);
                wanted.digests.push(digest.map_err(|error| format!("--expect {error}"))?);
            }
        }
    }
    if !wanted.digests.is_empty() && inputs.len() > 1 {
        let inputs = Count(length(inputs.len()), "input");
        return Err(format!(
            "--expect says what one input has to be, and there are {inputs}; use --expect-file"
        ));
    }
    Ok(wanted)
}

/// What is let through.
pub(crate) fn open_options(trust: &TrustArgs) -> OpenOptions {
    let (unknown, names): (Vec<String>, Vec<String>) =
        trust.inert.iter().cloned().partition(|name| name == "unknown");
    OpenOptions {
        overrides: Overrides { names, unknown: !unknown.is_empty(), ..Overrides::default() },
        skip_unresolved: trust.skip_unresolved,
        strict: trust.strict,
        ..OpenOptions::default()
    }
}

/// Whether a conversion would come as far as writing.
fn would_write(job: &Job, options: &Options) -> bool {
    let options = Options { dry_run: true, ..options.clone() };
    if let Source::Checkpoint(folder) = &job.input.source {
        return convert_folder(folder, &job.output, &options, &Silent).is_ok();
    }
    let source = job.input.open(Path::new("")).ok();
    source.is_some_and(|source| {
        convert_source(&source, job.input.path(), &job.output, &options, &Silent).is_ok()
    })
}

/// A run over all inputs.
struct Run<'a> {
    options: Options,
    /// Names of `--inert`.
    inert: Vec<String>,
    policy: Policy,
    printer: &'a mut Printer,
    again: Again<'a>,
    bars: &'a dyn Progress,
    /// One input that is no folder.
    is_one: bool,
    summary: Summary,
    records: Vec<ConvertRecord>,
    refused: Refused,
    /// What was written, with its digests.
    files: Vec<(PathBuf, String)>,
}

/// What was refused for unknown names alone.
#[derive(Debug, Default)]
struct Refused {
    names: BTreeSet<String>,
    inputs: Vec<OsString>,
    /// Whether one of them goes to a folder below `-o`, where it would not go if it were named itself.
    nested: bool,
}

impl Run<'_> {
    fn job(&mut self, job: &Job) {
        let begun = Instant::now();
        let outcome = match self.convert(job) {
            Ok(None) => Outcome::Skipped,
            Ok(Some(converted)) => {
                self.say(&job.input, &converted, begun);
                self.record(&job.input, Exit::Done, None, converted.manifest.as_deref());
                self.files.extend(converted.files);
                Outcome::Converted
            }
            Err(error) => self.failed(job, &error),
        };
        self.summary.add(outcome, 1);
    }

    /// Converts one input; `None` where there is nothing to convert.
    fn convert(&self, job: &Job) -> Result<Option<Converted>, Error> {
        let input = &job.input;
        let is_folder = matches!(input.source, Source::Checkpoint(_));
        let folder = if is_folder { &job.output } else { folder_of(&job.output) };
        let mut made = Vec::new();
        if !self.options.dry_run {
            let manifest = match &job.manifest {
                depickle::convert::ManifestAt::Path(path) => Some(folder_of(path)),
                _ => None,
            };
            for folder in std::iter::once(folder).chain(manifest) {
                made.push(Folders::create(folder).map_err(|error| not_made(input, folder, error))?);
            }
        }
        if is_folder {
            let options = Options { manifest: job.manifest.clone(), ..self.options.clone() };
            return convert_folder(input.path(), &job.output, &options, self.bars).map(Some);
        }
        let temporary = std::env::temp_dir();
        let spool = if self.options.dry_run { &temporary } else { folder };
        let source: Arc<dyn ReadAt> = input.open(spool).map_err(|error| {
            let kind = ErrorKind::Open(checkpoint::Error::Io(error));
            Error { path: input.path().display().to_string(), kind: Box::new(kind) }
        })?;
        if input.is_found() && matches!(detect(&*source), Ok(Format::Safetensors)) {
            return Ok(None);
        }
        let (manifest, recorded) = (job.manifest.clone(), input.relative());
        let mut options = Options { manifest, recorded, ..self.options.clone() };
        options.open.siblings = input.folder();
        // Nothing lies beside standard input.
        options.expect.auto &= input.source != Source::Stdin;
        convert_source(&source, input.path(), &job.output, &options, self.bars).map(Some)
    }

    fn failed(&mut self, job: &Job, error: &Error) -> Outcome {
        let outcome = Outcome::of(error, job.input.is_found());
        if outcome == Outcome::NotApplicable {
            self.printer.detail(format_args!("{}: not applicable: no model file", job.input.shown()));
            return outcome;
        }
        for line in explain(error, self.is_one.then_some(self.again)) {
            self.printer.error(line);
        }
        self.record(&job.input, outcome.exit(), Some(cause(error)), None);
        self.denied(error);
        if let ErrorKind::Open(checkpoint::Error::Refused { uses }) = &*error.kind {
            let names = unknown_names(uses);
            if !names.is_empty() {
                self.refused.names.extend(names);
                self.refused.inputs.push(match &job.input.source {
                    Source::Stdin => "-".into(),
                    _ => job.input.path().into(),
                });
                let in_place = job.output.parent() == job.input.path().parent();
                let below = job.input.below.as_ref().is_some_and(|below| !below.as_os_str().is_empty());
                self.refused.nested |= below && !in_place;
            }
        }
        outcome
    }

    /// Says why the policy denies what refused.
    fn denied(&mut self, error: &Error) {
        let ErrorKind::Open(checkpoint::Error::Refused { uses }) = &*error.kind else { return };
        for refused in uses {
            if let Some(reason) = self.policy.denies(&refused.used.name) {
                let (name, reason) = (bounded(&refused.used.name, 200), bounded(reason, 400));
                self.printer.error(format_args!("  the policy denies {name}: {reason}"));
            }
        }
    }

    fn record(&mut self, input: &Input, exit: Exit, error: Option<String>, manifest: Option<&Path>) {
        if self.printer.is_json() {
            let manifest = manifest.map(|path| path.display().to_string());
            self.records.push(ConvertRecord { input: input.name(), exit: exit.code(), error, manifest });
        }
    }

    /// Tells what became of an input.
    fn say(&mut self, input: &Input, converted: &Converted, begun: Instant) {
        let prefix = if self.is_one { String::new() } else { format!("{}: ", input.shown()) };
        for line in notes(converted, self.printer.is_verbose()) {
            self.printer.note(format_args!("{prefix}{}", bounded(&line, 2_000)));
        }
        if self.is_one {
            let met = |name: &&String| converted.overridden.contains(name);
            for name in self.inert.iter().filter(|name| !met(name)) {
                self.printer.note(format_args!("--inert {}: no such name in this file", sanitize(name)));
            }
        }
        let output = converted.output.display().to_string();
        let output = sanitize(&output);
        let tensors = match converted.shards {
            0 | 1 => Count(converted.tensors, "tensor").to_string(),
            shards => format!("{} in {}", Count(converted.tensors, "tensor"), Count(shards, "file")),
        };
        let aliases = match converted.aliases {
            0 => String::new(),
            1 => ", 1 alias".to_owned(),
            n => format!(", {n} aliases"),
        };
        if self.options.dry_run {
            self.list(converted);
            self.printer.result(format_args!("{output}  {tensors}{aliases}; not written: a dry run"));
            if !self.options.force && converted.output.is_file() {
                self.printer.note(format_args!("{output}: exists already; --force would replace it"));
            }
            return;
        }
        let size = Size(converted.bytes);
        self.printer.result(format_args!("{output}  {tensors}{aliases}, {size}, {}", converted.claim));
        for (what, path) in [("metadata", &converted.metadata), ("manifest", &converted.manifest)] {
            if let Some(path) = path {
                let path = path.display().to_string();
                self.printer.detail(format_args!("{prefix}{what}: {}", sanitize(&path)));
            }
        }
        self.printer.detail(format_args!("{prefix}took {:.2} s", begun.elapsed().as_secs_f64()));
    }

    /// What would be written: a line a tensor.
    fn list(&mut self, converted: &Converted) {
        let rows = converted.planned.iter().map(|(name, dtype, shape)| {
            vec![format!("  {}", bounded(name, 400)), dtype.clone(), format!("{shape:?}")]
        });
        for line in columns(&rows.collect::<Vec<_>>(), &[Align::Left; 3]) {
            self.printer.result(line);
        }
    }

    /// Lists what was written in the folder of `-o`, unless that was done with other documents.
    fn record_sums(&mut self, args: &ConvertArgs) -> Exit {
        if self.options.documents.is_some() {
            return Exit::Done;
        }
        match custody::record_sums(args, &self.files) {
            Ok(()) => Exit::Done,
            Err(error) => {
                self.printer.error(bounded(&error.to_string(), 2_000));
                let (path, kind) = (error.path.display().to_string(), ErrorKind::Output(error));
                Error { path, kind: Box::new(kind) }.class().into()
            }
        }
    }

    fn finish(self) -> Exit {
        let Self { printer, summary, records, refused, .. } = self;
        if printer.is_json() {
            match records.as_slice() {
                [record] if self.is_one => printer.document(record),
                records => printer.document(&records),
            }
        }
        if !self.is_one {
            for line in summary.lines(self.options.dry_run) {
                printer.note(line);
            }
            let names: Vec<&str> = refused.names.iter().map(String::as_str).collect();
            let inputs = (!refused.nested).then_some(refused.inputs.as_slice());
            if !names.is_empty()
                && let Some(command) = self.again.for_inputs(inputs, &names)
            {
                printer.note(format_args!("keep the unknown names as inert data: {command}"));
            }
        }
        summary.exit()
    }
}

fn not_made(input: &Input, folder: &Path, error: std::io::Error) -> Error {
    let kind = depickle::output::ErrorKind::Write(error);
    let kind = ErrorKind::Output(depickle::output::Error { path: folder.to_owned(), kind });
    Error { path: input.path().display().to_string(), kind: Box::new(kind) }
}

/// What a digest showed.
fn expected(expected: &Expected) -> String {
    let Expected { origin, algorithm, value, bits, result } = expected;
    match (result.as_str(), bits) {
        ("match", None) => format!("{algorithm} is as {origin} says"),
        ("match", Some(bits)) => {
            format!("{algorithm} begins with {value} as {origin} says: {bits} bits, no proof")
        }
        _ => format!(
            "{algorithm} does not begin with {value}, which {origin} has; a suffix may be something else"
        ),
    }
}

/// How many files of a folder are not converted, those that may hold models by themselves.
fn left_out(files: &[(String, String)]) -> impl Iterator<Item = String> {
    let (models, others): (Vec<_>, Vec<_>) = files.iter().partition(|(_, reason)| reason == UNOPENED);
    [
        ("left out", others, ""),
        ("NOT CONVERTED", models, ": no files of this checkpoint; convert each by itself"),
    ]
    .into_iter()
    .filter(|(_, files, _)| !files.is_empty())
    .map(|(what, files, why)| {
        let names: Vec<&str> = files.iter().take(4).map(|(path, _)| path.as_str()).collect();
        let more = if files.len() > names.len() { ", …" } else { "" };
        format!("{what}: {} ({}{more}){why}", Count(length(files.len()), "file"), names.join(", "))
    })
}

/// What should be known of a conversion, besides its result.
fn notes(converted: &Converted, verbose: bool) -> Vec<String> {
    let mut lines: Vec<String> = converted.notes.iter().map(ToString::to_string).collect();
    lines.extend(converted.expected.iter().map(expected));
    lines.extend(converted.overridden.iter().map(|name| format!("kept as inert data: {name}")));
    if converted.taken_over > 0 {
        let (done, all) = (converted.taken_over, Count(converted.shards, "file"));
        lines.push(format!("resumed: {done} of {all} of weights had been finished"));
    }
    if converted.copied > 0 {
        lines.push(format!("copied: {} beside the weights", Count(converted.copied, "file")));
    }
    if verbose {
        let files = converted.left_out_files.iter();
        lines.extend(files.map(|(path, reason)| format!("left out: {path}: {reason}")));
    } else {
        lines.extend(left_out(&converted.left_out_files));
    }
    if verbose {
        lines.extend(converted.left_out.iter().map(|group| {
            let path =
                if group.path.is_empty() { "the whole source".to_owned() } else { group.path.join(".") };
            let (tensors, size) = (Count(group.tensors, "tensor"), Size(group.bytes));
            format!("left out: {path} ({tensors}, {size}): {}", group.reason)
        }));
        lines.extend(converted.strays.iter().map(|stray| format!("dropped: {stray}")));
        return lines;
    }
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for group in &converted.left_out {
        let known = reasons.entry(group.reason.to_string()).or_default();
        *known = known.saturating_add(group.tensors);
    }
    if !reasons.is_empty() {
        let all = Count(reasons.values().fold(0, |sum: u64, n| sum.saturating_add(*n)), "tensor");
        let reasons: Vec<String> = reasons.iter().take(6).map(|(why, n)| format!("{why} {n}")).collect();
        lines.push(format!("left out: {all} ({})", reasons.join(", ")));
    }
    match converted.strays.as_slice() {
        [] => {}
        [stray] => lines.push(format!("dropped: {stray}")),
        strays => lines
            .push(format!("dropped: {}; --verbose lists them", Count(length(strays.len()), "stray part"))),
    }
    lines
}
