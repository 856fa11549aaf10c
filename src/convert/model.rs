//! [`Model`]: one source that is open and planned, and the files that its tensors go to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::checkpoint::Opened;
use crate::custody::Checked;
use crate::error::ErrorKind;
use crate::output::{self, Item, Metadata, Sidecar, Staged, WrittenTensor};
use crate::plan::{self, Note, Plan, Planned};
use crate::tensor::{Cast, Kind, Leaf, Place, StorageId, TensorId, View};

use super::Options;

/// One model: its source, what is taken of it, and where that goes.
pub(super) struct Model {
    pub(super) opened: Opened,
    pub(super) plan: Plan,
    pub(super) shards: Vec<Shard>,
    pub(super) naming: Naming,
    /// Whether there is an index of the shards.
    pub(super) indexed: bool,
    /// How each file of the source compares with what is expected of it.
    pub(super) checked: Vec<Checked>,
}

/// One file of weights.
pub(super) struct Shard {
    /// Its path from the output folder.
    pub(super) path: String,
    /// What is in it: positions in [`Plan::tensors`].
    pub(super) tensors: Vec<usize>,
}

/// What the files of a model are called, as loaders look for them.
#[derive(Debug, Clone)]
pub(super) struct Naming {
    /// The folder from the output folder: empty, or ending in a slash.
    pub(super) folder: String,
    /// The name up to shard number and suffix, with the variant.
    pub(super) stem: String,
    /// Which part of the stem is the variant.
    pub(super) variant: Option<String>,
}

/// How tensors are spread over files.
pub(super) enum Spread {
    /// All in one.
    One,
    /// As in the source, whose files become these.
    AsSources(Vec<String>),
    /// As many bytes as this into each.
    BySize(u64),
}

impl Naming {
    fn single(&self) -> String {
        format!("{}{}.safetensors", self.folder, self.stem)
    }

    fn numbered(&self, number: usize, of: usize) -> String {
        format!("{}{}-{number:05}-of-{of:05}.safetensors", self.folder, self.stem)
    }

    /// The index; of a variant it has the variant before its last suffix: `model.safetensors.index.fp16.json`.
    pub(super) fn index(&self) -> String {
        let Self { folder, stem, variant } = self;
        match variant {
            None => format!("{folder}{stem}.safetensors.index.json"),
            Some(variant) => {
                let bare = stem.strip_suffix(&format!(".{variant}")).unwrap_or(stem);
                format!("{folder}{bare}.safetensors.index.{variant}.json")
            }
        }
    }

    /// The values that are no tensors.
    pub(super) fn metadata(&self) -> String {
        format!("{}{}.metadata.json", self.folder, self.stem)
    }

    /// Whether a file is one that loaders would take for a part of this model.
    pub(super) fn covers(&self, path: &str) -> bool {
        let number = |middle: &str| {
            let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
            let parts = middle.strip_prefix('-').and_then(|middle| middle.split_once("-of-"));
            middle.is_empty() || parts.is_some_and(|(i, n)| digits(i) && digits(n))
        };
        let middle = path.strip_prefix(&self.folder).and_then(|name| name.strip_prefix(&self.stem));
        let middle = middle.and_then(|name| name.strip_suffix(".safetensors"));
        path == self.index() || middle.is_some_and(number)
    }
}

impl Model {
    /// Plans what is taken of a source, and which file it goes to.
    pub(super) fn new(
        opened: Opened,
        naming: Naming,
        spread: &Spread,
        options: &plan::Options,
    ) -> Result<Self, ErrorKind> {
        let mut plan = plan::plan(&opened.tree, &opened.tensors, options)?;
        plan.notes.extend(opened.library.map(Note::ArraysOnly));
        let needs = opened.files.iter().filter_map(|file| file.outer.as_ref()?.needs);
        plan.notes.extend(needs.map(|(writer, members)| {
            let keys = members.iter().map(ToString::to_string).collect();
            Note::Needed { writer, keys }
        }));
        let mut model =
            Self { opened, plan, shards: Vec::new(), naming, indexed: false, checked: Vec::new() };
        let cast = options.dtype;
        model.shards = match spread {
            Spread::One => model.whole(),
            Spread::AsSources(names) => {
                model.indexed = true;
                model.as_sources(names)
            }
            Spread::BySize(most) => {
                let bytes = |planned: &Planned| {
                    let tensor = model.opened.tensors.get(planned.tensor.index());
                    tensor.map_or(0, |tensor| plan::written_bytes(tensor, cast.filter(|_| planned.cast)))
                };
                let shards = plan::by_size(model.plan.tensors.iter().map(bytes), *most);
                model.indexed = shards.len() > 1;
                if model.indexed { model.by_size(shards) } else { model.whole() }
            }
        };
        Ok(model)
    }

