"""Opening sessions.  ONNX Runtime falls back to the CPU silently, so what a session really uses is compared with what was asked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from engines.backends.ort.options import SESSION_ENTRIES, cuda_options
from engines.backends.ort.program import OrtProgram
from engines.backends.ort.upsampling import without_upsampling
from engines.capability import cuda_driver
from engines.errors import ArtifactError, BackendUnavailableError
from engines.memory import out_of_memory
from engines.protocols import Stream
from engines.spec import Dtype, EngineSpec

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

TYPES: Mapping[str, Dtype] = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}

Providers = Sequence[tuple[str, Mapping[str, str]]]
"""The first is the one that is wanted; those behind it take what it cannot run."""


def open_graph(path: Path, spec: EngineSpec, device: str = "cpu", threads: int | None = None, *, nhwc: bool = False) -> OrtProgram:
    """Open a graph on a device; raises when the runtime would quietly use another, or when the graph is not what the spec says."""
    where = torch.device(device)
    if where.type == "cpu":
        return OrtProgram(spec, open_session(without_upsampling(path), spec, [(PROVIDERS["cpu"], {})], threads), where)
    require(PROVIDERS["cuda"])
    stream = own_stream(where)
    options = cuda_options(spec, index=where.index or 0, stream=stream.cuda_stream, nhwc=nhwc)
    session = open_session(path, spec, [(PROVIDERS["cuda"], options)], threads)
    return OrtProgram(spec, session, where, stream, graphs=spec.profile.static)


def open_session(graph: Path | bytes, spec: EngineSpec, providers: Providers, threads: int | None) -> Any:
    """A session whose first provider is at work and whose inputs and outputs are the spec's."""
    import onnxruntime

    wanted = providers[0][0]
    require(wanted)
    _libraries(wanted)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    for entry, value in SESSION_ENTRIES.items():
        options.add_session_config_entry(entry, value)
    named = [(name, dict(values)) for name, values in providers]
    try:
        session = onnxruntime.InferenceSession(graph if isinstance(graph, bytes) else str(graph), options, providers=named)
    except Exception as error:  # the runtime's exceptions share no base class
        if out_of_memory(error):
            raise
        raise ArtifactError(
            f"the graph of {spec.name!r} cannot be opened by ONNX Runtime: {error}; delete it from the cache, and it is built again"
        ) from error
    used = session.get_providers()[0]
    if used != wanted:
        raise BackendUnavailableError("ort", [f"{wanted} was asked for, but the session runs on {used}; its libraries do not load"])
    check_signature(session, spec)
    return session


def check_signature(session: Any, spec: EngineSpec) -> None:
    """Raise ArtifactError for a graph with other names, types or shapes than the spec says."""
    wanted = [_line(each.name, each.dtype, _size(each.shape[0], spec), each.row) for each in (*spec.inputs, *spec.outputs)]
    found = [_described(each, spec) for each in (*session.get_inputs(), *session.get_outputs())]
    if wanted != found:
        raise ArtifactError(
            f"the graph of {spec.name!r} is not what its spec says: it has {'; '.join(found)} instead of {'; '.join(wanted)}; "
            "delete it from the cache, and it is built again"
        )


def elsewhere(session: Any, wanted: str) -> float:
    """Share of the graph's nodes that run on another provider.  Raises BackendUnavailableError where the runtime cannot say."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        raise BackendUnavailableError("ort", ["this onnxruntime does not tell where nodes run; install 1.24 or later"])
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] += len(part.get_nodes())
    return 1 - counts[wanted] / max(counts.total(), 1)


def require(provider: str) -> None:
    """Raise BackendUnavailableError for a provider that this build or this machine lacks."""
    missing = provider_missing(provider)
    if missing:
        raise BackendUnavailableError("ort", [missing])


def provider_missing(provider: str) -> str | None:
    """Why a provider cannot be used, or None; the driver is asked before any library that needs it."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if provider not in available:
        return (
            f"{provider} was asked for, this build of onnxruntime has {', '.join(available)}; install onnxruntime-gpu (extra `gpu`)"
        )
    return None if provider == PROVIDERS["cpu"] else cuda_driver()


def own_stream(device: torch.device) -> Stream:
    """The stream that a session enqueues on, fixed when it is opened."""
    if not torch.cuda.is_available():
        raise BackendUnavailableError(
            "ort", [f"torch sees no CUDA device, and feeds must lie on {device}; install torch with CUDA"]
        )
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types for it


def _libraries(provider: str) -> None:
    """CUDA's libraries come with torch, which is imported; a torch without them leaves them to the runtime's own search."""
    import onnxruntime

    if provider != PROVIDERS["cpu"] and torch.version.cuda is None and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()


def _described(argument: Any, spec: EngineSpec) -> str:
    batch, *row = argument.shape or [""]
    return _line(argument.name, TYPES.get(argument.type, argument.type), _size(batch, spec), tuple(row))


def _line(name: str, dtype: str, batch: str, row: tuple[object, ...]) -> str:
    return f"{name} {dtype} ({', '.join([batch, *map(str, row)])})"


def _size(batch: object, spec: EngineSpec) -> str:
    """A batch that is any, which also serves where it need not be; or its one size."""
    if not isinstance(batch, int) or (spec.profile.static and batch == spec.profile.max_b):
        return "B"
    return str(batch)
