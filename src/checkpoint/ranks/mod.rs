//! Files of ranks: every process saved its state with `torch.save`, with the parts of tensors that it had.
//!
//! Such files are recognised by what their pickles name, `DTensor` or `ShardedTensor`, and belong together by their names
//! ([`names`]). Each says which box of a tensor it has ([`part`]); boxes are put together once they are proven to tile the tensor.
//! What several ranks have has to be the same in all of them, which is compared before anything is written
//! ([`Replica`]), since it takes reading weights.

mod names;
mod part;
mod replica;
mod runs;
mod spread;
mod union;

use std::collections::HashMap;

use crate::container::{Archive, Format, TorchZip, detect};
use crate::tensor::{EntryId, Piece, Region, Streams, TensorId, View};
use crate::values::Values;

use super::folder::{Folder, FolderError, Held, Merge, Named, RankFile};
use super::{Error, OpenOptions, Opened, zip};

use names::Set;
use part::{Part, TOO_MANY};
pub(super) use replica::Replica;
use spread::{Consists, Spread};
use union::{Met, Union, Whole};

/// Whether a folder has files of ranks.
pub(super) fn is_here(folder: &Folder) -> bool {
    !sets(folder).is_empty()
}

/// The sets of files of which at least one has parts of tensors. What a run needs to go on is taken only where a folder has
/// nothing else: beside a model of any form it is none.
fn sets(folder: &Folder) -> Vec<Set> {
    let mut sets = names::sets(folder);
    let in_sets: usize = sets.iter().map(|set| set.files().count()).sum();
    let is_all = in_sets == folder.files().count() && sets.iter().all(Set::is_of_run);
    sets.retain(|set| is_all || !set.is_of_run());
    sets.retain(|set| set.files().any(|path| has_shards(folder, path).unwrap_or(false)));
    sets
}

/// Whether a pickle names a class of tensors that are spread over ranks.
fn has_shards(folder: &Folder, path: &str) -> Result<bool, Error> {
    /// Bytes read at a time; a name that lies across two blocks is found in the second, which begins before it.
    const BLOCK: u64 = 1 << 20;
    let source = folder.source(path)?;
    if detect(&*source)? != Format::Zip {
        return Ok(false);
    }
    let options = OpenOptions::default();
    let archive = Archive::open(&*source, &options.limits)?;
    let Some(torch) = TorchZip::open(&*source, archive, &options.limits)? else { return Ok(false) };
    let mut streams = Streams::new(source.clone());
    let (stream, span) = zip::pickle(&source, torch.archive(), torch.pickle(), &mut streams, &options)?;
    let pickle = streams.stream(stream);
    let mut at = span.start();
    while at < span.end() {
        let block = crate::bytes::Span::between(at, at.saturating_add(BLOCK).min(span.end()));
        let bytes = crate::bytes::read_vec(pickle, block)?;
        if NAMES.iter().any(|name| bytes.windows(name.len()).any(|window| window == *name)) {
            return Ok(true);
        }
        let longest = NAMES.iter().map(|name| crate::bytes::length(name.len())).max().unwrap_or(0);
        at = if block.end() < span.end() { block.end().saturating_sub(longest) } else { span.end() };
    }
    Ok(false)
}

/// Classes of tensors that are spread over ranks.
const NAMES: &[&[u8]] = &[b"DTensor", b"ShardedTensor"];

/// Pieces beyond one for each part, over all tensors of all ranks: names can share one local part that each cuts into thousands.
const MOST_PIECES: usize = 1 << 20;

/// Puts the files of all ranks together: a model of each set, which may be of another save.
///
/// # Errors
/// Files that are missing, doubled or another checkpoint's; parts that do not tile their tensor.
pub(super) fn open(folder: &Folder, options: &OpenOptions) -> Result<Vec<Named>, Error> {
    let sets = sets(folder);
    let names = names::models(&sets);
    sets.iter().zip(names).map(|(set, name)| Ok((name, open_set(folder, set, options)?))).collect()
}

fn open_set(folder: &Folder, set: &Set, options: &OpenOptions) -> Result<Opened, Error> {
    let merge = Merge::new(&options.limits);
    let mut ranks = Ranks {
        merge,
        parts: HashMap::new(),
        pieces: 0,
        known: HashMap::new(),
        replicas: Vec::new(),
        save: None,
    };
    let mut union = Union::default();
    // What is no tensor, by the first rank, and the places of its entries.
    let mut values = Vec::new();
    for (number, path) in set.complete()?.into_iter().enumerate() {
        let file = ranks.file(folder, path, &mut union, options)?;
        values.extend((number == 0).then_some(file));
    }
    let Whole { tree, parts, ids } = union.into_tree(|met| ranks.tensor(met))?;
    let Ranks { merge, replicas, .. } = ranks;
    let values = values.into_iter().flat_map(|(places, values)| {
        let entry = |place: &usize| ids.get(*place).copied().unwrap_or(EntryId::ROOT);
        let entries: Vec<EntryId> = places.iter().map(entry).collect();
        values.into_iter().map(move |values| values.moved(&entries))
    });
    let held = Held { tree, values: values.collect() };
    Ok(Opened { replicas, ..merge.finish_as(held, parts) })
}

