"""The fake's values: enumerations, a logger, weights, and arrays at addresses."""

import ctypes
import enum

import numpy as np
import onnx
from onnx import numpy_helper


def members(name, *names):
    return enum.IntEnum(name, {each: number for number, each in enumerate(names)})


class ILogger:
    """To be subclassed."""

    INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

    def log(self, severity, msg):
        raise NotImplementedError


DataType = members("DataType", "FLOAT", "HALF", "BF16", "INT64", "BOOL")
TensorIOMode = members("TensorIOMode", "NONE", "INPUT", "OUTPUT")
TensorLocation = members("TensorLocation", "HOST", "DEVICE")
CREATION_FLAGS = {10: ("EXPLICIT_BATCH", "STRONGLY_TYPED"), 11: ("STRONGLY_TYPED",)}
HardwareCompatibilityLevel = members("HardwareCompatibilityLevel", "NONE", "SAME_COMPUTE_CAPABILITY", "AMPERE_PLUS")
MemoryPoolType = members("MemoryPoolType", "WORKSPACE")
OnnxParserFlag = members("OnnxParserFlag", "NATIVE_INSTANCENORM")
ExecutionContextAllocationStrategy = members("ExecutionContextAllocationStrategy", "STATIC", "USER_MANAGED")
BuilderFlag = members(
    "BuilderFlag", "TF32", "REFIT", "REFIT_IDENTICAL", "STRIP_PLAN", "WEIGHT_STREAMING", "VERSION_COMPATIBLE"
)  # fmt: skip

ONNX_TYPES = {
    onnx.TensorProto.FLOAT: DataType.FLOAT,
    onnx.TensorProto.FLOAT16: DataType.HALF,
    onnx.TensorProto.INT64: DataType.INT64,
    onnx.TensorProto.BOOL: DataType.BOOL,
}
NUMPY_TYPES = {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT64: np.int64, DataType.BOOL: np.bool_}


class IHostMemory(bytes):
    """Has the buffer protocol."""


class Weights:
    __slots__ = ("_ptr", "dtype", "size")

    def __init__(self, type=DataType.FLOAT, ptr=0, count=0):  # noqa: A002  # the real names
        self.dtype, self._ptr, self.size = type, ptr, count


def needs(logger):
    """As pybind11 does, which also wants the base to be initialised."""
    if not isinstance(logger, ILogger):
        raise TypeError("incompatible constructor arguments")
    return logger


def told(log, what):
    log.log(ILogger.ERROR, what)


def weights(model):
    """Floating point initialisers by name."""
    return {each.name: value for each in model.graph.initializer if (value := numpy_helper.to_array(each)).dtype.kind == "f"}


def at(address, kind, shape):
    """The array that lies at an address."""
    count = int(np.prod(shape)) * np.dtype(kind).itemsize
    return np.frombuffer((ctypes.c_char * count).from_address(address), kind).reshape(shape)


def kind_of(info):
    return NUMPY_TYPES[ONNX_TYPES[info.type.tensor_type.elem_type]]


def shape_of(info):
    """-1 where a size is symbolic."""
    return tuple(size.dim_value if size.HasField("dim_value") else -1 for size in info.type.tensor_type.shape.dim)


def major(version):
    return int(version.split(".")[0])
