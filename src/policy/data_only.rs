//! Constructors that only hold data, by exact name. Each row is a fact about a library's source: what it makes of its
//! arguments, and that it runs nothing of the file's choice.

/// Constructors that hold what they are given and do nothing else, by exact name.
pub(super) const DATA_ONLY: &[(&str, &[&str])] = &[
    ("argparse", &["Namespace"]),
    ("types", &["SimpleNamespace"]),
    // A subclass of it, in the checkpoints of a training that goes on.
    ("ultralytics.utils", &["IterableSimpleNamespace"]),
    ("ultralytics.yolo.utils", &["IterableSimpleNamespace"]),
    ("optparse", &["Values"]),
    // Files in memory: `__new__` and a state of bytes.
    ("_io", &["BytesIO", "StringIO"]),
    ("io", &["BytesIO", "StringIO"]),
    // re.py, `_pickle(p)`: the pattern and its flags.
    ("re", &["_compile"]),
    // logging/__init__.py, `Logger.__reduce__`: a logger of this name.
    ("logging", &["getLogger"]),
    // random.py, `Random.__reduce__`: the state follows.
    ("random", &["Random"]),
    // arraymodule.c: type code and numbers or bytes.
    ("array", &["array", "_array_reconstructor"]),
    ("datetime", &["datetime", "date", "time", "timedelta", "timezone"]),
    ("pathlib", PATHS),
    ("pathlib._local", PATHS),
    ("decimal", &["Decimal"]),
    ("fractions", &["Fraction"]),
    ("uuid", &["UUID"]),
    ("enum", &["auto"]),
    // structseq.c: a tuple of numbers, and a dictionary of those beyond its length.
    ("time", &["struct_time"]),
    // dill's name for the variables of the program: dill/_dill.py, `Unpickler.find_class`.
    ("__builtin__", &["__main__"]),
    ("builtins", &["__main__"]),
    // inspect.py, `Signature.__reduce__`, `Parameter.__reduce__`: names and an enum; no function.
    ("inspect", &["Signature", "Parameter", "_ParameterKind", "_empty"]),
    // genericaliasobject.c: `list[int]`, the class and its arguments.
    ("types", &["GenericAlias"]),
    // Descriptions of fields, which cloudpickle carries with a class: slots and a state.
    (
        "dataclasses",
        &[
            "MISSING",
            "_HAS_DEFAULT_FACTORY",
            "_FIELD",
            "_FIELD_CLASSVAR",
            "_FIELD_INITVAR",
            "Field",
            "_MISSING_TYPE",
            "_HAS_DEFAULT_FACTORY_CLASS",
            "_FIELD_BASE",
            "_DataclassParams",
            "KW_ONLY",
        ],
    ),
    ("itertools", &["count"]),
    ("zoneinfo", &["ZoneInfo", "ZoneInfo._unpickle"]),
    ("numpy.random", &["__RandomState_ctor"]),
    ("numpy.random._pickle", &["__randomstate_ctor", "__bit_generator_ctor", "__generator_ctor"]),
    ("pandas", &["Interval", "Period", "Timestamp", "Timedelta"]),
    ("pandas.core.indexes.base", &["_new_Index"]),
    ("pandas._libs.internals", &["_unpickle_block"]),
    ("pandas._libs.arrays", &["__pyx_unpickle_NDArrayBacked"]),
    ("pandas.core.internals.managers", &["BlockManager"]),
    ("pandas", &["StringDtype", "PeriodDtype", "CategoricalDtype", "DatetimeTZDtype", "IntervalDtype"]),
    (
        "pandas.core.dtypes.dtypes",
        &["PeriodDtype", "CategoricalDtype", "DatetimeTZDtype", "IntervalDtype", "SparseDtype"],
    ),
    ("pandas.core.index", &["_new_Index", "Index", "MultiIndex"]),
    ("pandas.indexes.base", &["_new_Index", "Index"]),
    ("pandas.core.internals", &["BlockManager", "SingleBlockManager"]),
    ("pandas.core.indexes.datetimes", &["_new_DatetimeIndex"]),
    ("pandas.core.indexes.period", &["_new_PeriodIndex"]),
    ("pandas.core.indexes.interval", &["_new_IntervalIndex"]),
    ("pandas.tseries.index", &["_new_DatetimeIndex"]),
    ("pandas._libs.interval", &["__pyx_unpickle_IntervalMixin", "Interval"]),
    ("pandas._libs.tslibs.timestamps", &["_unpickle_timestamp"]),
    ("pandas._libs.tslibs.timedeltas", &["_timedelta_unpickle"]),
    ("pandas._libs.tslibs.nattype", &["_nat_unpickle"]),
    // Timestamps and periods of pandas before 0.24 and since.
    ("pandas._libs.tslibs.timestamps", &["Timestamp"]),
    ("pandas._libs.tslibs.timedeltas", &["Timedelta"]),
    ("pandas._libs.tslibs.period", &["Period"]),
    ("pandas._libs.tslib", &["Timestamp", "Timedelta", "_nat_unpickle"]),
    ("pandas.tslib", &["Timestamp", "Timedelta", "NaTType"]),
    // pandas/core/indexes/frozen.py, `FrozenList.__reduce__`.
    ("pandas.core.indexes.frozen", &["FrozenList", "FrozenNDArray"]),
    ("pandas.indexes.frozen", &["FrozenList"]),
    ("pandas.core.indexes.datetimes", &["DatetimeIndex"]),
    // pandas/_libs/internals.pyx, `BlockPlacement.__reduce__`; sparse.pyx, `IntIndex.__reduce__`.
    ("pandas._libs.internals", &["BlockPlacement"]),
    ("pandas._libs.lib", &["BlockPlacement"]),
    ("pandas._libs.sparse", &["IntIndex", "BlockIndex"]),
    ("pytz", &["_UTC", "_p"]),
    // dateutil/tz/tz.py, `tzrangebase`, `tzfile.__reduce_ex__`: no file, and a name, which is kept.
    ("dateutil.tz.tz", &["tzfile"]),
    ("dateutil.zoneinfo", &["tzfile"]),
    ("numpy.random.bit_generator", &["__pyx_unpickle_SeedSequence", "__pyx_unpickle_SeedlessSequence"]),
    // `newObj(cls)` is `cls.__new__(cls)`.
    ("sklearn.metrics._dist_metrics", &["newObj"]),
    ("sklearn.neighbors._dist_metrics", &["newObj"]),
    ("sklearn.neighbors.dist_metrics", &["newObj"]),
    ("sklearn.neighbors._kd_tree", &["newObj"]),
    ("sklearn.neighbors.kd_tree", &["newObj"]),
    ("sklearn.neighbors._ball_tree", &["newObj"]),
    ("sklearn.neighbors.ball_tree", &["newObj"]),
    ("sklearn.tree.tree", &["Tree"]),
    ("haiku._src.data_structures", &["FlatMapping", "FlatMap", "to_immutable_dict"]),
    ("immutabledict", &["immutabledict"]),
    // Code carried by value is data here; what would be called with it is refused.
    ("cloudpickle.cloudpickle", CLOUDPICKLE),
    ("cloudpickle", CLOUDPICKLE),
    ("cloudpickle.cloudpickle_fast", CLOUDPICKLE),
    ("dill._dill", DILL),
    ("dill.dill", DILL),
    ("joblib.externals.cloudpickle.cloudpickle", CLOUDPICKLE),
    ("joblib.externals.cloudpickle.cloudpickle_fast", CLOUDPICKLE),
    ("ray.cloudpickle.cloudpickle", CLOUDPICKLE),
    ("ray.cloudpickle.cloudpickle_fast", CLOUDPICKLE),
    ("pyspark.cloudpickle.cloudpickle", CLOUDPICKLE),
    ("srsly.cloudpickle.cloudpickle", CLOUDPICKLE),
    ("numba.cloudpickle.cloudpickle", CLOUDPICKLE),
    // numba/core/serialize.py: functions by value, in a pickle of its own, which is judged where it is found.
    (
        "numba.core.serialize",
        &["_unpickle__CustomPickled", "custom_rebuild", "_CustomPickled", "_CustomPickled._rebuild"],
    ),
    // numba/core/types/abstract.py: copyreg's function and its arguments, and a state.
    ("numba.core.types.abstract", &["_type_reconstructor"]),
    // torch/fx/graph_module.py: a module by its state, and source text for `forward`, which is kept as text.
    ("torch.fx.graph_module", &["reduce_graph_module"]),
    (
        "torch.fx.graph",
        &["Graph", "_Namespace", "CodeGen", "_PyTreeCodeGen", "_PyTreeInfo", "_FindNodesLookupTable"],
    ),
    ("torch.fx.node", &["Node"]),
    ("torch.fx.immutable_collections", &["immutable_dict", "immutable_list"]),
    ("pandas.core.arrays.string_", &["StringDtype"]),
    ("pyarrow.lib", &["type_for_alias", "py_buffer", "_restore_array", "chunked_array"]),
    ("sklearn.tree._tree", &["Tree"]),
    ("dotmap", &["DotMap"]),
    // Code carried by value: the source text in its argument is kept as text.
    ("torch_utils.persistence", &["_reconstruct_persistent_obj"]),
    ("flax.core.frozen_dict", &["FrozenDict"]),
    ("flax.core.frozen_dict.FrozenDict", &["_unflatten"]),
    ("torch.nn.backends.thnn", &["_get_thnn_function_backend"]),
    // A named tuple, in the specification of a `DTensor` of torch 2.1.
    ("torch.fx.passes.shape_prop", &["TensorMetadata"]),
    (
        "transformers.trainer_utils",
        &[
            "IntervalStrategy",
            "EvaluationStrategy",
            "SaveStrategy",
            "SchedulerType",
            "HubStrategy",
            "FSDPOption",
            "EvalPrediction",
        ],
    ),
    ("omegaconf.base", &["ContainerMetadata"]),
    // mmengine/config/config.py, `ConfigDict.__reduce_ex__`: `(ConfigDict, (dict,))`.
    ("mmengine.config.config", &["ConfigDict"]),
    // gym/utils/seeding.py: a generator of numpy's, by the name of its bit generator.
    ("gym.utils.seeding", &["RandomNumberGenerator._generator_ctor"]),
    // flax/linen/module.py: an enum.
    // nltk/probability.py: a `Counter`, and a `defaultdict` of them.
    ("nltk.probability", &["FreqDist", "ConditionalFreqDist"]),
    // river/utils/vectordict.pyx, `VectorDict.__reduce__`: a dictionary.
    ("river.utils.vectordict", &["VectorDict"]),
    ("river._river_rust.vectordict", &["VectorDict"]),
    // tensordict/_reductions.py: `cls.__new__(cls).__setstate__(state)`.
    ("tensordict._reductions", &["_make_td"]),
    // _plotly_utils/basedatatypes.py, `BaseFigure.__reduce__`: the properties, which are validated.
    ("plotly.graph_objs._figure", &["Figure"]),
    // Dictionaries that cannot be changed, made from one.
    ("frozendict", &["frozendict"]),
    ("frozendict.core", &["frozendict"]),
    ("immutables._map", &["Map"]),
    // hdbscan/dist_metrics.pyx: as in scikit-learn, where it is from.
    ("hdbscan.dist_metrics", &["newObj"]),
    // theano/sandbox/cuda/type.py and gpuarray/type.py: the array as numpy's.
    ("theano.sandbox.cuda.type", &["CudaNdarray_unpickler"]),
    ("theano.gpuarray.type", &["GpuArray_unpickler"]),
    // numpy/ma/core.py, `MaskedConstant.__reduce__`.
    ("numpy.ma.core", &["MaskedConstant"]),
    ("numpy.ma", &["MaskedConstant"]),
    // Molecules in data sets, `getinitargs` of `mol_pickle_suite` and `ebv_pickle_suite`: their binary form.
    ("rdkit.Chem.rdchem", &["Mol"]),
    ("rdkit.DataStructs.cDataStructs", &["ExplicitBitVect"]),
    // Datasets and samplers that hold what they are given; what they would load is not loaded.
    ("torch.utils.data.dataset", &["Dataset", "TensorDataset", "Subset", "ConcatDataset", "StackDataset"]),
    ("torch.utils.data.sampler", &["Sampler", "RandomSampler", "SequentialSampler", "BatchSampler"]),
    ("torch.utils.data.dataloader", &["DataLoader", "default_collate"]),
    ("torch.utils.data._utils.collate", &["default_collate"]),
    // `torch.relu` and its kin, as an attribute of this class.
    ("torch._C", &["_VariableFunctionsClass", "_VariableFunctions"]),
    // `torch.Generator.__reduce__` (2.5): the device, and a state of seed, offset and tensor.
    ("torch._C", &["Generator"]),
    ("torch.fx._symbolic_trace", &["Tracer"]),
    ("deepspeed.runtime.fp16.loss_scaler", &["LossScaler", "DynamicLossScaler"]),
];

