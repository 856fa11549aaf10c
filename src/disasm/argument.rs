//! The argument of an opcode as the value that Python's `pickletools` gives it.

use crate::bytes::{ReadAt, Span, hex, index, length, read_vec};
use crate::pickle::{Arg, ArgForm, Graph, Node, NodeId, Op, Payload};
use crate::report::DisasmArg;

/// The argument of `op`; `made` is the object that the opcode made of it. No more than `most` bytes are shown.
///
/// # Errors
/// Those of reading a long argument.
pub(super) fn argument(
    op: &Op,
    made: Option<(&Graph, NodeId)>,
    source: &dyn ReadAt,
    most: u64,
) -> std::io::Result<Option<DisasmArg>> {
    let made = made.map(|(graph, id)| graph.node(id));
    Ok(Some(match &op.arg {
        Arg::None => return Ok(None),
        Arg::Int(n) => DisasmArg::Int(i128::from(*n)),
        Arg::Length(n) => DisasmArg::Int(i128::from(*n)),
        Arg::Float(x) => DisasmArg::Float(*x),
        Arg::Line(line) => of_line(op.opcode.arg, line, made, most),
        Arg::Lines(module, name) => text([module.as_slice(), b" ", name].concat(), None, most),
        Arg::Text(bytes) => text(bytes.clone(), None, most),
        Arg::LongText(span) => {
            // A character that is cut in its middle is left out, so that what is shown is text.
            let shown = read(source, *span, most.saturating_add(4))?;
            text(shown, Some(span.len()), most)
        }
        Arg::Long(bytes) => integer(bytes, most),
        Arg::Bytes(payload) => {
            let shown = match payload {
                Payload::Inline(bytes) => {
                    bytes.get(..bytes.len().min(index(most))).unwrap_or_default().to_vec()
                }
                Payload::Span(span) => read(source, *span, most)?,
            };
            match op.opcode.arg {
                ArgForm::String1 | ArgForm::String4 => latin1(&shown, payload.len()),
                _ => bytes(shown, payload.len(), op.opcode.name == "BYTEARRAY8"),
            }
        }
    }))
}

fn read(source: &dyn ReadAt, span: Span, most: u64) -> std::io::Result<Vec<u8>> {
    read_vec(source, Span::between(span.start(), span.start().saturating_add(span.len().min(most))))
}

/// A line of text: a number, a quoted string, or what it says.
fn of_line(form: ArgForm, line: &[u8], made: Option<&Node>, most: u64) -> DisasmArg {
    match (form, made) {
        (_, Some(Node::Bool(b))) => DisasmArg::Bool(*b),
        (_, Some(Node::Int(n))) => DisasmArg::Int(i128::from(*n)),
        (_, Some(Node::Float(x))) => DisasmArg::Float(*x),
        (ArgForm::StringLine, Some(Node::Str2(Payload::Inline(bytes)))) => {
            latin1(bytes.get(..bytes.len().min(index(most))).unwrap_or_default(), length(bytes.len()))
        }
        (ArgForm::UnicodeLine, Some(Node::Str(unescaped))) => text(unescaped.as_bytes().to_vec(), None, most),
        // Digits of any length, which the machine does not keep.
        (ArgForm::LongLine | ArgForm::IntLine, _) => {
            let digits = String::from_utf8_lossy(line.strip_suffix(b"L").unwrap_or(line)).into_owned();
            wide(digits, most)
        }
        // `GET` and `PUT`: the number of an entry.
        (ArgForm::Line, _) => {
            match std::str::from_utf8(line).ok().and_then(|line| line.parse::<u64>().ok()) {
                Some(key) if !matches!(made, Some(Node::Persistent(_))) => DisasmArg::Int(i128::from(key)),
                _ => text(line.to_vec(), None, most),
            }
        }
        _ => text(line.to_vec(), None, most),
    }
}

/// Text of `all` bytes, of which these are the first.
fn text(mut shown: Vec<u8>, all: Option<u64>, most: u64) -> DisasmArg {
    let all = all.unwrap_or_else(|| length(shown.len()));
    let cut = (all > most).then_some(all);
    if cut.is_some() {
        let mut end = index(most).min(shown.len());
        while end > 0 && shown.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
            end = end.saturating_sub(1);
        }
        shown.truncate(end);
    }
    match String::from_utf8(shown) {
        Ok(text) => DisasmArg::Text { text, length: cut },
        Err(damaged) => DisasmArg::Damaged { bytes: damaged.into_bytes(), length: cut },
    }
}

