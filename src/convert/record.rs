//! From a finished conversion to its manifest.

use std::io::{BufWriter, Write as _};
use std::path::Path;

use crate::bytes::ReadAt;
use crate::checkpoint::PickleInfo;
use crate::custody::{
    Accounted, AliasRecord, Digests, EncodingRecord, GlobalRecord, Inside, Lazy, LeftOutRecord, Manifest,
    OptionsRecord, OutputRecord, PickleRecord, Piece, SCHEMA, SourceRecord, Target, TensorRecord, TensorSet,
    Tool, ValuesRecord,
};
use crate::error::{Error, ErrorKind};
use crate::output::{self, Digest, Staged, Written, WrittenTensor};
use crate::plan::{self, Aliases, NameRule, Planned};
use crate::tensor::{Storage, Tensor};

use super::Job;

/// What a manifest is made from.
pub(super) struct Record<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) written: &'a Written,
    pub(super) source: &'a dyn ReadAt,
    pub(super) name: &'a Path,
    pub(super) output: &'a Path,
}

impl Record<'_> {
    /// Writes the manifest. Tensors are recorded one by one, so that a million take no memory of their own.
    pub(super) fn write(&self, to: &Staged) -> Result<(), Error> {
        let plan = &self.job.plan;
        let (path, output) = (self.source_path()?, file_name(self.output)?);
        let left_out = plan.left_out.iter().map(|left_out| LeftOutRecord {
            source: 0,
            path: left_out.path.clone(),
            tensors: left_out.tensors,
            bytes: left_out.bytes,
            reason: left_out.reason.to_string(),
        });
        let values = plan.values_left_out.iter().map(|values| ValuesRecord {
            source: 0,
            path: values.path.clone(),
            type_name: values.type_name.to_string(),
            count: values.count,
        });
        let manifest = Manifest {
            schema: SCHEMA.to_owned(),
            tool: Tool::this(),
            options: self.options(),
            sources: self.sources(path)?,
            tensors: Lazy(|| self.tensors()),
            aliases: Lazy(|| self.aliases()),
            left_out: left_out.collect(),
            values_left_out: values.collect(),
            left_out_files: Vec::new(),
            outputs: vec![OutputRecord {
                path: output,
                role: "weights".to_owned(),
                size: self.written.size,
                sha256: text(self.written.sha256.as_ref()),
            }],
            digests: Digests { tensor_set: self.tensor_set(), others: std::collections::BTreeMap::new() },
            claim: self.job.claim(Some(self.written)).to_owned(),
        };
        let fail = |error: std::io::Error| {
            let kind = output::ErrorKind::Write(error);
            Error::new(self.name, output::Error { path: to.target().to_owned(), kind })
        };
        let mut writer = BufWriter::with_capacity(1 << 20, to.file());
        serde_json::to_writer_pretty(&mut writer, &manifest).map_err(|e| fail(e.into()))?;
        writer.write_all(b"\n").and_then(|()| writer.flush()).map_err(fail)
    }

    /// The source as the manifest calls it: with forward slashes on every system.
    fn source_path(&self) -> Result<String, Error> {
        let Some(recorded) = &self.job.options.recorded else { return file_name(self.name) };
        let parts = recorded.components().map(|part| part.as_os_str().to_str());
        let parts: Option<Vec<&str>> = parts.collect();
        parts.map(|parts| parts.join("/")).ok_or_else(|| Error::new(self.name, ErrorKind::PathNotUtf8))
    }

    fn options(&self) -> OptionsRecord {
        let options = &self.job.options;
        let (plan, open) = (&options.plan, &options.open);
        let mut inert = open.overrides.names.clone();
        inert.extend(open.overrides.unknown.then(|| "unknown".to_owned()));
        OptionsRecord {
            strict: open.strict,
            root: self.job.plan.root.clone(),
            all: plan.all,
            include: plan.include.clone(),
            exclude: plan.exclude.clone(),
            names: plan.names.iter().map(rule).collect(),
            dtype: plan.dtype.map(|dtype| dtype.stored().to_string()),
            aliases: match plan.aliases {
                Aliases::Auto if plan.prefer_once => "once",
                Aliases::Auto | Aliases::Copy => "copy",
                Aliases::Once => "once",
                Aliases::Refuse => "refuse",
            }
            .to_owned(),
            inert,
            skip_unresolved: open.skip_unresolved,
            paddle_bf16: open.paddle_bf16,
        }
    }

    /// The checkpoint, and the files beside it that hold some of its arrays.
    fn sources(&self, path: String) -> Result<Vec<SourceRecord>, Error> {
        let opened = &self.job.opened;
        // A companion lies in the folder of the file that names it.
        let folder = path.rfind('/').and_then(|at| path.get(..=at)).unwrap_or_default().to_owned();
        let mut sources = vec![self.source_record(path)?];
        for file in &opened.origin.companions {
            let stream = opened.streams.stream(file.stream);
            sources.push(SourceRecord {
                path: format!("{folder}{}", file.name),
                size: stream.size(),
                sha256: self.digest(stream)?,
                container: "joblib-companion".to_owned(),
                byteorder: "little".to_owned(),
                expected: Vec::new(),
                pickles: Vec::new(),
                accounting: Accounted::Plain(file.accounting),
            });
        }
        Ok(sources)
    }

    fn digest(&self, stream: &dyn ReadAt) -> Result<String, Error> {
        output::digest_of(stream)
            .map(|digest| digest.to_string())
            .map_err(|error| Error::new(self.name, crate::checkpoint::Error::Io(error)))
    }

    fn source_record(&self, path: String) -> Result<SourceRecord, Error> {
        let opened = &self.job.opened;
        let accounting = Accounted::Plain(opened.accounting);
        let (sha256, container, accounting) = match &opened.origin.outer {
            None => (text(self.written.source_sha256.as_ref()), opened.container.to_owned(), accounting),
            Some(outer) => {
                let inside = Inside { size: opened.streams.source().size(), accounting: opened.accounting };
                let expanded = Accounted::Compressed { compressed: outer.source.size(), inside };
                let container = format!("{}+{}", outer.layers.join("+"), opened.container);
                (self.digest(&*outer.source)?, container, if outer.expanded { expanded } else { accounting })
            }
        };
        Ok(SourceRecord {
            path,
            size: self.source.size(),
            sha256,
            container,
            byteorder: if opened.big_endian { "big" } else { "little" }.to_owned(),
            expected: Vec::new(),
            pickles: opened.pickles.iter().map(pickle).collect(),
            accounting,
        })
    }

    fn pairs(&self) -> impl Iterator<Item = (&Planned, &WrittenTensor, &Tensor)> {
        let tensor = |planned: &Planned| self.job.opened.tensors.get(planned.tensor.index());
        let pairs = self.job.plan.tensors.iter().zip(&self.written.tensors);
        pairs.filter_map(move |(planned, written)| Some((planned, written, tensor(planned)?)))
    }

    fn tensors(&self) -> impl Iterator<Item = TensorRecord> {
        self.pairs().map(|(planned, written, tensor)| self.tensor(planned, written, tensor))
    }

    fn tensor(&self, planned: &Planned, written: &WrittenTensor, tensor: &Tensor) -> TensorRecord {
        let view = &tensor.view;
        let (start, end) = written.data_offsets;
        let storage = self.job.opened.storages.get(view.storage().index());
        TensorRecord {
            name: planned.name.clone(),
            dtype: written.dtype.to_string(),
            shape: view.stored_shape(),
            nbytes: end.saturating_sub(start),
            sha256: text(written.sha256.as_ref()),
            from: vec![Piece {
                source: storage.map_or(0, |storage| self.source_of(storage)),
                path: self.job.opened.tree.path(planned.entry),
                entry: storage.and_then(|storage| storage.entry.as_deref()).map(str::to_owned),
                storage: storage
                    .filter(|storage| !storage.key.is_empty())
                    .map(|storage| storage.key.to_string()),
                offset: view.offset(),
                stride: view.strides().to_vec(),
                dtype: view.dtype().full_name(view.family()),
                region: None,
            }],
            to: Target { output: 0, offsets: [start, end] },
            encoding: encoding(written, tensor),
        }
    }

    /// Position of the source that a storage lies in.
    fn source_of(&self, storage: &Storage) -> u64 {
        let companions = &self.job.opened.origin.companions;
        let entry = storage.entry.as_deref();
        let position = companions.iter().position(|file| Some(&*file.name) == entry);
        position.map_or(0, |i| crate::bytes::length(i).saturating_add(1))
    }

    fn aliases(&self) -> impl Iterator<Item = AliasRecord> {
        let plan = &self.job.plan;
        plan.aliases.iter().map(|alias| AliasRecord {
            name: alias.name.clone(),
            of: plan.tensors.get(alias.of).map(|of| of.name.clone()).unwrap_or_default(),
            source: 0,
            path: self.job.opened.tree.path(alias.entry),
        })
    }

    fn tensor_set(&self) -> String {
        let records = self.pairs().map(|(planned, written, tensor)| {
            let dtype = written.dtype.to_string();
            (planned.name.as_str(), dtype, tensor.view.stored_shape(), text(written.sha256.as_ref()))
        });
        let records: Vec<_> = records.collect();
        let mut set = TensorSet::default();
        for (name, dtype, shape, sha256) in &records {
            set.add(name, dtype, shape, sha256);
        }
        for alias in &self.job.plan.aliases {
            if let Some((_, dtype, shape, sha256)) = records.get(alias.of) {
                set.add(&alias.name, dtype, shape, sha256);
            }
        }
        set.digest()
    }
}

