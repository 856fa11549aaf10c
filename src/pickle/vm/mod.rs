//! The machine: a stack, a separate stack of marks, a memo of handles, and no way to call anything.

mod calls;
mod memo;
mod stack;
mod values;

use std::sync::Arc;

use crate::bytes::{Cursor, Offset, Span, length};
use crate::limits::{LimitKind, Limits, check};

use super::decode::{Arg, Op, decode};
use super::error::{Anomaly, AnomalyKind, Error, ErrorKind};
use super::graph::{Graph, Node, NodeId, Payload};
use super::opcode::code;

use self::memo::Memo;

/// Why the machine paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// `STOP`: the pickle is complete and this is its object.
    Stop(NodeId),
    /// A `BUILD` was recorded on this object. Only where pauses were asked for: raw bytes may follow.
    Built(NodeId),
}

/// Runs one pickle.
pub struct Vm<'a> {
    cursor: Cursor<'a>,
    limits: &'a Limits,
    start: u64,
    pause_after_build: bool,
    lenient: bool,
    /// Where the current pickle begins: the whole, or one that stands between its opcodes.
    begin: u64,
    /// The protocol that the current pickle declares.
    protocol: u8,
    suspended: Option<Box<Suspended>>,
    graph: Graph,
    stack: Vec<NodeId>,
    marks: Vec<usize>,
    memo: Memo,
    operations: u64,
    string_bytes: u64,
    frame_end: Option<u64>,
    done: bool,
}

impl std::fmt::Debug for Vm<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vm").field("cursor", &self.cursor).field("graph", &self.graph).finish_non_exhaustive()
    }
}

/// A pickle that waits for the end of the one between its opcodes.
#[derive(Default)]
struct Suspended {
    stack: Vec<NodeId>,
    marks: Vec<usize>,
    memo: Memo,
    begin: u64,
    protocol: u8,
    built: Option<NodeId>,
}

type Done = Result<(), ErrorKind>;

/// The smallest and largest integers that share a node; sizes, offsets and flags are mostly among them.
const SHARED_INTS: std::ops::Range<i64> = 0..256;
const NONE: NodeId = NodeId(0);
const FALSE: NodeId = NodeId(1);
const TRUE: NodeId = NodeId(2);
const EMPTY_TUPLE: NodeId = NodeId(3);
const FIRST_INT: u32 = 4;

impl<'a> Vm<'a> {
    /// A machine at the first byte of `cursor`.
    pub fn new(cursor: Cursor<'a>, limits: &'a Limits) -> Self {
        let mut graph = Graph::default();
        graph.nodes.extend([Node::None, Node::Bool(false), Node::Bool(true), Node::Tuple(Box::new([]))]);
        graph.nodes.extend(SHARED_INTS.map(Node::Int));
        let cursor_start = cursor.position().0;
        Self {
            start: cursor_start,
            cursor,
            limits,
            pause_after_build: false,
            lenient: false,
            begin: cursor_start,
            protocol: 0,
            suspended: None,
            graph,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Memo::default(),
            operations: 0,
            string_bytes: 0,
            frame_end: None,
            done: false,
        }
    }

    /// Pauses with [`Event::Built`] after each `BUILD` on the result of a call.
    #[must_use]
    pub fn pause_after_build(mut self) -> Self {
        self.pause_after_build = true;
        self
    }

    /// Goes on wherever some reader of pickles might: what it cannot carry out is recorded as an [`Anomaly`] and has no
    /// effect. For scans; nothing may be built on the graph.
    #[must_use]
    pub fn lenient(mut self) -> Self {
        self.lenient = true;
        self
    }

    /// Runs until `STOP`, or until the next `BUILD` where that was asked for.
    ///
    /// # Errors
    /// What is wrong and where, from the start of the pickle. The graph keeps all that came before; the machine does
    /// not go on after an error.
    pub fn run(&mut self) -> Result<Event, Error> {
        loop {
            let op = self.next_op()?;
            if let Some(event) = self.carry_out(op)? {
                return Ok(event);
            }
        }
    }

    /// Decodes the next opcode, which is then to be carried out.
    ///
    /// # Errors
    /// As [`Vm::run`].
    pub fn next_op(&mut self) -> Result<Op, Error> {
        if self.done {
            let left = ErrorKind::Read(crate::bytes::ErrorKind::Truncated { wanted: 1, left: 0 });
            return Err(self.error(self.cursor.position(), "?", left));
        }
        decode(&mut self.cursor).map_err(|error| {
            self.done = true;
            self.error(error.offset, error.op, error.kind)
        })
    }