    fn whole(&self) -> Vec<Shard> {
        vec![Shard { path: self.naming.single(), tensors: (0..self.plan.tensors.len()).collect() }]
    }

    /// A file for each of the source's, but for those of which nothing is taken.
    fn as_sources(&self, names: &[String]) -> Vec<Shard> {
        let mut shards: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, planned) in self.plan.tensors.iter().enumerate() {
            shards.entry(self.opened.place(planned.entry).0).or_default().push(i);
        }
        let files = shards.into_iter().filter_map(|(file, tensors)| {
            let path = format!("{}{}", self.naming.folder, names.get(file)?);
            Some(Shard { path, tensors })
        });
        files.collect()
    }

    fn by_size(&self, shards: Vec<Vec<usize>>) -> Vec<Shard> {
        let of = shards.len();
        let named = shards
            .into_iter()
            .zip(1..)
            .map(|(tensors, number)| Shard { path: self.naming.numbered(number, of), tensors });
        named.collect()
    }

    /// The header's metadata of each file. Names that were dropped stand there, or in the index where there is one.
    pub(super) fn metadata(&self) -> Metadata {
        let mut metadata = self.plan.metadata.clone();
        if self.indexed {
            metadata.retain(|key, _| key == FORMAT);
        }
        metadata
    }

    /// The index of the shards, whose tensors were written like this.
    pub(super) fn index(&self, written: &[&[WrittenTensor]]) -> Vec<u8> {
        let size = |tensor: &WrittenTensor| tensor.data_offsets.1.saturating_sub(tensor.data_offsets.0);
        let sizes = written.iter().flat_map(|tensors| tensors.iter()).map(size);
        let mut dropped = self.plan.metadata.clone();
        dropped.remove(FORMAT);
        let tensors = self.shards.iter().flat_map(|shard| {
            let file = shard.path.strip_prefix(&self.naming.folder).unwrap_or(&shard.path);
            let planned = shard.tensors.iter().filter_map(|i| self.plan.tensors.get(*i));
            planned.map(move |planned| (planned.name.as_str(), file))
        });
        crate::hub::index_file(sizes.fold(0, u64::saturating_add), &dropped, tensors)
    }

    /// What goes into a file.
    pub(super) fn items<'m>(&'m self, shard: &Shard, options: &Options) -> Vec<Item<'m>> {
        let cast = options.plan.dtype.and_then(Cast::new);
        let planned = shard.tensors.iter().filter_map(|i| self.plan.tensors.get(*i));
        let items = planned.filter_map(|planned| {
            let cast = cast.filter(|_| planned.cast);
            Some(Item { name: &planned.name, view: self.view(planned.tensor)?, cast })
        });
        items.collect()
    }

    /// Writes the values that are no tensors.
    pub(super) fn write_values(&self, to: &Staged) -> Result<Sidecar, output::Error> {
        let opened = &self.opened;
        let Opened { streams, tree, values, .. } = opened;
        let mut names = HashMap::new();
        for planned in &self.plan.tensors {
            names.entry(planned.tensor).or_insert(&*planned.name);
        }
        for alias in &self.plan.aliases {
            let of = self.plan.tensors.get(alias.of).map(|of| &*of.name);
            let kind = tree.entry(alias.entry).map(|entry| &entry.kind);
            if let (Some(Kind::Leaf(Leaf::Tensor(tensor))), Some(of)) = (kind, of) {
                names.entry(*tensor).or_insert(of);
            }
        }
        let name_of = |tensor| names.get(&tensor).copied();
        let place_of = |id| opened.place(id);
        let around = output::Surroundings { streams, tree, name_of: &name_of, place_of: &place_of };
        output::write_values(to, values, around)
    }

    /// Inflates what the plan needs into a nameless file in `folder`.
    pub(super) fn spool(
        &mut self,
        folder: &std::path::Path,
        jobs: usize,
        progress: &dyn crate::progress::Progress,
    ) -> Result<(), output::Error> {
        let needed = self.storages();
        output::spool(&mut self.opened.streams, &mut self.opened.storages, needed, folder, jobs, progress)
    }

    /// Storages that the plan needs.
    fn storages(&self) -> BTreeSet<StorageId> {
        let views = self.plan.tensors.iter().filter_map(|planned| self.view(planned.tensor));
        views.map(View::storage).collect()
    }

    /// About how many bytes are to be inflated and written.
    pub(super) fn bytes(&self) -> u64 {
        let views = self.plan.tensors.iter().filter_map(|planned| self.view(planned.tensor));
        let deflated = self.storages().into_iter().filter_map(|id| self.opened.storages.get(id.index()));
        let deflated = deflated.filter(|storage| matches!(storage.place, Place::Deflated { .. }));
        let sizes = views.map(View::nbytes).chain(deflated.map(|storage| storage.len));
        sizes.fold(0, u64::saturating_add)
    }

    /// For each file of weights, the source files that are hashed while it is written: each once, where it is first read
    /// from. Of a file around a checkpoint the digest is taken by itself.
    pub(super) fn hashed_with(&self) -> Vec<Vec<usize>> {
        let last = self.shards.len().saturating_sub(1);
        let mut first = vec![last; self.opened.files.len()];
        for (number, shard) in self.shards.iter().enumerate().rev() {
            for planned in shard.tensors.iter().filter_map(|i| self.plan.tensors.get(*i)) {
                for file in self.files_of(planned) {
                    if let Some(first) = first.get_mut(file) {
                        *first = number;
                    }
                }
            }
        }
        let mut passes = vec![Vec::new(); self.shards.len()];
        for (file, number) in first.into_iter().enumerate() {
            let bare = self.opened.files.get(file).is_some_and(|file| file.outer.is_none());
            if let Some(pass) = passes.get_mut(number).filter(|_| bare) {
                pass.push(file);
            }
        }
        passes
    }

    /// The source files that a tensor lies in.
    fn files_of(&self, planned: &Planned) -> Vec<usize> {
        let Some(tensor) = self.opened.tensors.get(planned.tensor.index()) else { return Vec::new() };
        let file = |view: &View| {
            let storage = self.opened.storages.get(view.storage().index());
            storage.map_or(0, |storage| self.opened.streams.file_of(storage.place.stream()))
        };
        match &tensor.pieces {
            Some(pieces) => pieces.iter().map(|piece| file(&piece.view)).collect(),
            None => vec![file(&tensor.view)],
        }
    }

    pub(super) fn view(&self, id: TensorId) -> Option<&View> {
        self.opened.tensors.get(id.index()).map(|tensor| &tensor.view)
    }

    /// Whether anything is cast, and whether anything is re-encoded.
    pub(super) fn changes(&self) -> (bool, bool) {
        let casts = self.plan.tensors.iter().any(|planned| planned.cast);
        let tensors =
            self.plan.tensors.iter().filter_map(|planned| self.opened.tensors.get(planned.tensor.index()));
        let mut reencoded = false;
        let mut narrowed = false;
        for tensor in tensors {
            reencoded |= tensor.encoding.is_some() || tensor.cast_from.is_some();
            narrowed |= tensor.cast_from.is_some_and(|from| from.size() > tensor.view.dtype().size());
        }
        (casts || narrowed, reencoded)
    }

    /// Names in the output, with their type and shape.
    pub(super) fn planned(&self, options: &Options) -> impl Iterator<Item = (String, String, Vec<u64>)> {
        let cast = options.plan.dtype.and_then(Cast::new);
        self.plan.tensors.iter().map(move |planned| {
            let view = self.view(planned.tensor);
            let own = view.map(|view| view.dtype().stored().to_string());
            let cast = cast.filter(|_| planned.cast).map(|cast| cast.to().stored().to_string());
            let shape = view.map(View::stored_shape).unwrap_or_default();
            (planned.name.clone(), cast.or(own).unwrap_or_default(), shape)
        })
    }
}

/// The key of the header's metadata that loaders look for.
const FORMAT: &str = "format";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_model_are_named_as_its_loader_looks_for_them() {
        let plain = Naming { folder: "unet/".into(), stem: "model".into(), variant: None };
        assert_eq!(plain.index(), "unet/model.safetensors.index.json");
        assert_eq!(plain.numbered(2, 31), "unet/model-00002-of-00031.safetensors");
        for (path, covered) in [
            ("unet/model.safetensors", true),
            ("unet/model-00001-of-00004.safetensors", true),
            ("unet/model.safetensors.index.json", true),
            ("unet/model.safetensors.backup", false),
            ("unet/model.fp16.safetensors", false),
            ("unet/model-1-of-4.safetensors", false),
            ("model.safetensors", false),
        ] {
            assert_eq!(plain.covers(path), covered, "{path}");
        }
        let half = Naming { stem: "model.fp16".into(), variant: Some("fp16".into()), ..plain };
        assert_eq!(half.index(), "unet/model.safetensors.index.fp16.json");
        assert!(half.covers("unet/model.fp16-00001-of-00002.safetensors"));
    }
}
