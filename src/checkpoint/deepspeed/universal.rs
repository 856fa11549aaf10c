//! Universal checkpoints, which `ds_to_universal.py` makes of others: each trained parameter whole, in files of its own.
//!
//! ```text
//! latest_universal                                     the name of the folder
//! global_step2_universal/zero/NAME/fp32.pt             {"param": the master weights}; alone and flat where the save was of stage 3
//! global_step2_universal/zero/NAME/exp_avg.pt, …       state of the optimizer
//! global_step2_universal/mp_rank_00_model_states.pt    as in the checkpoint that it was made of
//! ```
//!
//! The parameters are those that the model states name. Of all other tensors of the module there are copies in `fp32.pt`, which
//! are not needed: the model states hold them. Source: `deepspeed/checkpoint/ds_to_universal.py`.

use std::collections::HashMap;

use crate::tensor::TensorId;

use super::super::folder::{Folder, FolderError, Merge, RankFile};
use super::super::{Error, OpenOptions};
use super::states::{ModelStates, Shaped};

pub(super) const LATEST: &str = "latest_universal";
const WEIGHTS: &str = "/fp32.pt";
const NEEDS_MODEL: Error = Error::Unsupported(
    "a universal checkpoint of pipeline stages or several tensor-parallel ranks (load it with one of each, and save that)",
);

/// The master weights of every trained parameter.
pub(super) struct Universal {
    below: String,
    parameters: HashMap<Box<str>, TensorId>,
    /// Whether its model states are one file a rank, as those of stage 3.
    pub(super) is_sharded: bool,
}

/// Whether the folder of a save is one; it is empty or ends in a slash.
pub(super) fn is_at(folder: &Folder, below: &str) -> bool {
    names(folder, below).next().is_some()
}

/// Names of tensors that have files of their own.
fn names<'a>(folder: &'a Folder, below: &str) -> impl Iterator<Item = &'a str> {
    let zero = format!("{below}zero/");
    folder.files().filter_map(move |path| path.strip_prefix(&*zero)?.strip_suffix(WEIGHTS))
}

impl Universal {
    /// Opens the files of all parameters that the model states name.
    pub(super) fn read(
        folder: &Folder,
        below: &str,
        models: &[ModelStates],
        is_sharded: bool,
        merge: &mut Merge<'_>,
        options: &OpenOptions,
    ) -> Result<Self, Error> {
        let first = models.first().filter(|first| !first.groups.is_empty()).ok_or(NEEDS_MODEL)?;
        if models.len() > 1 && !is_sharded {
            return Err(NEEDS_MODEL);
        }
        let mut parameters = HashMap::new();
        for (name, _) in first.groups.iter().flatten() {
            let path = format!("{below}zero/{name}{WEIGHTS}");
            let file = RankFile::open(folder, &path, merge, options)?;
            let tensor = file.tensor(&["param"]).or_else(|| file.tensor(&[]));
            parameters.insert(name.clone(), tensor.ok_or_else(|| file.lacks("param"))?);
            merge.keep_beside(file.into_held());
        }
        let known = |name: &str| {
            let named = |(other, _): &(Box<str>, TensorId)| **other == *name;
            parameters.contains_key(name) || first.module.iter().any(named)
        };
        for name in names(folder, below).filter(|name| !known(name)) {
            let path = format!("{below}zero/{name}{WEIGHTS}");
            merge.strays.push(format!("{}: no part of the checkpoint", path.escape_debug()));
        }
        Ok(Self { below: below.to_owned(), parameters, is_sharded })
    }

    /// Every trained parameter in its shape.
    pub(super) fn parameters(
        &self,
        groups: &[Vec<Shaped>],
        merge: &mut Merge<'_>,
    ) -> Result<Vec<(Box<str>, TensorId)>, Error> {
        let mut parameters = Vec::with_capacity(self.parameters.len());
        for (name, shape) in groups.iter().flatten() {
            let missing = || FolderError::missing(&format!("{}zero/{name}{WEIGHTS}", self.below));
            let of = *self.parameters.get(name).ok_or_else(missing)?;
            let view = merge.tensors.get(of.index()).map(|tensor| tensor.view.clone()).ok_or_else(missing)?;
            let elements = shape.iter().try_fold(1_u64, |n, size| n.checked_mul(*size));
            let is_flat = view.rank() == 1 && elements == Some(view.elements());
            let whole = if *view.shape() == **shape {
                of
            } else if is_flat {
                let run = merge.run(name, of, 0, view.elements())?;
                merge.join(name, shape, "param", vec![run])?
            } else {
                let (found, dtype) = (view.shape().into(), view.dtype());
                let (name, expected) = (name.clone(), shape.clone());
                return Err(FolderError::Part { name, found, dtype, expected, wanted: dtype }.into());
            };
            parameters.push((name.clone(), whole));
        }
        Ok(parameters)
    }
}
