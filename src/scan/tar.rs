//! Tar archives: torch's own of 2016, and any other.

use std::io;

use crate::accounting::Accounting;
use crate::bytes::{Positioned, Span};

use super::beside::leads_out;
use super::blob::{Blob, Part, Role, part};
use super::search::How;
use super::{Scanner, rules};

/// Members of torch's archive in which pickles and raw records take turns.
const TABLES: &[&str] = &["storages", "tensors"];

impl Scanner<'_> {
    /// Scans an archive.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn tar(&mut self, blob: &Blob<'_>) -> io::Result<Part> {
        let size = blob.source.size();
        let other = Accounting { other: size, ..Accounting::default() };
        if self.depth >= super::DEPTH {
            self.found.malformed = true;
            self.found.add(&rules::LIMIT, blob.spot.whole(), "archives inside each other, too deep".into());
            return Ok(Part { accounting: other, ..Part::default() });
        }
        let opened = self.survey(blob)?;
        let torch = opened.is_some();
        let mut accounting = Accounting::default();
        let mut container = None;
        let mut end = 0;
        let mut archive = tar::Archive::new(Positioned::new(&**blob.source));
        let mut entries = archive.entries_with_seek()?;
        for _ in 0..self.open.limits.entries {
            let Some(entry) = entries.next() else { break };
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.found.malformed = true;
                    self.found.model = true;
                    self.found.add(&rules::BROKEN_CONTAINER, blob.spot.at(end, None), error.to_string());
                    self.search(&**blob.source, Span::between(end, size), &blob.spot, How::Everywhere)?;
                    break;
                }
            };
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let (at, len) = (entry.raw_file_position(), entry.size());
            let kind = entry.header().entry_type();
            if leads_out(&name) || kind.is_symlink() || kind.is_hard_link() && !torch {
                self.found.add(
                    &rules::UNSAFE_MEMBER,
                    blob.spot.at(at, None),
                    name.escape_debug().take(120).collect(),
                );
            }
            let span = Span::between(at, at.saturating_add(len).min(size));
            end = span.end().saturating_add(511) & !511;
            let Some(source) = part(blob.source, span).filter(|_| len > 0 && kind.is_file()) else {
                continue;
            };
            let spot = blob.spot.inside(&name);
            if TABLES.contains(&name.as_str()) && (torch || self.found.malformed) {
                self.search(&*source, Span::between(0, len), &spot, How::Runs)?;
                continue;
            }
            let role = if name == "pickle" || name == "sys_info" { Role::Torch } else { Role::File };
            let inner = self.deeper(|scanner| scanner.blob(&Blob { source: &source, spot, role }))?;
            let counted =
                if inner.accounting.pickle > 0 { &mut accounting.pickle } else { &mut accounting.other };
            *counted = counted.saturating_add(span.len());
            container = inner.container.or(container);
        }
        let rest = size.saturating_sub(end.min(size));
        accounting.trailing = rest;
        self.behind_tar(blob, Span::between(end.min(size), size))?;
        if let Some(opened) = opened {
            self.found.model = true;
            return Ok(Part::opened(&opened));
        }
        self.found.model |= container.is_some();
        let container = container.map(|inner| format!("tar+{inner}"));
        accounting.trailing = 0;
        Ok(Part { container, accounting: accounting.with_container(size), inside: None })
    }

    /// Behind the last member stand zeros.
    fn behind_tar(&mut self, blob: &Blob<'_>, rest: Span) -> io::Result<()> {
        let mut at = rest.start();
        if crate::checkpoint::skip_padding(&**blob.source, &mut at, rest.end())?.is_some() {
            self.trailing(blob, rest.end().saturating_sub(at), "the archive")?;
        }
        Ok(())
    }
}
