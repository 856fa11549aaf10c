//! Each error of reading.

use depickle::bytes::{Cursor, ErrorKind, FileSource, ReadAt, Span};

/// A source that says it is longer than it is.
struct Shrunk(Vec<u8>, u64);

impl ReadAt for Shrunk {
    fn size(&self) -> u64 {
        self.1
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
}

#[test]
fn a_source_that_shrinks_is_an_error() {
    let source = Shrunk(vec![b'N'; 10], 20);
    let mut cursor = Cursor::new(&source, Span::between(0, 20));
    assert!(matches!(cursor.take(15).unwrap_err().kind, ErrorKind::Io(_)));
    let limits = depickle::limits::Limits::default();
    let error =
        depickle::pickle::Vm::new(Cursor::new(&source, Span::between(0, 20)), &limits).run().unwrap_err();
    assert!(error.kind.is_io(), "{error}");
}

#[test]
fn truncation_says_what_was_wanted_and_what_is_left() {
    let bytes = vec![1, 2, 3];
    let mut cursor = Cursor::new(&bytes, Span::between(0, 3));
    let error = cursor.take(4).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Truncated { wanted: 4, left: 3 }));
    assert_eq!(cursor.take(3).unwrap(), [1, 2, 3]);
    assert!(matches!(cursor.byte().unwrap_err().kind, ErrorKind::Truncated { wanted: 1, left: 0 }));
    assert!(matches!(cursor.skip(u64::MAX).unwrap_err().kind, ErrorKind::Truncated { .. }));
}

#[test]
fn a_line_without_an_end() {
    let bytes = b"endless".to_vec();
    let mut cursor = Cursor::new(&bytes, Span::between(0, 7));
    assert!(matches!(cursor.line(3).unwrap_err().kind, ErrorKind::UnterminatedLine(3)));
}

#[test]
fn a_span_beyond_the_source_ends_where_it_ends() {
    let bytes = vec![1];
    assert_eq!(Cursor::new(&bytes, Span::between(0, 100)).remaining(), 1);
    assert_eq!(Cursor::new(&bytes, Span::between(100, 200)).remaining(), 0);
}

#[test]
fn only_regular_files_are_sources() {
    let folder = tempfile::tempdir().unwrap();
    let error = FileSource::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(FileSource::open(&folder.path().join("none")).is_err());
}

#[test]
fn a_file_that_changes_is_noticed() {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), [7; 100]).unwrap();
    let source = FileSource::open(path.path()).unwrap();
    assert!(source.check_unchanged().is_ok());
    std::fs::write(path.path(), [7; 50]).unwrap();
    assert!(source.check_unchanged().is_err());
    assert!(source.read_exact_at(&mut [0; 100], 0).is_err());
}
