//! The signature level of `verify`.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use depickle::custody::documents::{
    self, ENVELOPE, PREDICATE, ProvenanceFault, ProvenanceReport, check_provenance,
};
use depickle::custody::find_manifest;
use depickle::custody::oms::{
    self, Certificate, Error, Fault, Profile, PublicKey, Roots, SIGNATURE, Trust, Verified, VerifyOptions,
};
use depickle::report::Mismatch;

use super::args::SignatureArgs;
use crate::cli::inputs::folder_of;
use crate::cli::sanitize::{bounded, sanitize};
use crate::cli::text::length;

/// The names of the levels.
const NAME: &str = "signature";
const PROVENANCE: &str = "provenance";

/// What the signature level showed.
#[derive(Debug)]
pub(crate) struct Level {
    pub(crate) signature: Signature,
    /// Whether what was given is a model by itself, which no manifest describes.
    pub(crate) is_alone: bool,
    path: PathBuf,
    signer: String,
    provenance: Option<ProvenanceReport>,
}

/// What became of the signature.
#[derive(Debug)]
pub(crate) enum Signature {
    /// There is none, and none was asked for.
    Unsigned,
    /// There is one, and nothing to check it with.
    NotChecked,
    /// It is good; files may differ all the same.
    Good(Verified),
    /// It is not.
    Bad(Fault),
}

impl Level {
    /// Checks the signature of what `verify` was given: a folder, or a manifest or output in one.
    ///
    /// # Errors
    /// Where a key or a file cannot be read.
    pub(crate) fn check(path: &Path, args: &SignatureArgs) -> Result<Self, Error> {
        let (model, folder) = model(path);
        let is_alone = model != folder;
        let signature = args.signature.clone().unwrap_or_else(|| folder.join(SIGNATURE));
        let Some((trust, signer)) = trust(args)? else {
            let is_there = signature.is_file();
            let state = if is_there { Signature::NotChecked } else { Signature::Unsigned };
            return Ok(Self {
                signature: state,
                is_alone,
                path: signature,
                signer: String::new(),
                provenance: None,
            });
        };
        let options =
            VerifyOptions { ignore: args.ignore_paths.clone(), ignore_unsigned: args.ignore_unsigned_files };
        let state = match oms::verify(&model, &signature, &trust, &options) {
            Ok(verified) => Signature::Good(verified),
            Err(Error::Fault { fault, .. }) => Signature::Bad(fault),
            Err(error) => return Err(error),
        };
        Ok(Self { signature: state, is_alone, path: signature, signer, provenance: None })
    }

