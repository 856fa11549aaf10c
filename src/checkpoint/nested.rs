//! Checkpoints inside a checkpoint: in a member of its archive, or in the bytes of its pickle. Each is opened as a file of
//! its own would be, where it lies, and what it holds becomes part of the outer one.

use std::sync::Arc;

use crate::accounting::Accounting;
use crate::bytes::{Part, ReadAt, Span};
use crate::limits::{LimitKind, Limits, check};
use crate::rebuild::Rebuilt;
use crate::tensor::{Place, StreamId, Streams};

use super::layers::Found;
use super::open::open_bare;
use super::{Error, OpenOptions, Opened, PickleInfo, RefusedUse};

/// A checkpoint inside another.
pub(super) struct Inside {
    pub(super) rebuilt: Rebuilt,
    pub(super) pickles: Vec<PickleInfo>,
    /// Where the bytes of its span went.
    pub(super) accounting: Accounting,
    pub(super) strays: Vec<String>,
}

/// Opens what lies in a span of a stream. `None` where that is wrapped in something else.
///
/// # Errors
/// Those of opening a file; the limit on levels.
pub(super) fn open(
    streams: &mut Streams,
    (stream, span): (StreamId, Span),
    entry: &str,
    options: &OpenOptions,
) -> Result<Option<Inside>, Error> {
    let allowed = options.limits.nested;
    check(LimitKind::Nested, crate::bytes::length(allowed), 1)?;
    let limits = Limits { nested: allowed.saturating_sub(1), ..options.limits.clone() };
    // Values of a checkpoint in a value are part of that value.
    let options = OpenOptions { limits, siblings: None, strict: false, values: false, ..options.clone() };
    let part = streams.shared(stream).and_then(|source| Part::new(source, span));
    let part: Arc<dyn ReadAt> = Arc::new(part.ok_or(Error::Unsupported("a checkpoint outside of its file"))?);
    match open_bare(&part, &options).map_err(|error| inside(error, entry))? {
        Found::Opened(opened) => move_in(streams, (stream, span.start()), entry, *opened).map(Some),
        Found::Inside(_) => Ok(None),
    }
}

/// Lets what was opened as a source of its own refer to the streams of the outer one.
fn move_in(
    streams: &mut Streams,
    (stream, base): (StreamId, u64),
    entry: &str,
    opened: Opened,
) -> Result<Inside, Error> {
    let Opened { mut storages, tensors, tree, files, strays, .. } = opened;
    let decoded: Vec<StreamId> =
        opened.streams.decoded().map(|decoded| streams.push_beside(decoded, stream)).collect();
    let moved = |own: StreamId, span: Span| -> Result<(StreamId, Span), Error> {
        let start = base.saturating_add(span.start());
        if own == StreamId::SOURCE {
            return Ok((stream, Span::between(start, start.saturating_add(span.len()))));
        }
        let own = usize::try_from(own.0).ok().and_then(|id| decoded.get(id.checked_sub(1)?));
        Ok((*own.ok_or(Error::Unsupported("a storage without a stream"))?, span))
    };
    for storage in &mut storages {
        storage.place = match storage.place {
            Place::Stored { stream, span } => {
                moved(stream, span).map(|(stream, span)| Place::Stored { stream, span })
            }
            Place::Deflated { stream, span } => {
                moved(stream, span).map(|(stream, span)| Place::Deflated { stream, span })
            }
        }?;
        // Without a key: its bytes are counted where the outer checkpoint counts them.
        storage.key = "".into();
        storage.entry = Some(join(entry, storage.entry.as_deref()));
    }
    let file = files.into_iter().next();
    let accounting = file.as_ref().map_or_else(Accounting::default, |file| file.accounting);
    let pickles = file.map_or_else(Vec::new, |file| file.pickles);
    let pickles = pickles
        .into_iter()
        .map(|info| PickleInfo { entry: Some(join(entry, info.entry.as_deref())), ..info });
    let strays = strays.into_iter().map(|stray| format!("{}: {stray}", entry.escape_debug())).collect();
    let rebuilt = Rebuilt { tree, tensors, storages, ..Rebuilt::default() };
    Ok(Inside { rebuilt, pickles: pickles.collect(), accounting, strays })
}

/// The error of a checkpoint inside another, with its place.
fn inside(error: Error, outer: &str) -> Error {
    let place = |entry: Option<Box<str>>| Some(join(outer, entry.as_deref()));
    match error {
        Error::Pickle { entry, error } => Error::Pickle { entry: place(entry), error },
        Error::Ambiguous { entry, anomaly } => Error::Ambiguous { entry: place(entry), anomaly },
        Error::Rebuild { entry, error } => Error::Rebuild { entry: place(entry), error },
        Error::Array { entry, error } => Error::Array { entry: place(entry), error },
        Error::Container(mut error) => {
            error.entry = place(error.entry);
            Error::Container(error)
        }
        Error::Refused { uses } => {
            let uses = uses.into_iter().map(|used| RefusedUse { entry: place(used.entry), ..used });
            Error::Refused { uses: uses.collect() }
        }
        error => error,
    }
}

/// `outer/inner`
fn join(outer: &str, inner: Option<&str>) -> Box<str> {
    match inner {
        Some(inner) => format!("{outer}/{inner}").into(),
        None => outer.into(),
    }
}