/// Further ones, of modules with many: names in text, separated by white space.
pub(super) const DATA_ONLY_TEXT: &[(&str, &str)] = &[
    // exceptions.c, `BaseException_reduce`: the class and its arguments, which are stored.
    ("builtins", EXCEPTIONS),
    // torch/csrc/utils/structseq.cpp: what `torch.max` and its kin return, a tuple of tensors with names.
    ("torch.return_types", RETURN_TYPES),
    // Cython's `__reduce__` of statsmodels/tsa/statespace/_*.pyx.in: sizes and arrays.
    ("statsmodels.tsa.statespace._representation", STATESPACE),
    ("statsmodels.tsa.statespace._initialization", STATESPACE),
    ("statsmodels.tsa.statespace._kalman_filter", STATESPACE),
    ("statsmodels.tsa.statespace._kalman_smoother", STATESPACE),
    ("statsmodels.tsa.statespace._simulation_smoother", STATESPACE),
    ("sklearn._loss._loss", SKLEARN_LOSSES),
    ("sklearn.linear_model._sgd_fast", SKLEARN_SGD_LOSSES),
    ("sklearn.linear_model.sgd_fast", SKLEARN_SGD_LOSSES),
    ("pandas._libs.tslibs.offsets", PANDAS_OFFSETS),
    ("pandas.tseries.offsets", PANDAS_OFFSETS),
    ("pandas", PANDAS_OFFSETS),
    // Methods of a class, by which an instance remembers its kind of interpolation.
    ("scipy.interpolate._interpolate", INTERPOLATIONS),
    ("scipy.interpolate.interpolate", INTERPOLATIONS),
];

