//! The documents that `convert` writes for others: SHA256SUMS, signature, provenance and bill of materials.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use depickle::convert::is_interrupted;
use depickle::custody::documents::{Documents, ProvenanceOptions, SUMS, merge_sums};
use depickle::output::{self, Staged};

use super::args::ConvertArgs;
use super::sanitize::sanitize;
use super::sign::{self, KeyArgs};

/// What else is written. All of it is about one checkpoint in a folder of its own.
#[derive(Debug, Args)]
#[command(next_help_heading = "Custody")]
pub(crate) struct CustodyArgs {
    /// Sign the folder with this private key (model.sig); needs -o, a new or empty folder
    #[arg(long, value_name = "PEM", conflicts_with_all = CONFLICTS)]
    pub(crate) sign: Option<PathBuf>,

    /// File with the password of an encrypted key [default: the environment variable `DEPICKLE_KEY_PASSWORD`]
    #[arg(long, value_name = "FILE", requires = "sign")]
    pub(crate) password_file: Option<PathBuf>,

    /// Write a SLSA provenance (provenance.intoto.json); needs -o, a new or empty folder
    #[arg(long, conflicts_with_all = CONFLICTS)]
    pub(crate) provenance: bool,

    /// Who vouches for this run, in the provenance [default: a local, unauthenticated builder]
    #[arg(long, value_name = "URI", requires = "provenance")]
    pub(crate) builder_id: Option<String>,

    /// Where the source is from, in the provenance
    #[arg(long, value_name = "URI", requires = "provenance")]
    pub(crate) source_uri: Option<String>,

    /// Write a bill of materials, `CycloneDX` 1.6 (bom.cdx.json); needs -o, a new or empty folder
    #[arg(long, conflicts_with_all = CONFLICTS)]
    pub(crate) bom: bool,
}

/// The documents have the manifest's digest, and stand beside it.
const CONFLICTS: [&str; 2] = ["manifest", "no_manifest"];

/// The documents that are asked for. `jobs` counts the checkpoints.
///
/// # Errors
/// What is wrong with the arguments, as a message.
pub(crate) fn documents(
    args: &ConvertArgs,
    jobs: impl FnOnce() -> usize,
) -> Result<Option<Documents>, String> {
    let CustodyArgs { sign, password_file, provenance, builder_id, source_uri, bom } = &args.custody;
    if sign.is_none() && !provenance && !bom {
        return Ok(None);
    }
    let folder = folder(args).ok_or("--sign, --provenance and --bom need -o, a new or empty folder")?;
    let is_empty = match folder.read_dir() {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    // What an interrupted run of this command left is about to be finished; what a finished one left is complete.
    let is_own = args.resume && (is_interrupted(folder) || folder.join("manifest.json").is_file());
    if !is_empty && !is_own {
        let shown = folder.display().to_string();
        return Err(format!(
            "-o {}: is not empty; --sign, --provenance and --bom are about everything in a folder",
            sanitize(&shown)
        ));
    }
    let jobs = jobs();
    if jobs != 1 {
        return Err(format!("--sign, --provenance and --bom are about one checkpoint, and there are {jobs}"));
    }
    let provenance = provenance
        .then(|| ProvenanceOptions { builder_id: builder_id.clone(), source_uri: source_uri.clone() });
    let key = |key: &PathBuf| {
        let args = KeyArgs { key: key.clone(), password_file: password_file.clone() };
        sign::key(&args).map(Arc::new).map_err(|error| error.to_string())
    };
    Ok(Some(Documents { provenance, bom: *bom, sign: sign.as_ref().map(key).transpose()? }))
}

/// The folder that `-o` names.
fn folder(args: &ConvertArgs) -> Option<&Path> {
    let path = args.output.as_deref()?;
    (!path.as_os_str().as_encoded_bytes().ends_with(b".safetensors")).then_some(path)
}

/// Records the digests of files that were written below `-o FOLDER` in its `SHA256SUMS`, besides those that it has.
///
/// # Errors
/// Where it cannot be written, or is something else.
pub(crate) fn record_sums(args: &ConvertArgs, files: &[(PathBuf, String)]) -> Result<(), output::Error> {
    let Some(folder) = folder(args) else { return Ok(()) };
    let name = |path: &Path| {
        let parts = path.strip_prefix(folder).ok()?.components().map(|part| part.as_os_str().to_str());
        parts.collect::<Option<Vec<_>>>().map(|parts| parts.join("/"))
    };
    let named = files.iter().filter_map(|(path, digest)| Some((name(path)?, digest.clone())));
    let named: BTreeMap<String, String> = named.collect();
    if named.is_empty() {
        return Ok(());
    }
    let path = folder.join(SUMS);
    let write = |error| output::Error { path: path.clone(), kind: output::ErrorKind::Write(error) };
    let known = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        known => known.map_err(write)?,
    };
    let exists = || output::Error { path: path.clone(), kind: output::ErrorKind::Exists };
    let text = merge_sums(&known, &named).ok_or_else(exists)?;
    if args.resume {
        remove_partial(folder);
    }
    let staged = Staged::create(&path, true)?;
    staged.file().write_all(text.as_bytes()).map_err(write)?;
    staged.commit(true)
}

/// Removes the lists that interrupted runs were writing: a run that goes on ends in what one would have come to.
fn remove_partial(folder: &Path) {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_prefix(SUMS));
        if rest.is_some_and(|rest| rest.starts_with('.') && rest.ends_with(".partial")) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
