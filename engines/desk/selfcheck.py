"""Is everything that this machine offers right?  Small networks of each kind are built, certified, bound and timed on every backend.

Each backend is examined in a process of its own: a library that ends its process is a failed check, not the end of the report.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from engines.cache import BuildCache
from engines.calibrate import machine
from engines.capability import cuda_driver
from engines.certificate import FORWARD_LIMITS, GRADIENT_LIMITS
from engines.desk.apart import apart
from engines.desk.place import Device, Place, worst_error
from engines.desk.samples import SAMPLES, call_sample
from engines.desk.speed import batch_seconds, bound, call_seconds
from engines.engine import Engine
from engines.errors import BackendError, BackendUnavailableError, EngineError, ParityError
from engines.network import Network
from engines.parity import POISON, ROWS, relative_error
from engines.protocols import Backend
from engines.spec import Kind, Precision

DEVICES: tuple[Device, ...] = ("cuda", "cpu")
PATIENCE_SECONDS = 1800.0
"""For all checks of one backend; builds may take minutes each."""

Verdict = Literal["ok", "refused", "FAIL"]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the report."""

    backend: str
    device: str
    what: str
    """``probe``, ``call``, or a kind and a precision such as ``vjp bf16``."""
    verdict: Verdict = "ok"
    detail: str = ""
    error: float | None = None
    """Largest relative error in the certificate, gradients included; None for the reference itself."""
    ms: float | None = None
    """Device time of a batch of 8 rows, replayed."""
    speedup: float | None = None
    """Over plain torch in the same precision on the same device."""
    host_us: float | None = None
    """Host time of one bound call that does next to nothing."""


def selfcheck(
    *,
    devices: Sequence[Device] = DEVICES,
    only: str | None = None,
    threads: int | None = None,
    progress: Progress = lambda *_: None,
) -> Iterator[Check]:
    """Every backend (or one) on the devices.  Nothing comes from the user's cache, and nothing is left behind."""
    with tempfile.TemporaryDirectory(prefix="selfcheck-") as folder:
        cache = BuildCache(Path(folder))
        places = [Place(cache, device, threads) for device in devices]
        todo = [(place, backend) for place in places for backend in place.backends if only in {None, backend.name}]
        for done, (place, backend) in enumerate(todo):
            progress(done, len(todo), f"backends, {backend.name} on {place.device}")
            reason = backend.probe().reason
            if reason is None:
                yield from _apart(backend.name, place)
            else:
                yield Check(backend=backend.name, device=place.device, what="probe", verdict="refused", detail=reason)
        progress(len(todo), len(todo), "backends")


def _apart(name: str, place: Place) -> tuple[Check, ...]:
    """Examined in a child; one that dies is a line of its own."""
    try:
        return apart(_examined, name, place, seconds=PATIENCE_SECONDS)
    except BackendError as error:
        return (Check(backend=name, device=place.device, what="probe", verdict="FAIL", detail=str(error)),)


def _examined(name: str, place: Place) -> tuple[Check, ...]:
    return tuple(examine(place.backend(name), place))


def examine(backend: Backend, place: Place, kinds: Sequence[Kind] = tuple(SAMPLES)) -> Iterator[Check]:
    """All checks of one backend that can be used here."""
    known, bench = backend.probe(), _Bench(backend, place)
    yield Check(backend=backend.name, device=place.device, what="probe", detail=known.version)
    yield bench.check("call", lambda: bench.call(known.precisions[0]))
    for kind in (kind for kind in kinds if kind in known.kinds):
        network = SAMPLES[kind]()
        for precision in known.precisions:
            if kind == "forward" or precision in GRADIENT_LIMITS:
                yield bench.check(f"{kind} {precision}", partial(bench.prove, network.at(precision)))


@dataclass(frozen=True)
class _Bench:
    """One backend on the work bench."""

    backend: Backend
    place: Place

    def check(self, what: str, work: Callable[[], Mapping[str, float | None]]) -> Check:
        """What was measured, or why not."""
        line = Check(backend=self.backend.name, device=self.place.device, what=what)
        try:
            return replace(line, **work())  # type: ignore[arg-type]  # the names are Check's own
        except BackendUnavailableError as error:
            return replace(line, verdict="refused", detail=str(error))
        except EngineError as error:
            return replace(line, verdict="FAIL", detail=str(error))
        except Exception as error:  # noqa: BLE001  (a vendor's library may raise anything; the other checks go on)
            return replace(line, verdict="FAIL", detail=f"{type(error).__name__}: {error}")

    def call(self, precision: Precision) -> Mapping[str, float | None]:
        """What a bound call costs the host."""
        network = call_sample().at(precision)
        engine = self.place.certified(self.backend, network)
        return {"host_us": 1e6 * call_seconds(engine, network.feeds(1, engine.device))}

    def prove(self, network: Network) -> Mapping[str, float | None]:
        """Built, certified, replayed to the numbers of a run, timed beside plain torch."""
        engine = self.place.certified(self.backend, network)
        plain = self.place.reference.build(network.module, network.spec)
        feeds = network.feeds(ROWS, engine.device)
        replay, outs = bound(engine, feeds)
        for value in outs.values():
            value.fill_(POISON)
        replay()
        _check_replay(engine, outs, engine.run(feeds))
        seconds = batch_seconds(engine, feeds)
        return {"error": worst_error(engine), "ms": 1e3 * seconds, "speedup": batch_seconds(plain, feeds) / seconds}


def _check_replay(engine: Engine, replayed: Mapping[str, Tensor], ran: Mapping[str, Tensor]) -> None:
    error = max(relative_error(value.cpu(), ran[name].cpu()) for name, value in replayed.items())
    if error > FORWARD_LIMITS[engine.spec.precision]:
        raise ParityError(f"a bound call of {engine.spec.name!r} differs by {error:.1e} from one that is not")


def machine_facts() -> str:
    """What the checks run on: machine, driver, torch."""
    return f"{machine()}; {cuda_driver() or 'the CUDA driver works'}; torch {torch.__version__}"
