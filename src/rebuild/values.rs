//! What is no tensor: its Python type, the number of values in it, and keys as text.

use crate::pickle::{Node, NodeId, Payload};

use super::builder::Builder;
use super::children::Link;

/// Items of a tuple that is a key. Tuples are not compared by what they hold, so that any number of keys may share it.
const LONGEST_TUPLE: usize = 16;
/// Bytes of an item of such a tuple.
const LONGEST_PART: usize = 256;

impl Builder<'_> {
    /// Python type of an object: the class where it is an instance of one.
    pub(super) fn type_name(&self, id: NodeId) -> Box<str> {
        match self.graph.node(id) {
            Node::Call(call) => self.callable_name(call),
            Node::Global(_) => "type".into(),
            node => node.type_name().into(),
        }
    }

    /// Number of values at and below a node that are no containers. Each container counts once, however often it is
    /// shared, so that the cost is linear; `seen` carries that over many calls.
    pub(super) fn count_values(&self, id: NodeId, seen: &mut [bool]) -> u64 {
        let mut count = 0_u64;
        let mut stack = vec![id];
        let mut children = Vec::new();
        while let Some(id) = stack.pop() {
            // Asked before the children are listed: a large container may be shared under many names.
            if seen.get(id.index()).copied().unwrap_or(true) {
                continue;
            }
            children.clear();
            if !self.children(id, &mut children) {
                count = count.saturating_add(1);
            } else if let Some(flag) = seen.get_mut(id.index()) {
                *flag = true;
                stack.extend(children.iter().map(|(_, child): &(Link<'_>, NodeId)| *child));
            }
        }
        count
    }

    /// A dictionary key as it stands in names: text as it is, numbers and `None` as Python prints them, tuples of these
    /// too, a class by its name. Any other object is `<type #position>`, which no two keys of a dictionary share.
    pub(super) fn key_text(&self, key: NodeId, position: usize) -> Box<str> {
        self.plain_key(key, false).unwrap_or_else(|| format!("<{} #{position}>", self.type_name(key))).into()
    }

    fn plain_key(&self, key: NodeId, quoted: bool) -> Option<String> {
        let graph = self.graph;
        if let Some(text) = graph.text(key) {
            return Some(if quoted { format!("'{text}'") } else { text.into_owned() });
        }
        Some(match graph.node(key) {
            Node::None => "None".to_owned(),
            Node::Bool(true) => "True".to_owned(),
            Node::Bool(false) => "False".to_owned(),
            Node::Int(n) => n.to_string(),
            Node::Float(x) => format!("{x:?}"),
            Node::Bytes(Payload::Inline(bytes)) | Node::Str2(Payload::Inline(bytes)) => {
                bytes.escape_ascii().to_string()
            }
            Node::Global(_) => {
                let (module, name) = self.global_name(key)?;
                format!("{module}.{name}")
            }
            // One level is all that honest keys have; deeper or longer ones are named by position.
            Node::Tuple(items) if !quoted && items.len() <= LONGEST_TUPLE => {
                let parts = items
                    .iter()
                    .map(|item| self.plain_key(*item, true).filter(|part| part.len() <= LONGEST_PART));
                let parts: Vec<String> = parts.collect::<Option<_>>()?;
                let comma = if parts.len() == 1 { "," } else { "" };
                format!("({}{comma})", parts.join(", "))
            }
            _ => return None,
        })
    }
}
