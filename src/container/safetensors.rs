//! safetensors: the length of the header in 8 little-endian bytes, the header as JSON, then every tensor's bytes
//! without a gap. The header's rules are those of the stock library; a doubled name, of which it keeps the last, is
//! refused. <https://github.com/huggingface/safetensors#format>

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::error::{Error, ErrorKind};
use crate::bytes::{ReadAt, Span, length, read_vec};

/// The header of a safetensors file.
#[derive(Debug, Clone)]
pub struct Safetensors {
    metadata: Metadata,
    /// Names in the order of the bytes.
    names: Vec<String>,
    data: u64,
}

/// What the format allows for the header.
const LONGEST: u64 = 100_000_000;

/// Where the header begins.
const PREFIX: u64 = 8;

impl Safetensors {
    /// Reads a file that ends where its last tensor does.
    ///
    /// # Errors
    /// Those of [`Safetensors::header`]; [`ErrorKind::Length`] for a file of another length.
    pub fn open(source: &dyn ReadAt) -> Result<Self, Error> {
        let file = Self::header(source)?;
        let (got, expected) = (source.size().saturating_sub(file.data), length(file.metadata.data_len()));
        if got != expected {
            return Err(Error::new(Some("tensors"), file.data, ErrorKind::Length { got, expected }));
        }
        Ok(file)
    }

    /// Reads the header alone, whatever follows it.
    ///
    /// # Errors
    /// A header that is longer than the format or the file allows, no JSON of the right form, or tensors that overlap,
    /// leave gaps or have another size than their types and shapes.
    pub fn header(source: &dyn ReadAt) -> Result<Self, Error> {
        let fail = |offset, kind| Error::new(Some("safetensors header"), offset, kind);
        let io = |offset| move |error| Error::io(Some("safetensors header"), offset, error);
        if source.size() < PREFIX {
            return Err(fail(0, ErrorKind::Length { got: source.size(), expected: PREFIX }));
        }
        let mut prefix = [0; 8];
        source.read_exact_at(&mut prefix, 0).map_err(io(0))?;
        let got = u64::from_le_bytes(prefix);
        let most = LONGEST.min(source.size().saturating_sub(PREFIX));
        if got > most {
            return Err(fail(0, ErrorKind::HeaderLength { got, most }));
        }
        let data = PREFIX.saturating_add(got);
        let json = read_vec(source, Span::between(PREFIX, data)).map_err(io(PREFIX))?;
        let header: Header =
            serde_json::from_slice(&json).map_err(|error| fail(PREFIX, ErrorKind::Json(Arc::new(error))))?;
        drop(json);
        let Header { metadata, mut tensors } = header;
        tensors.sort_by_key(|(_, info)| info.data_offsets);
        let names: Vec<String> = tensors.iter().map(|(name, _)| name.clone()).collect();
        let metadata = Metadata::new(metadata, tensors)
            .map_err(|error| fail(PREFIX, ErrorKind::Safetensors(Arc::new(error))))?;
        Ok(Self { metadata, names, data })
    }

    /// Where the tensors' bytes begin; their offsets count from here.
    pub fn data(&self) -> u64 {
        self.data
    }

    /// `__metadata__`
    pub fn metadata(&self) -> Option<BTreeMap<String, String>> {
        let metadata = self.metadata.metadata().as_ref()?;
        Some(metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// Its tensors, in the order of their bytes.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.names.iter().filter_map(|name| Some((name.as_str(), self.metadata.info(name)?)))
    }
}

/// The JSON of a header. The stock library reads it into maps, which drop the first of two equal names.
struct Header {
    metadata: Option<HashMap<String, String>>,
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header { metadata: None, tensors: Vec::new() };
        let mut seen = std::collections::HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(de::Error::custom(format_args!("doubled name {name:?}")));
            }
            match name.as_str() {
                "__metadata__" => header.metadata = map.next_value()?,
                _ => header.tensors.push((name, map.next_value()?)),
            }
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let prefix = length(header.len()).to_le_bytes();
        [&prefix, header.as_bytes(), &vec![7; data]].concat()
    }

    fn kind(header: &str, data: usize) -> ErrorKind {
        Safetensors::open(&file(header, data)).unwrap_err().kind
    }

    const TWO: &str = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#;

    #[test]
    fn tensors_come_in_the_order_of_their_bytes() {
        let read = Safetensors::open(&file(TWO, 6)).unwrap();
        let names: Vec<&str> = read.tensors().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(read.metadata().unwrap()["format"], "pt");
        assert_eq!(read.data(), length(TWO.len()) + 8);
    }

    #[test]
    fn what_readers_could_take_in_two_ways_is_refused() {
        assert!(matches!(kind(TWO, 7), ErrorKind::Length { got: 7, expected: 6 }));
        assert!(matches!(kind(TWO, 5), ErrorKind::Length { got: 5, expected: 6 }));
        assert!(Safetensors::header(&file(TWO, 7)).is_ok());
        let tensor = r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
        assert!(matches!(kind(&format!(r#"{{"a":{tensor},"a":{tensor}}}"#), 1), ErrorKind::Json(_)));
        let other = r#"{"dtype":"U8","shape":[1],"data_offsets":[2,3]}"#;
        assert!(matches!(kind(&format!(r#"{{"a":{tensor},"b":{other}}}"#), 3), ErrorKind::Safetensors(_)));
        assert!(matches!(kind("[]", 0), ErrorKind::Json(_)));
        let short = [&[200, 0, 0, 0, 0, 0, 0, 0][..], b"{}"].concat();
        let error = Safetensors::open(&short).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::HeaderLength { got: 200, most: 2 }));
    }
}
