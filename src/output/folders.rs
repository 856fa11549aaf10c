//! [`Folders`]: a run that fails leaves no folder behind that it made for nothing.

use std::io;
use std::path::{Path, PathBuf};

/// Folders that were made for an output. Those that stay empty are removed again.
#[derive(Debug, Default)]
pub struct Folders(Vec<PathBuf>);

impl Folders {
    /// Makes a folder and those that lead to it, where they are not there.
    ///
    /// # Errors
    /// Those of making them.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let missing = folder.ancestors().filter(|path| !path.as_os_str().is_empty());
        let missing: Vec<PathBuf> = missing.take_while(|path| !path.exists()).map(Path::to_owned).collect();
        if !missing.is_empty() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(Self(missing))
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        for folder in &self.0 {
            // Fails where something was written, as it should.
            if std::fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_stay_empty_are_removed_again() {
        let place = tempfile::tempdir().unwrap();
        let deep = place.path().join("x/y/z");
        drop(Folders::create(&deep).unwrap());
        assert!(place.path().is_dir() && !place.path().join("x").exists());
        let folders = Folders::create(&deep).unwrap();
        std::fs::write(place.path().join("x/file"), "").unwrap();
        drop(folders);
        assert!(place.path().join("x/file").is_file() && !place.path().join("x/y").exists());
        drop(Folders::create(&place.path().join("x")).unwrap());
        assert!(place.path().join("x").is_dir());
        assert!(Folders::create(&place.path().join("x/file/y")).is_err());
    }
}
