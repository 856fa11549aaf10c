//! The rules: what a scan can find, how bad it is, and what it means. Each finding cites one.

use crate::report::Severity;

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Stable name.
    pub id: &'static str,
    /// How bad a finding of it is.
    pub severity: Severity,
    /// What it is, in a few words.
    pub title: &'static str,
    /// What it means, and what to do.
    pub help: &'static str,
}

macro_rules! rules {
    ($($name:ident $id:literal $severity:ident $title:literal $help:literal;)*) => {
        $(
            #[doc = $title]
            pub(super) const $name: Rule =
                Rule { id: $id, severity: Severity::$severity, title: $title, help: $help };
        )*

        /// Every rule, in the order of `docs/scan.md`.
        pub const RULES: &[Rule] = &[$($name),*];
    };
}

rules! {
    // What the pickle would do.
    DANGEROUS_CALL "dangerous-call" Dangerous
        "call of something that can run code, resolve names, or reach files, the network or imports"
        "Loading the file in Python makes this call. Do not load it; ask its author for safetensors.";
    COMPUTED_CALL "computed-call" Dangerous
        "call of something that is no plain name"
        "What is called is the result of another call, or what the loader makes of an id, so that no list of names can know it. No honest checkpoint does this.";
    DANGEROUS_NAME "dangerous-name" Dangerous
        "reference to something that can run code, resolve names, or reach files, the network or imports"
        "The name is imported when the file is loaded, and can be called by what uses the object. No honest checkpoint refers to it.";
    COMPUTED_NAME "computed-name" Dangerous
        "name that is computed while the pickle is loaded"
        "The name of an import comes out of a call, so that it cannot be known without running the file.";
    UNKNOWN_CALL "unknown-call" Suspicious
        "call of something that is in no table"
        "Loading the file calls this. It may be harmless, or a gadget that nobody has listed yet. Read what it does before you load the file; depickle convert --inert keeps it as data.";
    CODE_BY_VALUE "code-by-value" Suspicious
        "code that the file carries"
        "cloudpickle, dill and the like write functions and classes into the file. They are not called while the file is loaded, but by whatever uses the object.";
    IMPORT_ONLY "import-only" Suspicious
        "import whose name is not used for anything"
        "The name is neither called nor part of what is loaded, or it is all that is loaded: the import is its only effect, and importing a module runs it.";
    HARMFUL_ARGUMENTS "harmful-arguments" Suspicious
        "call that takes memory out of proportion"
        "The callable is harmless, its arguments are not: the call takes gigabytes for a few bytes of the file.";
    HONEST_FORM "honest-form" Note
        "risky call in a form that honest files have"
        "A call that can do harm in other forms, here with arguments that do none, and whose result nothing calls.";
    CHANGED_NAME "changed-name" Suspicious
        "attributes or items are set on a class or function"
        "Python sets them on the class or function itself, for the whole process. No honest file does this.";
    EXTENSION "extension-registry" Suspicious
        "name from the extension registry"
        "The number stands for a name in a registry of the loading process, so that the file cannot be judged by itself.";
    PERSISTENT_ID "persistent-id" Suspicious
        "persistent id in a file whose format has none"
        "The loader decides what the id stands for, so that the file cannot be judged by itself.";
    NESTED_PICKLE "nested-pickle" Suspicious
        "pickle inside a string of the pickle"
        "A string, perhaps in base64 or hexadecimal, decodes to a pickle that would do more than hold data. Something has to load it, but nothing honest needs it there.";
    // How it is written.
    AMBIGUOUS_PICKLE "ambiguous-pickle" Suspicious
        "pickle that readers take differently"
        "Python's two unpicklers, its versions or other readers disagree about these opcodes, so that a checker may see another file than a loader. No honest pickler writes them.";
    ODD_PICKLE "odd-pickle" Note
        "opcodes that no pickler writes"
        "Python ignores them. They are harmless, and the mark of a file that was made by hand.";
    PICKLE_BOMB "pickle-bomb" Suspicious
        "pickle that is made to exhaust its reader"
        "A few bytes of the file become objects out of all proportion, by nesting, by doubling or by numbers.";
    BROKEN_PICKLE "broken-pickle" Note
        "pickle that breaks off"
        "What stands before the break has run by the time a loader meets it, and is judged. The file is damaged, or made to mislead checkers, and is not called clean.";
    STACKED_PICKLE "stacked-pickle" Note
        "further pickle behind the first"
        "Programs that load several objects from one file write these; a loader of one object ignores them. Each is judged like the first.";
    PADDING "padding-after-stop" Note
        "white space or zeros behind a pickle"
        "Loaders ignore them.";
    DATA_AFTER_STOP "data-after-stop" Suspicious
        "data behind the end of a pickle"
        "Loaders ignore it, and nothing that saves a checkpoint writes it.";
    // Archives and other containers.
    ARCHIVE_READINGS "archive-readings" Suspicious
        "archive that readers take differently"
        "Directory, local headers and end records do not say the same, or a name occurs twice, so that a checker may see another file than a loader. Every reading of it is scanned.";
    UNSAFE_MEMBER "unsafe-member" Suspicious
        "member whose name or kind leads outside of the archive"
        "A path that climbs, an absolute path, or a link: unpacking it may write anywhere.";
    HIDDEN_MEMBER "hidden-member" Suspicious
        "member that the directory does not list"
        "Readers that go by the directory do not see it, readers that walk the headers do.";
    STRAY_BYTES "stray-bytes" Suspicious
        "bytes in an archive where none belong"
        "A gap between members, a comment, an extra field, or what stands before the first or behind the last: loaders do not read it, and writers do not fill it.";
    UNKNOWN_MEMBER "unknown-member" Suspicious
        "member that a checkpoint of torch does not have"
        "It is no pickle, no storage and no record of torch. Its content is scanned like a file of its own.";
    TRAILING_DATA "trailing-data" Suspicious
        "data behind the end of the format"
        "Loaders do not read it, and writers do not write it.";
    PACKAGE_CODE "package-code" Suspicious
        "source text that its loader runs"
        "torch.package imports the Python modules in the archive when an object is loaded from it.";
    // What lies in data.
    EMBEDDED_PICKLE "embedded-pickle" Suspicious
        "pickle where there should be none"
        "Bytes that belong to no pickle decode to one, to its end and with names in it.";
    SIGNATURE "embedded-signature" Suspicious
        "executable, archive or script where there should be none"
        "Bytes that should be weights or padding begin with the header of another format, whose fields hold together.";
    UNSHOWN_STORAGE "unshown-storage" Note
        "storage that no tensor shows"
        "Slices of larger tensors leave such bytes. They are not carried over by a conversion; their first bytes (all with --deep) are searched.";
    BOOL_VALUES "bool-values" Suspicious
        "booleans that are neither 0 nor 1"
        "No library writes them. Data can be hidden in them, and readers take them differently.";
    TENSOR_NAME "tensor-name" Suspicious
        "name of a tensor that means something else"
        "It holds control or bidirectional characters, or is a key that safetensors reserves.";
    // Beside the file.
    INDEX_PATH "index-path" Suspicious
        "index of shards that leads outside of its folder"
        "The loader would open that file.";
    SHADOWING_MODULE "shadowing-module" Suspicious
        "file beside the checkpoint that its imports would find"
        "If Python is started in this folder, the file is imported in the place of the module of that name, and what it says runs.";
    // What is not known.
    BROKEN_CHECKPOINT "broken-checkpoint" Note
        "checkpoint that its library could not load"
        "A storage is missing or too short, a view leaves its storage, or a call has arguments that its library refuses. It is not known what the file would be.";
    BROKEN_CONTAINER "broken-container" Note
        "container that is damaged"
        "What can be read of it is scanned. It is not known what the rest would be.";
    LIMIT "limit-met" Note
        "limit met"
        "The rest was not looked at, so that the file is not called clean.";
    UNSUPPORTED "unsupported-format" Note
        "format that is not read"
        "It may hold anything. Unpack it first.";
}

/// The rule of an id.
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_different_and_plain() {
        for (i, rule) in RULES.iter().enumerate() {
            assert!(rule.id.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", rule.id);
            assert!(RULES[..i].iter().all(|other| other.id != rule.id), "{}", rule.id);
        }
    }
}
