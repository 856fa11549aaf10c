//! The envelope of a statement: its bytes, their type, and a signature over both.
//! <https://github.com/secure-systems-lab/dsse/blob/master/protocol.md>

use std::fmt::Write as _;

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::custody::strict;

use super::error::Fault;
use super::keys::{KeyError, PrivateKey, PublicKey};

/// `payloadType` of a statement.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// A signed statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Envelope {
    /// The statement, in base64.
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    /// In DER, in base64.
    sig: String,
    /// A hint; nothing rests on it. Absent and null are as good as empty.
    #[serde(default)]
    keyid: Option<String>,
}

impl Envelope {
    /// Signs the bytes of a statement.
    pub(super) fn sign(statement: &[u8], key: &PrivateKey, keyid: &str) -> Result<Self, KeyError> {
        let sig = Base64::encode_string(&key.sign(&encode(PAYLOAD_TYPE, statement))?);
        Ok(Self {
            payload: Base64::encode_string(statement),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: vec![Signature { sig, keyid: Some(keyid.to_owned()) }],
        })
    }

    /// The statement, if `key` signed it.
    pub(super) fn open(&self, key: &PublicKey) -> Result<Vec<u8>, Fault> {
        let (payload, signature) = self.parts()?;
        if !key.verifies(&encode(PAYLOAD_TYPE, &payload), &signature) {
            return Err(Fault::Signature);
        }
        Ok(payload)
    }

    /// The statement, if it was signed as version 0.2 of the reference implementation did: over Python's representation
    /// of the bytes instead of the bytes, and always with SHA-256.
    pub(super) fn open_legacy(&self, key: &PublicKey) -> Result<Vec<u8>, Fault> {
        let (payload, signature) = self.parts()?;
        let message =
            format!("DSSEV1 {} {PAYLOAD_TYPE} {} {}", PAYLOAD_TYPE.len(), payload.len(), python(&payload));
        if !key.verifies_digest(&Sha256::digest(message), &signature) {
            return Err(Fault::Signature);
        }
        Ok(payload)
    }

    /// The statement and its signature.
    fn parts(&self) -> Result<(Vec<u8>, Vec<u8>), Fault> {
        let [signature] = self.signatures.as_slice() else {
            return Err(Fault::Signatures(self.signatures.len()));
        };
        if self.payload_type != PAYLOAD_TYPE {
            return Err(Fault::PayloadType(self.payload_type.clone()));
        }
        let decode = |text, field| Base64::decode_vec(text).map_err(|_| Fault::Base64(field));
        Ok((decode(&self.payload, "payload")?, decode(&signature.sig, "sig")?))
    }
}

/// Signs the bytes of a statement, and gives the bytes of a file with the envelope.
///
/// # Errors
/// Those of the key.
pub fn sign_statement(statement: &[u8], key: &PrivateKey) -> Result<Vec<u8>, KeyError> {
    let envelope = Envelope::sign(statement, key, &key.public().hint()?)?;
    let mut bytes = serde_json::to_vec(&envelope).unwrap_or_default();
    bytes.push(b'\n');
    Ok(bytes)
}

/// The statement in the bytes of a file with an envelope, if `key` signed it.
///
/// # Errors
/// What is wrong with it.
pub fn verify_envelope(envelope: &[u8], key: &PublicKey) -> Result<Vec<u8>, Fault> {
    let envelope: Envelope =
        strict::from_slice(envelope).map_err(|error| Fault::Json { part: "envelope", error })?;
    envelope.open(key)
}

/// What is signed: the type and the payload, each after its length.
fn encode(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

/// Bytes as Python represents them: `b'…'`.
fn python(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    let mut text = format!("b{quote}");
    for byte in bytes {
        match (*byte, char::from(*byte)) {
            (b'\\', _) => text.push_str("\\\\"),
            (b'\n', _) => text.push_str("\\n"),
            (b'\r', _) => text.push_str("\\r"),
            (b'\t', _) => text.push_str("\\t"),
            (_, c) if c == quote => text.extend(['\\', c]),
            (b' '..=b'~', c) => text.push(c),
            (byte, _) => _ = write!(text, "\\x{byte:02x}"),
        }
    }
    text.push(quote);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_that_of_the_protocol() {
        // The example of the protocol's page.
        assert_eq!(
            encode("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn bytes_are_represented_as_python_does() {
        assert_eq!(python(b"{\"a\": '\\\n\r\t\x00\xff~'}"), r#"b'{"a": \'\\\n\r\t\x00\xff~\'}'"#);
        assert_eq!(python(b"it's"), "b\"it's\"");
        assert_eq!(python(b"plain"), "b'plain'");
    }

    #[test]
    fn key_ids_may_be_missing_and_other_fields_may_not_be_there() {
        let read = |signature: &str| {
            let text = format!(r#"{{"payload":"","payloadType":"x","signatures":[{signature}]}}"#);
            serde_json::from_str::<Envelope>(&text).is_ok()
        };
        for good in [r#"{"sig":""}"#, r#"{"sig":"","keyid":null}"#, r#"{"sig":"","keyid":""}"#] {
            assert!(read(good), "{good}");
        }
        assert!(!read(r#"{"sig":"","cert":""}"#));
        let no = |text: &str| serde_json::from_str::<Envelope>(text).unwrap().parts().unwrap_err();
        assert!(matches!(no(r#"{"payload":"","payloadType":"x","signatures":[]}"#), Fault::Signatures(0)));
        assert!(matches!(
            no(r#"{"payload":"","payloadType":"x","signatures":[{"sig":""}]}"#),
            Fault::PayloadType(_)
        ));
        assert!(matches!(
            no(&format!(r#"{{"payload":"=","payloadType":"{PAYLOAD_TYPE}","signatures":[{{"sig":""}}]}}"#)),
            Fault::Base64("payload")
        ));
    }
}