/// Exceptions of Python 2.7 to 3.14.
const EXCEPTIONS: &str = "
    ArithmeticError AssertionError AttributeError BaseException BaseExceptionGroup BlockingIOError
    BrokenPipeError BufferError BytesWarning ChildProcessError ConnectionAbortedError ConnectionError
    ConnectionRefusedError ConnectionResetError DeprecationWarning EOFError EncodingWarning
    EnvironmentError Exception ExceptionGroup FileExistsError FileNotFoundError FloatingPointError
    FutureWarning GeneratorExit IOError ImportError ImportWarning IndentationError IndexError
    InterruptedError IsADirectoryError KeyError KeyboardInterrupt LookupError MemoryError
    ModuleNotFoundError NameError NotADirectoryError NotImplementedError OSError OverflowError
    PendingDeprecationWarning PermissionError ProcessLookupError PythonFinalizationError RecursionError
    ReferenceError ResourceWarning RuntimeError RuntimeWarning StandardError StopAsyncIteration
    StopIteration SyntaxError SyntaxWarning SystemError SystemExit TabError TimeoutError TypeError
    UnboundLocalError UnicodeDecodeError UnicodeEncodeError UnicodeError UnicodeTranslateError
    UnicodeWarning UserWarning ValueError Warning ZeroDivisionError";

