//! Questions about names, asked of the tables: [`super::data_only`] and [`super::dangerous`].

use super::data_only::{
    ATTRIBUTES, CLASS_MAKERS, CODE_CARRIERS, DATA_ONLY, DATA_ONLY_TEXT, PACKAGE_LOADERS, TYPE_NAMES,
};

use super::enums::ENUMS;

pub(super) use super::dangerous::{is_dangerous, is_harmless_uncalled, is_identifier_path};

fn has(table: &[(&str, &[&str])], module: &str, name: &str) -> bool {
    table.iter().any(|(m, names)| *m == module && names.contains(&name))
}

/// A constructor that only holds data.
pub(super) fn is_data_only(module: &str, name: &str) -> bool {
    let among = |(m, names): &(&str, &str)| *m == module && names.split_ascii_whitespace().any(|n| n == name);
    has(DATA_ONLY, module, name) || DATA_ONLY_TEXT.iter().chain(ENUMS).any(among)
}

/// A function that gives a type of the interpreter by its name.
pub(super) fn names_types(module: &str, name: &str) -> bool {
    has(TYPE_NAMES, module, name)
}

/// A function that makes a class from parts that the pickle carries.
pub(super) fn makes_class(module: &str, name: &str) -> bool {
    has(CLASS_MAKERS, module, name)
}

/// A constructor that calls its second argument, where it has one: numpy/random/_pickle.py.
pub(super) fn calls_second(module: &str, name: &str) -> bool {
    module == "numpy.random._pickle" && matches!(name, "__generator_ctor" | "__randomstate_ctor")
}

/// A function that makes code, or what code is made of, from parts that the pickle carries.
pub(super) fn carries_code(module: &str, name: &str) -> bool {
    is_of_cloudpickle(module) && is_data_only(module, name) || has(CODE_CARRIERS, module, name)
}

/// A module of cloudpickle or dill, or of a copy in another package.
pub(super) fn is_of_cloudpickle(module: &str) -> bool {
    let copies = ["joblib.externals.", "numba.", "ray.", "pyspark.", "srsly."];
    let module = copies.iter().find_map(|copy| module.strip_prefix(copy)).unwrap_or(module);
    matches!(module.split('.').next(), Some("cloudpickle" | "dill"))
}

/// A function that the reader of `torch.package` is told to call, and that makes a module of what the package holds.
pub(super) fn loads_from_package(module: &str, name: &str) -> bool {
    has(PACKAGE_LOADERS, module, name)
}

/// A function that makes an instance of the class in its first argument by `__new__` alone.
pub(super) fn makes_instance(module: &str, name: &str) -> bool {
    module == "copyreg" && matches!(name, "_reconstructor" | "__newobj__" | "__newobj_ex__")
}

/// An attribute of a class that only holds what it is called with.
pub(super) fn is_known_attribute(module: &str, class: &str, attribute: &str) -> bool {
    ATTRIBUTES.contains(&(module, class, attribute))
}
