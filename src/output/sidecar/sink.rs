//! Where a sidecar goes: JSON punctuation and scalars into a buffered file, with its size and digest.

use std::fs::File;
use std::io::{BufWriter, Write};

use base64ct::{Base64, Encoding as _};
use sha2::{Digest as _, Sha256};

use crate::bytes::{ReadAt, Span, index, length, read_vec};
use crate::output::ErrorKind;
use crate::tensor::Streams;
use crate::values::Data;

use super::Sidecar;

/// Bytes of a long value that are read at a time: a multiple of three, so that base64 needs no padding in between.
const BLOCK: u64 = 48 * 1024;
/// Levels down to which each item has a line of its own.
const LINES: usize = 8;

/// What is done with each block of a long value.
type Each<'e, S> = &'e mut dyn FnMut(&mut S, &[u8]) -> Result<(), ErrorKind>;

/// A JSON document on its way into a file.
pub(super) struct Sink<'a> {
    file: BufWriter<&'a File>,
    streams: &'a Streams,
    hash: Sha256,
    size: u64,
    depth: usize,
}

impl<'a> Sink<'a> {
    pub(super) fn new(file: &'a File, streams: &'a Streams) -> Self {
        let file = BufWriter::with_capacity(1 << 18, file);
        Self { file, streams, hash: Sha256::new(), size: 0, depth: 0 }
    }

    /// Size and digest of what was written.
    pub(super) fn finish(mut self) -> Result<Sidecar, ErrorKind> {
        self.raw(b"\n")?;
        self.file.flush().map_err(ErrorKind::Write)?;
        Ok(Sidecar { size: self.size, sha256: self.hash.into() })
    }

    /// Levels of arrays and objects that are open.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), ErrorKind> {
        self.hash.update(bytes);
        self.size = self.size.saturating_add(length(bytes.len()));
        self.file.write_all(bytes).map_err(ErrorKind::Write)
    }

    /// Punctuation and names of fields, which open and close levels.
    pub(super) fn put(&mut self, text: &'static str) -> Result<(), ErrorKind> {
        for byte in text.bytes() {
            match byte {
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        self.raw(text.as_bytes())
    }

    /// Begins an item of a list or an object.
    pub(super) fn item(&mut self, first: bool) -> Result<(), ErrorKind> {
        if !first {
            self.raw(b",")?;
        }
        if self.depth > LINES {
            return Ok(());
        }
        self.raw(b"\n")?;
        self.raw("  ".repeat(self.depth).as_bytes())
    }

    /// A value as serde writes it: numbers, short text.
    pub(super) fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ErrorKind> {
        let json = serde_json::to_vec(value).map_err(|error| ErrorKind::Write(error.into()))?;
        self.raw(&json)
    }

    /// A finite float. It always has a point or an exponent, by which it is told from an integer.
    pub(super) fn float(&mut self, value: f64) -> Result<(), ErrorKind> {
        self.raw(format!("{value:?}").as_bytes())
    }

    /// Bytes in base64, as a string.
    pub(super) fn base64(&mut self, data: &Data) -> Result<(), ErrorKind> {
        self.raw(b"\"")?;
        self.blocks(data, &mut |sink, block| sink.raw(Base64::encode_string(block).as_bytes()))?;
        self.raw(b"\"")
    }

    /// Whether data is UTF-8, and whether it is ASCII. Read once more than it is written, because the form depends on it.
    pub(super) fn is_text(&mut self, data: &Data) -> Result<(bool, bool), ErrorKind> {
        let (mut utf8, mut ascii, mut rest) = (true, true, Vec::new());
        self.blocks(data, &mut |_, block| {
            ascii &= block.is_ascii();
            rest.extend_from_slice(block);
            rest = match std::str::from_utf8(&rest) {
                Ok(_) => Vec::new(),
                Err(error) => {
                    utf8 &= error.error_len().is_none();
                    rest.split_off(error.valid_up_to())
                }
            };
            // What is no text is read on for nothing but its end.
            rest.truncate(4);
            Ok(())
        })?;
        Ok((utf8 && rest.is_empty(), ascii))
    }

    /// Data that is UTF-8, as a string.
    pub(super) fn text(&mut self, data: &Data) -> Result<(), ErrorKind> {
        self.raw(b"\"")?;
        let mut rest = Vec::new();
        self.blocks(data, &mut |sink, block| {
            rest.extend_from_slice(block);
            let whole = std::str::from_utf8(&rest).map_or_else(|error| error.valid_up_to(), str::len);
            let after = rest.split_off(whole);
            let quoted = serde_json::to_vec(&String::from_utf8_lossy(&rest));
            let quoted = quoted.map_err(|error| ErrorKind::Write(error.into()))?;
            rest = after;
            let inside = quoted.get(1..quoted.len().saturating_sub(1));
            sink.raw(inside.unwrap_or_default())
        })?;
        self.raw(b"\"")
    }

    fn blocks(&mut self, data: &Data, each: Each<'_, Self>) -> Result<(), ErrorKind> {
        let (stream, span) = match data {
            Data::Inline(bytes) => {
                return bytes.chunks(index(BLOCK)).try_for_each(|block| each(self, block));
            }
            Data::Stored { stream, span } => (self.streams.stream(*stream), *span),
        };
        let stream: &dyn ReadAt = stream;
        let mut at = span.start();
        while at < span.end() {
            let next = at.saturating_add(BLOCK).min(span.end());
            let block = read_vec(stream, Span::between(at, next)).map_err(ErrorKind::Source)?;
            each(self, &block)?;
            at = next;
        }
        Ok(())
    }
}
