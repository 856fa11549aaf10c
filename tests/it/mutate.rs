//! Mutated checkpoints: whatever is done to their bytes, opening them ends, soon, and without a panic.
//!
//! The seeds are fixed. `DEPICKLE_MUTATIONS=1000000` runs as many as it says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use depickle::bytes::ReadAt;
use depickle::checkpoint::{OpenOptions, Opened, open};
use depickle::container::Archive;
use depickle::limits::Limits;
use depickle::tensor::Place;

use crate::fixtures_names::folder;
use crate::zips::{Entry, Zip};

/// How many are run where nothing else is asked for.
const MUTATIONS: u64 = 20_000;
/// Larger seeds cost time and add nothing.
const LARGEST: usize = 16 * 1024;

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

pub(crate) fn limits() -> Limits {
    Limits {
        operations: 200_000,
        nodes: 200_000,
        memo: 50_000,
        stack: 10_000,
        string_bytes: 4 << 20,
        inflated_pickle: 4 << 20,
        extra_names: 10_000,
        entries: 10_000,
        ..Limits::default()
    }
}

fn options() -> OpenOptions {
    OpenOptions { limits: limits(), skip_unresolved: true, ..OpenOptions::default() }
}

/// Small fixtures of every folder, in a fixed order.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for writer in
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).filter(|p| p.is_dir())
    {
        for file in std::fs::read_dir(writer).unwrap().map(|entry| entry.unwrap().path()) {
            let bytes = std::fs::read(&file).unwrap_or_default();
            if (1..=LARGEST).contains(&bytes.len()) {
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                seeds.extend(unchecked(&bytes).map(|bytes| (format!("{name} without checksums"), bytes)));
                seeds.push((name, bytes));
            }
        }
    }
    seeds.sort();
    assert!(seeds.len() > 50, "the fixtures are missing");
    seeds
}

/// An archive written again without checksums, so that mutations of its pickle reach the machine.
fn unchecked(bytes: &[u8]) -> Option<Vec<u8>> {
    let bytes = &bytes.to_vec();
    let archive = Archive::open(bytes, &Limits::default()).ok()?;
    let entries = archive.members().iter().map(|member| {
        let content = archive.read(bytes, member, 1 << 20).unwrap_or_default();
        Entry::torch(&member.name, &content).both(|header| header.crc = 0)
    });
    Some(Zip::of(entries.collect()).bytes())
}

/// Opens a source, and holds what came out to what it says of itself.
fn check(what: &str, bytes: Vec<u8>) -> bool {
    let start = Instant::now();
    let size = bytes.size();
    let source: Arc<dyn ReadAt> = Arc::new(bytes);
    let opened = open(&source, &options());
    assert!(start.elapsed() < Duration::from_secs(5), "{what}: took {:?}", start.elapsed());
    opened.as_ref().is_ok_and(|opened| {
        inside(what, size, opened);
        true
    })
}

fn inside(what: &str, size: u64, opened: &Opened) {
    for storage in &opened.storages {
        let (span, end) = match storage.place {
            Place::Stored { stream, span } => (span, opened.streams.stream(stream).size()),
            Place::Deflated { span, .. } => (span, size),
        };
        assert!(span.end() <= end, "{what}: a storage outside of its stream");
    }
    for tensor in &opened.tensors {
        let (view, storage) = (&tensor.view, &opened.storages[tensor.view.storage().index()]);
        let last = view.shape().iter().zip(view.strides()).map(|(n, stride)| n.saturating_sub(1) * stride);
        let end = (view.offset() + last.sum::<u64>() + 1) * view.dtype().size();
        assert!(view.is_empty() || end <= storage.len, "{what}: a view outside of its storage");
    }
    for (id, _) in opened.tree.tensors() {
        assert!(opened.tree.path(id).len() <= limits().depth + 1, "{what}: too deep");
    }
    let a = &opened.files[0].accounting;
    let total = a.pickle + a.tensors + a.container + a.other + a.unreferenced + a.trailing;
    // Of a compressed source, what is inside is accounted for.
    let expanded = opened.files[0].outer.as_ref().is_some_and(|outer| outer.expanded);
    let size = if expanded { opened.streams.source().size() } else { size };
    assert_eq!(total, size, "{what}: bytes without an account");
}

/// One to four changes: bits, bytes that matter to formats, numbers, and parts of other seeds.
pub(crate) fn mutate(random: &mut Random, seeds: &[(String, Vec<u8>)], bytes: &mut Vec<u8>) {
    const TELLING: &[u8] =
        b"\x00\x01\x7f\x80\xff().02NRbctqhQuseaK]}P\x81\x85\x86\x87\x8a\x8b\x92\x93\x94\x95";
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(8) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 | 3 => bytes[at] = TELLING[random.below(TELLING.len())],
            4 => {
                let n = random.below(16).min(bytes.len() - at);
                bytes.drain(at..at + n);
            }
            5 => {
                let from = &seeds[random.below(seeds.len())].1;
                let start = random.below(from.len());
                let part = &from[start..(start + random.below(64)).min(from.len())];
                bytes.splice(at..at, part.iter().copied());
            }
            6 => {
                let number = [0, 1, u32::MAX, 0x7fff_ffff, bytes.len() as u32][random.below(5)].to_le_bytes();
                let end = (at + 4).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            _ => {
                let n = random.below(64).min(bytes.len() - at);
                let part = bytes[at..at + n].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, part);
            }
        }
    }
}

#[test]
fn seeds_open_or_are_refused_as_a_whole() {
    let opened = seeds().into_iter().filter(|(name, bytes)| check(name, bytes.clone())).count();
    assert!(opened > 50, "{opened}");
}

#[test]
fn truncation_at_every_byte() {
    let small = |(_, bytes): &(String, Vec<u8>)| bytes.len() < 2_000;
    for (name, bytes) in seeds().into_iter().filter(small).step_by(4) {
        for end in 0..bytes.len() {
            check(&format!("{name} cut at {end}"), bytes[..end].to_vec());
        }
    }
}

#[test]
fn mutations() {
    let count = std::env::var("DEPICKLE_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(MUTATIONS);
    let seeds = seeds();
    let mut opened = 0_u64;
    for n in 0..count {
        let mut random = Random::new(n + 1);
        let (name, bytes) = &seeds[random.below(seeds.len())];
        let mut bytes = bytes.clone();
        mutate(&mut random, &seeds, &mut bytes);
        opened += u64::from(check(&format!("{name}, mutation {n}"), bytes));
    }
    eprintln!("{count} mutations, {opened} opened");
    assert!(opened > count / 100, "{opened}: the mutations no longer reach what lies behind the container");
}
