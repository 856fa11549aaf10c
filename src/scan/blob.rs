//! One run of bytes that may be a model file, by its content: a file, a member of an archive, what a stream expands to.

use std::io;
use std::sync::Arc;

use crate::accounting::Accounting;
use crate::bytes::{ReadAt, Span, read_vec};
use crate::checkpoint::{Error, Opened, expand_some, survey};
use crate::container::{Format, Npy, detect};

use super::found::Spot;
use super::pickle::Kind;
use super::search::How;
use super::{Scanner, Source, rules, signature};

/// What a run of bytes is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The file, or a member of an archive that may be a file of its own.
    File,
    /// A pickle of a torch archive.
    Torch,
    /// A part of a pickle: that it is damaged says nothing.
    Quiet,
}

/// A run of bytes with its place.
pub(super) struct Blob<'a> {
    pub(super) source: &'a Source,
    pub(super) spot: Spot,
    pub(super) role: Role,
}

/// What a run of bytes was, and where its bytes went.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    /// Its format; `None` where it is none of a model.
    pub(super) container: Option<String>,
    pub(super) accounting: Accounting,
    /// What a compressed stream holds, with its size.
    pub(super) inside: Option<(u64, Accounting)>,
}

impl Part {
    fn of(container: &str, accounting: Accounting) -> Self {
        Self { container: Some(container.to_owned()), accounting, inside: None }
    }

    /// What its library would make of it.
    pub(super) fn opened(opened: &Opened) -> Self {
        opened.files.first().map_or_else(Self::default, |file| Self::of(file.container, file.accounting))
    }

    fn other(size: u64) -> Self {
        Self { accounting: Accounting { other: size, ..Accounting::default() }, ..Self::default() }
    }
}

