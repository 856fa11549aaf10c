//! A pickle as the iterator of what stands in it.

use crate::bytes::{Cursor, length};
use crate::checkpoint::{self, FoundPickle, RawData};
use crate::limits::Limits;
use crate::pickle::{Event, NodeId, Op, Vm};
use crate::policy::{canonical, expression};
use crate::report::{DisasmItem, DisasmMemo, DisasmName, DisasmOp, DisasmRaw};

use super::argument::argument;

/// The opcodes of a pickle, and what stands between them. An error is the last item; the opcode that it is about stands
/// before it where it can be decoded.
#[derive(Debug)]
pub struct Listing<'a> {
    pickle: &'a FoundPickle,
    limits: &'a Limits,
    /// Bytes of an argument that are shown.
    most: u64,
    vm: Vm<'a>,
    raw: RawData,
    /// Positions of the open marks.
    marks: Vec<u64>,
    /// Those of the pickle that waits for the end of one between its opcodes.
    waiting: Option<Vec<u64>>,
    /// What comes next, in the order in which it is given.
    next: Vec<Next>,
    end: bool,
}

type Next = Result<DisasmItem, checkpoint::Error>;

impl<'a> Listing<'a> {
    /// Lists a pickle. Of each argument at most `most` bytes are shown.
    pub fn new(pickle: &'a FoundPickle, limits: &'a Limits, most: u64) -> Self {
        let mut vm = Vm::new(Cursor::new(&*pickle.source, pickle.span), limits);
        if pickle.joblib {
            vm = vm.pause_after_build();
        }
        Self {
            pickle,
            limits,
            most,
            vm,
            raw: RawData::default(),
            marks: Vec::new(),
            waiting: None,
            next: Vec::new(),
            end: false,
        }
    }

    /// Carries out the next opcode and keeps what is to be said of it.
    fn advance(&mut self) -> Result<(), checkpoint::Error> {
        let of = |error| checkpoint::Error::Pickle { entry: self.pickle.entry.clone(), error };
        let op = self.vm.next_op().map_err(of)?;
        let before = self.vm.depth();
        let key = length(self.vm.memo_len());
        let anomalies = self.vm.graph().anomalies().len();
        let done = self.vm.carry_out(op.clone());
        let made = if done.is_ok() { self.vm.top_object() } else { None };
        let argument = argument(&op, made.map(|id| (self.vm.graph(), id)), &*self.pickle.source, self.most)?;
        let offset = op.offset.0.saturating_sub(self.pickle.span.start());
        let (after, open) = self.vm.depth();
        let mark = if open < before.1 { self.marks.pop() } else { None };
        let mut line = DisasmOp {
            offset,
            opcode: op.opcode.name,
            code: op.opcode.code,
            protocol: op.opcode.protocol,
            arg: argument,
            stack: [before.0, after],
            marks: before.1,
            mark,
            memo: None,
            global: None,
            call: None,
            object: None,
            anomaly: self.vm.graph().anomalies().get(anomalies).map(|anomaly| anomaly.kind.to_string()),
        };
        if op.opcode.name == "MARK" {
            self.marks.push(offset);
        }
        self.annotate(&op, made, key, &mut line);
        self.next.push(Ok(DisasmItem::Op(Box::new(line))));
        match done.map_err(|error| checkpoint::Error::Pickle { entry: self.pickle.entry.clone(), error })? {
            Some(Event::Built(built)) => self.pass(built)?,
            Some(Event::Stop(_)) => self.end = true,
            None if op.opcode.name == "STOP" => self.marks = self.waiting.take().unwrap_or_default(),
            None => {}
        }
        Ok(())
    }

    /// Passes over an array that joblib wrote after a `BUILD`.
    fn pass(&mut self, built: NodeId) -> Result<(), checkpoint::Error> {
        let at = self.vm.position().0;
        let entry = self.pickle.entry.as_deref();
        self.raw.pass(&mut self.vm, built, &*self.pickle.source, entry, self.limits)?;
        let raw = self.vm.position().0.saturating_sub(at);
        let offset = at.saturating_sub(self.pickle.span.start());
        if raw > 0 {
            self.next.push(Ok(DisasmItem::Raw(DisasmRaw { offset, raw })));
        } else if self.vm.depth() == (0, 0) {
            // An array of objects: a pickle of its own follows.
            self.waiting = Some(std::mem::take(&mut self.marks));
        }
        Ok(())
    }

    /// What an opcode means beyond its argument.
    fn annotate(&self, op: &Op, made: Option<NodeId>, key: u64, line: &mut DisasmOp) {
        let graph = self.vm.graph();
        let Some(top) = made else { return };
        let call = graph.call(top);
        let number = match line.arg {
            Some(crate::report::DisasmArg::Int(n)) => u64::try_from(n).ok(),
            _ => None,
        };
        match op.opcode.name {
            "PUT" | "BINPUT" | "LONG_BINPUT" => line.memo = number.map(|key| self.memo(key, true, top)),
            "MEMOIZE" => line.memo = Some(self.memo(key, true, top)),
            "GET" | "BINGET" | "LONG_BINGET" => line.memo = number.map(|key| self.memo(key, false, top)),
            "GLOBAL" | "STACK_GLOBAL" => line.global = self.name(top),
            "INST" => line.global = call.and_then(|call| self.name(call.callable)),
            "PERSID" | "BINPERSID" | "BUILD" => line.object = Some(expression(graph, top)),
            _ => {}
        }
        if matches!(op.opcode.name, "REDUCE" | "INST" | "OBJ" | "NEWOBJ" | "NEWOBJ_EX")
            && let Some(call) = call
        {
            let verdict = match self.name(call.callable) {
                Some(name) => name.verdict,
                None if graph.call(call.callable).is_some() => self.verdict("(the result of a call)"),
                None => None,
            };
            line.call = Some(DisasmName { name: expression(graph, top), verdict });
        }
    }

    fn memo(&self, key: u64, stored: bool, id: NodeId) -> DisasmMemo {
        DisasmMemo { key, stored, object: expression(self.vm.graph(), id) }
    }

    fn name(&self, id: NodeId) -> Option<DisasmName> {
        let global = self.vm.graph().as_global(id)?;
        let name = format!("{}.{}", canonical(&global.module, global.protocol), global.name);
        let verdict = self.verdict(&name);
        Some(DisasmName { name, verdict })
    }

    fn verdict(&self, name: &str) -> Option<&'static str> {
        let globals = &self.pickle.globals;
        let found = globals.binary_search_by(|global| global.name.as_str().cmp(name)).ok()?;
        globals.get(found).map(|global| global.verdict.name())
    }
}

impl Iterator for Listing<'_> {
    type Item = Next;

    fn next(&mut self) -> Option<Next> {
        if self.next.is_empty()
            && !self.end
            && let Err(error) = self.advance()
        {
            self.end = true;
            self.next.push(Err(error));
        }
        (!self.next.is_empty()).then(|| self.next.remove(0))
    }
}
