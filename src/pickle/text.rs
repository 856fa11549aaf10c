//! Text forms of protocol 0: quoted Python 2 strings, raw-unicode-escape, and UTF-8 with lone surrogates.

use std::fmt::Write as _;

use super::ErrorKind;

/// UTF-8 as Python's `surrogatepass` reads it. A lone surrogate, which no Rust string can hold, becomes its escape.
pub(super) fn utf8(bytes: &[u8]) -> Result<Box<str>, ErrorKind> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) => surrogates(bytes).ok_or(ErrorKind::InvalidText),
    }
}

fn surrogates(bytes: &[u8]) -> Option<Box<str>> {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                break;
            }
            Err(error) => {
                let (valid, after) = rest.split_at_checked(error.valid_up_to())?;
                text.push_str(std::str::from_utf8(valid).ok()?);
                // A surrogate is ED A0..BF 80..BF: the only three-byte form that from_utf8 refuses and Python takes.
                let ([0xed, second @ 0xa0..=0xbf, third @ 0x80..=0xbf], after) = after.split_first_chunk()?
                else {
                    return None;
                };
                let code = 0xd000 | (u32::from(second & 0x3f) << 6) | u32::from(third & 0x3f);
                let _ = write!(text, "\\u{code:04x}");
                rest = after;
            }
        }
    }
    Some(text.into())
}

/// Python's raw-unicode-escape: Latin-1, in which only `\uXXXX` and `\UXXXXXXXX` are escapes.
pub(super) fn raw_unicode_escape(line: &[u8]) -> Result<Box<str>, ErrorKind> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    let mut slashes = 0_usize;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = match (byte, after.first()) {
            (b'\\', Some(b'u')) if slashes.is_multiple_of(2) => 4,
            (b'\\', Some(b'U')) if slashes.is_multiple_of(2) => 8,
            _ => 0_usize,
        };
        slashes = if byte == b'\\' { slashes.saturating_add(1) } else { 0 };
        if digits == 0 {
            text.push(char::from(byte));
            rest = after;
            continue;
        }
        let hex = after.get(1..=digits).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = hex.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = code.and_then(|hex| u32::from_str_radix(hex, 16).ok()).ok_or(ErrorKind::InvalidString)?;
        match char::from_u32(code) {
            Some(c) => text.push(c),
            None if code < 0x11_0000 => {
                let _ = write!(text, "\\u{code:04x}");
            }
            None => return Err(ErrorKind::InvalidString),
        }
        slashes = 0;
        rest = after.get(digits.saturating_add(1)..).unwrap_or_default();
    }
    Ok(text.into())
}

/// A quoted string of Python 2 with its escapes, as `codecs.escape_decode` reads it.
pub(super) fn quoted(line: &[u8]) -> Result<Vec<u8>, ErrorKind> {
    let line = line.trim_ascii_end();
    let ([b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"']) = line else {
        return Err(ErrorKind::InvalidString);
    };
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next().ok_or(ErrorKind::InvalidString)? {
            b'\n' => {}
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'r' => bytes.push(b'\r'),
            b'a' => bytes.push(7),
            b'b' => bytes.push(8),
            b'f' => bytes.push(12),
            b'v' => bytes.push(11),
            byte @ (b'\\' | b'\'' | b'"') => bytes.push(byte),
            b'x' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
                let (high, low) = digit().zip(digit()).ok_or(ErrorKind::InvalidString)?;
                bytes.push(u8::try_from((high << 4) | low).unwrap_or(u8::MAX));
            }
            byte @ b'0'..=b'7' => {
                let mut value = u32::from(byte & 7);
                for _ in 0..2 {
                    let Some(digit) = rest.next_if(|b| (b'0'..=b'7').contains(b)) else { break };
                    value = (value << 3) | u32::from(digit & 7);
                }
                bytes.push(u8::try_from(value & 0xff).unwrap_or(u8::MAX));
            }
            byte => bytes.extend([b'\\', byte]),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_surrogates_are_escaped_and_other_damage_refused() {
        assert_eq!(&*utf8("naïve".as_bytes()).unwrap(), "naïve");
        assert_eq!(&*utf8(b"a\xed\xb2\x80b").unwrap(), "a\\udc80b");
        assert!(matches!(utf8(b"a\xffb"), Err(ErrorKind::InvalidText)));
    }

    #[test]
    fn raw_unicode_escape_leaves_other_escapes_alone() {
        assert_eq!(&*raw_unicode_escape(b"\\x41\\u00e9\xe9").unwrap(), "\\x41éé");
        assert_eq!(&*raw_unicode_escape(b"\\\\u00e9").unwrap(), "\\\\u00e9");
        assert_eq!(&*raw_unicode_escape(b"\\U0001f600").unwrap(), "😀");
        assert!(raw_unicode_escape(b"\\u00g9").is_err());
    }

    #[test]
    fn quoted_strings_are_unescaped() {
        assert_eq!(quoted(br"'a\x41\n\101\\ \q'").unwrap(), b"aA\nA\\ \\q");
        assert!(quoted(b"abc").is_err());
        assert!(quoted(b"'").is_err());
        assert!(quoted(br"'\x4'").is_err());
    }
}
