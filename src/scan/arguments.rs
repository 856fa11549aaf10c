//! Allowed callables with arguments that hurt: a few bytes that ask for gigabytes.

use crate::pickle::{Call, Graph, Node, NodeId};
use crate::policy::canonical;

use super::found::{Found, Spot};
use super::rules;

/// Elements that a call may ask for out of nothing.
const MOST: u128 = 1 << 30;

/// Which argument says how much.
#[derive(Debug, Clone, Copy)]
enum Amount {
    /// An integer is a number of bytes.
    Bytes,
    /// A `range` is written out.
    Range,
    /// A shape, at this position.
    Shape(usize),
}

/// Callables that take memory by their arguments.
const TABLE: &[(&str, &[&str], Amount)] = &[
    ("builtins", &["bytearray", "bytes"], Amount::Bytes),
    ("builtins", &["bytearray", "bytes", "list", "tuple", "set", "frozenset"], Amount::Range),
    ("collections", &["deque", "Counter"], Amount::Range),
    ("numpy.core.multiarray", &["_reconstruct"], Amount::Shape(1)),
    ("numpy._core.multiarray", &["_reconstruct"], Amount::Shape(1)),
    ("numpy", &["ndarray", "zeros", "empty", "ones"], Amount::Shape(0)),
];

/// Reports such calls.
pub(super) fn report(graph: &Graph, found: &mut Found, spot: &Spot) {
    for (_, call) in graph.calls() {
        let Some((module, name)) = names(graph, call.callable) else { continue };
        let rows = TABLE.iter().filter(|(m, names, _)| *m == module && names.contains(&name));
        let wanted = rows.filter_map(|(_, _, amount)| wanted(graph, call, *amount)).max();
        if let Some(wanted) = wanted.filter(|wanted| *wanted > MOST) {
            let message = format!("{module}.{name} asks for {wanted} elements");
            let name = format!("{module}.{name}");
            found.add_about(&rules::HARMFUL_ARGUMENTS, spot.at(call.offset.0, None), message, Some(&name));
        }
    }
}

fn names(graph: &Graph, id: NodeId) -> Option<(&str, &str)> {
    graph.as_global(id).map(|global| (canonical(&global.module, global.protocol), &*global.name))
}

fn wanted(graph: &Graph, call: &Call, amount: Amount) -> Option<u128> {
    let args = graph.tuple(call.args)?;
    match amount {
        Amount::Bytes => integer(graph, *args.first()?),
        Amount::Range => range(graph, *args.first()?),
        Amount::Shape(at) => {
            let mut sizes = graph.sequence(*args.get(at)?)?.iter().map(|size| integer(graph, *size));
            sizes.try_fold(1_u128, |n, size| Some(n.saturating_mul(size?)))
        }
    }
}

/// Length of a `range` or `xrange`, up to its step.
fn range(graph: &Graph, id: NodeId) -> Option<u128> {
    let call = graph.call(id)?;
    let (module, name) = names(graph, call.callable)?;
    if module != "builtins" || name != "range" {
        return None;
    }
    let args = graph.tuple(call.args)?;
    let (start, stop) = match args {
        [stop] => (0, integer(graph, *stop)?),
        [start, stop, ..] => (integer(graph, *start).unwrap_or(0), integer(graph, *stop)?),
        [] => return None,
    };
    let each = args.get(2).and_then(|each| integer(graph, *each)).unwrap_or(1).max(1);
    stop.saturating_sub(start).checked_div(each)
}

/// A number that is not negative; one of more than 64 bits counts as more than all others.
fn integer(graph: &Graph, id: NodeId) -> Option<u128> {
    match graph.node(id) {
        Node::BigInt(bytes) => bytes.last().is_some_and(|b| b & 0x80 == 0).then_some(u128::MAX),
        _ => graph.int(id).and_then(|n| u128::try_from(n).ok()),
    }
}
