//! A bill of materials: the model, the files that it is in, and the checkpoint that it came from. `CycloneDX` 1.6.
//! <https://cyclonedx.org/docs/1.6/json/>

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::bytes::hex;

use super::Subject;

/// The name of the file.
pub const BOM: &str = "bom.cdx.json";

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Bom<'a> {
    #[serde(rename = "bomFormat")]
    format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata<'a>,
}

#[derive(Debug, Serialize)]
struct Metadata<'a> {
    tools: Tools<'a>,
    component: Component<'a>,
}

#[derive(Debug, Serialize)]
struct Tools<'a> {
    components: Vec<Component<'a>>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Component<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bom_ref: Option<&'static str>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pedigree: Option<Pedigree<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<Component<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property<'a>>,
}

#[derive(Debug, Serialize)]
struct Hash<'a> {
    alg: &'static str,
    content: &'a str,
}

#[derive(Debug, Serialize)]
struct Pedigree<'a> {
    ancestors: Vec<Component<'a>>,
}

#[derive(Debug, Serialize)]
struct Property<'a> {
    name: &'static str,
    value: &'a str,
}

/// The bytes of the document.
pub(super) fn write(subject: &Subject<'_>) -> Vec<u8> {
    let manifest = subject.manifest;
    let tool = Component {
        r#type: "application",
        name: &manifest.tool.name,
        version: Some(&manifest.tool.version),
        ..Component::default()
    };
    let sources = manifest.sources.iter().map(|source| file(&source.path, &source.sha256));
    let component = Component {
        r#type: "machine-learning-model",
        bom_ref: Some("model"),
        name: subject.folder,
        pedigree: Some(Pedigree { ancestors: sources.collect() }),
        components: subject.files().map(|(name, digest)| file(name, digest)).collect(),
        properties: vec![
            Property { name: "depickle:tensor_set", value: &manifest.digests.tensor_set },
            Property { name: "depickle:claim", value: &manifest.claim },
        ],
        ..Component::default()
    };
    super::pretty(&Bom {
        format: "CycloneDX",
        spec_version: "1.6",
        serial_number: serial_number(subject.manifest_file.1),
        version: 1,
        metadata: Metadata { tools: Tools { components: vec![tool] }, component },
    })
}

fn file<'a>(name: &'a str, digest: &'a str) -> Component<'a> {
    let hashes = vec![Hash { alg: "SHA-256", content: digest }];
    Component { r#type: "file", name, hashes, ..Component::default() }
}

/// A UUID of version 8 (RFC 9562: bits of one's own) from the digest of the manifest, so that one conversion has one
/// number.
fn serial_number(manifest: &str) -> String {
    let mut digits: Vec<char> = hex(&Sha256::digest(manifest)).chars().take(32).collect();
    for (at, digit) in [(12, '8'), (16, '8')] {
        if let Some(place) = digits.get_mut(at) {
            *place = digit;
        }
    }
    let group = |from: usize, to: usize| digits.get(from..to).unwrap_or_default().iter().collect::<String>();
    let groups = [group(0, 8), group(8, 12), group(12, 16), group(16, 20), group(20, 32)];
    format!("urn:uuid:{}", groups.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_conversion_has_one_number() {
        let number = serial_number("0".repeat(64).as_str());
        assert_eq!(number, serial_number("0".repeat(64).as_str()));
        assert_ne!(number, serial_number("1".repeat(64).as_str()));
        assert_eq!(number.len(), "urn:uuid:".len() + 36);
        assert_eq!((&number[23..24], &number[28..29]), ("8", "8"));
    }
}
