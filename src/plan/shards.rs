//! Which tensors go into which file, where there are several.

/// Splits tensors of these sizes, in their order, into files of at most `most` bytes of tensors, as `huggingface_hub` does
/// ([`split_state_dict_into_shards_factory`](https://github.com/huggingface/huggingface_hub/blob/main/src/huggingface_hub/serialization/_base.py)):
/// a file is closed when the next tensor does not fit, and a tensor larger than a file has one of its own, which comes
/// before the one that is still open.
///
/// ```
/// # use depickle::plan::by_size;
/// assert_eq!(by_size([6, 6, 2, 6, 2, 2].into_iter(), 10), [vec![0], vec![1, 2], vec![3, 4, 5]]);
/// assert_eq!(by_size([4, 11, 4].into_iter(), 10), [vec![1], vec![0, 2]]);
/// ```
pub fn by_size(sizes: impl Iterator<Item = u64>, most: u64) -> Vec<Vec<usize>> {
    let mut shards = Vec::new();
    let (mut open, mut filled) = (Vec::new(), 0_u64);
    for (tensor, size) in sizes.enumerate() {
        if size > most {
            shards.push(vec![tensor]);
            continue;
        }
        if filled.saturating_add(size) > most {
            shards.push(std::mem::take(&mut open));
            filled = 0;
        }
        open.push(tensor);
        filled = filled.saturating_add(size);
    }
    if !open.is_empty() {
        shards.push(open);
    }
    shards
}
