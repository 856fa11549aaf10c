//! Torch's zip archive: one pickle, storages as members.

use std::sync::Arc;

use crate::bytes::Span;
use crate::container::{Archive, Member, Method, Storages, TorchZip};
use crate::tensor::{StreamId, Streams};

use super::{Error, OpenOptions, Opened, Source, SourceFile, account, run};

/// Judges a member that is neither the pickle nor a storage, as a pickle if it is one.
pub(super) fn judge_member(
    archive: &Archive,
    member: &Member,
    streams: &mut Streams,
    options: &OpenOptions,
) -> Result<(), Error> {
    let (stream, span) = match member.method {
        Method::Stored => (StreamId::SOURCE, member.data),
        Method::Deflated => {
            let bytes = archive.read(streams.source(), member, options.limits.inflated_pickle)?;
            (streams.push(Arc::new(bytes)), Span::between(0, member.size))
        }
    };
    run::judge_bystander(streams, stream, span, Some(&member.name), options)
}

/// Where the bytes of a member that is a pickle are, checked and inflated.
pub(super) fn pickle(
    source: &Source,
    archive: &Archive,
    member: &Member,
    streams: &mut Streams,
    options: &OpenOptions,
) -> Result<(StreamId, Span), Error> {
    Ok(match member.method {
        Method::Stored => {
            archive.verify(source, member)?;
            (StreamId::SOURCE, member.data)
        }
        Method::Deflated => {
            let bytes = archive.read(source, member, options.limits.inflated_pickle)?;
            let span = Span::between(0, member.size);
            (streams.push(Arc::new(bytes)), span)
        }
    })
}

/// Opens the pickle of the archive and everything that it refers to.
pub(super) fn open(source: &Source, torch: &TorchZip, options: &OpenOptions) -> Result<Opened, Error> {
    read(source, torch, options).map(|(_, opened)| opened)
}

/// As [`open`], with the objects of the pickle, for readers that ask for its values.
pub(super) fn read(
    source: &Source,
    torch: &TorchZip,
    options: &OpenOptions,
) -> Result<(run::Ran, Opened), Error> {
    let mut streams = Streams::new(source.clone());
    let member = torch.pickle();
    let (stream, span) = pickle(source, torch.archive(), member, &mut streams, options)?;
    let mut ran = run::run(&streams, stream, span, Some(&member.name), options)?;
    let storages: &dyn Storages = torch;
    let rebuilt = ran.rebuild(&mut streams, Some(storages), options)?;
    for member in torch.bystanders() {
        judge_member(torch.archive(), member, &mut streams, options)?;
    }
    let mut strays: Vec<String> = torch.archive().strays().iter().map(ToString::to_string).collect();
    let after_stop = span.end().saturating_sub(ran.span.end());
    if after_stop > 0 {
        strays.push(format!("{}: {after_stop} bytes follow the pickle", member.name.escape_debug()));
    }
    let accounting = account::torch_zip(source.size(), torch, (member.data.len(), after_stop), &rebuilt);
    let file = SourceFile {
        big_endian: torch.big_endian(),
        pickles: ran.infos(&streams)?,
        ..SourceFile::new("torch-zip", accounting)
    };
    Ok((ran, Opened::new(file, strays, streams, rebuilt)))
}
