//! From a finished conversion to its manifest.

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::bytes::ReadAt;
use crate::checkpoint::{PickleInfo, SourceFile};
use crate::custody::Hashing;
use crate::custody::{
    Accounted, AliasRecord, Digests, EncodingRecord, GlobalRecord, Inside, Lazy, LeftOutRecord, Manifest,
    OptionsRecord, OutputRecord, PickleRecord, Piece, Region, SCHEMA, SourceRecord, Target, TensorRecord,
    TensorSet, Tool, ValuesRecord,
};
use crate::error::{Error, ErrorKind};
use crate::output::{self, Digest, Sidecar, Staged, Written, WrittenTensor};
use crate::plan::{self, Aliases, NameRule, Planned};
use crate::tensor::{self, Tensor, View};

use super::Job;

/// What a manifest is made from.
pub(super) struct Record<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) written: &'a Written,
    pub(super) sidecar: Option<&'a Sidecar>,
    pub(super) name: &'a Path,
    pub(super) output: &'a Path,
}

/// A manifest that was written.
pub(super) struct Recorded {
    /// What it says, but of tensors.
    pub(super) manifest: Manifest<(), ()>,
    /// Of its bytes.
    pub(super) sha256: String,
}

impl Recorded {
    /// The outputs in their folder, and the manifest, with their digests.
    pub(super) fn files(&self, folder: &Path, manifest: &Path) -> Vec<(PathBuf, String)> {
        let outputs = self.manifest.outputs.iter();
        let outputs = outputs.map(|output| (folder.join(&output.path), output.sha256.clone()));
        outputs.chain(std::iter::once((manifest.to_owned(), self.sha256.clone()))).collect()
    }
}

