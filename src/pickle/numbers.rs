//! Numbers as text (protocols 0 and 1) and as two's complement (protocol 2).

use super::{ErrorKind, Node};

/// A number, and whether every reader takes its text alike.
pub(super) struct Parsed {
    pub(super) node: Node,
    pub(super) canonical: bool,
}

/// The argument of `INT`, in which `00` and `01` are booleans.
pub(super) fn int_line(line: &[u8]) -> Result<Parsed, ErrorKind> {
    match line {
        b"00" => Ok(Parsed { node: Node::Bool(false), canonical: true }),
        b"01" => Ok(Parsed { node: Node::Bool(true), canonical: true }),
        _ => integer(line),
    }
}

/// The argument of `LONG`, which may end with `L`.
pub(super) fn long_line(line: &[u8]) -> Result<Parsed, ErrorKind> {
    integer(line.strip_suffix(b"L").unwrap_or(line))
}

/// The number of a memo entry in text.
pub(super) fn memo_line(line: &[u8]) -> Result<(u64, bool), ErrorKind> {
    let parsed = integer(line)?;
    match parsed.node {
        Node::Int(n) => u64::try_from(n).map(|n| (n, parsed.canonical)).map_err(|_| invalid(line)),
        _ => Err(invalid(line)),
    }
}

/// The argument of `FLOAT`.
pub(super) fn float_line(line: &[u8]) -> Result<Parsed, ErrorKind> {
    let text = std::str::from_utf8(up_to_nul(line)).map_err(|_| invalid(line))?;
    let trimmed = text.trim();
    let canonical = trimmed.len() == line.len() && !text.contains('_');
    let value = trimmed.replace('_', "").parse().map_err(|_| invalid(line))?;
    Ok(Parsed { node: Node::Float(value), canonical })
}

/// Two's complement, little-endian, of any length; no byte at all is zero.
pub(super) fn twos_complement(bytes: &[u8]) -> Node {
    let negative = bytes.last().is_some_and(|high| high & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    let mut significant = bytes;
    // Drop sign bytes that say nothing, so that a padded small number is still small.
    while let [rest @ .., next, last] = significant {
        if *last != fill || (next & 0x80 != 0) != negative {
            break;
        }
        let _ = rest;
        significant = significant.get(..significant.len().saturating_sub(1)).unwrap_or_default();
    }
    if significant.len() > 8 {
        return Node::BigInt(significant.into());
    }
    let mut wide = [fill; 8];
    wide.iter_mut().zip(significant).for_each(|(to, from)| *to = *from);
    Node::Int(i64::from_le_bytes(wide))
}

/// Decimal in canonical form; any other form that Python's `int(text, 0)` reads is taken and marked.
fn integer(line: &[u8]) -> Result<Parsed, ErrorKind> {
    let text = std::str::from_utf8(up_to_nul(line)).map_err(|_| invalid(line))?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let canonical = plain && (digits == "0" && text == digits || !digits.starts_with('0'));
    let canonical = canonical && text.len() == line.len();
    if plain {
        return Ok(Parsed { node: decimal(text), canonical });
    }
    let cleaned = text.trim().replace('_', "").to_ascii_lowercase();
    let (sign, digits) = match cleaned.strip_prefix('-') {
        Some(digits) => (-1_i64, digits),
        None => (1, cleaned.strip_prefix('+').unwrap_or(&cleaned)),
    };
    let (digits, radix) = match digits.split_at_checked(2) {
        Some(("0x", rest)) => (rest, 16),
        Some(("0o", rest)) => (rest, 8),
        Some(("0b", rest)) => (rest, 2),
        _ => (digits, 10),
    };
    // A sign of its own would be read here, and by no reader of Python.
    let value = if digits.starts_with(['-', '+']) { None } else { i64::from_str_radix(digits, radix).ok() };
    let value = value.ok_or_else(|| invalid(line))?;
    Ok(Parsed { node: Node::Int(value.saturating_mul(sign)), canonical: false })
}

/// `CPython`'s C reader ends a number at a NUL, its Python reader refuses one (cpython#126996).
fn up_to_nul(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Decimal digits of any length. What does not fit in 128 bits is kept as a number that is only too large to be a
/// size, an offset or a key of an honest file.
fn decimal(text: &str) -> Node {
    if let Ok(small) = text.parse() {
        return Node::Int(small);
    }
    match text.parse::<i128>() {
        Ok(wide) => twos_complement(&wide.to_le_bytes()),
        Err(_) if text.starts_with('-') => Node::BigInt(i128::MIN.to_le_bytes().into()),
        Err(_) => Node::BigInt(i128::MAX.to_le_bytes().into()),
    }
}

fn invalid(line: &[u8]) -> ErrorKind {
    /// Enough to recognise what stands there.
    const SHOWN: usize = 40;
    let shown = line.get(..line.len().min(SHOWN)).unwrap_or_default();
    ErrorKind::InvalidNumber(String::from_utf8_lossy(shown).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twos_complement_of_every_length() {
        assert_eq!(twos_complement(&[]), Node::Int(0));
        assert_eq!(twos_complement(&[0xff]), Node::Int(-1));
        assert_eq!(twos_complement(&[0xff, 0]), Node::Int(255));
        assert_eq!(twos_complement(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Node::Int(1));
        assert_eq!(twos_complement(&[0, 0, 0, 0, 0, 0, 0, 0x80]), Node::Int(i64::MIN));
        assert_eq!(
            twos_complement(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0]),
            Node::BigInt([0, 0, 0, 0, 0, 0, 0, 0x80, 0].into())
        );
    }

    #[test]
    fn text_integers_and_what_readers_disagree_about() {
        let read = |line: &[u8]| integer(line).map(|p| (p.node, p.canonical)).ok();
        assert_eq!(read(b"-12"), Some((Node::Int(-12), true)));
        assert_eq!(read(b"0"), Some((Node::Int(0), true)));
        assert_eq!(read(b"007"), Some((Node::Int(7), false)));
        assert_eq!(read(b"0x10"), Some((Node::Int(16), false)));
        assert_eq!(read(b"1_0"), Some((Node::Int(10), false)));
        assert_eq!(read(b"5\x006"), Some((Node::Int(5), false)));
        assert_eq!(read(b"\x005"), None);
        assert!(matches!(read(b"123456789012345678901234567890"), Some((Node::BigInt(_), true))));
    }

    #[test]
    fn floats_and_memo_numbers() {
        assert!(matches!(float_line(b"1e400").map(|p| p.node), Ok(Node::Float(x)) if x.is_infinite()));
        assert!(float_line(b"one").is_err());
        assert_eq!(memo_line(b"12").ok(), Some((12, true)));
        assert!(memo_line(b"-1").is_err());
    }
}