/// `torch.return_types`, of torch 1.4 to 2.15.
const RETURN_TYPES: &str = "
    _fake_quantize_per_tensor_affine_cachemask_tensor_qparams _fused_moving_avg_obs_fq_helper _linalg_det
    _linalg_det_out _linalg_eigh _linalg_eigh_out _linalg_slogdet _linalg_slogdet_out _linalg_solve_ex
    _linalg_solve_ex_out _linalg_svd _linalg_svd_out _lu_with_info _scaled_dot_product_cudnn_attention
    _scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention
    _scaled_dot_product_flash_attention_for_cpu _unpack_dual aminmax aminmax_out cummax cummax_out cummin
    cummin_out eig eig_out frexp frexp_out geqrf geqrf_out histogram histogram_out histogramdd kthvalue
    kthvalue_out linalg_cholesky_ex linalg_cholesky_ex_out linalg_eig linalg_eig_out linalg_eigh
    linalg_eigh_out linalg_inv_ex linalg_inv_ex_out linalg_ldl_factor linalg_ldl_factor_ex
    linalg_ldl_factor_ex_out linalg_ldl_factor_out linalg_lstsq linalg_lstsq_out linalg_lu
    linalg_lu_factor linalg_lu_factor_ex linalg_lu_factor_ex_out linalg_lu_factor_out linalg_lu_out
    linalg_polar linalg_polar_out linalg_qr linalg_qr_out linalg_slogdet linalg_slogdet_out
    linalg_solve_ex linalg_solve_ex_out linalg_svd linalg_svd_out lstsq lstsq_out lu_unpack lu_unpack_out
    max max_out median median_out min min_out mode mode_out nanmedian nanmedian_out qr qr_out slogdet
    slogdet_out solve solve_out sort sort_out svd svd_out symeig symeig_out topk topk_out
    triangular_solve triangular_solve_out";

