//! `.pt2` archives: programs that `torch.export` saved. Weights are raw records that a JSON file describes.
//!
//! ```text
//! <prefix>/archive_format                                  "pt2"
//! <prefix>/models/<model>.json                             the program
//! <prefix>/data/weights/<model>_weights_config.json        {"config": {"<name>": {"path_name": "weight_0", …}, …}}
//! <prefix>/data/weights/weight_0                           the bytes of a storage; where `use_pickle` is set, what torch.save wrote
//! <prefix>/data/constants/<model>_constants_config.json, tensor_0, …      the same
//! <prefix>/data/sample_inputs/<model>.pt                   what torch.save wrote
//! ```
//!
//! Before 2.8, `data/weights/<model>.pt` and `data/constants/<model>.pt` were what torch.save wrote; before 2.7 a program was a
//! plain zip of `serialized_exported_program.json`, `serialized_state_dict.pt` (`.json` in 2.1), `serialized_constants.pt` and
//! `serialized_example_inputs.pt`. Source: `torch/export/pt2_archive/_package.py`, `torch/_export/serde/schema.py`,
//! `torch/export/__init__.py`.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::bytes::ReadAt;
use crate::limits::Limits;
use crate::tensor::{Dtype, Storage};

use super::error::{Error, ErrorKind};
use super::torch_zip::{big_endian, is_bookkeeping, record};
use super::zip::{Archive, Member};

/// An archive of exported programs.
#[derive(Debug)]
pub struct Pt2 {
    archive: Archive,
    prefix: String,
    big_endian: bool,
}

