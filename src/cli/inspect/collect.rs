//! From a source to the plain data that is shown.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use depickle::accounting::Accounting;
use depickle::bytes::ReadAt;
use depickle::checkpoint::{self, OpenOptions, Opened, RefusedUse, SourceFile};
use depickle::container::{Format, Safetensors, detect};
use depickle::plan::{self, Note};
use depickle::policy::Overrides;
use depickle::report::{
    InspectedEncoding, InspectedFile, InspectedPickle, InspectedSource, InspectedTensor, LeftOutFile,
    LeftOutGroup, NamedGlobal, Piece, Place, Planned, RefusedCall, Region, ValueGroup,
};
use depickle::tensor::{self, EntryId, Kind, Leaf, Tensor, TensorId, View};
use depickle::{Error, ErrorKind, convert, folder};

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
        Error { path: String::new(), kind: Box::new(ErrorKind::Open(error)) }.into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &*error.kind {
            ErrorKind::Open(checkpoint::Error::NotApplicable) => Self::NotApplicable,
            kind => Self::Other(error.class().into(), kind.to_string()),
        }
    }
}

/// Fills in what there is to know of a file. What refuses it stands in it also where the rest cannot be read.
pub(super) fn file(input: &Input, file: &mut InspectedFile) -> Result<Exit, Failure> {
    let source = input.open(&std::env::temp_dir()).map_err(Failure::io)?;
    file.size = Some(source.size());
    if detect(&*source).map_err(Failure::io)? == Format::Safetensors {
        safetensors(&*source, file)?;
        return Ok(Exit::Done);
    }
    let options = OpenOptions { siblings: input.folder(), ..OpenOptions::default() };
    let open = |options: &OpenOptions| {
        let opened = checkpoint::open(&source, options);
        opened.map_err(|error| Error { path: String::new(), kind: Box::new(ErrorKind::Open(error)) })
    };
    let Some((mut opened, unresolved)) = open_also_refused(options, open, file)? else { return Ok(Exit::No) };
    if let (Some(main), Some(name)) = (opened.files.first_mut(), input.path().file_name()) {
        main.name = name.to_string_lossy().into();
    }
    Ok(whole(&opened, unresolved, &plan::Options::default(), file))
}

/// The models of a folder that is one checkpoint. `file` has what is said of the folder itself.
pub(super) fn folder(path: &Path, file: &mut InspectedFile) -> Result<(Vec<InspectedFile>, Exit), Failure> {
    let open = |options: &OpenOptions| {
        folder::open(path, options, &mut |_, _| Ok(())).map_err(|error| inside(path, error))
    };
    let Some((folder, unresolved)) = open_also_refused(OpenOptions::default(), open, file)? else {
        return Ok((vec![std::mem::take(file)], Exit::No));
    };
    file.other_files.clone_from(&folder.others);
    let left_out = folder.left_out.into_iter().map(|(path, reason)| LeftOutFile { path, reason });
    file.left_out_files = left_out.collect();
    let options =
        plan::Options { prefer_once: folder.layout == folder::HUGGING_FACE, ..plan::Options::default() };
    let several = folder.models.len() > 1;
    let mut exit = Exit::Done;
    let models = folder.models.into_iter().map(|model| {
        let stem = convert::output_name(Path::new(&format!("{}.bin", model.set.stem)));
        let name = format!("{}{}", model.set.folder, stem.with_extension("").display());
        let mut file = InspectedFile { model: several.then_some(name), ..file.clone() };
        exit = whole(&model.opened, unresolved.clone(), &options, &mut file);
        file.container = Some(folder.layout);
        file
    });
    let models: Vec<InspectedFile> = models.collect();
    Ok((models, exit))
}

/// Says in which file of a folder it is.
fn inside(folder: &Path, error: Error) -> Error {
    let Error { path, kind } = error;
    let file = Path::new(&path).strip_prefix(folder).unwrap_or(Path::new("")).display().to_string();
    let kind = match *kind {
        ErrorKind::Open(open) if !file.is_empty() => ErrorKind::Open(open.inside(&file)),
        kind => kind,
    };
    Error { path, kind: Box::new(kind) }
}

/// What is known of a source that is open, and what would be done with it.
fn whole(
    opened: &Opened,
    unresolved: Option<String>,
    options: &plan::Options,
    file: &mut InspectedFile,
) -> Exit {
    structure(opened, file);
    if !file.refusals.is_empty() {
        return Exit::No;
    }
    let error = unresolved.map(|error| format!("{error}; --skip-unresolved leaves such tensors out"));
    plan(opened, error, options, file);
    Exit::Done
}

