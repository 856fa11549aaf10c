//! [`Offset`] and [`Span`]: places in a source.

use std::fmt;

/// A byte position, counted from the start of the source or of the stream that the context names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub u64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A run of bytes: where it starts and how many there are. The end always fits in 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    start: u64,
    len: u64,
}

impl Span {
    /// The run of `len` bytes from `start`; `None` where the end would not fit in 64 bits.
    pub fn new(start: u64, len: u64) -> Option<Self> {
        start.checked_add(len).map(|_| Self { start, len })
    }

    /// The run from `start` up to `end`; empty where `end` lies before `start`.
    pub fn between(start: u64, end: u64) -> Self {
        Self { start, len: end.saturating_sub(start) }
    }

    /// First byte.
    pub fn start(self) -> u64 {
        self.start
    }

    /// One past the last byte.
    pub fn end(self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// Number of bytes.
    pub fn len(self) -> u64 {
        self.len
    }

    /// Whether it holds no byte.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The part of this span that begins `offset` bytes into it and has `len` bytes; `None` where it would leave it.
    pub fn sub(self, offset: u64, len: u64) -> Option<Self> {
        let end = offset.checked_add(len)?;
        (end <= self.len).then(|| Self { start: self.start.saturating_add(offset), len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_stays_inside() {
        let span = Span::new(10, 4).unwrap();
        assert_eq!(span.sub(1, 3), Span::new(11, 3));
        assert_eq!(span.sub(1, 4), None);
        assert_eq!(span.sub(u64::MAX, 2), None);
    }

    #[test]
    fn an_end_beyond_64_bits_is_refused() {
        assert_eq!(Span::new(u64::MAX, 1), None);
    }
}
