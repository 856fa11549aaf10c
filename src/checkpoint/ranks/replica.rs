//! [`Replica`]: what two ranks have of one thing, which has to be the same.

use std::collections::HashSet;

use crate::bytes::{ReadAt as _, Span, read_vec};
use crate::tensor::{TensorId, View};

use super::super::folder::{FolderError, bytes_of};
use super::super::{Error, Opened};

/// Two views of the same elements, by different ranks.
#[derive(Debug)]
pub(in crate::checkpoint) struct Replica {
    /// The tensor that it belongs to.
    pub(in crate::checkpoint) of: TensorId,
    pub(in crate::checkpoint) name: Box<str>,
    /// The view that is taken, and its file.
    pub(in crate::checkpoint) kept: (usize, View),
    /// What has to be the same.
    pub(in crate::checkpoint) other: (usize, View),
}

impl Opened {
    /// Compares what several ranks have of the tensors that show these views, byte by byte.
    ///
    /// # Errors
    /// The first that is not the same; a file that cannot be read.
    pub fn check_replicas<'a>(&self, wanted: impl Iterator<Item = &'a View>) -> Result<(), Error> {
        let wanted: HashSet<&View> = wanted.collect();
        let is_wanted = |replica: &&Replica| {
            self.tensors.get(replica.of.index()).is_some_and(|tensor| wanted.contains(&tensor.view))
        };
        self.replicas.iter().filter(is_wanted).try_for_each(|replica| self.check_replica(replica))
    }

    fn check_replica(&self, replica: &Replica) -> Result<(), Error> {
        /// Bytes compared at a time.
        const BLOCK: u64 = 1 << 20;
        let bytes = |(_, view): &(usize, View)| {
            let no_tensor = || FolderError::NoTensor { name: replica.name.clone() };
            bytes_of(&self.streams, &self.storages, view).ok_or_else(no_tensor)
        };
        let form = |(_, view): &(usize, View)| (view.dtype(), view.shape().to_vec());
        let mut what = (form(&replica.kept) != form(&replica.other)).then_some("its type or shape");
        if what.is_none() {
            let (kept, other) = (bytes(&replica.kept)?, bytes(&replica.other)?);
            let mut at = 0;
            while what.is_none() && at < kept.size() {
                let block = Span::between(at, at.saturating_add(BLOCK).min(kept.size()));
                let same = read_vec(&*kept, block)? == read_vec(&*other, block)?;
                what = (!same).then_some("its data");
                at = block.end();
            }
        }
        let Some(what) = what else { return Ok(()) };
        let file =
            |(file, _): &(usize, View)| self.files.get(*file).map_or("".into(), |file| file.name.clone());
        let (first, second) = (file(&replica.kept), file(&replica.other));
        Err(FolderError::Copies { name: replica.name.clone(), what, first, second }.into())
    }
}