/// The files that were read, and what each has.
struct Ranks<'a> {
    merge: Merge<'a>,
    /// What files have of tensors that are spread over ranks.
    parts: HashMap<TensorId, Part>,
    /// Pieces beyond the first of each part.
    pieces: usize,
    /// Tensors that were put together, by what they consist of: names of the same data stay so.
    known: HashMap<Consists, TensorId>,
    replicas: Vec<Replica>,
    /// The first file, and which save it says that it is of.
    save: Option<(Box<str>, Save)>,
}

/// Numbers that are the same for all ranks of one save, whatever a script calls them.
const PROGRESS: [&str; 7] = ["epoch", "step", "steps", "global_step", "iteration", "iter", "batch"];

/// For each of these what a file says.
type Save = [Option<u64>; PROGRESS.len()];

impl Ranks<'_> {
    /// Files of ranks are copied into one folder, save after save: what they say of their progress must not differ.
    fn check_save(&mut self, path: &str, file: &RankFile) -> Result<(), FolderError> {
        let (plain, root) = (file.plain(), file.root());
        let save: Save = PROGRESS.map(|name| plain.number(plain.get(root, name)?));
        let Some((first, known)) = &self.save else {
            self.save = Some((path.into(), save));
            return Ok(());
        };
        let numbers = known.iter().zip(&save).zip(PROGRESS);
        let other = numbers.into_iter().find(|((known, found), _)| known != found).map(|(_, name)| name);
        let Some(name) = other else { return Ok(()) };
        let (first, second) = (first.clone(), path.into());
        Err(FolderError::Differ { name: name.into(), what: "the number", first, second })
    }

    /// Takes what a file has. Gives the places of its entries, and its values.
    fn file(
        &mut self,
        folder: &Folder,
        path: &str,
        union: &mut Union,
        options: &OpenOptions,
    ) -> Result<(Vec<usize>, Vec<Values>), Error> {
        let options = OpenOptions { shards: true, ..options.clone() };
        let number = self.merge.files.len();
        let file = RankFile::open(folder, path, &mut self.merge, &options)?;
        self.check_save(path, &file)?;
        let names: HashMap<TensorId, String> =
            file.tree.tensors().map(|(entry, tensor)| (tensor, file.tree.path(entry).join("."))).collect();
        for shard in &file.shards {
            // A tensor that stands nowhere is not asked for.
            let Some(name) = names.get(&shard.tensor) else { continue };
            let part = Part::read(&file, shard, name, &self.merge)
                .map_err(|error| error.inside(&format!("{}, {name:?}", path.escape_debug())))?;
            self.pieces = self.pieces.saturating_add(part.boxes.len().saturating_sub(1));
            if self.pieces > MOST_PIECES {
                return Err(TOO_MANY.inside(path));
            }
            self.parts.insert(shard.tensor, part);
        }
        let places = union.add(&file.tree, number)?;
        Ok((places, file.into_held().values))
    }

    /// The whole of what the files have at a place.
    fn tensor(&mut self, met: &Met<'_>) -> Result<TensorId, Error> {
        let name = met.path.join(".");
        let parts = met.tensors.iter().filter_map(|(file, tensor)| Some((*file, self.parts.get(tensor)?)));
        let parts: Vec<(usize, &Part)> = parts.collect();
        if parts.is_empty() {
            return self.same(&name, met);
        }
        if parts.len() < met.tensors.len() {
            return Err(FolderError::Ranks { name: name.into() }.into());
        }
        let spread = Spread { name: &name, parts: &parts, files: &self.merge.files };
        let (consists, further) = spread.boxes()?;
        let whole = if let Some(known) = self.known.get(&consists) {
            *known
        } else {
            let path: Box<[Box<str>]> = met.path.iter().map(|step| step.as_str().into()).collect();
            let (dtype, shape, boxes) = &consists;
            let piece = |(view, region): &(View, Region)| {
                let Region { start, size } = region.clone();
                Piece { view: view.clone(), path: path.clone(), start, size }
            };
            let pieces = boxes.iter().map(piece).collect();
            let whole = self.merge.assemble(&name, *dtype, shape, pieces)?;
            *self.known.entry(consists).or_insert(whole)
        };
        let replica = |(kept, other)| Replica { of: whole, name: name.as_str().into(), kept, other };
        self.replicas.extend(further.into_iter().map(replica));
        Ok(whole)
    }

    /// A tensor that every file has whole. Whether it is the same in all is asked of what is taken: ranks have states of
    /// random numbers of their own.
    fn same(&mut self, name: &str, met: &Met<'_>) -> Result<TensorId, Error> {
        let view = |id: TensorId| self.merge.tensors.get(id.index()).map(|tensor| tensor.view.clone());
        let mut views = met.tensors.iter().filter_map(|(file, id)| Some((*id, (*file, view(*id)?))));
        let (of, kept) = views.next().ok_or_else(|| FolderError::NoTensor { name: name.into() })?;
        let replica = |(_, other)| Replica { of, name: name.into(), kept: kept.clone(), other };
        self.replicas.extend(views.map(replica));
        Ok(of)
    }
}
