//! Persistent ids: `("storage", class, key, location, numel[, view])`, and `("module", class, file, source)` of the
//! legacy stream.

use crate::container::{Numbered, Storages};
use crate::pickle::{Graph, Node, NodeId};
use crate::tensor::{Dtype, StorageId};

use crate::policy::canonical;

use super::allow::{Callable, allow};
use super::builder::{Builder, Kinded};
use super::error::ErrorKind;

/// Keys are counters or addresses.
const LONGEST_KEY: usize = 255;

/// A storage as an interpreted callable sees it.
pub(super) struct Resolved {
    pub(super) storage: StorageId,
    /// Element type of its class; `None` for an untyped storage.
    pub(super) dtype: Option<Dtype>,
}

/// A persistent id that names a storage.
struct StorageRef<'a> {
    class: Option<Dtype>,
    key: std::borrow::Cow<'a, str>,
    location: std::borrow::Cow<'a, str>,
    count: u64,
    view: Option<NodeId>,
}

fn storage_ref(graph: &Graph, pid: NodeId) -> Kinded<StorageRef<'_>> {
    let bad = ErrorKind::PersistentId;
    let Some([tag, class, key, location, count, rest @ ..]) = graph.tuple(pid) else {
        return Err(bad("a tuple of 5 or 6 items expected"));
    };
    if !is_tag(graph, *tag, "storage") {
        return Err(bad("it does not begin with \"storage\""));
    }
    let class = graph.as_global(*class).ok_or(bad("its class is no name"))?;
    let module = canonical(&class.module, class.protocol);
    let class = match allow(module, &class.name) {
        Some(Callable::Storage(class)) => class,
        // Counted in bytes, like an untyped one.
        Some(Callable::PackedStorage) => None,
        _ => return Err(bad("its class is no storage class")),
    };
    let key = key_text(graph, *key).ok_or(bad("its key is no text"))?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    // Many tensors may refer to one key, which is looked up for each.
    if key.is_empty() || key.len() > LONGEST_KEY || !key.bytes().all(plain) || key.starts_with("..") {
        return Err(ErrorKind::StorageKey((&*key).into()));
    }
    let location = graph.text(*location).unwrap_or_default();
    let count =
        graph.int(*count).and_then(|n| u64::try_from(n).ok()).ok_or(bad("its length is no number"))?;
    let view = match rest {
        [] => None,
        [view] => (*graph.node(*view) != Node::None).then_some(*view),
        _ => return Err(bad("a tuple of 5 or 6 items expected")),
    };
    Ok(StorageRef { class, key, location, count, view })
}

/// Keys are text; old writers made them of addresses, which Python 2 wrote as integers.
fn key_text(graph: &Graph, id: NodeId) -> Option<std::borrow::Cow<'_, str>> {
    graph.text(id).or_else(|| graph.int(id).map(|n| n.to_string().into()))
}

fn is_tag(graph: &Graph, id: NodeId, tag: &str) -> bool {
    let bytes = match graph.node(id) {
        Node::Bytes(crate::pickle::Payload::Inline(bytes)) => std::str::from_utf8(bytes).ok(),
        _ => None,
    };
    bytes.is_some_and(|text| text == tag) || graph.text(id).as_deref() == Some(tag)
}

/// Bytes of one element of the storage that a persistent id names, and its key.
fn element_size(graph: &Graph, pid: NodeId) -> Option<(Box<str>, u64)> {
    let storage = storage_ref(graph, pid).ok()?;
    Some(((&*storage.key).into(), storage.class.map_or(1, Dtype::size)))
}

/// What an object is, if it is an allowlisted name.
pub fn callable(graph: &Graph, id: NodeId) -> Option<Callable> {
    let global = graph.as_global(id)?;
    allow(canonical(&global.module, graph.protocol()), &global.name)
}

/// Module and name of a global, in Python 3's terms.
pub fn name_of(graph: &Graph, id: NodeId) -> Option<(&str, &str)> {
    let global = graph.as_global(id)?;
    Some((canonical(&global.module, global.protocol), &global.name))
}

/// Key, element type and bytes of the storage that a whole pickle is. `None` for anything else, and for a storage that
/// is part of another.
pub fn storage_named(graph: &Graph, root: NodeId) -> Option<(Box<str>, Option<Dtype>, u64)> {
    let Node::Persistent(pid) = graph.node(root) else { return None };
    let storage = storage_ref(graph, *pid).ok().filter(|storage| storage.view.is_none())?;
    let nbytes = storage.count.checked_mul(storage.class.map_or(1, Dtype::size))?;
    Some(((&*storage.key).into(), storage.class, nbytes))
}

/// Element type of a class of typed storages.
pub fn storage_class(graph: &Graph, class: NodeId) -> Option<Dtype> {
    let class = graph.as_global(class)?;
    match allow(canonical(&class.module, class.protocol), &class.name)? {
        Callable::Storage(dtype) => dtype,
        _ => None,
    }
}

