//! Folders in the layouts of Hugging Face's libraries: which of their files are weights, and which belong together.
//!
//! ```text
//! pytorch_model.bin                                       one file
//! pytorch_model.bin.index.json, pytorch_model-0000i-of-0000N.bin      shards and their index
//! pytorch_model.fp16.bin, pytorch_model.bin.index.fp16.json           the same of a variant
//! unet/diffusion_pytorch_model.bin, model_index.json      a pipeline of diffusers: each folder a model
//! adapter_model.bin                                       an adapter of PEFT
//! ```
//!
//! Defined by [transformers](https://github.com/huggingface/transformers/blob/main/src/transformers/utils/__init__.py),
//! diffusers and PEFT, which look for these names and for no others. Nothing but the index is read here.

mod error;
mod index;
mod list;
mod names;

use std::path::{Path, PathBuf};

pub use error::Error;
pub use index::{Index, index_file};
pub use names::{is_own, is_training_state};

use self::list::{Found, Listed, list};
use self::names::{Role, role, stock};

/// A folder in such a layout.
#[derive(Debug)]
pub struct Repository {
    /// The folder.
    pub root: PathBuf,
    /// Its models, in the order of their names.
    pub sets: Vec<WeightSet>,
    /// Files that a converted copy needs too, relative to the folder: configs, vocabularies, text. What they hold is not
    /// checked yet.
    pub others: Vec<String>,
    /// Files that are neither, and why.
    pub left_out: Vec<(String, &'static str)>,
}

/// The files of one model.
#[derive(Debug)]
pub struct WeightSet {
    /// The folder that they stand in, relative to the repository: empty, or ending in a slash.
    pub folder: String,
    /// Name of the files up to shard number and suffix, with the variant: `pytorch_model.fp16`.
    pub stem: String,
    /// The variant: `fp16`.
    pub variant: Option<String>,
    /// Paths relative to the repository, in order.
    pub shards: Vec<String>,
    /// What their index says, where there is one.
    pub index: Option<Index>,
}

impl WeightSet {
    /// Whether the model is in shards, also if there is only one.
    pub fn is_sharded(&self) -> bool {
        self.index.is_some() || self.shards.len() > 1
    }
}

/// The folders whose weights a loader takes, pickled or in safetensors: relative to `root`, empty or ending in a slash. Those
/// below count in a pipeline, or where there are none in `root` itself.
///
/// # Errors
/// Those of listing it.
pub fn folders(root: &Path) -> std::io::Result<Vec<String>> {
    let listed = list(root)?;
    let is_weights = |file: &&Listed| {
        matches!(role(file.name()), Role::Weights(_) | Role::Index(_)) || stock(file.name()).is_some()
    };
    let mut folders: Vec<String> =
        listed.iter().filter(is_weights).map(|file| file.folder().to_owned()).collect();
    folders.dedup();
    if folders.iter().any(String::is_empty) && !is_pipeline(&listed) {
        folders.retain(String::is_empty);
    }
    folders.sort();
    folders.dedup();
    Ok(folders)
}

/// Whether a file of weights in safetensors is a variant, such as `fp16`.
pub fn is_variant(name: &str) -> bool {
    stock(name).is_some_and(|name| name.variant.is_some())
}

fn is_pipeline(listed: &[Listed]) -> bool {
    listed.iter().any(|file| matches!(&*file.path, "model_index.json" | "modules.json"))
}

/// Whether a folder is one: it holds weights under these names itself, or is a pipeline whose folders do.
///
/// # Errors
/// Those of listing it.
pub fn is_here(root: &Path) -> std::io::Result<bool> {
    let listed = list(root)?;
    let weights = |below: bool| {
        listed.iter().any(|file| {
            matches!(role(file.name()), Role::Weights(_) | Role::Index(_))
                && (below || file.folder().is_empty())
        })
    };
    Ok(weights(is_pipeline(&listed)))
}

/// Sorts the files of a folder and checks that shards and index fit together.
///
/// # Errors
/// A shard that is missing, doubled or of another set; an index that is none or leads out of the folder; a link that does.
pub fn open(root: &Path) -> Result<Repository, Error> {
    let mut repository =
        Repository { root: root.to_owned(), sets: Vec::new(), others: Vec::new(), left_out: Vec::new() };
    let mut sets = list::Sets::default();
    let listed = list(root)?;
    for file in &listed {
        match (&file.found, role(file.name())) {
            (_, Role::Own) => {}
            (Found::Outside, Role::Weights(_) | Role::Index(_)) => {
                return Err(Error::Link { path: file.path.clone() });
            }
            (Found::Outside, _) => {
                repository.left_out.push((file.path.clone(), "a link that leads out of the folder"));
            }
            (Found::File, Role::Weights(name)) => sets.add(file, name),
            (Found::File, Role::Index(name)) => {
                sets.add_index(file, name);
                repository.left_out.push((file.path.clone(), "an index of pickles; a new one is written"));
            }
            (Found::File, Role::LeftOut(reason)) => repository.left_out.push((file.path.clone(), reason)),
            (Found::File, Role::Other) => repository.others.push(file.path.clone()),
        }
    }
    repository.sets = sets.finish(root)?;
    Ok(repository)
}

/// What a file in this folder is called from the repository.
fn below(folder: &str, name: &str) -> String {
    format!("{folder}{name}")
}

impl Listed {
    /// Its name in its folder.
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Its folder, empty or ending in a slash.
    fn folder(&self) -> &str {
        self.path.get(..self.path.len().saturating_sub(self.name().len())).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