    /// Carries out the opcode that was just decoded.
    ///
    /// # Errors
    /// As [`Vm::run`].
    pub fn carry_out(&mut self, op: Op) -> Result<Option<Event>, Error> {
        let (offset, name) = (op.offset, op.opcode.name);
        match self.spend(&op).and_then(|()| self.step(op)).or_else(|kind| self.pardon(offset, kind)) {
            Ok(event) => {
                self.done = matches!(event, Some(Event::Stop(_)));
                Ok(event)
            }
            Err(kind) => {
                self.done = true;
                Err(self.error(offset, name, kind))
            }
        }
    }

    /// Items on the stack, and open marks among them.
    pub fn depth(&self) -> (usize, usize) {
        (self.stack.len(), self.marks.len())
    }

    /// The object on top of the stack, if the current mark lets it be reached.
    pub fn top_object(&self) -> Option<NodeId> {
        self.top().ok()
    }

    /// Entries in the memo: the key that `MEMOIZE` would store under.
    pub fn memo_len(&self) -> usize {
        self.memo.len()
    }

    /// Passes over raw bytes that stand between opcodes, and records them on the object just built.
    ///
    /// # Errors
    /// Where fewer bytes are left.
    pub fn skip_raw(&mut self, built: NodeId, n: u64) -> Result<Span, Error> {
        let at = self.cursor.position();
        let span = self.cursor.skip(n).map_err(|e| self.error(at, "raw data", e.kind.into()))?;
        if let Some(Node::Call(call)) = self.graph.nodes.get_mut(built.index()) {
            call.more().raw = Some(span);
        }
        self.frame_end = None;
        Ok(span)
    }

    /// Takes what follows as a complete pickle of its own, with its own stack and memo, whose object belongs to the one
    /// just built. Its nodes join the graph; there is no pause in it, and none stands inside it.
    pub fn nest(&mut self, built: NodeId) {
        let outer = Suspended {
            stack: std::mem::take(&mut self.stack),
            marks: std::mem::take(&mut self.marks),
            memo: std::mem::take(&mut self.memo),
            begin: std::mem::replace(&mut self.begin, self.cursor.position().0),
            protocol: std::mem::take(&mut self.protocol),
            built: Some(built),
        };
        self.suspended.get_or_insert_with(|| Box::new(outer));
        self.frame_end = None;
    }

    /// Goes on with the pickle that waited, if one did.
    fn resume(&mut self, root: NodeId) -> bool {
        let Some(outer) = self.suspended.take() else { return false };
        self.stack = outer.stack;
        self.marks = outer.marks;
        self.memo = outer.memo;
        self.begin = outer.begin;
        self.protocol = outer.protocol;
        self.frame_end = None;
        let built = outer.built.and_then(|built| self.graph.nodes.get_mut(built.index()));
        if let Some(Node::Call(call)) = built {
            call.more().nested = Some(root);
        }
        true
    }

    /// Position of the next opcode, absolute in the stream; after `STOP`, the end of the pickle.
    pub fn position(&self) -> Offset {
        self.cursor.position()
    }

    /// What was built so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What was built, also after an error.
    pub fn into_graph(self) -> Graph {
        self.graph
    }

    fn error(&self, absolute: Offset, op: &'static str, kind: ErrorKind) -> Error {
        Error { offset: self.relative(absolute), op, kind }
    }

    fn relative(&self, absolute: Offset) -> Offset {
        Offset(absolute.0.saturating_sub(self.start))
    }

    /// Takes the cost of an opcode from the budget before it is carried out.
    fn spend(&mut self, op: &Op) -> Done {
        self.operations = self.operations.saturating_add(1);
        check(LimitKind::Operations, self.limits.operations, self.operations)?;
        self.spend_text(op.arg.memory())?;
        check(LimitKind::Nodes, length(self.limits.nodes), length(self.graph.nodes.len()))?;
        let open = self.stack.len().saturating_add(self.marks.len());
        let growing =
            open >= self.limits.stack && self.marks.len() >= self.limits.stack.checked_div(2).unwrap_or(0);
        if growing || open >= self.limits.stack.saturating_mul(STACK_ITEMS_PER_MARK) {
            check(LimitKind::Stack, length(self.limits.stack), length(open))?;
        }
        if let Some(end) = self.frame_end
            && self.cursor.position().0 > end
        {
            if op.offset.0 < end {
                self.anomaly(op.offset, AnomalyKind::Frame);
            }
            self.frame_end = None;
        }
        Ok(())
    }

