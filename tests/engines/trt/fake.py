"""TensorRT in miniature: the names that the backend may touch and no others, over host memory.

Graphs are computed by ONNX's reference evaluator, tensors are read and written at the addresses that were set, a wrong call is
answered as the vendor answers it: False, None and a message to the logger.  ``make(11)`` differs from ``make(10)`` where the real
ones do.
"""

import json
import types
from pathlib import Path

from tests.engines.trt.fake_builder import (
    Builder,
    IBuilderConfig,
    INetworkDefinition,
    IOptimizationProfile,
    ITensor,
    ITimingCache,
    OnnxParser,
    ParserError,
)  # fmt: skip
from tests.engines.trt.fake_runtime import MEMORY_BYTES as MEMORY_BYTES
from tests.engines.trt.fake_runtime import ICudaEngine, IExecutionContext, NewRefitter, Refitter, Runtime
from tests.engines.trt.fake_types import (
    CREATION_FLAGS,
    BuilderFlag,
    DataType,
    ExecutionContextAllocationStrategy,
    HardwareCompatibilityLevel,
    IHostMemory,
    ILogger,
    MemoryPoolType,
    OnnxParserFlag,
    TensorIOMode,
    TensorLocation,
    Weights,
    members,
)  # fmt: skip

VERSIONS = {10: "10.16.1.11", 11: "11.4.0.106"}
NEWEST_OPSET = {10: 24, 11: 25}
LOADING = (
    ILogger,
    DataType,
    TensorIOMode,
    TensorLocation,
    ExecutionContextAllocationStrategy,
    IExecutionContext,
    ICudaEngine,
    Weights,
)
BUILDING = (
    BuilderFlag, HardwareCompatibilityLevel, MemoryPoolType, OnnxParserFlag, IHostMemory, ITimingCache, IOptimizationProfile, IBuilderConfig,
    ITensor, INetworkDefinition, ParserError,
)  # fmt: skip


def make(number, *, lean=False, version=None, newest_opset=None):
    """The module: what its classes need to know of it is bound here."""
    version = version or VERSIONS[number]
    newest = newest_opset or NEWEST_OPSET[number]
    module = types.ModuleType("tensorrt_lean" if lean else "tensorrt")
    module.__version__ = version
    for kind in LOADING if lean else (*LOADING, *BUILDING):
        setattr(module, kind.__name__, kind)
    module.Refitter = NewRefitter if number >= 11 else Refitter
    module.Runtime = knowing(Runtime, version)
    if not lean:
        module.NetworkDefinitionCreationFlag = members("NetworkDefinitionCreationFlag", *CREATION_FLAGS[number])
        module.Builder, module.OnnxParser = knowing(Builder, version), knowing(OnnxParser, newest)
    return module


def knowing(kind, fact):
    """The class with its first argument given."""

    def __init__(self, *arguments):  # noqa: N807  # of the class that is made here
        kind.__init__(self, fact, *arguments)

    return type(kind.__name__, (kind,), {"__slots__": (), "__init__": __init__})


def head_of(plan):
    """What a plan says of itself."""
    return json.loads(Path(plan).read_bytes().partition(b"\n")[0])
