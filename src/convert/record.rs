//! From a finished conversion to its manifest.

use std::collections::HashMap;
use std::io::{BufWriter, Write as _};

use crate::bytes::{ReadAt, changed};
use crate::checkpoint::{PickleInfo, SourceFile};
use crate::custody::Hashing;
use crate::custody::{
    Accounted, AliasRecord, Digests, EncodingRecord, GlobalRecord, Inside, Lazy, LeftOutFile, LeftOutRecord,
    Manifest, OptionsRecord, OutputRecord, PickleRecord, Piece, Region, SCHEMA, SourceRecord, Target,
    TensorRecord, TensorSet, Tool, ValuesRecord,
};
use crate::error::Error;
use crate::output::{self, Digest, Staged, Written, WrittenTensor};
use crate::plan::Planned;
use crate::tensor::{self, EntryId, Tensor, TensorId, View};

use super::before::Before;
use super::job::{Done, Job};
use super::model::Model;
use super::recorded;

/// What a manifest is made from.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) done: &'a Done,
}

/// A manifest that was written.
pub(super) struct Recorded {
    /// What it says, but of tensors.
    pub(super) manifest: Manifest<(), ()>,
    /// Of its bytes.
    pub(super) sha256: String,
}

/// A file that was written.
pub(super) struct OutputFile {
    record: OutputRecord,
}

impl OutputFile {
    pub(super) fn new(path: &str, role: &str, size: u64, sha256: Option<Digest>) -> Self {
        let (path, role) = (path.to_owned(), role.to_owned());
        Self { record: OutputRecord { path, role, size, sha256: text(sha256.as_ref()) } }
    }
}

/// A model of the conversion, and where its files stand among all.
#[derive(Clone, Copy)]
struct Part<'a> {
    model: &'a Model,
    /// What tensors of it were that its library casts.
    before: Option<&'a HashMap<TensorId, Before>>,
    /// Digests of its source files.
    hashed: &'a [Option<Digest>],
    /// What was written of it, file by file.
    weights: &'a [Written],
    /// Position of its first source file.
    source: u64,
    /// Position of its first output.
    output: u64,
}

impl<'a> Record<'a> {
    /// Writes the manifest, and gives it without its tensors, and its digest. Tensors are recorded one by one, so that a
    /// million take no memory of their own.
    pub(super) fn write(&self, to: &Staged) -> Result<Recorded, Error> {
        let left_out = self.parts().flat_map(|part| {
            part.model.plan.left_out.iter().map(move |left_out| {
                let (source, path) = part.place(left_out.entry);
                LeftOutRecord {
                    source,
                    path,
                    tensors: left_out.tensors,
                    bytes: left_out.bytes,
                    reason: left_out.reason.to_string(),
                }
            })
        });
        let values = self.parts().flat_map(|part| {
            part.model.plan.values_left_out.iter().map(move |values| {
                let (source, path) = part.place(values.entry);
                let type_name = values.type_name.to_string();
                ValuesRecord { source, path, type_name, count: values.count }
            })
        });
        let left_out_files = self.job.left_out_files.iter();
        let left_out_files =
            left_out_files.map(|(path, reason)| LeftOutFile { path: path.clone(), reason: reason.clone() });
        let manifest = Manifest {
            schema: SCHEMA.to_owned(),
            tool: Tool::this(),
            options: self.options(),
            sources: self.sources()?,
            tensors: Lazy(|| self.parts().flat_map(Part::tensors)),
            aliases: Lazy(|| self.parts().flat_map(Part::aliases)),
            left_out: left_out.collect(),
            values_left_out: values.collect(),
            left_out_files: left_out_files.collect(),
            outputs: self.done.outputs.iter().map(|output| output.record.clone()).collect(),
            digests: Digests { tensor_set: self.tensor_set(), others: std::collections::BTreeMap::new() },
            claim: self.job.claim(Some(self.done)).to_owned(),
        };
        let fail = |error: std::io::Error| {
            let kind = output::ErrorKind::Write(error);
            Error::new(self.job.input, output::Error { path: to.target().to_owned(), kind })
        };
        let mut writer = BufWriter::with_capacity(1 << 20, Hashing::new(to.file()));
        serde_json::to_writer_pretty(&mut writer, &manifest).map_err(|e| fail(e.into()))?;
        writer.write_all(b"\n").map_err(fail)?;
        let hashing = writer.into_inner().map_err(|error| fail(error.into_error()))?;
        Ok(Recorded { manifest: manifest.without_tensors(), sha256: hashing.digest() })
    }