    /// Checks what the folder of a manifest has besides: a manifest that is not signed proves nothing, and a provenance has
    /// to be about these outputs.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub(crate) fn check_manifest(&mut self, manifest: &Path) -> Result<(), Error> {
        self.require(manifest);
        let signed = match &self.signature {
            Signature::Good(verified) => Some(verified),
            _ => None,
        };
        let io = |error| Error::Io { path: manifest.to_owned(), error };
        self.provenance = check_provenance(manifest, signed).map_err(io)?;
        Ok(())
    }

    fn require(&mut self, manifest: &Path) {
        let Signature::Good(verified) = &mut self.signature else { return };
        let name = manifest.file_name().unwrap_or_default().to_string_lossy();
        let known = verified.mismatches.iter().any(|(known, _)| *known == name);
        if !verified.files.contains_key(&*name) && !known {
            verified.mismatches.push((name.into_owned(), oms::Mismatch::Unsigned));
        }
    }

    /// Whether a signature was asked for.
    pub(crate) fn is_checked(&self) -> bool {
        matches!(self.signature, Signature::Good(_) | Signature::Bad(_))
    }

    /// The state in one word or two, for the document.
    pub(crate) fn state(&self) -> &'static str {
        match &self.signature {
            Signature::Unsigned => "unsigned",
            Signature::NotChecked => "not checked",
            Signature::Good(verified) if verified.mismatches.is_empty() => "good",
            Signature::Good(_) | Signature::Bad(_) => "bad",
        }
    }

    /// Whether nothing speaks against it.
    pub(crate) fn is_match(&self) -> bool {
        self.state() != "bad" && self.provenance.iter().all(|report| report.mismatches.is_empty())
    }

    /// What does not match.
    pub(crate) fn mismatches(&self) -> Vec<Mismatch> {
        let mut all = self.of_signature();
        all.extend(self.of_provenance());
        all
    }

    fn of_provenance(&self) -> Vec<Mismatch> {
        let mismatches = self.provenance.iter().flat_map(|report| &report.mismatches);
        let one = |(name, fault): &(&str, ProvenanceFault)| Mismatch {
            level: PROVENANCE,
            name: (*name).to_owned(),
            mismatch: fault.to_string(),
        };
        mismatches.map(one).collect()
    }

    fn of_signature(&self) -> Vec<Mismatch> {
        let one = |name: &str, mismatch: String| Mismatch { level: NAME, name: name.to_owned(), mismatch };
        match &self.signature {
            Signature::Unsigned | Signature::NotChecked => Vec::new(),
            Signature::Good(verified) => {
                verified.mismatches.iter().map(|(name, mismatch)| one(name, mismatch.to_string())).collect()
            }
            Signature::Bad(fault) => vec![one(&self.path.display().to_string(), fault.to_string())],
        }
    }

    /// Lines for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let path = self.path.display().to_string();
        let path = sanitize(&path);
        let first = match &self.signature {
            Signature::Unsigned => "  unsigned: integrity only".to_owned(),
            Signature::NotChecked => {
                format!("  {NAME}  not checked, so integrity only; --key checks {path}")
            }
            Signature::Bad(_) => format!("  {NAME}  not accepted"),
            Signature::Good(verified) => {
                let (all, signer) = (length(verified.files.len()), &self.signer);
                let wrong = verified.mismatches.iter().filter(|(name, _)| verified.files.contains_key(name));
                let right = all.saturating_sub(length(wrong.count()));
                format!("  {NAME}  {right} of {all} files match, signed by {}", bounded(signer, 200))
            }
        };
        let mut lines = vec![first];
        lines.extend(self.of_signature().iter().map(line));
        lines.extend(self.provenance.as_ref().map(|report| {
            let state = match (report.mismatches.as_slice(), report.is_signed) {
                ([], true) => "matches, and is signed",
                ([], false) => "matches, unsigned",
                _ => "does not match",
            };
            format!("  {PROVENANCE}  {state}")
        }));
        lines.extend(self.of_provenance().iter().map(line));
        lines
    }

    /// What lies in the folder and is not covered, in a line.
    pub(crate) fn note(&self) -> Option<String> {
        let Signature::Good(verified) = &self.signature else { return None };
        // A provenance has its own level.
        let own = |name: &&String| [documents::PROVENANCE, PREDICATE, ENVELOPE].contains(&name.as_str());
        let ignored = verified.ignored.iter().filter(|name| self.provenance.is_none() || !own(name));
        let ignored: Vec<&str> = ignored.map(String::as_str).collect();
        let list = ignored.join(", ");
        (!ignored.is_empty()).then(|| format!("not covered by the signature: {}", bounded(&list, 1_000)))
    }
}

fn line(wrong: &Mismatch) -> String {
    format!("    {}: {}", bounded(&wrong.name, 400), bounded(&wrong.mismatch, 1_000))
}

/// What is signed, and the folder in which the signature is looked for: the folder of a manifest or of an output that has
/// one, or a file that is a model by itself.
fn model(path: &Path) -> (PathBuf, PathBuf) {
    if path.is_dir() {
        return (path.to_owned(), path.to_owned());
    }
    let folder = |file: &Path| folder_of(file).to_owned();
    let is = |suffix| path.extension().is_some_and(|own| own == suffix);
    let manifest = find_manifest(path).filter(|_| is("json") || is("safetensors"));
    match manifest {
        Some(manifest) => (folder(&manifest), folder(&manifest)),
        None => (path.to_owned(), folder(path)),
    }
}

/// Whose signatures are accepted, and that in words.
fn trust(args: &SignatureArgs) -> Result<Option<(Trust, String)>, Error> {
    if let Some(path) = &args.key {
        let key = PublicKey::open(path)?;
        let hint = key.hint().map_err(|error| Error::Key { path: path.clone(), error })?;
        return Ok(Some((Trust::Key(key), format!("the key {hint}"))));
    }
    let Some(identity) = args.identity.clone() else { return Ok(None) };
    #[cfg(feature = "keyless")]
    if let Some(issuer) = &args.issuer {
        let path = args.trusted_root.as_deref();
        let trust = super::keyless(&identity, issuer, path)?;
        return Ok(Some((trust, format!("{identity}, for whom {issuer} vouches"))));
    }
    let mut certificates = Vec::new();
    for path in &args.certificate_chain {
        certificates.append(&mut Certificate::open_all(path)?);
    }
    let (profile, now) = (Profile::Strict, SystemTime::now());
    let roots = Roots { certificates, identity: Some(identity.clone()), profile, now };
    Ok(Some((Trust::Certificates(roots), identity)))
}
