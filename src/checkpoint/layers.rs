//! What a checkpoint may be wrapped in: a compressed stream, or an archive that holds one checkpoint and no other.

use std::sync::Arc;

use crate::accounting::Accounting;
use crate::bytes::{Part, Positioned, ReadAt, Span};
use crate::container::{Archive, Format, Method, detect};

use super::{Error, OpenOptions, Opened, Outer, Source, expand, open};

/// Layers between a file and its checkpoint: a member of an archive inside a compressed archive.
const MOST: usize = 3;

/// Archives of which one member holds the weights, by a member that only this writer makes: the weights, the writer, and
/// what else its loader needs.
///
/// stable-baselines 3, `common/save_util.py`: the optimizer and further variables have files of their own, the
/// hyper-parameters and spaces are JSON. stable-baselines 2, `common/base_class.py`: the weights are an npz.
const MAIN: &[(&str, &str, &str, &[&str])] = &[
    ("_stable_baselines3_version", "policy.pth", "stable-baselines 3", &["data"]),
    ("policy.optimizer.pth", "policy.pth", "stable-baselines 3", &["data"]),
    ("parameter_list", "parameters", "stable-baselines", &["data"]),
];

/// What an attempt to open a source came to.
pub(super) enum Found {
    /// The checkpoint.
    Opened(Box<Opened>),
    /// A source inside of it.
    Inside(Inside),
}

/// A source inside another.
pub(super) struct Inside {
    source: Source,
    layer: &'static str,
    /// Whether it was compressed.
    expanded: bool,
    /// Bytes of further members beside it.
    other: u64,
    strays: Vec<String>,
    needs: Option<(&'static str, &'static [&'static str])>,
}

/// Opens a source, through its layers.
pub(super) fn open_all(source: &Source, options: &OpenOptions) -> Result<Opened, Error> {
    let mut current = source.clone();
    let mut layers: Vec<Inside> = Vec::new();
    loop {
        match open::open_bare(&current, options)? {
            Found::Opened(opened) => return Ok(finish(source, layers, *opened)),
            Found::Inside(inside) if layers.len() < MOST => {
                current = inside.source.clone();
                layers.push(inside);
            }
            Found::Inside(_) => return Err(Error::Unsupported("a checkpoint inside so many others")),
        }
    }
}

fn finish(source: &Source, layers: Vec<Inside>, mut opened: Opened) -> Opened {
    if layers.is_empty() {
        return opened;
    }
    let Some(file) = opened.files.first_mut() else { return opened };
    let expanded = layers.iter().any(|layer| layer.expanded);
    if !expanded {
        // Everything lies in the file as it is, so that it can be counted there.
        let other = layers.iter().fold(0_u64, |n, layer| n.saturating_add(layer.other));
        let inside = file.accounting;
        file.accounting = Accounting { other: inside.other.saturating_add(other), container: 0, ..inside }
            .with_container(source.size());
    }
    let names = layers.iter().map(|layer| layer.layer).collect();
    let needs = layers.iter().find_map(|layer| layer.needs);
    file.outer = Some(Outer { source: source.clone(), layers: names, expanded, needs });
    opened.strays.extend(layers.into_iter().flat_map(|layer| layer.strays));
    opened
}

/// What a compressed stream holds.
pub(super) fn unpack(source: &Source, packing: &'static str, options: &OpenOptions) -> Result<Found, Error> {
    let (inside, trailing) = expand::expand(source, packing, options)?;
    let strays = (trailing > 0).then(|| format!("{trailing} bytes follow the {packing} stream"));
    Ok(Found::Inside(Inside {
        source: inside,
        layer: packing,
        expanded: true,
        other: 0,
        strays: strays.into_iter().collect(),
        needs: None,
    }))
}

/// The one checkpoint of a zip archive.
pub(super) fn unzip(source: &Source, archive: &Archive, options: &OpenOptions) -> Result<Found, Error> {
    let named = MAIN
        .iter()
        .find(|(marker, main, ..)| [marker, main].iter().all(|name| archive.member(name).is_some()));
    let main = match named.and_then(|(_, main, ..)| archive.member(main)) {
        Some(main) => main,
        None => only(archive.members(), |member| Ok(is_model(&archive.head(&**source, member, HEAD)?)?))?,
    };
    let inside: Source = match main.method {
        Method::Stored => {
            archive.verify(&**source, main)?;
            let part = Part::new(source.clone(), main.data);
            Arc::new(part.ok_or(Error::Unsupported("a member outside its archive"))?)
        }
        Method::Deflated => expand::inflate(source, main, options)?,
    };
    let stored = archive.members().iter().fold(0_u64, |n, member| n.saturating_add(member.data.len()));
    Ok(Found::Inside(Inside {
        source: inside,
        layer: "zip",
        expanded: main.method == Method::Deflated,
        other: stored.saturating_sub(main.data.len()),
        strays: archive.strays().iter().map(ToString::to_string).collect(),
        needs: named.map(|(_, _, writer, needs)| (*writer, *needs)),
    }))
}

/// The one checkpoint of a tar archive.
pub(super) fn untar(source: &Source, options: &OpenOptions) -> Result<Found, Error> {
    let damaged = |error: std::io::Error| Error::Packed { packing: "tar", reason: error.to_string() };
    let mut archive = tar::Archive::new(Positioned::new(&**source));
    let mut members = Vec::new();
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let limit = crate::bytes::length(options.limits.entries);
        crate::limits::check(crate::limits::LimitKind::Entries, limit, crate::bytes::length(members.len()))?;
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {}
            tar::EntryType::Directory | tar::EntryType::XGlobalHeader => continue,
            _ => return Err(Error::Unsupported("a tar archive with links or devices")),
        }
        let span = Span::new(entry.raw_file_position(), entry.size());
        let part = span.and_then(|span| Part::new(source.clone(), span));
        members.push(part.ok_or_else(|| damaged(std::io::ErrorKind::UnexpectedEof.into()))?);
    }
    let sizes = members.iter().fold(0_u64, |n, member| n.saturating_add(member.size()));
    let main = only(members, |member| {
        let head = crate::bytes::read_vec(member, Span::between(0, member.size().min(HEAD)))?;
        Ok(is_model(&head)?)
    })?;
    let other = sizes.saturating_sub(main.size());
    let (source, strays) = (Arc::new(main), Vec::new());
    let inside = Inside { source, layer: "tar", expanded: false, other, strays, needs: None };
    Ok(Found::Inside(inside))
}

/// Bytes by which a member is recognised.
const HEAD: u64 = 512;

/// Whether a member begins as a checkpoint does. Formats without a magic are none here: any text would be one.
fn is_model(head: &[u8]) -> std::io::Result<bool> {
    Ok(match detect(&head)? {
        Format::Zip | Format::TorchLegacy | Format::Npy | Format::Tar => true,
        Format::Pickle => head.first() == Some(&0x80),
        Format::Packed(name) => !matches!(name, "7z" | "rar"),
        _ => false,
    })
}

/// The one member that is a checkpoint.
fn only<T>(
    members: impl IntoIterator<Item = T>,
    is_model: impl Fn(&T) -> Result<bool, Error>,
) -> Result<T, Error> {
    let mut found = None;
    for member in members {
        if is_model(&member)? && found.replace(member).is_some() {
            return Err(Error::Unsupported("an archive of several checkpoints (unpack it first)"));
        }
    }
    found.ok_or(Error::Unsupported("an archive without a checkpoint"))
}
