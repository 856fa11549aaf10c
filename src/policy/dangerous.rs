//! Names that can hurt: they run code, resolve names, or reach files, the network, processes or imports.
//!
//! What is in no table is not harmless: a call of it is *unknown* and refuses, too. The tables only decide how it is called. So they
//! go by whole modules where a module has nothing that an honest checkpoint calls. Names stand in text, separated by white
//! space.

/// Modules of the standard library, of Python 2.7 to 3.14, of which no name is harmless.
///
/// That is every module but those of [`PLAIN`], taken from `sys.stdlib_module_names` of each version.
const STANDARD: &str = "
    __builtin__ __builtins__ __hello__ __phello__ _aix_support _android_support _apple_support _asyncio _bootlocale _bootsubprocess
    _bz2 _codecs_cn _colorize _compression _crypt _ctypes _ctypes_test _curses _curses_panel _dbm _elementtree
    _frozen_importlib _frozen_importlib_external _functools _gdbm _hotshot _imp _interpchannels
    _interpqueues _interpreters _ios_support _lsprof _lzma _markupbase _missing_stdlib_info _msi _multiprocessing
    _opcode _operator _osx_support _overlapped _pickle _posixshmem _posixsubprocess _py_warnings _pydatetime
    _pyrepl _queue _remote_debugging _scproxy _signal _sitebuiltins _socket _sqlite3 _ssl _suggestions _symtable _sys
    _sysconfig _sysconfigdata _testbuffer _testcapi _testclinic _testimportmultiple _testinternalcapi _testlimitedcapi
    _testmultiphase _testsinglephase _thread _threading_local _tkinter _tracemalloc _winapi _winreg
    _wmi _xxinterpchannels _xxsubinterpreters _xxtestfuzz _zstd aifc annotationlib antigravity anydbm asynchat
    asyncio asyncore atexit audiodev audioop bastion bdb binhex bsddb bz2 cgi cgihttpserver
    cgitb cmd code codeop commands compileall compression concurrent configparser cookielib
    cpickle cprofile crypt ctypes curses dataclasses dbhash dbm dircache dis distutils dl doctest dumbdbm dummy_thread
    dummy_threading ensurepip faulthandler fcntl filecmp fileinput ftplib functools gc gdbm
    genericpath getopt getpass gettext glob gopherlib grp gzip hotshot htmllib http httplib idlelib
    ihooks imaplib imghdr imp importlib imputil inspect itertools lib2to3 linecache lzma macpath macurl2path
    mailbox mailcap marshal mhlib mimetools mimewriter mimify mmap modulefinder msilib msvcrt multifile
    multiprocessing netrc nis nntplib nt ntpath nturl2path opcode operator optparse os os2emxpath
    ossaudiodev pdb pickle pickletools pipes pkgutil platform plistlib popen2 poplib posix posixfile
    posixpath profile pstats pty pwd py_compile pyclbr pydoc pydoc_data pyexpat queue readline resource rexec
    rlcompleter robotparser runpy sched select selectors sgmllib shelve shlex signal simplehttpserver simplexmlrpcserver
    site sitecustomize smtpd smtplib sndhdr socket socketserver spwd sqlite3 ssl statvfs subprocess
    sunau sunaudio symtable sys sysconfig syslog tabnanny tarfile telnetlib tempfile termios
    test this thread threading timeit tkinter toaiff trace traceback tracemalloc tty turtle turtledemo types
    unittest urllib urllib2 usercustomize uu venv wave webbrowser whichdb winreg winsound wsgiref xdrlib xml
    xmllib xmlrpc xmlrpclib xxlimited xxsubtype zipapp zipfile zipfile36 zipimport";

/// The rest of the standard library: data types, arithmetic, text. What can hurt in it stands in [`NAMES`].
#[cfg(test)]
const PLAIN: &str = "
    __future__ __main__ _abc _ast _bisect _blake2 _codecs _codecs_hk _codecs_iso2022 _codecs_jp _codecs_kr
    _codecs_tw _collections _collections_abc _compat_pickle _contextvars _csv _datetime _decimal _hashlib _heapq _hmac
    _io _json _locale _md5 _multibytecodec _opcode_metadata _py_abc _pydecimal _pyio _pylong _random _sha1 _sha2 _sha256
    _sha3 _sha512 _sre _stat _statistics _string _strptime _struct _tokenize _types _typing _uuid _warnings _weakref
    _weakrefset _zoneinfo abc argparse array ast base64 binascii bisect builtins calendar cmath codecs collections
    colorsys contextlib contextvars copy copyreg csv datetime decimal difflib email encodings enum errno
    fnmatch fractions graphlib hashlib heapq hmac html io ipaddress json keyword locale logging math mimetypes
    numbers pathlib pprint quopri random re reprlib secrets shutil sre_compile sre_constants sre_parse stat statistics
    string stringprep struct textwrap time token tokenize tomllib typing unicodedata uuid warnings weakref zlib
    zoneinfo";

