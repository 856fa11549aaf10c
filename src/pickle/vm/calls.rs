//! Opcodes that push a name, and those that would call one: both are recorded.

use super::super::decode::Arg;
use super::super::error::{AnomalyKind, ErrorKind};
use super::super::graph::{Call, Given, Global, GlobalId, How, Node, NodeId};
use super::super::text;
use super::{Done, Vm, line_arg};
use crate::bytes::{Offset, length};

const EMPTY: Vec<u8> = Vec::new();

impl Vm<'_> {
    pub(super) fn global_lines(&mut self, offset: Offset, arg: &Arg) -> Done {
        let id = self.name_from_lines(offset, arg)?;
        self.stack.push(id);
        Ok(())
    }

    pub(super) fn name_from_lines(&mut self, offset: Offset, arg: &Arg) -> Result<NodeId, ErrorKind> {
        let (module, name) =
            if let Arg::Lines(module, name) = arg { (module, name) } else { (&EMPTY, &EMPTY) };
        self.name(offset, text::utf8(module)?, text::utf8(name)?)
    }

    pub(super) fn stack_global(&mut self, offset: Offset) -> Done {
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

    pub(super) fn name(
        &mut self,
        offset: Offset,
        module: Box<str>,
        name: Box<str>,
    ) -> Result<NodeId, ErrorKind> {
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

    pub(super) fn call(
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
    pub(super) fn give(&mut self, call: NodeId, args: NodeId) {
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

    pub(super) fn reduce(&mut self, offset: Offset) -> Done {
        let (args, callable) = (self.pop()?, self.pop()?);
        self.call(How::Reduce, offset, callable, args, None)
    }

    pub(super) fn newobj(&mut self, offset: Offset) -> Done {
        let (args, class) = (self.pop()?, self.pop()?);
        self.call(How::NewObj, offset, class, args, None)
    }

    pub(super) fn newobj_ex(&mut self, offset: Offset) -> Done {
        let (kwargs, args, class) = (self.pop()?, self.pop()?, self.pop()?);
        self.call(How::NewObjEx, offset, class, args, Some(kwargs))
    }

    pub(super) fn obj(&mut self, offset: Offset) -> Done {
        let items = self.take_to_mark()?;
        let (class, args) = items.split_first().ok_or(ErrorKind::StackUnderflow)?;
        let args = self.add(Node::Tuple(args.into()))?;
        self.call(How::Obj, offset, *class, args, None)
    }

    pub(super) fn inst(&mut self, offset: Offset, arg: &Arg) -> Done {
        let items = self.take_to_mark()?;
        let class = self.name_from_lines(offset, arg)?;
        let args = self.add(Node::Tuple(items.into()))?;
        self.call(How::Inst, offset, class, args, None)
    }

    pub(super) fn persid_line(&mut self, arg: &Arg) -> Done {
        let text = text::utf8(line_arg(arg))?;
        let pid = self.add(Node::Str(text))?;
        self.push(Node::Persistent(pid))
    }

    pub(super) fn persid(&mut self) -> Done {
        let pid = self.pop()?;
        self.push(Node::Persistent(pid))
    }
}
