//! From a source to the plain data that is shown.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use depickle::bytes::ReadAt;
use depickle::checkpoint::{self, OpenOptions, Opened, RefusedUse};
use depickle::container::{Format, Safetensors, detect};
use depickle::plan::{self, Note};
use depickle::policy::Overrides;
use depickle::report::{
    InspectedFile, InspectedPickle, InspectedTensor, LeftOutGroup, NamedGlobal, Place, Planned, RefusedCall,
    ValueGroup,
};
use depickle::tensor::{EntryId, Kind, Leaf, TensorId, View};
use depickle::{Error, ErrorKind};

use super::super::exit::Exit;
use super::super::inputs::Input;
use super::super::text::length;

/// Why a file cannot be shown.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is no model file.
    NotApplicable,
    /// Another reason.
    Other(Exit, String),
}

impl Failure {
    pub(super) fn told(self) -> (Exit, String) {
        match self {
            Self::NotApplicable => (Exit::Malformed, checkpoint::Error::NotApplicable.to_string()),
            Self::Other(exit, message) => (exit, message),
        }
    }

    fn io(error: io::Error) -> Self {
        checkpoint::Error::Io(error).into()
    }
}

impl From<checkpoint::Error> for Failure {
    fn from(error: checkpoint::Error) -> Self {
        if matches!(error, checkpoint::Error::NotApplicable) {
            return Self::NotApplicable;
        }
        let message = error.to_string();
        let error = Error { path: String::new(), kind: Box::new(ErrorKind::Open(error)) };
        Self::Other(error.class().into(), message)
    }
}

/// Fills in what there is to know of a file. What refuses it stands in it also where the rest cannot be read.
pub(super) fn collect(input: &Input, file: &mut InspectedFile) -> Result<Exit, Failure> {
    let source = input.open(&std::env::temp_dir()).map_err(Failure::io)?;
    file.size = Some(source.size());
    if detect(&*source).map_err(Failure::io)? == Format::Safetensors {
        safetensors(&*source, file)?;
        return Ok(Exit::Done);
    }
    let Some((opened, unresolved)) = open(&source, input, file)? else { return Ok(Exit::No) };
    structure(&opened, file);
    if file.refusals.is_empty() {
        let error = unresolved.map(|error| format!("{error}; --skip-unresolved leaves such tensors out"));
        plan(&opened, error, file);
        return Ok(Exit::Done);
    }
    Ok(Exit::No)
}

/// Opens a source, also one that refuses: what refuses is kept as inert data, which shows it and runs nothing. With it
/// comes the error that `--skip-unresolved` would pass over.
fn open(
    source: &Arc<dyn ReadAt>,
    input: &Input,
    file: &mut InspectedFile,
) -> Result<Option<(Opened, Option<checkpoint::Error>)>, Failure> {
    /// Each pickle of a file may refuse by itself; those that are read one after the other are few.
    const ROUNDS: usize = 16;
    let mut options = OpenOptions { siblings: input.folder(), ..OpenOptions::default() };
    let mut unresolved = None;
    for _ in 0..ROUNDS {
        match checkpoint::open(source, &options) {
            Ok(opened) => return Ok(Some((opened, unresolved))),
            Err(checkpoint::Error::Refused { uses }) => {
                let known = |name: &str| options.overrides.names.iter().any(|known| known == name);
                if uses.iter().all(|refused| known(&refused.used.name)) {
                    return Ok(None);
                }
                let names: Vec<String> = uses.iter().map(|refused| refused.used.name.clone()).collect();
                file.refusals.extend(uses.iter().map(refused));
                let mut all = options.overrides.names;
                all.extend(names);
                options.overrides = Overrides { names: all, ..Overrides::default() };
                options.skip_unresolved = true;
            }
            Err(error @ checkpoint::Error::Rebuild { .. }) if !options.skip_unresolved => {
                options.skip_unresolved = true;
                unresolved = Some(error);
            }
            // With --skip-unresolved or without: the first message is the better one.
            Err(error) => return Err(unresolved.unwrap_or(error).into()),
        }
    }
    Ok(None)
}

fn refused(refused: &RefusedUse) -> RefusedCall {
    RefusedCall {
        entry: refused.entry.as_deref().map(str::to_owned),
        offset: refused.used.offset.0,
        name: refused.used.name.clone(),
        call: refused.used.expression.clone(),
        verdict: refused.used.verdict.name(),
        dependents: refused.dependents.map(|(dependents, _)| dependents),
    }
}

