//! The allowlist: every callable that is interpreted, in one table.
//!
//! It holds what torch's own `weights_only` loader allows for plain tensors, parameters and containers
//! (`torch/_weights_only_unpickler.py`), the harmless containers that it lacks, and numpy's arrays. A row says what the
//! callable makes; the forms of its arguments over the versions of its library are read in the module of that library.

use crate::tensor::Dtype;

/// What an allowlisted name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Callable {
    /// A dictionary: `OrderedDict`, `defaultdict`, `Counter`, `dict`.
    Mapping,
    /// `defaultdict`, whose first argument is a factory and not a value.
    DefaultDict,
    /// A list, tuple, set, frozen set, deque or `torch.Size`.
    Sequence,
    /// A list or dictionary of `TorchScript` with the name of its type.
    Tagged,
    /// A value that holds no tensor and needs no reading.
    Value,
    /// A type or constant that is referred to and never called.
    Constant,
    /// `_codecs.encode(str, "latin1")`: bytes, as protocol 2 writes them.
    Encode,
    /// `bytearray(bytes)` and its older forms.
    ByteArray,
    /// A class of storages with elements of this type; `None` for untyped ones.
    Storage(Option<Dtype>),
    /// `torch.storage._load_from_bytes`: a storage as bytes, which are a legacy stream.
    LoadFromBytes,
    /// A class of tensors that is made empty and filled by `BUILD` (torch before 0.4).
    TensorClass,
    /// `torch._utils._rebuild_tensor` and its later forms.
    Tensor(TensorForm),
    /// `torch._utils._rebuild_parameter`, with or without state.
    Parameter,
    /// The class `Parameter` itself (torch before 0.4).
    ParameterClass,
    /// `torch._tensor._rebuild_from_type_v2(func, type, args, state)`.
    FromType,
    /// A tensor that holds no data.
    Meta,
    /// A quantized tensor: `torch._utils._rebuild_qtensor`.
    Quantized,
    /// A sparse tensor of any layout, in Python's form or in that of C++.
    Sparse,
    /// A nested tensor over one strided buffer.
    Nested,
    /// A nested tensor of torch's newer kind, `torch.jagged`.
    Jagged,
    /// A tensor whose data is in its attributes: `torch._utils._rebuild_wrapper_subclass`.
    Wrapper,
    /// A class of storages whose elements are smaller than a byte.
    PackedStorage,
    /// A tensor given as a numpy array.
    DeviceFromNumpy,
    /// A tensor given as another tensor.
    DeviceFromCpu,
    /// `numpy.core.multiarray._reconstruct`
    NdArray,
    /// `numpy.core.numeric._frombuffer`
    FromBuffer,
    /// `numpy.dtype`
    NumpyDtype,
    /// `numpy.core.multiarray.scalar`
    NumpyScalar,
    /// A class of `numpy.dtypes`, which names an element type.
    NumpyDtypeClass,
    /// `numpy.ma.core._mareconstruct`: data and a mask.
    MaskedArray,
    /// Functions that are given how an array is rebuilt: `(function, args, state, …)`.
    RebuiltArray,
    /// joblib's array whose bytes follow right behind its `BUILD`.
    JoblibArray,
    /// joblib's array in a file of its own (joblib before 0.10).
    JoblibFile,
}

/// Which arguments a rebuilding function of torch takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorForm {
    /// `(storage, offset, size, stride)`
    V1,
    /// `(…, requires_grad, backward_hooks[, metadata])`
    V2,
    /// `(…, requires_grad, backward_hooks, dtype[, metadata])`, offset and size in elements of `dtype`
    V3,
}

use Callable as C;

