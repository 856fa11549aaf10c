//! The parts of a conversion by themselves: the pickle machine, the rebuild, the plan, gathering, hashing.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use depickle::bytes::{Cursor, ReadAt, Span};
use depickle::checkpoint::{OpenOptions, open};
use depickle::limits::Limits;
use depickle::pickle::{Event, Vm};
use depickle::plan;
use depickle::tensor::{
    Dtype, Family, Place, Scratch, Storage, StorageId, StreamId, Streams, View, ViewSpec, read_into,
};

/// A pickle of a dictionary with as many numbers as a checkpoint has tensors.
fn numbers(n: u32) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    for i in 0..n {
        let key = format!("model.layers.{i}.weight");
        pickle.push(b'X');
        pickle.extend(u32::try_from(key.len()).unwrap_or(0).to_le_bytes());
        pickle.extend(key.as_bytes());
        pickle.push(b'J');
        pickle.extend(i.to_le_bytes());
    }
    pickle.extend(b"u.");
    pickle
}

fn machine(c: &mut Criterion) {
    let pickle = numbers(100_000);
    let limits = Limits::default();
    let mut group = c.benchmark_group("machine");
    group.throughput(Throughput::Bytes(pickle.size()));
    group.bench_function("dictionary of 100,000", |b| {
        b.iter(|| {
            let mut vm = Vm::new(Cursor::new(&pickle, Span::between(0, pickle.size())), &limits);
            assert!(matches!(vm.run(), Ok(Event::Stop(_))));
            black_box(vm.into_graph().len())
        });
    });
    group.finish();
}

fn checkpoint(c: &mut Criterion) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/tiny_gpt.ckpt");
    let Ok(bytes) = std::fs::read(path) else { return };
    let source: Arc<dyn ReadAt> = Arc::new(bytes);
    let options = OpenOptions::default();
    c.bench_function("open the example", |b| {
        b.iter(|| open(&source, &options).map(|opened| opened.tensors.len()).ok());
    });
    let Ok(opened) = open(&source, &options) else { return };
    let options = plan::Options::default();
    c.bench_function("plan the example", |b| {
        b.iter(|| plan::plan(&opened.tree, &opened.tensors, &options).is_ok());
    });
}

fn gather(c: &mut Criterion) {
    const SIDE: u64 = 2048;
    let len = SIDE * SIDE * 4;
    let bytes: Arc<dyn ReadAt> = Arc::new(vec![1_u8; usize::try_from(len).unwrap_or(0)]);
    let streams = Streams::new(bytes);
    let place = Place::Stored { stream: StreamId::SOURCE, span: Span::between(0, len) };
    let storage = Storage { key: "0".into(), entry: None, place, len, big_endian: false, crc32: None };
    let mut group = c.benchmark_group("gather");
    group.throughput(Throughput::Bytes(len));
    let side = i64::try_from(SIDE).unwrap_or(0);
    for (name, strides) in [("contiguous", vec![side, 1]), ("transposed", vec![1, side])] {
        let spec = ViewSpec {
            dtype: Dtype::F32,
            family: Family::Torch,
            offset: 0,
            shape: vec![side, side],
            strides,
            negated: false,
            conjugated: false,
        };
        let Ok(view) = View::new(StorageId(0), &storage, &spec, &Limits::default()) else { return };
        let mut out = vec![0; usize::try_from(len).unwrap_or(0)];
        let mut scratch = Scratch::new(8 << 20);
        group.bench_function(name, |b| {
            b.iter(|| read_into(&streams, &storage, &view, &mut scratch, &mut out).is_ok());
        });
    }
    group.finish();
}

criterion_group!(parts, machine, checkpoint, gather);
criterion_main!(parts);
