//! The sidecar: values that are no tensors, as the JSON document that `docs/metadata.md` describes.
//!
//! It is written from front to back, value by value, in memory that does not depend on how large a value is. Nothing
//! recurses: what stands too deep for the readers of JSON is written behind the rest and referred to. So is what is
//! shared, after its first time, so that the document cannot grow beyond some hundred times the pickle.

mod places;
mod sink;

use std::collections::VecDeque;

use crate::bytes::length;
use crate::tensor::{EntryId, Streams, TensorId, Tree};
use crate::values::{Data, Name, Object, Value, ValueId, Values};

use self::places::shortened;
use self::sink::Sink;
use super::{Digest, Error, ErrorKind, Staged};

/// The value of `schema`.
const SCHEMA: &str = "depickle-metadata/1";
/// Levels of JSON beyond which a value is written behind the rest: some readers stop at 128.
const DEEP: usize = 90;
/// Bytes of text and names that are written again where they are met again.
const SHORT: u64 = 32;
/// Bytes of a key that may be the name of a JSON field, and of a class that is written in place.
const NAME: usize = 256;

/// What the values of a source refer to.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Where long values lie.
    pub streams: &'a Streams,
    /// The places of tensors.
    pub tree: &'a Tree,
    /// The name of a tensor in the output, if it is there.
    pub name_of: &'a dyn Fn(TensorId) -> Option<&'a str>,
    /// Position of the source that a place is in, and the steps to it from the root of that.
    pub place_of: &'a dyn Fn(EntryId) -> (usize, Vec<String>),
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

/// A document of values that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sidecar {
    /// Bytes.
    pub size: u64,
    /// Of the whole file.
    pub sha256: Digest,
}

/// Writes the values of each pickle.
///
/// # Errors
/// [`ErrorKind::Write`], [`ErrorKind::Source`].
pub fn write_values<'a>(
    target: &'a Staged,
    pickles: &'a [Values],
    around: Surroundings<'a>,
) -> Result<Sidecar, Error> {
    let write = || {
        let mut sink = Sink::new(target.file(), around.streams);
        sink.put("{\n  \"schema\": ")?;
        sink.json(SCHEMA)?;
        sink.put(",\n  \"pickles\": [")?;
        let mut next = 0;
        for (i, values) in pickles.iter().enumerate() {
            sink.item(i == 0)?;
            let mut writer = Writer::new(&mut sink, values, around, next);
            writer.pickle()?;
            next = writer.next;
        }
        sink.put("]}")?;
        sink.finish()
    };
    write().map_err(|kind| Error { path: target.target().to_owned(), kind })
}

