//! One opcode at a time, with its argument read and bounded.

use std::sync::Arc;

use crate::bytes::{Cursor, Offset, Span, length};

use super::error::{Error, ErrorKind};
use super::graph::Payload;
use super::opcode::{ArgForm, Opcode, opcode};

/// A line of text may be this long; names and numbers are far shorter, quoted strings of protocol 0 are not.
const LINE: u64 = 1 << 30;
/// Longer byte strings stay where they lie.
const INLINE_BYTES: u64 = 1024;
/// Longer text stays where it lies. No name is longer.
const INLINE_TEXT: u64 = 64 * 1024;

/// A decoded opcode.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    /// Position of its byte, absolute in the stream.
    pub offset: Offset,
    /// Which one.
    pub opcode: &'static Opcode,
    /// Its argument.
    pub arg: Arg,
}

/// The argument of an opcode.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    /// None.
    None,
    /// A fixed-width integer.
    Int(i64),
    /// An eight-byte unsigned integer.
    Length(u64),
    /// A float.
    Float(f64),
    /// A line of text, without its newline.
    Line(Vec<u8>),
    /// Module and name.
    Lines(Vec<u8>, Vec<u8>),
    /// UTF-8 text, not validated yet.
    Text(Vec<u8>),
    /// Text too long for a name, where it lies.
    LongText(Span),
    /// Bytes.
    Bytes(Payload),
    /// A two's-complement integer.
    Long(Vec<u8>),
}

/// Decodes the next opcode.
///
/// # Errors
/// An [`Error`] whose offset is absolute in the stream: an unknown byte, a truncated argument, a negative length.
pub fn decode(cursor: &mut Cursor<'_>) -> Result<Op, Error> {
    let offset = cursor.position();
    let byte = cursor.byte().map_err(|e| Error { offset, op: "?", kind: e.kind.into() })?;
    let Some(opcode) = opcode(byte) else {
        return Err(Error { offset, op: "?", kind: ErrorKind::UnknownOpcode(byte) });
    };
    match argument(cursor, opcode.arg) {
        Ok(arg) => Ok(Op { offset, opcode, arg }),
        Err(kind) => Err(Error { offset, op: opcode.name, kind }),
    }
}

fn argument(cursor: &mut Cursor<'_>, form: ArgForm) -> Result<Arg, ErrorKind> {
    Ok(match form {
        ArgForm::None => Arg::None,
        ArgForm::U8 => Arg::Int(i64::from(byte(cursor)?)),
        ArgForm::U16 => Arg::Int(i64::from(u16::from_le_bytes(array(cursor)?))),
        ArgForm::U32 => Arg::Int(i64::from(u32::from_le_bytes(array(cursor)?))),
        ArgForm::I32 => Arg::Int(i64::from(i32::from_le_bytes(array(cursor)?))),
        ArgForm::U64 => Arg::Length(u64::from_le_bytes(array(cursor)?)),
        ArgForm::F64 => Arg::Float(f64::from_be_bytes(array(cursor)?)),
        ArgForm::IntLine
        | ArgForm::LongLine
        | ArgForm::FloatLine
        | ArgForm::StringLine
        | ArgForm::UnicodeLine
        | ArgForm::Line => Arg::Line(line(cursor)?),
        ArgForm::TwoLines => Arg::Lines(line(cursor)?, line(cursor)?),
        ArgForm::Text1 => text(cursor, |c| Ok(u64::from(byte(c)?)))?,
        ArgForm::Text4 => text(cursor, length4)?,
        ArgForm::Text8 => text(cursor, length8)?,
        ArgForm::String1 | ArgForm::Bytes1 => bytes(cursor, |c| Ok(u64::from(byte(c)?)))?,
        ArgForm::String4 => bytes(cursor, signed_length)?,
        ArgForm::Bytes4 => bytes(cursor, length4)?,
        ArgForm::Bytes8 => bytes(cursor, length8)?,
        ArgForm::Long1 => long(cursor, |c| Ok(u64::from(byte(c)?)))?,
        ArgForm::Long4 => long(cursor, signed_length)?,
    })
}

fn byte(cursor: &mut Cursor<'_>) -> Result<u8, ErrorKind> {
    Ok(cursor.byte().map_err(|e| e.kind)?)
}

fn array<const N: usize>(cursor: &mut Cursor<'_>) -> Result<[u8; N], ErrorKind> {
    Ok(cursor.array().map_err(|e| e.kind)?)
}

fn line(cursor: &mut Cursor<'_>) -> Result<Vec<u8>, ErrorKind> {
    Ok(cursor.line(LINE).map_err(|e| e.kind)?)
}

fn length4(cursor: &mut Cursor<'_>) -> Result<u64, ErrorKind> {
    Ok(u64::from(u32::from_le_bytes(array(cursor)?)))
}

fn length8(cursor: &mut Cursor<'_>) -> Result<u64, ErrorKind> {
    Ok(u64::from_le_bytes(array(cursor)?))
}

fn signed_length(cursor: &mut Cursor<'_>) -> Result<u64, ErrorKind> {
    let declared = i32::from_le_bytes(array(cursor)?);
    u64::try_from(declared).map_err(|_| ErrorKind::NegativeLength(declared))
}

type Length = fn(&mut Cursor<'_>) -> Result<u64, ErrorKind>;

fn text(cursor: &mut Cursor<'_>, read_length: Length) -> Result<Arg, ErrorKind> {
    let n = read_length(cursor)?;
    if n > INLINE_TEXT {
        return Ok(Arg::LongText(cursor.skip(n).map_err(|e| e.kind)?));
    }
    Ok(Arg::Text(cursor.take(n).map_err(|e| e.kind)?.to_vec()))
}

fn bytes(cursor: &mut Cursor<'_>, read_length: Length) -> Result<Arg, ErrorKind> {
    let n = read_length(cursor)?;
    if n > INLINE_BYTES {
        return Ok(Arg::Bytes(Payload::Span(cursor.skip(n).map_err(|e| e.kind)?)));
    }
    Ok(Arg::Bytes(Payload::Inline(Arc::from(cursor.take(n).map_err(|e| e.kind)?))))
}

fn long(cursor: &mut Cursor<'_>, read_length: Length) -> Result<Arg, ErrorKind> {
    let n = read_length(cursor)?;
    Ok(Arg::Long(cursor.take(n).map_err(|e| e.kind)?.to_vec()))
}

impl Arg {
    /// Bytes of memory that the argument takes, for the budget.
    pub(super) fn memory(&self) -> u64 {
        match self {
            Self::Line(bytes) | Self::Text(bytes) | Self::Long(bytes) => length(bytes.len()),
            Self::Lines(module, name) => length(module.len()).saturating_add(length(name.len())),
            Self::Bytes(Payload::Inline(bytes)) => length(bytes.len()),
            _ => 0,
        }
    }
}
