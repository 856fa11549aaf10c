//! Views that lie: each error of `tensor`, from a pickle.

use depickle::limits::{LimitKind, Limits};
use depickle::rebuild;
use depickle::tensor::ErrorKind;

use crate::asm::*;
use crate::support::{rebuild, rebuild_error, rebuild_limit};

fn view_error(offset: i64, shape: &[i64], strides: &[i64]) -> ErrorKind {
    let tensor = tensor_of(&storage("FloatStorage", "0", 1024), offset, shape, strides);
    match rebuild_error(&tensor) {
        rebuild::ErrorKind::Tensor(error) => error.kind,
        other => panic!("{other}"),
    }
}

#[test]
fn negative_numbers() {
    assert!(matches!(view_error(-1, &[1], &[1]), ErrorKind::Negative { what: "offset", value: -1 }));
    assert!(matches!(view_error(0, &[2, -3], &[1, 1]), ErrorKind::Negative { what: "size", value: -3 }));
    assert!(matches!(view_error(0, &[2], &[-1]), ErrorKind::Negative { what: "stride", value: -1 }));
}

#[test]
fn ranks_that_differ() {
    assert!(matches!(view_error(0, &[2, 3], &[1]), ErrorKind::RankMismatch { sizes: 2, strides: 1 }));
}

#[test]
fn a_view_ends_inside_its_storage() {
    assert!(matches!(view_error(1024, &[1], &[1]), ErrorKind::OutOfBounds { end: 4100, len: 4096 }));
    assert!(matches!(view_error(0, &[2, 2], &[1024, 1]), ErrorKind::OutOfBounds { .. }));
    assert!(matches!(view_error(i64::MAX, &[1], &[1]), ErrorKind::OutOfBounds { .. }));
    assert!(matches!(view_error(0, &[2, 2], &[i64::MAX, i64::MAX]), ErrorKind::OutOfBounds { .. }));
    rebuild(&tensor_of(&storage("FloatStorage", "0", 1024), 1023, &[1, 1], &[i64::MAX, 7]));
    rebuild(&tensor_of(&storage("FloatStorage", "0", 1024), 5_000, &[3, 0], &[1, 1]));
}

#[test]
fn sizes_whose_product_overflows() {
    assert!(matches!(view_error(0, &[i64::MAX, i64::MAX], &[0, 0]), ErrorKind::TooLarge(_)));
    assert!(matches!(view_error(0, &[0, i64::MAX, i64::MAX], &[0, 0, 0]), ErrorKind::TooLarge(_)));
}

#[test]
fn expansion_and_rank_are_limited() {
    let expanded = |n| tensor_of(&storage("FloatStorage", "0", 1), 0, &[n], &[0]);
    assert_eq!(rebuild_limit(&expanded(1 << 40), Limits::default()), LimitKind::ViewExpansion);
    rebuild(&expanded(1 << 20));
    let ones = vec![1; 65];
    let deep = tensor_of(&storage("FloatStorage", "0", 1), 0, &ones, &ones);
    assert_eq!(rebuild_limit(&deep, Limits::default()), LimitKind::Rank);
}
