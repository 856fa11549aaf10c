//! What `disasm --json` prints. Its items are written one by one, so that a pickle of any length takes no memory.

use serde::{Serialize, Serializer};

/// The value of `schema`.
pub const DISASM_SCHEMA: &str = "depickle-disasm/1";

/// What stands at a position of a pickle.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum DisasmItem {
    /// An opcode.
    Op(Box<DisasmOp>),
    /// Bytes between opcodes that are none.
    Raw(DisasmRaw),
}

/// Bytes between opcodes that are none: an array of joblib's, with the padding before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DisasmRaw {
    /// Position, from the start of the pickle.
    pub offset: u64,
    /// How many there are.
    pub raw: u64,
}

/// An opcode and what it did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DisasmOp {
    /// Position, from the start of the pickle.
    pub offset: u64,
    /// Its name in `pickletools`.
    pub opcode: &'static str,
    /// Its byte.
    pub code: u8,
    /// The first protocol that has it.
    #[serde(skip)]
    pub protocol: u8,
    /// Its argument.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arg: Option<DisasmArg>,
    /// Objects on the stack before and after it.
    pub stack: [usize; 2],
    /// Marks that are open before it.
    pub marks: usize,
    /// Position of the mark that it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<u64>,
    /// The entry of the memo that it stores or fetches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memo: Option<DisasmMemo>,
    /// The name that it refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global: Option<DisasmName>,
    /// The call that Python would make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<DisasmName>,
    /// The persistent id, or the object that is given a state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What no writer of pickles does here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anomaly: Option<String>,
}

/// An entry of the memo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DisasmMemo {
    /// Its key.
    pub key: u64,
    /// `true` where it is stored, `false` where it is fetched.
    pub stored: bool,
    /// The object, as a bounded expression.
    pub object: String,
}

/// A name, or a call as a bounded expression, with its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DisasmName {
    /// `module.name` in Python 3's terms, or the expression.
    pub name: String,
    /// The worst that the pickle does with the name: `allowed`, `inert`, `unknown` or `dangerous`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<&'static str>,
}

/// The argument of an opcode, with the value that Python's `pickletools` gives it. What is longer than was asked for is
/// cut, and says how long it is.
#[derive(Debug, Clone, PartialEq)]
pub enum DisasmArg {
    /// An integer of 64 bits.
    Int(i128),
    /// `INT` with `00` or `01`.
    Bool(bool),
    /// A longer integer, in decimal or with `0x`.
    Wide {
        /// Its digits.
        digits: String,
        /// All of them, where some are left out.
        length: Option<u64>,
    },
    /// A float.
    Float(f64),
    /// Text.
    Text {
        /// The text.
        text: String,
        /// Bytes of all of it, where some are left out.
        length: Option<u64>,
    },
    /// Text with lone surrogates or other damage, as its bytes.
    Damaged {
        /// The bytes.
        bytes: Vec<u8>,
        /// All of them, where some are left out.
        length: Option<u64>,
    },
    /// Bytes.
    Bytes {
        /// The bytes.
        bytes: Vec<u8>,
        /// All of them, where some are left out.
        length: Option<u64>,
        /// Whether they are a `bytearray`.
        array: bool,
    },
}

impl Serialize for DisasmArg {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cut = |key: &'static str, text: String, length: &Option<u64>| {
            let length = length.map(|length| ("length", length.into()));
            std::iter::once((key, serde_json::Value::from(text))).chain(length)
        };
        match self {
            Self::Int(n) => match (i64::try_from(*n), u64::try_from(*n)) {
                (Ok(n), _) => serializer.serialize_i64(n),
                (_, Ok(n)) => serializer.serialize_u64(n),
                _ => serializer.collect_map(cut("int", n.to_string(), &None)),
            },
            Self::Bool(b) => serializer.serialize_bool(*b),
            Self::Float(x) if x.is_finite() => serializer.serialize_f64(*x),
            Self::Float(x) => serializer.collect_map(cut("float", x.to_string().to_ascii_lowercase(), &None)),
            Self::Text { text, length: None } => serializer.serialize_str(text),
            Self::Text { text, length } => serializer.collect_map(cut("text", text.clone(), length)),
            Self::Wide { digits, length } => serializer.collect_map(cut("int", digits.clone(), length)),
            Self::Damaged { bytes, length } => {
                serializer.collect_map(cut("utf8", crate::bytes::hex(bytes), length))
            }
            Self::Bytes { bytes, length, .. } => {
                serializer.collect_map(cut("bytes", crate::bytes::hex(bytes), length))
            }
        }
    }
}
