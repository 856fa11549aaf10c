//! Local headers, and the data descriptors behind a member's data.

use crate::bytes::{ReadAt, Span, index, read_vec};

use super::fields::{is_clean, u16_at, u32_at, u64_at};
use super::{Error, ErrorKind, Member, Stray};

const LOCAL_HEADER_LEN: u64 = 30;
const DESCRIPTOR_FLAG: u16 = 0x0008;

/// What the local header says that the crate does not pass on.
pub(super) struct LocalHeader {
    pub(super) flags: u16,
    pub(super) method: u16,
    extra: Span,
    extra_bytes: Vec<u8>,
}

impl LocalHeader {
    pub(super) fn read(source: &dyn ReadAt, name: &str, at: u64) -> Result<Self, Error> {
        let bytes = |at: u64, len: u64| {
            let left = source.size().saturating_sub(at);
            if len > left {
                let truncated = crate::bytes::ErrorKind::Truncated { wanted: len, left };
                return Err(Error::new(Some(name), at, truncated));
            }
            let span = Span::between(at, at.saturating_add(len));
            read_vec(source, span).map(|bytes| (span, bytes)).map_err(|e| Error::io(Some(name), at, e))
        };
        let (header, fixed) = bytes(at, LOCAL_HEADER_LEN)?;
        let extra_at = header.end().saturating_add(u64::from(u16_at(&fixed, 26)));
        let (extra, extra_bytes) = bytes(extra_at, u64::from(u16_at(&fixed, 28)))?;
        Ok(Self { flags: u16_at(&fixed, 6), method: u16_at(&fixed, 8), extra, extra_bytes })
    }

    /// Extra fields that carry something.
    pub(super) fn strays(&self, member: &Member) -> Option<Stray> {
        let entry = Some(member.name.clone());
        (!is_clean(&self.extra_bytes)).then_some(Stray { span: self.extra, what: "extra field", entry })
    }

    /// Length of the data descriptor that follows the data, its numbers checked against the directory.
    pub(super) fn descriptor(&self, source: &dyn ReadAt, member: &Member, next: u64) -> Result<u64, Error> {
        if self.flags & DESCRIPTOR_FLAG == 0 {
            return Ok(0);
        }
        let at = member.data.end();
        let room = next.saturating_sub(at).min(24);
        let bytes = read_vec(source, Span::between(at, at.saturating_add(room)));
        let bytes = bytes.map_err(|e| Error::io(Some(&member.name), at, e))?;
        let signed: u64 = if bytes.starts_with(b"PK\x07\x08") { 4 } else { 0 };
        let body = bytes.get(index(signed)..).unwrap_or_default();
        let narrow = (u64::from(u32_at(body, 4)), u64::from(u32_at(body, 8)));
        let wide = (u64_at(body, 4), u64_at(body, 12));
        let sizes = (member.data.len(), member.size);
        let crc = u32_at(body, 0);
        // Torch writes the wide form for any member that begins beyond 4 GiB, however small it is.
        let len = match () {
            () if body.len() >= 20 && wide == sizes => signed.saturating_add(20),
            () if body.len() >= 12 && narrow == sizes => signed.saturating_add(12),
            () => {
                let kind = ErrorKind::Disagreement {
                    field: "size in the data descriptor",
                    local: narrow.0,
                    central: sizes.0,
                };
                return Err(Error::new(Some(&member.name), at, kind));
            }
        };
        if crc != member.crc32 {
            let (local, central) = (u64::from(crc), u64::from(member.crc32));
            let kind = ErrorKind::Disagreement { field: "CRC-32 in the data descriptor", local, central };
            return Err(Error::new(Some(&member.name), at, kind));
        }
        Ok(len)
    }
}