/// What the file holds, whatever is done with it.
fn structure(opened: &Opened, file: &mut InspectedFile) {
    if let Some(main) = opened.files.first() {
        file.container = Some(main.container);
        file.byteorder = Some(if main.big_endian { "big" } else { "little" });
        file.accounting = Some(main.accounting);
    }
    file.strays.clone_from(&opened.strays);
    let verdicts: HashMap<&str, &'static str> =
        file.refusals.iter().map(|refusal| (refusal.name.as_str(), refusal.verdict)).collect();
    let pickles = opened.pickles().map(|pickle| InspectedPickle {
        entry: pickle.entry.as_deref().map(str::to_owned),
        sha256: pickle.sha256.clone(),
        protocol: pickle.protocol,
        globals: {
            let globals = pickle.globals.iter().map(|global| NamedGlobal {
                name: global.name.clone(),
                count: global.count,
                // What was opened as inert data keeps the verdict that refuses it.
                verdict: verdicts.get(global.name.as_str()).copied().unwrap_or(global.verdict.name()),
            });
            globals.collect()
        },
    });
    file.pickles = pickles.collect();
    let mut first: HashMap<&View, EntryId> = HashMap::new();
    for (id, tensor) in opened.tree.tensors() {
        file.tensors.extend(inspected(opened, id, tensor, &mut first));
    }
    for (id, entry) in opened.tree.iter() {
        if let Kind::Leaf(Leaf::Values { type_name, count }) = &entry.kind {
            let (path, type_name) = (opened.tree.path(id), type_name.to_string());
            file.values.push(ValueGroup { path, type_name, count: *count });
        }
    }
}

fn inspected<'a>(
    opened: &'a Opened,
    id: EntryId,
    tensor: TensorId,
    first: &mut HashMap<&'a View, EntryId>,
) -> Option<InspectedTensor> {
    let view = &opened.tensors.get(tensor.index())?.view;
    let storage = opened.storages.get(view.storage().index());
    let earlier = *first.entry(view).or_insert(id);
    let same_as = (earlier != id).then(|| opened.tree.path(earlier));
    let key = storage.map(|storage| &*storage.key).filter(|key| !key.is_empty());
    Some(InspectedTensor {
        path: opened.tree.path(id),
        name: None,
        dtype: view.dtype().stored().to_string(),
        source_dtype: Some(view.dtype().full_name(view.family())),
        shape: view.stored_shape(),
        nbytes: view.nbytes(),
        entry: storage.and_then(|storage| storage.entry.as_deref()).map(str::to_owned),
        storage: key.map(str::to_owned),
        offset: Some(view.offset()),
        stride: Some(view.strides().to_vec()),
        contiguous: view.is_contiguous(),
        same_as,
    })
}

/// What `convert` without flags would do.
fn plan(opened: &Opened, error: Option<String>, file: &mut InspectedFile) {
    let plan = match plan::plan(&opened.tree, &opened.tensors, &plan::Options::default()) {
        Ok(plan) => plan,
        Err(error) => {
            file.plan = Some(Planned { error: Some(error.to_string()), ..Planned::default() });
            return;
        }
    };
    let names = plan.tensors.iter().map(|planned| (planned.entry, &planned.name));
    let mut names: HashMap<EntryId, &String> = names.collect();
    for ((id, _), tensor) in opened.tree.tensors().zip(&mut file.tensors) {
        tensor.name = names.remove(&id).cloned();
    }
    let left_out = plan.left_out.iter().map(|group| LeftOutGroup {
        path: group.path.clone(),
        tensors: group.tensors,
        bytes: group.bytes,
        reason: group.reason.to_string(),
    });
    let candidates = plan.notes.iter().flat_map(|note| match note {
        Note::Root { others: found, .. } | Note::Several { found, .. } => found.as_slice(),
        _ => &[],
    });
    file.plan = Some(Planned {
        error,
        root: plan.root.clone(),
        candidates: candidates
            .map(|found| Place { root: found.path.clone(), tensors: found.tensors })
            .collect(),
        tensors: length(plan.tensors.len()),
        left_out: left_out.collect(),
        notes: plan.notes.iter().map(ToString::to_string).collect(),
    });
}

/// The header of a safetensors file.
fn safetensors(source: &dyn ReadAt, file: &mut InspectedFile) -> Result<(), Failure> {
    let header = Safetensors::open(source).map_err(checkpoint::Error::from)?;
    file.container = Some("safetensors");
    file.byteorder = Some("little");
    file.metadata = header.metadata();
    for (name, info) in header.tensors() {
        let (begin, end) = info.data_offsets;
        file.tensors.push(InspectedTensor {
            path: vec![name.to_owned()],
            name: Some(name.to_owned()),
            dtype: info.dtype.to_string(),
            source_dtype: None,
            shape: info.shape.iter().map(|size| length(*size)).collect(),
            nbytes: length(end.saturating_sub(begin)),
            entry: None,
            storage: None,
            offset: None,
            stride: None,
            contiguous: true,
            same_as: None,
        });
    }
    Ok(())
}
