//! Where the outputs came from: an in-toto statement with a SLSA v1 provenance.
//! <https://slsa.dev/spec/v1.0/provenance>
//!
//! It has no time and no number of the run, so that the same conversion gives the same bytes; a builder that attests
//! knows both. What a program says about its own run is level 1 of SLSA at most.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::custody::manifest::OptionsRecord;
use crate::custody::statement::{self, Statement};

/// The name of the statement.
pub const PROVENANCE: &str = "provenance.intoto.json";
/// The name of its predicate alone, for builders that make and sign the statement themselves.
pub const PREDICATE: &str = "provenance.predicate.json";
/// The name of the signed statement, a DSSE envelope.
pub const ENVELOPE: &str = "provenance.dsse.json";

pub(super) const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
const BUILD_TYPE: &str = "urn:depickle:build:convert:1";
/// Nobody vouches for the machine on which the conversion ran.
const LOCAL: &str = "urn:depickle:builder:local-unauthenticated";

/// What only the caller knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProvenanceOptions {
    /// Who ran it, a URI; a local and unauthenticated builder where `None`.
    pub builder_id: Option<String>,
    /// Where the source is from, a URI.
    pub source_uri: Option<String>,
}

/// The predicate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Provenance {
    build_definition: BuildDefinition,
    run_details: RunDetails,
}

#[cfg(feature = "sign")]
impl Provenance {
    /// The digest of something that was made beside the outputs.
    pub(super) fn byproduct(&self, name: &str) -> Option<&str> {
        let found = self.run_details.byproducts.iter().find(|resource| resource.name == name);
        found?.digest.get("sha256").map(String::as_str)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition {
    build_type: String,
    external_parameters: ExternalParameters,
    resolved_dependencies: Vec<Resource>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ExternalParameters {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    options: OptionsRecord,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Resource {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    digest: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RunDetails {
    builder: Builder,
    byproducts: Vec<Resource>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Builder {
    id: String,
    version: BTreeMap<String, String>,
}

/// The bytes of the statement and of the predicate. `root` is the digest over all files that were signed.
pub(super) fn write(
    subject: &super::Subject<'_>,
    root: Option<&str>,
    options: &ProvenanceOptions,
) -> (Vec<u8>, Vec<u8>) {
    let manifest = subject.manifest;
    let outputs = manifest.outputs.iter();
    let outputs = outputs.map(|output| statement::Subject::sha256(&output.path, &output.sha256));
    let root = root.map(|root| statement::Subject::sha256(subject.folder, root));
    // Of several files of one source, each is told by its name.
    let uri = options.source_uri.clone().filter(|_| manifest.sources.len() == 1);
    let sources = manifest.sources.iter();
    let sources = sources.map(|source| resource(&source.path, uri.clone(), &source.sha256));
    let (name, digest) = subject.manifest_file;
    let provenance = Provenance {
        build_definition: BuildDefinition {
            build_type: BUILD_TYPE.to_owned(),
            external_parameters: ExternalParameters {
                source: options.source_uri.clone(),
                options: manifest.options.clone(),
            },
            resolved_dependencies: sources.collect(),
        },
        run_details: RunDetails {
            builder: Builder {
                id: options.builder_id.clone().unwrap_or_else(|| LOCAL.to_owned()),
                version: BTreeMap::from([(manifest.tool.name.clone(), manifest.tool.version.clone())]),
            },
            byproducts: vec![resource(name, None, digest)],
        },
    };
    let predicate = super::pretty(&provenance);
    let statement = Statement::new(outputs.chain(root).collect(), PREDICATE_TYPE, provenance);
    (super::pretty(&statement), predicate)
}

fn resource(name: &str, uri: Option<String>, digest: &str) -> Resource {
    let digest = BTreeMap::from([("sha256".to_owned(), digest.to_owned())]);
    Resource { name: name.to_owned(), uri, digest }
}
