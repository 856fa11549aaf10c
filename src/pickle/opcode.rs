//! The one table of opcodes: byte, name, first protocol and form of the argument, as `pickletools.opcodes` has them.

/// How the argument of an opcode is laid out. Little-endian unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgForm {
    /// No argument.
    None,
    /// One unsigned byte.
    U8,
    /// Two bytes, unsigned.
    U16,
    /// Four bytes, unsigned.
    U32,
    /// Four bytes, signed.
    I32,
    /// Eight bytes, unsigned.
    U64,
    /// Eight bytes, an IEEE double, big-endian.
    F64,
    /// A line of text: an integer, `00` and `01` being booleans.
    IntLine,
    /// A line of text: an integer with an optional final `L`.
    LongLine,
    /// A line of text: a float.
    FloatLine,
    /// A line of text: a quoted Python 2 string with escapes.
    StringLine,
    /// A line of text in raw-unicode-escape.
    UnicodeLine,
    /// A line of plain text.
    Line,
    /// Two lines: module and name.
    TwoLines,
    /// UTF-8 text after a length of one byte.
    Text1,
    /// UTF-8 text after a length of four bytes.
    Text4,
    /// UTF-8 text after a length of eight bytes.
    Text8,
    /// A Python 2 string after a length of one byte.
    String1,
    /// A Python 2 string after a signed length of four bytes.
    String4,
    /// Bytes after a length of one byte.
    Bytes1,
    /// Bytes after a length of four bytes.
    Bytes4,
    /// Bytes after a length of eight bytes.
    Bytes8,
    /// A two's-complement integer after a length of one byte.
    Long1,
    /// A two's-complement integer after a signed length of four bytes.
    Long4,
}

/// One opcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opcode {
    /// The byte.
    pub code: u8,
    /// Its name in `pickletools`.
    pub name: &'static str,
    /// The first protocol that has it.
    pub protocol: u8,
    /// Its argument.
    pub arg: ArgForm,
}

macro_rules! opcodes {
    ($($constant:ident $code:literal $protocol:literal $arg:ident;)*) => {
        /// Every opcode of protocols 0 to 5.
        pub const OPCODES: &[Opcode] = &[$(
            Opcode { code: $code, name: stringify!($constant), protocol: $protocol, arg: ArgForm::$arg },
        )*];
        /// The bytes by name, for the machine's `match`.
        pub(super) mod code {
            $(pub(in crate::pickle) const $constant: u8 = $code;)*
        }
    };
}

opcodes! {
    INT b'I' 0 IntLine;
    BININT b'J' 1 I32;
    BININT1 b'K' 1 U8;
    BININT2 b'M' 1 U16;
    LONG b'L' 0 LongLine;
    LONG1 0x8a 2 Long1;
    LONG4 0x8b 2 Long4;
    STRING b'S' 0 StringLine;
    BINSTRING b'T' 1 String4;
    SHORT_BINSTRING b'U' 1 String1;
    BINBYTES b'B' 3 Bytes4;
    SHORT_BINBYTES b'C' 3 Bytes1;
    BINBYTES8 0x8e 4 Bytes8;
    BYTEARRAY8 0x96 5 Bytes8;
    NEXT_BUFFER 0x97 5 None;
    READONLY_BUFFER 0x98 5 None;
    NONE b'N' 0 None;
    NEWTRUE 0x88 2 None;
    NEWFALSE 0x89 2 None;
    UNICODE b'V' 0 UnicodeLine;
    SHORT_BINUNICODE 0x8c 4 Text1;
    BINUNICODE b'X' 1 Text4;
    BINUNICODE8 0x8d 4 Text8;
    FLOAT b'F' 0 FloatLine;
    BINFLOAT b'G' 1 F64;
    EMPTY_LIST b']' 1 None;
    APPEND b'a' 0 None;
    APPENDS b'e' 1 None;
    LIST b'l' 0 None;
    EMPTY_TUPLE b')' 1 None;
    TUPLE b't' 0 None;
    TUPLE1 0x85 2 None;
    TUPLE2 0x86 2 None;
    TUPLE3 0x87 2 None;
    EMPTY_DICT b'}' 1 None;
    DICT b'd' 0 None;
    SETITEM b's' 0 None;
    SETITEMS b'u' 1 None;
    EMPTY_SET 0x8f 4 None;
    ADDITEMS 0x90 4 None;
    FROZENSET 0x91 4 None;
    POP b'0' 0 None;
    DUP b'2' 0 None;
    MARK b'(' 0 None;
    POP_MARK b'1' 1 None;
    GET b'g' 0 Line;
    BINGET b'h' 1 U8;
    LONG_BINGET b'j' 1 U32;
    PUT b'p' 0 Line;
    BINPUT b'q' 1 U8;
    LONG_BINPUT b'r' 1 U32;
    MEMOIZE 0x94 4 None;
    EXT1 0x82 2 U8;
    EXT2 0x83 2 U16;
    EXT4 0x84 2 I32;
    GLOBAL b'c' 0 TwoLines;
    STACK_GLOBAL 0x93 4 None;
    REDUCE b'R' 0 None;
    BUILD b'b' 0 None;
    INST b'i' 0 TwoLines;
    OBJ b'o' 1 None;
    NEWOBJ 0x81 2 None;
    NEWOBJ_EX 0x92 4 None;
    PROTO 0x80 2 U8;
    STOP b'.' 0 None;
    FRAME 0x95 4 U64;
    PERSID b'P' 0 Line;
    BINPERSID b'Q' 1 None;
}

/// Positions in [`OPCODES`] by byte, built once at compile time.
const BY_BYTE: [Option<&Opcode>; 256] = {
    let mut table: [Option<&Opcode>; 256] = [None; 256];
    let mut i = 0;
    #[expect(clippy::indexing_slicing, reason = "runs in the compiler")]
    #[expect(clippy::as_conversions, reason = "u8 to usize in a constant")]
    while i < OPCODES.len() {
        table[OPCODES[i].code as usize] = Some(&OPCODES[i]);
        i += 1;
    }
    table
};

/// The opcode of a byte; `None` where protocols 0 to 5 have none.
pub fn opcode(byte: u8) -> Option<&'static Opcode> {
    BY_BYTE.get(usize::from(byte)).copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_opcode_stands_once_and_is_found_by_its_byte() {
        assert_eq!(OPCODES.len(), 68, "pickletools.opcodes of CPython 3.11 has 68");
        for op in OPCODES {
            assert_eq!(opcode(op.code), Some(op));
        }
    }
}
