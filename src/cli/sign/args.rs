//! The arguments of everything that has to do with signatures.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::args::FormArgs;

/// `sign`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  openssl ecparam -genkey -noout -name prime256v1 -out key.pem
  openssl ec -in key.pem -pubout -out key.pub.pem
  depickle sign released/ --key key.pem
  depickle verify released/ --key key.pub.pem")]
pub(crate) struct SignArgs {
    /// Folder whose files are signed
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,

    #[command(flatten)]
    pub(crate) key: KeyArgs,

    /// Signer's certificate, which the signature then carries
    #[arg(long, value_name = "PEM")]
    pub(crate) certificate: Option<PathBuf>,

    /// Certificates above it that the signature carries, the next one first (repeatable)
    #[arg(long, value_name = "PEM", requires = "certificate")]
    pub(crate) certificate_chain: Vec<PathBuf>,

    /// Where to write the signature [default: model.sig in the folder]
    #[arg(long, value_name = "PATH")]
    pub(crate) signature: Option<PathBuf>,

    /// Leave out a file or folder: relative to DIR, or absolute and inside it (repeatable)
    #[arg(long, value_name = "PATH", alias = "ignore_paths")]
    pub(crate) ignore_paths: Vec<PathBuf>,

    /// Replace a signature that exists
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) form: FormArgs,
}

/// The key that signs.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// Private key on P-256, P-384 or P-521, as PEM (PKCS#8 or SEC 1)
    #[arg(long, value_name = "PEM")]
    pub(crate) key: PathBuf,

    /// File with the password of an encrypted key [default: the environment variable `DEPICKLE_KEY_PASSWORD`]
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

/// Which signatures `verify` accepts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Signature")]
pub(crate) struct SignatureArgs {
    /// Check the signature, made with the private key of this public one
    #[arg(long, value_name = "PEM", conflicts_with = "certificate_chain")]
    pub(crate) key: Option<PathBuf>,

    /// Check the signature, made by a signer whom these authorities certify (repeatable)
    #[arg(long, value_name = "PEM", requires = "identity", group = "authority")]
    pub(crate) certificate_chain: Vec<PathBuf>,

    /// Mail address, URI or host name that the signer's certificate has to be for
    #[arg(long, value_name = "NAME", requires = "authority")]
    pub(crate) identity: Option<String>,

    /// Check the keyless signature of an identity that this identity provider vouches for
    #[cfg(feature = "keyless")]
    #[arg(long, value_name = "URL", requires = "identity", conflicts_with = "key", group = "authority")]
    pub(crate) issuer: Option<String>,

    /// Sigstore's trusted root, for another instance or a later time than this program's
    #[cfg(feature = "keyless")]
    #[arg(long, value_name = "FILE", requires = "issuer")]
    pub(crate) trusted_root: Option<PathBuf>,

    /// The signature [default: model.sig in the folder]
    #[arg(long, value_name = "PATH")]
    pub(crate) signature: Option<PathBuf>,

    /// Pass over a file or folder that is not signed: relative to the folder, or absolute and inside it (repeatable)
    #[arg(long, value_name = "PATH", alias = "ignore_paths")]
    pub(crate) ignore_paths: Vec<PathBuf>,

    /// Files that are not signed are no mismatch
    #[arg(long, alias = "ignore_unsigned_files")]
    pub(crate) ignore_unsigned_files: bool,
}

/// How a signature is made, in the words of the conformance suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Method {
    Key,
    Certificate,
    Sigstore,
}

/// `sign-model`
#[derive(Debug, Args)]
pub(crate) struct SignModelArgs {
    #[arg(long)]
    pub(crate) method: Method,
    #[arg(long)]
    pub(crate) model_path: PathBuf,
    #[arg(long)]
    pub(crate) output_bundle: PathBuf,
    #[arg(long)]
    pub(crate) private_key: Option<PathBuf>,
    #[arg(long)]
    pub(crate) signing_cert: Option<PathBuf>,
    #[arg(long)]
    pub(crate) cert_chain: Vec<PathBuf>,
    #[arg(long)]
    pub(crate) ignore_paths: Vec<PathBuf>,
}

/// `verify-model`
#[derive(Debug, Args)]
pub(crate) struct VerifyModelArgs {
    #[arg(long)]
    pub(crate) method: Method,
    #[arg(long)]
    pub(crate) model_path: PathBuf,
    #[arg(long)]
    pub(crate) bundle: PathBuf,
    #[arg(long)]
    pub(crate) public_key: Option<PathBuf>,
    #[arg(long)]
    pub(crate) cert_chain: Vec<PathBuf>,
    #[arg(long)]
    pub(crate) ignore_paths: Vec<PathBuf>,
    #[arg(long)]
    pub(crate) ignore_unsigned_files: bool,
    #[arg(long)]
    pub(crate) identity: Option<String>,
    #[arg(long)]
    pub(crate) identity_provider: Option<String>,
}
