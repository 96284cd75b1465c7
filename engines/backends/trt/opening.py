"""From a plan to an engine: the runtime is started once, and an engine is used only when it is what the spec says."""

import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from engines.backends.trt.api import DataType, ICudaEngine, Runtime
from engines.backends.trt.messages import Listener, listener, said
from engines.backends.trt.plan import PLAN, PlanFacts
from engines.backends.trt.vendor import TensorRT, Vendor
from engines.errors import ArtifactError, BackendUnavailableError
from engines.spec import BATCH, EngineSpec, TensorSpec

HEADROOM_BYTES = 2**30
"""Left free beside streamed weights, for activations."""


@dataclass(frozen=True)
class Library:
    """TensorRT, started."""

    vendor: Vendor
    heard: Listener
    runtime: Runtime

    @property
    def trt(self) -> TensorRT:
        """The vendor's module."""
        return self.vendor.trt


def start_library(vendor: Vendor, driver: Callable[[], str | None]) -> Library:
    """Start the runtime.  Never without a working driver: the vendor's object would be a null pointer, and the process would end."""
    reason = driver()
    if reason is not None:
        raise BackendUnavailableError("tensorrt", [reason])
    heard = listener(vendor.trt)
    try:
        return Library(vendor, heard, vendor.trt.Runtime(heard))
    except (RuntimeError, TypeError) as error:  # what the bindings make of a null pointer
        raise BackendUnavailableError("tensorrt", [f"{vendor.module} does not start ({error}): {said(heard.errors)}"]) from error


@dataclass(frozen=True, eq=False)
class Opened:
    """An engine, with what keeps it alive.  Its weights serve any number of contexts."""

    library: Library
    engine: ICudaEngine
    types: Mapping[str, torch.dtype]
    """Of its inputs and outputs; where the spec says float32, the graph may have half."""
    memory_bytes: int
    """Of activations, for one context."""


def open_plan(library: Library, folder: Path, facts: PlanFacts, spec: EngineSpec, free_bytes: Callable[[], int]) -> Opened:
    """The plan of an artifact.  Raises ArtifactError for one that the runtime refuses or that is another network."""
    engine = _deserialised(library, folder / PLAN, host_code=facts.portable is not None)
    if facts.refit and not engine.refittable:
        raise ArtifactError(f"the plan of {spec.name!r} was to be refittable and is not; build it again")
    limit_streaming(engine, free_bytes)
    types = {each.name: _checked(library.trt, engine, each, spec) for each in (*spec.inputs, *spec.outputs)}
    if engine.num_io_tensors != len(types):
        every = sorted(engine.get_tensor_name(index) for index in range(engine.num_io_tensors))
        raise ArtifactError(f"the plan of {spec.name!r} has {every} where {sorted(types)} was asked for; build it again")
    return Opened(library, engine, types, engine.device_memory_size_v2)


def limit_streaming(engine: ICudaEngine, free_bytes: Callable[[], int]) -> None:
    """Weights that may be streamed stay on the host only as far as the device has no room for them."""
    if engine.streamable_weights_size > 0:
        engine.weight_streaming_budget_v2 = max(0, min(engine.streamable_weights_size, free_bytes() - HEADROOM_BYTES))


def _deserialised(library: Library, path: Path, *, host_code: bool) -> ICudaEngine:
    """Portable plans carry code for the host (a lean runtime), which is allowed for them alone."""
    library.heard.errors.clear()
    library.runtime.engine_host_code_allowed = host_code
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            engine = library.runtime.deserialize_cuda_engine(content)
    except (OSError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}; build it again") from error
    if engine is None:
        raise ArtifactError(f"TensorRT {library.vendor.version} refuses {path}: {said(library.heard.errors)}; build it again")
    return engine


def _checked(trt: TensorRT, engine: ICudaEngine, spec: TensorSpec, network: EngineSpec) -> torch.dtype:
    """Type of one input or output, when name, direction, shape and batch sizes are the spec's."""
    wanted = trt.TensorIOMode.INPUT if spec in network.inputs else trt.TensorIOMode.OUTPUT
    if engine.get_tensor_mode(spec.name) != wanted:
        raise ArtifactError(f"the plan of {network.name!r} has no {spec.name!r} where the spec has it; build it again")
    row, kind = tuple(engine.get_tensor_shape(spec.name))[1:], engine.get_tensor_dtype(spec.name)
    types = torch_types(trt)
    allowed = (torch.float32, torch.float16, torch.bfloat16) if spec.dtype == "float32" else (getattr(torch, spec.dtype),)
    if row != spec.row or types.get(kind) not in allowed:
        raise ArtifactError(
            f"the plan of {network.name!r} has {spec.name!r} as {kind} with rows of {row}, asked for was {spec}; build it again"
        )
    if wanted == trt.TensorIOMode.INPUT and spec.shape[0] == BATCH:
        _check_batches(engine, spec, network)
    return types[kind]


def _check_batches(engine: ICudaEngine, spec: TensorSpec, network: EngineSpec) -> None:
    fixed = next(iter(engine.get_tensor_shape(spec.name)))
    shapes = [(fixed,)] * 3 if fixed >= 0 else engine.get_tensor_profile_shape(spec.name, 0)
    least, _, most = (next(iter(shape)) for shape in shapes)
    if least > network.profile.min_b or most < network.profile.max_b:
        raise ArtifactError(
            f"the plan of {network.name!r} takes {least} to {most} rows, asked for was {network.profile}; build it again"
        )


def torch_types(trt: TensorRT) -> dict[DataType, torch.dtype]:
    """The vendor's types as torch's."""
    kinds = trt.DataType
    return {
        kinds.FLOAT: torch.float32,
        kinds.HALF: torch.float16,
        kinds.BF16: torch.bfloat16,
        kinds.INT64: torch.int64,
        kinds.BOOL: torch.bool,
    }
