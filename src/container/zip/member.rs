//! One member: what the crate says of it, and what it does not check.

use std::io;
use std::sync::Arc;

use zip::read::{ZipArchive, ZipReadOptions};

use crate::bytes::{Positioned, ReadAt, Span};
use crate::limits::{LimitKind, Limits, check};

use super::local::LocalHeader;
use super::{Error, ErrorKind, Member, Method};

/// Data descriptor, UTF-8 name, and the two bits that say how hard deflate tried.
const KNOWN_FLAGS: u16 = 0x080e;

pub(super) type Zip<'a> = ZipArchive<Positioned<'a>>;

/// The directory holds a name twice; the crate keeps the last. Says which, as far as can be told.
pub(super) fn duplicate_of_the_directory(zip: &mut Zip<'_>, end: u64) -> Error {
    let first = zip.by_index_raw(0).ok().and_then(|file| file.name().ok().map(std::borrow::Cow::into_owned));
    Error::new(
        first.as_deref(),
        end,
        ErrorKind::Duplicate(crate::bytes::Offset(zip.central_directory_start())),
    )
}

pub(super) fn member(
    source: &dyn ReadAt,
    zip: &mut Zip<'_>,
    position: usize,
    limits: &Limits,
) -> Result<(Member, LocalHeader), Error> {
    let (name, header, flags) = {
        let file = zip.by_index_raw(position).map_err(|e| archive_error(None, 0, e))?;
        let header = file.header_start();
        let raw = file.name_raw();
        let name = std::str::from_utf8(raw).ok().filter(|name| is_safe(name));
        let shown = String::from_utf8_lossy(raw).into_owned();
        let refuse = |kind: ErrorKind| Error::new(Some(&shown), header, kind);
        let name: Box<str> = name.ok_or_else(|| refuse(ErrorKind::Name))?.into();
        if file.is_symlink() {
            return Err(refuse(ErrorKind::Link));
        }
        (name, header, file.flags().as_u16())
    };
    let local = LocalHeader::read(source, &name, header)?;
    if local.flags != flags {
        let (local, central) = (u64::from(local.flags), u64::from(flags));
        return Err(Error::new(
            Some(&name),
            header,
            ErrorKind::Disagreement { field: "flags", local, central },
        ));
    }
    if flags & !KNOWN_FLAGS != 0 {
        return Err(Error::new(Some(&name), header, ErrorKind::Flags(flags)));
    }
    if !matches!(local.method, 0 | 8) {
        return Err(Error::new(Some(&name), header, ErrorKind::Method(local.method)));
    }
    let options = ZipReadOptions::new().enforce_header_consistency(true);
    let file =
        zip.by_index_with_options(position, options).map_err(|e| archive_error(Some(&name), header, e))?;
    let data = file.data_start().and_then(|start| Span::new(start, file.compressed_size()));
    let data = data.filter(|data| data.end() <= source.size());
    let left = source.size().saturating_sub(header);
    let truncated = crate::bytes::ErrorKind::Truncated { wanted: file.compressed_size(), left };
    let data = data.ok_or_else(|| Error::new(Some(&name), header, truncated))?;
    let method = if local.method == 0 { Method::Stored } else { Method::Deflated };
    let size = file.size();
    let ratio = size.checked_div(data.len()).unwrap_or(size);
    if method == Method::Deflated {
        check(LimitKind::InflateRatio, limits.inflate_ratio, ratio)
            .map_err(|e| Error::new(Some(&name), header, e))?;
    } else if size != data.len() {
        let kind = ErrorKind::Length { got: data.len(), expected: size };
        return Err(Error::new(Some(&name), header, kind));
    }
    let member =
        Member { method, data, size, crc32: file.crc32(), header, index: position, name: name.clone() };
    Ok((member, local))
}

fn archive_error(entry: Option<&str>, offset: u64, error: zip::result::ZipError) -> Error {
    match error {
        zip::result::ZipError::Io(io) if io.kind() != io::ErrorKind::UnexpectedEof => {
            Error::io(entry, offset, io)
        }
        other => Error::new(entry, offset, ErrorKind::Archive(Arc::new(other))),
    }
}

/// Relative, without parts that climb or that one reader cuts off and another keeps.
fn is_safe(name: &str) -> bool {
    let climbs = name.split('/').any(|part| part == "..");
    !name.is_empty() && !name.starts_with('/') && !climbs && !name.contains(['\0', '\\', '\r', '\n'])
}