/// What one member of the archive says of one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program<'a> {
    /// Descriptions of its weights, by the program's name.
    Weights(&'a str),
    /// Descriptions of its constants.
    Constants(&'a str),
    /// Its weights, as `torch.save` wrote them.
    SavedWeights(&'a str),
    /// Its constants, as `torch.save` wrote them.
    SavedConstants(&'a str),
    /// What it was traced with, as `torch.save` wrote it.
    Inputs(&'a str),
}

impl<'a> Program<'a> {
    /// The program's name; empty before 2.7.
    pub fn name(self) -> &'a str {
        match self {
            Self::Weights(name)
            | Self::Constants(name)
            | Self::SavedWeights(name)
            | Self::SavedConstants(name)
            | Self::Inputs(name) => name,
        }
    }

    /// What part of the program it is.
    pub fn part(self) -> &'static str {
        match self {
            Self::Weights(_) | Self::SavedWeights(_) => "state_dict",
            Self::Constants(_) | Self::SavedConstants(_) => "constants",
            Self::Inputs(_) => "sample_inputs",
        }
    }
}

/// What stands for a tensor or an object.
#[derive(Debug, Clone)]
pub struct Payload {
    /// Name of the weight or constant.
    pub name: Box<str>,
    /// The record's name in the archive.
    pub record: Box<str>,
    /// What its bytes are; `None` where they are a pickle.
    pub raw: Option<Raw>,
}

/// A tensor over a raw record, not yet proven.
#[derive(Debug, Clone)]
pub struct Raw {
    /// Element type.
    pub dtype: Dtype,
    /// Sizes, in elements.
    pub shape: Vec<i64>,
    /// Strides, in elements.
    pub strides: Vec<i64>,
    /// First element.
    pub offset: i64,
}

/// Folder, what a name in it ends in, and what such a member is.
type Row = (&'static str, &'static str, for<'a> fn(&'a str) -> Program<'a>);
const MEMBERS: &[Row] = &[
    ("data/weights/", "_weights_config.json", |name| Program::Weights(name)),
    ("data/constants/", "_constants_config.json", |name| Program::Constants(name)),
    ("data/weights/", ".pt", |name| Program::SavedWeights(name)),
    ("data/constants/", ".pt", |name| Program::SavedConstants(name)),
    ("data/sample_inputs/", ".pt", |name| Program::Inputs(name)),
    // Before 2.7, without a name of the program.
    ("serialized_state_dict", ".pt", |name| Program::SavedWeights(name)),
    ("serialized_state_dict", ".json", |name| Program::SavedWeights(name)),
    ("serialized_constants", ".pt", |name| Program::SavedConstants(name)),
    ("serialized_example_inputs", ".pt", |name| Program::Inputs(name)),
];

/// Numbers of element types (`ScalarType` in the schema).
const SCALAR_TYPES: &[(u64, Dtype)] = &[
    (1, Dtype::U8),
    (2, Dtype::I8),
    (3, Dtype::I16),
    (4, Dtype::I32),
    (5, Dtype::I64),
    (6, Dtype::F16),
    (7, Dtype::F32),
    (8, Dtype::F64),
    (9, Dtype::C32),
    (10, Dtype::C64),
    (11, Dtype::C128),
    (12, Dtype::Bool),
    (13, Dtype::Bf16),
    (28, Dtype::U16),
    (29, Dtype::F8E4M3),
    (30, Dtype::F8E5M2),
    (31, Dtype::F8E4M3Fnuz),
    (32, Dtype::F8E5M2Fnuz),
    (33, Dtype::F8E8M0),
    (34, Dtype::U32),
    (35, Dtype::U64),
];
/// The number of the strided layout.
const STRIDED: u64 = 7;

impl Pt2 {
    /// Whether an archive is one of these, by members that only they have.
    pub fn is_one(archive: &Archive) -> bool {
        let last = |member: &Member| member.name.rsplit('/').next().map(str::to_owned);
        archive.members().iter().filter_map(last).any(|name| is_marker(&name))
    }

    /// Finds where in the archive everything is.
    ///
    /// # Errors
    /// A format that is none, a byte order that is none.
    pub fn open(source: &dyn ReadAt, archive: Archive, limits: &Limits) -> Result<Option<Self>, Error> {
        let marker =
            archive.members().iter().find(|member| is_marker(member.name.rsplit('/').next().unwrap_or("")));
        let Some(marker) = marker else { return Ok(None) };
        let prefix =
            marker.name.rfind('/').map_or("", |at| marker.name.get(..=at).unwrap_or_default()).to_owned();
        if marker.name.ends_with("archive_format") {
            let found = archive.read(source, marker, limits.inflated_pickle.min(64))?;
            if found != b"pt2" {
                let got = found.escape_ascii().to_string();
                let kind = ErrorKind::Record { got, expected: "\"pt2\"" };
                return Err(Error::new(Some(&marker.name), marker.data.start(), kind));
            }
        }
        let big_endian = big_endian(source, &archive, &prefix, limits)?;
        Ok(Some(Self { archive, prefix, big_endian }))
    }

    /// The archive.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Whether elements are big-endian.
    pub fn big_endian(&self) -> bool {
        self.big_endian
    }

    /// What a member says of a program.
    pub fn program<'a>(&self, member: &'a Member) -> Option<Program<'a>> {
        let name = member.name.strip_prefix(self.prefix.as_str())?;
        MEMBERS.iter().find_map(|(folder, end, program)| {
            let model = name.strip_prefix(folder)?.strip_suffix(end)?;
            (!model.contains('/')).then(|| program(model))
        })
    }

    /// Whether a member is a raw record.
    pub fn is_record(&self, member: &Member) -> bool {
        let name = member.name.strip_prefix(self.prefix.as_str()).unwrap_or_default();
        let data = ["data/weights/", "data/constants/"].iter().any(|folder| name.starts_with(folder));
        data && self.program(member).is_none()
    }

    /// Whether a member is neither described nor describes.
    pub fn is_other(&self, member: &Member) -> bool {
        !(self.is_record(member) || self.program(member).is_some() || is_bookkeeping(member, &self.prefix))
    }

    /// What a description holds, in its order.
    ///
    /// # Errors
    /// No such JSON, a name that stands twice, sizes that are expressions, an unknown element type or layout, a record that is
    /// not in the folder of the description.
    pub fn payloads(
        &self,
        source: &dyn ReadAt,
        member: &Member,
        limits: &Limits,
    ) -> Result<Vec<Payload>, Error> {
        let fail = |got: String, expected| {
            Error::new(Some(&member.name), member.data.start(), ErrorKind::Record { got, expected })
        };
        let text = self.archive.read(source, member, limits.inflated_pickle)?;
        let config: Config = serde_json::from_slice(&text)
            .map_err(|error| fail(error.to_string(), "a description of payloads"))?;
        let folder = member.name.rfind('/').and_then(|at| member.name.get(..=at)).unwrap_or_default();
        let payload = |(name, meta): (String, Meta)| {
            let plain = !meta.path_name.is_empty() && !meta.path_name.contains(['/', '\\']);
            if !plain || meta.path_name.starts_with('.') {
                return Err(fail(meta.path_name, "the plain name of a record"));
            }
            let raw = match (meta.use_pickle, &meta.tensor) {
                (true, _) => None,
                (false, Some(tensor)) => {
                    let raw =
                        tensor.raw().map_err(|(got, expected)| fail(format!("{name}: {got}"), expected))?;
                    Some(raw)
                }
                (false, None) => {
                    return Err(fail(format!("{name}: no tensor_meta"), "the shape of a tensor"));
                }
            };
            Ok(Payload { name: name.into(), record: format!("{folder}{}", meta.path_name).into(), raw })
        };
        config.config.0.into_iter().map(payload).collect()
    }

    /// The storage that a raw record is.
    ///
    /// # Errors
    /// A record that is not there.
    pub fn storage(&self, name: &str) -> Result<Storage, Error> {
        record(&self.archive, name, (name, 0), self.big_endian)
    }
}