/// For each type of numbers: single, double, complex and double complex.
const STATESPACE: &str = "
    sStatespace dStatespace cStatespace zStatespace sInitialization dInitialization cInitialization
    zInitialization sKalmanFilter dKalmanFilter cKalmanFilter zKalmanFilter sKalmanSmoother
    dKalmanSmoother cKalmanSmoother zKalmanSmoother sSimulationSmoother dSimulationSmoother
    cSimulationSmoother zSimulationSmoother";

/// Cython's loss functions, which pickle as a call of their class.
const SKLEARN_LOSSES: &str = "
    CyHalfSquaredError CyAbsoluteError CyPinballLoss CyHuberLoss CyHalfPoissonLoss CyHalfGammaLoss
    CyHalfTweedieLoss CyHalfTweedieLossIdentity CyHalfBinomialLoss CyHalfMultinomialLoss
    CyExponentialLoss";

const SKLEARN_SGD_LOSSES: &str = "
    Hinge SquaredHinge Log ModifiedHuber SquaredLoss Huber EpsilonInsensitive SquaredEpsilonInsensitive";

const INTERPOLATIONS: &str = "
    interp1d._call_linear interp1d._call_linear_np interp1d._call_nan_spline interp1d._call_nearest
    interp1d._call_previousnext interp1d._call_spline";

const PANDAS_OFFSETS: &str = "
    Tick Day Hour Minute Second Milli Micro Nano BusinessDay BDay MonthEnd MonthBegin BusinessMonthEnd
    BMonthEnd BusinessMonthBegin BMonthBegin QuarterEnd QuarterBegin BQuarterEnd BQuarterBegin YearEnd
    YearBegin BYearEnd BYearBegin HalfYearEnd HalfYearBegin BHalfYearEnd BHalfYearBegin Week WeekOfMonth
    LastWeekOfMonth SemiMonthEnd SemiMonthBegin DateOffset BusinessHour CustomBusinessDay CDay
    CustomBusinessHour CustomBusinessMonthEnd CBMonthEnd CustomBusinessMonthBegin CBMonthBegin FY5253
    FY5253Quarter Easter";

