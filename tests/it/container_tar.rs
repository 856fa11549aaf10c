//! Torch's tar archives: what other readers would take differently, and tables that lie.

use std::sync::Arc;

use depickle::bytes::ReadAt;
use depickle::checkpoint::{Error, OpenOptions, Opened, open};
use depickle::container::ErrorKind;
use tar::{Builder, EntryType, Header};

use crate::asm::Op::*;
use crate::asm::*;

fn header(size: usize, kind: EntryType) -> Header {
    let mut header = Header::new_ustar();
    header.set_size(size as u64);
    header.set_entry_type(kind);
    header.set_mode(0o600);
    header
}

fn add(tar: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, data: &[u8]) {
    let mut header = header(data.len(), kind);
    // Names that the crate would not write.
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    tar.append(&header, data).unwrap();
}

fn of(members: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, kind, data) in members {
        add(&mut tar, name, *kind, data);
    }
    tar.into_inner().unwrap()
}

fn storages(count: i64) -> Vec<u8> {
    let one = pickle(&tuple(&[int(1), text("cpu"), global("torch", "FloatStorage")]));
    let elements = [count.to_le_bytes().as_slice(), &[0; 24]].concat();
    [pickle(&int(1)), one, elements, pickle(&list(&[]))].concat()
}

fn tensors(storage: i64, sizes: &[i64], strides: &[i64], offset: i64) -> Vec<u8> {
    let one = pickle(&tuple(&[int(2), int(storage), global("torch", "FloatTensor")]));
    let rank = (sizes.len() as i32).to_le_bytes();
    let numbers: Vec<u8> =
        [sizes, strides, &[offset]].concat().iter().flat_map(|n| n.to_le_bytes()).collect();
    [pickle(&int(1)), one, rank.to_vec(), vec![0; 4], numbers].concat()
}

fn object() -> Vec<u8> {
    pickle(&dict(&[("w", asm![text("2"), BinPersId])]))
}

fn read(bytes: &[u8]) -> Result<Opened, Error> {
    let source: Arc<dyn ReadAt> = Arc::new(bytes.to_vec());
    open(&source, &OpenOptions::default())
}

fn archive(object: &[u8], tensors: &[u8], storages: &[u8]) -> Vec<u8> {
    let file = EntryType::Regular;
    of(&[("pickle", file, object), ("tensors", file, tensors), ("storages", file, storages)])
}

fn kind(bytes: &[u8]) -> ErrorKind {
    match read(bytes).expect_err("an error") {
        Error::Container(error) => error.kind,
        other => panic!("{other}"),
    }
}

#[test]
fn tensors_are_found_by_number() {
    let opened = read(&archive(&object(), &tensors(1, &[2, 3], &[3, 1], 0), &storages(6))).unwrap();
    assert_eq!((opened.files[0].container, opened.tensors.len()), ("torch-tar", 1));
    assert_eq!(opened.tensors[0].view.shape(), [2, 3]);
    // Other programs leave the table of tensors out, and write storages as plain tuples.
    let plain = reduce(
        "torch._utils",
        "_rebuild_tensor",
        &[
            tuple(&[text("storage"), global("torch", "FloatStorage"), text("1"), text("cpu"), int(6)]),
            int(0),
            ints(&[6]),
            ints(&[1]),
        ],
    );
    let file = EntryType::Regular;
    let without = of(&[("pickle", file, &pickle(&dict(&[("w", plain)]))), ("storages", file, &storages(6))]);
    assert_eq!(read(&without).unwrap().tensors.len(), 1);
}

#[test]
fn tables_that_lie_are_refused() {
    let shape = || tensors(1, &[6], &[1], 0);
    assert!(matches!(kind(&archive(&object(), &shape(), &storages(-1))), ErrorKind::Record { .. }));
    assert!(matches!(kind(&archive(&object(), &shape(), &storages(i64::MAX))), ErrorKind::Record { .. }));
    assert!(matches!(kind(&archive(&object(), &shape(), &storages(1 << 40))), ErrorKind::Read(_)));
    for wrong in [
        tensors(1, &[7], &[1], 0),
        tensors(1, &[6], &[1], 1),
        tensors(9, &[6], &[1], 0),
        tensors(1, &[-1], &[1], 0),
    ] {
        let error = read(&archive(&object(), &wrong, &storages(6))).expect_err("an error");
        assert!(matches!(error, Error::Rebuild { .. }), "{error}");
    }
    assert!(
        read(&archive(&object(), &[shape(), vec![7; 9]].concat(), &storages(6))).unwrap().strays.len() == 1
    );
    let ranks = [
        pickle(&int(1)),
        pickle(&tuple(&[int(2), int(1), asm![PyNone]])),
        i32::MAX.to_le_bytes().to_vec(),
        vec![0; 64],
    ];
    assert!(matches!(kind(&archive(&object(), &ranks.concat(), &storages(6))), ErrorKind::Limit(_)));
    let twice = [pickle(&int(2)), storages(6)[5..].to_vec()].concat();
    assert!(read(&archive(&object(), &shape(), &twice)).is_err());
}

#[test]
fn members_that_readers_take_differently_are_refused() {
    let file = EntryType::Regular;
    let with = |name: &str, kind: EntryType, data: &[u8]| {
        of(&[("pickle", file, &object()), ("storages", file, &storages(6)), (name, kind, data)])
    };
    for name in ["../pickle2", "/etc/passwd", "a/../b", "a\\b"] {
        assert!(matches!(kind(&with(name, file, &[])), ErrorKind::Name), "{name}");
    }
    for name in ["pickle", "PICKLE", "./pickle"] {
        assert!(matches!(kind(&with(name, file, &[])), ErrorKind::Duplicate(_)), "{name}");
    }
    for link in [EntryType::Symlink, EntryType::Link] {
        assert!(matches!(kind(&with("link", link, &[])), ErrorKind::Link));
    }
    for other in [EntryType::Fifo, EntryType::Char, EntryType::GNULongName, EntryType::GNUSparse] {
        assert!(matches!(kind(&with("other", other, &[])), ErrorKind::Name), "{other:?}");
    }
    let extension = with("x", EntryType::XHeader, b"15 path=pickle\n");
    assert!(matches!(kind(&extension), ErrorKind::Record { .. }));
    assert!(
        read(&with("x", EntryType::XHeader, b"20 mtime=1480000000\n")).is_err(),
        "no tensor by that number"
    );
    let mut broken = with("more", file, &[]);
    let at = broken.len() - 1536 + 100;
    broken[at] ^= 1;
    assert!(matches!(kind(&broken), ErrorKind::Record { .. }));
}

#[test]
fn a_payload_in_any_member_refuses() {
    let payload = pickle(&reduce("os", "system", &[text("id")]));
    let file = EntryType::Regular;
    let shape = || tensors(1, &[6], &[1], 0);
    for bytes in [
        archive(&payload, &shape(), &storages(6)),
        archive(&object(), &payload, &storages(6)),
        archive(&object(), &shape(), &payload),
        archive(&object(), &shape(), &[storages(6), payload.clone()].concat()),
        of(&[
            ("pickle", file, &object()),
            ("tensors", file, &shape()),
            ("storages", file, &storages(6)),
            ("notes", file, &payload),
        ]),
        [archive(&object(), &shape(), &storages(6)), payload.clone()].concat(),
    ] {
        assert!(matches!(read(&bytes), Err(Error::Refused { .. })));
    }
}
