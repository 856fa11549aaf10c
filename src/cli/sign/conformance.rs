//! The hidden commands that the public conformance suite calls:
//! <https://github.com/sampras343/model-signing-conformance>
//!
//! They differ from `sign` and `verify` in one thing: a signer's certificate need not say who the signer is, and may be
//! that of an authority, as it is in the suite.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use depickle::ErrorKind;
use depickle::custody::oms::{
    self, Certificate, PrivateKey, Profile, PublicKey, Roots, SignOptions, Trust, VerifyOptions,
};
use depickle::output::Staged;

use super::args::{Method, SignModelArgs, VerifyModelArgs};
use crate::cli::exit::Exit;
use crate::cli::printer::Printer;

/// `sign-model`
pub(crate) fn sign_model(args: &SignModelArgs, printer: &mut Printer) -> Exit {
    let Some(key) = args.private_key.as_deref().filter(|_| args.method != Method::Sigstore) else {
        return unsupported(printer);
    };
    match sign(args, key) {
        Ok(()) => Exit::Done,
        Err(error) => super::failed(&args.model_path, error, printer),
    }
}

fn sign(args: &SignModelArgs, key: &Path) -> Result<(), ErrorKind> {
    let key = PrivateKey::open(key, None)?;
    let certificates = match args.method {
        Method::Certificate => open_all(args.signing_cert.iter().chain(&args.cert_chain))?,
        _ => Vec::new(),
    };
    let options = SignOptions {
        signature: args.output_bundle.clone(),
        ignore: args.ignore_paths.clone(),
        certificates,
    };
    let signed = oms::sign(&args.model_path, &key, &options)?;
    super::write(Staged::create(&args.output_bundle, true)?, &signed.bundle, true)?;
    Ok(())
}

/// `verify-model`
pub(crate) fn verify_model(args: &VerifyModelArgs, printer: &mut Printer) -> Exit {
    let trust = match (args.method, &args.public_key) {
        (Method::Key, Some(key)) => PublicKey::open(key).map(Trust::Key),
        (Method::Certificate, _) => open_all(args.cert_chain.iter()).map(|certificates| {
            let (identity, now) = (args.identity.clone(), SystemTime::now());
            Trust::Certificates(Roots { certificates, identity, profile: Profile::Compatible, now })
        }),
        #[cfg(feature = "keyless")]
        (Method::Sigstore, _) => {
            let (identity, issuer) = (args.identity.as_deref(), args.identity_provider.as_deref());
            super::keyless(identity.unwrap_or_default(), issuer.unwrap_or_default(), None)
        }
        _ => return unsupported(printer),
    };
    let options =
        VerifyOptions { ignore: args.ignore_paths.clone(), ignore_unsigned: args.ignore_unsigned_files };
    let verified = trust.and_then(|trust| oms::verify(&args.model_path, &args.bundle, &trust, &options));
    let verified = match verified {
        Ok(verified) => verified,
        Err(error) => return super::failed(&args.model_path, error.into(), printer),
    };
    for (name, mismatch) in &verified.mismatches {
        printer.error(format_args!("{}: {mismatch}", crate::cli::sanitize::sanitize(name)));
    }
    if verified.mismatches.is_empty() { Exit::Done } else { Exit::No }
}

fn open_all<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<Vec<Certificate>, oms::Error> {
    let mut all = Vec::new();
    for path in paths {
        all.append(&mut Certificate::open_all(path)?);
    }
    Ok(all)
}

fn unsupported(printer: &mut Printer) -> Exit {
    printer.error("error: a key is needed; keyless signatures are not supported");
    Exit::Usage
}
