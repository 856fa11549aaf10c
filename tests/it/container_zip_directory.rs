//! The directory and the end of archives: joined, displaced, doubled, and longer than they say.

use depickle::container::{Archive, Error, ErrorKind};
use depickle::limits::Limits;

use crate::zips::{Entry, Zip, Zip64};

fn open(bytes: &[u8]) -> Result<Archive, Error> {
    Archive::open(&bytes.to_vec(), &Limits::default())
}

fn zip() -> Zip {
    Zip::of(vec![Entry::torch("m/data.pkl", b"pickle"), Entry::torch("m/version", b"3\n")])
}

fn error(zip: &Zip) -> ErrorKind {
    open(&zip.bytes()).expect_err("an error").kind
}

#[test]
fn zip64_forms() {
    for form in [Zip64::Absent, Zip64::Honest, Zip64::Redundant] {
        let archive =
            open(&zip().with(|zip| zip.zip64 = form).bytes()).unwrap_or_else(|e| panic!("{form:?}: {e}"));
        assert_eq!((archive.members().len(), archive.strays().len()), (2, 0), "{form:?}");
    }
    for count in [0, 1, 3, u64::MAX] {
        let kind = error(&zip().with(|zip| zip.zip64 = Zip64::Count(count)));
        assert!(
            matches!(kind, ErrorKind::EndDisagreement { field: "members on this disk", zip64, .. } if zip64 == count),
            "{kind}"
        );
    }
}

#[test]
fn data_before_the_archive() {
    let junk = zip().with(|zip| zip.prefix = b"junk".to_vec());
    assert!(matches!(error(&junk), ErrorKind::Prefix(4)));
    // Offsets that count from the archive and not from the file.
    let shifted = [b"junk".to_vec(), zip().bytes()].concat();
    assert!(matches!(open(&shifted).expect_err("shifted").kind, ErrorKind::Displaced { .. }));
}

#[test]
fn archives_that_are_joined() {
    let first = zip().bytes();
    let second = zip().with(|zip| zip.prefix = first.clone()).bytes();
    assert!(matches!(open(&second).expect_err("two ends").kind, ErrorKind::EndRecords { found: 2 }));
    let raw = [first.clone(), first].concat();
    assert!(matches!(open(&raw).expect_err("two ends").kind, ErrorKind::EndRecords { found: 2 }));
}

#[test]
fn no_end_or_one_that_is_cut() {
    let bytes = zip().bytes();
    for end in [0, 1, 21, bytes.len() - 1] {
        let kind = open(&bytes[..end]).expect_err("cut").kind;
        assert!(matches!(kind, ErrorKind::EndRecords { found: 0 }), "{end}: {kind}");
    }
}

#[test]
fn comments_and_trailing_data_are_seen() {
    let commented = zip().with(|zip| zip.comment = b"evil".to_vec()).bytes();
    assert_eq!(open(&commented).unwrap().strays()[0].what, "archive comment");
    let trailing = zip().with(|zip| zip.trailing = b"evil".to_vec()).bytes();
    let archive = open(&trailing).unwrap();
    assert_eq!(archive.end() + 4, trailing.len() as u64);
}

#[test]
fn bytes_around_the_directory() {
    let before = zip().with(|zip| zip.before_directory = b"payload".to_vec());
    assert_eq!(open(&before.bytes()).unwrap().strays()[0].what, "gap between members");
    let after = zip().with(|zip| zip.after_directory = b"payload".to_vec());
    assert!(matches!(error(&after), ErrorKind::Displaced { .. }));
    let within = zip().with(|zip| zip.in_directory = b"payload".to_vec());
    assert!(matches!(error(&within), ErrorKind::Displaced { .. }));
}

#[test]
fn a_directory_with_more_members_than_are_counted() {
    // Python's reader goes by the size and sees both; readers that go by the count see the first.
    let kind = error(&zip().with(|zip| zip.count = Some(1)));
    assert!(matches!(kind, ErrorKind::Displaced { .. }), "{kind}");
    let kind = error(&zip().with(|zip| zip.count = Some(3)));
    assert!(matches!(kind, ErrorKind::Archive(_)), "{kind}");
    let kind = error(&zip().with(|zip| zip.disk = 1));
    assert!(matches!(kind, ErrorKind::Record { .. }), "{kind}");
}

#[test]
fn an_end_that_points_elsewhere() {
    for (what, zip) in [
        ("start", zip().with(|zip| zip.directory_start = Some(0))),
        ("start beyond", zip().with(|zip| zip.directory_start = Some(u32::MAX - 1))),
        ("size", zip().with(|zip| zip.directory_size = Some(1))),
        ("both", zip().with(|zip| (zip.directory_start, zip.directory_size) = (Some(0), Some(0)))),
    ] {
        assert!(matches!(error(&zip), ErrorKind::Displaced { .. }), "{what}");
    }
}

#[test]
fn an_archive_without_members_is_empty() {
    let archive = open(&Zip::default().bytes()).unwrap();
    assert!(archive.members().is_empty());
}

#[test]
fn truncation_at_every_byte_is_an_error() {
    let bytes = zip().bytes();
    for end in 0..bytes.len() {
        assert!(open(&bytes[..end]).is_err(), "{end}");
    }
}