fn is_marker(name: &str) -> bool {
    matches!(name, "archive_format" | "serialized_exported_program.json")
}

#[derive(Deserialize)]
struct Config {
    config: Metas,
}

/// In the order of the file. A name that stands twice is an error: readers would take either.
struct Metas(Vec<(String, Meta)>);

#[derive(Deserialize)]
struct Meta {
    path_name: String,
    #[serde(default)]
    use_pickle: bool,
    #[serde(rename = "tensor_meta")]
    tensor: Option<TensorMeta>,
}

#[derive(Deserialize)]
struct TensorMeta {
    dtype: u64,
    sizes: Vec<SymInt>,
    strides: Vec<SymInt>,
    storage_offset: SymInt,
    layout: u64,
}

#[derive(Deserialize)]
struct SymInt {
    as_int: i64,
}

impl TensorMeta {
    fn raw(&self) -> Result<Raw, (String, &'static str)> {
        let dtype = SCALAR_TYPES.iter().find(|(code, _)| *code == self.dtype).map(|(_, dtype)| *dtype);
        let dtype =
            dtype.ok_or_else(|| (format!("dtype {}", self.dtype), "the number of an element type"))?;
        if self.layout != STRIDED {
            return Err((format!("layout {}", self.layout), "the strided layout, 7"));
        }
        let ints = |ints: &[SymInt]| ints.iter().map(|n| n.as_int).collect();
        Ok(Raw {
            dtype,
            shape: ints(&self.sizes),
            strides: ints(&self.strides),
            offset: self.storage_offset.as_int,
        })
    }
}

impl<'de> Deserialize<'de> for Metas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;

        impl<'de> Visitor<'de> for Once {
            type Value = Metas;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of payloads")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metas, A::Error> {
                let mut seen = std::collections::HashSet::new();
                let mut metas = Vec::new();
                while let Some((name, meta)) = map.next_entry::<String, Meta>()? {
                    if !seen.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format_args!("{name:?} stands twice")));
                    }
                    metas.push((name, meta));
                }
                Ok(Metas(metas))
            }
        }

        deserializer.deserialize_map(Once)
    }
}
