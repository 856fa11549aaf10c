//! Members of archives: whatever two readers could take differently is refused or recorded.

use depickle::bytes::{self, ReadAt};
use depickle::container::{Archive, Error, ErrorKind, Member, Method};
use depickle::limits::{LimitKind, Limits};

use crate::zips::{Descriptor, Entry, Zip, crc32, padding};

fn open(zip: &Zip) -> Result<Archive, Error> {
    Archive::open(&zip.bytes(), &Limits::default())
}

fn one(entry: Entry) -> Result<Archive, Error> {
    open(&Zip::of(vec![entry, Entry::torch("m/version", b"3\n")]))
}

fn error(entry: Entry) -> ErrorKind {
    one(entry).expect_err("an error").kind
}

fn torch() -> Entry {
    Entry::torch("m/data.pkl", b"pickle")
}

fn strays(entry: Entry) -> Vec<&'static str> {
    one(entry).unwrap().strays().iter().map(|stray| stray.what).collect()
}

fn read(zip: &Zip) -> Result<Vec<u8>, Error> {
    let bytes = zip.bytes();
    let archive = Archive::open(&bytes, &Limits::default())?;
    let member: Member = archive.members()[0].clone();
    archive
        .verify(&bytes, &member)
        .or_else(|e| if member.method == Method::Stored { Err(e) } else { Ok(()) })?;
    archive.read(&bytes, &member, 1 << 20)
}

#[test]
fn honest_forms_are_accepted_without_a_stray() {
    for (what, entry) in [
        ("torch", torch()),
        ("torch, aligned", torch().local(|header| header.extra = padding(31))),
        ("torch, empty", Entry::torch("m/data/0", b"")),
        ("torch beyond 4 GiB", torch().with(|entry| entry.descriptor = Descriptor::Wide)),
        ("no signature", torch().with(|entry| entry.descriptor = Descriptor::Unsigned)),
        ("stored again", Entry::plain("m/data.pkl", b"pickle")),
        ("deflated", Entry::deflated("m/data.pkl", b"pickle")),
        ("times of Info-ZIP", torch().both(|header| header.extra = b"UT\x05\0\x01\0\0\0\0".to_vec())),
    ] {
        let archive = one(entry).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(archive.members().len(), 2, "{what}");
        assert_eq!(archive.strays(), [], "{what}");
    }
}

#[test]
fn members_are_read_with_their_checksum_verified() {
    for entry in [torch(), Entry::plain("m/data.pkl", b"pickle"), Entry::deflated("m/data.pkl", b"pickle")] {
        assert_eq!(read(&Zip::of(vec![entry.clone()])).unwrap(), b"pickle");
        let wrong = entry.both(|header| header.crc = 7);
        let wrong =
            if wrong.descriptor == Descriptor::Absent { wrong } else { wrong.local(|header| header.crc = 0) };
        let error = read(&Zip::of(vec![wrong])).expect_err("a wrong checksum").kind;
        assert!(matches!(error, ErrorKind::Crc { stated: 7, .. } | ErrorKind::Read(_)), "{error}");
    }
}

#[test]
fn checksums_of_zero_are_accepted_only_where_all_are() {
    let off = |name: &str| Entry::torch(name, b"pickle").both(|header| header.crc = 0);
    let all = Zip::of(vec![off("m/data.pkl"), off("m/data/0"), Entry::torch("m/data/1", b"")]);
    assert_eq!(read(&all).unwrap(), b"pickle");
    let mixed = Zip::of(vec![off("m/data.pkl"), Entry::torch("m/version", b"3\n")]);
    assert!(matches!(read(&mixed).expect_err("one is off").kind, ErrorKind::Crc { stated: 0, .. }));
}

#[test]
fn headers_that_disagree() {
    let other = |header: &mut crate::zips::Header| header.name = Some(b"m/DATA.pkl".to_vec());
    assert!(matches!(error(torch().local(other)), ErrorKind::Archive(_)), "name");
    assert!(matches!(
        error(torch().local(|h| h.flags = 0x0848)),
        ErrorKind::Disagreement { field: "flags", .. }
    ));
    assert!(matches!(
        error(torch().central(|h| h.flags = 0x0800)),
        ErrorKind::Disagreement { field: "flags", .. }
    ));
    for (what, entry) in [
        ("method", torch().local(|h| h.method = 8)),
        ("size", Entry::plain("a", b"12").local(|h| h.size = 1)),
        ("stored size", Entry::plain("a", b"12").local(|h| h.stored = 1)),
        ("checksum", Entry::plain("a", b"12").local(|h| h.crc = 1)),
    ] {
        let error = error(entry);
        assert!(matches!(error, ErrorKind::Archive(_) | ErrorKind::Disagreement { .. }), "{what}: {error}");
    }
}

