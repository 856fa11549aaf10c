#![allow(clippy::cast_possible_truncation, reason = "small numbers that the tests themselves make")]

use std::sync::Arc;

use super::*;
use crate::bytes::Span;
use crate::limits::Limits;
use crate::tensor::{Family, StorageId, StreamId, ViewSpec};

/// A small generator, so that every run tries the same views.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn storage(bytes: Vec<u8>, big_endian: bool) -> (Streams, Storage) {
    let len = bytes.size();
    let span = Span::between(3, len);
    let place = Place::Stored { stream: StreamId::SOURCE, span };
    let storage = Storage { key: "0".into(), entry: None, place, len: span.len(), big_endian, crc32: None };
    (Streams::new(Arc::new(bytes)), storage)
}

fn spec(dtype: Dtype, offset: u64, shape: &[u64], strides: &[u64]) -> ViewSpec {
    let signed = |values: &[u64]| values.iter().map(|v| i64::try_from(*v).unwrap()).collect();
    ViewSpec {
        dtype,
        family: Family::Torch,
        offset: i64::try_from(offset).unwrap(),
        shape: signed(shape),
        strides: signed(strides),
        negated: false,
        conjugated: false,
    }
}

/// The slow twin: one element after the other, by its definition.
fn naive(bytes: &[u8], view: &View) -> Vec<u8> {
    let width = view.dtype().size();
    let mut out = Vec::new();
    for i in 0..view.elements() {
        let (mut rest, mut at) = (i, view.offset());
        for (n, stride) in view.shape().iter().zip(view.strides()).rev() {
            at += rest % n * stride;
            rest /= n;
        }
        let from = usize::try_from(at * width).unwrap() + 3;
        out.extend_from_slice(&bytes[from..from + usize::try_from(width).unwrap()]);
    }
    out
}

fn random_view(dice: &mut Dice) -> (Vec<u8>, ViewSpec) {
    let dtypes = [Dtype::U8, Dtype::F16, Dtype::F32, Dtype::F64, Dtype::C128];
    let dtype = dtypes[usize::try_from(dice.roll(5)).unwrap()];
    let rank = dice.roll(6);
    let mut shape: Vec<u64> =
        (0..rank).map(|_| [1, 1 + dice.roll(9), 1 + dice.roll(70)][dice.roll(3) as usize]).collect();
    while shape.iter().product::<u64>() > 40_000 {
        shape.pop();
    }
    // Strides of a permuted contiguous tensor, some of them disturbed.
    let mut order: Vec<usize> = (0..shape.len()).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, dice.roll(i as u64 + 1) as usize);
    }
    let mut strides = vec![0; shape.len()];
    let mut step = 1 + dice.roll(2) * dice.roll(40);
    for i in order {
        strides[i] = match dice.roll(8) {
            0 => 0,
            1 => 1,
            2 => step + dice.roll(300),
            _ => step,
        };
        step = (step * shape[i]).min(3_000);
    }
    let offset = dice.roll(5);
    let last: u64 = offset + shape.iter().zip(&strides).map(|(n, s)| (n - 1) * s).sum::<u64>();
    let len = 3 + (last + 1) * dtype.size() + dice.roll(2);
    let bytes = (0..len).map(|_| dice.roll(256) as u8).collect();
    (bytes, spec(dtype, offset, &shape, &strides))
}

#[test]
fn gathers_what_the_definition_says_whatever_the_strides_and_the_memory() {
    let mut dice = Dice(7);
    for round in 0..3_000 {
        let (bytes, spec) = random_view(&mut dice);
        let (streams, storage) = storage(bytes.clone(), false);
        let view = View::new(StorageId(0), &storage, &spec, &Limits::default()).unwrap();
        let expected = naive(&bytes, &view);
        // Below what `new` allows, so that small tensors are cut into many bands.
        let mut scratch = Scratch { bytes: Vec::new(), limit: 64 << dice.roll(14) };
        let mut reader = Reader::new(&streams, &storage, &view).unwrap();
        let mut out = vec![0; 16 << dice.roll(14)];
        let mut got = Vec::new();
        loop {
            let n = reader.read(&mut scratch, &mut out).unwrap();
            if n == 0 {
                break;
            }
            got.extend_from_slice(&out[..n]);
            if dice.roll(20) == 0 {
                reader.detach();
            }
        }
        assert!(got == expected, "round {round}: {spec:?}");
        assert_eq!(reader.remaining(), 0);
        assert!(length(scratch.bytes.len()) <= scratch.limit.max(16), "round {round}: {spec:?}");
    }
}

