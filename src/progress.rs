//! What the pipeline tells of its progress. The library is silent by default; the command line draws bars.

/// Receives progress. Calls come from several threads at once.
pub trait Progress: Send + Sync {
    /// A conversion begins that will read and write about this many bytes in all.
    fn begin(&self, _label: &str, _total_bytes: u64) {}
    /// So many more bytes are done.
    fn advance(&self, _bytes: u64) {}
    /// The conversion has ended, well or not.
    fn finish(&self) {}
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}
