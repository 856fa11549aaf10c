//! Constructors that only hold data, by exact name. Each row is a fact about a library's source: what it makes of its
//! arguments, and that it runs nothing of the file's choice.

/// Constructors that hold what they are given and do nothing else, by exact name.
pub(super) const DATA_ONLY: &[(&str, &[&str])] = &[
    ("argparse", &["Namespace"]),
    ("types", &["SimpleNamespace"]),
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
    ("itertools", &["count"]),
    ("datetime", &["datetime", "date", "time", "timedelta", "timezone"]),
    ("pathlib", PATHS),
    ("pathlib._local", PATHS),
    ("decimal", &["Decimal"]),
    ("fractions", &["Fraction"]),
    ("uuid", &["UUID"]),
    ("enum", &["auto"]),
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
    ("pandas.tseries.index", &["_new_DatetimeIndex"]),
    ("pandas._libs.interval", &["__pyx_unpickle_IntervalMixin", "Interval"]),
    ("pandas._libs.tslibs.timestamps", &["_unpickle_timestamp"]),
    ("pandas._libs.tslibs.timedeltas", &["_timedelta_unpickle"]),
    ("pandas._libs.tslibs.nattype", &["_nat_unpickle"]),
    ("pandas._libs.tslibs.offsets", PANDAS_OFFSETS),
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
    ("numpy.random.bit_generator", &["__pyx_unpickle_SeedSequence", "__pyx_unpickle_SeedlessSequence"]),
    // `newObj(cls)` is `cls.__new__(cls)`.
    ("sklearn.metrics._dist_metrics", &["newObj"]),
    ("sklearn.neighbors._dist_metrics", &["newObj"]),
    ("sklearn.neighbors.dist_metrics", &["newObj"]),
    ("sklearn.neighbors._kd_tree", &["newObj"]),
    ("sklearn.neighbors.kd_tree", &["newObj"]),
    ("sklearn.neighbors._ball_tree", &["newObj"]),
    ("sklearn.neighbors.ball_tree", &["newObj"]),
    ("sklearn._loss._loss", SKLEARN_LOSSES),
    ("sklearn.linear_model._sgd_fast", SKLEARN_SGD_LOSSES),
    ("sklearn.linear_model.sgd_fast", SKLEARN_SGD_LOSSES),
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
    ("pandas.core.arrays.string_", &["StringDtype"]),
    ("pyarrow.lib", &["type_for_alias", "py_buffer", "_restore_array", "chunked_array"]),
    ("sklearn.tree._tree", &["Tree"]),
    ("dotmap", &["DotMap"]),
    // Code carried by value: the source text in its argument is kept as text.
    ("torch_utils.persistence", &["_reconstruct_persistent_obj"]),
    ("flax.core.frozen_dict", &["FrozenDict"]),
    ("flax.core.frozen_dict.FrozenDict", &["_unflatten"]),
    ("torch.distributed._shard.sharded_tensor.metadata", &["MEM_FORMAT_ENCODING"]),
    ("torch.nn.backends.thnn", &["_get_thnn_function_backend"]),
    ("torch.distributed.fsdp.api", &["ShardingStrategy", "StateDictType", "BackwardPrefetch"]),
    ("torch.distributed.checkpoint.metadata", &["_MEM_FORMAT_ENCODING"]),
    // An enumeration in the plans that Megatron-LM keeps in its metadata.
    ("torch.distributed.checkpoint.planner", &["WriteItemType"]),
    // A named tuple, in the specification of a `DTensor` of torch 2.1.
    ("torch.fx.passes.shape_prop", &["TensorMetadata"]),
    ("torch.distributed._shard.checkpoint.metadata", &["MEM_FORMAT_ENCODING"]),
    ("torch.distributed._shard.sharded_tensor.metadata", &["MEM_FORMAT_ENCODING"]),
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
    ("transformers.training_args", &["OptimizerNames", "ParallelMode"]),
    ("transformers.utils.generic", &["ExplicitEnum", "TensorType", "PaddingStrategy"]),
    (
        "accelerate.utils.dataclasses",
        &[
            "DistributedType",
            "PrecisionType",
            "ComputeEnvironment",
            "DynamoBackend",
            "SageMakerDistributedType",
        ],
    ),
    ("peft.utils.peft_types", &["PeftType", "TaskType"]),
    ("omegaconf.base", &["ContainerMetadata"]),
    ("pytorch_lightning.utilities.enums", LIGHTNING_ENUMS),
    ("lightning.pytorch.utilities.enums", LIGHTNING_ENUMS),
    ("fairseq.dataclass.constants", &["StrEnum"]),
    ("deepspeed.runtime.zero.config", &["ZeroStageEnum"]),
    ("deepspeed.runtime.zero.partition_parameters", &["ZeroParamStatus", "ZeroParamType"]),
    // Enums, which pickle as a call with their value.
    ("PIL.Image", &["Resampling", "Transpose", "Palette", "Dither"]),
    ("torchvision.transforms.functional", &["InterpolationMode"]),
    ("torchvision.transforms.autoaugment", &["AutoAugmentPolicy"]),
    ("torchvision.tv_tensors._bounding_boxes", &["BoundingBoxFormat"]),
    ("torchvision.datapoints._bounding_box", &["BoundingBoxFormat"]),
    ("torch.ao.quantization.quant_type", &["QuantType"]),
    ("torch.quantization.quant_type", &["QuantType"]),
    ("kornia.constants", &["Resample", "BorderType", "SamplePadding", "DType", "DataKey"]),
    (
        "monai.utils.enums",
        &["TraceKeys", "MetaKeys", "SpaceKeys", "PostFix", "GridSampleMode", "GridSamplePadMode"],
    ),
    ("megatron.core.enums", &["ModelType"]),
    ("megatron.core.transformer.enums", &["AttnMaskType", "AttnBackend", "LayerType", "AttnType"]),
    (
        "megatron.model.enums",
        &["ModelType", "LayerType", "AttnType", "AttnMaskType", "PositionEmbeddingType"],
    ),
    ("megatron.enums", &["PositionEmbeddingType", "AttnMaskType", "LayerType", "AttnType"]),
    ("pytorch_lightning.trainer.states", LIGHTNING_STATES),
    ("lightning.pytorch.trainer.states", LIGHTNING_STATES),
    // mmengine/config/config.py, `ConfigDict.__reduce_ex__`: `(ConfigDict, (dict,))`.
    ("mmengine.config.config", &["ConfigDict"]),
    // gym/utils/seeding.py: a generator of numpy's, by the name of its bit generator.
    ("gym.utils.seeding", &["RandomNumberGenerator._generator_ctor"]),
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
    // Cython's `__reduce__` of statsmodels/tsa/statespace/_*.pyx.in: sizes and arrays.
    ("statsmodels.tsa.statespace._representation", STATESPACE),
    ("statsmodels.tsa.statespace._initialization", STATESPACE),
    ("statsmodels.tsa.statespace._kalman_filter", STATESPACE),
    ("statsmodels.tsa.statespace._kalman_smoother", STATESPACE),
    ("statsmodels.tsa.statespace._simulation_smoother", STATESPACE),
    ("torch.fx._symbolic_trace", &["Tracer"]),
    ("deepspeed.runtime.fp16.loss_scaler", &["LossScaler", "DynamicLossScaler"]),
];

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
    ("dill._dill", &["_create_type"]),
    ("dill.dill", &["_create_type"]),
];