/// Other packages of which no name is harmless: they install, start, connect, template or load. Of libraries whose objects are
/// in honest checkpoints, only parts are dangerous: [`BELOW`], [`NAMES`].
const PACKAGES: &str = "
    _cffi_backend _distutils_hack _pytest aiobotocore aiohttp ansible apport apscheduler asteval astor astunparse asyncssh
    azure bentoml billiard boto boto3 botocore bottle bpython celery cffi click clr cotyledon coverage cppyy cx_oracle cython
    delegator distlib distributed distro django docker easy_install eventlet execnet fabric fire flask gdown gevent gi git
    gitpython gunicorn hg httplib2 httpx huggingface_hub hydra hypothesis invoke ipdb ipykernel ipython jinja2 jnius jpype
    jsonpickle jupyter_client keyring knack kombu kubernetes ldap3 loky mako memory_profiler mlflow multiprocess mysqldb
    nbconvert nose nose2 notebook numexpr paramiko pathos pexpect pip pipenv pkg_resources playwright plumbum ply poetry ppft
    psutil psycopg2 ptpython ptyprocess pudb pyautogui pycallgraph pycparser pycuda pycurl pyftpdlib pyinstrument pymongo
    pymysql pysftp pytest pythoncom pythran pyximport redis requests requests_toolbelt restrictedpython rpyc ruamel s3fs
    sarge scrapy selenium setuptools sh simple_websocket simpleeval smart_open snoop sqlalchemy tf_keras tornado trio twisted
    typer uvicorn virtualenv watchdog weave websocket websockets werkzeug wget wheel win32api win32com winpty xmltodict xonsh
    yaml yapf zmq";

/// Modules below a harmless one, of which no name is harmless.
const BELOW: &str = "
    accelerate.commands accelerate.launchers cupy._core.raw cupy.cuda.compiler dask.compatibility dask.core dask.local
    dask.threaded dask.utils datasets.load diffusers.utils.dynamic_modules_utils dill.session dill.source dill.temp
    email.message_from_file email.mime encodings.idna.os google.cloud jax.experimental.host_callback joblib.backports
    joblib.disk joblib.externals.loky joblib.func_inspect joblib.numpy_pickle_utils joblib.parallel joblib.pool
    joblib.testing keras llvmlite.binding logging.config logging.handlers matplotlib.backends matplotlib.testing
    mpmath.libmp.backend mpmath.usertools networkx.drawing networkx.readwrite networkx.utils.backends nltk.app nltk.book
    nltk.cli nltk.corpus nltk.data nltk.downloader nltk.draw nltk.inference nltk.internals nltk.parse.bllip
    nltk.parse.corenlp nltk.parse.malt nltk.parse.stanford nltk.sem.boxer nltk.tag.hunpos nltk.tag.senna nltk.tag.stanford
    nltk.twitter numba.core.typing.cffi_utils numba.pycc numpy._core._multiarray_tests numpy._pytesttester numpy.build_utils
    numpy.compat.py3k numpy.core._multiarray_tests numpy.core.tests numpy.ctypeslib numpy.distutils numpy.f2py
    numpy.lib._iotools numpy.lib._npyio_impl numpy.lib.format numpy.lib.npyio numpy.lib.utils numpy.random._examples
    numpy.setup numpy.testing paddle.hub paddle.utils pandas._config pandas._testing pandas.compat._optional
    pandas.compat.pickle_compat pandas.core.computation pandas.io pandas.plotting pandas.testing pandas.util._print_versions
    pandas.util._tester PIL.EpsImagePlugin PIL.GimpGradientFile PIL.ImageGrab PIL.ImageMath PIL.ImageShow pyarrow.fs
    scipy._build_utils scipy._lib._ccallback scipy._lib._testutils scipy._lib.decorator scipy.io scipy.misc.common
    scipy.weave six.moves.builtins sklearn.externals.joblib sklearn.utils._testing spacy.cli sympy.external sympy.parsing
    sympy.plotting sympy.printing.preview sympy.testing sympy.utilities._compilation sympy.utilities.autowrap
    sympy.utilities.runtests tensorboard.program tensorflow.compat tensorflow.io tensorflow.keras tensorflow.lite
    tensorflow.python tensorflow.raw_ops tensorflow.saved_model tensorflow.tools tensorflow_core theano.compile theano.gof
    torch._appdirs torch._C torch._custom_op torch._custom_ops torch._deploy torch._dynamo torch._export torch._functorch
    torch._inductor torch._lazy torch._library torch._numpy.testing torch._ops torch._sources torch._utils_internal
    torch._weights_only_unpickler torch.backends._nnapi torch.backends.xeon torch.contrib torch.cuda.jiterator
    torch.distributed.elastic torch.distributed.launch torch.distributed.nn.jit torch.distributed.rpc torch.distributed.run
    torch.export torch.fx torch.hub torch.jit torch.library torch.multiprocessing torch.onnx torch.ops torch.package
    torch.profiler torch.testing torch.utils._config_module torch.utils._triton torch.utils._zip
    torch.utils.backend_registration torch.utils.benchmark torch.utils.bottleneck torch.utils.collect_env
    torch.utils.cpp_extension torch.utils.data._utils torch.utils.data.datapipes torch.utils.file_baton torch.utils.hipify
    torch.utils.jit torch.utils.model_dump torch.utils.model_zoo torch.utils.show_pickle torch.utils.tensorboard
    torch.utils.viz torchtext.utils torchvision.datasets.utils transformers.agents transformers.commands
    transformers.convert_graph_to_onnx transformers.dynamic_module_utils transformers.onnx transformers.testing_utils
    transformers.tools transformers.utils.hub triton.runtime wrapt.importer wsgiref xml.sax";

