"""The table of real architectures: each on each backend of a device, beside its floor and its first target."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from engines.calibrate import calibrated
from engines.desk.apart import apart
from engines.desk.place import Place, worst_error
from engines.desk.samples import call_sample
from engines.desk.speed import batch_seconds, call_seconds
from engines.errors import BackendError
from engines.network import Network
from engines.roof import work_of
from engines.spec import Precision
from tests.bench import architectures
from tests.bench.report import Cell

Row = dict[str, Cell]

PREFERRED: tuple[Precision, ...] = ("bf16", "fp16", "tf32", "fp32")
"""The first that a backend offers is measured."""
CASE_SECONDS, LEAST_SECONDS = 240.0, 20.0
"""Most that one network on one backend may take, build and certificate included; less than the other is not worth a start."""
SMALL_ROWS = 2
"""Batch of the small networks."""
TARGETS = "targets and specified floors are those of an H200 in bf16, set before anything was measured"


@dataclass(frozen=True)
class Case:
    """A line of the table."""

    title: str
    make: Callable[..., Network]
    """Of rows and ``small``: with random weights, for batches of so many rows."""
    rows: int
    target_ms: float
    specified_floor_ms: float | None

    @property
    def figure(self) -> str:
        """Ends the names of its figures."""
        return f"{self.make.__name__}_b{self.rows}"


def call(rows: int, *, small: bool) -> Network:  # noqa: ARG001  (it has one size)
    """Next to nothing, for the host's time."""
    return call_sample()


CASES = (
    Case("engine call, host time", call, 1, 0.02, None),
    Case("tiny 32x32", architectures.tiny_unet, 256, 2, 0.43),
    Case("DDPM-CIFAR", architectures.ddpm_cifar, 256, 13, 4.3),
    Case("VAE decode 512 px", architectures.vae_decoder, 1, 6, 3.2),
    Case("SD1.5 64x64", architectures.sd15_unet, 8, 13, 8.3),
    Case("SD1.5 CFG step", architectures.sd15_unet, 2, 6, 2.1),
    Case("SD1.5 guided step (VJP)", architectures.sd15_vjp, 1, 9, 2.2),
    Case("SDXL CFG step", architectures.sdxl_unet, 2, 35, 17.3),
)
"""Cheap ones first, so that a short run has most of the table."""


def measured_cases(
    place: Place, *, small: bool, minutes: float, only: Sequence[str] = (), backends: Sequence[str] = ()
) -> Iterator[Row]:
    """Every case on every backend that can be used (or some), each in a process of its own, until the time is up.

    Torch goes first, which has the least to build.
    """
    deadline = time.monotonic() + 60 * minutes
    allowed = [backend for backend in place.backends if not backends or backend.name in backends]
    usable = [each.name for each in allowed if each.probe().usable]
    cases = [case for case in CASES if not only or case.figure in only]
    for first in (True, False):
        for case, name in ((case, name) for case in cases for name in usable if name.startswith("torch") is first):
            left = min(CASE_SECONDS, deadline - time.monotonic())
            row = {"case": case.title, "backend": name} | _tried(case, name, place, small=small, seconds=left)
            yield row | {"met": None} if small else row


def _tried(case: Case, name: str, place: Place, *, small: bool, seconds: float) -> Row:
    """What was measured, or why not."""
    if seconds < LEAST_SECONDS:
        return _row(case, state="not run: the time was up")
    try:
        return apart(measure, CASES.index(case), name, place, small, seconds=seconds)
    except BackendError as error:
        return _row(case, state=str(error))


def measure(number: int, name: str, place: Place, small: bool) -> Row:
    """One case on one backend."""
    case = CASES[number]
    backend = place.backend(name)
    precision = next(each for each in PREFERRED if each in backend.probe().precisions)
    network = case.make(min(case.rows, SMALL_ROWS) if small else case.rows, small=small).at(precision)
    start = time.perf_counter()
    engine = place.certified(backend, network)
    built = time.perf_counter() - start
    feeds = network.batches()[0] if case.make is not call else network.feeds(1, engine.device)
    feeds = {each: value.to(engine.device) for each, value in feeds.items()}
    rows = len(next(iter(feeds.values())))
    floor = work_of(network.module, network.spec, rows).seconds(calibrated(place.cache, place.device, precision))
    seconds = call_seconds(engine, feeds) if case.make is call else batch_seconds(engine, feeds)
    return _row(
        case, rows=rows, precision=precision, ms=1e3 * seconds, floor_ms=1e3 * floor or None, parity_error=worst_error(engine), build_s=built
    )  # fmt: skip


def _row(
    case: Case, *, state: str = "ok", rows: int | None = None, precision: str | None = None, ms: float | None = None,
    floor_ms: float | None = None, parity_error: float | None = None, build_s: float | None = None,
) -> Row:  # fmt: skip
    return {
        "batch": rows or case.rows,
        "precision": precision,
        "ms": ms,
        "floor_ms": floor_ms,
        "ratio": ms / floor_ms if ms and floor_ms else None,
        "specified_floor_ms": case.specified_floor_ms,
        "target_ms": case.target_ms,
        "met": None if ms is None else ms <= case.target_ms,
        "parity_error": parity_error,
        "build_s": build_s,
        "state": state,
    }


def figures(rows: Sequence[Row]) -> dict[str, float]:
    """By case the best backend's time over the floor, and the host's time of a call in microseconds."""
    best: dict[str, float] = {}
    for case in CASES:
        done = [row for row in rows if row["case"] == case.title and row["ms"] is not None]
        if case.make is call:
            best |= {f"host_us_{row['backend']}": 1e3 * float(str(row["ms"])) for row in done}
        elif done:
            best[f"floor_ratio_{case.figure}"] = min(float(str(row["ratio"])) for row in done)
    return best