    /// Whether a manifest is that of this very conversion, as far as can be told without reading weights, and its outputs
    /// are there.
    pub(super) fn is_of(&self, manifest: &Manifest) -> bool {
        let sources = self.parts().flat_map(|part| {
            part.model.opened.files.iter().map(move |file| {
                let pickles: Vec<PickleRecord> = file.pickles.iter().map(pickle).collect();
                (file.name.to_string(), part.size(file), pickles)
            })
        });
        let recorded = manifest.sources.iter();
        let recorded = recorded.map(|source| (source.path.clone(), source.size, source.pickles.clone()));
        let is_there = |output: &OutputRecord| {
            self.job.root.join(&output.path).metadata().is_ok_and(|file| file.len() == output.size)
        };
        manifest.tool == Tool::this()
            && manifest.options == self.options()
            && sources.eq(recorded)
            && manifest.outputs.iter().all(is_there)
    }

    /// Each model with its place among the sources and outputs.
    fn parts(self) -> impl Iterator<Item = Part<'a>> {
        let (mut source, mut output) = (0_usize, 0_usize);
        self.job.models.iter().enumerate().map(move |(at, model)| {
            let after = output.saturating_add(model.shards.len());
            let part = Part {
                model,
                before: self.done.before.get(at),
                hashed: self.done.sources.get(at).map(Vec::as_slice).unwrap_or_default(),
                weights: self.done.weights.get(output..after).unwrap_or_default(),
                source: crate::bytes::length(source),
                output: crate::bytes::length(output),
            };
            source = source.saturating_add(model.opened.files.len());
            output = after;
            part
        })
    }

    pub(super) fn options(&self) -> OptionsRecord {
        // One place that holds the weights of every model.
        let mut roots = self.job.models.iter().map(|model| model.plan.root.as_ref());
        let root = roots.next().flatten().filter(|root| roots.all(|other| other == Some(*root)));
        recorded::record(self.job.options, root.cloned())
    }

    /// Every file that was read.
    fn sources(&self) -> Result<Vec<SourceRecord>, Error> {
        let sources = self.parts().flat_map(|part| {
            part.model.opened.files.iter().enumerate().map(move |(at, file)| part.source(file, at))
        });
        let sources: std::io::Result<Vec<SourceRecord>> = sources.collect();
        sources.map_err(|error| Error::new(self.job.input, crate::checkpoint::Error::Io(error)))
    }

    fn tensor_set(&self) -> String {
        let records = self.parts().map(|part| {
            let records = part.written().map(|(planned, _, written, tensor)| {
                let dtype = written.dtype.to_string();
                (planned.name.as_str(), dtype, tensor.view.stored_shape(), text(written.sha256.as_ref()))
            });
            (part, records.collect::<Vec<_>>())
        });
        let records: Vec<_> = records.collect();
        let mut set = TensorSet::default();
        for (part, records) in &records {
            for (name, dtype, shape, sha256) in records {
                set.add(name, dtype, shape, sha256);
            }
            for alias in &part.model.plan.aliases {
                if let Some((_, dtype, shape, sha256)) = records.get(alias.of) {
                    set.add(&alias.name, dtype, shape, sha256);
                }
            }
        }
        set.digest()
    }
}

impl<'a> Part<'a> {
    fn size(self, file: &SourceFile) -> u64 {
        let inner = || self.model.opened.streams.stream(file.stream).size();
        file.outer.as_ref().map_or_else(inner, |outer| outer.source.size())
    }

    /// Position of the source that holds a place, and the steps to it there.
    fn place(self, entry: EntryId) -> (u64, Vec<String>) {
        let (source, path) = self.model.opened.place(entry);
        (self.source.saturating_add(crate::bytes::length(source)), path)
    }

