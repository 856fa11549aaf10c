//! The machine: a stack, a separate stack of marks, a memo of handles, and no way to call anything.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bytes::{Cursor, Offset, Span, index, length};
use crate::limits::{LimitKind, Limits, check};

use super::decode::{Arg, Op, decode};
use super::error::{Anomaly, AnomalyKind, Error, ErrorKind};
use super::graph::{Call, Given, Global, GlobalId, Graph, How, MemoId, Node, NodeId, Payload};
use super::opcode::code;
use super::{numbers, text};

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

    // Values.

    fn add(&mut self, node: Node) -> Result<NodeId, ErrorKind> {
        let id = u32::try_from(self.graph.nodes.len()).ok().filter(|id| *id != u32::MAX);
        let full = crate::limits::LimitExceeded {
            kind: LimitKind::Nodes,
            allowed: u64::from(u32::MAX),
            wanted: length(self.graph.nodes.len()),
        };
        self.graph.nodes.push(node);
        id.map(NodeId).ok_or(ErrorKind::Limit(full))
    }

    fn push(&mut self, node: Node) -> Done {
        let id = self.add(node)?;
        self.stack.push(id);
        Ok(())
    }

    fn push_node_or_shared(&mut self, node: Node) -> Done {
        match node {
            Node::Bool(true) => self.stack.push(TRUE),
            Node::Bool(false) => self.stack.push(FALSE),
            Node::Int(n) if SHARED_INTS.contains(&n) => {
                let offset = u32::try_from(n).unwrap_or(0);
                self.stack.push(NodeId(FIRST_INT.saturating_add(offset)));
            }
            other => self.push(other)?,
        }
        Ok(())
    }

    fn push_int(&mut self, arg: &Arg) -> Done {
        self.push_node_or_shared(Node::Int(int_arg(arg)))
    }

    fn push_number(&mut self, offset: Offset, opcode: u8, arg: &Arg) -> Done {
        let line = line_arg(arg);
        let parsed = match opcode {
            code::INT => numbers::int_line(line)?,
            code::LONG => numbers::long_line(line)?,
            _ => numbers::float_line(line)?,
        };
        if !parsed.canonical {
            self.anomaly(offset, AnomalyKind::Number);
        }
        self.push_node_or_shared(parsed.node)
    }

    fn push_long(&mut self, offset: Offset, arg: &Arg) -> Done {
        /// No honest integer comes near.
        const HUGE: usize = 64 * 1024;
        let bytes: &[u8] = if let Arg::Long(bytes) = arg { bytes } else { &[] };
        if bytes.len() > HUGE {
            self.anomaly(offset, AnomalyKind::HugeInteger);
        }
        self.push_node_or_shared(numbers::twos_complement(bytes))
    }

    fn push_float(&mut self, arg: &Arg) -> Done {
        self.push(Node::Float(if let Arg::Float(x) = arg { *x } else { f64::NAN }))
    }

    fn push_quoted(&mut self, arg: &Arg) -> Done {
        let bytes = text::quoted(line_arg(arg))?;
        self.push(Node::Str2(Payload::Inline(Arc::from(bytes))))
    }

    fn push_raw_unicode(&mut self, arg: &Arg) -> Done {
        let text = text::raw_unicode_escape(line_arg(arg))?;
        self.push(Node::Str(text))
    }

    fn push_text(&mut self, arg: &Arg) -> Done {
        let node = match arg {
            Arg::LongText(span) => Node::LongStr(*span),
            Arg::Text(bytes) => Node::Str(text::utf8(bytes)?),
            _ => Node::Str("".into()),
        };
        self.push(node)
    }

    fn push_bytes(&mut self, arg: Arg, make: fn(Payload) -> Node) -> Done {
        self.push(make(if let Arg::Bytes(payload) = arg { payload } else { Payload::Inline(Arc::new([])) }))
    }

    // Stack and marks.

    /// Items below the last mark are out of reach until the mark is taken, as in `CPython`.
    fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<NodeId, ErrorKind> {
        if self.stack.len() <= self.fence() {
            return Err(ErrorKind::StackUnderflow);
        }
        self.stack.pop().ok_or(ErrorKind::StackUnderflow)
    }

    fn top(&self) -> Result<NodeId, ErrorKind> {
        self.stack.get(self.fence()..).and_then(<[NodeId]>::last).copied().ok_or(ErrorKind::StackUnderflow)
    }

    fn pop_item_or_mark(&mut self) -> Done {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn take_to_mark(&mut self) -> Result<Vec<NodeId>, ErrorKind> {
        let mark = self.marks.pop().ok_or(ErrorKind::NoMark)?;
        Ok(self.stack.drain(mark.min(self.stack.len())..).collect())
    }

    fn collect(&mut self, make: impl FnOnce(Vec<NodeId>) -> Node) -> Done {
        let items = self.take_to_mark()?;
        self.push(make(items))
    }

    fn collect_dict(&mut self) -> Done {
        let items = pairs(&self.take_to_mark()?)?;
        self.push(Node::Dict(items))
    }

    fn tuple(&mut self, n: usize) -> Done {
        let available = self.stack.len().saturating_sub(self.fence());
        let start =
            self.stack.len().checked_sub(n).filter(|_| n <= available).ok_or(ErrorKind::StackUnderflow)?;
        let items = self.stack.drain(start..).collect();
        self.push(Node::Tuple(items))
    }

    // Changes in place, so that what was memoised before sees them.

    fn append_one(&mut self) -> Done {
        let value = self.pop()?;
        let target = self.top()?;
        self.append(target, &[value])
    }

    fn append_many(&mut self) -> Done {
        let values = self.take_to_mark()?;
        let target = self.top()?;
        self.append(target, &values)
    }

    fn append(&mut self, target: NodeId, values: &[NodeId]) -> Done {
        match self.graph.nodes.get_mut(target.index()) {
            Some(Node::List(items)) => items.extend(values),
            Some(Node::Call(call)) => call.more().appended.extend(values),
            found => return Err(wrong_target(found, "a list")),
        }
        Ok(())
    }

    fn add_many(&mut self) -> Done {
        let values = self.take_to_mark()?;
        let target = self.top()?;
        match self.graph.nodes.get_mut(target.index()) {
            Some(Node::Set(items)) => items.extend(values),
            Some(Node::Call(call)) => call.more().appended.extend(values),
            found => return Err(wrong_target(found, "a set")),
        }
        Ok(())
    }

    fn set_one(&mut self) -> Done {
        let value = self.pop()?;
        let key = self.pop()?;
        let target = self.top()?;
        self.set(target, &[(key, value)])
    }

    fn set_many(&mut self) -> Done {
        let items = pairs(&self.take_to_mark()?)?;
        let target = self.top()?;
        self.set(target, &items)
    }

    fn set(&mut self, target: NodeId, pairs: &[(NodeId, NodeId)]) -> Done {
        match self.graph.nodes.get_mut(target.index()) {
            Some(Node::Dict(items)) => items.extend(pairs),
            Some(Node::Call(call)) => call.more().items.extend(pairs),
            found => return Err(wrong_target(found, "a dict")),
        }
        Ok(())
    }

    fn build(&mut self) -> Result<Option<Event>, ErrorKind> {
        let state = self.pop()?;
        let target = self.top()?;
        match self.graph.nodes.get_mut(target.index()) {
            Some(Node::Call(call)) if call.state.is_none() => call.state = Some(state),
            Some(Node::Call(call)) => call.more().states.push(state),
            // Python would raise AttributeError, unless there is nothing to set.
            _ if state == NONE => return Ok(None),
            found => return Err(wrong_target(found, "an object made by a call")),
        }
        let pause = self.pause_after_build && self.suspended.is_none();
        Ok(pause.then_some(Event::Built(target)))
    }

    // Memo.

    fn put_line(&mut self, offset: Offset, arg: &Arg) -> Done {
        let (id, canonical) = numbers::memo_line(line_arg(arg))?;
        if !canonical {
            self.anomaly(offset, AnomalyKind::Number);
        }
        self.store(offset, id)
    }

    fn put(&mut self, offset: Offset, arg: &Arg) -> Done {
        self.store(offset, u64::try_from(int_arg(arg)).unwrap_or(u64::MAX))
    }

    fn store(&mut self, offset: Offset, id: u64) -> Done {
        /// `CPython`'s memo is an array that grows to twice the number; picklers count from 0.
        const GAP: u64 = 1 << 24;
        check(LimitKind::Memo, length(self.limits.memo), length(self.memo.len()))?;
        let value = self.top()?;
        self.memo.insert(id, value);
        if id > GAP && id.checked_div(8) > Some(length(self.memo.len())) {
            self.anomaly(offset, AnomalyKind::MemoGap);
        }
        Ok(())
    }

    fn get_line(&mut self, offset: Offset, arg: &Arg) -> Done {
        let (id, canonical) = numbers::memo_line(line_arg(arg))?;
        if !canonical {
            self.anomaly(offset, AnomalyKind::Number);
        }
        self.load(id)
    }

    fn get(&mut self, arg: &Arg) -> Done {
        self.load(u64::try_from(int_arg(arg)).unwrap_or(u64::MAX))
    }

    fn load(&mut self, id: u64) -> Done {
        let value = self.memo.get(id).ok_or(ErrorKind::MissingMemo(MemoId(id)))?;
        self.stack.push(value);
        Ok(())
    }

    // Names.

    fn global_lines(&mut self, offset: Offset, arg: &Arg) -> Done {
        let id = self.name_from_lines(offset, arg)?;
        self.stack.push(id);
        Ok(())
    }

    fn name_from_lines(&mut self, offset: Offset, arg: &Arg) -> Result<NodeId, ErrorKind> {
        let (module, name) =
            if let Arg::Lines(module, name) = arg { (module, name) } else { (&EMPTY, &EMPTY) };
        self.name(offset, text::utf8(module)?, text::utf8(name)?)
    }

    fn stack_global(&mut self, offset: Offset) -> Done {
        let (name, module) = (self.pop()?, self.pop()?);
        let computed = |id: NodeId| matches!(self.graph.node(id), Node::Call(_) | Node::Persistent(_));
        if self.lenient && (computed(name) || computed(module)) {
            self.anomaly(offset, AnomalyKind::ComputedName);
            return self.push(Node::Persistent(name));
        }
        let text = |id: NodeId| {
            let found = self.graph.node(id).type_name();
            let expected = "two strings";
            self.graph.text(id).map(|t| Box::from(&*t)).ok_or(ErrorKind::Target { found, expected })
        };
        let (module, name): (Box<str>, Box<str>) = (text(module)?, text(name)?);
        // The text may come from the memo, where two bytes repeat any length of it.
        self.spend_text(length(module.len()).saturating_add(length(name.len())))?;
        let id = self.name(offset, module, name)?;
        self.stack.push(id);
        Ok(())
    }

    fn name(&mut self, offset: Offset, module: Box<str>, name: Box<str>) -> Result<NodeId, ErrorKind> {
        let protocol = self.graph.protocol;
        self.graph.names_protocol = Some(self.graph.names_protocol.map_or(protocol, |n| n.min(protocol)));
        let offset = self.relative(offset);
        let next = GlobalId(u32::try_from(self.graph.globals.len()).unwrap_or(u32::MAX));
        let key = (module, name);
        let id = if let Some(id) = self.graph.names.get(&key) {
            *id
        } else {
            let (module, name) = key.clone();
            self.graph.names.insert(key, next);
            let protocol = self.protocol;
            self.graph.globals.push(Global { module, name, count: 0, offset, protocol });
            next
        };
        if let Some(global) = self.graph.globals.get_mut(id.index()) {
            global.count = global.count.saturating_add(1);
            global.protocol = global.protocol.min(self.protocol);
        }
        self.add(Node::Global(id))
    }

    // Calls, which are recorded.

    fn call(
        &mut self,
        how: How,
        offset: Offset,
        callable: NodeId,
        args: NodeId,
        kwargs: Option<NodeId>,
    ) -> Done {
        let offset = self.relative(offset);
        self.push(Node::Call(Box::new(Call {
            how,
            callable,
            args,
            kwargs,
            offset,
            state: None,
            more: None,
        })))?;
        let call = self.top()?;
        self.give(call, args);
        Ok(())
    }

    /// Remembers how large the containers among a call's arguments are.
    fn give(&mut self, call: NodeId, args: NodeId) {
        /// No function that is interpreted takes more; a tuple of a million may be given to a million calls.
        const MOST: usize = 8;
        let graph = &mut self.graph;
        let Some(Node::Tuple(args)) = graph.nodes.get(args.index()) else { return };
        for &container in args.iter().take(MOST) {
            let items = match graph.nodes.get(container.index()) {
                Some(Node::List(items) | Node::Set(items)) => items.len(),
                Some(Node::Dict(items)) => items.len(),
                _ => continue,
            };
            graph.given.push(Given { call, container, items });
        }
    }

    fn reduce(&mut self, offset: Offset) -> Done {
        let (args, callable) = (self.pop()?, self.pop()?);
        self.call(How::Reduce, offset, callable, args, None)
    }

    fn newobj(&mut self, offset: Offset) -> Done {
        let (args, class) = (self.pop()?, self.pop()?);
        self.call(How::NewObj, offset, class, args, None)
    }

    fn newobj_ex(&mut self, offset: Offset) -> Done {
        let (kwargs, args, class) = (self.pop()?, self.pop()?, self.pop()?);
        self.call(How::NewObjEx, offset, class, args, Some(kwargs))
    }

    fn obj(&mut self, offset: Offset) -> Done {
        let items = self.take_to_mark()?;
        let (class, args) = items.split_first().ok_or(ErrorKind::StackUnderflow)?;
        let args = self.add(Node::Tuple(args.into()))?;
        self.call(How::Obj, offset, *class, args, None)
    }

    fn inst(&mut self, offset: Offset, arg: &Arg) -> Done {
        let items = self.take_to_mark()?;
        let class = self.name_from_lines(offset, arg)?;
        let args = self.add(Node::Tuple(items.into()))?;
        self.call(How::Inst, offset, class, args, None)
    }

    fn persid_line(&mut self, arg: &Arg) -> Done {
        let text = text::utf8(line_arg(arg))?;
        let pid = self.add(Node::Str(text))?;
        self.push(Node::Persistent(pid))
    }

    fn persid(&mut self) -> Done {
        let pid = self.pop()?;
        self.push(Node::Persistent(pid))
    }
}