/// Modules below a dangerous one that hold mathematical functions alone.
const HARMLESS: &str = "torch._C._nn torch._C._special torch._C._fft torch._C._linalg";

/// Names that are dangerous in a module of which others are harmless.
const NAMES: &[(&str, &str)] = &[
    (
        "builtins",
        "__build_class__ __import__ __loader__ __spec__ all any apply breakpoint buffer callable classmethod coerce
         compile copyright credits delattr dir eval exec execfile exit file filter getattr globals hasattr help id input
         intern iter license locals map max memoryview min next open print property quit raw_input reduce reload setattr
         sorted staticmethod sum super type vars zip aiter anext",
    ),
    ("_codecs", "register register_error lookup lookup_error unregister"),
    ("_io", "FileIO OpenWrapper TextIOWrapper open open_code _WindowsConsoleIO"),
    ("_pyio", "FileIO OpenWrapper TextIOWrapper open open_code"),
    ("_sre", "template"),
    ("_strptime", "_strptime"),
    ("argparse", "FileType"),
    ("attr", "make_class"),
    ("attr._make", "_make_attr_tuple_class make_class"),
    ("bisect", "bisect bisect_left bisect_right insort insort_left insort_right"),
    ("cloudpickle", "dump dumps load loads pickle register_pickle_by_value"),
    ("cloudpickle.cloudpickle", "dump dumps load loads _lookup_module_and_qualname dynamic_subimport"),
    ("codecs", "EncodedFile open register register_error"),
    ("collections", "namedtuple"),
    ("contextlib", "ExitStack AsyncExitStack contextmanager redirect_stdout redirect_stderr chdir"),
    ("copy", "_reconstruct _deepcopy_method"),
    ("copyreg", "add_extension constructor dispatch_table pickle remove_extension"),
    ("cupy", "ElementwiseKernel RawKernel RawModule ReductionKernel"),
    ("datasets", "load_dataset load_from_disk"),
    ("diffusers", "DiffusionPipeline"),
    ("dill", "load load_module load_session loads Unpickler"),
    (
        "dill._dill",
        "_create_function_globals _eval_repr _getattribute _import_module load load_session loads Unpickler _locate_function
         _get_attr _setitems _create_filehandle _create_stringi _create_stringo _create_lock _create_rlock",
    ),
    ("email", "message_from_file"),
    ("encodings", "search_function"),
    ("fsspec", "filesystem open open_files open_local url_to_fs"),
    ("gensim.utils", "unpickle pickle smart_open check_output"),
    ("h5py", "File"),
    ("heapq", "merge nlargest nsmallest"),
    ("io", "FileIO OpenWrapper TextIOWrapper open open_code"),
    ("jax", "pure_callback"),
    ("joblib", "Parallel dump load"),
    ("joblib.numpy_pickle", "NumpyUnpickler dump load _unpickle"),
    ("logging", "FileHandler basicConfig _StderrHandler config handlers shutdown"),
    ("mimetypes", "init read_mime_types"),
    ("networkx", "read_gpickle write_gpickle"),
    (
        "numpy",
        "fromfile fromregex fromstring genfromtxt load loads loadtxt memmap save savetxt savez savez_compressed
         frompyfunc vectorize apply_along_axis apply_over_axes fromfunction piecewise save_txt DataSource lookfor test source
         info get_include safe_eval deprecate",
    ),
    ("numpy.lib._datasource", "open"),
    ("pandas", "eval read_csv read_excel read_feather read_hdf read_html read_json read_parquet read_pickle read_sql read_table to_pickle"),
    ("PIL.Image", "open"),
    ("pyarrow", "deserialize deserialize_from open_file memory_map"),
    ("quopri", "main"),
    ("random", "_test _test_generator"),
    ("ray.cloudpickle", "load loads"),
    ("re", "Scanner sub subn template"),
    (
        "shutil",
        "chown copy copy2 copyfile copyfileobj copymode copystat copytree ignore_patterns make_archive move register_archive_format
         register_unpack_format rmtree unpack_archive _unpack_zipfile",
    ),
    ("six", "_import_module"),
    ("sympy", "lambdify parse_expr preview sympify S"),
    ("sympy.utilities.lambdify", "lambdify lambdastr"),
    ("sympy.core.sympify", "sympify _sympify kernS"),
    ("tensorflow", "load_library load_op_library saved_model"),
    ("torch", "_C classes compile hub jit load ops package save import_ir_module utils"),
    ("torch.cuda", "_compile_kernel"),
    ("torch.distributed", "init_process_group"),
    ("torch.nn.modules.module", "register_module_forward_hook register_module_forward_pre_hook"),
    ("torch.serialization", "_legacy_load _load add_safe_globals load register_package save"),
    ("torch.utils", "data cpp_extension model_zoo"),
    ("torch.utils._pytree", "tree_map treespec_loads register_pytree_node"),
    ("torch.utils.dlpack", "from_dlpack"),
    ("torchvision", "get_image_backend"),
    ("transformers", "pipeline"),
    ("typing", "ForwardRef NamedTuple TypedDict _eval_type get_type_hints"),
    ("ultralytics", "YOLO"),
    (
        "uuid",
        "_arp_getter _find_mac_near_keyword _find_mac_under_heading _get_command_stdout _ifconfig_getter _ip_getter
         _lanscan_getter _netstat_getter _popen getnode main",
    ),
    ("wandb", "init login"),
    ("warnings", "showwarning _showwarnmsg"),
    ("weakref", "finalize"),
];