/// Module, class and attribute of constructors that pickles name by `getattr`.
pub(super) const ATTRIBUTES: &[(&str, &str, &str)] = &[
    // zoneinfo/_zoneinfo.py, `ZoneInfo.__reduce__`: a time zone by its key, which the class holds to be a relative path.
    ("zoneinfo", "ZoneInfo", "_unpickle"),
    // A dataclass of four numbers.
    ("torch.distributed._shard.sharded_tensor.api", "ShardedTensor", "ProcessGroupState"),
    // gym/utils/seeding.py: numpy's generator, by the name of its bit generator.
    ("gym.utils.seeding", "RandomNumberGenerator", "_generator_ctor"),
];

/// What cloudpickle makes functions and classes of.
const CLOUDPICKLE: &[&str] = &[
    "_builtin_type",
    "_make_skel_func",
    "_fill_function",
    "_make_function",
    "_function_setstate",
    "_make_empty_cell",
    "_make_cell",
    "_empty_cell_value",
    "_make_skeleton_class",
    "_make_skeleton_enum",
    "_rehydrate_skeleton_class",
    "_class_setstate",
    "_make_typevar",
    "_make_dict_keys",
    "_make_dict_values",
    "_make_dict_items",
    "_gen_ellipsis",
    "_gen_not_implemented",
    "_get_dataclass_field_type_sentinel",
];

/// What dill makes functions and classes of.
const DILL: &[&str] =
    &["_load_type", "_create_type", "_create_code", "_create_function", "_create_cell", "_create_dtypemeta"];

/// Functions that give a type of the interpreter by its name.
pub(super) const TYPE_NAMES: &[(&str, &[&str])] = &[
    ("cloudpickle.cloudpickle", &["_builtin_type"]),
    ("cloudpickle", &["_builtin_type"]),
    ("joblib.externals.cloudpickle.cloudpickle", &["_builtin_type"]),
    ("ray.cloudpickle.cloudpickle", &["_builtin_type"]),
    ("pyspark.cloudpickle.cloudpickle", &["_builtin_type"]),
    ("srsly.cloudpickle.cloudpickle", &["_builtin_type"]),
    ("numba.cloudpickle.cloudpickle", &["_builtin_type"]),
    ("dill._dill", &["_load_type"]),
    ("dill.dill", &["_load_type"]),
];

/// Functions that make a class from its parts.
pub(super) const CLASS_MAKERS: &[(&str, &[&str])] = &[
    ("cloudpickle.cloudpickle", &["_make_skeleton_class", "_make_skeleton_enum"]),
    ("joblib.externals.cloudpickle.cloudpickle", &["_make_skeleton_class", "_make_skeleton_enum"]),
    ("ray.cloudpickle.cloudpickle", &["_make_skeleton_class", "_make_skeleton_enum"]),
    ("pyspark.cloudpickle.cloudpickle", &["_make_skeleton_class", "_make_skeleton_enum"]),
    ("srsly.cloudpickle.cloudpickle", &["_make_skeleton_class", "_make_skeleton_enum"]),
    ("numba.cloudpickle.cloudpickle", &["_make_skeleton_class", "_make_skeleton_enum"]),
    ("dill._dill", &["_create_type"]),
    ("dill.dill", &["_create_type"]),
];

/// Functions that make code of what they are given, beside those of cloudpickle and dill.
pub(super) const CODE_CARRIERS: &[(&str, &[&str])] = &[
    ("torch_utils.persistence", &["_reconstruct_persistent_obj"]),
    ("torch.fx.graph_module", &["reduce_graph_module"]),
    ("numba.core.serialize", &["_unpickle__CustomPickled", "custom_rebuild"]),
];

/// What `torch.package` rebuilds with code that lies in the package itself, which is not read here.
pub(super) const PACKAGE_LOADERS: &[(&str, &[&str])] = &[
    ("torch.fx.graph_module", &["reduce_package_graph_module"]),
    ("torch.jit._script", &["unpackage_script_module"]),
];

const PATHS: &[&str] = &["Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"];
