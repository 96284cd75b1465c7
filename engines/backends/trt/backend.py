"""TensorRT as a backend: probed without risk, built in a child process, opened from the cache."""

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from weakref import WeakValueDictionary

import torch
from torch import nn

from engines.backends.trt.arena import Arena, shared_arena
from engines.backends.trt.choices import opsets, precisions, weight_bytes
from engines.backends.trt.device import CudaDevice, Device, Queue
from engines.backends.trt.opening import Library, Opened, open_plan, start_library
from engines.backends.trt.plan import PLAN, PlanFacts, plan_facts, read_facts, write_facts
from engines.backends.trt.program import TensorrtProgram
from engines.backends.trt.refit import Weights, weights_of
from engines.backends.trt.request import HIGHEST_LEVEL, BuildOptions, BuildRequest, build_request
from engines.backends.trt.spawn import ChildBuild, try_once
from engines.backends.trt.timings import alone_on
from engines.backends.trt.vendor import Vendor, find_vendor
from engines.cache import BuildCache
from engines.capability import Capability, cuda_driver
from engines.engine import Engine
from engines.errors import ArtifactError, BackendUnavailableError, ExportError, NotRefittableError, PlanError
from engines.graphs.weights import GRAPH, WEIGHTS
from engines.spec import EngineSpec

LOG = logging.getLogger(__name__)

Export = Callable[[nn.Module, EngineSpec, Path], None]
"""Writes ``model.onnx`` and ``weights.json`` of a module into a folder."""


def default_export(module: nn.Module, spec: EngineSpec, folder: Path) -> None:
    """As all backends export."""
    from engines.graphs.export import export

    export(module, spec, folder)


@dataclass(frozen=True, kw_only=True)
class Ways:
    """How the outside is reached."""

    driver: Callable[[], str | None] = cuda_driver
    """Asked before anything of the vendor's is touched."""
    find: Callable[[], Vendor | str] = find_vendor
    start: Callable[[str, Mapping[str, str]], str | None] = try_once
    """Tries the runtime elsewhere before it is started here."""
    build: Callable[[BuildRequest, Mapping[str, str]], None] = field(default_factory=ChildBuild)
    export: Export = default_export