impl Record<'_> {
    /// Writes the manifest, and gives it without its tensors, and its digest. Tensors are recorded one by one, so that a
    /// million take no memory of their own.
    pub(super) fn write(&self, to: &Staged) -> Result<Recorded, Error> {
        let plan = &self.job.plan;
        let output = file_name(self.output)?;
        let opened = &self.job.opened;
        let left_out = plan.left_out.iter().map(|left_out| {
            let (source, path) = opened.place(left_out.entry);
            LeftOutRecord {
                source: crate::bytes::length(source),
                path,
                tensors: left_out.tensors,
                bytes: left_out.bytes,
                reason: left_out.reason.to_string(),
            }
        });
        let values = plan.values_left_out.iter().map(|values| {
            let (source, path) = opened.place(values.entry);
            ValuesRecord {
                source: crate::bytes::length(source),
                path,
                type_name: values.type_name.to_string(),
                count: values.count,
            }
        });
        let manifest = Manifest {
            schema: SCHEMA.to_owned(),
            tool: Tool::this(),
            options: self.options(),
            sources: self.sources()?,
            tensors: Lazy(|| self.tensors()),
            aliases: Lazy(|| self.aliases()),
            left_out: left_out.collect(),
            values_left_out: values.collect(),
            left_out_files: Vec::new(),
            outputs: self.outputs(output)?,
            digests: Digests { tensor_set: self.tensor_set(), others: std::collections::BTreeMap::new() },
            claim: self.job.claim(Some(self.written)).to_owned(),
        };
        let fail = |error: std::io::Error| {
            let kind = output::ErrorKind::Write(error);
            Error::new(self.name, output::Error { path: to.target().to_owned(), kind })
        };
        let mut writer = BufWriter::with_capacity(1 << 20, Hashing::new(to.file()));
        serde_json::to_writer_pretty(&mut writer, &manifest).map_err(|e| fail(e.into()))?;
        writer.write_all(b"\n").map_err(fail)?;
        let hashing = writer.into_inner().map_err(|error| fail(error.into_error()))?;
        Ok(Recorded { manifest: manifest.without_tensors(), sha256: hashing.digest() })
    }

    /// The weights, and the values beside them.
    fn outputs(&self, path: String) -> Result<Vec<OutputRecord>, Error> {
        let mut outputs = vec![OutputRecord {
            path,
            role: "weights".to_owned(),
            size: self.written.size,
            sha256: text(self.written.sha256.as_ref()),
        }];
        if let Some(Sidecar { size, sha256 }) = self.sidecar {
            outputs.push(OutputRecord {
                path: file_name(&super::metadata_name(self.output))?,
                role: "metadata".to_owned(),
                size: *size,
                sha256: sha256.to_string(),
            });
        }
        Ok(outputs)
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
            denied: open.overrides.denied.clone(),
            policy: options.policy.clone(),
            skip_unresolved: open.skip_unresolved,
            paddle_bf16: open.paddle_bf16,
            metadata: plan.metadata,
        }
    }

    /// Every file that was read.
    fn sources(&self) -> Result<Vec<SourceRecord>, Error> {
        let mut hashed = self.written.sources.iter();
        self.job.opened.files.iter().map(|file| self.source(file, &mut hashed)).collect()
    }

    fn source<'d>(
        &self,
        file: &SourceFile,
        hashed: &mut impl Iterator<Item = &'d Digest>,
    ) -> Result<SourceRecord, Error> {
        let stream = self.job.opened.streams.stream(file.stream);
        let accounting = Accounted::Plain(file.accounting);
        let (size, sha256, accounting) = match &file.outer {
            None => (stream.size(), text(hashed.next()), accounting),
            Some(outer) => {
                let size = outer.source.size();
                let inside = Inside { size: stream.size(), accounting: file.accounting };
                let expanded = Accounted::Compressed { compressed: size, inside };
                let sha256 = self.digest(&*outer.source)?;
                (size, sha256, if outer.expanded { expanded } else { accounting })
            }
        };
        Ok(SourceRecord {
            path: file.name.to_string(),
            size,
            sha256,
            container: file.layers(),
            byteorder: if file.big_endian { "big" } else { "little" }.to_owned(),
            expected: Vec::new(),
            pickles: file.pickles.iter().map(pickle).collect(),
            accounting,
        })
    }

    fn digest(&self, stream: &dyn ReadAt) -> Result<String, Error> {
        output::digest_of(stream)
            .map(|digest| digest.to_string())
            .map_err(|error| Error::new(self.name, crate::checkpoint::Error::Io(error)))
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
        TensorRecord {
            name: planned.name.clone(),
            dtype: written.dtype.to_string(),
            shape: view.stored_shape(),
            nbytes: end.saturating_sub(start),
            sha256: text(written.sha256.as_ref()),
            from: self.pieces(planned, tensor),
            to: Target { output: 0, offsets: [start, end] },
            encoding: encoding(written, tensor),
        }
    }

    /// Where a tensor came from.
    fn pieces(&self, planned: &Planned, tensor: &Tensor) -> Vec<Piece> {
        match &tensor.pieces {
            None => {
                let (_, path) = self.job.opened.place(planned.entry);
                vec![self.piece(&tensor.view, path, None)]
            }
            Some(pieces) => {
                let piece = |piece: &tensor::Piece| {
                    let path = piece.path.iter().map(ToString::to_string).collect();
                    let region = Region { start: piece.start.to_vec(), size: piece.size.to_vec() };
                    self.piece(&piece.view, path, Some(region))
                };
                pieces.iter().map(piece).collect()
            }
        }
    }

    fn piece(&self, view: &View, path: Vec<String>, region: Option<Region>) -> Piece {
        let opened = &self.job.opened;
        let storage = opened.storages.get(view.storage().index());
        let source = storage.map_or(0, |storage| opened.streams.file_of(storage.place.stream()));
        let key = storage.map(|storage| storage.key.to_string());
        Piece {
            source: crate::bytes::length(source),
            path,
            entry: storage.and_then(|storage| storage.entry.as_deref()).map(str::to_owned),
            storage: key.filter(|key| !key.is_empty()),
            offset: view.offset(),
            stride: view.strides().to_vec(),
            dtype: view.dtype().full_name(view.family()),
            region,
        }
    }

    fn aliases(&self) -> impl Iterator<Item = AliasRecord> {
        let plan = &self.job.plan;
        plan.aliases.iter().map(|alias| {
            let (source, path) = self.job.opened.place(alias.entry);
            AliasRecord {
                name: alias.name.clone(),
                of: plan.tensors.get(alias.of).map(|of| of.name.clone()).unwrap_or_default(),
                source: crate::bytes::length(source),
                path,
            }
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
