//! Bounds on what a hostile file may make the reader spend, and the purse that spends them.
//!
//! Each number stands far above what any honest checkpoint needs and far below what would hurt the reader. All of
//! them are public so that a service can tighten them.

/// Upper bounds, each with the attack that it stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Opcodes that one source may execute, over all of its pickles. Stops endless streams; a checkpoint with a
    /// million tensors takes about 60 million.
    pub operations: u64,
    /// Nodes of the object graph. Each takes about 32 bytes; stops streams of one-byte opcodes that build objects.
    pub nodes: usize,
    /// Entries in the memo. `LONG_BINPUT 0x7fffffff` must not allocate two billion slots.
    pub memo: usize,
    /// Marks and stack items that are open at one time; of items alone, 64 times as many, because protocol 0 pushes a
    /// list whole. Stops streams of `(` and of `2` (DUP).
    pub stack: usize,
    /// Bytes of text, integers and small byte strings kept in memory, over all pickles of a source.
    pub string_bytes: u64,
    /// Bytes of one pickle that has to be inflated into memory before it can be read.
    pub inflated_pickle: u64,
    /// Levels of containers between the root and a tensor. Python itself stops at about 1,000.
    pub depth: usize,
    /// Names that shared containers may yield beyond one for each node. A dictionary of 60 levels that names its
    /// child twice would yield 10^18.
    pub extra_names: usize,
    /// Bytes of output for each byte of storage that a view shows, for views above 64 MiB; and for each byte of all
    /// storages of a source, where its tensors take more than 1 GiB. A stride of zero declares any size with four
    /// bytes.
    pub view_expansion: u64,
    /// Ratio of the inflated to the stored size of one archive member. Deflate itself cannot exceed 1,032.
    pub inflate_ratio: u64,
    /// Bytes that a compressed file may expand to, however small it is. Together with the ratio, which a larger one has to
    /// keep, it stops bombs: bzip2 and xz can write thousands of bytes for one.
    pub expanded_free: u64,
    /// Bytes that any compressed file may expand to. They go to a temporary file, which must not fill the disk.
    pub expanded: u64,
    /// Members of one archive.
    pub entries: usize,
    /// Levels of checkpoints inside each other: `torch.save` to a buffer, the bytes of which are saved again.
    pub nested: usize,
    /// Dimensions of one tensor (torch allows 64).
    pub rank: usize,
    /// Bytes of indices that are read to check the sparse and nested tensors of one source. Stops a million tensors
    /// that share one large table of indices.
    pub index_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            operations: 4_000_000_000,
            nodes: 200_000_000,
            memo: 100_000_000,
            stack: 1_000_000,
            string_bytes: 4 << 30,
            inflated_pickle: 1 << 30,
            depth: 1_000,
            extra_names: 100_000,
            view_expansion: 4_096,
            inflate_ratio: 1_100,
            expanded_free: 256 << 20,
            expanded: 1 << 40,
            entries: 10_000_000,
            nested: 3,
            rank: 64,
            index_bytes: 16 << 30,
        }
    }
}

/// Which of the [`Limits`] was met; the names are those of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitKind {
    /// [`Limits::operations`]
    Operations,
    /// [`Limits::nodes`]
    Nodes,
    /// [`Limits::memo`]
    Memo,
    /// [`Limits::stack`]
    Stack,
    /// [`Limits::string_bytes`]
    StringBytes,
    /// [`Limits::inflated_pickle`]
    InflatedPickle,
    /// [`Limits::depth`]
    Depth,
    /// [`Limits::extra_names`]
    ExtraNames,
    /// [`Limits::view_expansion`]
    ViewExpansion,
    /// [`Limits::inflate_ratio`]
    InflateRatio,
    /// [`Limits::expanded`], [`Limits::expanded_free`]
    Expanded,
    /// [`Limits::entries`]
    Entries,
    /// [`Limits::nested`]
    Nested,
    /// [`Limits::rank`]
    Rank,
    /// [`Limits::index_bytes`]
    IndexBytes,
}

impl std::fmt::Display for LimitKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Operations => "operations",
            Self::Nodes => "nodes",
            Self::Memo => "memo entries",
            Self::Stack => "stack items",
            Self::StringBytes => "string bytes",
            Self::InflatedPickle => "inflated pickle bytes",
            Self::Depth => "nesting depth",
            Self::ExtraNames => "names of shared containers",
            Self::ViewExpansion => "view expansion",
            Self::InflateRatio => "inflation ratio",
            Self::Expanded => "expanded bytes",
            Self::Entries => "archive members",
            Self::Nested => "levels of checkpoints inside each other",
            Self::Rank => "tensor dimensions",
            Self::IndexBytes => "bytes of indices",
        })
    }
}

/// A limit that was met: what it allows and what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("limit on {kind} met: {allowed} allowed, {wanted} wanted")]
pub struct LimitExceeded {
    /// Which limit.
    pub kind: LimitKind,
    /// The number in force.
    pub allowed: u64,
    /// The number that the file asked for.
    pub wanted: u64,
}

/// Checks a wanted amount against the amount allowed, *before* the work is done or the memory taken.
pub(crate) fn check(kind: LimitKind, allowed: u64, wanted: u64) -> Result<(), LimitExceeded> {
    if wanted > allowed { Err(LimitExceeded { kind, allowed, wanted }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_admits_the_limit_itself_and_refuses_one_more() {
        assert_eq!(check(LimitKind::Memo, 5, 5), Ok(()));
        let refused = LimitExceeded { kind: LimitKind::Memo, allowed: 5, wanted: 6 };
        assert_eq!(check(LimitKind::Memo, 5, 6), Err(refused));
    }
}
