//! Any bytes as a pickle: opcodes tile them, the machine stops where the decoder does, and what it built can be
//! rebuilt or refused, with every view inside its storage.
#![no_main]

use std::sync::Arc;

use depickle::bytes::{Cursor, Offset, ReadAt, Span};
use depickle::container::{Error, ErrorKind, Storages};
use depickle::limits::Limits;
use depickle::pickle::{Event, Vm, decode};
use depickle::rebuild::{Context, rebuild};
use depickle::tensor::{Place, Storage, StreamId, Streams};
use libfuzzer_sys::fuzz_target;

/// Every key has a storage of so many bytes.
struct Every(u64);

impl Storages for Every {
    fn storage(&self, key: &str, nbytes: u64) -> Result<Storage, Error> {
        if nbytes > self.0 {
            let kind = ErrorKind::Length { got: self.0, expected: nbytes };
            return Err(Error { entry: None, offset: Offset(0), kind });
        }
        let place = Place::Stored { stream: StreamId::SOURCE, span: Span::between(0, self.0) };
        Ok(Storage { key: key.into(), entry: None, place, len: self.0, big_endian: false, crc32: None })
    }
}

/// Where the opcodes end: after `STOP`, or at the first that cannot be decoded.
fn tile(bytes: &Vec<u8>) -> (u64, bool) {
    let mut cursor = Cursor::new(bytes, Span::between(0, bytes.size()));
    loop {
        let at = cursor.position();
        match decode(&mut cursor) {
            Ok(op) => {
                assert_eq!(op.offset, at, "opcodes tile the pickle");
                assert!(cursor.position() > at, "every opcode takes a byte");
                if op.opcode.name == "STOP" {
                    return (cursor.position().0, true);
                }
            }
            Err(error) => {
                assert_eq!(error.offset, at);
                return (at.0, false);
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let bytes = data.to_vec();
    let limits = Limits {
        operations: 100_000,
        nodes: 100_000,
        memo: 10_000,
        stack: 10_000,
        string_bytes: 1 << 20,
        depth: 64,
        extra_names: 1_000,
        ..Limits::default()
    };
    let (end, stops) = tile(&bytes);
    let mut vm = Vm::new(Cursor::new(&bytes, Span::between(0, bytes.size())), &limits);
    let Ok(Event::Stop(root)) = vm.run() else { return };
    assert!(stops && vm.position().0 == end, "the machine reads what the decoder does");
    let graph = vm.into_graph();
    let mut streams = Streams::new(Arc::new(bytes));
    let every = Every(256);
    let context =
        Context { stream: StreamId::SOURCE, storages: Some(&every), limits: &limits, skip_unresolved: true };
    let Ok(rebuilt) = rebuild(&graph, root, context, &mut streams) else { return };
    for tensor in &rebuilt.tensors {
        let (view, storage) = (&tensor.view, &rebuilt.storages[tensor.view.storage().index()]);
        let last: u64 = view.shape().iter().zip(view.strides()).map(|(n, s)| n.saturating_sub(1) * s).sum();
        assert!(view.is_empty() || (view.offset() + last + 1) * view.dtype().size() <= storage.len);
    }
    for (id, _) in rebuilt.tree.tensors() {
        assert!(rebuilt.tree.path(id).len() <= limits.depth + 1);
    }
});
