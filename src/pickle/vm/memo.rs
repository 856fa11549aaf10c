//! The memo, and the opcodes that store in it and load from it.

use std::collections::HashMap;

use super::super::decode::Arg;
use super::super::error::{AnomalyKind, ErrorKind};
use super::super::graph::{MemoId, NodeId};
use super::super::numbers;
use super::{Done, Vm, int_arg, line_arg};
use crate::bytes::{Offset, index, length};
use crate::limits::{LimitKind, check};

impl Vm<'_> {
    pub(super) fn put_line(&mut self, offset: Offset, arg: &Arg) -> Done {
        let (id, canonical) = numbers::memo_line(line_arg(arg))?;
        if !canonical {
            self.anomaly(offset, AnomalyKind::Number);
        }
        self.store(offset, id)
    }

    pub(super) fn put(&mut self, offset: Offset, arg: &Arg) -> Done {
        self.store(offset, u64::try_from(int_arg(arg)).unwrap_or(u64::MAX))
    }

    pub(super) fn store(&mut self, offset: Offset, id: u64) -> Done {
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

    pub(super) fn get_line(&mut self, offset: Offset, arg: &Arg) -> Done {
        let (id, canonical) = numbers::memo_line(line_arg(arg))?;
        if !canonical {
            self.anomaly(offset, AnomalyKind::Number);
        }
        self.load(id)
    }

    pub(super) fn get(&mut self, arg: &Arg) -> Done {
        self.load(u64::try_from(int_arg(arg)).unwrap_or(u64::MAX))
    }

    pub(super) fn load(&mut self, id: u64) -> Done {
        let value = self.memo.get(id).ok_or(ErrorKind::MissingMemo(MemoId(id)))?;
        self.stack.push(value);
        Ok(())
    }
}

/// The memo: a vector while the keys are dense, as every pickler writes them, and a map for what is not.
#[derive(Default)]
pub(super) struct Memo {
    dense: Vec<Option<NodeId>>,
    sparse: HashMap<u64, NodeId>,
    stored: usize,
}

impl Memo {
    /// Number of entries, which is the key that `MEMOIZE` stores under.
    pub(super) fn len(&self) -> usize {
        self.stored
    }

    pub(super) fn insert(&mut self, id: u64, value: NodeId) {
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

    pub(super) fn get(&self, id: u64) -> Option<NodeId> {
        match self.dense.get(index(id)) {
            Some(slot) => *slot,
            None => self.sparse.get(&id).copied(),
        }
    }
}
