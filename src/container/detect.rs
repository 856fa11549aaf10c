//! Which container a source is, by content and never by name.

use std::io;

use crate::bytes::{ReadAt, Span, read_vec};

/// What a source is, as far as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// A zip archive: torch since 1.6, and others.
    Zip,
    /// Consecutive pickles that begin with torch's magic number: torch 0.1.10 to 1.5.
    TorchLegacy,
    /// Something that begins as a pickle does.
    Pickle,
    /// A tar archive: torch before 0.1.10, and others.
    Tar,
    /// A numpy array.
    Npy,
    /// A safetensors file.
    Safetensors,
    /// A compressed stream or an archive, by its name.
    Packed(&'static str),
    /// A model format that holds no pickle, by its name.
    Foreign(&'static str),
    /// Nothing of the above.
    Unknown,
}

/// Magic bytes at fixed positions.
const MAGIC: &[(u64, &[u8], Format)] = &[
    (0, b"PK\x03\x04", Format::Zip),
    (0, b"PK\x05\x06", Format::Zip),
    (0, b"\x93NUMPY", Format::Npy),
    (257, b"ustar", Format::Tar),
    (0, b"\x1f\x8b", Format::Packed("gzip")),
    (0, b"BZh", Format::Packed("bzip2")),
    (0, b"\xfd7zXZ\0", Format::Packed("xz")),
    (0, b"\x5d\0\0", Format::Packed("lzma")),
    (0, b"\x04\x22\x4d\x18", Format::Packed("lz4")),
    (0, b"\x28\xb5\x2f\xfd", Format::Packed("zstd")),
    (0, b"7z\xbc\xaf\x27\x1c", Format::Packed("7z")),
    (0, b"Rar!\x1a\x07", Format::Packed("rar")),
    (0, b"ZF0x", Format::Packed("zfile")),
    (0, b"PYTORCH1", Format::Foreign("a preview format of PyTorch 1.0")),
    (0, b"GGUF", Format::Foreign("GGUF")),
    (0, b"\x89HDF\r\n\x1a\n", Format::Foreign("HDF5")),
    (0, b"{\"base_code\":{\"magic\":\"pir\"", Format::Foreign("a program of PaddlePaddle (.json)")),
    // Its first byte is an opcode, but no picture is a pickle.
    (0, b"\x89PNG", Format::Unknown),
];

/// Second bytes of a zlib stream for the windows and levels that writers use.
const ZLIB_SECOND: &[u8] = &[0x01, 0x5e, 0x9c, 0xda];

/// The outermost block of a program of `PaddlePaddle`, in protobuf: its number is 0, that of its parent -1.
const PADDLE_BLOCK: &[u8] = b"\x08\0\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";

/// The magic number of the legacy stream as every protocol of torch's writers pickles it.
const LEGACY: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// Looks at the first bytes.
///
/// # Errors
/// Those of reading them.
pub fn detect(source: &dyn ReadAt) -> io::Result<Format> {
    /// Holds a tar header.
    const HEAD: u64 = 512;
    let head = read_vec(source, Span::between(0, source.size().min(HEAD)))?;
    let at = |offset: u64, magic: &[u8]| {
        head.get(crate::bytes::index(offset)..).is_some_and(|rest| rest.starts_with(magic))
    };
    // First: the length of its header may read as another format's magic, `80 02` of a pickle among them. What stands
    // in the next six bytes here cannot follow there.
    if is_safetensors(&head, source.size()) {
        return Ok(Format::Safetensors);
    }
    if let Some((_, _, format)) = MAGIC.iter().find(|(offset, magic, _)| at(*offset, magic)) {
        return Ok(*format);
    }
    if is_legacy(&head) {
        return Ok(Format::TorchLegacy);
    }
    if is_tar(&head) {
        return Ok(Format::Tar);
    }
    Ok(match head.as_slice() {
        [0x80, 0..=5, ..] => Format::Pickle,
        // Of the first variable: its version, levels and tensor version, all zero, the length of its description, and that.
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, _, 0, 0, 0, 0x08, ..] => {
            Format::Foreign("PaddlePaddle's .pdiparams")
        }
        [0x0a, rest @ ..] if rest.windows(PADDLE_BLOCK.len()).take(8).any(|at| at == PADDLE_BLOCK) => {
            Format::Foreign("a program of PaddlePaddle (.pdmodel)")
        }
        [0x78, second, ..] if ZLIB_SECOND.contains(second) => Format::Packed("zlib"),
        // Protocols 0 and 1 have no magic: what may begin a pickle is tried as one.
        [first, ..] if may_begin_pickle(*first) => Format::Pickle,
        _ => Format::Unknown,
    })
}

