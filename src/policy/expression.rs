//! A recorded call as a readable, bounded expression. Attacker text is escaped.

use std::fmt::Write;

use crate::pickle::{Graph, Node, NodeId, Payload};

/// Longest expression shown.
const LENGTH: usize = 120;
/// Levels of arguments shown.
const DEPTH: usize = 3;

/// An object as an expression: `module.name("argument", …)`. It is bounded, and text in it is escaped.
pub fn call(graph: &Graph, id: NodeId) -> String {
    let mut text = String::new();
    show(graph, id, 0, &mut text);
    if text.chars().count() > LENGTH {
        text = text.chars().take(LENGTH).collect();
        text.push('…');
    }
    text
}

fn show(graph: &Graph, id: NodeId, depth: usize, out: &mut String) {
    if depth > DEPTH || out.len() > LENGTH.saturating_mul(4) {
        out.push('…');
        return;
    }
    let deeper = depth.saturating_add(1);
    let _ = match graph.node(id) {
        Node::None => write!(out, "None"),
        Node::Bool(true) => write!(out, "True"),
        Node::Bool(false) => write!(out, "False"),
        Node::Int(n) => write!(out, "{n}"),
        Node::Float(x) => write!(out, "{x:?}"),
        Node::Str(text) => write!(out, "\"{}\"", text.escape_debug()),
        Node::Str2(Payload::Inline(bytes)) => write!(out, "\"{}\"", bytes.escape_ascii()),
        Node::Bytes(Payload::Inline(bytes)) => write!(out, "b\"{}\"", bytes.escape_ascii()),
        Node::Global(_) => match graph.as_global(id) {
            Some(global) => write!(out, "{}.{}", global.module.escape_debug(), global.name.escape_debug()),
            None => write!(out, "?"),
        },
        Node::Call(call) => {
            show(graph, call.callable, deeper, out);
            let args = graph.sequence(call.args).unwrap_or_default();
            list(graph, args, deeper, ("(", ")"), out);
            Ok(())
        }
        Node::Tuple(items) => {
            list(graph, items, deeper, ("(", ")"), out);
            Ok(())
        }
        Node::List(items) => {
            list(graph, items, deeper, ("[", "]"), out);
            Ok(())
        }
        other => write!(out, "<{}>", other.type_name()),
    };
}

fn list(graph: &Graph, items: &[NodeId], depth: usize, (open, close): (&str, &str), out: &mut String) {
    /// More arguments are only counted.
    const SHOWN: usize = 6;
    out.push_str(open);
    for (i, item) in items.iter().take(SHOWN).enumerate() {
        out.push_str(if i == 0 { "" } else { ", " });
        show(graph, *item, depth, out);
    }
    out.push_str(if items.len() > SHOWN { ", …" } else { "" });
    out.push_str(close);
}