/// Module, name, meaning.
const TABLE: &[(&str, &[(&str, Callable)])] = &[
    (
        "collections",
        &[
            ("OrderedDict", C::Mapping),
            ("Counter", C::Mapping),
            ("defaultdict", C::DefaultDict),
            ("deque", C::Sequence),
        ],
    ),
    (
        "builtins",
        &[
            ("dict", C::Mapping),
            ("list", C::Sequence),
            ("tuple", C::Sequence),
            ("set", C::Sequence),
            ("frozenset", C::Sequence),
            ("bytearray", C::ByteArray),
            ("bytes", C::ByteArray),
            ("complex", C::Value),
            ("slice", C::Value),
            ("range", C::Value),
            ("xrange", C::Value),
            ("object", C::Constant),
            ("int", C::Constant),
            ("float", C::Constant),
            ("str", C::Constant),
            ("bool", C::Constant),
        ],
    ),
    ("_codecs", &[("encode", C::Encode)]),
    (
        "torch._utils",
        &[
            ("_rebuild_tensor", C::Tensor(TensorForm::V1)),
            ("_rebuild_tensor_v2", C::Tensor(TensorForm::V2)),
            ("_rebuild_tensor_v3", C::Tensor(TensorForm::V3)),
            ("_rebuild_parameter", C::Parameter),
            ("_rebuild_parameter_with_state", C::Parameter),
            ("_rebuild_qtensor", C::Quantized),
            ("_rebuild_sparse_tensor", C::Sparse),
            ("_rebuild_sparse_csr_tensor", C::Sparse),
            ("_rebuild_nested_tensor", C::Nested),
            ("_rebuild_wrapper_subclass", C::Wrapper),
            ("_rebuild_meta_tensor_no_storage", C::Meta),
            ("_rebuild_device_tensor_from_numpy", C::DeviceFromNumpy),
            ("_rebuild_xla_tensor", C::DeviceFromNumpy),
            ("_rebuild_device_tensor_from_cpu_tensor", C::DeviceFromCpu),
        ],
    ),
    ("torch._tensor", FROM_TYPE),
    ("torch.tensor", FROM_TYPE),
    ("torch.nested._internal.nested_tensor", &[("_rebuild_njt", C::Jagged)]),
    (
        "torch.jit._pickle",
        &[
            ("build_intlist", C::Sequence),
            ("build_doublelist", C::Sequence),
            ("build_boollist", C::Sequence),
            ("build_tensorlist", C::Sequence),
            ("restore_type_tag", C::Tagged),
            ("build_tensor_from_id", C::Meta),
        ],
    ),
    ("torch.serialization", &[("_get_layout", C::Value)]),
    ("torch.autograd.variable", &[("Variable", C::ParameterClass)]),
    (
        "torch.nn.parameter",
        &[
            ("Parameter", C::ParameterClass),
            ("Buffer", C::ParameterClass),
            ("UninitializedParameter", C::Meta),
            ("UninitializedBuffer", C::Meta),
        ],
    ),
    (
        "torch.storage",
        &[
            ("_load_from_bytes", C::LoadFromBytes),
            ("UntypedStorage", C::Storage(None)),
            ("_UntypedStorage", C::Storage(None)),
            ("TypedStorage", C::Storage(None)),
            ("_TypedStorage", C::Storage(None)),
        ],
    ),
    ("numpy", &[("ndarray", C::Constant), ("dtype", C::NumpyDtype)]),
    ("numpy.core.multiarray", NUMPY_MULTIARRAY),
    ("numpy._core.multiarray", NUMPY_MULTIARRAY),
    ("numpy.core._multiarray_umath", NUMPY_MULTIARRAY),
    ("numpy._core._multiarray_umath", NUMPY_MULTIARRAY),
    ("numpy.core._internal", &[("_reconstruct", C::NdArray)]),
    ("numpy._core._internal", &[("_convert_to_stringdtype_kwargs", C::NumpyDtypeClass)]),
    ("numpy.dtypes", NUMPY_DTYPES),
    ("numpy.ma.core", &[("_mareconstruct", C::MaskedArray)]),
    ("jax._src.array", &[("_reconstruct_array", C::RebuiltArray)]),
    ("jax._src.device_array", &[("reconstruct_device_array", C::RebuiltArray)]),
    (
        "jax.interpreters.xla",
        &[("_reconstruct_device_array", C::RebuiltArray), ("reconstruct_device_array", C::RebuiltArray)],
    ),
    ("dill._dill", &[("_create_array", C::RebuiltArray)]),
    ("dill.dill", &[("_create_array", C::RebuiltArray)]),
    ("joblib.numpy_pickle", JOBLIB),
    ("joblib.numpy_pickle_compat", JOBLIB),
    ("sklearn.externals.joblib.numpy_pickle", JOBLIB),
    ("sklearn.externals.joblib.numpy_pickle_compat", JOBLIB),
    ("numpy.core.numeric", &[("_frombuffer", C::FromBuffer)]),
    ("numpy._core.numeric", &[("_frombuffer", C::FromBuffer)]),
];