/// A string of Python 2: `pickletools` takes each byte for a character.
fn latin1(shown: &[u8], all: u64) -> DisasmArg {
    let text = shown.iter().map(|byte| char::from(*byte)).collect();
    DisasmArg::Text { text, length: (all > length(shown.len())).then_some(all) }
}

fn bytes(shown: Vec<u8>, all: u64, array: bool) -> DisasmArg {
    let length = (all > length(shown.len())).then_some(all);
    DisasmArg::Bytes { bytes: shown, length, array }
}

fn wide(mut digits: String, most: u64) -> DisasmArg {
    let all = length(digits.len());
    let cut = all > most;
    if cut {
        digits.truncate((0..=index(most)).rev().find(|end| digits.is_char_boundary(*end)).unwrap_or(0));
    }
    DisasmArg::Wide { digits, length: cut.then_some(all) }
}

/// Two's complement, little-endian.
fn integer(bytes: &[u8], most: u64) -> DisasmArg {
    /// Longer integers are shown in hexadecimal: decimal takes time that grows with the square of the length.
    const DECIMAL: usize = 512;
    let negative = bytes.last().is_some_and(|high| high & 0x80 != 0);
    if bytes.len() <= 16 {
        let mut all = [if negative { 0xff } else { 0 }; 16];
        all.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let n = i128::from_le_bytes(all);
        return match i64::try_from(n) {
            Ok(n) => DisasmArg::Int(i128::from(n)),
            Err(_) => wide(n.to_string(), most),
        };
    }
    let magnitude = if negative { negated(bytes) } else { bytes.to_vec() };
    let sign = if negative { "-" } else { "" };
    if bytes.len() <= DECIMAL {
        return wide(format!("{sign}{}", decimal(magnitude)), most);
    }
    let big_endian: Vec<u8> = magnitude.iter().rev().copied().collect();
    wide(format!("{sign}0x{}", hex(&big_endian)), most)
}

fn negated(bytes: &[u8]) -> Vec<u8> {
    let mut carry = true;
    let negate = |byte: &u8| {
        let (negated, carried) = (!byte).overflowing_add(u8::from(carry));
        carry = carried;
        negated
    };
    bytes.iter().map(negate).collect()
}

/// The decimal digits of an integer without a sign, by repeated division.
fn decimal(mut magnitude: Vec<u8>) -> String {
    /// Nine digits at a time, so that a remainder and a byte fit in 64 bits.
    const GROUP: u64 = 1_000_000_000;
    let mut groups = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u64;
        for byte in magnitude.iter_mut().rev() {
            let n = (rest << 8) | u64::from(*byte);
            *byte = n.checked_div(GROUP).and_then(|quotient| u8::try_from(quotient).ok()).unwrap_or(0);
            rest = n.checked_rem(GROUP).unwrap_or(0);
        }
        groups.push(rest);
    }
    let mut groups = groups.iter().rev();
    let first = groups.next().map_or_else(|| "0".to_owned(), ToString::to_string);
    groups.fold(first, |digits, group| format!("{digits}{group:09}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_length_are_decimal_up_to_a_bound() {
        let shown = |bytes: &[u8]| match integer(bytes, 1000) {
            DisasmArg::Int(n) => n.to_string(),
            DisasmArg::Wide { digits, .. } => digits,
            other => panic!("{other:?}"),
        };
        assert_eq!(shown(&[]), "0");
        assert_eq!(shown(&[0xff]), "-1");
        assert_eq!(shown(&[0xff, 0]), "255");
        let magic = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
        assert_eq!(shown(&magic), "119547037146038801333356");
        let mut power = vec![0; 20];
        power.push(1);
        assert_eq!(shown(&power), "1461501637330902918203684832716283019655932542976", "2**160");
        assert_eq!(shown(&negated(&power)), "-1461501637330902918203684832716283019655932542976");
        assert!(shown(&[1; 513]).starts_with("0x0101"));
    }

    #[test]
    fn text_is_cut_between_characters() {
        let cut = |shown: &str, most| match text(shown.as_bytes().to_vec(), None, most) {
            DisasmArg::Text { text, length } => (text, length),
            other => panic!("{other:?}"),
        };
        assert_eq!(cut("abc", 3), ("abc".to_owned(), None));
        assert_eq!(cut("aäb", 2), ("a".to_owned(), Some(4)));
        assert!(matches!(text(b"\xed\xb2\x80".to_vec(), None, 9), DisasmArg::Damaged { length: None, .. }));
    }
}
