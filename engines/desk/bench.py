"""Time the networks of a pipeline on every backend, beside the floor that this machine sets."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from engines.calibrate import calibrated
from engines.desk.place import Place, worst_error
from engines.desk.speed import batch_seconds
from engines.engine import Engine
from engines.errors import BackendError
from engines.memory import out_of_memory
from engines.network import Network
from engines.protocols import Backend
from engines.roof import Roof, work_of

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A network on a backend at a batch size, or why there is none."""

    network: str
    backend: str
    precision: str
    batch: int | None = None
    ms: float | None = None
    """Device time of a batch: median of replays of the bound engine."""
    rows_per_s: float | None = None
    floor_ms: float | None = None
    """Least time of its matrix, convolution and attention calls on this machine."""
    ratio: float | None = None
    """Time over floor."""
    parity_error: float | None = None
    """Largest relative error in the certificate; None for the reference itself."""
    refused: str = ""


def time_all(
    networks: Sequence[Network], place: Place, batches: Sequence[int], wanted: str = "auto", progress: Progress = lambda *_: None
) -> Iterator[Timing]:
    """Every network on every backend (or the wanted one) at every batch size; backends that refuse have one line."""
    backends = place.backends if wanted == "auto" else (place.backend(wanted),)
    todo = [(network, backend) for network in networks for backend in backends]
    for done, (network, backend) in enumerate(todo):
        progress(done, len(todo), f"engines, {network.spec.name} on {backend.name}")
        yield from _timed(network, backend, place, batches)
    progress(len(todo), len(todo), "engines")


def _timed(network: Network, backend: Backend, place: Place, batches: Sequence[int]) -> Iterator[Timing]:
    line = Timing(network=network.spec.name, backend=backend.name, precision=network.spec.precision)
    try:
        engine = place.certified(backend, network)
    except BackendError as error:
        yield replace(line, refused=str(error))
        return
    roof = calibrated(place.cache, place.device, network.spec.precision, place.threads)
    for batch in batches:
        try:
            measured = _measured(network, engine, roof, batch)
        except Exception as error:  # every library has its own
            if not out_of_memory(error):
                raise
            yield replace(line, batch=batch, refused="not enough memory for this batch")
            break
        yield replace(line, parity_error=worst_error(engine), **measured)  # type: ignore[arg-type]
    engine.close()


def _measured(network: Network, engine: Engine, roof: Roof, batch: int) -> dict[str, float | int]:
    seconds = batch_seconds(engine, network.feeds(batch, engine.device))
    floor = work_of(network.module, network.spec, batch).seconds(roof)
    return {
        "batch": batch,
        "ms": 1e3 * seconds,
        "rows_per_s": batch / seconds,
        "floor_ms": 1e3 * floor,
        "ratio": seconds / floor,
    }