#[test]
fn descriptors_that_disagree() {
    let lying = |crc, size| torch().with(|entry| entry.descriptor = Descriptor::Lying(crc, size));
    let size = "size in the data descriptor";
    assert!(
        matches!(error(lying(crc32(b"pickle"), 5)), ErrorKind::Disagreement { field, .. } if field == size)
    );
    let crc = "CRC-32 in the data descriptor";
    assert!(matches!(error(lying(1, 6)), ErrorKind::Disagreement { field, .. } if field == crc));
    let absent = torch().with(|entry| entry.descriptor = Descriptor::Absent);
    assert!(matches!(error(absent), ErrorKind::Disagreement { .. }));
}

#[test]
fn flags_and_methods_that_no_checkpoint_has() {
    for flag in [0x0001, 0x0010, 0x0020, 0x0040, 0x1000, 0x2000, 0x8000] {
        let entry = torch().both(|header| header.flags |= flag);
        assert!(matches!(error(entry), ErrorKind::Flags(f) if f & flag != 0), "{flag:#x}");
    }
    for method in [1, 9, 12, 14, 93, 99] {
        let entry = Entry::plain("a", b"x").both(|header| header.method = method);
        assert!(matches!(error(entry), ErrorKind::Method(m) if m == method), "{method}");
    }
}

#[test]
fn names_that_are_not_safe() {
    for name in ["../a", "m/../../a", "/a", "m\\a", "a\0b", "a\nb", "a\rb", ""] {
        assert!(matches!(error(Entry::torch(name, b"x")), ErrorKind::Name), "{name:?}");
    }
    let bytes = torch().with(|entry| entry.name = b"m/\xff".to_vec());
    assert!(matches!(error(bytes), ErrorKind::Name));
}

#[test]
fn symbolic_links() {
    let link = torch().with(|entry| (entry.made_by, entry.external) = (3 << 8, 0o120_777 << 16));
    assert!(matches!(error(link), ErrorKind::Link));
}

#[test]
fn doubled_names_letter_case_aside() {
    let two = |a: &str, b: &str| open(&Zip::of(vec![Entry::torch(a, b"1"), Entry::torch(b, b"2")]));
    assert!(matches!(two("m/a", "m/a").expect_err("same").kind, ErrorKind::Duplicate(_)));
    assert!(matches!(two("m/data.pkl", "m/DATA.pkl").expect_err("case").kind, ErrorKind::Duplicate(_)));
    assert!(two("m/a", "m/b").is_ok());
}

#[test]
fn members_that_overlap() {
    let shared = Zip::of(vec![torch(), Entry::torch("m/data/0", b"x").with(|entry| entry.offset = Some(0))]);
    let error = open(&shared).expect_err("two names, one body").kind;
    assert!(matches!(error, ErrorKind::Overlap(_) | ErrorKind::Archive(_)), "{error}");
    // A member that says it is longer than the room before the next.
    let long = Entry::plain("a", b"x").both(|header| (header.size, header.stored) = (30, 30));
    assert!(matches!(open(&Zip::of(vec![long, torch()])).expect_err("long").kind, ErrorKind::Overlap(_)));
}

#[test]
fn members_that_leave_the_source() {
    let long = Entry::plain("a", b"x").both(|header| (header.size, header.stored) = (3_000, 3_000));
    let kind = error(long);
    assert!(matches!(kind, ErrorKind::Read(bytes::ErrorKind::Truncated { .. })), "{kind}");
    let far = torch().with(|entry| entry.offset = Some(1 << 30));
    assert!(matches!(error(far), ErrorKind::Archive(_) | ErrorKind::Read(_)));
    // The length of the first local header's extra field: damage, and nothing that another try would mend.
    let mut bytes = Zip::of(vec![torch()]).bytes();
    bytes[28..30].copy_from_slice(&u16::MAX.to_le_bytes());
    let error = Archive::open(&bytes, &Limits::default()).expect_err("an extra field beyond the end");
    assert!(matches!(error.kind, ErrorKind::Read(bytes::ErrorKind::Truncated { wanted: 65_535, .. })));
}

