//! A pickle assembler: `asm![Proto(2), Global("os", "system"), …, Stop]` gives the bytes. What an opcode does not
//! express (a wrong length, an unknown byte) is written with `Raw`; whole parts are spliced in as they are.

/// Every opcode of protocols 0 to 5, under its name in `pickletools`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Op<'a> {
    Proto(u8),
    Frame(u64),
    Stop,
    Mark,
    Pop,
    PopMark,
    Dup,
    PyNone,
    NewTrue,
    NewFalse,
    Int(&'a str),
    BinInt(i32),
    BinInt1(u8),
    BinInt2(u16),
    Long(&'a str),
    Long1(&'a [u8]),
    Long4(&'a [u8]),
    Float(&'a str),
    BinFloat(f64),
    /// `STRING`; the quotes are the caller's.
    Quoted(&'a [u8]),
    BinString(&'a [u8]),
    ShortBinString(&'a [u8]),
    BinBytes(&'a [u8]),
    ShortBinBytes(&'a [u8]),
    BinBytes8(&'a [u8]),
    ByteArray8(&'a [u8]),
    NextBuffer,
    ReadonlyBuffer,
    Unicode(&'a [u8]),
    ShortBinUnicode(&'a str),
    BinUnicode(&'a str),
    BinUnicode8(&'a str),
    EmptyList,
    Append,
    Appends,
    List,
    EmptyTuple,
    Tuple,
    Tuple1,
    Tuple2,
    Tuple3,
    EmptyDict,
    Dict,
    SetItem,
    SetItems,
    EmptySet,
    AddItems,
    FrozenSet,
    Get(&'a str),
    BinGet(u8),
    LongBinGet(u32),
    Put(&'a str),
    BinPut(u8),
    LongBinPut(u32),
    Memoize,
    Ext1(u8),
    Ext2(u16),
    Ext4(i32),
    Global(&'a str, &'a str),
    StackGlobal,
    Reduce,
    Build,
    Inst(&'a str, &'a str),
    Obj,
    NewObj,
    NewObjEx,
    PersId(&'a str),
    BinPersId,
    /// Bytes as they are.
    Raw(&'a [u8]),
}

use Op::*;

/// What can stand in `asm!`.
pub(crate) trait Emit {
    fn emit(&self, out: &mut Vec<u8>);
}

impl Emit for Op<'_> {
    fn emit(&self, out: &mut Vec<u8>) {
        match *self {
            Proto(n) => fixed(out, 0x80, &[n]),
            Frame(n) => fixed(out, 0x95, &n.to_le_bytes()),
            Stop => out.push(b'.'),
            Mark => out.push(b'('),
            Pop => out.push(b'0'),
            PopMark => out.push(b'1'),
            Dup => out.push(b'2'),
            PyNone => out.push(b'N'),
            NewTrue => out.push(0x88),
            NewFalse => out.push(0x89),
            Int(line) => lines(out, b'I', &[line.as_bytes()]),
            BinInt(n) => fixed(out, b'J', &n.to_le_bytes()),
            BinInt1(n) => fixed(out, b'K', &[n]),
            BinInt2(n) => fixed(out, b'M', &n.to_le_bytes()),
            Long(line) => lines(out, b'L', &[line.as_bytes()]),
            Long1(bytes) => sized(out, 0x8a, 1, bytes),
            Long4(bytes) => sized(out, 0x8b, 4, bytes),
            Float(line) => lines(out, b'F', &[line.as_bytes()]),
            BinFloat(x) => fixed(out, b'G', &x.to_be_bytes()),
            Quoted(line) => lines(out, b'S', &[line]),
            BinString(bytes) => sized(out, b'T', 4, bytes),
            ShortBinString(bytes) => sized(out, b'U', 1, bytes),
            BinBytes(bytes) => sized(out, b'B', 4, bytes),
            ShortBinBytes(bytes) => sized(out, b'C', 1, bytes),
            BinBytes8(bytes) => sized(out, 0x8e, 8, bytes),
            ByteArray8(bytes) => sized(out, 0x96, 8, bytes),
            NextBuffer => out.push(0x97),
            ReadonlyBuffer => out.push(0x98),
            Unicode(line) => lines(out, b'V', &[line]),
            ShortBinUnicode(text) => sized(out, 0x8c, 1, text.as_bytes()),
            BinUnicode(text) => sized(out, b'X', 4, text.as_bytes()),
            BinUnicode8(text) => sized(out, 0x8d, 8, text.as_bytes()),
            EmptyList => out.push(b']'),
            Append => out.push(b'a'),
            Appends => out.push(b'e'),
            List => out.push(b'l'),
            EmptyTuple => out.push(b')'),
            Tuple => out.push(b't'),
            Tuple1 => out.push(0x85),
            Tuple2 => out.push(0x86),
            Tuple3 => out.push(0x87),
            EmptyDict => out.push(b'}'),
            Dict => out.push(b'd'),
            SetItem => out.push(b's'),
            SetItems => out.push(b'u'),
            EmptySet => out.push(0x8f),
            AddItems => out.push(0x90),
            FrozenSet => out.push(0x91),
            Get(line) => lines(out, b'g', &[line.as_bytes()]),
            BinGet(n) => fixed(out, b'h', &[n]),
            LongBinGet(n) => fixed(out, b'j', &n.to_le_bytes()),
            Put(line) => lines(out, b'p', &[line.as_bytes()]),
            BinPut(n) => fixed(out, b'q', &[n]),
            LongBinPut(n) => fixed(out, b'r', &n.to_le_bytes()),
            Memoize => out.push(0x94),
            Ext1(n) => fixed(out, 0x82, &[n]),
            Ext2(n) => fixed(out, 0x83, &n.to_le_bytes()),
            Ext4(n) => fixed(out, 0x84, &n.to_le_bytes()),
            Global(module, name) => lines(out, b'c', &[module.as_bytes(), name.as_bytes()]),
            StackGlobal => out.push(0x93),
            Reduce => out.push(b'R'),
            Build => out.push(b'b'),
            Inst(module, name) => lines(out, b'i', &[module.as_bytes(), name.as_bytes()]),
            Obj => out.push(b'o'),
            NewObj => out.push(0x81),
            NewObjEx => out.push(0x92),
            PersId(line) => lines(out, b'P', &[line.as_bytes()]),
            BinPersId => out.push(b'Q'),
            Raw(bytes) => out.extend_from_slice(bytes),
        }
    }
}

fn fixed(out: &mut Vec<u8>, code: u8, argument: &[u8]) {
    out.push(code);
    out.extend_from_slice(argument);
}

fn lines(out: &mut Vec<u8>, code: u8, lines: &[&[u8]]) {
    out.push(code);
    for line in lines {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
}

fn sized(out: &mut Vec<u8>, code: u8, width: usize, bytes: &[u8]) {
    out.push(code);
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes()[..width]);
    out.extend_from_slice(bytes);
}

impl Emit for Vec<u8> {
    fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl<T: Emit + ?Sized> Emit for &T {
    fn emit(&self, out: &mut Vec<u8>) {
        (*self).emit(out);
    }
}

/// The bytes of opcodes, and of parts assembled before.
macro_rules! asm {
    ($($op:expr),* $(,)?) => {{
        #[allow(unused_mut)]
        let mut out = Vec::<u8>::new();
        $($crate::asm::Emit::emit(&$op, &mut out);)*
        out
    }};
}

/// One object.
pub(crate) type Part = Vec<u8>;

/// A whole pickle as torch writes it: protocol 2 around one object.
pub(crate) fn pickle(object: &[u8]) -> Vec<u8> {
    asm![Proto(2), Raw(object), Stop]
}

pub(crate) fn int(n: i64) -> Part {
    if let Ok(n) = i32::try_from(n) { asm![BinInt(n)] } else { asm![Long1(&n.to_le_bytes())] }
}

pub(crate) fn text(text: &str) -> Part {
    asm![BinUnicode(text)]
}

pub(crate) fn tuple(items: &[Part]) -> Part {
    asm![Mark, items.concat(), Tuple]
}

pub(crate) fn list(items: &[Part]) -> Part {
    asm![EmptyList, Mark, items.concat(), Appends]
}

pub(crate) fn ints(numbers: &[i64]) -> Part {
    tuple(&numbers.iter().map(|n| int(*n)).collect::<Vec<_>>())
}

pub(crate) fn global(module: &str, name: &str) -> Part {
    asm![Global(module, name)]
}

pub(crate) fn reduce(module: &str, name: &str, args: &[Part]) -> Part {
    asm![Global(module, name), tuple(args), Reduce]
}

pub(crate) fn new_object(module: &str, name: &str, state: &Part) -> Part {
    asm![Global(module, name), EmptyTuple, NewObj, state, Build]
}

pub(crate) fn pairs(items: &[(&str, Part)]) -> Part {
    items.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect()
}

pub(crate) fn dict(items: &[(&str, Part)]) -> Part {
    asm![EmptyDict, Mark, pairs(items), SetItems]
}

pub(crate) fn ordered_dict(items: &[(&str, Part)]) -> Part {
    asm![reduce("collections", "OrderedDict", &[]), Mark, pairs(items), SetItems]
}

/// `OrderedDict()`, as every rebuilt tensor has it for its hooks.
pub(crate) fn no_hooks() -> Part {
    reduce("collections", "OrderedDict", &[])
}

/// `("storage", class, key, location, count)` as a persistent id.
pub(crate) fn storage_at(module: &str, class: &str, key: &str, location: &str, count: i64) -> Part {
    let id = [text("storage"), global(module, class), text(key), text(location), int(count)];
    asm![tuple(&id), BinPersId]
}

pub(crate) fn storage(class: &str, key: &str, count: i64) -> Part {
    storage_at("torch", class, key, "cpu", count)
}

/// `torch._utils._rebuild_tensor_v2` over a storage.
pub(crate) fn tensor_of(storage: &Part, offset: i64, shape: &[i64], strides: &[i64]) -> Part {
    let args = [storage.clone(), int(offset), ints(shape), ints(strides), asm![NewFalse], no_hooks()];
    reduce("torch._utils", "_rebuild_tensor_v2", &args)
}

/// A vector of floats that fills the storage of its key.
pub(crate) fn tensor(key: &str, count: i64) -> Part {
    tensor_of(&storage("FloatStorage", key, count), 0, &[count], &[1])
}

/// What `module.state_dict()` pickles to: an `OrderedDict` with an attribute `_metadata`.
pub(crate) fn state_dict(items: &[(&str, Part)]) -> Part {
    asm![
        ordered_dict(items),
        dict(&[("_metadata", ordered_dict(&[("", dict(&[("version", int(1))]))]))]),
        Build
    ]
}
