//! Questions about names, asked of the tables: [`super::data_only`] and [`super::dangerous`].

use super::data_only::{ATTRIBUTES, CLASS_MAKERS, DATA_ONLY, PACKAGE_LOADERS, TYPE_NAMES};

pub(super) use super::dangerous::is_dangerous;

fn has(table: &[(&str, &[&str])], module: &str, name: &str) -> bool {
    table.iter().any(|(m, names)| *m == module && names.contains(&name))
}

/// A constructor that only holds data.
pub(super) fn is_data_only(module: &str, name: &str) -> bool {
    has(DATA_ONLY, module, name)
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
    // Copies of cloudpickle in other packages.
    let copies = ["joblib.externals.", "ray.", "pyspark.", "srsly."];
    let module = copies.iter().find_map(|copy| module.strip_prefix(copy)).unwrap_or(module);
    let top = module.split('.').next();
    matches!(top, Some("cloudpickle" | "dill")) && is_data_only(module, name)
        || (module, name) == ("torch_utils.persistence", "_reconstruct_persistent_obj")
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