#[test]
fn stored_members_have_one_length() {
    let entry = Entry::plain("a", b"xyz").both(|header| header.size = 2);
    let kind = error(entry);
    assert!(matches!(kind, ErrorKind::Length { got: 3, expected: 2 } | ErrorKind::Archive(_)), "{kind}");
    let short = Entry::deflated("a", b"pickle").both(|header| header.size = 7);
    let kind = read(&Zip::of(vec![short])).expect_err("a wrong length").kind;
    assert!(matches!(kind, ErrorKind::Length { got: 6, expected: 7 } | ErrorKind::Read(_)), "{kind}");
}

#[test]
fn deflation_bombs() {
    let bomb = Entry::deflated("m/data.pkl", b"x").both(|header| header.size = u32::MAX - 1);
    assert!(matches!(error(bomb), ErrorKind::Limit(limit) if limit.kind == LimitKind::InflateRatio));
    let zeros = Entry::deflated("m/data.pkl", &vec![0; 100_000]);
    let bytes = Zip::of(vec![zeros]).bytes();
    let archive = Archive::open(&bytes, &Limits::default()).unwrap();
    let kind = archive.read(&bytes, &archive.members()[0], 99_999).expect_err("above the limit").kind;
    assert!(matches!(kind, ErrorKind::Limit(limit) if limit.kind == LimitKind::InflatedPickle));
    let lying = Entry::deflated("m/data.pkl", &vec![0; 100_000]).both(|header| header.size = 10);
    assert!(read(&Zip::of(vec![lying])).is_err());
}

#[test]
fn extra_fields_that_carry_something_are_strays() {
    for extra in [b"XX\x04\0evil".to_vec(), b"FB\x04\0evil".to_vec(), [padding(4), b"\x01".to_vec()].concat()]
    {
        assert_eq!(
            strays(torch().local(|header| header.extra = extra.clone())),
            ["extra field"],
            "{extra:?}"
        );
    }
    let kind = error(torch().local(|header| header.extra = b"junk!".to_vec()));
    assert!(matches!(kind, ErrorKind::Archive(_)), "{kind}");
    assert_eq!(
        strays(torch().central(|header| header.extra = b"XX\x04\0evil".to_vec())),
        ["extra field in the directory"]
    );
    assert_eq!(strays(torch().with(|entry| entry.comment = b"evil".to_vec())), ["member comment"]);
}

#[test]
fn bytes_between_members_are_strays() {
    let gap = Zip::of(vec![
        torch(),
        Entry::torch("m/version", b"3\n").with(|entry| entry.gap = b"payload".to_vec()),
    ]);
    let archive = open(&gap).unwrap();
    assert_eq!((archive.strays()[0].what, archive.strays()[0].span.len()), ("gap between members", 7));
    let hidden = Zip::of(vec![torch(), Entry::torch("m/x", b"payload").with(|entry| entry.hidden = true)]);
    assert_eq!(open(&hidden).unwrap().strays()[0].what, "gap between members");
}

#[test]
fn the_number_of_members_is_limited() {
    let bytes = Zip::of(vec![torch(), Entry::torch("m/version", b"3\n")]).bytes();
    let limits = Limits { entries: 1, ..Limits::default() };
    let kind = Archive::open(&bytes, &limits).expect_err("two").kind;
    assert!(matches!(kind, ErrorKind::Limit(limit) if limit.kind == LimitKind::Entries));
}

#[test]
fn a_member_that_is_not_read_stays_unread() {
    // Only headers are touched: a source that fails inside the data opens all the same.
    struct Holed(Vec<u8>, std::ops::Range<u64>);
    impl ReadAt for Holed {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
            let end = offset + buf.len() as u64;
            if offset < self.1.end && self.1.start < end {
                return Err(std::io::Error::other("hole"));
            }
            self.0.read_exact_at(buf, offset)
        }
    }
    let bytes = Zip::of(vec![Entry::torch("m/data/0", &vec![7; 300_000]), torch()]).bytes();
    let holed = Holed(bytes, 50_000..60_000);
    let archive = Archive::open(&holed, &Limits::default()).unwrap();
    let kind = archive.verify(&holed, &archive.members()[0]).expect_err("a hole").kind;
    assert!(matches!(kind, ErrorKind::Read(bytes::ErrorKind::Io(_))));
}
