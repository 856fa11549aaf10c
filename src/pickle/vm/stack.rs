//! Opcodes that move what is on the stack, gather it into containers, and change containers.

use super::super::error::ErrorKind;
use super::super::graph::{Node, NodeId};
use super::{Done, Event, NONE, Vm};

impl Vm<'_> {
    /// Items below the last mark are out of reach until the mark is taken, as in `CPython`.
    pub(super) fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn pop(&mut self) -> Result<NodeId, ErrorKind> {
        if self.stack.len() <= self.fence() {
            return Err(ErrorKind::StackUnderflow);
        }
        self.stack.pop().ok_or(ErrorKind::StackUnderflow)
    }

    pub(super) fn top(&self) -> Result<NodeId, ErrorKind> {
        self.stack.get(self.fence()..).and_then(<[NodeId]>::last).copied().ok_or(ErrorKind::StackUnderflow)
    }

    pub(super) fn pop_item_or_mark(&mut self) -> Done {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    pub(super) fn take_to_mark(&mut self) -> Result<Vec<NodeId>, ErrorKind> {
        let mark = self.marks.pop().ok_or(ErrorKind::NoMark)?;
        Ok(self.stack.drain(mark.min(self.stack.len())..).collect())
    }

    pub(super) fn collect(&mut self, make: impl FnOnce(Vec<NodeId>) -> Node) -> Done {
        let items = self.take_to_mark()?;
        self.push(make(items))
    }

    pub(super) fn collect_dict(&mut self) -> Done {
        let items = pairs(&self.take_to_mark()?)?;
        self.push(Node::Dict(items))
    }

    pub(super) fn tuple(&mut self, n: usize) -> Done {
        let available = self.stack.len().saturating_sub(self.fence());
        let start =
            self.stack.len().checked_sub(n).filter(|_| n <= available).ok_or(ErrorKind::StackUnderflow)?;
        let items = self.stack.drain(start..).collect();
        self.push(Node::Tuple(items))
    }

    // Changes in place, so that what was memoised before sees them.

    pub(super) fn append_one(&mut self) -> Done {
        let value = self.pop()?;
        let target = self.top()?;
        self.append(target, &[value])
    }

    pub(super) fn append_many(&mut self) -> Done {
        let values = self.take_to_mark()?;
        let target = self.top()?;
        self.append(target, &values)
    }

    pub(super) fn append(&mut self, target: NodeId, values: &[NodeId]) -> Done {
        match self.graph.nodes.get_mut(target.index()) {
            Some(Node::List(items)) => items.extend(values),
            Some(Node::Call(call)) => call.more().appended.extend(values),
            found => return Err(wrong_target(found, "a list")),
        }
        Ok(())
    }

    pub(super) fn add_many(&mut self) -> Done {
        let values = self.take_to_mark()?;
        let target = self.top()?;
        match self.graph.nodes.get_mut(target.index()) {
            Some(Node::Set(items)) => items.extend(values),
            Some(Node::Call(call)) => call.more().appended.extend(values),
            found => return Err(wrong_target(found, "a set")),
        }
        Ok(())
    }

    pub(super) fn set_one(&mut self) -> Done {
        let value = self.pop()?;
        let key = self.pop()?;
        let target = self.top()?;
        self.set(target, &[(key, value)])
    }

    pub(super) fn set_many(&mut self) -> Done {
        let items = pairs(&self.take_to_mark()?)?;
        let target = self.top()?;
        self.set(target, &items)
    }

    pub(super) fn set(&mut self, target: NodeId, pairs: &[(NodeId, NodeId)]) -> Done {
        match self.graph.nodes.get_mut(target.index()) {
            Some(Node::Dict(items)) => items.extend(pairs),
            Some(Node::Call(call)) => call.more().items.extend(pairs),
            found => return Err(wrong_target(found, "a dict")),
        }
        Ok(())
    }

    pub(super) fn build(&mut self) -> Result<Option<Event>, ErrorKind> {
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