#[test]
fn a_matrix_is_transposed_in_memory_smaller_than_itself() {
    let (rows, columns) = (700_u64, 900_u64);
    let bytes: Vec<u8> = (0..3 + rows * columns * 4).map(|i| (i % 251) as u8).collect();
    let (streams, storage) = storage(bytes.clone(), false);
    let spec = spec(Dtype::F32, 0, &[columns, rows], &[1, columns]);
    let view = View::new(StorageId(0), &storage, &spec, &Limits::default()).unwrap();
    let mut out = vec![0; usize::try_from(view.nbytes()).unwrap()];
    read_into(&streams, &storage, &view, &mut Scratch::new(128 * 1024), &mut out).unwrap();
    assert!(out == naive(&bytes, &view));
    assert!(read_into(&streams, &storage, &view, &mut Scratch::new(0), &mut out[1..]).is_err());
}

fn whole(
    dtype: Dtype,
    bytes: &[u8],
    big_endian: bool,
    negated: bool,
    conjugated: bool,
) -> Result<Vec<u8>, ReadError> {
    let mut padded = vec![0xee; 3];
    padded.extend_from_slice(bytes);
    let (streams, storage) = storage(padded, big_endian);
    let n = length(bytes.len()) / dtype.size();
    let spec = ViewSpec { negated, conjugated, ..spec(dtype, 0, &[n], &[1]) };
    let view = View::new(StorageId(0), &storage, &spec, &Limits::default()).unwrap();
    let mut out = vec![0; bytes.len()];
    read_into(&streams, &storage, &view, &mut Scratch::new(0), &mut out)?;
    Ok(out)
}

#[test]
fn big_endian_values_are_turned_part_by_part() {
    assert_eq!(whole(Dtype::F32, &[1, 2, 3, 4], true, false, false).unwrap(), [4, 3, 2, 1]);
    assert_eq!(
        whole(Dtype::C64, &[1, 2, 3, 4, 5, 6, 7, 8], true, false, false).unwrap(),
        [4, 3, 2, 1, 8, 7, 6, 5]
    );
    assert_eq!(whole(Dtype::U8, &[1, 2], true, false, false).unwrap(), [1, 2]);
}

#[test]
fn signs_are_turned_as_the_type_has_them() {
    let turned =
        |dtype, bytes: &[u8], negated, conjugated| whole(dtype, bytes, false, negated, conjugated).unwrap();
    assert_eq!(turned(Dtype::F32, &1.5_f32.to_le_bytes(), true, false), (-1.5_f32).to_le_bytes());
    assert_eq!(turned(Dtype::I16, &300_i16.to_le_bytes(), true, false), (-300_i16).to_le_bytes());
    assert_eq!(turned(Dtype::I32, &0_i32.to_le_bytes(), true, false), [0; 4]);
    assert_eq!(turned(Dtype::F8E4M3Fnuz, &[0, 0x80, 1], true, false), [0, 0x80, 0x81]);
    let pair = [1.0_f32, 2.0].map(f32::to_le_bytes).concat();
    assert_eq!(turned(Dtype::C64, &pair, false, true), [1.0_f32, -2.0].map(f32::to_le_bytes).concat());
    assert_eq!(turned(Dtype::C64, &pair, true, false), [-1.0_f32, -2.0].map(f32::to_le_bytes).concat());
    assert_eq!(turned(Dtype::C64, &pair, true, true), [-1.0_f32, 2.0].map(f32::to_le_bytes).concat());
    assert!(matches!(whole(Dtype::Bool, &[1], false, true, false), Err(ReadError::Unsigned(Dtype::Bool))));
}

#[test]
fn a_boolean_that_is_neither_is_refused_with_its_place() {
    assert_eq!(whole(Dtype::Bool, &[0, 1, 1], false, false, false).unwrap(), [0, 1, 1]);
    let error = whole(Dtype::Bool, &[0, 1, 255], false, false, false).unwrap_err();
    assert!(matches!(error, ReadError::Bool { element: 2, value: 255 }));
}

#[test]
fn a_source_that_ends_early_and_a_storage_of_another_view_are_errors() {
    let (_, storage) = storage(vec![0; 43], false);
    let view =
        View::new(StorageId(0), &storage, &spec(Dtype::F32, 0, &[10], &[1]), &Limits::default()).unwrap();
    let shrunk = Streams::new(Arc::new(vec![0; 42]));
    let mut out = vec![7; 40];
    let error = read_into(&shrunk, &storage, &view, &mut Scratch::new(0), &mut out).unwrap_err();
    assert!(matches!(error, ReadError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof));
    let other = Storage {
        place: Place::Stored { stream: StreamId::SOURCE, span: Span::between(0, 39) },
        ..storage.clone()
    };
    assert!(Reader::new(&shrunk, &other, &view).is_err());
    let deflated = Storage {
        place: Place::Deflated { stream: StreamId::SOURCE, span: Span::between(0, 39) },
        ..storage
    };
    assert!(matches!(Reader::new(&shrunk, &deflated, &view), Err(ReadError::Deflated)));
}