/// What `torch.package` rebuilds with code that lies in the package itself, which is not read here.
pub(super) const PACKAGE_LOADERS: &[(&str, &[&str])] = &[
    ("torch.fx.graph_module", &["reduce_package_graph_module"]),
    ("torch.jit._script", &["unpackage_script_module"]),
];

/// For each type of numbers: single, double, complex and double complex.
const STATESPACE: &[&str] = &[
    "sStatespace",
    "dStatespace",
    "cStatespace",
    "zStatespace",
    "sInitialization",
    "dInitialization",
    "cInitialization",
    "zInitialization",
    "sKalmanFilter",
    "dKalmanFilter",
    "cKalmanFilter",
    "zKalmanFilter",
    "sKalmanSmoother",
    "dKalmanSmoother",
    "cKalmanSmoother",
    "zKalmanSmoother",
    "sSimulationSmoother",
    "dSimulationSmoother",
    "cSimulationSmoother",
    "zSimulationSmoother",
];

/// Cython's loss functions, which pickle as a call of their class.
const SKLEARN_LOSSES: &[&str] = &[
    "CyHalfSquaredError",
    "CyAbsoluteError",
    "CyPinballLoss",
    "CyHuberLoss",
    "CyHalfPoissonLoss",
    "CyHalfGammaLoss",
    "CyHalfTweedieLoss",
    "CyHalfTweedieLossIdentity",
    "CyHalfBinomialLoss",
    "CyHalfMultinomialLoss",
    "CyExponentialLoss",
];

const SKLEARN_SGD_LOSSES: &[&str] = &[
    "Hinge",
    "SquaredHinge",
    "Log",
    "ModifiedHuber",
    "SquaredLoss",
    "Huber",
    "EpsilonInsensitive",
    "SquaredEpsilonInsensitive",
];

const PANDAS_OFFSETS: &[&str] = &[
    "Day",
    "Hour",
    "Minute",
    "Second",
    "Milli",
    "Micro",
    "Nano",
    "BusinessDay",
    "BDay",
    "MonthEnd",
    "MonthBegin",
    "BusinessMonthEnd",
    "BusinessMonthBegin",
    "QuarterEnd",
    "QuarterBegin",
    "YearEnd",
    "YearBegin",
    "Week",
    "DateOffset",
];

const PATHS: &[&str] = &["Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"];
const LIGHTNING_STATES: &[&str] = &["TrainerFn", "RunningStage", "TrainerStatus"];
const LIGHTNING_ENUMS: &[&str] = &["LightningEnum", "GradClipAlgorithmType", "AutoRestartBatchKeys"];
