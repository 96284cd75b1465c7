"""ONNX Runtime's TensorRT provider: offered where the loader finds the TensorRT that it was linked against."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from engines.backends.eager import CUDA_PRECISIONS
from engines.backends.ort.backend import KINDS, libraries_missing, readable, runtime_version
from engines.backends.ort.elf import needed
from engines.backends.ort.options import cuda_options, tensorrt_options
from engines.backends.ort.program import OrtProgram
from engines.backends.ort.sessions import PROVIDERS, elsewhere, open_session, own_stream, provider_missing
from engines.cache import BuildCache
from engines.capability import Capability
from engines.engine import Engine
from engines.errors import ArtifactError, BackendUnavailableError
from engines.graphs.maker import Exporting, GraphMaker
from engines.graphs.weights import GRAPH
from engines.spec import EngineSpec

PROVIDER = "TensorrtExecutionProvider"
LIBRARY = "libonnxruntime_providers_tensorrt.so"
PREFIX = "libnvinfer"
ELSEWHERE = 0.01
"""Largest share of nodes that may run on another provider."""

PLANS = "ep_cache"


@dataclass(frozen=True)
class OrtTensorrtBackend:
    """Hands graphs to TensorRT through ONNX Runtime; plans and timings are kept with the network's artifact."""

    cache: BuildCache
    device: str = "cuda"
    threads: int | None = None
    name: str = "ort-tensorrt"
    make: GraphMaker = field(default_factory=Exporting)

    def probe(self) -> Capability:
        """Missing libraries, no driver, or a TensorRT of another major version than the provider was linked against."""
        reason = libraries_missing()
        if reason is None and not self.device.startswith("cuda"):
            reason = f"TensorRT runs on CUDA devices, not on {self.device!r}"
        reason = reason or provider_missing(PROVIDER) or provider_missing(PROVIDERS["cuda"]) or tensorrt_missing(_provider_folder())
        return Capability(
            backend=self.name, reason=reason, version=runtime_version(), device=self.device, precisions=CUDA_PRECISIONS, kinds=KINDS
        )

    def ready(self, spec: EngineSpec) -> bool:
        """TensorRT builds inside the session."""
        return False

    def unusable(self, spec: EngineSpec) -> str | None:
        """What the probe found, or a precision that is not offered."""
        return self.probe().refuses(spec)

    def build(self, module: nn.Module, spec: EngineSpec) -> Engine:
        """Export unless the cache has the graph, and compile it unless the cache has the plan."""
        plans = self._plans(spec)
        program = readable(self.cache, module, spec, self.make, lambda graph: self._opened(graph, spec, plans))
        return replace(self._engine(spec, program), artifact=self.cache.content(spec.key()))

    def load(self, artifact: Path, spec: EngineSpec) -> Engine:
        """Open the graph in an artifact's directory; the plan may have to be compiled."""
        return self._engine(spec, self._opened(artifact / GRAPH, spec, self._plans(spec)))

    def _engine(self, spec: EngineSpec, program: OrtProgram) -> Engine:
        return Engine(spec=spec, program=program, backend=self.name)

    def _opened(self, graph: Path, spec: EngineSpec, plans: Path) -> OrtProgram:
        where = torch.device(self.device)
        stream, index = own_stream(where), where.index or 0
        providers = [
            (PROVIDER, tensorrt_options(spec, plans, index=index, stream=stream.cuda_stream)),
            (
                PROVIDERS["cuda"],
                cuda_options(spec, index=index, stream=stream.cuda_stream, nhwc=False) | {"enable_cuda_graph": "0"},
            ),
        ]
        session = open_session(graph, spec, providers, self.threads)
        check_placement(elsewhere(session, PROVIDER), spec, self.name)
        return OrtProgram(spec, session, where, stream, graphs=spec.profile.static)

    def _plans(self, spec: EngineSpec) -> Path:
        """Plans are code: a folder that others can write is thrown away."""
        compiled_for = {
            "backend": self.name,
            "version": runtime_version(),
            "cuda": str(torch.version.cuda),
            "device": torch.cuda.get_device_name(),
            "capability": ".".join(map(str, torch.cuda.get_device_capability())),
        }
        return self.cache.obtain(spec.key(compiled_for), _empty, {**spec.about(self.name), **compiled_for}, code=True) / PLANS


def check_placement(share: float, spec: EngineSpec, backend: str) -> None:
    """Raise BackendUnavailableError when too much of a graph fell to another provider."""
    if share > ELSEWHERE:
        raise BackendUnavailableError(
            backend, [f"{share:.0%} of the nodes of {spec.name!r} fell to another provider; allowed is {ELSEWHERE:.0%}"]
        )


def tensorrt_missing(folder: Path, load: Callable[[str], object] | None = None) -> str | None:
    """Why the provider's library in ``folder`` would not load, or None.  Which TensorRT it needs is read from the library itself."""
    path = folder / LIBRARY
    if not path.is_file():
        return f"this build of onnxruntime has no {LIBRARY}; install onnxruntime-gpu"
    try:
        wanted = [name for name in needed(path) if name.startswith(PREFIX)]
    except (OSError, ValueError) as error:
        return f"{LIBRARY} cannot be read: {error}; install onnxruntime-gpu again"
    for name in wanted:
        try:
            (load or _load)(name)
        except OSError:
            return f"{LIBRARY} needs {name}, which the loader does not find; install that major version of TensorRT"
    return None


def _load(name: str) -> object:
    """From the loader's path, or from the package that carries TensorRT's libraries."""
    try:
        return ctypes.CDLL(name)
    except OSError:
        package = find_spec("tensorrt_libs")
        if package is None or package.origin is None:
            raise
        return ctypes.CDLL(str(Path(package.origin).parent / name), ctypes.RTLD_GLOBAL)


def _provider_folder() -> Path:
    package = find_spec("onnxruntime")
    if package is None or package.origin is None:
        raise ArtifactError("onnxruntime has no folder; install it again")
    return Path(package.origin).parent / "capi"


def _empty(folder: Path) -> None:
    (folder / PLANS).mkdir(mode=0o700)
    (folder / "plans.txt").write_text("Plans of ONNX Runtime's TensorRT provider lie in the folder beside this file.\n")
