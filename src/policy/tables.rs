//! What is known of names: which can hurt. Those that only hold data are in [`super::data_only`].

use super::data_only::{CLASS_MAKERS, DATA_ONLY, PACKAGE_LOADERS, TYPE_NAMES};

/// Top-level modules of which no name is harmless.
const DANGEROUS_MODULES: &[&str] = &[
    // Processes, files, the interpreter.
    "os",
    "posix",
    "nt",
    "posixpath",
    "ntpath",
    "sys",
    "_sys",
    "subprocess",
    "_posixsubprocess",
    "pty",
    "tty",
    "commands",
    "popen2",
    "runpy",
    "code",
    "codeop",
    "pdb",
    "bdb",
    "cProfile",
    "profile",
    "trace",
    "timeit",
    "doctest",
    "atexit",
    "gc",
    "resource",
    "faulthandler",
    "signal",
    "_signal",
    "site",
    "sitecustomize",
    "sysconfig",
    "venv",
    "ensurepip",
    "pip",
    "setuptools",
    "distutils",
    "_distutils_hack",
    "pkg_resources",
    "platform",
    "tempfile",
    "fileinput",
    "glob",
    "linecache",
    "mailcap",
    "cgitb",
    "webbrowser",
    "antigravity",
    "this",
    "idlelib",
    "lib2to3",
    "turtle",
    "tkinter",
    "_tkinter",
    "crypt",
    "curses",
    "readline",
    "rlcompleter",
    "cmd",
    "optparse",
    "getpass",
    "sched",
    "syslog",
    "winreg",
    "_winreg",
    "msvcrt",
    "_winapi",
    "winsound",
    "nturl2path",
    // Loading code and data.
    "pickle",
    "_pickle",
    "cPickle",
    "pickletools",
    "marshal",
    "shelve",
    "dbm",
    "ctypes",
    "_ctypes",
    "cffi",
    "_cffi_backend",
    "importlib",
    "_frozen_importlib",
    "_frozen_importlib_external",
    "_imp",
    "imp",
    "zipimport",
    "pkgutil",
    "modulefinder",
    "pydoc",
    "inspect",
    "types",
    "_xxsubinterpreters",
    "_interpreters",
    "_testcapi",
    "_testinternalcapi",
    "test",
    "dill.session",
    "jsonpickle",
    "yaml",
    "ruamel",
    "jinja2",
    "mako",
    "IPython",
    "ipykernel",
    "pytest",
    "_pytest",
    "nose",
    "unittest",
    "mlflow",
    "numexpr",
    "bentoml",
    "hydra",
    "fire",
    "invoke",
    "fabric",
    "paramiko",
    "sh",
    "pexpect",
    // Resolving and combining callables.
    "operator",
    "_operator",
    "functools",
    "_functools",
    "itertools",
    "dataclasses",
    "_bootlocale",
    // Concurrency.
    "threading",
    "_thread",
    "multiprocessing",
    "_multiprocessing",
    "concurrent",
    "asyncio",
    "_asyncio",
    "queue",
    // The network.
    "socket",
    "_socket",
    "socketserver",
    "ssl",
    "_ssl",
    "http",
    "urllib",
    "urllib2",
    "urllib3",
    "requests",
    "httpx",
    "aiohttp",
    "ftplib",
    "smtplib",
    "poplib",
    "imaplib",
    "nntplib",
    "telnetlib",
    "xmlrpc",
    "xdrlib",
    "select",
    "selectors",
    "sqlite3",
    "_sqlite3",
    "smtpd",
    "huggingface_hub",
    "boto3",
    "botocore",
    "gdown",
    "wget",
];

/// Modules below a harmless one, of which no name is harmless.
const DANGEROUS_SUBMODULES: &[&str] = &[
    "logging.config",
    "torch.hub",
    "torch.jit",
    "torch.ops",
    "torch._ops",
    "torch.utils.cpp_extension",
    "torch.utils.bottleneck",
    "torch.utils.collect_env",
    "torch.utils.model_zoo",
    "torch.utils.data.datapipes",
    "torch.utils.data._utils",
    "torch.utils._config_module",
    "torch._inductor",
    "torch._dynamo",
    "torch._C",
    "torch.package",
    "torch.fx",
    "torch.distributed.elastic",
    "torch.distributed.run",
    "torch.distributed.launch",
    "torch.distributed.rpc",
    "torch.multiprocessing",
    "torch.testing",
    "torch._lazy",
    "torch._export",
    "torch.export",
    "torch.library",
    "numpy.testing",
    "numpy.f2py",
    "numpy.distutils",
    "numpy.ctypeslib",
    "numpy.lib.npyio",
    "numpy.lib._npyio_impl",
    "pandas.io",
    "pandas.core.computation",
    "scipy.io",
    "scipy.weave",
    "joblib.numpy_pickle_utils",
    "sklearn.externals.joblib",
    "transformers.utils.hub",
    "transformers.dynamic_module_utils",
    "tensorflow.io",
    "tensorflow.python",
    "keras",
    "cgi",
    "xml.sax",
    "email.mime",
    "wsgiref",
    "nltk",
];

/// Modules below a dangerous one that hold mathematical functions alone.
const HARMLESS_SUBMODULES: &[&str] =
    &["torch._C._nn", "torch._C._special", "torch._C._fft", "torch._C._linalg"];

