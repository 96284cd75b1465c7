"""Exports a module once, then runs the graph on the CPU or the CUDA provider."""

import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from statistics import median

import torch
from torch import nn

from engines.backends.eager import CUDA_PRECISIONS
from engines.backends.ort.program import OrtProgram
from engines.backends.ort.sessions import PROVIDERS, open_graph, provider_missing
from engines.cache import BuildCache
from engines.capability import Capability
from engines.engine import Engine
from engines.errors import ArtifactError, BackendError
from engines.graphs.maker import Exporting, GraphMaker
from engines.graphs.weights import GRAPH
from engines.spec import TORCH_TYPES, EngineSpec, Kind, Precision, digest

KINDS: tuple[Kind, ...] = ("forward", "vjp", "guided")
TRIALS = 5
"""Runs of each variant, of which the median counts."""

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Variant:
    """One way to put a network before the CUDA provider; which is fastest depends on the release and the network."""

    opset: int
    """From 21 on normalisation is one operator, for which not every release has a kernel."""
    nhwc: bool = False
    """Images channels last inside."""


CUDA_VARIANTS = tuple(Variant(opset, nhwc) for opset, nhwc in product((20, 21), (False, True)))


@dataclass(frozen=True)
class OrtBackend:
    """Exports a module once, then runs the graph."""

    cache: BuildCache
    device: str = "cpu"
    threads: int | None = None
    name: str = "ort"
    make: GraphMaker = field(default_factory=Exporting)

    def probe(self) -> Capability:
        """Missing libraries, a build without the device's provider, no driver."""
        where = self.device.partition(":")[0]
        reason = libraries_missing()
        if reason is None and where not in PROVIDERS:
            reason = f"device {self.device!r} is unknown; use {' or '.join(PROVIDERS)}"
        if reason is None:
            reason = provider_missing(PROVIDERS[where])
        precisions: tuple[Precision, ...] = ("fp32",) if where == "cpu" else CUDA_PRECISIONS
        return Capability(
            backend=self.name, reason=reason, version=runtime_version(), device=self.device, precisions=precisions, kinds=KINDS
        )

    def unusable(self, spec: EngineSpec) -> str | None:
        """Missing libraries, half precision on a CPU, a device without its provider."""
        return self.probe().refuses(spec)

    def ready(self, spec: EngineSpec) -> bool:
        """Whether the graph is there, or made quickly; on CUDA, whose variants are tried, never."""
        return self.device == "cpu" and (self.cache.has(spec.key()) or self.make.quick(spec))

    def build(self, module: nn.Module, spec: EngineSpec) -> Engine:
        """Export unless the cache has the graph.  For CUDA there are several variants: the fastest is kept, and remembered."""
        if self.device == "cpu":
            return self._engine(spec, self._opened(module, spec, Variant(spec.opset)), self.cache.content(spec.key()))
        note = f"ort-variant-{digest({'machine': torch.cuda.get_device_name(), 'version': runtime_version()})[:16]}"
        variant = remembered(self.cache, spec, note)
        if variant is None:
            variant = fastest(CUDA_VARIANTS, lambda each: seconds_of(self._opened(module, spec, each)))
            self.cache.write_note(spec.key(), note, asdict(variant))
        made = replace(spec, opset=variant.opset)
        opened = self._opened(module, spec, variant)
        return self._engine(spec, opened, f"{self.cache.content(made.key())}{variant.nhwc:d}")

    def load(self, artifact: Path, spec: EngineSpec) -> Engine:
        """Open the graph in an artifact's directory.  Raises ArtifactError for one that is not what the spec says."""
        return self._engine(spec, open_graph(artifact / GRAPH, spec, self.device, self.threads))

    def _engine(self, spec: EngineSpec, program: OrtProgram, artifact: str = "") -> Engine:
        return Engine(spec=spec, program=program, backend=self.name, artifact=artifact)

    def _opened(self, module: nn.Module, spec: EngineSpec, variant: Variant) -> OrtProgram:
        made = replace(spec, opset=variant.opset)
        return readable(
            self.cache, module, made, self.make, lambda graph: open_graph(graph, spec, self.device, self.threads, nhwc=variant.nhwc)
        )


def readable(
    cache: BuildCache, module: nn.Module, spec: EngineSpec, make: GraphMaker, read: Callable[[Path], OrtProgram]
) -> OrtProgram:
    """What ``read`` makes of the network's graph; a graph that it refuses is made again, once, by exporting it."""
    key = spec.key()
    for last in (False, True):
        maker = Exporting() if last else make
        folder = cache.obtain(key, partial(maker, module, spec), spec.about("onnx"))
        try:
            return read(folder / GRAPH)
        except ArtifactError:
            cache.discard(key)
            if last:
                raise
    raise AssertionError


def fastest(variants: Sequence[Variant], seconds: Callable[[Variant], float]) -> Variant:
    """The variant with the shortest time; one that cannot be built is passed over.  Raises BackendError when none can."""
    times: dict[Variant, float] = {}
    failure: BackendError | None = None
    for variant in variants:
        try:
            times[variant] = seconds(variant)
        except BackendError as error:
            LOG.warning("%s is passed over: %s", variant, error)
            failure = error
    if not times and failure is not None:
        raise failure
    return min(times, key=lambda each: times[each])


def remembered(cache: BuildCache, spec: EngineSpec, note: str) -> Variant | None:
    """The variant that was fastest here before; a note of another form is none."""
    known = cache.read_note(spec.key(), note)
    return next((each for each in CUDA_VARIANTS if known == asdict(each)), None)


def seconds_of(program: OrtProgram) -> float:
    """Median time of a bound batch of the size that the network is tuned for; the program is closed."""
    rows = program.spec.profile.opt_b
    feeds, outs = (
        {each.name: torch.ones(rows, *each.row, dtype=TORCH_TYPES[each.dtype], device=program.device) for each in tensors}
        for tensors in (program.spec.inputs, program.spec.outputs)
    )
    replay = program.bind(feeds, outs)
    times: list[float] = []
    for _ in range(TRIALS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    program.close()
    return median(times)


def libraries_missing() -> str | None:
    """What is not installed, or None."""
    missing = [library for library in ("onnxruntime", "onnx", "onnxscript") if importlib.util.find_spec(library) is None]
    return f"{', '.join(missing)} not installed; install the extra `cpu` or `gpu`" if missing else None


def runtime_version() -> str:
    """Of whichever package supplies the runtime."""
    for package in ("onnxruntime-gpu", "onnxruntime"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return ""
