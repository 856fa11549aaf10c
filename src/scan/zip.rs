//! Zip archives. One that every reader takes the same way is walked by its directory; any other is read in every way that
//! some reader might (`loose`). Each member is scanned by its content, whatever its name.

use std::io::{self, Read, Seek};
use std::sync::Arc;

use crate::accounting::Accounting;
use crate::bytes::{Positioned, ReadAt, Span, read_vec};
use crate::checkpoint::{expand_some, survey};
use crate::container::{Archive, BOOKKEEPING, Error, ErrorKind, Member, Method, Package, Stray, joined};
use crate::tensor::{EntryId, Kind, Leaf};

use super::blob::{Blob, Part, Role, part};
use super::search::How;
use super::{Scanner, Source, rules};

/// Members inflated in memory; larger ones go to a temporary file.
const IN_MEMORY: u64 = 16 << 20;
/// Members whose checksum is compared: pickles and the like, and not arrays.
const CHECKED: u64 = 64 << 20;

impl Scanner<'_> {
    /// Scans an archive.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn zip(&mut self, blob: &Blob<'_>) -> io::Result<Part> {
        let size = blob.source.size();
        if self.depth >= super::DEPTH {
            self.found.malformed = true;
            self.found.add(&rules::LIMIT, blob.spot.whole(), "archives inside each other, too deep".into());
            return Ok(Part {
                accounting: Accounting { other: size, ..Accounting::default() },
                ..Part::default()
            });
        }
        match Archive::open(blob.source, &self.open.limits) {
            Ok(archive) => self.archive(blob, &archive),
            Err(error) if blob.role == Role::Quiet => {
                let _ = error;
                Ok(Part::default())
            }
            Err(error) => {
                if let Some(part) = self.entries(blob)? {
                    return Ok(part);
                }
                self.disagreement(&error, blob);
                self.loose(blob)
            }
        }
    }

    /// A file of `torch.distributed.checkpoint`: one archive after the other, each with one tensor or object of a state. Where
    /// all are whole, readers can disagree only about which of them they take, and each is scanned. Whole checkpoints
    /// one after the other are no such file: which of them is loaded matters.
    fn entries(&mut self, blob: &Blob<'_>) -> io::Result<Option<Part>> {
        /// `torch.save` to a stream, which has no name of its own.
        const PREFIX: &str = "archive/";
        let Some(archives) = joined(blob.source, &self.open.limits)? else { return Ok(None) };
        let is_torch = |archive: &Archive| Layout::of(archive).prefix == Some(PREFIX);
        let sources =
            archives.iter().map(|(span, archive)| part(blob.source, *span).filter(|_| is_torch(archive)));
        let Some(sources) = sources.collect::<Option<Vec<Source>>>() else { return Ok(None) };
        // Of each whether it is one tensor, and whether it holds any.
        let holds = sources.iter().map(|source| {
            let opened = survey(source, &self.open).ok().flatten();
            let root = opened.as_ref().and_then(|opened| opened.tree.entry(EntryId::ROOT));
            let is_tensor = root.is_some_and(|root| matches!(root.kind, Kind::Leaf(Leaf::Tensor(_))));
            (is_tensor, opened.is_none_or(|opened| !opened.tensors.is_empty()))
        });
        let (tensors, holders): (Vec<bool>, Vec<bool>) = holds.unzip();
        if tensors.iter().all(|is_tensor| !is_tensor) && holders.contains(&true) {
            return Ok(None);
        }
        let mut accounting = Accounting::default();
        for ((span, archive), source) in archives.iter().zip(&sources) {
            let spot = blob.spot.inside(&format!("{:#x}", span.start()));
            let entry = Blob { source, spot, role: Role::File };
            accounting = accounting.plus(self.deeper(|scanner| scanner.archive(&entry, archive))?.accounting);
        }
        Ok(Some(Part { container: Some("dcp".to_owned()), accounting, inside: None }))
    }

    /// Why an archive is not one for every reader.
    pub(super) fn disagreement(&mut self, error: &Error, blob: &Blob<'_>) {
        let rule = match &error.kind {
            ErrorKind::Name | ErrorKind::Link => &rules::UNSAFE_MEMBER,
            ErrorKind::Read(_) | ErrorKind::EndRecords { found: 0 } => &rules::BROKEN_CONTAINER,
            ErrorKind::Limit(_) => &rules::LIMIT,
            ErrorKind::Flags(flags) if flags & 1 != 0 => &rules::UNSUPPORTED,
            ErrorKind::Method(_) => &rules::UNSUPPORTED,
            _ => &rules::ARCHIVE_READINGS,
        };
        self.found.malformed |= rule.id != rules::UNSUPPORTED.id;
        self.found.unsupported |= rule.id == rules::UNSUPPORTED.id;
        self.found.add(rule, blob.spot.at(error.offset.0, None), error.to_string());
    }

    fn archive(&mut self, blob: &Blob<'_>, archive: &Archive) -> io::Result<Part> {
        let size = blob.source.size();
        let mut accounting =
            Accounting { trailing: size.saturating_sub(archive.end()), ..Accounting::default() };
        for stray in archive.strays() {
            accounting.unreferenced = accounting.unreferenced.saturating_add(stray.span.len());
            self.stray(blob, stray)?;
        }
        let opened = self.survey(blob)?;
        let layout = Layout::of(archive);
        let source = archive.members().iter().find(|member| member.name.strip_suffix(".py").is_some());
        if let Some(source) = source.filter(|_| layout.package) {
            let message = format!("{} is imported from the package", source.name.escape_debug());
            self.found.add(&rules::PACKAGE_CODE, blob.spot.whole(), message);
        }
        let mut inner = None;
        for member in archive.members() {
            let part = self.member(blob, archive, member, &layout)?;
            let stored = member.data.len();
            let counted = match part.container.is_some() {
                true if part.accounting.pickle > 0 => &mut accounting.pickle,
                true => &mut accounting.tensors,
                false => &mut accounting.other,
            };
            *counted = counted.saturating_add(stored);
            inner = part.container.or(inner);
        }
        self.trailing(blob, accounting.trailing, "the archive")?;
        if let Some(opened) = opened {
            self.found.model = true;
            return Ok(Part::opened(&opened));
        }
        let container = layout.name().map(str::to_owned).or(inner.map(|inner| format!("zip+{inner}")));
        self.found.model |= container.is_some();
        Ok(Part { container, accounting: accounting.with_container(size), inside: None })
    }

    /// Bytes where none belong.
    fn stray(&mut self, blob: &Blob<'_>, stray: &Stray) -> io::Result<()> {
        let bytes = read_vec(
            &**blob.source,
            Span::between(
                stray.span.start(),
                stray.span.end().min(stray.span.start().saturating_add(1 << 20)),
            ),
        )?;
        if bytes.iter().all(|byte| matches!(byte, 0 | b' ' | b'\t' | b'\r' | b'\n')) {
            self.found.add(
                &rules::PADDING,
                blob.spot.at(stray.span.start(), stray.span.len()),
                stray.to_string(),
            );
            return Ok(());
        }
        self.found.add(
            &rules::STRAY_BYTES,
            blob.spot.at(stray.span.start(), stray.span.len()),
            stray.to_string(),
        );
        self.hidden_members(blob, stray.span)?;
        self.search(&**blob.source, stray.span, &blob.spot, How::Everywhere).map(drop)
    }

    fn member(
        &mut self,
        blob: &Blob<'_>,
        archive: &Archive,
        member: &Member,
        layout: &Layout<'_>,
    ) -> io::Result<Part> {
        let spot = blob.spot.inside(&member.name);
        match layout.kind(&member.name) {
            Record::Storage => {
                if member.method == Method::Stored {
                    let span = Span::between(0, member.data.len());
                    if let Some(source) = part(blob.source, member.data) {
                        self.weights(&*source, span, &spot)?;
                    }
                    return Ok(Part::default());
                }
                if !self.options.deep {
                    let head = archive.head(&**blob.source, member, super::HEAD).unwrap_or_default();
                    self.search(&head, Span::between(0, head.size()), &spot, How::Start)?;
                    return Ok(Part::default());
                }
            }
            Record::Bookkeeping => return self.bookkeeping(blob, archive, member).map(|()| Part::default()),
            Record::Further if layout.is_torch() && !layout.is_script() && member.size > 0 => {
                let message = format!("{} bytes", member.size);
                self.found.add(&rules::UNKNOWN_MEMBER, spot.whole(), message);
            }
            Record::Further | Record::Pickle => {}
        }
        let Some(source) = self.content(blob, member, &spot)? else { return Ok(Part::default()) };
        if member.size <= CHECKED {
            let whole = read_vec(&*source, Span::between(0, source.size().min(CHECKED)))?;
            let got = crc32fast::hash(&whole);
            if archive.checksum(member).is_some_and(|stated| stated != got) {
                let message = format!("checksum {got:#010x}, {:#010x} stated", member.crc32);
                self.found.add(&rules::ARCHIVE_READINGS, spot.whole(), message);
            }
        }
        let role = match (layout.kind(&member.name), blob.role) {
            (Record::Pickle, _) => Role::Torch,
            (_, Role::Quiet) => Role::Quiet,
            _ => Role::File,
        };
        self.deeper(|scanner| scanner.blob(&Blob { source: &source, spot, role }))
    }

    /// The bytes of a member, as far as they can be had.
    fn content(
        &mut self,
        blob: &Blob<'_>,
        member: &Member,
        spot: &super::found::Spot,
    ) -> io::Result<Option<Source>> {
        match member.method {
            Method::Stored => Ok(part(blob.source, member.data)),
            Method::Deflated => self.inflated(blob.source, member.data, spot).map(Some),
        }
    }

    /// What a member inflates to, up to its damage or a limit, which is told.
    fn inflated(&mut self, source: &Source, span: Span, spot: &super::found::Spot) -> io::Result<Source> {
        let (bytes, end) = inflate(source, span)?;
        let damage = match end {
            Ok(true) => return Ok(bytes),
            Err(error) => error.to_string(),
            Ok(false) => {
                let Some(stored) = part(source, span) else { return Ok(bytes) };
                match expand_some(&stored, "deflate", &self.open) {
                    Ok((inside, _, Ok(()))) => return Ok(inside),
                    Ok((_, _, Err(error))) | Err(error) => error.to_string(),
                }
            }
        };
        self.found.malformed = true;
        self.found.add(&rules::BROKEN_CONTAINER, spot.whole(), format!("cannot be inflated: {damage}"));
        Ok(bytes)
    }

    /// Versions, byte order and torch's random id are a few letters and digits.
    fn bookkeeping(&mut self, blob: &Blob<'_>, archive: &Archive, member: &Member) -> io::Result<()> {
        const LONGEST: u64 = 64;
        let head = archive.head(&**blob.source, member, LONGEST.saturating_add(1)).unwrap_or_default();
        let plain =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'\n' | b'\r');
        if head.size() > LONGEST || !head.iter().all(plain) {
            let spot = blob.spot.inside(&member.name);
            self.found.add(
                &rules::UNKNOWN_MEMBER,
                spot.whole(),
                "a record of torch with other content than it has".into(),
            );
            let mut whole = Vec::new();
            if let Some(source) = self.content(blob, member, &spot)? {
                whole = read_vec(&*source, Span::between(0, source.size().min(CHECKED)))?;
            }
            self.search(&whole, Span::between(0, whole.size()), &spot, How::Everywhere)?;
        }
        Ok(())
    }
}