/// Packages, and names that are dangerous in each of their modules: which one a function is called by depends on the version.
const WITHIN: &[(&str, &str)] = &[
    (
        "numpy",
        "DataSource Repository add_newdoc apply_along_axis apply_over_axes fromfile fromfunction frompyfunc fromregex genfromtxt
         loadtxt memmap piecewise save savetxt savez savez_compressed vectorize _convert2ma _frommethod _fromnxfunction
         _getconv _newnames _wrapfunc _wrapit",
    ),
    ("toolz", "Compose apply compose compose_left curry do pipe thread_first thread_last"),
    ("cytoolz", "Compose apply compose compose_left curry do pipe thread_first thread_last"),
    ("sklearn", "_get_sys_info _open_openml_url fetch_20newsgroups fetch_openml load_files load_svmlight_file"),
    ("torch", "_load_kernel _object_to_tensor _tensor_to_object compile_shader execWrapper"),
];

/// Names that run, import or resolve what they are given, in whatever module they are called, and the modules that others let slip
/// through as their attributes: `logging.os`, `numpy.__builtins__` (the latter needs no import of its own: modelscan#330).
const ANYWHERE: &str = "
    __builtins__ __dict__ __getattribute__ __globals__ __import__ __loader__ __spec__ __subclasses__ _import_dotted_name
    _test apply_if_callable attempt_load attempt_load_one_weight builtins cached_path call_command check_call check_output
    check_requirements ctypes cython_inline debug_script direct_transformers_import eval_ eval_expr eval_expression
    evaluate_python_code exec exec_ exec_command exec_in exec_with_profiler execfile execute_script from_pretrained
    get_class_from_dynamic_module get_class_in_module getattribute_from_module getstatusoutput hf_hub_download import_file
    import_from_string import_item import_module import_module_and_submodules import_module_from_file
    import_modules_from_strings import_object import_optional_dependency import_required import_string import_tasks
    import_user_module importlib literal_eval load load_checkpoint load_checkpoint_to_cpu load_hparams_from_yaml load_inline
    load_library load_model load_peft_weights load_pickle load_state_dict load_state_dict_from_url loads main marshal
    namedAny optional_import os parse_model pickle pickle_load pickle_loads popen posix pty read_csv read_pickle ref_to_obj
    restore_checkpoint run_command run_module run_path run_python_file run_script runcode runctx rundocs runpy runscript
    runsource runstring safe_download safe_eval shutil simple_eval socket spawnl spawnv subprocess symbol_by_name sys system
    torch_load torch_safe_load unpickle unsafe_eval unsafe_load urlopen urlretrieve write_file";

