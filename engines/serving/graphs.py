"""Networks to models: built by the backend of the platform, certified, and described."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from engines.cache import BuildCache
from engines.certificate import Certificate, certificate_note, read_certificate
from engines.errors import BackendUnavailableError
from engines.network import Network
from engines.protocols import Backend
from engines.serving.config import Device, Platform, graph_config
from engines.serving.identity import served_name
from engines.serving.judging import judged
from engines.serving.repository import WrittenModel
from engines.serving.resources import python_model
from engines.spec import EngineSpec, Profile

ARTIFACTS: Mapping[Platform, tuple[str, str]] = {
    "python": ("model.onnx", "model.onnx"),
    "onnxruntime": ("model.onnx", "model.onnx"),
    "tensorrt": ("plan", "model.plan"),
}
"""Name of the artifact in the cache, and the one that Triton looks for."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How networks are served."""

    platform: Platform
    buckets: tuple[int, ...]
    """Batch sizes to be prepared for; the largest is the most rows of a request."""
    device: Device
    cache: BuildCache

    @property
    def rows(self) -> int:
        """Most rows of a request."""
        return max(self.buckets)


@dataclass(frozen=True)
class _Watched:
    """A cache that remembers what was taken from it."""

    cache: BuildCache
    taken: list[Path] = field(default_factory=list)

    def obtain(self, key: str, make: Callable[[Path], None], *arguments: Any, **options: Any) -> Path:
        """As the cache does."""
        folder = self.cache.obtain(key, make, *arguments, **options)
        self.taken.append(folder)
        return folder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)


def graph_model(network: Network, serving: Serving) -> WrittenModel:
    """Build and certify a network, and describe its model.  Raises ExportError, ParityError, BackendUnavailableError."""
    spec = network.spec
    if serving.platform == "tensorrt":  # a plan is tuned to its batches, a graph takes any
        spec = replace(spec, profile=Profile(1, serving.rows, serving.rows))
    folder, certificate = _built(network, spec, serving)
    ours, theirs = ARTIFACTS[serving.platform]
    files: dict[str, str | bytes | Path] = {theirs: folder / ours}
    files |= {path.name: path for path in folder.glob(f"{ours}.data*")}  # weights of more than a protobuf holds
    if serving.platform == "python":
        files["model.py"] = python_model("graph")
    config = graph_config(spec, serving.platform, serving.buckets, serving.device, tier="exact", about=_about(folder, certificate))
    return WrittenModel(name=served_name(spec), config=config, files=files)


def _built(network: Network, spec: EngineSpec, serving: Serving) -> tuple[Path, Certificate]:
    """Directory of the artifact, and its certificate."""
    cache = _Watched(serving.cache)
    backend = _backend(serving.platform, cast("BuildCache", cache))
    reason = backend.unusable(spec)
    if reason is not None:
        raise BackendUnavailableError(backend.name, [reason])
    engine = backend.build(network.module, spec)
    folder, note = cache.taken[-1], f"certificate-served-{backend.name}-{backend.probe().version}"
    certificate = read_certificate(serving.cache.read_note(folder.name, note))
    if certificate is None:
        certificate = judged(engine, network.module, network.batches())
        serving.cache.write_note(folder.name, note, certificate_note(certificate))
    engine.close()
    return folder, certificate


def _backend(platform: Platform, cache: BuildCache) -> Backend:
    """Graphs are certified on this machine's CPU, wherever they are served; plans on its GPU."""
    if platform == "tensorrt":
        from engines.backends.trt.backend import TensorrtBackend

        return TensorrtBackend(cache)
    from engines.backends.ort import OrtBackend

    return OrtBackend(cache)


def _about(folder: Path, certificate: Certificate) -> dict[str, str]:
    """What operators should know of an artifact: its key, how far it is from the reference, and for a plan what it was compiled for."""
    facts = folder / "plan.json"
    built_for = json.loads(facts.read_text(encoding="utf-8")) if facts.is_file() else {}
    errors = {"error": certificate.error, "gradient_error": certificate.gradient_error}
    return {
        "artifact": folder.name,
        **{key: f"{value:.1e}" for key, value in errors.items() if value is not None},
        **{f"plan_{key}": str(built_for[key]) for key in ("version", "device") if key in built_for},
    }