/// What is still to be written, the next last.
#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Put(&'static str),
    Value(ValueId),
    Class(ValueId),
    Args(ValueId),
    Items(&'a [ValueId], bool),
    Pairs(&'a [(ValueId, ValueId)], bool),
    Fields(&'a [(ValueId, ValueId)], bool),
    Data(&'a Data),
    /// What stood too deep.
    Deferred(bool),
}

struct Writer<'a, 'b> {
    sink: &'b mut Sink<'a>,
    values: &'a Values,
    around: Surroundings<'a>,
    /// Whether a value is referred to more than once.
    shared: Vec<bool>,
    /// The number of each value that has one.
    ids: Vec<Option<u64>>,
    next: u64,
    stack: Vec<Step<'a>>,
    deferred: VecDeque<ValueId>,
}

impl<'a, 'b> Writer<'a, 'b> {
    fn new(sink: &'b mut Sink<'a>, values: &'a Values, around: Surroundings<'a>, next: u64) -> Self {
        let count = values.values.len();
        let (mut seen, mut shared) = (vec![false; count], vec![false; count]);
        let mut refer = |id: ValueId| {
            if let (Some(seen), Some(shared)) = (seen.get_mut(id.index()), shared.get_mut(id.index())) {
                *shared |= std::mem::replace(seen, true);
            }
        };
        refer(Values::ROOT);
        values.values.iter().for_each(|value| value.children(&mut refer));
        let (ids, stack) = (vec![None; count], Vec::new());
        Self { sink, values, around, shared, ids, next, stack, deferred: VecDeque::new() }
    }

    fn pickle(&mut self) -> Result<(), ErrorKind> {
        let (_, path) = (self.around.place_of)(self.values.at);
        self.sink.put("{\"source\": ")?;
        self.sink.json(&self.values.file)?;
        self.sink.put(", \"entry\": ")?;
        self.sink.json(&self.values.entry)?;
        self.sink.put(", \"path\": ")?;
        self.sink.json(&shortened(path))?;
        self.sink.put(", \"value\": ")?;
        self.push(&[
            Step::Value(Values::ROOT),
            Step::Put(", \"objects\": ["),
            Step::Deferred(true),
            Step::Put("]}"),
        ]);
        while let Some(step) = self.stack.pop() {
            self.step(step)?;
        }
        Ok(())
    }

    /// What comes next, in this order.
    fn push(&mut self, steps: &[Step<'a>]) {
        self.stack.extend(steps.iter().rev());
    }

    fn step(&mut self, step: Step<'a>) -> Result<(), ErrorKind> {
        match step {
            Step::Put(text) => self.sink.put(text),
            Step::Value(id) => self.value(id),
            Step::Class(id) => self.class(id),
            Step::Args(id) => self.args(id),
            Step::Data(data) => self.sink.base64(data),
            Step::Items(items, first) => {
                let Some((item, rest)) = items.split_first() else { return Ok(()) };
                self.sink.item(first)?;
                self.push(&[Step::Value(*item), Step::Items(rest, false)]);
                Ok(())
            }
            Step::Pairs(pairs, first) => {
                let Some(((key, value), rest)) = pairs.split_first() else { return Ok(()) };
                self.sink.item(first)?;
                let (key, value) = (Step::Value(*key), Step::Value(*value));
                self.push(&[
                    Step::Put("["),
                    key,
                    Step::Put(", "),
                    value,
                    Step::Put("]"),
                    Step::Pairs(rest, false),
                ]);
                Ok(())
            }
            Step::Fields(fields, first) => {
                let Some(((key, value), rest)) = fields.split_first() else { return Ok(()) };
                self.sink.item(first)?;
                if let Value::Text(key) = self.values.value(*key) {
                    self.sink.json(key)?;
                }
                self.push(&[Step::Put(": "), Step::Value(*value), Step::Fields(rest, false)]);
                Ok(())
            }
            Step::Deferred(first) => {
                let Some(id) = self.deferred.pop_front() else { return Ok(()) };
                self.sink.item(first)?;
                self.stack.push(Step::Deferred(false));
                let number = self.ids.get(id.index()).copied().flatten();
                self.define(id, number)
            }
        }
    }

    fn value(&mut self, id: ValueId) -> Result<(), ErrorKind> {
        if let Some(number) = self.ids.get(id.index()).copied().flatten() {
            return self.refer(number);
        }
        let value = self.values.value(id);
        if is_nested(value) && self.sink.depth() >= DEEP {
            let number = self.number(id);
            self.deferred.push_back(id);
            return self.refer(number);
        }
        let shared = self.shared.get(id.index()).copied().unwrap_or(false);
        let number = (shared && is_referred_to(value)).then(|| self.number(id));
        self.define(id, number)
    }

    fn number(&mut self, id: ValueId) -> u64 {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        if let Some(slot) = self.ids.get_mut(id.index()) {
            *slot = Some(number);
        }
        number
    }

    fn refer(&mut self, number: u64) -> Result<(), ErrorKind> {
        self.sink.put("{\"type\": \"ref\", \"id\": ")?;
        self.sink.json(&number)?;
        self.sink.put("}")
    }

    /// Writes a value, under a number if it has one.
    fn define(&mut self, id: ValueId, number: Option<u64>) -> Result<(), ErrorKind> {
        let value = self.values.value(id);
        match value {
            Value::None => self.sink.json(&()),
            Value::Bool(value) => self.sink.json(value),
            Value::Int(value) => self.int(*value),
            Value::BigInt(bytes) => {
                self.open("int", number)?;
                self.sink.put(", \"value\": ")?;
                self.sink.json(&hexadecimal(bytes))?;
                self.sink.put("}")
            }
            Value::Float(value) if value.is_finite() => self.sink.float(*value),
            Value::Float(value) => self.special(*value),
            Value::Text(text) => self.text(number, |sink| sink.json(text)),
            Value::LongText(data) if self.sink.is_text(data)?.0 => self.text(number, |sink| sink.text(data)),
            Value::LongText(data) => self.bytes("str", number, data),
            Value::OldText(data) if self.sink.is_text(data)?.1 => self.text(number, |sink| sink.text(data)),
            Value::OldText(data) => self.bytes("str2", number, data),
            Value::Bytes(data) => self.bytes("bytes", number, data),
            Value::ByteArray(data) => self.bytes("bytearray", number, data),
            Value::List(items) if number.is_none() => {
                self.sink.put("[")?;
                self.push(&[Step::Items(items, true), Step::Put("]")]);
                Ok(())
            }
            Value::List(items) => self.items("list", number, items),
            Value::Tuple(items) => self.items("tuple", number, items),
            Value::Set(items) => self.items("set", number, items),
            Value::FrozenSet(items) => self.items("frozenset", number, items),
            Value::Dict(entries) => {
                self.open("dict", number)?;
                let [open, entries, close] = self.entries(entries);
                self.push(&[open, entries, close, Step::Put("}")]);
                Ok(())
            }
            Value::Global(name) => {
                self.open("global", number)?;
                self.sink.put(", \"name\": ")?;
                self.sink.json(&spelled(name))?;
                self.sink.put("}")
            }
            Value::Object(object) => self.object(object, number),
            Value::Tensor(tensor) => self.tensor(tensor, number),
            Value::Persistent(pid) => {
                self.open("persistent", number)?;
                self.push(&[Step::Put(", \"pid\": "), Step::Value(*pid), Step::Put("}")]);
                Ok(())
            }
        }
    }

    fn open(&mut self, kind: &'static str, number: Option<u64>) -> Result<(), ErrorKind> {
        self.sink.put("{\"type\": ")?;
        self.sink.json(kind)?;
        if let Some(number) = number {
            self.sink.put(", \"id\": ")?;
            self.sink.json(&number)?;
        }
        Ok(())
    }

    fn int(&mut self, value: i64) -> Result<(), ErrorKind> {
        /// Up to here every reader of JSON keeps integers exactly.
        const EXACT: u64 = (1 << 53) - 1;
        if value.unsigned_abs() <= EXACT {
            return self.sink.json(&value);
        }
        self.open("int", None)?;
        self.sink.put(", \"value\": ")?;
        self.sink.json(&value.to_string())?;
        self.sink.put("}")
    }

    /// Infinities and NaN, which JSON has no form for; a NaN of another payload than Python's own with its bits.
    fn special(&mut self, value: f64) -> Result<(), ErrorKind> {
        let name = match value {
            f64::INFINITY => "inf",
            f64::NEG_INFINITY => "-inf",
            _ => "nan",
        };
        self.open("float", None)?;
        self.sink.put(", \"value\": ")?;
        self.sink.json(name)?;
        if value.is_nan() && value.to_bits() != f64::NAN.to_bits() {
            self.sink.put(", \"bits\": ")?;
            self.sink.json(&format!("{:016x}", value.to_bits()))?;
        }
        self.sink.put("}")
    }

    fn text(
        &mut self,
        number: Option<u64>,
        write: impl FnOnce(&mut Sink<'a>) -> Result<(), ErrorKind>,
    ) -> Result<(), ErrorKind> {
        if number.is_none() {
            return write(self.sink);
        }
        self.open("str", number)?;
        self.sink.put(", \"value\": ")?;
        write(self.sink)?;
        self.sink.put("}")
    }

    fn bytes(&mut self, kind: &'static str, number: Option<u64>, data: &Data) -> Result<(), ErrorKind> {
        self.open(kind, number)?;
        self.sink.put(", \"base64\": ")?;
        self.sink.base64(data)?;
        self.sink.put("}")
    }

    fn items(
        &mut self,
        kind: &'static str,
        number: Option<u64>,
        items: &'a [ValueId],
    ) -> Result<(), ErrorKind> {
        self.open(kind, number)?;
        self.push(&[Step::Put(", \"items\": ["), Step::Items(items, true), Step::Put("]}")]);
        Ok(())
    }

    /// The entries of a dictionary: as the fields of an object where all keys are plain text, as pairs otherwise.
    fn entries(&self, entries: &'a [(ValueId, ValueId)]) -> [Step<'a>; 3] {
        let plain = |key: ValueId| {
            // JavaScript puts keys that are numbers first.
            matches!(self.values.value(key), Value::Text(text)
                if text.len() <= NAME && !text.starts_with(|c: char| c.is_ascii_digit()))
        };
        if entries.iter().all(|(key, _)| plain(*key)) {
            [Step::Put(", \"entries\": {"), Step::Fields(entries, true), Step::Put("}")]
        } else {
            [Step::Put(", \"pairs\": ["), Step::Pairs(entries, true), Step::Put("]")]
        }
    }

    fn object(&mut self, object: &'a Object, number: Option<u64>) -> Result<(), ErrorKind> {
        self.open("object", number)?;
        let mut steps = vec![
            Step::Put(if object.new { ", \"new\": " } else { ", \"call\": " }),
            Step::Class(object.class),
            Step::Put(", \"args\": "),
            Step::Args(object.args),
        ];
        if let Some(kwargs) = object.kwargs {
            steps.extend([Step::Put(", \"kwargs\": "), Step::Value(kwargs)]);
        }
        if !object.items.is_empty() {
            steps.extend([Step::Put(", \"items\": ["), Step::Items(&object.items, true), Step::Put("]")]);
        }
        if !object.entries.is_empty() {
            steps.extend(self.entries(&object.entries));
        }
        steps.extend(states(&object.states));
        if let Some(data) = &object.data {
            steps.extend([Step::Put(", \"base64\": "), Step::Data(data)]);
        }
        if let Some(nested) = object.nested {
            steps.extend([Step::Put(", \"nested\": "), Step::Value(nested)]);
        }
        steps.push(Step::Put("}"));
        self.push(&steps);
        Ok(())
    }

    fn class(&mut self, id: ValueId) -> Result<(), ErrorKind> {
        match self.values.value(id) {
            Value::Global(name) if name.module.len().saturating_add(name.name.len()) <= NAME => {
                self.sink.json(&spelled(name))
            }
            _ => self.value(id),
        }
    }

    fn args(&mut self, id: ValueId) -> Result<(), ErrorKind> {
        let shared = self.shared.get(id.index()).copied().unwrap_or(true);
        match self.values.value(id) {
            Value::Tuple(items) if items.is_empty() || !shared => {
                self.sink.put("[")?;
                self.push(&[Step::Items(items, true), Step::Put("]")]);
                Ok(())
            }
            _ => self.value(id),
        }
    }
}

fn states(states: &[ValueId]) -> Vec<Step<'_>> {
    match states {
        [] => Vec::new(),
        [state] => vec![Step::Put(", \"state\": "), Step::Value(*state)],
        states => vec![Step::Put(", \"states\": ["), Step::Items(states, true), Step::Put("]")],
    }
}

/// Whether a value holds others.
fn is_nested(value: &Value) -> bool {
    let mut nested = false;
    value.children(&mut |_| nested = true);
    nested
}

/// Whether a value that is met again is referred to: all that can change, and all that is long.
fn is_referred_to(value: &Value) -> bool {
    match value {
        Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => false,
        Value::Text(text) => length(text.len()) > SHORT,
        Value::BigInt(bytes) => length(bytes.len()) > SHORT,
        Value::Bytes(data) | Value::LongText(data) | Value::OldText(data) => data.len() > SHORT,
        Value::Tuple(items) | Value::FrozenSet(items) => !items.is_empty(),
        Value::Global(name) => length(name.module.len().saturating_add(name.name.len())) > SHORT,
        _ => true,
    }
}

/// As Python's `pkgutil.resolve_name` takes it.
fn spelled(name: &Name) -> String {
    format!("{}:{}", name.module, name.name)
}

/// A two's complement, little-endian, with its sign.
fn hexadecimal(bytes: &[u8]) -> String {
    let negative = bytes.last().is_some_and(|byte| *byte >= 0x80);
    let mut magnitude: Vec<u8> = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in &mut magnitude {
            let (negated, over) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (negated, over);
        }
    }
    magnitude.reverse();
    let digits = crate::bytes::hex(&magnitude);
    let digits = digits.trim_start_matches('0');
    format!("{}0x{}", if negative { "-" } else { "" }, if digits.is_empty() { "0" } else { digits })
}
