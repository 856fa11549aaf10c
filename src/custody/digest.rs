//! Digests of files, and of a set of tensors, independent of layout and sharding.

use std::collections::BTreeSet;
use std::io;

use sha2::{Digest, Sha256};

use crate::bytes::{FileSource, ReadAt, Span, hex};

/// SHA-256 over one line a tensor, sorted by name: the compact JSON array `["name","F32",[2,3],"digest"]` and a
/// newline. Aliases count under their own names. Where several models have tensors of one name, equal ones count once.
#[derive(Debug, Default)]
pub struct TensorSet<'a>(BTreeSet<(&'a str, &'a str, &'a [u64], &'a str)>);

impl<'a> TensorSet<'a> {
    /// Adds a tensor: its name, the name of its element type, its shape, and its digest in hexadecimal.
    pub fn add(&mut self, name: &'a str, dtype: &'a str, shape: &'a [u64], sha256: &'a str) {
        self.0.insert((name, dtype, shape, sha256));
    }

    /// The digest as the manifest has it, `sha256:…`.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for (name, dtype, shape, sha256) in &self.0 {
            // serde_json escapes as RFC 8785 does: control characters, quotes and backslashes, nothing else.
            let line = serde_json::to_vec(&(name, dtype, shape, sha256)).unwrap_or_default();
            hasher.update(line);
            hasher.update(b"\n");
        }
        format!("sha256:{}", hex(&hasher.finalize()))
    }
}

/// SHA-256 of a part of a file, in hexadecimal.
pub(super) fn digest_of(file: &FileSource, span: Span) -> io::Result<String> {
    /// Bytes read at a time.
    const BLOCK: u64 = 1 << 20;
    let mut hasher = Sha256::new();
    let mut buf = Vec::new();
    let mut at = span.start();
    while at < span.end() {
        let next = at.saturating_add(BLOCK).min(span.end());
        buf.resize(crate::bytes::index(next.saturating_sub(at)), 0);
        file.read_exact_at(&mut buf, at)?;
        hasher.update(&buf);
        at = next;
    }
    Ok(hex(&hasher.finalize()))
}

/// Passes bytes on and hashes them.
#[derive(Debug)]
pub(crate) struct Hashing<W> {
    to: W,
    hasher: Sha256,
}

impl<W: io::Write> Hashing<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, hasher: Sha256::new() }
    }

    /// SHA-256 of what was written, in hexadecimal.
    pub(crate) fn digest(self) -> String {
        hex(&self.hasher.finalize())
    }
}

impl<W: io::Write> io::Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.hasher.update(bytes.get(..n).unwrap_or_default());
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_text_is_kept() {
        let mut one = TensorSet::default();
        one.add("b", "F32", &[2, 3], "aa");
        one.add("é\n", "I64", &[], "bb");
        let mut two = TensorSet::default();
        two.add("é\n", "I64", &[], "bb");
        two.add("b", "F32", &[2, 3], "aa");
        assert_eq!(one.digest(), two.digest());
        let text = "[\"b\",\"F32\",[2,3],\"aa\"]\n[\"é\\n\",\"I64\",[],\"bb\"]\n";
        assert_eq!(one.digest(), format!("sha256:{}", hex(&Sha256::digest(text))));
    }
}
