//! The public error: which file, and what went wrong at which stage.

use crate::tensor::ReadError;
use crate::{checkpoint, custody, hub, output, plan};

/// What went wrong, and with which file.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {kind}")]
pub struct Error {
    /// The file, as the caller named it.
    pub path: String,
    /// What went wrong.
    pub kind: Box<ErrorKind>,
}

/// What went wrong, by stage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The source cannot be opened: unreadable, malformed, refused or unsupported.
    #[error(transparent)]
    Open(#[from] checkpoint::Error),
    /// The options do not fit the source, or its names cannot stand side by side.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// The output could not be written.
    #[error(transparent)]
    Output(#[from] output::Error),
    /// The source is not what it was expected to be, or that could not be found out.
    #[error(transparent)]
    Expect(#[from] custody::ExpectError),
    /// The manifest could not be checked.
    #[error(transparent)]
    Verify(#[from] custody::VerifyError),
    /// A folder could not be signed, or its signature not be accepted.
    #[cfg(feature = "sign")]
    #[error(transparent)]
    Signature(#[from] custody::oms::Error),
    /// The files of a folder do not fit together.
    #[error(transparent)]
    Hub(#[from] hub::Error),
    /// A folder of several models, where one is wanted.
    #[error("holds several models, {first:?} and {second:?} among them; name the folder or the file of one")]
    SeveralModels {
        /// One.
        first: String,
        /// Another.
        second: String,
    },
    /// A file that was to be copied could not be read.
    #[error("cannot be copied: {0}")]
    Copy(std::io::Error),
    /// The output would take the place of the input.
    #[error("the output {0} is the input itself; choose another with -o")]
    OutputIsInput(String),
    /// A path that is not UTF-8 cannot stand in a manifest.
    #[error("the file name is not UTF-8; rename the file")]
    PathNotUtf8,
}

/// What a caller can do about an error. The program's exit codes are these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The answer is no: refused by verdict, or by an option that asks to refuse.
    Refused,
    /// The call is wrong: options that match nothing or contradict each other.
    Misuse,
    /// The source is malformed, ambiguous, beyond a limit, unsupported, or holds no tensors.
    Malformed,
    /// The environment failed: worth another try.
    Environment,
}

impl Error {
    pub(crate) fn new(path: &std::path::Path, kind: impl Into<ErrorKind>) -> Self {
        Self { path: path.display().to_string(), kind: Box::new(kind.into()) }
    }

    /// What the caller can do about it.
    pub fn class(&self) -> Class {
        match &*self.kind {
            ErrorKind::Open(error) => open_class(error),
            ErrorKind::Plan(plan::Error::Refused(_)) => Class::Refused,
            ErrorKind::Plan(plan::Error::Misuse(_))
            | ErrorKind::OutputIsInput(_)
            | ErrorKind::SeveralModels { .. }
            | ErrorKind::PathNotUtf8 => Class::Misuse,
            ErrorKind::Plan(plan::Error::Structure(_)) => Class::Malformed,
            ErrorKind::Output(error) => output_class(&error.kind),
            ErrorKind::Hub(hub::Error::Io(_)) | ErrorKind::Copy(_) => Class::Environment,
            ErrorKind::Hub(_) => Class::Malformed,
            ErrorKind::Expect(error) => expect_class(error),
            ErrorKind::Verify(custody::VerifyError::Io { .. }) => Class::Environment,
            ErrorKind::Verify(custody::VerifyError::NoManifest { .. }) => Class::Misuse,
            ErrorKind::Verify(_) => Class::Malformed,
            #[cfg(feature = "sign")]
            ErrorKind::Signature(error) => signature_class(error),
        }
    }
}

#[cfg(feature = "sign")]
fn signature_class(error: &custody::oms::Error) -> Class {
    use custody::oms::Error;
    match error {
        Error::Io { .. } => Class::Environment,
        Error::Key { .. } | Error::NotAFolder(_) | Error::IgnoreOutside(_) => Class::Misuse,
        #[cfg(feature = "keyless")]
        Error::TrustedRoot { .. } => Class::Misuse,
        Error::Stray { .. } | Error::Empty(_) => Class::Malformed,
        Error::Fault { .. } => Class::Refused,
    }
}

fn expect_class(error: &custody::ExpectError) -> Class {
    use custody::ExpectError as Expect;
    match error {
        Expect::Mismatch { .. } | Expect::Size { .. } => Class::Refused,
        Expect::Io(_) | Expect::List { .. } => Class::Environment,
        Expect::NotListed { .. } | Expect::Contradiction { .. } | Expect::NoList { .. } | Expect::Form(_) => {
            Class::Misuse
        }
    }
}

fn output_class(kind: &output::ErrorKind) -> Class {
    use output::ErrorKind as Kind;
    match kind {
        Kind::Write(_) | Kind::Source(_) | Kind::Changed(_) | Kind::Busy => Class::Environment,
        Kind::Tensor { error: ReadError::Io(_), .. } => Class::Environment,
        Kind::Exists | Kind::NotAFile | Kind::Interrupted | Kind::Stale => Class::Misuse,
        _ => Class::Malformed,
    }
}

fn open_class(error: &checkpoint::Error) -> Class {
    match error {
        checkpoint::Error::Io(_) => Class::Environment,
        checkpoint::Error::Inside { error, .. } => open_class(error),
        checkpoint::Error::Refused { .. } | checkpoint::Error::Strict(_) => Class::Refused,
        checkpoint::Error::Container(error) if error.is_io() => Class::Environment,
        checkpoint::Error::Pickle { error, .. } if error.kind.is_io() => Class::Environment,
        checkpoint::Error::Rebuild { error, .. } if error.kind.is_io() => Class::Environment,
        _ => Class::Malformed,
    }
}