/// Names that hurt only where they are called: functions that call what they are given, and arithmetic. Checkpoints refer to them as
/// the sink of a log (skorch), the function of a column (scikit-learn), the target of a node.
const UNCALLED: &[(&str, &str)] = &[
    (
        "builtins",
        "all any callable classmethod filter hasattr hash id iter map max min next print property sorted staticmethod sum
         super type zip",
    ),
    ("_operator", ARITHMETIC),
    ("operator", ARITHMETIC),
];

const ARITHMETIC: &str = "
    abs add and_ concat contains eq floordiv ge getitem gt index inv invert le lshift lt matmul mod mul ne neg not_ or_ pos pow
    rshift sub truediv truth xor";

/// A name of which a reference is data as long as nothing calls it: those of [`UNCALLED`], and methods of classes.
pub(super) fn is_harmless_uncalled(module: &str, name: &str) -> bool {
    let class = |part: &str| part.chars().next().is_some_and(char::is_uppercase);
    let method = name.rsplit_once('.').is_some_and(|(path, method)| {
        path.split('.').all(class)
            && !method.starts_with("__")
            && !is_dangerous(module, path)
            && !is_dangerous(module, method)
    });
    method || UNCALLED.iter().any(|(known, names)| *known == module && has(names, name))
}

/// A name that can hurt.
pub(super) fn is_dangerous(module: &str, name: &str) -> bool {
    let top = module.split('.').next().unwrap_or(module);
    !(is_identifier_path(module) && is_identifier_path(name))
        || has(STANDARD, &top.to_ascii_lowercase())
        || has(PACKAGES, &top.to_ascii_lowercase())
        || is_below(BELOW, module) && !has(HARMLESS, module)
        || NAMES.iter().any(|(known, names)| *known == module && has(names, name))
        || WITHIN.iter().any(|(package, names)| *package == top && has(names, name))
        || has(ANYWHERE, name)
        || resolves(name)
}

fn has(table: &str, name: &str) -> bool {
    table.split_ascii_whitespace().any(|known| known == name)
}

/// Whether a module is one of the table, or below it.
fn is_below(table: &str, module: &str) -> bool {
    let below = |prefix: &str| {
        module.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    table.split_ascii_whitespace().any(below)
}

/// Dots in a name resolve attributes, from protocol 4 on. Nested classes are honest, and look like classes.
fn resolves(name: &str) -> bool {
    let class = |part: &str| part.chars().next().is_some_and(char::is_uppercase);
    name.contains('.') && !name.split('.').all(class)
}

/// Whether a text can be the name of a module or of what is in one.
pub(super) fn is_identifier_path(path: &str) -> bool {
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
            ("_pyrepl.pager", "pipe_pager"),
            ("logging", "os"),
            ("numpy", "__builtins__"),
            ("uuid", "_popen"),
            ("IPython.core.interactiveshell", "InteractiveShell"),
            ("SimpleHTTPServer", "test"),
            ("anything.at.all", "import_module"),
            ("numpy._core.multiarray", "fromfile"),
            ("srsly.cloudpickle", "loads"),
            ("__builtins__", "eval"),
        ] {
            assert!(is_dangerous(module, name), "{module}.{name}");
        }
    }

    #[test]
    fn names_that_cannot() {
        for (module, name) in [
            ("mylib.models", "Net"),
            ("mylib", "Outer.Inner"),
            ("shutil", "which"),
            ("torch", "Size"),
            ("uuid", "UUID"),
            ("logging", "Logger"),
            ("sklearn.pipeline", "Pipeline"),
            ("pandas.core.frame", "DataFrame"),
            ("numpy.random.mtrand", "RandomState"),
        ] {
            assert!(!is_dangerous(module, name), "{module}.{name}");
        }
    }

    #[test]
    fn the_standard_library_is_divided() {
        for name in PLAIN.split_ascii_whitespace() {
            assert!(!has(STANDARD, name), "{name}");
        }
        // Each stands once, so that a row that is taken out is out.
        for table in [STANDARD, PACKAGES, BELOW, ANYWHERE] {
            let mut seen: Vec<&str> = table.split_ascii_whitespace().collect();
            seen.sort_unstable();
            assert!(seen.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}