    fn spend_text(&mut self, bytes: u64) -> Done {
        self.string_bytes = self.string_bytes.saturating_add(bytes);
        Ok(check(LimitKind::StringBytes, self.limits.string_bytes, self.string_bytes)?)
    }

    fn anomaly(&mut self, absolute: Offset, kind: AnomalyKind) {
        /// One of a kind says all that a thousand would, but none may crowd out the first of another.
        const KEPT: usize = 64;
        let kept = &self.graph.anomalies;
        if kept.len() < KEPT || kept.iter().all(|other| other.kind != kind) {
            let offset = self.relative(absolute);
            self.graph.anomalies.push(Anomaly { offset, kind });
        }
    }

    /// What a lenient machine does about an error that not every reader would make of it.
    fn pardon(&mut self, offset: Offset, kind: ErrorKind) -> Result<Option<Event>, ErrorKind> {
        let anomaly = match kind {
            ErrorKind::Target { found: "global", .. } => AnomalyKind::ChangedName,
            ErrorKind::Target { .. } => AnomalyKind::Target,
            ErrorKind::Extension(_) => AnomalyKind::Extension,
            ErrorKind::OutOfBand => AnomalyKind::OutOfBand,
            ErrorKind::UnsupportedProtocol(_) => AnomalyKind::Newer,
            other => return Err(other),
        };
        if !self.lenient {
            return Err(kind);
        }
        self.anomaly(offset, anomaly);
        match kind {
            // Called, it is judged as a name that cannot be known.
            ErrorKind::Extension(number) => {
                let number = self.add(Node::Int(number))?;
                self.push(Node::Persistent(number))?;
            }
            ErrorKind::OutOfBand => self.push(Node::Bytes(Payload::Inline(Arc::new([]))))?,
            _ => {}
        }
        Ok(None)
    }

    /// Carries out one opcode: every arm is one line that calls a named method.
    fn step(&mut self, op: Op) -> Result<Option<Event>, ErrorKind> {
        let offset = op.offset;
        match op.opcode.code {
            code::PROTO => self.proto(offset, &op.arg)?,
            code::FRAME => self.frame(offset, &op.arg),
            code::STOP => return self.stop(offset),
            code::NONE => self.stack.push(NONE),
            code::NEWFALSE => self.stack.push(FALSE),
            code::NEWTRUE => self.stack.push(TRUE),
            code::BININT | code::BININT1 | code::BININT2 => self.push_int(&op.arg)?,
            code::INT | code::LONG | code::FLOAT => self.push_number(offset, op.opcode.code, &op.arg)?,
            code::LONG1 | code::LONG4 => self.push_long(offset, &op.arg)?,
            code::BINFLOAT => self.push_float(&op.arg)?,
            code::STRING => self.push_quoted(&op.arg)?,
            code::BINSTRING | code::SHORT_BINSTRING => self.push_bytes(op.arg, Node::Str2)?,
            code::BINBYTES | code::SHORT_BINBYTES | code::BINBYTES8 => {
                self.push_bytes(op.arg, Node::Bytes)?;
            }
            code::BYTEARRAY8 => self.push_bytes(op.arg, Node::ByteArray)?,
            code::UNICODE => self.push_raw_unicode(&op.arg)?,
            code::BINUNICODE | code::SHORT_BINUNICODE | code::BINUNICODE8 => self.push_text(&op.arg)?,
            code::EMPTY_LIST => self.push(Node::List(Vec::new()))?,
            code::EMPTY_TUPLE => self.stack.push(EMPTY_TUPLE),
            code::EMPTY_DICT => self.push(Node::Dict(Vec::new()))?,
            code::EMPTY_SET => self.push(Node::Set(Vec::new()))?,
            code::LIST => self.collect(Node::List)?,
            code::TUPLE => self.collect(|items| Node::Tuple(items.into()))?,
            code::FROZENSET => self.collect(|items| Node::FrozenSet(items.into()))?,
            code::DICT => self.collect_dict()?,
            code::TUPLE1 => self.tuple(1)?,
            code::TUPLE2 => self.tuple(2)?,
            code::TUPLE3 => self.tuple(3)?,
            code::APPEND => self.append_one()?,
            code::APPENDS => self.append_many()?,
            code::SETITEM => self.set_one()?,
            code::SETITEMS => self.set_many()?,
            code::ADDITEMS => self.add_many()?,
            code::MARK => self.marks.push(self.stack.len()),
            code::POP => self.pop_item_or_mark()?,
            code::POP_MARK => drop(self.take_to_mark()?),
            code::DUP => self.stack.push(self.top()?),
            code::PUT => self.put_line(offset, &op.arg)?,
            code::BINPUT | code::LONG_BINPUT => self.put(offset, &op.arg)?,
            code::MEMOIZE => self.store(offset, length(self.memo.len()))?,
            code::GET => self.get_line(offset, &op.arg)?,
            code::BINGET | code::LONG_BINGET => self.get(&op.arg)?,
            code::GLOBAL => self.global_lines(offset, &op.arg)?,
            code::STACK_GLOBAL => self.stack_global(offset)?,
            code::REDUCE => self.reduce(offset)?,
            code::NEWOBJ => self.newobj(offset)?,
            code::NEWOBJ_EX => self.newobj_ex(offset)?,
            code::OBJ => self.obj(offset)?,
            code::INST => self.inst(offset, &op.arg)?,
            code::BUILD => return self.build(),
            code::PERSID => self.persid_line(&op.arg)?,
            code::BINPERSID => self.persid()?,
            code::EXT1 | code::EXT2 | code::EXT4 => return Err(ErrorKind::Extension(int_arg(&op.arg))),
            code::READONLY_BUFFER if self.lenient => self.anomaly(offset, AnomalyKind::OutOfBand),
            code::NEXT_BUFFER | code::READONLY_BUFFER => return Err(ErrorKind::OutOfBand),
            other => return Err(ErrorKind::UnknownOpcode(other)),
        }
        Ok(None)
    }

