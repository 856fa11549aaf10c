//! The folders of paths, by names under which they can be opened.

use std::path::Path;

/// The folder that a file lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().map_or(Path::new("."), or_current)
}

/// A folder by which it can be opened: the current one where the path is empty.
pub(crate) fn or_current(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}