/// The keys of every storage that a pickle refers to, with the bytes of one element, for a container whose records
/// only count elements.
pub fn storage_keys(graph: &Graph) -> std::collections::HashMap<Box<str>, u64> {
    let pids = graph.ids().filter_map(|id| match graph.node(id) {
        Node::Persistent(pid) => Some(*pid),
        _ => None,
    });
    pids.filter_map(|pid| element_size(graph, pid)).collect()
}

impl Builder<'_> {
    /// The class of a legacy `("module", class, file, source)` id.
    pub(super) fn module_class(&self, pid: NodeId) -> Option<NodeId> {
        match self.graph.tuple(pid) {
            Some([tag, class, ..]) if is_tag(self.graph, *tag, "module") => Some(*class),
            // In a tar, (class, file, source).
            Some([class, _file, _source]) if self.is_numbered() && self.graph.as_global(*class).is_some() => {
                Some(*class)
            }
            _ => None,
        }
    }

    /// The storage that a call embeds as bytes, once for each call.
    fn embedded_storage(&mut self, id: NodeId) -> Option<Resolved> {
        let embedded = self.context.storages?.embedded(id.index())?;
        let dtype = embedded.dtype;
        if let Some(storage) = self.embedded.get(&id) {
            return Some(Resolved { storage: *storage, dtype });
        }
        let storage = self.add_storage(embedded.storage.clone());
        self.embedded.insert(id, storage);
        Some(Resolved { storage, dtype })
    }

    fn is_numbered(&self) -> bool {
        self.context.storages.is_some_and(Storages::is_numbered)
    }

    /// What a persistent id stands for that is a number. `None` where it is none.
    pub(super) fn numbered(&self, pid: NodeId) -> Option<Kinded<(Box<str>, Numbered<'_>)>> {
        let storages = self.context.storages.filter(|storages| storages.is_numbered())?;
        let key = self.graph.text(pid)?;
        let found = storages.numbered(&key).map(|numbered| ((&*key).into(), numbered));
        Some(found.ok_or(ErrorKind::PersistentId("no storage or tensor has this number")))
    }

    /// The storage of a number.
    pub(super) fn numbered_storage(&mut self, key: &str) -> Kinded<Resolved> {
        let storages = self.context.storages;
        match storages.and_then(|storages| storages.numbered(key)) {
            Some(Numbered::Storage { dtype, nbytes }) => {
                let storage = self.storage_of_key(key, Some(dtype), nbytes)?;
                Ok(Resolved { storage, dtype: Some(dtype) })
            }
            _ => Err(ErrorKind::PersistentId("no storage has this number")),
        }
    }

    /// The storage of an argument. `None` where the storage is on the meta device and has no data.
    pub(super) fn resolve_storage(&mut self, id: NodeId, position: usize) -> Kinded<Option<Resolved>> {
        let pid = match self.graph.node(id) {
            Node::Call(_) => {
                let embedded = self.embedded_storage(id);
                return embedded.map(Some).ok_or_else(|| self.wrong(id, position, "a storage"));
            }
            Node::Persistent(pid) => pid,
            Node::Tuple(_) if self.is_numbered() => &id,
            _ => return Err(self.wrong(id, position, "a storage")),
        };
        if let Some(numbered) = self.numbered(*pid) {
            let (key, _) = numbered?;
            return self.numbered_storage(&key).map(Some);
        }
        let reference = storage_ref(self.graph, *pid)?;
        if reference.location == "meta" {
            return Ok(None);
        }
        let size = reference.class.map_or(1, Dtype::size);
        let nbytes =
            reference.count.checked_mul(size).ok_or(ErrorKind::PersistentId("its length overflows"))?;
        if nbytes > 0
            && self.context.storages.is_some_and(|storages| storages.is_without_data(&reference.key))
        {
            return Ok(None);
        }
        let root = self.storage_of_key(&reference.key, reference.class, nbytes)?;
        let storage = match reference.view {
            Some(view) => self.resolve_view(view, root, size)?,
            None => root,
        };
        Ok(Some(Resolved { storage, dtype: reference.class }))
    }

    /// `(view key, offset, size)`, in elements.
    fn resolve_view(&mut self, view: NodeId, root: StorageId, size: u64) -> Kinded<StorageId> {
        let bad = ErrorKind::PersistentId("its view is not (key, offset, size)");
        let graph = self.graph;
        let Some([key, offset, count]) = graph.tuple(view) else { return Err(bad) };
        let number = |id: NodeId| graph.int(id).and_then(|n| u64::try_from(n).ok()?.checked_mul(size));
        match (key_text(graph, *key), number(*offset), number(*count)) {
            (Some(key), Some(offset), Some(len)) => self.storage_view(&key, root, offset, len),
            _ => Err(bad),
        }
    }
}