impl Scanner<'_> {
    /// Scans one run of bytes.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn blob(&mut self, blob: &Blob<'_>) -> io::Result<Part> {
        let size = blob.source.size();
        let part = match detect(blob.source)? {
            Format::Zip => return self.zip(blob),
            Format::TorchLegacy => self.legacy(blob)?,
            Format::Pickle => match self.pickles(blob)? {
                Some(part) => part,
                None => self.unknown(blob)?,
            },
            Format::Tar => self.tar(blob)?,
            Format::Npy => self.npy(blob)?,
            Format::Packed(name @ ("7z" | "rar")) => self.unsupported(blob, name),
            Format::Packed(packing) => self.packed(blob, packing)?,
            Format::Safetensors => self.safetensors(blob)?,
            Format::Foreign(name) => self.unsupported(blob, name),
            Format::Unknown => self.unknown(blob)?,
        };
        if size > 0 && blob.role == Role::File {
            self.zip_behind(blob)?;
        }
        Ok(part)
    }

    fn unsupported(&mut self, blob: &Blob<'_>, name: &str) -> Part {
        self.found.unsupported = true;
        self.found.add(&rules::UNSUPPORTED, blob.spot.whole(), format!("{name} is not read"));
        Part::of(name, Accounting { other: blob.source.size(), ..Accounting::default() })
    }

    /// What its library would make of it: the tensors and where every byte went.
    pub(super) fn survey(&mut self, blob: &Blob<'_>) -> io::Result<Option<Opened>> {
        if blob.role == Role::Quiet {
            return Ok(survey(blob.source, &self.open).ok().flatten());
        }
        let opened = match survey(blob.source, &self.open) {
            Ok(opened) => opened,
            Err(error) => return self.not_opened(&error, blob).map(|()| None),
        };
        if let Some(opened) = &opened {
            self.tensors(opened, &blob.spot)?;
        }
        Ok(opened)
    }

    fn not_opened(&mut self, error: &Error, blob: &Blob<'_>) -> io::Result<()> {
        let rule = match error {
            Error::Io(error) => return Err(io::Error::new(error.kind(), error.to_string())),
            Error::NotApplicable => return Ok(()),
            // Told where the pickle was run, if it began as one does.
            Error::Pickle { .. } if self.found.malformed => return Ok(()),
            Error::Pickle { .. } => &rules::BROKEN_PICKLE,
            Error::Unsupported(name) => {
                self.unsupported(blob, name);
                return Ok(());
            }
            Error::Limit(_) => &rules::LIMIT,
            Error::Container(_) | Error::Packed { .. } => &rules::BROKEN_CONTAINER,
            _ => &rules::BROKEN_CHECKPOINT,
        };
        self.found.malformed = true;
        self.found.model = true;
        self.found.add(rule, blob.spot.whole(), error.to_string());
        Ok(())
    }

    /// A plain pickle, or several.
    fn pickles(&mut self, blob: &Blob<'_>) -> io::Result<Option<Part>> {
        let size = blob.source.size();
        let kind = if blob.role == Role::Torch { Kind::Torch } else { Kind::File };
        let whole = Span::between(0, size);
        let Some(stream) = self.stream(&**blob.source, whole, &blob.spot, kind)? else { return Ok(None) };
        let opened = if blob.role == Role::Torch { None } else { self.survey(blob)? };
        let trailing = size.saturating_sub(stream.pickles);
        let plain = Accounting { pickle: stream.pickles, trailing, ..Accounting::default() };
        Ok(Some(match opened {
            Some(opened) => Part::opened(&opened),
            None => Part::of("pickle", plain),
        }))
    }

    /// Torch's legacy stream.
    fn legacy(&mut self, blob: &Blob<'_>) -> io::Result<Part> {
        let size = blob.source.size();
        let whole = Span::between(0, size);
        let stream = self.stream(&**blob.source, whole, &blob.spot, Kind::Legacy)?;
        let end = stream.map_or(0, |stream| stream.end);
        let Some(opened) = self.survey(blob)? else {
            self.search(&**blob.source, Span::between(end, size), &blob.spot, How::Runs)?;
            let trailing = size.saturating_sub(end);
            return Ok(Part::of(
                "torch-legacy",
                Accounting { pickle: end, other: trailing, ..Accounting::default() },
            ));
        };
        let part = Part::opened(&opened);
        self.trailing(blob, part.accounting.trailing, "the last storage")?;
        Ok(part)
    }

    /// What follows the end of a format.
    pub(super) fn trailing(&mut self, blob: &Blob<'_>, length: u64, behind: &str) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        let size = blob.source.size();
        let mut at = size.saturating_sub(length);
        let rest = Span::between(at, size);
        let what = if crate::checkpoint::skip_padding(&**blob.source, &mut at, size)?.is_none() {
            self.found.add(
                &rules::PADDING,
                blob.spot.at(rest.start(), rest.len()),
                format!("{length} bytes behind {behind}"),
            );
            return Ok(());
        } else {
            format!("{length} bytes behind {behind}")
        };
        self.found.add(&rules::TRAILING_DATA, blob.spot.at(rest.start(), rest.len()), what);
        self.search(&**blob.source, rest, &blob.spot, How::Runs).map(drop)
    }

    /// One array. Its header is read without evaluating it; objects are a pickle.
    fn npy(&mut self, blob: &Blob<'_>) -> io::Result<Part> {
        let size = blob.source.size();
        let whole = Span::between(0, size);
        let objects = match Npy::open(&**blob.source, whole, None) {
            Ok(header) if header.element.has_objects() => Some(header.data),
            Ok(_) => None,
            Err(_) => {
                self.search(&**blob.source, whole, &blob.spot, How::Runs)?;
                None
            }
        };
        if let Some(data) = objects {
            let data = Span::between(data, size);
            if self.stream(&**blob.source, data, &blob.spot, Kind::File)?.is_none() {
                self.search(&**blob.source, data, &blob.spot, How::Runs)?;
            }
        }
        self.found.model = true;
        let Some(opened) = self.survey(blob)? else {
            return Ok(Part::of("npy", Accounting { other: size, ..Accounting::default() }));
        };
        let part = Part::opened(&opened);
        if objects.is_none() {
            self.trailing(blob, part.accounting.trailing, "the array")?;
        }
        Ok(part)
    }

    /// A compressed stream: what it holds, also where it breaks off.
    fn packed(&mut self, blob: &Blob<'_>, packing: &'static str) -> io::Result<Part> {
        let size = blob.source.size();
        let compressed = Accounting { other: size, ..Accounting::default() };
        if self.depth >= super::DEPTH {
            self.found.malformed = true;
            self.found.add(&rules::LIMIT, blob.spot.whole(), "archives inside each other, too deep".into());
            return Ok(Part::of(packing, compressed));
        }
        let (inside, trailing, end) = match expand_some(blob.source, packing, &self.open) {
            Ok(expanded) => expanded,
            Err(Error::Io(error)) => return Err(error),
            Err(error) => return self.not_opened(&error, blob).map(|()| Part::of(packing, compressed)),
        };
        let spot = blob.spot.inside(&format!("<{packing}>"));
        let inner = self.deeper(|scanner| scanner.blob(&Blob { source: &inside, spot, role: blob.role }))?;
        match end {
            Ok(()) => self.trailing(blob, trailing, "the compressed stream")?,
            // Text may begin as a compressed stream does.
            Err(_) if inside.size() == 0 && matches!(packing, "lzma" | "zlib" | "bzip2") => {
                return self.unknown(blob);
            }
            Err(Error::Io(error)) => return Err(error),
            Err(error) => {
                self.found.model = true;
                self.not_opened(&error, blob)?;
            }
        }
        let container = match inner.container {
            Some(inner) => format!("{packing}+{inner}"),
            None => packing.to_owned(),
        };
        Ok(Part {
            container: Some(container),
            accounting: compressed,
            inside: Some((inside.size(), inner.accounting)),
        })
    }

    /// A safetensors file holds no pickle; what its header does not cover is looked at.
    fn safetensors(&mut self, blob: &Blob<'_>) -> io::Result<Part> {
        let size = blob.source.size();
        self.found.model = true;
        let mut length = [0; 8];
        blob.source.read_exact_at(&mut length, 0)?;
        let header = u64::from_le_bytes(length).saturating_add(8);
        let text = read_vec(&**blob.source, Span::between(8, header.min(size)))?;
        let end = end_of_tensors(&text).and_then(|end| header.checked_add(end));
        let Some(end) = end.filter(|end| *end <= size) else {
            self.found.malformed = true;
            self.found.add(
                &rules::BROKEN_CONTAINER,
                blob.spot.whole(),
                "header of a safetensors file that does not fit".into(),
            );
            self.search(&**blob.source, Span::between(0, size), &blob.spot, How::Everywhere)?;
            return Ok(Part::of("safetensors", Accounting { other: size, ..Accounting::default() }));
        };
        let trailing = size.saturating_sub(end);
        self.trailing(blob, trailing, "the last tensor")?;
        let accounting = Accounting {
            tensors: end.saturating_sub(header),
            container: header,
            trailing,
            ..Accounting::default()
        };
        Ok(Part::of("safetensors", accounting))
    }

    /// No model format. A pickle or the like may still hide in it.
    fn unknown(&mut self, blob: &Blob<'_>) -> io::Result<Part> {
        let size = blob.source.size();
        if blob.role == Role::Quiet || size == 0 {
            return Ok(Part::other(size));
        }
        self.index(blob)?;
        self.json(blob)?;
        let whole = Span::between(0, size);
        // A program beside models is none of our business; one inside of an archive of models is.
        let head = read_vec(&**blob.source, Span::between(0, size.min(super::HEAD)))?;
        if let Some(name) = signature::program(&head).filter(|_| blob.spot.entry().is_some()) {
            self.found.add(&rules::SIGNATURE, blob.spot.at(0, None), format!("begins as a {name} does"));
        }
        match self.attempt(&**blob.source, whole, &blob.spot, How::Runs)? {
            Some(end) => self.search(&**blob.source, Span::between(end, size), &blob.spot, How::Runs)?,
            None => self.search(&**blob.source, whole, &blob.spot, How::Foreign)?,
        };
        Ok(Part::other(size))
    }

    /// Runs `what` one level deeper in archives.
    pub(super) fn deeper<T>(&mut self, what: impl FnOnce(&mut Self) -> T) -> T {
        self.depth = self.depth.saturating_add(1);
        let result = what(self);
        self.depth = self.depth.saturating_sub(1);
        result
    }
}

/// Where the last tensor of a safetensors header ends, from the end of the header.
fn end_of_tensors(header: &[u8]) -> Option<u64> {
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    let tensors = header.iter().filter(|(name, _)| *name != "__metadata__");
    tensors
        .map(|(_, tensor)| tensor.get("data_offsets")?.get(1)?.as_u64())
        .try_fold(0, |end, next| Some(next?.max(end)))
}

/// A part of a source as one of its own.
pub(super) fn part(source: &Source, span: Span) -> Option<Source> {
    let part: Source = Arc::new(crate::bytes::Part::new(source.clone(), span)?);
    Some(part)
}
