//! Which manifest is meant by a path.

use std::path::{Path, PathBuf};

use super::manifest::OutputRecord;

/// The name of the manifest of a folder whose conversion is one checkpoint.
pub(super) const FOLDER: &str = "manifest.json";

/// The manifest that belongs to an output: `<stem>.manifest.json` beside it.
pub fn manifest_name(output: &Path) -> PathBuf {
    let name = output.file_name().map(std::ffi::OsStr::to_string_lossy).unwrap_or_default();
    let stem = name.strip_suffix(".safetensors").unwrap_or(&name);
    output.with_file_name(format!("{stem}.manifest.json"))
}

/// The manifest that is meant by a path: itself, that of a folder, or that of an output, which stands beside it or in a folder
/// above that lists it.
pub fn find_manifest(path: &Path) -> Option<PathBuf> {
    let found = match () {
        () if path.is_dir() => manifest_in(path)?,
        () if path.extension().is_some_and(|suffix| suffix == "safetensors") => {
            let candidates = [manifest_name(path), path.with_file_name(FOLDER)];
            let beside = candidates.into_iter().find(|candidate| candidate.is_file());
            beside.or_else(|| manifest_above(path))?
        }
        () => path.to_owned(),
    };
    found.is_file().then_some(found)
}

/// The manifest of a folder: `manifest.json`, or the only one of an output.
fn manifest_in(folder: &Path) -> Option<PathBuf> {
    let whole = folder.join(FOLDER);
    if whole.is_file() {
        return Some(whole);
    }
    let names =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut own = names.filter(|name| name.ends_with(".manifest.json"));
    let one = own.next()?;
    own.next().is_none().then(|| folder.join(one))
}

/// The manifest of a folder above that an output stands in, as the models of a pipeline do. Many things are called so: only one
/// that lists the output is meant.
fn manifest_above(output: &Path) -> Option<PathBuf> {
    /// Layouts have one folder between the two.
    const MOST: usize = 8;
    let there = output.canonicalize().ok()?;
    let mut folder = output.parent()?.to_owned();
    let above = there.ancestors().skip(2).take(MOST);
    above.into_iter().find_map(|ancestor| {
        folder = parent(&folder);
        let name = there.strip_prefix(ancestor).ok()?.components().map(|part| part.as_os_str().to_str());
        let name = name.collect::<Option<Vec<&str>>>()?.join("/");
        let manifest = folder.join(FOLDER);
        lists(&manifest, &name).then_some(manifest)
    })
}

/// The folder above, as it is written from where the other one is.
fn parent(folder: &Path) -> PathBuf {
    match folder.parent() {
        Some(parent) if !folder.ends_with("..") => parent.to_owned(),
        _ => folder.join(".."),
    }
}

fn lists(manifest: &Path, output: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Outputs {
        outputs: Vec<OutputRecord>,
    }
    let bytes = std::fs::read(manifest).ok();
    let outputs = bytes.and_then(|bytes| serde_json::from_slice::<Outputs>(&bytes).ok());
    outputs.is_some_and(|known| known.outputs.iter().any(|known| known.path == output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_stands_beside_its_output() {
        assert_eq!(manifest_name(Path::new("d/model.safetensors")), Path::new("d/model.manifest.json"));
    }

    #[test]
    fn folders_above_are_named_from_where_one_is() {
        for (folder, above) in [("a/b", "a"), ("a", ""), ("", ".."), ("..", "../.."), ("/a", "/")] {
            assert_eq!(parent(Path::new(folder)), Path::new(above), "{folder}");
        }
    }
}