/// Names that are dangerous in a module of which others are harmless.
const DANGEROUS_NAMES: &[(&str, &[&str])] = &[
    (
        "builtins",
        &[
            "eval",
            "exec",
            "execfile",
            "compile",
            "open",
            "file",
            "input",
            "raw_input",
            "__import__",
            "__build_class__",
            "getattr",
            "setattr",
            "delattr",
            "hasattr",
            "globals",
            "locals",
            "vars",
            "dir",
            "map",
            "filter",
            "apply",
            "reduce",
            "reload",
            "memoryview",
            "type",
            "super",
            "property",
            "classmethod",
            "staticmethod",
            "breakpoint",
            "help",
            "exit",
            "quit",
            "copyright",
            "credits",
            "license",
            "print",
            "callable",
            "iter",
            "next",
            "zip",
            "sorted",
            "min",
            "max",
            "sum",
            "any",
            "all",
            "id",
            "buffer",
            "intern",
            "coerce",
            "__loader__",
            "__spec__",
        ],
    ),
    ("io", &["open", "open_code", "FileIO", "OpenWrapper", "TextIOWrapper"]),
    ("_io", &["open", "open_code", "FileIO", "TextIOWrapper"]),
    ("_pyio", &["open", "open_code", "FileIO", "TextIOWrapper"]),
    ("codecs", &["open", "EncodedFile"]),
    ("copyreg", &["add_extension", "remove_extension", "pickle", "constructor"]),
    ("collections", &["namedtuple"]),
    (
        "shutil",
        &[
            "rmtree",
            "move",
            "copy",
            "copy2",
            "copyfile",
            "copytree",
            "chown",
            "make_archive",
            "unpack_archive",
        ],
    ),
    ("logging", &["FileHandler", "basicConfig"]),
    ("torch", &["load", "save", "classes", "compile", "_C", "ops", "hub", "jit"]),
    ("torch.serialization", &["load", "save", "_load", "_legacy_load", "add_safe_globals"]),
    (
        "numpy",
        &[
            "load",
            "loads",
            "save",
            "fromfile",
            "memmap",
            "genfromtxt",
            "loadtxt",
            "savetxt",
            "fromregex",
            "fromstring",
        ],
    ),
    ("pandas", &["read_pickle", "read_csv", "read_sql", "read_html", "read_json", "eval"]),
    ("joblib", &["load", "dump", "Parallel"]),
    ("joblib.numpy_pickle", &["load", "dump", "NumpyUnpickler"]),
    ("dill", &["loads", "load", "load_module", "load_session"]),
    ("dill._dill", &["loads", "load", "load_session", "_import_module", "_eval_repr", "_getattribute"]),
    ("cloudpickle", &["loads", "load"]),
    ("cloudpickle.cloudpickle", &["loads", "load"]),
];

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

/// A function that makes code, or what code is made of, from parts that the pickle carries.
pub(super) fn carries_code(module: &str, name: &str) -> bool {
    // Copies of cloudpickle in other packages.
    let copies = ["joblib.externals.", "ray.", "pyspark.", "srsly."];
    let module = copies.iter().find_map(|copy| module.strip_prefix(copy)).unwrap_or(module);
    let top = module.split('.').next();
    matches!(top, Some("cloudpickle" | "dill")) && is_data_only(module, name)
}

/// A function that the reader of `torch.package` is told to call, and that makes a module of what the package holds.
pub(super) fn loads_from_package(module: &str, name: &str) -> bool {
    has(PACKAGE_LOADERS, module, name)
}

/// A name that can hurt.
pub(super) fn is_dangerous(module: &str, name: &str) -> bool {
    let top = module.split('.').next().unwrap_or(module);
    let below = |prefix: &&str| {
        module.strip_prefix(*prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    !(is_identifier_path(module) && is_identifier_path(name))
        || DANGEROUS_MODULES.contains(&top)
        || (DANGEROUS_SUBMODULES.iter().any(below) && !HARMLESS_SUBMODULES.contains(&module))
        || has(DANGEROUS_NAMES, module, name)
        || resolves(name)
}

/// Dots in a name resolve attributes, from protocol 4 on. Nested classes are honest, and look like classes.
fn resolves(name: &str) -> bool {
    let class = |part: &str| part.chars().next().is_some_and(char::is_uppercase);
    name.contains('.') && !name.split('.').all(class)
}

fn is_identifier_path(path: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    path.split('.')
        .all(|part| !part.is_empty() && part.chars().all(|c| word(c) || matches!(c, '<' | '>' | '-')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_can_hurt() {
        for (module, name) in [
            ("os", "system"),
            ("torch.hub", "load"),
            ("builtins", "eval"),
            ("collections", "_sys.exit"),
            ("torch._utils", "_rebuild_tensor_v2.__globals__.get"),
            ("os\r", "system"),
        ] {
            assert!(is_dangerous(module, name), "{module}.{name}");
        }
    }

    #[test]
    fn names_that_cannot() {
        for (module, name) in
            [("mylib.models", "Net"), ("mylib", "Outer.Inner"), ("shutil", "which"), ("torch", "Size")]
        {
            assert!(!is_dangerous(module, name), "{module}.{name}");
        }
    }
}