/// What a run of bytes inflates to, in bounded memory; whether that is all, or what is wrong behind it.
pub(super) fn inflate(source: &Source, span: Span) -> io::Result<(Source, io::Result<bool>)> {
    let mut stored = Positioned::new(&**source);
    stored.seek(io::SeekFrom::Start(span.start()))?;
    let mut bytes = Vec::new();
    let inflated = flate2::read::DeflateDecoder::new(stored.take(span.len()));
    let end = inflated.take(IN_MEMORY.saturating_add(1)).read_to_end(&mut bytes);
    let all = bytes.size() <= IN_MEMORY;
    Ok((Arc::new(bytes), end.map(|_| all)))
}

/// What a member of an archive of torch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    Pickle,
    Storage,
    Bookkeeping,
    Further,
}

/// Names of torch's layout, below its prefix.
struct Layout<'a> {
    /// `None` where the archive is none of torch.
    prefix: Option<&'a str>,
    script: bool,
    /// Whether it is a package of torch, any member of which may be a pickle.
    package: bool,
    arrays: bool,
}

impl<'a> Layout<'a> {
    fn of(archive: &'a Archive) -> Self {
        let names = || archive.members().iter().map(|member| &*member.name);
        let prefix = names().find_map(|name| match name.strip_suffix("data.pkl")? {
            "" => Some(""),
            prefix => prefix.ends_with('/').then_some(prefix),
        });
        let script = prefix.is_some_and(|prefix| {
            names()
                .filter_map(|name| name.strip_prefix(prefix))
                .any(|name| name == "constants.pkl" || name.starts_with("code/"))
        });
        Self {
            prefix,
            script,
            package: Package::is_one(archive),
            arrays: names().any(|name| name.strip_suffix(".npy").is_some()),
        }
    }

    fn is_torch(&self) -> bool {
        self.prefix.is_some()
    }

    fn is_script(&self) -> bool {
        self.script
    }

    fn name(&self) -> Option<&'static str> {
        match (self.prefix, self.script) {
            (Some(_), true) => Some("torchscript"),
            (Some(_), false) => Some("torch-zip"),
            (None, _) => self.arrays.then_some("npz"),
        }
    }

    fn kind(&self, name: &str) -> Record {
        /// Folders of storages.
        const FOLDERS: &[&str] = &["data/", "constants/", "traced_inputs/"];
        if self.package {
            return if name.strip_suffix(".storage").is_some() { Record::Storage } else { Record::Pickle };
        }
        let Some(name) = self.prefix.and_then(|prefix| name.strip_prefix(prefix)) else {
            return Record::Further;
        };
        match () {
            () if FOLDERS.iter().any(|folder| name.starts_with(folder)) => Record::Storage,
            () if BOOKKEEPING.contains(&name) => Record::Bookkeeping,
            () if !name.contains('/') && name.strip_suffix(".pkl").is_some() => Record::Pickle,
            () => Record::Further,
        }
    }
}
