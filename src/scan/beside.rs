//! What is not in the file but decides what loading it does: modules beside it that its imports would find, and the
//! shards that an index names.

use std::io;
use std::path::Path;

use crate::bytes::{ReadAt, Span, read_vec};

use super::blob::Blob;
use super::found::Spot;
use super::{Scanner, rules};

/// Endings of files that Python imports.
const MODULES: &[&str] = &[".py", ".pyc", ".so", ".pyd"];
/// Modules that are part of the interpreter and found before any file.
const BUILT_IN: &[&str] =
    &["builtins", "sys", "posix", "nt", "_io", "_codecs", "marshal", "time", "gc", "__main__"];

impl Scanner<'_> {
    /// Looks for files that shadow the modules of the file's globals.
    pub(super) fn siblings(&mut self, folder: &Path) {
        let modules = std::mem::take(&mut self.modules);
        for module in modules.iter().filter(|module| is_name(module) && !BUILT_IN.contains(&module.as_str()))
        {
            let files = MODULES.iter().map(|ending| format!("{module}{ending}"));
            let mut found = files.filter(|name| folder.join(name).is_file());
            let package = || is_package(&folder.join(module)).then(|| format!("{module}/"));
            if let Some(name) = found.next().or_else(package) {
                let message = format!("{name} beside the file would be imported for {module}");
                self.found.add_about(
                    &rules::SHADOWING_MODULE,
                    Spot::default().whole(),
                    message,
                    Some(module),
                );
            }
        }
    }

    /// An index of shards must not lead outside of its folder.
    pub(super) fn index(&mut self, blob: &Blob<'_>) -> io::Result<()> {
        /// The largest indices have a few megabytes.
        const LONGEST: u64 = 64 << 20;
        const KEY: &[u8] = b"\"weight_map\"";
        let size = blob.source.size();
        let mut first = [0];
        blob.source.read_exact_at(&mut first, 0)?;
        if first != *b"{" || size > LONGEST {
            return Ok(());
        }
        let text = read_vec(&**blob.source, Span::between(0, size))?;
        if !text.windows(KEY.len()).any(|window| window == KEY) {
            return Ok(());
        }
        let Ok(index) = serde_json::from_slice::<serde_json::Value>(&text) else { return Ok(()) };
        let shards = index
            .get("weight_map")
            .and_then(serde_json::Value::as_object)
            .into_iter()
            .flat_map(|map| map.values());
        for shard in shards.filter_map(serde_json::Value::as_str).filter(|shard| leads_out(shard)) {
            let message = format!("a shard is {}", shard.escape_debug().take(120).collect::<String>());
            self.found.add(&rules::INDEX_PATH, blob.spot.whole(), message);
        }
        Ok(())
    }
}

fn is_name(module: &str) -> bool {
    !module.is_empty() && module.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// A folder with Python source in it.
fn is_package(folder: &Path) -> bool {
    let is_module = |entry: &std::fs::DirEntry| {
        let name = entry.file_name();
        MODULES.iter().any(|ending| name.to_string_lossy().ends_with(ending))
    };
    std::fs::read_dir(folder)
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| is_module(&entry))))
}

/// Whether a path is absolute, climbs, or is another machine's.
pub(super) fn leads_out(path: &str) -> bool {
    let drive = matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    path.starts_with(['/', '\\'])
        || drive
        || path.contains('\0')
        || path.split(['/', '\\']).any(|part| part == "..")
}
