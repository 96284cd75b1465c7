"""ONNX Runtime.  It falls back to the CPU silently, so what a session really uses is compared with what was asked."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engines.cache import BuildCache
from engines.errors import BackendUnavailableError
from engines.export import export_onnx
from engines.spec import EngineSpec

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
GRAPH = "model.onnx"


@dataclass(frozen=True, eq=False)
class OrtEngine:
    """One session."""

    spec: EngineSpec
    session: Any
    backend: str = "ort"

    def run(self, feeds: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Tensors on the CPU are handed over without a copy."""
        arrays = {each.name: feeds[each.name].detach().cpu().contiguous().numpy() for each in self.spec.inputs}
        names = [each.name for each in self.spec.outputs]
        return {name: torch.from_numpy(value) for name, value in zip(names, self.session.run(names, arrays), strict=True)}


@dataclass(frozen=True)
class OrtBackend:
    """Exports a module once, then runs the graph."""

    cache: BuildCache
    device: str = "cpu"
    threads: int | None = None
    name: str = "ort"

    def unusable(self, spec: EngineSpec) -> str | None:
        """Missing libraries, precisions other than fp32, a device without its provider."""
        missing = [library for library in ("onnxruntime", "onnx", "onnxscript") if importlib.util.find_spec(library) is None]
        if missing:
            return f"{', '.join(missing)} not installed; install the extra `cpu` or `gpu`"
        if spec.precision != "fp32":
            return f"precision {spec.precision} is not offered; use fp32"
        if self.device not in PROVIDERS:
            return f"device {self.device!r} is unknown; use {' or '.join(PROVIDERS)}"
        return _provider_missing(PROVIDERS[self.device])

    def build(self, module: nn.Module, spec: EngineSpec) -> OrtEngine:
        """Export unless the cache has the graph; a graph that the runtime cannot read is made again once."""
        key = spec.key()
        for last in (False, True):
            folder = self.cache.obtain(key, lambda empty: export_onnx(module, spec, empty / GRAPH))
            try:
                return load(folder / GRAPH, spec, device=self.device, threads=self.threads)
            except BackendUnavailableError:
                self.cache.discard(key)
                if last:
                    raise
        raise AssertionError


def load(path: Path, spec: EngineSpec, *, device: str = "cpu", threads: int | None = None) -> OrtEngine:
    """Open a graph on a device; raises when the runtime would quietly use another."""
    import onnxruntime

    provider = PROVIDERS[device]
    missing = _provider_missing(provider)
    if missing:
        raise BackendUnavailableError("ort", [missing])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads must not take the cores from serving
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # the runtime's exceptions share no base class
        raise BackendUnavailableError("ort", [f"{path} cannot be opened: {error}"]) from error
    used = session.get_providers()[0]
    if used != provider:
        raise BackendUnavailableError(
            "ort", [f"{provider} was asked for, but the session runs on {used}; its libraries do not load"]
        )
    return OrtEngine(spec, session)


def _provider_missing(provider: str) -> str | None:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if provider in available:
        return None
    return f"{provider} was asked for, this build of onnxruntime has {', '.join(available)}; install onnxruntime-gpu (extra `gpu`)"
