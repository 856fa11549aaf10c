//! Compressed sources: expanded once, into a temporary file without a name, within bounds that are checked as the bytes
//! arrive.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;

use crate::bytes::{FileSource, Part, ReadAt, Span, index, length};
use crate::container::Member;
use crate::limits::{LimitKind, Limits, check};

use super::{Error, OpenOptions, Source};

/// Memory that a decoder of xz or lzma may take for its dictionary; the highest level of `xz` asks for 64 MiB.
const DICTIONARY_KIB: u32 = 256 << 10;
/// Window that a zstd frame may ask for; `zstd --ultra --long=27` asks for 128 MiB.
const ZSTD_WINDOW: u64 = 256 << 20;
/// Bytes moved at a time.
const BLOCK: usize = 256 << 10;

/// Expands a source of this packing. Also how many of its bytes follow the end of the compressed data.
///
/// # Errors
/// Damage, a packing that is not supported, a limit; those of writing the temporary file.
pub(super) fn expand(
    source: &Source,
    packing: &'static str,
    options: &OpenOptions,
) -> Result<(Source, u64), Error> {
    let (inside, trailing, end) = expand_some(source, packing, options)?;
    end.map(|()| (inside, trailing))
}

/// As [`expand`]; also what there is before the damage or the limit that it ends with.
///
/// # Errors
/// Those of the temporary file.
pub(crate) fn expand_some(
    source: &Source,
    packing: &'static str,
    options: &OpenOptions,
) -> Result<(Source, u64, Result<(), Error>), Error> {
    let mut expanded = Expanded::new(options)?;
    let (_, trailing, end) = expanded.add_some(source, packing, &options.limits)?;
    Ok((Arc::new(expanded.source()?), trailing, end))
}

/// A temporary file without a name, for what any number of sources expand to.
pub(super) struct Expanded {
    file: File,
    len: u64,
}

impl Expanded {
    /// An empty one, in the folder that the options name.
    ///
    /// # Errors
    /// Those of making it.
    pub(super) fn new(options: &OpenOptions) -> Result<Self, Error> {
        let file = match &options.spool {
            Some(folder) => tempfile::tempfile_in(folder),
            None => tempfile::tempfile(),
        };
        Ok(Self { file: file?, len: 0 })
    }

    /// Expands a source behind what there is: where it lies then, and how many bytes follow the compressed data.
    ///
    /// # Errors
    /// As [`expand`].
    pub(super) fn add(
        &mut self,
        source: &Source,
        packing: &'static str,
        limits: &Limits,
    ) -> Result<(Span, u64), Error> {
        let (span, trailing, end) = self.add_some(source, packing, limits)?;
        end.map(|()| (span, trailing))
    }

    fn add_some(
        &mut self,
        source: &Source,
        packing: &'static str,
        limits: &Limits,
    ) -> Result<(Span, u64, Result<(), Error>), Error> {
        let mut spool = Spool {
            file: self.file.try_clone()?,
            packing,
            written: 0,
            allowed: allowed(source.size(), limits).min(limits.expanded.saturating_sub(self.len)),
            block: vec![0; BLOCK],
        };
        let mut input = Input::new(&**source);
        let end = decode(&mut spool, &mut input);
        let span = Span::between(self.len, self.len.saturating_add(spool.written));
        self.len = span.end();
        Ok((span, source.size().saturating_sub(input.position), end))
    }

    /// What there is so far.
    ///
    /// # Errors
    /// Those of asking for its size.
    pub(super) fn source(&self) -> Result<FileSource, Error> {
        Ok(FileSource::from_file(self.file.try_clone()?)?)
    }
}

