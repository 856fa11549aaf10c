//! Where each input is written, and that no two inputs are written to one place, nor over one another.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use depickle::convert::{ManifestAt, manifest_name, metadata_name, output_name};

use super::args::ConvertArgs;
use super::inputs::{Input, Source};
use super::sanitize::sanitize;

/// An input, and where it is written.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) input: Input,
    pub(crate) output: PathBuf,
    pub(crate) manifest: ManifestAt,
    /// Whether the values that are no tensors are written too.
    pub(crate) metadata: bool,
}

impl Job {
    fn targets(&self) -> Vec<PathBuf> {
        if let Source::Checkpoint(_) = self.input.source {
            // A folder in which others may stand too: its manifest says whose it is.
            return match &self.manifest {
                ManifestAt::Path(path) => vec![path.clone()],
                _ => vec![self.output.join(FOLDER_MANIFEST)],
            };
        }
        let manifest = match &self.manifest {
            ManifestAt::Beside => Some(manifest_name(&self.output)),
            ManifestAt::Path(path) => Some(path.clone()),
            ManifestAt::Nowhere => None,
        };
        let metadata = self.metadata.then(|| metadata_name(&self.output));
        std::iter::once(self.output.clone()).chain(metadata).chain(manifest).collect()
    }
}

/// The manifest of a folder whose conversion is one checkpoint.
const FOLDER_MANIFEST: &str = "manifest.json";

/// Gives every input its output. `writes` says whether what was found in a folder would be written at all.
///
/// # Errors
/// What is wrong with the arguments, as a message.
pub(crate) fn assign(
    inputs: Vec<Input>,
    args: &ConvertArgs,
    writes: &dyn Fn(&Job) -> bool,
) -> Result<Vec<Job>, String> {
    let target = Target::new(args)?;
    let is_one = args.inputs.len() == 1 && inputs.iter().all(|input| !input.is_found());
    if !is_one && matches!(target, Target::File(_)) {
        return Err(several("-o with a file", "give a folder"));
    }
    if !is_one && args.manifest.is_some() {
        return Err(several("--manifest", "each input has its own"));
    }
    let manifest = match (&args.manifest, args.no_manifest) {
        (_, true) => ManifestAt::Nowhere,
        (Some(path), _) => ManifestAt::Path(path.clone()),
        (None, _) => ManifestAt::Beside,
    };
    let mut jobs = Vec::with_capacity(inputs.len());
    for input in inputs {
        let sharded = args.max_shard_size.is_some();
        let output = match input.source {
            Source::Checkpoint(_) => target.of_checkpoint(&input, is_one)?,
            _ if sharded => target.of_shards(&input, is_one)?,
            _ => target.of(&input)?,
        };
        let manifest = match &manifest {
            ManifestAt::Beside if sharded && !matches!(input.source, Source::Checkpoint(_)) => {
                ManifestAt::Path(output.with_file_name(FOLDER_MANIFEST))
            }
            manifest => manifest.clone(),
        };
        jobs.push(Job { input, output, manifest, metadata: args.select.metadata });
    }
    check(&jobs, writes)?;
    Ok(jobs)
}

fn several(flag: &str, instead: &str) -> String {
    format!("{flag} goes with one file only; {instead}")
}

