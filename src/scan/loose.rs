//! Every reading of a zip archive that readers take differently: members by the directory that some end record leads to,
//! with offsets as they stand or counted from a prefix, and by their local headers, listed or not.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::accounting::Accounting;
use crate::bytes::{ReadAt, Span, index, length, read_vec};

use super::beside::leads_out;
use super::blob::{Blob, Part, Role, part};
use super::search::How;
use super::{Scanner, Source, rules};

/// Bytes of an archive that are looked through for headers.
const SEARCHED: u64 = 256 << 20;
/// Members that are tried.
const MEMBERS: usize = 10_000;
const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const DESCRIPTOR: &[u8] = b"PK\x07\x08";

/// One way to read a member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Reading {
    method: u16,
    /// `None` where only what follows tells.
    stored: Option<u64>,
}

/// A local header, and the ways in which its data can be read.
#[derive(Debug, Clone, Default)]
struct Member {
    name: String,
    data: u64,
    listed: bool,
    readings: Vec<Reading>,
}

impl Member {
    fn add(&mut self, reading: Reading) {
        if !self.readings.contains(&reading) {
            self.readings.push(reading);
        }
    }
}

impl Scanner<'_> {
    /// Scans an archive in every reading.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn loose(&mut self, blob: &Blob<'_>) -> io::Result<Part> {
        let size = blob.source.size();
        let bytes = read_vec(&**blob.source, Span::between(0, size.min(SEARCHED)))?;
        if size > SEARCHED {
            self.found.malformed = true;
            self.found.add(
                &rules::LIMIT,
                blob.spot.at(SEARCHED, None),
                "headers beyond here were not looked for".into(),
            );
        }
        let mut members = local_members(&bytes, 0);
        list(&bytes, &mut members);
        let first = members.keys().next().copied().unwrap_or(size);
        if first > 0 {
            let message = format!("{first} bytes before the first member");
            self.found.add(&rules::STRAY_BYTES, blob.spot.at(0, first), message);
            self.search(&**blob.source, Span::between(0, first), &blob.spot, How::Runs)?;
        }
        let mut accounting = Accounting::default();
        let mut container = None;
        let lists = members.values().any(|member| member.listed);
        for (at, member) in members.iter().take(MEMBERS) {
            if lists && !member.listed {
                let message = format!("\"{}\" at {at:#x} stands in no directory", member.name.escape_debug());
                self.found.add(&rules::HIDDEN_MEMBER, blob.spot.at(*at, None), message);
            }
            let (pickle, inner) = self.loose_member(blob, &bytes, member)?;
            accounting.pickle = accounting.pickle.saturating_add(pickle).min(size);
            container = inner.or(container);
        }
        self.found.model |= container.is_some();
        accounting.other = size.saturating_sub(accounting.pickle);
        Ok(Part {
            container: Some("zip".to_owned()).filter(|_| container.is_some()),
            accounting,
            inside: None,
        })
    }

    /// Members whose local headers stand where none belong.
    pub(super) fn hidden_members(&mut self, blob: &Blob<'_>, span: Span) -> io::Result<()> {
        let span = Span::between(span.start(), span.end().min(span.start().saturating_add(SEARCHED)));
        let bytes = read_vec(&**blob.source, span)?;
        for (at, member) in local_members(&bytes, span.start()).iter().take(MEMBERS) {
            let message = format!("\"{}\" stands in no directory", member.name.escape_debug());
            self.found.add(&rules::HIDDEN_MEMBER, blob.spot.at(*at, None), message);
            let member = Member { data: member.data.saturating_sub(span.start()), ..member.clone() };
            let source: Source = Arc::new(bytes.clone());
            let hidden = Blob { source: &source, spot: blob.spot.clone(), role: blob.role };
            self.loose_member(&hidden, &bytes, &member)?;
        }
        Ok(())
    }

    /// A member in each of its readings: bytes of pickles in it, and what it is.
    fn loose_member(
        &mut self,
        blob: &Blob<'_>,
        bytes: &[u8],
        member: &Member,
    ) -> io::Result<(u64, Option<String>)> {
        if leads_out(&member.name) {
            let message = format!("\"{}\"", member.name.escape_debug().take(120).collect::<String>());
            self.found.add(&rules::UNSAFE_MEMBER, blob.spot.whole(), message);
        }
        let spot = blob.spot.inside(&member.name);
        let (mut pickle, mut container) = (0, None);
        for reading in &member.readings {
            let end = match reading.stored {
                Some(stored) => member.data.saturating_add(stored).min(blob.source.size()),
                None => next_header(bytes, member.data),
            };
            let span = Span::between(member.data, end);
            let content = match reading.method {
                8 => Some(super::zip::inflate(blob.source, span)?.0),
                _ => part(blob.source, span),
            };
            let Some(content) = content.filter(|content| content.size() > 0) else { continue };
            let name = member.name.as_str();
            let in_torch = name.ends_with("data.pkl") || name.ends_with("constants.pkl");
            if name.rsplit_once("data/").is_some_and(|(_, key)| key.bytes().all(|b| b.is_ascii_digit())) {
                self.weights(&*content, Span::between(0, content.size()), &spot)?;
                continue;
            }
            let role = if in_torch { Role::Torch } else { Role::File };
            let inner =
                self.deeper(|scanner| scanner.blob(&Blob { source: &content, spot: spot.clone(), role }))?;
            pickle = span.len().min(inner.accounting.pickle).max(pickle);
            container = inner.container.or(container);
        }
        Ok((pickle, container))
    }

    /// An archive that ends a file of another kind: whoever looks for one there finds it.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn zip_behind(&mut self, blob: &Blob<'_>) -> io::Result<()> {
        const LONGEST: u64 = 65_535 + 22;
        let size = blob.source.size();
        let start = size.saturating_sub(LONGEST);
        let tail = read_vec(&**blob.source, Span::between(start, size))?;
        let ends = tail.windows(22).enumerate().rev().filter(|(_, record)| record.starts_with(END));
        let exact = |(i, record): &(usize, &[u8])| {
            let comment = usize::from(word(record, 20));
            i.saturating_add(22).saturating_add(comment) == tail.len()
                && i.checked_sub(index(long(record, 12)))
                    .and_then(|at| tail.get(at..))
                    .is_some_and(|directory| directory.starts_with(CENTRAL))
        };
        let Some((i, _)) = ends.into_iter().find(exact) else { return Ok(()) };
        let at = start.saturating_add(length(i));
        self.found.add(
            &rules::ARCHIVE_READINGS,
            blob.spot.at(at, None),
            "a zip archive ends the file".into(),
        );
        self.loose(blob).map(drop)
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_le_bytes(*b))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from(u32::from_le_bytes(*b)))
}