const FROM_TYPE: &[(&str, Callable)] =
    &[("_rebuild_from_type", C::FromType), ("_rebuild_from_type_v2", C::FromType)];
const JOBLIB: &[(&str, Callable)] = &[
    ("NumpyArrayWrapper", C::JoblibArray),
    ("NDArrayWrapper", C::JoblibFile),
    ("ZNDArrayWrapper", C::JoblibFile),
];

/// Classes that are called without arguments to make an element type (numpy 1.25 and later).
const NUMPY_DTYPES: &[(&str, Callable)] = &[
    ("Float64DType", C::NumpyDtypeClass),
    ("Float32DType", C::NumpyDtypeClass),
    ("Float16DType", C::NumpyDtypeClass),
    ("LongDoubleDType", C::NumpyDtypeClass),
    ("Complex64DType", C::NumpyDtypeClass),
    ("Complex128DType", C::NumpyDtypeClass),
    ("Int8DType", C::NumpyDtypeClass),
    ("Int16DType", C::NumpyDtypeClass),
    ("Int32DType", C::NumpyDtypeClass),
    ("Int64DType", C::NumpyDtypeClass),
    ("UInt8DType", C::NumpyDtypeClass),
    ("UInt16DType", C::NumpyDtypeClass),
    ("UInt32DType", C::NumpyDtypeClass),
    ("UInt64DType", C::NumpyDtypeClass),
    ("BoolDType", C::NumpyDtypeClass),
    ("ObjectDType", C::NumpyDtypeClass),
    ("StrDType", C::NumpyDtypeClass),
    ("BytesDType", C::NumpyDtypeClass),
    ("VoidDType", C::NumpyDtypeClass),
    ("DateTime64DType", C::NumpyDtypeClass),
    ("TimeDelta64DType", C::NumpyDtypeClass),
    ("StringDType", C::NumpyDtypeClass),
];

const NUMPY_MULTIARRAY: &[(&str, Callable)] =
    &[("_reconstruct", C::NdArray), ("scalar", C::NumpyScalar), ("ndarray", C::Constant)];

/// Prefix of the classes `torch.<Prefix>Storage` and `torch.<Prefix>Tensor`, and their element type.
const TORCH_CLASSES: &[(&str, Dtype)] = &[
    ("Double", Dtype::F64),
    ("Float", Dtype::F32),
    ("Half", Dtype::F16),
    ("BFloat16", Dtype::Bf16),
    ("Long", Dtype::I64),
    ("Int", Dtype::I32),
    ("Short", Dtype::I16),
    ("Char", Dtype::I8),
    ("Byte", Dtype::U8),
    ("Bool", Dtype::Bool),
    ("ComplexDouble", Dtype::C128),
    ("ComplexFloat", Dtype::C64),
    ("QInt8", Dtype::QI8),
    ("QUInt8", Dtype::QU8),
    ("QInt32", Dtype::QI32),
];

