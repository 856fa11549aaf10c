//! The index of shards: `{"metadata": {"total_size": n}, "weight_map": {name: file}}`.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::Read as _;
use std::path::Path;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Error;

/// Bytes of an index. That of a model of 200,000 tensors has some 20 MB.
const MOST: u64 = 200_000_000;

/// Which tensor is in which shard.
#[derive(Debug)]
pub struct Index {
    /// Its path from the repository.
    pub path: String,
    map: BTreeMap<String, String>,
    /// Text of its metadata: names that are recorded instead of written, each with the one that is.
    dropped: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Form {
    #[serde(default)]
    metadata: serde_json::Value,
    weight_map: WeightMap,
}

struct WeightMap(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names to files")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<WeightMap, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((name, file)) = entries.next_entry::<String, String>()? {
                    // Readers disagree about which of two counts.
                    if map.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("{name:?} stands there twice")));
                    }
                    map.insert(name, file);
                }
                Ok(WeightMap(map))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

impl Index {
    /// Reads an index, by its path from the repository, and checks that it names files of its own folder.
    ///
    /// # Errors
    /// Those of reading it; what is no index.
    pub fn read(root: &Path, path: &str) -> Result<Self, Error> {
        let file = std::fs::File::open(root.join(path))?;
        let size = file.metadata()?.len();
        if size > MOST {
            return Err(Error::IndexTooLarge { path: path.to_owned(), size, allowed: MOST });
        }
        let mut text = Vec::new();
        file.take(MOST).read_to_end(&mut text)?;
        let form: Form =
            serde_json::from_slice(&text).map_err(|error| Error::Index { path: path.to_owned(), error })?;
        let WeightMap(map) = form.weight_map;
        let fields = form.metadata.as_object().into_iter().flatten();
        let dropped = fields.filter_map(|(name, of)| Some((name.clone(), of.as_str()?.to_owned()))).collect();
        let leads_out = |file: &&String| {
            file.is_empty() || file.contains(['/', '\\', ':', '\0']) || matches!(file.as_str(), "." | "..")
        };
        match map.values().find(leads_out) {
            Some(file) => Err(Error::Outside { path: path.to_owned(), file: file.clone() }),
            None => Ok(Self { path: path.to_owned(), map, dropped }),
        }
    }

    /// The files that it names, as often as it does.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.map.values().map(String::as_str)
    }

    /// Names that are recorded instead of written, each with the one that is, as far as that is a tensor.
    pub fn dropped(&self) -> impl Iterator<Item = (&str, &str)> {
        self.dropped.iter().map(|(name, of)| (name.as_str(), of.as_str()))
    }

    /// Each tensor with its file.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.map.iter().map(|(name, file)| (name.as_str(), file.as_str()))
    }
}

/// The index as `huggingface_hub.save_torch_state_dict` writes it, byte for byte: Python's `json.dump(index, f, indent=2)`.
///
/// `dropped` are names that are recorded instead of written, with the one that is; `tensors` each name with its file, in
/// the order of the files.
pub fn index_file<'a>(
    total_size: u64,
    dropped: &BTreeMap<String, String>,
    tensors: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Vec<u8> {
    let index = Written { metadata: Metadata { total_size, dropped }, weight_map: Map(tensors) };
    let text = serde_json::to_string_pretty(&index).unwrap_or_default();
    escaped(&text).into_bytes()
}

#[derive(Serialize)]
struct Written<'a, M: Serialize> {
    metadata: Metadata<'a>,
    weight_map: M,
}

#[derive(Serialize)]
struct Metadata<'a> {
    total_size: u64,
    #[serde(flatten)]
    dropped: &'a BTreeMap<String, String>,
}

struct Map<I>(I);

impl<'a, I: Iterator<Item = (&'a str, &'a str)> + Clone> Serialize for Map<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, file) in self.0.clone() {
            map.serialize_entry(name, file)?;
        }
        map.end()
    }
}

/// JSON in ASCII, as Python writes it: only strings have other characters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '\n' || (' '..='~').contains(&character) {
            out.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_what_python_dumps() {
        let dropped = BTreeMap::from([("lm_head".to_owned(), "wte".to_owned())]);
        let tensors =
            [("wte", "m-00001-of-00002.safetensors"), ("é\u{7f}🔥\"", "m-00002-of-00002.safetensors")];
        let text = String::from_utf8(index_file(24, &dropped, tensors.into_iter())).unwrap();
        let expected = r#"{
  "metadata": {
    "total_size": 24,
    "lm_head": "wte"
  },
  "weight_map": {
    "wte": "m-00001-of-00002.safetensors",
    "\u00e9\u007f\ud83d\udd25\"": "m-00002-of-00002.safetensors"
  }
}"#;
        assert_eq!(text, expected);
    }
}