@dataclass(frozen=True, eq=False)
class TensorrtBackend:
    """Compiles graphs for the device at hand."""

    cache: BuildCache
    device: Device = field(default_factory=CudaDevice)
    options: BuildOptions = field(default_factory=BuildOptions)
    threads: int | None = None
    """Of the host, while building; None: as many as torch uses."""
    ways: Ways = field(default_factory=Ways)
    arena: Arena | None = None
    """Activation memory; None: the one that all engines of the device share."""
    name: str = "tensorrt"

    def probe(self) -> Capability:
        """Driver, then device, then library; the runtime is first started in a process that may die of it."""
        found = self._found
        if isinstance(found, str):
            return Capability(backend=self.name, reason=found, device="cuda")
        facts = self.device.facts()
        return Capability(
            backend=self.name, version=found.version, device=facts.name, precisions=precisions(facts.capability),
            kinds=("forward", "vjp", "guided"),
        )  # fmt: skip

    def ready(self, spec: EngineSpec) -> bool:
        """Building takes minutes, and even loading a while."""
        return False

    def unusable(self, spec: EngineSpec) -> str | None:
        """No driver, no library, a precision the device lacks, or a runtime that only loads."""
        reason = self.probe().refuses(spec)
        return self._cannot_build() if reason is None else reason

    def build(self, module: nn.Module, spec: EngineSpec) -> Engine:
        """Compile unless the cache has the plan; one that the runtime refuses is compiled again, once.

        Raises PlanError when TensorRT cannot compile it, BackendUnavailableError when there is no TensorRT that builds.
        """
        library, reason = self._library, self._cannot_build()
        if reason is not None:
            raise BackendUnavailableError(self.name, [reason])
        streaming = weight_bytes(module, spec.precision) > self.device.free_bytes()
        key, about = self._key(spec, library.vendor, streaming), spec.about(self.name)
        for last in (False, True):
            folder = self.cache.obtain(key, lambda empty: self._make(module, spec, empty, streaming=streaming), about, code=True)
            try:
                return replace(self._open(library, folder, spec), artifact=self.cache.content(key))
            except ArtifactError as error:
                LOG.warning("plan %s of %r is thrown away: %s", key, spec.name, error)
                self.cache.discard(key)
                if last:
                    raise
        raise AssertionError

    def load(self, artifact: Path, spec: EngineSpec) -> Engine:
        """A plan from its directory, when it is whole, nobody else may have written it, and it suits release, device and spec."""
        library = self._library
        damage = BuildCache(artifact.parent).damage(artifact.name, code=True)
        if damage is not None:
            raise ArtifactError(f"{artifact} is not loaded: {damage}; build it again")
        return self._open(library, artifact, spec)

    @cached_property
    def _found(self) -> Vendor | str:
        ways = self.ways
        reason = ways.driver() or self.device.unavailable()
        if reason is not None:
            return reason
        found = ways.find()
        return found if isinstance(found, str) else ways.start(found.module, self.device.environment()) or found

    @cached_property
    def _library(self) -> Library:
        if isinstance(self._found, str):
            raise BackendUnavailableError(self.name, [self._found])
        return start_library(self._found, self.ways.driver)

    def _cannot_build(self) -> str | None:
        found = self._found
        if isinstance(found, Vendor) and found.lean:
            return f"{found.module} loads portable plans and builds none; install the extra `tensorrt`, or load a plan"
        return None

    def _key(self, spec: EngineSpec, vendor: Vendor, streaming: bool) -> str:
        """Of the plan; one that was searched for longer is as good where it is there."""
        longer = [replace(self.options, level=level) for level in range(HIGHEST_LEVEL, self.options.level, -1)]
        keys = [spec.key(self._compiled_for(options, vendor, streaming)) for options in (*longer, self.options)]
        return next((key for key in keys if self.cache.has(key)), keys[-1])

    def _compiled_for(self, options: BuildOptions, vendor: Vendor, streaming: bool) -> dict[str, str]:
        """What the plan depends on besides the graph; a portable one depends on less of the device."""
        device = self.device.facts().note()
        dropped = {None: (), "same_compute_capability": ("name", "multiprocessors"), "ampere_plus": tuple(device)}
        device = {name: value for name, value in device.items() if name not in dropped[options.portable]}
        return {"backend": self.name, "version": vendor.version, **device, **options.note(), "streaming": str(streaming)}

    def _make(self, module: nn.Module, spec: EngineSpec, empty: Path, *, streaming: bool) -> None:
        """By the newest operators that both the exporter and the parser take."""
        reasons: list[str] = []
        for opset in opsets(self._library.vendor.release):
            try:
                graph_spec = replace(spec, opset=opset)
                graph = self.cache.obtain(graph_spec.key(), partial(self.ways.export, module, graph_spec), spec.about("onnx"))
                self._compile(spec, graph, empty, streaming=streaming)
            except ExportError as error:
                if isinstance(error, PlanError) and error.stage != "parse":
                    raise
                reasons.append(f"opset {opset}: {'; '.join(error.reasons) if isinstance(error, PlanError) else error}")
            else:
                return
        raise PlanError("parse", reasons)

    def _compile(self, spec: EngineSpec, graph: Path, empty: Path, *, streaming: bool) -> None:
        vendor, here = self._library.vendor, self.device.facts()
        with alone_on(self.cache.root, here.name, vendor.version) as timings:
            request = build_request(
                spec, self.options, module=vendor.module, graph=graph / GRAPH, plan=empty / PLAN, timings=timings,
                streaming=streaming, threads=self.threads or torch.get_num_threads(),
            )  # fmt: skip
            self.ways.build(request, self.device.environment())
        write_facts(plan_facts(spec, self.options, vendor, here, graph.name), empty)
        if self.options.refit:
            shutil.copyfile(graph / WEIGHTS, empty / WEIGHTS)

    def _open(self, library: Library, folder: Path, spec: EngineSpec) -> Engine:
        facts = read_facts(folder)
        misfit = facts.misfit(spec, library.vendor, self.device.facts())
        if misfit is not None:
            raise ArtifactError(f"{folder} cannot be used here: {misfit}; build it here")
        opened = None if facts.refit else self._shared.get(folder)
        if opened is None:
            opened = self._read(library, folder, facts, spec)
        if facts.refit:
            weights = self._weights(opened, folder, facts, spec)
        else:
            weights, self._shared[folder] = None, opened
        arena = self.arena or shared_arena(self.device.torch)
        program = TensorrtProgram(spec, opened, self.device, arena, weights)
        return Engine(spec=spec, program=program, backend=self.name)

    def _read(self, library: Library, folder: Path, facts: PlanFacts, spec: EngineSpec) -> Opened:
        with self.device.working(None) as queue:
            opened = open_plan(library, folder, facts, spec, self.device.free_bytes)
            if facts.strip:
                _complete(self._weights(opened, folder, facts, spec), queue, folder)
        return opened

    def _weights(self, opened: Opened, folder: Path, facts: PlanFacts, spec: EngineSpec) -> Weights:
        """Their graph lies beside the plan, or where it was compiled from."""
        beside = folder / GRAPH
        graph = beside if beside.exists() else self.cache.root / facts.graph / GRAPH
        return weights_of(spec.name, opened, self.device.torch, folder, graph)

    @cached_property
    def _shared(self) -> WeakValueDictionary[Path, Opened]:
        """Plans that engines have open, by folder: their weights are on the device once, however many workers run them."""
        return WeakValueDictionary()


def _complete(weights: Weights, queue: Queue, folder: Path) -> None:
    try:
        weights.complete(queue)
    except (NotRefittableError, OSError) as error:
        raise ArtifactError(f"{folder} was stored without weights, and its graph does not have them: {error}") from error
