//! Entries that were transformed on their way to the file: zstd, which is undone into one temporary file.

use std::sync::Arc;

use crate::bytes::{FileSource, Part, Span};
use crate::tensor::{StreamId, Streams};

use super::super::expand::Expanded;
use super::super::folder::FolderError;
use super::super::{Error, OpenOptions, Source};
use super::entries::Entry;

/// What is known of: name and major version of a transformation, and how it is undone.
const TRANSFORMS: &[(&str, &str, &str)] = &[("stream.zstd", "1", "zstd")];

/// The temporary file of all files. Its stream is there once anything was written to it.
#[derive(Default)]
pub(super) struct Spool {
    expanded: Option<Expanded>,
    stream: Option<StreamId>,
}

impl Spool {
    /// Undoes the transformations of an entry. Its bytes, and where they begin in the temporary file.
    ///
    /// # Errors
    /// A transformation that is not known, damage, a limit.
    pub(super) fn undo(
        &mut self,
        part: &Source,
        entry: &Entry<'_>,
        options: &OpenOptions,
    ) -> Result<(Source, u64), Error> {
        let mut packings = entry.stored.transforms.iter().map(|transform| {
            let (name, version) = transform.split_once('/').unwrap_or((transform, "0"));
            let major = version.split('.').next().unwrap_or_default();
            let known = TRANSFORMS.iter().find(|(known, of, _)| *known == name && *of == major);
            let unknown = || FolderError::Transform { name: entry.name.into(), transform: transform.clone() };
            known.map(|(_, _, packing)| *packing).ok_or_else(unknown)
        });
        let (packing, more) = (packings.next().transpose()?.unwrap_or("zstd"), packings.next());
        if more.is_some() {
            return Err(Error::Unsupported("an entry compressed more than once"));
        }
        let expanded = match &mut self.expanded {
            Some(expanded) => expanded,
            None => self.expanded.insert(Expanded::new(options)?),
        };
        let (span, trailing) = expanded.add(part, packing, &options.limits)?;
        if trailing > 0 {
            let reason = format!("{trailing} bytes follow the compressed data");
            return Err(Error::Packed { packing, reason });
        }
        let source: Source = Arc::new(expanded.source()?);
        let part = Part::new(source, span).ok_or(Error::Io(std::io::ErrorKind::UnexpectedEof.into()))?;
        Ok((Arc::new(part), span.start()))
    }

    /// The stream of the temporary file, made beside that of the first entry in it.
    pub(super) fn stream(&mut self, streams: &mut Streams, beside: StreamId) -> StreamId {
        *self.stream.get_or_insert_with(|| streams.push_beside(Arc::new(Vec::new()), beside))
    }

    /// Gives the stream the whole temporary file.
    ///
    /// # Errors
    /// Those of asking for its size.
    pub(super) fn finish(self, streams: &mut Streams) -> Result<(), Error> {
        let (Some(expanded), Some(stream)) = (self.expanded, self.stream) else { return Ok(()) };
        let source: FileSource = expanded.source()?;
        let whole = Span::between(0, crate::bytes::ReadAt::size(&source));
        let source: Source = Arc::new(source);
        streams.replace(stream, Part::new(source.clone(), whole).map_or(source, |part| Arc::new(part)));
        Ok(())
    }
}
