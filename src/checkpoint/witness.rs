//! Where the pickles of a source are: found by opening it with a witness, so that they are those that a conversion runs and
//! judges, in the order in which it meets them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::bytes::{ReadAt, Span};
use crate::policy::{JudgedGlobal, Overrides};

use super::{Error, OpenOptions, Source, layers};

/// A pickle as it was met.
#[derive(Clone)]
pub struct FoundPickle {
    /// Member of the archive, where the container names one.
    pub entry: Option<Box<str>>,
    /// What its positions are in.
    pub source: Arc<dyn ReadAt>,
    /// From its first opcode to `STOP`; where it breaks off, all that it could have taken.
    pub span: Span,
    /// Whether its positions are those of the file, or of what the file is wrapped around.
    pub in_file: bool,
    /// Whether joblib's arrays may stand between its opcodes.
    pub joblib: bool,
    /// Whether it comes to `STOP`.
    pub complete: bool,
    /// Every name that it refers to, judged without any exception.
    pub globals: Vec<JudgedGlobal>,
}

impl fmt::Debug for FoundPickle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundPickle")
            .field("entry", &self.entry)
            .field("span", &self.span)
            .field("complete", &self.complete)
            .finish_non_exhaustive()
    }
}

/// Notes every pickle that an opening meets. With it nothing refuses, so that all are met.
#[derive(Debug, Clone, Default)]
pub struct Witness(Arc<Mutex<Vec<FoundPickle>>>);

impl Witness {
    pub(super) fn note(&self, found: FoundPickle) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(found);
    }

    fn take(&self) -> Vec<FoundPickle> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The pickles of a source.
#[derive(Debug)]
pub struct Pickles {
    /// Every pickle, in the order in which it was met.
    pub found: Vec<FoundPickle>,
    /// Name of the container; `None` where the source could not be read to its end.
    pub container: Option<&'static str>,
    /// What was undone to come to it, outermost first.
    pub layers: Vec<&'static str>,
    /// Why the source could not be read to its end. That a pickle is broken is not said here.
    pub error: Option<Error>,
}

/// Finds the pickles of a source. Nothing is refused and nothing interpreted that this does not need.
pub fn pickles(source: &Source, options: &OpenOptions) -> Pickles {
    let witness = Witness::default();
    let options = OpenOptions {
        witness: Some(witness.clone()),
        strict: false,
        overrides: Overrides::default(),
        ..options.clone()
    };
    let opened = layers::open_all(source, &options);
    let found = witness.take();
    let broken = found.iter().any(|pickle| !pickle.complete);
    match opened {
        Ok(opened) => {
            let file = opened.files.into_iter().next();
            let container = file.as_ref().map(|file| file.container);
            let layers = file.and_then(|file| file.outer).map(|outer| outer.layers).unwrap_or_default();
            Pickles { found, container, layers, error: None }
        }
        Err(error) => {
            let said = broken && matches!(error, Error::Pickle { .. } | Error::NotApplicable);
            Pickles { found, container: None, layers: Vec::new(), error: (!said).then_some(error) }
        }
    }
}