/// A list is pickled by pushing its items above one mark, a thousand at a time; protocol 0 to 1 tuples and lists are
/// pushed whole. Items may therefore be many more than marks.
const STACK_ITEMS_PER_MARK: usize = 64;
const EMPTY: Vec<u8> = Vec::new();

fn int_arg(arg: &Arg) -> i64 {
    if let Arg::Int(n) = arg { *n } else { 0 }
}

fn line_arg(arg: &Arg) -> &[u8] {
    if let Arg::Line(line) = arg { line } else { &[] }
}

fn pairs(items: &[NodeId]) -> Result<Vec<(NodeId, NodeId)>, ErrorKind> {
    let (chunks, rest) = items.as_chunks();
    if !rest.is_empty() {
        return Err(ErrorKind::OddItems);
    }
    Ok(chunks.iter().map(|[key, value]| (*key, *value)).collect())
}

fn wrong_target(found: Option<&mut Node>, expected: &'static str) -> ErrorKind {
    ErrorKind::Target { found: found.map_or("nothing", |node| node.type_name()), expected }
}

/// The memo: a vector while the keys are dense, as every pickler writes them, and a map for what is not.
#[derive(Default)]
struct Memo {
    dense: Vec<Option<NodeId>>,
    sparse: HashMap<u64, NodeId>,
    stored: usize,
}

impl Memo {
    /// Number of entries, which is the key that `MEMOIZE` stores under.
    fn len(&self) -> usize {
        self.stored
    }

    fn insert(&mut self, id: u64, value: NodeId) {
        let at = index(id);
        if at == self.dense.len() && !self.sparse.contains_key(&id) {
            self.dense.push(None);
        }
        let before = match self.dense.get_mut(at) {
            Some(slot) => slot.replace(value),
            None => self.sparse.insert(id, value),
        };
        if before.is_none() {
            self.stored = self.stored.saturating_add(1);
        }
    }

    fn get(&self, id: u64) -> Option<NodeId> {
        match self.dense.get(index(id)) {
            Some(slot) => *slot,
            None => self.sparse.get(&id).copied(),
        }
    }
}
