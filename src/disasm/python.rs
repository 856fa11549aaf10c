//! Values as Python's `repr` prints them, so that a listing can be compared with that of `pickletools.dis`.

use std::fmt::Write as _;

use crate::report::DisasmArg;

/// An argument as `repr` prints it; what is cut ends with its whole length.
pub fn repr(arg: &DisasmArg) -> String {
    match arg {
        DisasmArg::Int(n) => n.to_string(),
        DisasmArg::Bool(b) => if *b { "True" } else { "False" }.to_owned(),
        DisasmArg::Float(x) => float(*x),
        DisasmArg::Wide { digits, length } => cut(digits.clone(), *length, "digits"),
        DisasmArg::Text { text, length } => cut(string(text), *length, "bytes"),
        DisasmArg::Damaged { bytes, length } => cut(surrogates(bytes), *length, "bytes"),
        DisasmArg::Bytes { bytes, length, array: false } => cut(self::bytes(bytes), *length, "bytes"),
        DisasmArg::Bytes { bytes, length, array: true } => {
            cut(format!("bytearray({})", self::bytes(bytes)), *length, "bytes")
        }
    }
}

fn cut(mut shown: String, length: Option<u64>, unit: &str) -> String {
    if let Some(length) = length {
        let _ = write!(shown, "... ({length} {unit})");
    }
    shown
}

/// Single quotes, unless they would have to be escaped and double ones would not.
fn quote(single: bool, double: bool) -> char {
    if single && !double { '"' } else { '\'' }
}

fn string(text: &str) -> String {
    let quote = quote(text.contains('\''), text.contains('"'));
    let mut shown = String::with_capacity(text.len().saturating_add(2));
    shown.push(quote);
    text.chars().for_each(|c| character(c, quote, &mut shown));
    shown.push(quote);
    shown
}

fn character(c: char, quote: char, out: &mut String) {
    let code = u32::from(c);
    let _ = match c {
        '\\' => write!(out, "\\\\"),
        '\n' => write!(out, "\\n"),
        '\r' => write!(out, "\\r"),
        '\t' => write!(out, "\\t"),
        c if c == quote => write!(out, "\\{c}"),
        '\'' | '"' => write!(out, "{c}"),
        // Rust escapes what Python does, and marks that combine with what stands before them.
        c if c.escape_debug().len() == 1 => write!(out, "{c}"),
        _ if code <= 0xff => write!(out, "\\x{code:02x}"),
        _ if code <= 0xffff => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
}

/// UTF-8 with lone surrogates, as Python's `surrogatepass` reads it; other damage byte by byte.
fn surrogates(bytes: &[u8]) -> String {
    let quote = quote(bytes.contains(&b'\''), bytes.contains(&b'"'));
    let mut shown = String::from(quote);
    let mut rest = bytes;
    while !rest.is_empty() {
        let valid = std::str::from_utf8(rest).map_or_else(|error| error.valid_up_to(), str::len);
        let (text, after) = rest.split_at(valid);
        std::str::from_utf8(text).unwrap_or_default().chars().for_each(|c| character(c, quote, &mut shown));
        rest = match after {
            [0xed, second @ 0xa0..=0xbf, third @ 0x80..=0xbf, after @ ..] => {
                let code = 0xd000 | (u32::from(second & 0x3f) << 6) | u32::from(third & 0x3f);
                let _ = write!(shown, "\\u{code:04x}");
                after
            }
            [byte, after @ ..] => {
                let _ = write!(shown, "\\x{byte:02x}");
                after
            }
            [] => after,
        };
    }
    shown.push(quote);
    shown
}

fn bytes(bytes: &[u8]) -> String {
    let quote = quote(bytes.contains(&b'\''), bytes.contains(&b'"'));
    let mut shown = format!("b{quote}");
    for byte in bytes {
        let c = char::from(*byte);
        if byte.is_ascii() {
            character(c, quote, &mut shown);
        } else {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown.push(quote);
    shown
}

/// The shortest digits that give the number back, with an exponent below 1e-4 and from 1e16 on.
fn float(x: f64) -> String {
    if !x.is_finite() {
        return x.to_string().to_ascii_lowercase();
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.unsigned_abs());
    }
    let plain = x.to_string();
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_as_python_prints_them() {
        for (x, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (-1.25e-7, "-1.25e-07"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
            (0.1, "0.1"),
        ] {
            assert_eq!(float(x), text);
        }
    }

    #[test]
    fn strings_and_bytes_as_python_prints_them() {
        assert_eq!(string("it's"), "\"it's\"");
        assert_eq!(string("'\""), "'\\'\"'");
        assert_eq!(
            string("a\\\n\x1b\u{e9}\u{ad}\u{202e}\u{e0001}"),
            "'a\\\\\\n\\x1bé\\xad\\u202e\\U000e0001'"
        );
        assert_eq!(bytes(b"\x00'\xff\t"), "b\"\\x00'\\xff\\t\"");
        assert_eq!(surrogates(b"a\xed\xb2\x80\xff"), "'a\\udc80\\xff'");
        let array = DisasmArg::Bytes { bytes: vec![1], length: Some(9), array: true };
        assert_eq!(repr(&array), "bytearray(b'\\x01')... (9 bytes)");
    }
}
