//! Headers of executables, archives and scripts, recognised by their fields and not by their first bytes alone: among
//! random weights any four bytes occur.

use std::io::Read;

/// Bytes that [`at`] looks at.
pub(super) const SPAN: usize = 4096;

type Check = fn(&[u8]) -> bool;

/// First bytes, what they begin, and whether the fields hold together.
const TABLE: &[(&[u8], &str, Check)] = &[
    (b"\x7fELF", "ELF executable", elf),
    (b"MZ", "Windows executable", portable),
    (b"\xce\xfa\xed\xfe", "Mach-O executable", mach),
    (b"\xcf\xfa\xed\xfe", "Mach-O executable", mach),
    (b"\xca\xfe\xba\xbe", "Mach-O or Java executable", fat),
    (b"PK\x03\x04", "zip archive", zip),
    (b"\x1f\x8b\x08", "gzip stream", gzip),
    (b"BZh", "bzip2 stream", |b| b.get(4..10) == Some(b"1AY&SY")),
    (b"\xfd7zXZ\0", "xz stream", |b| b.get(6) == Some(&0)),
    (b"7z\xbc\xaf\x27\x1c", "7z archive", |b| b.get(6) == Some(&0)),
    (b"Rar!\x1a\x07", "rar archive", |b| matches!(b.get(6), Some(0 | 1))),
    (b"#!", "script", script),
];

/// What the bytes begin.
pub(super) fn at(bytes: &[u8]) -> Option<&'static str> {
    let begins = |(magic, _, check): &&(&[u8], &str, Check)| bytes.starts_with(magic) && check(bytes);
    TABLE.iter().find(begins).map(|(_, name, _)| *name)
}

/// The program that a whole file is, by its first bytes: nothing random stands at the beginning of a file.
pub(super) fn program(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x7f, b'E', b'L', b'F', 1 | 2, 1 | 2, 1, ..] => Some("ELF executable"),
        _ => at(bytes).filter(|name| name.ends_with("executable") || *name == "script"),
    }
}

/// The first place at or after `from` where something begins, and what. Headers are only looked for below `to`.
pub(super) fn find(bytes: &[u8], from: usize, to: usize) -> Option<(usize, &'static str)> {
    let first = |byte: &u8| {
        matches!(byte, 0x7f | b'M' | 0xce | 0xcf | 0xca | b'P' | 0x1f | b'B' | 0xfd | b'7' | b'R' | b'#')
    };
    let mut candidates = bytes.iter().enumerate().take(to).skip(from).filter(|(_, byte)| first(byte));
    candidates.find_map(|(i, _)| {
        let rest = bytes.get(i..)?;
        let name = at(rest.get(..SPAN).unwrap_or(rest))?;
        Some((i, name))
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

/// Class, byte order, version, and a header of the length that the class has.
fn elf(bytes: &[u8]) -> bool {
    let (class, order) = (bytes.get(4), bytes.get(5));
    let at = if class == Some(&1) { 40 } else { 52 };
    let size = match order {
        Some(2) => word(bytes, at).map(u16::swap_bytes),
        _ => word(bytes, at),
    };
    let expected = if class == Some(&1) { 52 } else { 64 };
    matches!(class, Some(1 | 2))
        && matches!(order, Some(1 | 2))
        && bytes.get(6) == Some(&1)
        && size == Some(expected)
}

/// `e_lfanew` leads to `PE\0\0`.
fn portable(bytes: &[u8]) -> bool {
    let at = long(bytes, 0x3c).and_then(|at| usize::try_from(at).ok());
    at.and_then(|at| bytes.get(at..)).is_some_and(|rest| rest.starts_with(b"PE\0\0"))
}

/// A known processor, a known kind of file, and commands that fit.
fn mach(bytes: &[u8]) -> bool {
    let processor = long(bytes, 4).map(|cpu| cpu & 0x00ff_ffff);
    let (kind, commands, size) = (long(bytes, 12), long(bytes, 16), long(bytes, 20));
    matches!(processor, Some(7 | 12 | 18))
        && matches!(kind, Some(1..=12))
        && matches!(commands, Some(1..=4096))
        && matches!(size, Some(8..=0x10_0000))
}

/// A few architectures of known processors, or a class file of a Java that exists.
fn fat(bytes: &[u8]) -> bool {
    let big = |at| long(bytes, at).map(u32::swap_bytes);
    let java = matches!(big(4), Some(45..=80));
    let known = big(8).is_some_and(|cpu| matches!(cpu & 0x00ff_ffff, 7 | 12 | 18));
    java || matches!(big(4), Some(1..=8)) && known
}

/// A version, a method and a name that a member has.
fn zip(bytes: &[u8]) -> bool {
    let name = word(bytes, 26).map(usize::from).filter(|n| (1..=1024).contains(n));
    let name = name.and_then(|n| bytes.get(30..30_usize.saturating_add(n)));
    matches!(word(bytes, 4), Some(0..=63))
        && matches!(word(bytes, 8), Some(0 | 8 | 9 | 12 | 14 | 93 | 95 | 99))
        && name.is_some_and(|name| name.iter().all(|b| (0x20..0x7f).contains(b) || *b >= 0x80))
}

/// A stream whose first bytes inflate.
fn gzip(bytes: &[u8]) -> bool {
    let mut head = [0; 64];
    bytes.get(3).is_some_and(|flags| *flags < 0x20)
        && flate2::read::GzDecoder::new(bytes).read(&mut head).is_ok_and(|n| n > 0)
}

/// `#!/path` and the rest of a line of text.
fn script(bytes: &[u8]) -> bool {
    let line = bytes.get(2..).unwrap_or_default();
    let line = line.get(..line.len().min(128)).unwrap_or_default();
    let end = line.iter().position(|b| *b == b'\n');
    let line = end.and_then(|end| line.get(..end)).unwrap_or_default().trim_ascii();
    line.starts_with(b"/") && line.iter().all(|b| (0x20..0x7f).contains(b) || *b == b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf64() -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(64, 0);
        file[52] = 64;
        file
    }

    #[test]
    fn headers_are_recognised_by_their_fields() {
        let mut windows = vec![0; 0x88];
        windows[..2].copy_from_slice(b"MZ");
        windows[0x3c] = 0x80;
        windows[0x80..0x84].copy_from_slice(b"PE\0\0");
        for (bytes, name) in [
            (elf64(), "ELF executable"),
            (windows, "Windows executable"),
            (b"#!/bin/sh\necho".to_vec(), "script"),
            (b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0a".to_vec(), "zip archive"),
        ] {
            assert_eq!(at(&bytes), Some(name));
        }
    }

    #[test]
    fn first_bytes_alone_are_nothing() {
        for bytes in
            [&b"\x7fELF"[..], b"MZ\0\0", b"PK\x03\x04", b"#!", b"#!no path\n", b"\x1f\x8b\x08\xff", b""]
        {
            assert_eq!(at(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_header_is_found_at_any_offset_within_bounds() {
        let bytes = [vec![0; 100], elf64()].concat();
        assert_eq!(find(&bytes, 0, bytes.len()), Some((100, "ELF executable")));
        assert_eq!(find(&bytes, 0, 100), None);
        assert_eq!(find(&bytes, 101, bytes.len()), None);
    }
}
