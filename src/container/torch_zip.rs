//! Torch's zip archive (torch 1.6 and later).
//!
//! ```text
//! <prefix>/data.pkl      the object, protocol 2 by default; storages are persistent ids
//! <prefix>/byteorder     "little" or "big"; absent in older files, which are little-endian
//! <prefix>/data/<key>    one storage each
//! <prefix>/version, <prefix>/.format_version, <prefix>/.storage_alignment, <prefix>/.data/serialization_id
//! ```
//!
//! Source: `torch/serialization.py` and `caffe2/serialize/inline_container.cc`.

use crate::bytes::ReadAt;
use crate::limits::Limits;
use crate::tensor::{Place, Storage, StreamId};

use super::error::{Error, ErrorKind};
use super::storages::Storages;
use super::zip::{Archive, Member, Method};

/// A torch archive.
#[derive(Debug)]
pub struct TorchZip {
    archive: Archive,
    pickle: Member,
    /// Everything before `data.pkl`.
    prefix: String,
    /// Folders of records.
    folders: Vec<String>,
    big_endian: bool,
}

/// Pickles beside `data.pkl` that have records, in archives of `TorchScript`.
const FURTHER: &[&str] = &["constants", "traced_inputs"];

impl TorchZip {
    /// Finds the one pickle and the byte order. `None` where the archive is no torch checkpoint.
    ///
    /// # Errors
    /// A second `data.pkl` elsewhere in the archive, a byte order that is none.
    pub fn open(source: &dyn ReadAt, archive: Archive, limits: &Limits) -> Result<Option<Self>, Error> {
        // Torch finds records whatever their letter case: any other spelling is a second pickle.
        let is_pickle = |member: &&Member| {
            member.name.rsplit('/').next().is_some_and(|n| n.eq_ignore_ascii_case("data.pkl"))
        };
        let mut pickles = archive.members().iter().filter(is_pickle);
        let Some(pickle) = pickles.next().cloned() else { return Ok(None) };
        if let Some(second) = pickles.next() {
            let kind = ErrorKind::SecondPickle(pickle.name.clone());
            return Err(Error::new(Some(&second.name), second.header, kind));
        }
        if !pickle.name.ends_with("data.pkl") {
            return Ok(None);
        }
        let prefix = pickle.name.strip_suffix("data.pkl").unwrap_or_default().to_owned();
        let big_endian = big_endian(source, &archive, &prefix, limits)?;
        let mut folders = vec![format!("{prefix}data/")];
        for further in FURTHER {
            if archive.member(&format!("{prefix}{further}.pkl")).is_some() {
                folders.push(format!("{prefix}{further}/"));
            }
        }
        Ok(Some(Self { archive, pickle, prefix, folders, big_endian }))
    }

    /// The archive.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// What every name in the archive begins with, up to a slash; empty where there is none.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The pickle of the checkpoint.
    pub fn pickle(&self) -> &Member {
        &self.pickle
    }

    /// Whether elements are big-endian.
    pub fn big_endian(&self) -> bool {
        self.big_endian
    }

    /// Whether a member is the record of a storage.
    pub fn is_record(&self, member: &Member) -> bool {
        self.folders.iter().any(|folder| member.name.starts_with(folder))
    }

    /// Members that are neither the pickle, nor a storage, nor bookkeeping.
    pub fn bystanders(&self) -> impl Iterator<Item = &Member> {
        let known = |member: &&Member| {
            member.name == self.pickle.name || self.is_record(member) || self.is_bookkeeping(member)
        };
        self.archive.members().iter().filter(move |member| !known(member))
    }

    /// Whether a member only describes the archive: versions, alignment, byte order, and torch's random id.
    pub fn is_bookkeeping(&self, member: &Member) -> bool {
        is_bookkeeping(member, &self.prefix)
    }
}

/// Records of torch beside pickles and storages, below the prefix: a few letters or digits each.
pub const BOOKKEEPING: &[&str] = &[
    "version",
    ".format_version",
    ".storage_alignment",
    "byteorder",
    ".data/serialization_id",
    ".data/version",
    // torch.package
    ".data/python_version",
    // .pt2
    "archive_format",
    "archive_version",
];

/// Whether a member only describes the archive: versions, alignment, byte order, and torch's random id.
pub(super) fn is_bookkeeping(member: &Member, prefix: &str) -> bool {
    /// The longest that torch writes is the id, of 40 digits.
    const LONGEST: u64 = 64;
    let record = member.name.strip_prefix(prefix);
    member.size <= LONGEST && record.is_some_and(|record| BOOKKEEPING.contains(&record))
}

/// What the member `byteorder` says, if there is one: archives without it are little-endian.
///
/// # Errors
/// A byte order that is none.
pub(super) fn big_endian(
    source: &dyn ReadAt,
    archive: &Archive,
    prefix: &str,
    limits: &Limits,
) -> Result<bool, Error> {
    let order = format!("{prefix}byteorder");
    let member = archive.members().iter().find(|m| m.name.eq_ignore_ascii_case(&order));
    let Some(member) = member else { return Ok(false) };
    match archive.read(source, member, limits.inflated_pickle.min(4096))?.as_slice() {
        b"little" => Ok(false),
        b"big" => Ok(true),
        other => {
            let got =
                String::from_utf8_lossy(other.get(..other.len().min(32)).unwrap_or_default()).into_owned();
            let kind = ErrorKind::Record { got, expected: "\"little\" or \"big\"" };
            Err(Error::new(Some(&member.name), member.data.start(), kind))
        }
    }
}

impl TorchZip {
    /// The storage of a key in one of the folders of records.
    ///
    /// # Errors
    /// A missing record, one that is too short.
    pub fn record(&self, folder: &str, key: &str, nbytes: u64) -> Result<Storage, Error> {
        let name = format!("{}{folder}{key}", self.prefix);
        record(&self.archive, &name, (key, nbytes), self.big_endian)
    }
}

/// The member of an archive that is a storage and nothing else.
///
/// # Errors
/// A missing record, one that is too short.
pub(super) fn record(
    archive: &Archive,
    name: &str,
    (key, nbytes): (&str, u64),
    big_endian: bool,
) -> Result<Storage, Error> {
    let Some(member) = archive.member(name) else {
        return Err(Error::new(Some(name), archive.end(), ErrorKind::Missing));
    };
    // Longer records than the pickle says were written by old versions; what is beyond is accounted as unused.
    if member.size < nbytes {
        let kind = ErrorKind::Length { got: member.size, expected: nbytes };
        return Err(Error::new(Some(name), member.data.start(), kind));
    }
    let place = match member.method {
        Method::Stored => Place::Stored { stream: StreamId::SOURCE, span: member.data },
        Method::Deflated => Place::Deflated { stream: StreamId::SOURCE, span: member.data },
    };
    Ok(Storage {
        key: key.into(),
        entry: Some(name.into()),
        place,
        len: member.size,
        big_endian,
        crc32: archive.checksum(member),
    })
}

impl Storages for TorchZip {
    fn storage(&self, key: &str, nbytes: u64) -> Result<Storage, Error> {
        self.record("data/", key, nbytes)
    }
}