/// Torch writes protocol 2; protocols 0 and 1 spell the number differently, 4 and 5 put a frame before it.
fn is_legacy(head: &[u8]) -> bool {
    /// The number in decimal, as protocols 0 and 1 write it.
    const TEXT: &[u8] = b"L119547037146038801333356L\n.";
    match head {
        [0x80, 2 | 3, rest @ ..] | [0x80, 4 | 5, 0x95, _, _, _, _, _, _, _, _, rest @ ..] => {
            rest.starts_with(LEGACY)
        }
        _ => head.starts_with(TEXT),
    }
}

/// The checksum of a header of the first tar format, which has no magic.
fn is_tar(head: &[u8]) -> bool {
    /// Where the checksum stands; it counts as spaces in its own sum.
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    if head.len() < 512 || head.first() == Some(&0) {
        return false;
    }
    let field = head.get(CHECKSUM).unwrap_or_default();
    let digits = std::str::from_utf8(field).unwrap_or("").trim_matches(['\0', ' ']);
    let stated = u64::from_str_radix(digits, 8);
    let sum: u64 =
        head.iter().enumerate().map(|(i, b)| if CHECKSUM.contains(&i) { 32 } else { u64::from(*b) }).sum();
    stated == Ok(sum)
}

fn is_safetensors(head: &[u8], size: u64) -> bool {
    let header = head.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    head.get(8) == Some(&b'{')
        && (2..=100_000_000).contains(&header)
        && header.checked_add(8).is_some_and(|end| end <= size)
}

/// Opcodes of protocols 0 and 1 that can come first, but for those that begin ordinary text more often.
fn may_begin_pickle(byte: u8) -> bool {
    matches!(
        byte,
        b'(' | b']'
            | b'}'
            | b')'
            | b'c'
            | b'I'
            | b'L'
            | b'S'
            | b'U'
            | b'T'
            | b'V'
            | b'X'
            | b'N'
            | b'F'
            | b'G'
            | b'J'
            | b'K'
            | b'M'
            | b'B'
            | b'C'
            | b'P'
            | 0x88..=0x8f | 0x95
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The heads of files that `paddle.jit.save` wrote (3.3.1).
    const PDIPARAMS: [u8; 26] =
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0x08, 0x05, 0x10, 0x03, 0, 0];
    const PDMODEL: &[u8] =
        b"\x0a\xe2\x22\x08\0\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x1a\x1e\x0a\x05input";

    #[test]
    fn formats_are_recognised_by_content() {
        let formats: &[(&[u8], Format)] = &[
            (b"PK\x03\x04rest", Format::Zip),
            (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", Format::TorchLegacy),
            (
                b"\x80\x04\x95\x0d\0\0\0\0\0\0\0\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
                Format::TorchLegacy,
            ),
            (b"\x80\x02}q\0.", Format::Pickle),
            (b"\x80\x07", Format::Unknown),
            (b"\x78\x9cabc", Format::Packed("zlib")),
            (b"\x02\0\0\0\0\0\0\0{}", Format::Safetensors),
            (&PDIPARAMS, Format::Foreign("PaddlePaddle's .pdiparams")),
            (&[0; 64], Format::Unknown),
            (PDMODEL, Format::Foreign("a program of PaddlePaddle (.pdmodel)")),
            (b"\x80\x02\0\0\0\0\0\0{", Format::Pickle),
            (b"", Format::Unknown),
        ];
        let long = [&[0x80, 2, 0, 0, 0, 0, 0, 0, b'{'][..], &[b' '; 640]].concat();
        assert_eq!(detect(&long).unwrap(), Format::Safetensors);
        for (bytes, format) in formats {
            assert_eq!(detect(&bytes.to_vec()).unwrap(), *format, "{bytes:?}");
        }
    }
}