/// Inflates a deflated member of an archive, whose length and checksum are stated.
///
/// # Errors
/// As [`expand`].
pub(super) fn inflate(source: &Source, member: &Member, options: &OpenOptions) -> Result<Source, Error> {
    let packing = "zip";
    let damaged = |reason: &str| Error::Packed { packing, reason: reason.to_owned() };
    let stored =
        Part::new(source.clone(), member.data).ok_or_else(|| damaged("a member outside its archive"))?;
    let stored: Source = Arc::new(stored);
    let (inside, trailing) = expand(&stored, "deflate", options)?;
    if inside.size() != member.size || trailing > 0 {
        return Err(damaged("a member of another length than it states"));
    }
    let mut hasher = crc32fast::Hasher::new();
    let mut input = Input::new(&*inside);
    loop {
        let block = input.fill_buf()?;
        hasher.update(block);
        match block.len() {
            0 => break,
            n => input.consume(n),
        }
    }
    if hasher.finalize() == member.crc32 {
        Ok(inside)
    } else {
        Err(damaged("a member of another checksum than it states"))
    }
}

/// The most that a compressed file of a size may expand to.
fn allowed(stored: u64, limits: &Limits) -> u64 {
    stored.saturating_mul(limits.inflate_ratio).max(limits.expanded_free).min(limits.expanded)
}

fn decode(spool: &mut Spool, input: &mut Input<'_>) -> Result<(), Error> {
    let packing = spool.packing;
    let damaged = |reason: String| Error::Packed { packing, reason };
    match packing {
        "gzip" => spool.copy(&mut flate2::bufread::MultiGzDecoder::new(input)),
        "zlib" => spool.copy(&mut flate2::bufread::ZlibDecoder::new(input)),
        "deflate" => spool.copy(&mut flate2::bufread::DeflateDecoder::new(input)),
        "bzip2" => spool.copy(&mut bzip2::bufread::MultiBzDecoder::new(input)),
        "xz" => spool.copy(&mut lzma_rust2::XzReader::new_mem_limit(input, true, DICTIONARY_KIB)),
        "lzma" => {
            let decoder = lzma_rust2::LzmaReader::new_mem_limit(input, DICTIONARY_KIB, None);
            spool.copy(&mut decoder.map_err(|e| damaged(e.to_string()))?)
        }
        "lz4" => frames(spool, input, b"\x04\x22\x4d\x18", |spool, input| {
            spool.copy(&mut lz4_flex::frame::FrameDecoder::new(input))
        }),
        "zstd" => frames(spool, input, b"\x28\xb5\x2f\xfd", |spool, input| {
            let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(input, ZSTD_WINDOW);
            spool.copy(&mut decoder.map_err(|e| damaged(e.to_string()))?)
        }),
        "zfile" => zfile(spool, input),
        _ => Err(Error::Unsupported(packing)),
    }
}

/// One frame after the other, for decoders that stop behind the first.
fn frames(
    spool: &mut Spool,
    input: &mut Input<'_>,
    magic: &[u8],
    frame: impl Fn(&mut Spool, &mut Input<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    loop {
        let before = input.position;
        frame(spool, input)?;
        if input.position == before || !input.peek(magic.len())?.starts_with(magic) {
            return Ok(());
        }
    }
}

/// joblib's own format: `ZF`, the expanded length in hexadecimal in a field of 19 characters, a zlib stream.
fn zfile(spool: &mut Spool, input: &mut Input<'_>) -> Result<(), Error> {
    /// The prefix, and the longest number of 64 bits in Python's notation.
    const HEADER: usize = 21;
    let damaged = |reason: &str| Error::Packed { packing: "zfile", reason: reason.to_owned() };
    let mut header = [0; HEADER];
    input.read_exact(&mut header).map_err(|_| damaged("ends in its header"))?;
    let text = header.get(2..).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
    let digits = text.trim_end_matches(' ').trim_end_matches('L').strip_prefix("0x").unwrap_or_default();
    let stated = u64::from_str_radix(digits, 16).map_err(|_| damaged("states no length"))?;
    check(LimitKind::Expanded, spool.allowed, stated)?;
    // Written by Python 2 and joblib before 0.8.4, the field is one character wider.
    if input.peek(1)? == b" " {
        input.consume(1);
    }
    spool.copy(&mut flate2::bufread::ZlibDecoder::new(input))?;
    let wrong = spool.written != stated;
    if wrong { Err(damaged("expands to another length than it states")) } else { Ok(()) }
}

/// The temporary file and what may still go into it.
struct Spool {
    file: File,
    packing: &'static str,
    written: u64,
    allowed: u64,
    block: Vec<u8>,
}

impl Spool {
    fn copy(&mut self, decoder: &mut dyn Read) -> Result<(), Error> {
        loop {
            let read = match decoder.read(&mut self.block) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Error::Packed { packing: self.packing, reason: error.to_string() });
                }
            };
            self.written = self.written.saturating_add(length(read));
            check(LimitKind::Expanded, self.allowed, self.written)?;
            self.file.write_all(self.block.get(..read).unwrap_or_default())?;
        }
    }
}

