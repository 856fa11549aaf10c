//! `depickle sign`, and the part of `depickle verify` that is about signatures.

mod args;
mod conformance;
mod level;

use std::io::Write as _;
use std::path::Path;

use depickle::custody::oms::{self, Certificate, PrivateKey, SIGNATURE, SignOptions, Signed};
use depickle::output::{self, Staged};
use depickle::report::{SIGN_SCHEMA, SignatureRecord};
use depickle::{Error, ErrorKind};

pub(crate) use args::{KeyArgs, SignArgs, SignModelArgs, SignatureArgs, VerifyModelArgs};
pub(crate) use conformance::{sign_model, verify_model};
pub(crate) use level::Level;

use super::exit::Exit;
use super::printer::Printer;
use super::sanitize::{bounded, sanitize};
use super::text::Count;

/// The environment variable with the password of an encrypted key.
const PASSWORD: &str = "DEPICKLE_KEY_PASSWORD";

/// Signs the files of a folder.
pub(crate) fn run(args: &SignArgs, printer: &mut Printer) -> Exit {
    let signature = args.signature.clone().unwrap_or_else(|| args.folder.join(SIGNATURE));
    let signed = match sign(args, &signature) {
        Ok(signed) => signed,
        Err(error) => return failed(&args.folder, error, printer),
    };
    let shown = signature.display().to_string();
    if printer.is_json() {
        printer.document(&SignatureRecord {
            schema: SIGN_SCHEMA,
            signature: shown,
            files: signed.files,
            root: format!("sha256:{}", signed.root),
            root_by_components: signed.root_by_components.map(|root| format!("sha256:{root}")),
        });
        return Exit::Done;
    }
    printer.result(format_args!("{}  {} signed", sanitize(&shown), Count(signed.files, "file")));
    if let Some(other) = &signed.root_by_components {
        let why = "sorts these names in another order; it accepts the signature all the same";
        printer.note(format_args!(
            "digest over all files: {}; {other} for model-signing, which {why}",
            signed.root
        ));
    }
    Exit::Done
}

fn sign(args: &SignArgs, signature: &Path) -> Result<Signed, ErrorKind> {
    let key = key(&args.key)?;
    let mut certificates = Vec::new();
    for path in args.certificate.iter().chain(&args.certificate_chain) {
        certificates.append(&mut Certificate::open_all(path)?);
    }
    let ignore = args.ignore_paths.clone();
    let options = SignOptions { signature: signature.to_owned(), ignore, certificates };
    // Told before the work. It is staged after it, as what is staged in the folder would be signed.
    if !args.force && signature.symlink_metadata().is_ok() {
        let kind = output::ErrorKind::Exists;
        return Err(output::Error { path: signature.to_owned(), kind }.into());
    }
    let signed = oms::sign(&args.folder, &key, &options)?;
    write(Staged::create(signature, args.force)?, &signed.bundle, args.force)?;
    Ok(signed)
}

/// Writes a small file whole.
fn write(staged: Staged, bytes: &[u8], force: bool) -> Result<(), output::Error> {
    let written = staged.file().write_all(bytes);
    written.map_err(|error| output::Error {
        path: staged.target().to_owned(),
        kind: output::ErrorKind::Write(error),
    })?;
    staged.commit(force)
}

/// The key that signs.
pub(crate) fn key(args: &KeyArgs) -> Result<PrivateKey, oms::Error> {
    let password = match &args.password_file {
        Some(path) => {
            let io = |error| oms::Error::Io { path: path.clone(), error };
            let mut password = std::fs::read(path).map_err(io)?;
            // Editors end a file with a line end, which is hardly part of the password.
            while password.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                password.pop();
            }
            Some(password)
        }
        None => std::env::var_os(PASSWORD).map(std::ffi::OsString::into_encoded_bytes),
    };
    PrivateKey::open(&args.key, password.as_deref())
}

/// The trust in whom an identity provider vouches for.
#[cfg(feature = "keyless")]
fn keyless(identity: &str, issuer: &str, root: Option<&Path>) -> Result<oms::Trust, oms::Error> {
    let keyless = oms::Keyless::new(identity, issuer, root)?;
    Ok(oms::Trust::Keyless(std::sync::Arc::new(keyless)))
}

/// Tells of an error that names its file itself.
fn failed(path: &Path, kind: ErrorKind, printer: &mut Printer) -> Exit {
    printer.error(bounded(&kind.to_string(), 2_000));
    if let ErrorKind::Output(error) = &kind
        && matches!(error.kind, output::ErrorKind::Exists)
    {
        printer.error("  --force replaces it");
    }
    Error { path: path.display().to_string(), kind: Box::new(kind) }.class().into()
}
