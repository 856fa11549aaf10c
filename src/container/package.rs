//! `torch.package` archives: resources that are pickles, their storages, and the code that they would run.
//!
//! ```text
//! <prefix>/<package>/<resource>     pickles, texts and binary files; packages are folders
//! <prefix>/.data/<key>.storage      one storage each, for all pickles
//! <prefix>/.data/extern_modules     modules that are imported from outside, one a line
//! <prefix>/.data/ts_code/<n>/       pickles of TorchScript modules; their classes in .data/ts_code/code/
//! <prefix>/<module>.py              source text of the modules inside
//! <prefix>/.data/version, .data/python_version, byteorder, version
//! ```
//!
//! Source: `torch/package/package_exporter.py` and `package_importer.py`. The source text is never read.

use crate::bytes::ReadAt;
use crate::limits::Limits;
use crate::tensor::Storage;

use super::error::Error;
use super::script::Classes;
use super::storages::{ScriptClass, Storages};
use super::torch_zip::{big_endian, is_bookkeeping, record};
use super::zip::{Archive, Member};

/// A package.
#[derive(Debug)]
pub struct Package {
    archive: Archive,
    /// What every name in the archive begins with.
    prefix: String,
    big_endian: bool,
}

/// The member that every package has and nothing else.
const MARKER: &str = ".data/extern_modules";
const SCRIPTS: &str = ".data/ts_code/";

impl Package {
    /// Finds the package in an archive. `None` where it is none.
    ///
    /// # Errors
    /// A byte order that is none.
    pub fn open(source: &dyn ReadAt, archive: Archive, limits: &Limits) -> Result<Option<Self>, Error> {
        let marker = archive.members().iter().find_map(|member| member.name.strip_suffix(MARKER));
        let Some(prefix) = marker.map(str::to_owned) else { return Ok(None) };
        let big_endian = big_endian(source, &archive, &prefix, limits)?;
        Ok(Some(Self { archive, prefix, big_endian }))
    }

    /// Whether an archive is a package.
    pub fn is_one(archive: &Archive) -> bool {
        let marked = |name: &str| name == MARKER || name.ends_with("/.data/extern_modules");
        archive.members().iter().any(|member| marked(&member.name))
    }

    /// The archive.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Whether elements are big-endian.
    pub fn big_endian(&self) -> bool {
        self.big_endian
    }

    /// The place of a member in its package, if it may be a pickle of an object: packages and resource, or `ts_code` and
    /// what stands below. Source text, storages and bookkeeping are none.
    pub fn place<'a>(&self, member: &'a Member) -> Option<&'a str> {
        let name = member.name.strip_prefix(self.prefix.as_str())?;
        if let Some(script) = name.strip_prefix(SCRIPTS) {
            let is_pickle = script.strip_suffix(".pkl").is_some() && !script.starts_with("code/");
            return if is_pickle { name.strip_prefix(".data/") } else { None };
        }
        let other = name.starts_with(".data/")
            || name.strip_suffix(".py").is_some()
            || is_bookkeeping(member, &self.prefix);
        (!other).then_some(name)
    }

    /// Whether a member is the record of a storage.
    pub fn is_record(&self, member: &Member) -> bool {
        let name =
            member.name.strip_prefix(self.prefix.as_str()).and_then(|name| name.strip_prefix(".data/"));
        name.is_some_and(|name| name.ends_with(".storage") && !name.contains('/'))
    }

    /// Whether a member is neither a pickle, nor a record, nor part of the format.
    pub fn is_other(&self, member: &Member) -> bool {
        let marker = member.name.strip_prefix(self.prefix.as_str()) == Some(MARKER);
        !(marker || self.is_record(member) || is_bookkeeping(member, &self.prefix))
    }

    /// The classes of its `TorchScript` modules.
    ///
    /// # Errors
    /// Those of reading their source text.
    pub fn classes(&self, source: &dyn ReadAt, limits: &Limits) -> Result<Classes, Error> {
        Classes::read(source, &self.archive, &format!("{}{SCRIPTS}code/", self.prefix), limits)
    }
}

/// The storages of a package.
#[derive(Debug, Clone, Copy)]
pub struct PackageRecords<'a> {
    /// The package.
    pub package: &'a Package,
    /// The classes of its `TorchScript` modules.
    pub classes: &'a Classes,
}

impl Storages for PackageRecords<'_> {
    fn storage(&self, key: &str, nbytes: u64) -> Result<Storage, Error> {
        // TorchScript's pickles have the suffix in their keys.
        let stem = key.strip_suffix(".storage").unwrap_or(key);
        let Package { archive, prefix, big_endian } = self.package;
        record(archive, &format!("{prefix}.data/{stem}.storage"), (key, nbytes), *big_endian)
    }

    fn script_class(&self, module: &str, name: &str) -> Option<ScriptClass<'_>> {
        self.classes.class(module, name)
    }
}
