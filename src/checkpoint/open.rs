//! From a source to the container that it needs.

use crate::accounting::Accounting;
use crate::container::{Archive, Format, TorchZip, detect};

use super::{Error, OpenOptions, Opened, Source, legacy, run, script, tar, zip};

/// Opens a source of any supported format, recognised by content.
///
/// # Errors
/// An [`Error`] that keeps apart what is malformed, refused, unsupported and unreadable.
pub fn open(source: &Source, options: &OpenOptions) -> Result<Opened, Error> {
    let opened = match detect(source)? {
        Format::Zip => {
            let archive = Archive::open(source, &options.limits)?;
            let Some(kind) = zip_kind(&archive) else {
                return Err(Error::Unsupported("this kind of zip archive"));
            };
            if kind != "torch-zip" && kind != SCRIPT {
                return Err(Error::Unsupported(kind));
            }
            match TorchZip::open(source, archive, &options.limits)? {
                Some(torch) if kind == SCRIPT => script::open(source, &torch, options)?,
                Some(torch) => zip::open(source, &torch, options)?,
                None => return Err(Error::Unsupported("a zip archive without data.pkl")),
            }
        }
        Format::TorchLegacy => legacy::open(source, options)?,
        Format::Pickle => run::open_plain(source, options)?,
        Format::Tar => tar::open(source, options)?,
        Format::Npy => return Err(Error::Unsupported("a numpy file")),
        Format::Safetensors => return Err(Error::Unsupported("a safetensors file (it holds no pickle)")),
        Format::Packed(name) | Format::Foreign(name) => return Err(Error::Unsupported(name)),
        Format::Unknown => return Err(Error::NotApplicable),
    };
    if options.strict {
        check_strict(&opened)?;
    }
    Ok(opened)
}

const SCRIPT: &str = "torchscript";

/// Which writer's layout an archive has, by the members that only that writer makes.
fn zip_kind(archive: &Archive) -> Option<&'static str> {
    let last = |name: &str| archive.members().iter().any(|m| m.name.rsplit('/').next() == Some(name));
    let below = |part: &str| archive.members().iter().any(|m| m.name.split('/').any(|p| p == part));
    match () {
        () if last("constants.pkl") || below("code") && last("data.pkl") => Some(SCRIPT),
        () if last("model.json") => Some("a preview format of TorchScript (model.json)"),
        () if last("data.pkl") => Some("torch-zip"),
        () if last("archive_format") => Some("a .pt2 archive"),
        () => None,
    }
}

fn check_strict(opened: &Opened) -> Result<(), Error> {
    use crate::policy::Verdict;
    let mut globals = opened.pickles.iter().flat_map(|pickle| &pickle.globals);
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
    if !opened.accounting.is_clean() {
        let Accounting { unreferenced, other, trailing, .. } = opened.accounting;
        let message = format!(
            "{unreferenced} bytes that no tensor shows, {other} in further members, {trailing} after the end"
        );
        return Err(Error::Strict(message));
    }
    if opened.tensors.iter().any(|tensor| tensor.encoding.is_some()) {
        return Err(Error::Strict("tensors that have to be re-encoded".to_owned()));
    }
    Ok(())
}