fn encoding(written: &WrittenTensor, tensor: &Tensor) -> Option<EncodingRecord> {
    let cast = written.source_sha256.as_ref().map(|source| EncodingRecord::Cast {
        kind: "cast".to_owned(),
        from: tensor.view.dtype().stored().to_string(),
        source_sha256: source.to_string(),
        exact: written.cast_exact,
    });
    let part = tensor.encoding.as_ref().map(|encoding| EncodingRecord::Part {
        kind: encoding.kind.to_owned(),
        part: encoding.part.to_owned(),
        scheme: encoding.scheme.as_deref().map(str::to_owned),
        axis: encoding.axis,
        shape: encoding.shape.as_deref().map(<[u64]>::to_vec),
    });
    cast.or(part)
}

fn pickle(info: &PickleInfo) -> PickleRecord {
    let globals = info.globals.iter().map(|global| GlobalRecord {
        name: global.name.clone(),
        count: global.count,
        verdict: global.verdict.name().to_owned(),
    });
    PickleRecord {
        entry: info.entry.as_deref().map(str::to_owned),
        sha256: info.sha256.clone(),
        protocol: info.protocol,
        globals: globals.collect(),
    }
}

fn rule(rule: &NameRule) -> String {
    match rule {
        plan::NameRule::StripPrefix(prefix) => format!("strip-prefix {prefix}"),
        plan::NameRule::StripPrefixAuto => "strip-prefix auto".to_owned(),
        plan::NameRule::Rename { regex, replacement } => format!("rename {regex}={replacement}"),
    }
}

fn text(digest: Option<&Digest>) -> String {
    digest.map(ToString::to_string).unwrap_or_default()
}

fn file_name(path: &Path) -> Result<String, Error> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| Error::new(path, ErrorKind::PathNotUtf8))
}
