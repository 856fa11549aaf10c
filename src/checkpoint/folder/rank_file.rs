//! [`RankFile`]: a file of `torch.save` that is one of several, with its tensors and the values beside them.

use std::collections::HashMap;

use crate::accounting::Accounting;
use crate::container::{Archive, Format, TorchZip, detect};
use crate::pickle::NodeId;
use crate::rebuild::Shard;
use crate::tensor::{EntryId, Kind, Leaf, Step, TensorId, Tree};
use crate::values::Values;

use super::super::run::Ran;
use super::super::{Error, OpenOptions, SourceFile, zip};
use super::{Folder, FolderError, Held, Merge, Plain};

/// A file whose tensors are in the merge, and whose objects can be asked for.
pub(in crate::checkpoint) struct RankFile {
    path: Box<str>,
    archive: Box<str>,
    ran: Ran,
    pub(in crate::checkpoint) tree: Tree,
    values: Vec<Values>,
    /// Tensors of which it has parts, where these were asked for.
    pub(in crate::checkpoint) shards: Vec<Shard>,
    /// What each place holds, by the last step to it.
    below: HashMap<(EntryId, Box<str>), EntryId>,
}

impl RankFile {
    /// Opens a file and takes its tensors into the merge.
    ///
    /// # Errors
    /// Those of opening it; another format than torch's archive.
    pub(in crate::checkpoint) fn open(
        folder: &Folder,
        path: &str,
        merge: &mut Merge<'_>,
        options: &OpenOptions,
    ) -> Result<Self, Error> {
        Self::try_open(folder, path, merge, options)
            .map_err(|error| error.inside(&path.escape_debug().to_string()))
    }

    fn try_open(
        folder: &Folder,
        path: &str,
        merge: &mut Merge<'_>,
        options: &OpenOptions,
    ) -> Result<Self, Error> {
        let source = folder.source(path)?;
        if detect(&*source)? != Format::Zip {
            return Err(Error::Unsupported("a file of ranks that is no archive of torch.save"));
        }
        let archive = Archive::open(&*source, &options.limits)?;
        let torch = TorchZip::open(&*source, archive, &options.limits)?;
        let torch = torch.ok_or(Error::Unsupported("a file of ranks without data.pkl"))?;
        let (ran, mut opened) = zip::read(&source, &torch, options)?;
        let file = opened.files.pop().unwrap_or_else(|| SourceFile::new("torch-zip", Accounting::default()));
        let before = merge.tensors.len();
        let shards = std::mem::take(&mut opened.shards).into_iter().map(|shard| shard.after(before));
        let shards = shards.collect();
        let stream = merge.file(source, SourceFile { name: path.into(), ..file });
        let Held { tree, values } = merge.take(opened, (stream, 0), path, "");
        let mut below = HashMap::new();
        for (id, entry) in tree.iter() {
            let Some(parent) = entry.parent.filter(|_| entry.step != Step::Root) else { continue };
            // A second one of the same text, of another type, is out of reach: no writer of ranks has such keys.
            below.entry((parent, entry.step.text().into())).or_insert(id);
        }
        Ok(Self { path: path.into(), archive: torch.prefix().into(), ran, tree, values, shards, below })
    }

    /// The folder in its archive, with a slash.
    pub(in crate::checkpoint) fn archive(&self) -> &str {
        &self.archive
    }

    /// The objects of its pickle.
    pub(in crate::checkpoint) fn plain(&self) -> Plain<'_> {
        Plain { graph: &self.ran.graph }
    }

    /// The outermost object.
    pub(in crate::checkpoint) fn root(&self) -> NodeId {
        self.ran.root
    }

    /// The place at the end of these steps.
    pub(in crate::checkpoint) fn place(&self, path: &[&str]) -> Option<EntryId> {
        let step = |at: EntryId, step: &&str| self.below.get(&(at, (*step).into())).copied();
        path.iter().try_fold(EntryId::ROOT, step)
    }

    /// The tensor at the end of these steps.
    pub(in crate::checkpoint) fn tensor(&self, path: &[&str]) -> Option<TensorId> {
        match self.tree.entry(self.place(path)?)?.kind {
            Kind::Leaf(Leaf::Tensor(tensor)) => Some(tensor),
            _ => None,
        }
    }

    /// What it holds, once its objects were asked.
    pub(in crate::checkpoint) fn into_held(self) -> Held {
        Held { tree: self.tree, values: self.values }
    }

    /// Says that this file has not what it should have.
    pub(in crate::checkpoint) fn lacks(&self, what: &'static str) -> Error {
        FolderError::Lacks { file: self.path.clone(), what }.into()
    }
}