/// What `-o` says.
#[derive(Debug)]
enum Target<'a> {
    Beside,
    File(&'a Path),
    Folder(&'a Path),
}

impl<'a> Target<'a> {
    fn new(args: &'a ConvertArgs) -> Result<Self, String> {
        let Some(path) = args.output.as_deref() else { return Ok(Self::Beside) };
        let text = path.as_os_str().as_encoded_bytes();
        if text.ends_with(b".safetensors") {
            return Ok(Self::File(path));
        }
        if path.is_file() {
            let shown = path.display().to_string();
            return Err(format!("-o {}: is a file; an output file ends in .safetensors", sanitize(&shown)));
        }
        Ok(Self::Folder(path))
    }

    fn of(&self, input: &Input) -> Result<PathBuf, String> {
        let name = output_name(input.path());
        match self {
            Self::File(path) => Ok(path.to_path_buf()),
            Self::Folder(folder) => {
                Ok(folder.join(input.below.as_deref().unwrap_or(Path::new(""))).join(name))
            }
            Self::Beside if input.source == Source::Stdin => {
                Err("-: needs -o, a file that ends in .safetensors or a folder".to_owned())
            }
            Self::Beside if is_in_cache(input.path()) => Err(format!(
                "{}: lies in a Hugging Face cache, which keeps its own files; give -o",
                input.shown()
            )),
            Self::Beside => Ok(input.path().with_file_name(name)),
        }
    }

    /// The folder that a folder is converted into: itself, if no other is named.
    fn of_checkpoint(&self, input: &Input, is_one: bool) -> Result<PathBuf, String> {
        let path = input.path();
        match self {
            Self::File(_) => {
                Err(format!("{}: -o with a folder as the input is a folder, too", input.shown()))
            }
            Self::Folder(folder) if is_one => Ok(folder.to_path_buf()),
            Self::Folder(folder) => {
                let below = input.below.as_deref().unwrap_or(Path::new(""));
                Ok(folder.join(below).join(path.file_name().unwrap_or_default()))
            }
            Self::Beside if is_in_cache(path) => Err(format!(
                "{}: lies in a Hugging Face cache, which keeps its own files; give -o",
                input.shown()
            )),
            Self::Beside => Ok(path.to_owned()),
        }
    }

    /// The file after which the shards of a file are called: `model.safetensors` in a folder of their own, unless the
    /// input has a name that loaders know.
    fn of_shards(&self, input: &Input, is_one: bool) -> Result<PathBuf, String> {
        let whole = self.of(input)?;
        let stem = whole.with_extension("");
        let name = stem.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_known = name.starts_with("model") || name.ends_with("_model");
        match self {
            Self::File(path) => {
                let shown = path.display().to_string();
                Err(format!("-o {}: --max-shard-size writes several files; give a folder", sanitize(&shown)))
            }
            _ if is_known => Ok(whole),
            Self::Folder(_) if is_one => Ok(whole.with_file_name("model.safetensors")),
            _ => Ok(stem.join("model.safetensors")),
        }
    }
}

/// Whether a path leads through a snapshot of a Hugging Face cache.
fn is_in_cache(path: &Path) -> bool {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let parts: Vec<_> = absolute.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    let kinds = ["models--", "datasets--", "spaces--"];
    let is_repository = |part: &str| kinds.iter().any(|kind| part.starts_with(kind));
    parts.windows(2).any(|pair| matches!(pair, [one, two] if is_repository(one) && two == "snapshots"))
}

/// No two jobs write one file, and none writes over an input.
fn check(jobs: &[Job], writes: &dyn Fn(&Job) -> bool) -> Result<(), String> {
    // In a folder stand files of every kind: what would not be written is in nobody's way.
    let counts = |job: &&Job| !job.input.is_found() || writes(job);
    let mut inputs: HashMap<PathBuf, &Job> = HashMap::new();
    for job in jobs {
        if let Source::File(path) = &job.input.source {
            inputs.insert(key(path), job);
        }
    }
    let mut outputs: HashMap<PathBuf, &Job> = HashMap::new();
    for job in jobs {
        for target in job.targets() {
            let shown = target.display().to_string();
            let shown = sanitize(&shown);
            let key = key(&target);
            if let Some(input) = inputs.get(&key).filter(|input| counts(input))
                && counts(&job)
            {
                let (of, over) = (job.input.shown(), input.input.shown());
                return Err(format!(
                    "{of}: its output {shown} would replace the input {over}; choose another with -o"
                ));
            }
            let Some(first) = outputs.insert(key.clone(), job) else { continue };
            if std::ptr::eq(first, job) {
                return Err(format!("{shown}: is to be two outputs of one input"));
            }
            match (counts(&first), counts(&job)) {
                (true, true) => {
                    let (first, second) = (first.input.shown(), job.input.shown());
                    return Err(format!("{first} and {second} would both be written to {shown}"));
                }
                (true, false) => drop(outputs.insert(key, first)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// A path by which files can be told apart before they exist: its part that exists is freed of links.
fn key(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest = Vec::new();
    let mut known = absolute.as_path();
    while let (Some(parent), Some(last)) = (known.parent(), known.components().next_back()) {
        rest.push(last);
        known = parent;
        if let Ok(mut found) = known.canonicalize() {
            for part in rest.into_iter().rev() {
                if part == Component::ParentDir {
                    found.pop();
                } else {
                    found.push(part);
                }
            }
            return found;
        }
    }
    absolute
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::{Cli, Task};
    use super::super::inputs::find;
    use super::*;

    fn jobs(
        folder: &Path,
        arguments: &[&str],
        writes: &dyn Fn(&Job) -> bool,
    ) -> Result<Vec<PathBuf>, String> {
        let at = |argument: &&str| {
            let is_flag = argument.starts_with('-');
            if is_flag { (*argument).to_owned() } else { folder.join(argument).to_str().unwrap().to_owned() }
        };
        let all = ["depickle".to_owned(), "convert".to_owned()].into_iter().chain(arguments.iter().map(at));
        let Task::Convert(args) = Cli::try_parse_from(all).unwrap().command else { panic!() };
        let jobs = assign(find(&args.inputs)?.all, &args, writes)?;
        let relative = |job: Job| job.output.strip_prefix(folder).unwrap().to_owned();
        Ok(jobs.into_iter().map(relative).collect())
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        for file in ["a.pt", "a.bin", "d/b.pth.tar", "d/b.txt", "w.safetensors"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        folder
    }

    #[test]
    fn outputs_stand_beside_or_where_they_are_sent() {
        let folder = folder();
        let folder = folder.path();
        for (arguments, outputs) in [
            (&["a.pt"][..], vec!["a.safetensors"]),
            (&["a.pt", "-o", "x"], vec!["x/a.safetensors"]),
            (&["a.pt", "-o", "x/y.safetensors"], vec!["x/y.safetensors"]),
            (&["d"], vec!["d/b.safetensors", "d/b.txt.safetensors"]),
            (&["d", "-o", "x"], vec!["x/b.safetensors", "x/b.txt.safetensors"]),
            (&["-", "-o", "x"], vec!["x/stdin.safetensors"]),
        ] {
            let outputs: Vec<PathBuf> = outputs.into_iter().map(PathBuf::from).collect();
            assert_eq!(jobs(folder, arguments, &|_| true), Ok(outputs), "{arguments:?}");
        }
    }

    #[test]
    fn outputs_that_cannot_be_are_told_before_anything_is_written() {
        let folder = folder();
        let folder = folder.path();
        for (arguments, message) in [
            (&["a.pt", "a.bin"][..], "would both be written"),
            (&["a.pt", "d", "-o", "x.safetensors"], "one file only"),
            (&["d", "-o", "x.safetensors"], "one file only"),
            (&["a.pt", "d", "--manifest", "m"], "one file only"),
            (&["a.pt", "-o", "a.bin"], "is a file"),
            (&["w.safetensors", "-o", "w.safetensors"], "would replace the input"),
            (&["a.pt", "a.bin", "-o", "d/../."], "would both be written"),
            (&["a.pt", "--manifest", "a.pt"], "would replace the input"),
            (&["a.pt", "--manifest", "a.safetensors"], "two outputs of one input"),
            (&["-"], "needs -o"),
            (&["models--a--b/snapshots/c/model.bin"], "Hugging Face cache"),
        ] {
            let error = jobs(folder, arguments, &|_| true).unwrap_err();
            assert!(error.contains(message), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn what_would_not_be_written_is_in_nobodys_way() {
        let folder = folder();
        let writes = |job: &Job| job.input.path().extension().is_some_and(|suffix| suffix == "pt");
        assert_eq!(jobs(folder.path(), &["."], &writes).unwrap().len(), 5);
        assert!(jobs(folder.path(), &["."], &|_| true).unwrap_err().contains("would both be written"));
    }
}