    fn source(self, file: &SourceFile, at: usize) -> std::io::Result<SourceRecord> {
        let size = self.size(file);
        let accounting = Accounted::Plain(file.accounting);
        let hashed = self.hashed.get(at).and_then(Option::as_ref);
        let (sha256, accounting) = match &file.outer {
            None => (text(hashed), accounting),
            Some(outer) => {
                let inner = self.model.opened.streams.stream(file.stream).size();
                let inside = Inside { size: inner, accounting: file.accounting };
                let expanded = Accounted::Compressed { compressed: size, inside };
                let sha256 = output::digest_of(&*outer.source)?.to_string();
                (sha256, if outer.expanded { expanded } else { accounting })
            }
        };
        let checked = self.model.checked.get(at);
        if checked.and_then(|checked| checked.sha256.as_ref()).is_some_and(|first| *first != sha256) {
            return Err(changed());
        }
        Ok(SourceRecord {
            path: file.name.to_string(),
            size,
            sha256,
            container: file.layers(),
            byteorder: if file.big_endian { "big" } else { "little" }.to_owned(),
            expected: checked.map(|checked| checked.expected.clone()).unwrap_or_default(),
            pickles: file.pickles.iter().map(pickle).collect(),
            accounting,
        })
    }

    /// Every tensor in the order of the plan, with the position of its output.
    fn written(self) -> impl Iterator<Item = (&'a Planned, u64, &'a WrittenTensor, &'a Tensor)> {
        let mut placed: Vec<Option<(u64, &WrittenTensor)>> = vec![None; self.model.plan.tensors.len()];
        for ((shard, written), output) in self.model.shards.iter().zip(self.weights).zip(self.output..) {
            for (at, tensor) in shard.tensors.iter().zip(&written.tensors) {
                if let Some(slot) = placed.get_mut(*at) {
                    *slot = Some((output, tensor));
                }
            }
        }
        let tensor = |planned: &Planned| self.model.opened.tensors.get(planned.tensor.index());
        self.model.plan.tensors.iter().zip(placed).filter_map(move |(planned, placed)| {
            let (output, written) = placed?;
            Some((planned, output, written, tensor(planned)?))
        })
    }

    fn tensors(self) -> impl Iterator<Item = TensorRecord> {
        self.written().map(move |(planned, output, written, tensor)| {
            let (start, end) = written.data_offsets;
            TensorRecord {
                name: planned.name.clone(),
                dtype: written.dtype.to_string(),
                shape: tensor.view.stored_shape(),
                nbytes: end.saturating_sub(start),
                sha256: text(written.sha256.as_ref()),
                from: self.pieces(planned, tensor),
                to: Target { output, offsets: [start, end] },
                encoding: encoding(
                    written,
                    tensor,
                    self.before.and_then(|before| before.get(&planned.tensor)),
                ),
            }
        })
    }

    fn aliases(self) -> impl Iterator<Item = AliasRecord> {
        let plan = &self.model.plan;
        plan.aliases.iter().map(move |alias| {
            let (source, path) = self.place(alias.entry);
            let of = plan.tensors.get(alias.of).map(|of| of.name.clone()).unwrap_or_default();
            AliasRecord { name: alias.name.clone(), of, source, path }
        })
    }

    /// Where a tensor came from.
    fn pieces(self, planned: &Planned, tensor: &Tensor) -> Vec<Piece> {
        match &tensor.pieces {
            None => {
                let (_, path) = self.place(planned.entry);
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

    fn piece(self, view: &View, path: Vec<String>, region: Option<Region>) -> Piece {
        let (source, entry, storage) = self.model.opened.place_of(view);
        Piece {
            source: self.source.saturating_add(source),
            path,
            entry: entry.map(str::to_owned),
            storage: storage.map(str::to_owned),
            offset: view.offset(),
            stride: view.strides().to_vec(),
            dtype: view.dtype().full_name(view.family()),
            region,
        }
    }
}

fn encoding(written: &WrittenTensor, tensor: &Tensor, before: Option<&Before>) -> Option<EncodingRecord> {
    let by_library = before.map(|before| EncodingRecord::Cast {
        kind: "cast".to_owned(),
        from: before.dtype.stored().to_string(),
        source_sha256: before.sha256.to_string(),
        exact: before.exact && written.cast_exact,
    });
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
    by_library.or(cast).or(part)
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

fn text(digest: Option<&Digest>) -> String {
    digest.map(ToString::to_string).unwrap_or_default()
}
