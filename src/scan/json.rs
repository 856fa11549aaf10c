//! JSON that carries pickles: what Stable-Baselines3 saves beside its weights.
//!
//! `stable_baselines3/common/save_util.py`, `data_to_json` and `json_to_data`: an attribute that JSON cannot hold is an object with the
//! key `:serialized:`, base64 of what cloudpickle made of it, and is loaded with the model.

use std::io;

use serde_json::Value;

use crate::bytes::{Span, read_vec};

use super::Scanner;
use super::blob::Blob;

/// The key of a pickle.
const SERIALIZED: &str = ":serialized:";
/// Longer text is data of another kind.
const LONGEST: u64 = 64 << 20;

impl Scanner<'_> {
    /// Looks for pickles in text that is JSON.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn json(&mut self, blob: &Blob<'_>) -> io::Result<()> {
        let whole = Span::between(0, blob.source.size());
        let first = read_vec(&**blob.source, Span::between(0, whole.end().min(1)))?;
        if first != b"{" || whole.len() > LONGEST {
            return Ok(());
        }
        let text = read_vec(&**blob.source, whole)?;
        let mut values: Vec<Value> = serde_json::from_slice(&text).into_iter().collect();
        while let Some(value) = values.pop() {
            match value {
                Value::Object(items) => {
                    if let Some(Value::String(text)) = items.get(SERIALIZED) {
                        self.loaded_text(text.as_bytes(), &blob.spot)?;
                    }
                    values.extend(items.into_iter().map(|(_, value)| value));
                }
                Value::Array(items) => values.extend(items),
                _ => {}
            }
        }
        Ok(())
    }
}
