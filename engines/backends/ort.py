"""ONNX Runtime.  It falls back to the CPU silently, so what a session really uses is compared with what was asked."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engines.cache import BuildCache
from engines.capability import Capability
from engines.engine import Engine
from engines.errors import ArtifactError, BackendUnavailableError, NotRefittableError
from engines.export import export_onnx
from engines.protocols import Replay, Stream
from engines.spec import EngineSpec

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
GRAPH = "model.onnx"


@dataclass(frozen=True, eq=False)
class OrtProgram:
    """One session."""

    spec: EngineSpec
    session: Any
    device: torch.device
    captures: int = 0

    def run(self, feeds: Mapping[str, Tensor], out: Mapping[str, Tensor] | None, stream: Stream | None) -> Mapping[str, Tensor]:
        """Tensors on the CPU are handed over without a copy."""
        arrays = {each.name: feeds[each.name].detach().cpu().contiguous().numpy() for each in self.spec.inputs}
        names = [each.name for each in self.spec.outputs]
        results = {name: torch.from_numpy(value) for name, value in zip(names, self.session.run(names, arrays), strict=True)}
        if out is None:
            return results
        for name, value in results.items():
            out[name].copy_(value)
        return out

    def bind(self, feeds: Mapping[str, Tensor], outs: Mapping[str, Tensor]) -> Replay:
        """A replay is a run into the bound tensors."""
        return lambda: (self.run(feeds, outs, None), None)[1]

    def refit(self, weights: Mapping[str, Tensor]) -> None:
        """A session's weights are fixed."""
        raise NotRefittableError(self.spec.name, "an ONNX Runtime session keeps the weights it was opened with")

    def close(self) -> None:
        """The session goes with the engine."""


@dataclass(frozen=True)
class OrtBackend:
    """Exports a module once, then runs the graph."""

    cache: BuildCache
    device: str = "cpu"
    threads: int | None = None
    name: str = "ort"

    def probe(self) -> Capability:
        """Missing libraries, or a build without the device's provider."""
        missing = [library for library in ("onnxruntime", "onnx", "onnxscript") if importlib.util.find_spec(library) is None]
        if missing:
            reason: str | None = f"{', '.join(missing)} not installed; install the extra `cpu` or `gpu`"
        elif self.device not in PROVIDERS:
            reason = f"device {self.device!r} is unknown; use {' or '.join(PROVIDERS)}"
        else:
            reason = _provider_missing(PROVIDERS[self.device])
        return Capability(
            backend=self.name, reason=reason, device=self.device, precisions=("fp32",), kinds=("forward", "vjp", "guided")
        )

    def unusable(self, spec: EngineSpec) -> str | None:
        """Missing libraries, precisions other than fp32, a device without its provider."""
        return self.probe().refuses(spec)

    def build(self, module: nn.Module, spec: EngineSpec) -> Engine:
        """Export unless the cache has the graph; a graph that the runtime cannot read is made again once."""
        key = spec.key()
        for last in (False, True):
            folder = self.cache.obtain(key, lambda empty: export_onnx(module, spec, empty / GRAPH))
            try:
                return self.load(folder, spec)
            except ArtifactError:
                self.cache.discard(key)
                if last:
                    raise
        raise AssertionError

    def load(self, artifact: Path, spec: EngineSpec) -> Engine:
        """Open the graph in an artifact's directory."""
        return Engine(spec=spec, program=open_graph(artifact / GRAPH, spec, self.device, self.threads), backend=self.name)


def open_graph(path: Path, spec: EngineSpec, device: str = "cpu", threads: int | None = None) -> OrtProgram:
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
        raise ArtifactError(f"{path} cannot be opened by ONNX Runtime: {error}; delete it, and it is built again") from error
    used = session.get_providers()[0]
    if used != provider:
        raise BackendUnavailableError(
            "ort", [f"{provider} was asked for, but the session runs on {used}; its libraries do not load"]
        )
    return OrtProgram(spec, session, torch.device(device))


def _provider_missing(provider: str) -> str | None:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if provider in available:
        return None
    return f"{provider} was asked for, this build of onnxruntime has {', '.join(available)}; install onnxruntime-gpu (extra `gpu`)"
