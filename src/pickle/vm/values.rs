//! Opcodes that push a value.

use std::sync::Arc;

use super::super::decode::Arg;
use super::super::error::{AnomalyKind, ErrorKind};
use super::super::graph::{Node, NodeId, Payload};
use super::super::opcode::code;
use super::super::{numbers, text};
use super::{Done, FALSE, FIRST_INT, SHARED_INTS, TRUE, Vm, int_arg, line_arg};
use crate::bytes::{Offset, length};
use crate::limits::LimitKind;

impl Vm<'_> {
    pub(super) fn add(&mut self, node: Node) -> Result<NodeId, ErrorKind> {
        let id = u32::try_from(self.graph.nodes.len()).ok().filter(|id| *id != u32::MAX);
        let full = crate::limits::LimitExceeded {
            kind: LimitKind::Nodes,
            allowed: u64::from(u32::MAX),
            wanted: length(self.graph.nodes.len()),
        };
        self.graph.nodes.push(node);
        id.map(NodeId).ok_or(ErrorKind::Limit(full))
    }

    pub(super) fn push(&mut self, node: Node) -> Done {
        let id = self.add(node)?;
        self.stack.push(id);
        Ok(())
    }

    pub(super) fn push_node_or_shared(&mut self, node: Node) -> Done {
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

    pub(super) fn push_int(&mut self, arg: &Arg) -> Done {
        self.push_node_or_shared(Node::Int(int_arg(arg)))
    }

    pub(super) fn push_number(&mut self, offset: Offset, opcode: u8, arg: &Arg) -> Done {
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

    pub(super) fn push_long(&mut self, offset: Offset, arg: &Arg) -> Done {
        /// No honest integer comes near.
        const HUGE: usize = 64 * 1024;
        let bytes: &[u8] = if let Arg::Long(bytes) = arg { bytes } else { &[] };
        if bytes.len() > HUGE {
            self.anomaly(offset, AnomalyKind::HugeInteger);
        }
        self.push_node_or_shared(numbers::twos_complement(bytes))
    }

    pub(super) fn push_float(&mut self, arg: &Arg) -> Done {
        self.push(Node::Float(if let Arg::Float(x) = arg { *x } else { f64::NAN }))
    }

    pub(super) fn push_quoted(&mut self, arg: &Arg) -> Done {
        let bytes = text::quoted(line_arg(arg))?;
        self.push(Node::Str2(Payload::Inline(Arc::from(bytes))))
    }

    pub(super) fn push_raw_unicode(&mut self, arg: &Arg) -> Done {
        let text = text::raw_unicode_escape(line_arg(arg))?;
        self.push(Node::Str(text))
    }

    pub(super) fn push_text(&mut self, arg: &Arg) -> Done {
        let node = match arg {
            Arg::LongText(span) => Node::LongStr(*span),
            Arg::Text(bytes) => Node::Str(text::utf8(bytes)?),
            _ => Node::Str("".into()),
        };
        self.push(node)
    }

    pub(super) fn push_bytes(&mut self, arg: Arg, make: fn(Payload) -> Node) -> Done {
        self.push(make(if let Arg::Bytes(payload) = arg { payload } else { Payload::Inline(Arc::new([])) }))
    }
}