    // Protocol and frames.

    fn proto(&mut self, offset: Offset, arg: &Arg) -> Done {
        /// The last protocol that Python defines.
        const NEWEST: u8 = 5;
        let protocol = u8::try_from(int_arg(arg)).unwrap_or(u8::MAX);
        if protocol > NEWEST {
            return Err(ErrorKind::UnsupportedProtocol(protocol));
        }
        if offset.0 != self.begin {
            self.anomaly(offset, AnomalyKind::Protocol);
        }
        self.protocol = protocol;
        if self.suspended.is_none() {
            self.graph.protocol = protocol;
        }
        Ok(())
    }

    /// Frames are advisory: `CPython`'s C reader ignores short and nested ones, its Python reader does not. Honest
    /// writers never make them, so they are recorded as ambiguous and otherwise have no effect.
    fn frame(&mut self, offset: Offset, arg: &Arg) {
        let declared = if let Arg::Length(n) = arg { *n } else { 0 };
        let fits = declared <= self.cursor.remaining();
        if self.frame_end.is_some_and(|end| offset.0 < end) || !fits {
            self.anomaly(offset, AnomalyKind::Frame);
        }
        self.frame_end = fits.then(|| self.cursor.position().0.saturating_add(declared));
    }

    fn stop(&mut self, offset: Offset) -> Result<Option<Event>, ErrorKind> {
        let root = self.pop()?;
        if !self.stack.is_empty() || !self.marks.is_empty() {
            self.anomaly(offset, AnomalyKind::StackLeft);
        }
        if self.frame_end.is_some_and(|end| end > self.cursor.position().0) {
            self.anomaly(offset, AnomalyKind::Frame);
        }
        Ok((!self.resume(root)).then_some(Event::Stop(root)))
    }
}

/// A list is pickled by pushing its items above one mark, a thousand at a time; protocol 0 to 1 tuples and lists are
/// pushed whole. Items may therefore be many more than marks.
const STACK_ITEMS_PER_MARK: usize = 64;
fn int_arg(arg: &Arg) -> i64 {
    if let Arg::Int(n) = arg { *n } else { 0 }
}

fn line_arg(arg: &Arg) -> &[u8] {
    if let Arg::Line(line) = arg { line } else { &[] }
}
