//! What stands beside the outputs of a conversion for tools that know nothing of a manifest.
//!
//! Each says something about those before it, so that nothing is circular: outputs, then the manifest, which has their digests,
//! then `SHA256SUMS` and the bill of materials, then `model.sig` over all of these, then the provenance, which has the
//! digest of what was signed.

mod bom;
#[cfg(feature = "sign")]
mod check;
mod provenance;
mod sums;

use super::manifest::{Manifest, OutputRecord};

pub use bom::BOM;
#[cfg(feature = "sign")]
pub use check::{ProvenanceFault, ProvenanceReport, check_provenance};
pub use provenance::{ENVELOPE, PREDICATE, PROVENANCE, ProvenanceOptions};
pub(super) use sums::read as read_sums;
pub use sums::{SUMS, merge_sums};

#[cfg(feature = "sign")]
use super::oms;

/// Why a document cannot be made.
#[cfg(feature = "sign")]
pub type DocumentError = oms::KeyError;
/// Why a document cannot be made: without signatures, nothing can fail.
#[cfg(not(feature = "sign"))]
pub type DocumentError = std::convert::Infallible;

/// Which documents are wanted, besides [`SUMS`].
#[derive(Debug, Clone, Default)]
pub struct Documents {
    /// [`PROVENANCE`] and [`PREDICATE`]; signed, [`ENVELOPE`] too.
    pub provenance: Option<ProvenanceOptions>,
    /// [`BOM`]
    pub bom: bool,
    /// The key of the signature, [`oms::SIGNATURE`].
    #[cfg(feature = "sign")]
    pub sign: Option<std::sync::Arc<oms::PrivateKey>>,
}

impl Documents {
    /// The names of the files that they become.
    pub fn names(&self) -> Vec<&'static str> {
        let mut names = vec![SUMS];
        names.extend(self.bom.then_some(BOM));
        if self.provenance.is_some() {
            names.extend([PROVENANCE, PREDICATE]);
        }
        #[cfg(feature = "sign")]
        if self.sign.is_some() {
            names.push(oms::SIGNATURE);
            names.extend(self.provenance.is_some().then_some(ENVELOPE));
        }
        names
    }
}

/// A small file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its name.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What the documents are about. Of the manifest, its tensors are not needed.
#[derive(Debug)]
pub struct Subject<'a> {
    /// What was done.
    pub manifest: &'a Manifest<(), ()>,
    /// The manifest's own name and digest.
    pub manifest_file: (&'a str, &'a str),
    /// The name of the folder.
    pub folder: &'a str,
}

impl Subject<'_> {
    /// Every file with its digest, the manifest last.
    fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        let outputs =
            self.manifest.outputs.iter().map(|output: &OutputRecord| (&*output.path, &*output.sha256));
        outputs.chain(std::iter::once(self.manifest_file))
    }
}

/// Makes the documents, in the order in which each depends on those before it. The same conversion gives the same bytes.
///
/// # Errors
/// Those of the key.
pub fn documents(subject: &Subject<'_>, wanted: &Documents) -> Result<Vec<Document>, DocumentError> {
    let mut made = unsigned(subject, wanted);
    #[cfg(feature = "sign")]
    let root = sign(subject, wanted, &mut made)?;
    #[cfg(not(feature = "sign"))]
    let root: Option<String> = None;
    if let Some(options) = &wanted.provenance {
        let (statement, predicate) = provenance::write(subject, root.as_deref(), options);
        #[cfg(feature = "sign")]
        if let Some(key) = &wanted.sign {
            made.push(Document { name: ENVELOPE, bytes: oms::sign_statement(&statement, key)? });
        }
        made.push(Document { name: PROVENANCE, bytes: statement });
        made.push(Document { name: PREDICATE, bytes: predicate });
    }
    Ok(made)
}

/// Adds the signature over the files and the documents so far, and gives the digest over all of them.
#[cfg(feature = "sign")]
fn sign(
    subject: &Subject<'_>,
    wanted: &Documents,
    made: &mut Vec<Document>,
) -> Result<Option<String>, DocumentError> {
    use sha2::{Digest, Sha256};

    let Some(key) = &wanted.sign else { return Ok(None) };
    let files = subject.files().map(|(name, digest)| (name.to_owned(), digest.to_owned()));
    let digest = |document: &Document| crate::bytes::hex(&Sha256::digest(&document.bytes));
    let documents = made.iter().map(|document| (document.name.to_owned(), digest(document)));
    let files = files.chain(documents).collect();
    // The provenance has the digest of what is signed here, and is signed by itself.
    let later = [PROVENANCE, PREDICATE, ENVELOPE].into_iter().filter(|_| wanted.provenance.is_some());
    let signed = oms::sign_files(subject.folder, &files, later.map(str::to_owned).collect(), key)?;
    made.push(Document { name: oms::SIGNATURE, bytes: signed.bundle });
    Ok(Some(signed.root))
}

/// Those that are made before a signature.
fn unsigned(subject: &Subject<'_>, wanted: &Documents) -> Vec<Document> {
    let sums = Document { name: SUMS, bytes: sums::write(subject.files()).into_bytes() };
    let bom = wanted.bom.then(|| Document { name: BOM, bytes: bom::write(subject) });
    std::iter::once(sums).chain(bom).collect()
}

/// A document as people read it, with a newline at its end.
fn pretty(document: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(document).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
