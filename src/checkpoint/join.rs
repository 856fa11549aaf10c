//! Joining several sources into one: their files, streams, storages, tensors and trees.

use crate::tensor::{EntryId, Kind, Step};

use super::Opened;
use super::graft;

impl Opened {
    /// Adds the files of a further source. Its places come below the root: all of it at this step, or each child of its
    /// root beside the children that the root has already.
    ///
    /// Two children of one name then stand side by side; whoever joins says whether that is an error.
    pub fn join(&mut self, further: Self, at: Option<&Step>) {
        let Self { files, strays, library, streams, mut storages, tensors, tree, values, parts, .. } =
            further;
        let (before_files, before_storages) = (self.files.len(), self.storages.len());
        let depth = usize::from(at.is_some());
        self.files.extend(files.into_iter().map(|mut file| {
            file.depth = file.depth.saturating_add(depth);
            file.stream = self.streams.after(file.stream);
            file
        }));
        let values = values
            .into_iter()
            .map(|values| values.after(before_files, |id, span| (self.streams.after(id), span)));
        let values: Vec<_> = values.collect();
        self.strays.extend(strays);
        self.library = self.library.or(library);
        self.streams.join(streams, &mut storages);
        self.storages.extend(storages);
        let before_tensors = self.tensors.len();
        self.tensors.extend(tensors.into_iter().map(|tensor| tensor.moved(before_storages)));
        let ids = graft::tree(&mut self.tree, &tree, before_tensors, Kind::Mapping, |entry| {
            match (&entry.step, entry.parent) {
                (_, None) => at.cloned(),
                (step, Some(_)) => Some(step.clone()),
            }
        });
        self.values.extend(values.into_iter().map(|values| values.moved(&ids)));
        // Where the two roots are one, what is below the second begins right after it.
        self.parts.extend(parts.into_iter().filter_map(|(first, file)| {
            let below = if at.is_none() && first == EntryId::ROOT { 1 } else { first.index() };
            Some((*ids.get(below)?, file.saturating_add(before_files)))
        }));
    }
}