/// Constants of the module `torch` that are no element types.
const TORCH_CONSTANTS: &[&str] = &[
    "per_tensor_affine",
    "per_channel_affine",
    "per_tensor_symmetric",
    "per_channel_symmetric",
    "per_channel_affine_float_qparams",
    "strided",
    "sparse_coo",
    "sparse_csr",
    "sparse_csc",
    "sparse_bsr",
    "sparse_bsc",
    "jagged",
    "preserve_format",
    "contiguous_format",
    "channels_last",
    "channels_last_3d",
];

/// Other names by which torch knows an element type.
const DTYPE_ALIASES: &[(&str, Dtype)] = &[
    ("double", Dtype::F64),
    ("float", Dtype::F32),
    ("half", Dtype::F16),
    ("long", Dtype::I64),
    ("int", Dtype::I32),
    ("short", Dtype::I16),
    ("cfloat", Dtype::C64),
    ("cdouble", Dtype::C128),
    ("chalf", Dtype::C32),
];

/// What a name of Python 3 is, if it is in the allowlist.
pub fn allow(module: &str, name: &str) -> Option<Callable> {
    let row = TABLE
        .iter()
        .find(|(m, _)| *m == module)
        .and_then(|(_, names)| names.iter().find(|(n, _)| *n == name));
    row.map(|(_, callable)| *callable).or_else(|| torch_class(module, name))
}

fn torch_class(module: &str, name: &str) -> Option<Callable> {
    let class = |prefix: &str| TORCH_CLASSES.iter().find(|(p, _)| *p == prefix).map(|(_, dtype)| *dtype);
    match module {
        "torch" | "torch.cuda" | "torch.sparse" | "torch.cuda.sparse" => {}
        _ => return None,
    }
    if let Some(dtype) = name.strip_suffix("Storage").and_then(class) {
        return (!module.ends_with("sparse")).then_some(C::Storage(Some(dtype)));
    }
    if module == "torch" && matches!(name, "QUInt4x2Storage" | "QUInt2x4Storage") {
        return Some(C::PackedStorage);
    }
    if name.strip_suffix("Tensor").and_then(class).is_some() || name == "Tensor" {
        return Some(C::TensorClass);
    }
    match (module, name) {
        ("torch", "Size") => Some(C::Sequence),
        ("torch", "device") => Some(C::Value),
        ("torch", name) if dtype(name).is_some() || TORCH_CONSTANTS.contains(&name) => Some(C::Constant),
        ("torch", name) if is_dtype_without_tensors(name) => Some(C::Constant),
        _ => None,
    }
}

/// Element types that torch names and that no tensor in a file can have.
fn is_dtype_without_tensors(name: &str) -> bool {
    let narrow =
        name.strip_prefix("uint").or_else(|| name.strip_prefix("int")).or_else(|| name.strip_prefix("bits"));
    let width = narrow.and_then(|digits| digits.split('x').next()?.parse::<u8>().ok());
    width.is_some_and(|bits| bits <= 16) || matches!(name, "quint4x2" | "quint2x4")
}

/// The element type that a name of the module `torch` is.
pub fn dtype(name: &str) -> Option<Dtype> {
    DTYPE_ALIASES
        .iter()
        .find(|(alias, _)| *alias == name)
        .map(|(_, dtype)| *dtype)
        .or_else(|| Dtype::from_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_exactly() {
        assert_eq!(allow("torch._utils", "_rebuild_tensor_v2"), Some(C::Tensor(TensorForm::V2)));
        assert_eq!(allow("torch", "BFloat16Storage"), Some(C::Storage(Some(Dtype::Bf16))));
        assert_eq!(allow("torch.cuda", "FloatStorage"), Some(C::Storage(Some(Dtype::F32))));
        assert_eq!(allow("torch", "float8_e4m3fn"), Some(C::Constant));
        for (module, name) in
            [("torch", "load"), ("torch", "EvilStorage"), ("os", "system"), ("builtins", "eval")]
        {
            assert_eq!(allow(module, name), None, "{module}.{name}");
        }
    }
}