/// Positions of a signature.
fn positions<'a>(bytes: &'a [u8], signature: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    memchr::memmem::find_iter(bytes, signature)
}

/// Members by their local headers; `base` is where the bytes lie.
fn local_members(bytes: &[u8], base: u64) -> BTreeMap<u64, Member> {
    let mut members = BTreeMap::new();
    for at in positions(bytes, LOCAL) {
        let header = bytes.get(at..).unwrap_or_default();
        let (name, extra) = (usize::from(word(header, 26)), usize::from(word(header, 28)));
        let Some(text) = header.get(30..30_usize.saturating_add(name)) else { continue };
        let data = at.saturating_add(30).saturating_add(name).saturating_add(extra);
        if data > bytes.len() {
            continue;
        }
        let described = word(header, 6) & 8 != 0;
        let stored = long(header, 18);
        let known = !(described && stored == 0 || stored == 0xffff_ffff);
        let reading = Reading { method: word(header, 8), stored: known.then_some(stored) };
        let member = Member {
            name: String::from_utf8_lossy(text).into_owned(),
            data: base.saturating_add(length(data)),
            listed: false,
            readings: vec![reading],
        };
        members.insert(base.saturating_add(length(at)), member);
    }
    members
}

/// Adds what directories say: with offsets as they stand, and counted from what stands before the archive.
fn list(bytes: &[u8], members: &mut BTreeMap<u64, Member>) {
    let prefixes: Vec<u64> = positions(bytes, END)
        .filter_map(|at| {
            let record = bytes.get(at..)?;
            length(at).checked_sub(long(record, 12))?.checked_sub(long(record, 16))
        })
        .chain([0])
        .collect();
    for at in positions(bytes, CENTRAL) {
        let header = bytes.get(at..).unwrap_or_default();
        let offset = long(header, 42);
        let name = header.get(46..46_usize.saturating_add(usize::from(word(header, 28)))).unwrap_or_default();
        for prefix in &prefixes {
            if let Some(member) = members.get_mut(&offset.saturating_add(*prefix)) {
                member.listed = true;
                member.add(Reading { method: word(header, 10), stored: Some(long(header, 20)) });
                let name = String::from_utf8_lossy(name);
                if leads_out(&name) {
                    member.name = name.into_owned();
                }
            }
        }
    }
}

/// Where the data of a member ends whose length is not stated.
fn next_header(bytes: &[u8], from: u64) -> u64 {
    let rest = bytes.get(index(from)..).unwrap_or_default();
    let next = [LOCAL, CENTRAL, DESCRIPTOR, END]
        .iter()
        .filter_map(|signature| memchr::memmem::find(rest, signature))
        .min();
    from.saturating_add(length(next.unwrap_or(rest.len())))
}