/// The compressed bytes, read in order. Decoders take exactly what they need, so that what follows can be told.
struct Input<'a> {
    source: &'a dyn ReadAt,
    position: u64,
    window: Vec<u8>,
    at: usize,
}

impl<'a> Input<'a> {
    fn new(source: &'a dyn ReadAt) -> Self {
        Self { source, position: 0, window: Vec::new(), at: 0 }
    }

    /// The next bytes, fewer at the end.
    fn peek(&mut self, n: usize) -> io::Result<Vec<u8>> {
        let left = self.source.size().saturating_sub(self.position).min(length(n));
        let span = crate::bytes::Span::between(self.position, self.position.saturating_add(left));
        crate::bytes::read_vec(self.source, span)
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let n = ready.len().min(buf.len());
        buf.iter_mut().zip(ready).for_each(|(to, from)| *to = *from);
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Input<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.window.len() {
            let left = self.source.size().saturating_sub(self.position).min(length(BLOCK));
            self.window.resize(index(left), 0);
            self.at = 0;
            self.source.read_exact_at(&mut self.window, self.position)?;
        }
        Ok(self.window.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.at = self.at.saturating_add(n);
        self.position = self.position.saturating_add(length(n));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(bytes: &[u8], packing: &'static str, limits: Limits) -> Result<(Vec<u8>, u64), Error> {
        let source: Source = Arc::new(bytes.to_vec());
        let (file, trailing) = expand(&source, packing, &OpenOptions { limits, ..OpenOptions::default() })?;
        let all = crate::bytes::read_vec(&*file, crate::bytes::Span::between(0, file.size()))?;
        Ok((all, trailing))
    }

    fn deflated(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_follows_the_compressed_data_is_told() {
        let mut file = deflated(b"weights");
        file.extend(b"tail");
        assert_eq!(expanded(&file, "zlib", Limits::default()).unwrap(), (b"weights".to_vec(), 4));
    }

    #[test]
    fn a_bomb_is_stopped_while_it_expands() {
        let limits = Limits { expanded_free: 1000, inflate_ratio: 10, ..Limits::default() };
        let error = expanded(&deflated(&vec![0; 100_000]), "zlib", limits).unwrap_err();
        assert!(matches!(error, Error::Limit(_)), "{error}");
    }

    #[test]
    fn a_zfile_must_be_as_long_as_it_states() {
        let file = |stated: &str| {
            let mut file = format!("ZF{stated:<19}").into_bytes();
            file.extend(deflated(b"weights"));
            expanded(&file, "zfile", Limits::default())
        };
        assert_eq!(file("0x7").unwrap().0, b"weights");
        assert_eq!(file("0x7L").unwrap().0, b"weights");
        assert!(matches!(file("0x8"), Err(Error::Packed { .. })));
        assert!(matches!(file("0xffffffffffffffff"), Err(Error::Limit(_))));
    }

    #[test]
    fn damage_is_an_error() {
        let mut file = deflated(&[7; 5000]);
        file.truncate(12);
        assert!(matches!(expanded(&file, "zlib", Limits::default()), Err(Error::Packed { .. })));
        for packing in ["gzip", "bzip2", "xz", "lzma", "lz4", "zstd"] {
            assert!(expanded(b"no such thing at all", packing, Limits::default()).is_err(), "{packing}");
        }
    }
}
