//! [`places`]: the ranks of a mesh, by their places in it.

/// Every place of a grid of these sizes, the last dimension fastest.
pub(in crate::checkpoint) fn places(sizes: &[u64]) -> impl Iterator<Item = Box<[u64]>> + '_ {
    (0_u64..).map_while(|number| place(number, sizes))
}

/// The place of a number; `None` behind the last.
fn place(mut number: u64, sizes: &[u64]) -> Option<Box<[u64]>> {
    let mut place = vec![0; sizes.len()];
    for (at, size) in place.iter_mut().zip(sizes).rev() {
        *at = number.checked_rem(*size)?;
        number = number.checked_div(*size)?;
    }
    (number == 0).then(|| place.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_met_once() {
        let of = |sizes: &[u64]| places(sizes).map(Vec::from).collect::<Vec<_>>();
        assert_eq!(of(&[2, 2]), [[0, 0], [0, 1], [1, 0], [1, 1]]);
        assert_eq!(of(&[3]), [[0], [1], [2]]);
        assert_eq!(of(&[]), [Vec::<u64>::new()]);
        assert_eq!(of(&[2, 0]), Vec::<Vec<u64>>::new());
        assert_eq!(places(&[u64::MAX, u64::MAX]).nth(1).as_deref(), Some(&[0, 1][..]));
    }
}
