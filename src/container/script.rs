//! `TorchScript` archives: a torch zip with further pickles, and the classes of its objects as source text.
//!
//! ```text
//! <prefix>/data.pkl, data/<key>                       the module
//! <prefix>/constants.pkl, constants/<key>             tensors that the code uses: CONSTANTS.c0, …
//! <prefix>/traced_inputs.pkl, traced_inputs/<key>     inputs of `torch.jit.trace`
//! <prefix>/bytecode.pkl                               the lite interpreter's code; its tensors are in constants/
//! <prefix>/code/__torch__/a/b.py                      classes `__torch__.a.b.<name>`
//! ```
//!
//! Of the text only the head of each class is read, and never as code:
//!
//! ```text
//! class Linear(Module):
//!   __parameters__ = ["weight", "bias", ]
//!   __buffers__ = []
//! ```
//!
//! Source: `torch/csrc/jit/serialization/{export_module,python_print,pickler}.cpp`.

use std::collections::HashMap;

use crate::bytes::ReadAt;
use crate::limits::{LimitKind, Limits, check};
use crate::tensor::Storage;

use super::error::Error;
use super::storages::{ScriptClass, Storages};
use super::torch_zip::TorchZip;
use super::zip::Archive;

/// The classes of an archive, by their full names.
#[derive(Debug, Default)]
pub struct Classes {
    classes: HashMap<Box<str>, Class>,
    /// Whether there is any source text at all.
    has_code: bool,
}

#[derive(Debug)]
struct Class {
    is_module: bool,
    /// Parameters and buffers.
    members: Vec<Box<str>>,
}

const TRACED_INPUTS: &str = "traced_inputs/";

/// Source text of all classes together. That of the largest models has a few megabytes.
const MOST_TEXT: u64 = 256 << 20;

impl Classes {
    /// Reads the heads of all classes in a folder, which ends in a slash.
    ///
    /// # Errors
    /// Those of reading the members; a limit.
    pub fn read(
        source: &dyn ReadAt,
        archive: &Archive,
        folder: &str,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let mut classes = Self::default();
        let mut total = 0_u64;
        for member in archive.members() {
            let name = member.name.strip_prefix(folder);
            let Some(path) = name.and_then(|name| name.strip_suffix(".py")) else { continue };
            total = total.saturating_add(member.size);
            let allowed = MOST_TEXT.min(limits.inflated_pickle);
            check(LimitKind::InflatedPickle, allowed, total)
                .map_err(|e| Error::new(Some(&member.name), member.header, e))?;
            let text = archive.read(source, member, allowed)?;
            classes.scan(&path.replace('/', "."), &String::from_utf8_lossy(&text));
        }
        Ok(classes)
    }

    /// Takes the heads of the classes of one module.
    fn scan(&mut self, module: &str, text: &str) {
        self.has_code = true;
        let mut current: Option<Class> = None;
        let mut name: Box<str> = "".into();
        for line in text.lines() {
            if let Some(head) = line.strip_prefix("class ") {
                if let Some(class) = current.take() {
                    self.classes.insert(std::mem::take(&mut name), class);
                }
                let head = head.trim_end().trim_end_matches(':');
                let (own, base) = head.split_once('(').unwrap_or((head, ""));
                name = format!("{module}.{own}").into();
                current = Some(Class { is_module: base == "Module)", members: Vec::new() });
            } else if let Some(class) = &mut current
                && let Some((key, list)) = line.trim_start().split_once(" = [")
                && matches!(key, "__parameters__" | "__buffers__")
            {
                class.members.extend(quoted(list));
            }
        }
        self.classes.extend(current.map(|class| (name, class)));
    }

    /// What a class is; `None` where it is none of `TorchScript`.
    pub(super) fn class(&self, module: &str, name: &str) -> Option<ScriptClass<'_>> {
        if module != "__torch__" && !module.starts_with("__torch__.") {
            return None;
        }
        Some(match self.classes.get(format!("{module}.{name}").as_str()) {
            Some(Class { is_module: true, members }) => ScriptClass::Module(members),
            Some(_) => ScriptClass::Plain,
            None if self.has_code => ScriptClass::Plain,
            None => ScriptClass::Unknown,
        })
    }
}

/// The texts in quotes, up to the closing bracket.
fn quoted(list: &str) -> Vec<Box<str>> {
    let mut found = Vec::new();
    let mut text: Option<(char, String)> = None;
    let mut chars = list.chars();
    while let Some(c) = chars.next() {
        match (&mut text, c) {
            (None, ']') => break,
            (None, '"' | '\'') => text = Some((c, String::new())),
            (None, _) => {}
            (Some((_, so_far)), '\\') => so_far.extend(chars.next()),
            (Some((quote, so_far)), c) if c == *quote => {
                found.push(so_far.as_str().into());
                text = None;
            }
            (Some((_, so_far)), c) => so_far.push(c),
        }
    }
    found
}

/// The storages of one of the archive's pickles.
#[derive(Debug, Clone, Copy)]
pub struct ScriptRecords<'a> {
    /// The archive.
    pub torch: &'a TorchZip,
    /// Folder of the records, below the archive's prefix.
    pub folder: &'static str,
    /// The classes of the archive.
    pub classes: &'a Classes,
}

impl Storages for ScriptRecords<'_> {
    fn storage(&self, key: &str, nbytes: u64) -> Result<Storage, Error> {
        self.torch.record(self.folder, key, nbytes)
    }

    /// Torch writes the records of traced inputs empty (2.15; their storages are freed before).
    fn is_without_data(&self, key: &str) -> bool {
        let record = format!("{}{TRACED_INPUTS}{key}", self.torch.prefix());
        let member = self.torch.archive().member(&record);
        self.folder == TRACED_INPUTS && member.is_some_and(|member| member.size == 0)
    }

    fn script_class(&self, module: &str, name: &str) -> Option<ScriptClass<'_>> {
        self.classes.class(module, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_classes_are_read() {
        let mut classes = Classes::default();
        classes.scan(
            "__torch__.a.b",
            "class Net(Module):\n  __parameters__ = [\"w\", \"odd\\\"]\", ]\n  __buffers__ = ['n']\n  w : Tensor\n\
             class Point(NamedTuple):\n  x : int\n",
        );
        let Some(ScriptClass::Module(members)) = classes.class("__torch__.a.b", "Net") else {
            panic!("a module")
        };
        assert_eq!(members.iter().map(|m| &**m).collect::<Vec<_>>(), ["w", "odd\"]", "n"]);
        assert!(matches!(classes.class("__torch__.a.b", "Point"), Some(ScriptClass::Plain)));
        assert!(matches!(classes.class("__torch__.a.b", "Other"), Some(ScriptClass::Plain)));
        assert!(classes.class("os", "system").is_none());
        assert!(matches!(Classes::default().class("__torch__", "Net"), Some(ScriptClass::Unknown)));
    }
}
