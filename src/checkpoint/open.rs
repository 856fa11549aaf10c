//! From a source to the container that it needs.

use crate::accounting::Accounting;
use crate::container::{Archive, Format, Package, Pt2, TorchZip, detect};
use crate::limits::{LimitKind, Limits, check};

use super::layers::{self, Found};
use super::{Error, OpenOptions, Opened, Source, legacy, numpy, package, pt2, run, script, tar, zip};

/// Opens a source of any supported format, recognised by content.
///
/// # Errors
/// An [`Error`] that keeps apart what is malformed, refused, unsupported and unreadable.
pub fn open(source: &Source, options: &OpenOptions) -> Result<Opened, Error> {
    let opened = layers::open_all(source, options)?;
    check_expansion(&opened, &options.limits)?;
    if options.strict {
        check_strict(&opened)?;
    }
    Ok(opened)
}

const SCRIPT: &str = "torchscript";
const PACKAGE: &str = "torch-package";
const PT2: &str = "pt2";

/// Opens a source, or what it is wrapped around.
pub(super) fn open_bare(source: &Source, options: &OpenOptions) -> Result<Found, Error> {
    match open_itself(source, options)? {
        Itself::Opened(opened) => Ok(Found::Opened(opened)),
        Itself::Zip(archive) => layers::unzip(source, &archive, options),
        Itself::Tar => layers::untar(source, options),
        Itself::Packed(name) => layers::unpack(source, name, options),
    }
}

/// What a source itself holds, whatever its pickles would do; `None` where it only wraps other sources.
///
/// # Errors
/// As [`open`], but for refusals.
pub(crate) fn survey(source: &Source, options: &OpenOptions) -> Result<Option<Opened>, Error> {
    let options = OpenOptions { survey: true, skip_unresolved: true, shards: true, ..options.clone() };
    match open_itself(source, &options)? {
        Itself::Opened(opened) => Ok(Some(*opened)),
        Itself::Zip(_) | Itself::Tar | Itself::Packed(_) => Ok(None),
    }
}

/// What a source is: a checkpoint, or something around others.
enum Itself {
    Opened(Box<Opened>),
    Zip(Archive),
    Tar,
    Packed(&'static str),
}

fn open_itself(source: &Source, options: &OpenOptions) -> Result<Itself, Error> {
    let opened = match detect(source)? {
        Format::Zip => return open_zip(source, options),
        Format::TorchLegacy => legacy::open(source, options)?,
        Format::Pickle => run::open_plain(source, options)?,
        Format::Tar => match tar::open(source, options)? {
            Some(opened) => opened,
            None => return Ok(Itself::Tar),
        },
        Format::Npy => numpy::open_npy(source, options)?,
        Format::Safetensors => return Err(Error::Unsupported("a safetensors file (it holds no pickle)")),
        Format::Packed(name) => return Ok(Itself::Packed(name)),
        Format::Foreign(name) => return Err(Error::Unsupported(name)),
        Format::Unknown => return Err(Error::NotApplicable),
    };
    Ok(Itself::Opened(Box::new(opened)))
}

fn open_zip(source: &Source, options: &OpenOptions) -> Result<Itself, Error> {
    let archive = Archive::open(source, &options.limits)?;
    let opened = match zip_kind(&archive) {
        Some(PACKAGE) => match Package::open(source, archive, &options.limits)? {
            Some(package) => package::open(source, &package, options)?,
            None => return Err(Error::Unsupported("a package without its modules")),
        },
        Some(PT2) => match Pt2::open(source, archive, &options.limits)? {
            Some(pt2) => pt2::open(source, &pt2, options)?,
            None => return Err(Error::Unsupported("an export without its format")),
        },
        Some(kind @ ("torch-zip" | SCRIPT)) => match TorchZip::open(source, archive, &options.limits)? {
            Some(torch) if kind == SCRIPT => script::open(source, &torch, options)?,
            Some(torch) => zip::open(source, &torch, options)?,
            None => return Err(Error::Unsupported("a zip archive without data.pkl")),
        },
        Some(kind) => return Err(Error::Unsupported(kind)),
        None if numpy::is_npz(&archive) => numpy::open_npz(source, &archive, options)?,
        None => return Ok(Itself::Zip(archive)),
    };
    Ok(Itself::Opened(Box::new(opened)))
}

/// Which writer's layout an archive has, by the members that only that writer makes.
fn zip_kind(archive: &Archive) -> Option<&'static str> {
    let last = |name: &str| archive.members().iter().any(|m| m.name.rsplit('/').next() == Some(name));
    let below = |part: &str| archive.members().iter().any(|m| m.name.split('/').any(|p| p == part));
    match () {
        () if Package::is_one(archive) => Some(PACKAGE),
        () if last("constants.pkl") || below("code") && last("data.pkl") => Some(SCRIPT),
        () if last("data.pkl") => Some("torch-zip"),
        () if Pt2::is_one(archive) => Some(PT2),
        () if last("model.json") => Some("a preview format of TorchScript (model.json)"),
        () => None,
    }
}

/// Bounds what all tensors of a source together show of its storages: each may be small, and there may be millions.
fn check_expansion(opened: &Opened, limits: &Limits) -> Result<(), Error> {
    /// Below this a source may repeat its storages as often as it likes.
    const FREE: u64 = 1 << 30;
    let shown = opened.tensors.iter().fold(0_u64, |n, tensor| n.saturating_add(tensor.view.nbytes()));
    let stored = opened.storages.iter().fold(0_u64, |n, storage| n.saturating_add(storage.len));
    if shown > FREE {
        let times = shown.checked_div(stored).unwrap_or(u64::MAX);
        check(LimitKind::ViewExpansion, limits.view_expansion, times)?;
    }
    Ok(())
}

pub(super) fn check_strict(opened: &Opened) -> Result<(), Error> {
    use crate::policy::Verdict;
    let mut globals = opened.pickles().flat_map(|pickle| &pickle.globals);
    if let Some(global) = globals.find(|global| global.verdict != Verdict::Allowed) {
        return Err(Error::Strict(format!(
            "{} is {}, not allowed",
            global.name.escape_debug(),
            global.verdict
        )));
    }
    if let Some(stray) = opened.strays.first() {
        return Err(Error::Strict(stray.clone()));
    }
    let mut accounts = opened.files.iter().map(|file| file.accounting);
    if let Some(Accounting { unreferenced, other, trailing, .. }) = accounts.find(|all| !all.is_clean()) {
        let message = format!(
            "{unreferenced} bytes that no tensor shows, {other} in further members, {trailing} after the end"
        );
        return Err(Error::Strict(message));
    }
    if opened.tensors.iter().any(|tensor| tensor.encoding.is_some() || tensor.cast_from.is_some()) {
        return Err(Error::Strict("tensors that have to be re-encoded".to_owned()));
    }
    Ok(())
}
