"""Choose who runs a network: the one that was named, or the fastest whose numbers are certified.  Nothing is replaced silently."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from statistics import median

import torch
from torch import Tensor, nn

from engines.cache import BuildCache
from engines.certificate import certificate_note, read_certificate
from engines.engine import Engine
from engines.errors import BackendError, BackendUnavailableError, OutOfMemoryError, ParityError, first_line
from engines.memory import out_of_memory
from engines.parity import Feeds, certify
from engines.protocols import Backend
from engines.spec import EngineSpec, digest
from engines.timing import is_positive

REPLAYS = 20
PATIENCE_SECONDS = 1.0
"""Measuring ends after this many runs or seconds, whichever comes first, but not before two runs."""


LIBRARIES = ("torch", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-cu12", "tensorrt-cu13")
"""Their versions are part of what a certificate holds for."""

BUILD_SECONDS = 30.0
"""What building a network takes, by and large, on a CPU; longer for a GPU."""
FEW_ROWS = 4
"""Rows that backends are compared on where little is to be computed: comparing must not take longer than it saves."""
MANY_BATCHES = 1000
"""From so many batches on, comparing them as they are takes next to nothing of the whole."""
GAIN = 0.15
"""Share of the time that a built network saves, by and large."""


@dataclass(frozen=True)
class BackendChoice:
    """Who runs a network, and why nobody else."""

    name: str
    reason: str
    refused: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)
    """What building, certifying and comparing took, those that were not chosen included."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Builder:
    """Builds networks on one set of backends; certificates and timings are kept beside the graphs."""

    reference: Backend
    """Its fp32 numbers are the right ones."""
    backends: Sequence[Backend]
    cache: BuildCache
    rows: int
    """Size of the batches that speed is measured on."""
    where: Mapping[str, str]
    """What timings and certificates depend on besides the graph and the libraries: device, threads."""

    def build(
        self,
        module: nn.Module,
        spec: EngineSpec,
        wanted: str,
        batches: Callable[[], Sequence[Feeds]],
        *,
        ahead: int | None = None,
    ) -> tuple[Engine, BackendChoice]:
        """The network on the wanted backend, or on the fastest when that is ``auto``.

        ``ahead`` says how many rows are about to be computed: for few, what takes long to build is not built.
        """
        started = time.perf_counter()
        engine, choice = self._chosen(module, spec, wanted, batches, ahead)
        return engine, replace(choice, seconds=time.perf_counter() - started)

    def _chosen(
        self, module: nn.Module, spec: EngineSpec, wanted: str, batches: Callable[[], Sequence[Feeds]], ahead: int | None
    ) -> tuple[Engine, BackendChoice]:
        if wanted == "auto":
            return self._fastest(module, spec, batches, ahead)
        named = [backend for backend in self.backends if backend.name == wanted]
        if not named:
            known = ", ".join(backend.name for backend in self.backends)
            raise BackendUnavailableError(wanted, [f"there is none of that name; known are auto, {known}"])
        reason = named[0].unusable(spec)
        if reason is not None:
            raise BackendUnavailableError(wanted, [reason])
        return self._certified(named[0], module, spec, batches), BackendChoice(wanted, "chosen by the user")

    def refit(
        self, engine: Engine, module: nn.Module, weights: Mapping[str, Tensor], batches: Callable[[], Sequence[Feeds]]
    ) -> Engine:
        """The engine with other weights, certified anew on two batches; ``module`` already has them.

        Raises NotRefittableError, or ParityError when the numbers are not those of the module: then it must not be used.
        """
        engine.refit(weights)
        certificate = certify(engine, self.reference.build(module, engine.spec.at("fp32")), batches()[:2])
        if certificate.failure is not None:
            raise ParityError(
                f"engine {engine.spec.name!r} with new weights is not certified: {certificate.failure}; build it anew"
            )
        return engine.certified(certificate)

    def _fastest(
        self, module: nn.Module, spec: EngineSpec, batches: Callable[[], Sequence[Feeds]], ahead: int | None
    ) -> tuple[Engine, BackendChoice]:
        refused: list[str] = []
        engines: dict[str, Engine] = {}
        unbuilt: list[Backend] = []
        wrong: list[bool] = []

        def attempt(backend: Backend) -> None:
            try:
                engines[backend.name] = self._certified(backend, module, spec, batches)
            except BackendError as error:
                refused.append(f"{backend.name}: {error}")
                wrong.append(isinstance(error, ParityError))

        for backend in self.backends:
            reason = backend.unusable(spec)
            if reason is not None:
                refused.append(f"{backend.name}: {reason}")
            elif ahead is not None and not backend.ready(spec):
                unbuilt.append(backend)
            else:
                attempt(backend)
        little = ahead is not None and ahead < MANY_BATCHES * self.rows
        rows = min(self.rows, FEW_ROWS) if little else self.rows
        work = self._work(engines, spec, batches, rows, ahead) if unbuilt else 0.0
        for backend in unbuilt:
            if work * GAIN < BUILD_SECONDS:
                refused.append(f"{backend.name}: building it would take longer than it saves in {work:.0f} s of work")
            else:
                attempt(backend)
        if not engines:
            raise BackendUnavailableError("auto", refused, uncertified=any(wrong))
        return self._best(engines, spec, batches, rows, refused)

    def _work(
        self, engines: dict[str, Engine], spec: EngineSpec, batches: Callable[[], Sequence[Feeds]], rows: int, ahead: int | None
    ) -> float:
        """Seconds that the rows ahead take on the fastest engine so far."""
        if not engines or ahead is None:
            return float("inf")
        return min(self._ranking(engines, spec, batches, rows).values()) / rows * ahead

    def _best(
        self, engines: dict[str, Engine], spec: EngineSpec, batches: Callable[[], Sequence[Feeds]], rows: int, refused: list[str]
    ) -> tuple[Engine, BackendChoice]:
        if len(engines) == 1:
            (name,) = engines
            return engines[name], BackendChoice(name, "the only one that can be used", tuple(refused))
        seconds = self._ranking(engines, spec, batches, rows)
        name = min(engines, key=lambda each: seconds[each])
        for each, engine in engines.items():
            if each != name:
                engine.close()
        slower = [f"{each}: {1e3 * seconds[each]:.1f} ms, slower" for each in engines if each != name]
        reason = f"fastest of {len(engines)} certified backends, {1e3 * seconds[name]:.1f} ms for {rows} rows"
        return engines[name], BackendChoice(name, reason, (*refused, *slower))

    def _certified(self, backend: Backend, module: nn.Module, spec: EngineSpec, batches: Callable[[], Sequence[Feeds]]) -> Engine:
        try:
            return self._judged(backend, module, spec, batches)
        except Exception as error:  # every library has its own
            if isinstance(error, BackendError) or not out_of_memory(error):
                raise
            raise OutOfMemoryError(
                f"backend {backend.name!r} has not enough memory for {spec.name!r}: {first_line(error)}"
            ) from error

    def _judged(self, backend: Backend, module: nn.Module, spec: EngineSpec, batches: Callable[[], Sequence[Feeds]]) -> Engine:
        engine = backend.build(module, spec)
        if backend.name == self.reference.name and spec.precision == "fp32":
            return engine
        note = f"certificate-{backend.name}-{self._here(backend.name, engine.artifact)}"
        certificate = read_certificate(self.cache.read_note(self._place(spec), note))
        if certificate is None:
            certificate = certify(engine, self.reference.build(module, spec.at("fp32")), batches())
            self.cache.write_note(self._place(spec), note, certificate_note(certificate))
        if certificate.failure is not None:
            raise ParityError(f"backend {backend.name!r} is not certified for {spec.name!r}: {certificate.failure}")
        return engine.certified(certificate)

    def _ranking(
        self, engines: dict[str, Engine], spec: EngineSpec, batches: Callable[[], Sequence[Feeds]], rows: int
    ) -> dict[str, float]:
        """Seconds per batch, measured once per machine, thread count and set of backends."""
        note = f"ranking-{self._here(*engines, str(rows))}"
        known = self.cache.read_note(self._place(spec), note)
        if known is not None and set(known) == set(engines) and all(map(is_positive, known.values())):
            return {name: float(str(value)) for name, value in known.items()}
        first = batches()[0]
        repeated = torch.arange(rows) % len(next(iter(first.values())))
        feeds = {name: value[repeated] for name, value in first.items()}
        alone = self.where.get("threads") == "1" and self.where.get("device") == "cpu"
        clock = time.process_time if alone else time.perf_counter  # one thread's time does not depend on who else computes
        seconds = {name: _seconds(engine, feeds, clock) for name, engine in engines.items()}
        self.cache.write_note(self._place(spec), note, dict(seconds))
        return seconds

    def _place(self, spec: EngineSpec) -> str:
        """Where notes lie: beside the graph, or in a place of their own while there is none."""
        return spec.key() if self.cache.has(spec.key()) else spec.key({"notes": "without a graph"})

    def _here(self, *names: str) -> str:
        libraries = {library: _version(library) for library in LIBRARIES}
        return digest({"machine": _machine(), "libraries": libraries, "where": dict(self.where), "of": list(names)})[:16]


def _seconds(engine: Engine, feeds: Feeds, clock: Callable[[], float]) -> float:
    engine.run(feeds)
    times: list[float] = []
    while len(times) < 2 or (len(times) < REPLAYS and sum(times) < PATIENCE_SECONDS):
        start = clock()
        engine.run(feeds)
        if engine.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return median(times)


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "absent"


def _machine() -> str:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {gpu}"