/// Opens a source, also one that refuses: what refuses is kept as inert data, which shows it and runs nothing. With it
/// comes the error that `--skip-unresolved` would pass over.
fn open_also_refused<T>(
    mut options: OpenOptions,
    open: impl Fn(&OpenOptions) -> Result<T, Error>,
    file: &mut InspectedFile,
) -> Result<Option<(T, Option<String>)>, Failure> {
    /// Each pickle of a file may refuse by itself; those that are read one after the other are few.
    const ROUNDS: usize = 16;
    let mut unresolved: Option<Error> = None;
    for _ in 0..ROUNDS {
        let error = match open(&options) {
            Ok(opened) => return Ok(Some((opened, unresolved.map(|error| error.kind.to_string())))),
            Err(error) => error,
        };
        match &*error.kind {
            ErrorKind::Open(checkpoint::Error::Refused { uses }) => {
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
            kind if is_unresolved(kind) && !options.skip_unresolved => {
                options.skip_unresolved = true;
                unresolved = Some(error);
            }
            // With --skip-unresolved or without: the first message is the better one.
            _ => return Err(unresolved.unwrap_or(error).into()),
        }
    }
    Ok(None)
}

/// Whether an error is one that `--skip-unresolved` may pass over.
fn is_unresolved(kind: &ErrorKind) -> bool {
    let ErrorKind::Open(error) = kind else { return false };
    let mut error = error;
    while let checkpoint::Error::Inside { error: inner, .. } = error {
        error = inner;
    }
    matches!(error, checkpoint::Error::Rebuild { .. })
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
    }
    let sources = opened.files.iter().map(|source| source_of(opened, source));
    file.sources.extend(sources);
    file.size =
        file.size.or_else(|| Some(file.sources.iter().fold(0, |sum, file| sum.saturating_add(file.size))));
    file.accounting = file.sources.iter().map(|source| source.accounting).reduce(Accounting::plus);
    file.strays.clone_from(&opened.strays);
    let verdicts: HashMap<&str, &'static str> =
        file.refusals.iter().map(|refusal| (refusal.name.as_str(), refusal.verdict)).collect();
    let pickles =
        opened.files.iter().zip(0..).flat_map(|(file, at)| file.pickles.iter().map(move |p| (at, p)));
    let pickles = pickles.map(|(source, pickle)| InspectedPickle {
        source: Some(source),
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

fn source_of(opened: &Opened, file: &SourceFile) -> InspectedSource {
    let size = match &file.outer {
        Some(outer) => outer.source.size(),
        None => opened.streams.stream(file.stream).size(),
    };
    InspectedSource {
        path: file.name.to_string(),
        size,
        container: file.layers(),
        byteorder: if file.big_endian { "big" } else { "little" },
        accounting: file.accounting,
    }
}

/// Where a view lies: its file, and member and key of its storage.
fn place_of(opened: &Opened, view: &View) -> (u64, Option<String>, Option<String>) {
    let (source, entry, key) = opened.place_of(view);
    (source, entry.map(str::to_owned), key.map(str::to_owned))
}

fn encoding(tensor: &Tensor) -> Option<InspectedEncoding> {
    let cast = tensor.cast_from.map(|from| InspectedEncoding {
        kind: "cast",
        from: Some(from.stored().to_string()),
        part: None,
    });
    let part = tensor.encoding.as_ref();
    cast.or(part.map(|part| InspectedEncoding { kind: part.kind, from: None, part: Some(part.part) }))
}

fn part(opened: &Opened, part: &tensor::Piece) -> Piece {
    let (source, entry, storage) = place_of(opened, &part.view);
    Piece {
        source,
        path: part.path.iter().map(ToString::to_string).collect(),
        entry,
        storage,
        offset: part.view.offset(),
        stride: part.view.strides().to_vec(),
        dtype: part.view.dtype().full_name(part.view.family()),
        region: Some(Region { start: part.start.to_vec(), size: part.size.to_vec() }),
    }
}

fn inspected<'a>(
    opened: &'a Opened,
    id: EntryId,
    tensor: TensorId,
    first: &mut HashMap<&'a View, EntryId>,
) -> Option<InspectedTensor> {
    let tensor = opened.tensors.get(tensor.index())?;
    let view = &tensor.view;
    let (source, entry, storage) = place_of(opened, view);
    let earlier = *first.entry(view).or_insert(id);
    let same_as = (earlier != id).then(|| opened.tree.path(earlier));
    let parts = tensor.pieces.as_ref();
    Some(InspectedTensor {
        path: opened.tree.path(id),
        name: None,
        dtype: view.dtype().stored().to_string(),
        source_dtype: Some(view.dtype().full_name(view.family())),
        shape: view.stored_shape(),
        nbytes: view.nbytes(),
        source: Some(source),
        entry,
        storage,
        offset: Some(view.offset()),
        stride: Some(view.strides().to_vec()),
        contiguous: view.is_contiguous(),
        parts: parts.map(|parts| parts.iter().map(|piece| part(opened, piece)).collect()),
        encoding: encoding(tensor),
        same_as,
    })
}

/// What `convert` without flags would do.
fn plan(opened: &Opened, error: Option<String>, options: &plan::Options, file: &mut InspectedFile) {
    let plan = match plan::plan(&opened.tree, &opened.tensors, options) {
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
            source: None,
            shape: info.shape.iter().map(|size| length(*size)).collect(),
            nbytes: length(end.saturating_sub(begin)),
            entry: None,
            storage: None,
            offset: None,
            stride: None,
            contiguous: true,
            parts: None,
            encoding: None,
            same_as: None,
        });
    }
    Ok(())
}
