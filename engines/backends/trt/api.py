# ruff: noqa: D102  # what a name means, the vendor's documentation says
"""What is touched of TensorRT, as types: names and signatures that 10.16 and 11.4 share.

Type checking refuses any other name, and the tests hold every name here against tables made from the real bindings.  Enumerations
are opaque; only their members' names count.  What is the vendor's to call or to fill in is left out.
"""

import mmap
from collections.abc import Sequence
from typing import ClassVar, Protocol

Dims = Sequence[int]


class Severity(Protocol):
    """Member of ``ILogger.Severity``."""


class ILogger(Protocol):
    """Takes the vendor's messages; subclassed."""

    INTERNAL_ERROR: ClassVar[Severity]
    ERROR: ClassVar[Severity]
    WARNING: ClassVar[Severity]

    def log(self, severity: Severity, msg: str) -> None: ...


class DataType(Protocol):
    """Element type of a tensor."""

    FLOAT: ClassVar["DataType"]
    HALF: ClassVar["DataType"]
    BF16: ClassVar["DataType"]
    INT64: ClassVar["DataType"]
    BOOL: ClassVar["DataType"]


class TensorIOMode(Protocol):
    """Input or output."""

    INPUT: ClassVar["TensorIOMode"]
    OUTPUT: ClassVar["TensorIOMode"]


class TensorLocation(Protocol):
    """Where weights lie."""

    DEVICE: ClassVar["TensorLocation"]


class NetworkDefinitionCreationFlag(Protocol):
    """Given as a bit mask."""

    STRONGLY_TYPED: ClassVar["NetworkDefinitionCreationFlag"]

    def __int__(self) -> int: ...


class BuilderFlag(Protocol):
    """None of them is a precision: a strongly typed network has its own."""

    TF32: ClassVar["BuilderFlag"]
    REFIT: ClassVar["BuilderFlag"]
    REFIT_IDENTICAL: ClassVar["BuilderFlag"]
    STRIP_PLAN: ClassVar["BuilderFlag"]
    WEIGHT_STREAMING: ClassVar["BuilderFlag"]
    VERSION_COMPATIBLE: ClassVar["BuilderFlag"]


class HardwareCompatibilityLevel(Protocol):
    """Which other GPUs may run a plan."""

    SAME_COMPUTE_CAPABILITY: ClassVar["HardwareCompatibilityLevel"]
    AMPERE_PLUS: ClassVar["HardwareCompatibilityLevel"]


class MemoryPoolType(Protocol):
    """Memory whose size is limited while building."""

    WORKSPACE: ClassVar["MemoryPoolType"]


class OnnxParserFlag(Protocol):
    """How graphs are read."""

    NATIVE_INSTANCENORM: ClassVar["OnnxParserFlag"]


class ExecutionContextAllocationStrategy(Protocol):
    """Who owns activation memory."""

    USER_MANAGED: ClassVar["ExecutionContextAllocationStrategy"]


class IHostMemory(Protocol):
    """Bytes that the vendor owns."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class ITimingCache(Protocol):
    """How long kernels took."""

    def serialize(self) -> IHostMemory: ...


class IOptimizationProfile(Protocol):
    """Shapes an engine takes."""

    def set_shape(self, input: str, min: Dims, opt: Dims, max: Dims) -> None: ...  # noqa: A002  # the vendor's names


class IBuilderConfig(Protocol):
    """How to build."""

    builder_optimization_level: int
    hardware_compatibility_level: HardwareCompatibilityLevel
    max_aux_streams: int

    def set_flag(self, flag: BuilderFlag) -> None: ...
    def clear_flag(self, flag: BuilderFlag) -> None: ...
    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None: ...
    def add_optimization_profile(self, profile: IOptimizationProfile) -> int: ...
    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None: ...
    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...
    def get_timing_cache(self) -> ITimingCache | None: ...


class ITensor(Protocol):
    """Input or output of a network."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Dims: ...


class INetworkDefinition(Protocol):
    """A graph as the builder sees it."""

    @property
    def num_inputs(self) -> int: ...
    @property
    def num_outputs(self) -> int: ...

    def get_input(self, index: int) -> ITensor: ...
    def get_output(self, index: int) -> ITensor: ...


class Builder(Protocol):
    """Makes plans."""

    max_threads: int

    def create_network(self, flags: int) -> INetworkDefinition: ...
    def create_builder_config(self) -> IBuilderConfig: ...
    def create_optimization_profile(self) -> IOptimizationProfile: ...
    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None: ...


class ParserError(Protocol):
    """One thing in a graph that cannot be read."""

    def desc(self) -> str: ...
    def node_name(self) -> str: ...
    def node_operator(self) -> str: ...


class OnnxParser(Protocol):
    """Reads graphs."""

    @property
    def num_errors(self) -> int: ...

    def set_flag(self, flag: OnnxParserFlag) -> None: ...
    def parse_from_file(self, model: str) -> bool: ...
    def get_error(self, index: int) -> ParserError: ...


class IExecutionContext(Protocol):
    """One way to run an engine at a time."""

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool: ...
    def set_device_memory(self, memory: int, size: int) -> None: ...
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...
    def set_tensor_address(self, name: str, memory: int) -> bool: ...
    def infer_shapes(self) -> list[str]: ...
    def get_tensor_shape(self, name: str) -> Dims: ...
    def execute_async_v3(self, stream_handle: int) -> bool: ...


class ICudaEngine(Protocol):
    """A plan on a device."""

    weight_streaming_budget_v2: int

    @property
    def num_io_tensors(self) -> int: ...
    @property
    def device_memory_size_v2(self) -> int: ...
    @property
    def streamable_weights_size(self) -> int: ...
    @property
    def refittable(self) -> bool: ...

    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_mode(self, name: str) -> TensorIOMode: ...
    def get_tensor_dtype(self, name: str) -> DataType: ...
    def get_tensor_shape(self, name: str) -> Dims: ...
    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]: ...
    def create_execution_context(self, strategy: ExecutionContextAllocationStrategy) -> IExecutionContext | None: ...


class Runtime(Protocol):
    """Opens plans.  Never made without a working driver."""

    engine_host_code_allowed: bool

    def deserialize_cuda_engine(self, serialized_engine: bytes | mmap.mmap) -> ICudaEngine | None: ...


class Weights(Protocol):
    """A typed pointer."""

    @property
    def dtype(self) -> DataType: ...
    @property
    def size(self) -> int: ...


class Refitter(Protocol):
    """Replaces an engine's weights."""

    def get_missing_weights(self) -> list[str]: ...
    def get_weights_prototype(self, weights_name: str) -> Weights: ...
    def set_named_weights(self, name: str, weights: Weights, location: TensorLocation) -> bool: ...
    def refit_cuda_engine_async(self, stream_handle: int) -> bool: ...


LOADING = (
    ILogger, DataType, TensorIOMode, TensorLocation, ExecutionContextAllocationStrategy, IExecutionContext, ICudaEngine, Runtime,
    Weights, Refitter,
)  # fmt: skip
"""What opening and running a plan takes; the lean runtime has all of it."""

BUILDING = (
    NetworkDefinitionCreationFlag, BuilderFlag, HardwareCompatibilityLevel, MemoryPoolType, OnnxParserFlag, IHostMemory, ITimingCache,
    IOptimizationProfile, IBuilderConfig, ITensor, INetworkDefinition, Builder, ParserError, OnnxParser,
)  # fmt: skip
"""What making one takes besides."""


def members(kind: type) -> set[str]:
    """Names that are touched of a class."""
    return {name for name in (*vars(kind), *kind.__annotations__) if not name.startswith("_")}
