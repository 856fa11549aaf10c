//! The shape of an object: how much of the pickle is part of it, how deep it is, and how large it would be if nothing in
//! it were shared.

use crate::pickle::{Graph, Node, NodeId};

use super::found::{Found, Spot};
use super::rules;

/// Levels of nesting. `pickle` itself stops at about a thousand, so that no honest file comes near.
const DEPTH: u32 = 10_000;
/// Objects, counted as often as they occur, and how many times more than there are.
const OBJECTS: u64 = 1_000_000_000;
const RATIO: u64 = 1_000;

/// Reports an object that is made to exhaust who walks, prints or frees it.
pub(super) fn report(graph: &Graph, root: NodeId, found: &mut Found, spot: &Spot) {
    let Measure { depth, objects } = measure(graph, root);
    if depth > DEPTH {
        found.add(&rules::PICKLE_BOMB, spot.whole(), format!("nested {depth} levels deep"));
    }
    let there = crate::bytes::length(graph.len());
    if objects > OBJECTS && objects.checked_div(there.max(1)) > Some(RATIO) {
        let message = format!("{there} objects that count as {objects} or more");
        found.add(&rules::PICKLE_BOMB, spot.whole(), message);
    }
}

/// Which objects are part of the root, or of a call whose result was thrown away; by position.
pub(super) fn used(graph: &Graph, root: NodeId) -> Vec<bool> {
    let mut used = vec![false; graph.len()];
    let mut open: Vec<NodeId> = graph.calls().map(|(id, _)| id).collect();
    open.push(root);
    while let Some(id) = open.pop() {
        if let Some(slot) = used.get_mut(id.index())
            && !std::mem::replace(slot, true)
        {
            graph.children(id, &mut |child| open.push(child));
        }
    }
    used
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Measure {
    depth: u32,
    objects: u64,
}

/// What is met again wherever an object is printed, compared or hashed: what it contains, and not its state. In a graph of
/// `torch.fx` each node knows its neighbours, so that five thousand honest objects have a hundred trillion ways through them.
fn contents(graph: &Graph, id: NodeId, each: &mut dyn FnMut(NodeId)) {
    let Node::Call(call) = graph.node(id) else { return graph.children(id, each) };
    each(call.args);
    call.kwargs.into_iter().for_each(&mut *each);
    call.items().iter().flat_map(|(key, value)| [*key, *value]).for_each(&mut *each);
    call.appended().iter().copied().for_each(each);
}

/// Measures without recursion: an object is measured when all that it holds is. What holds itself counts once.
fn measure(graph: &Graph, root: NodeId) -> Measure {
    let mut measures: Vec<Option<Measure>> = vec![None; graph.len()];
    let mut entered = vec![false; graph.len()];
    let mut open = vec![root];
    while let Some(id) = open.last().copied() {
        let i = id.index();
        if measures.get(i).copied().flatten().is_some() || i >= entered.len() {
            open.pop();
            continue;
        }
        if entered.get_mut(i).is_some_and(|slot| !std::mem::replace(slot, true)) {
            graph.children(id, &mut |child| {
                if entered.get(child.index()) == Some(&false) {
                    open.push(child);
                }
            });
            continue;
        }
        let inner = |child: NodeId| measures.get(child.index()).copied().flatten().unwrap_or_default();
        let mut own = Measure { depth: 0, objects: 1 };
        graph.children(id, &mut |child| own.depth = own.depth.max(inner(child).depth.saturating_add(1)));
        contents(graph, id, &mut |child| own.objects = own.objects.saturating_add(inner(child).objects));
        if let Some(slot) = measures.get_mut(i) {
            *slot = Some(own);
        }
        open.pop();
    }
    measures.get(root.index()).copied().flatten().unwrap_or_default()
}
