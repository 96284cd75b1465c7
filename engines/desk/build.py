"""Build and certify the networks of a pipeline, and say who runs each and why nobody else."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from engines.certificate import Certificate
from engines.desk.place import Place
from engines.network import Network
from engines.spec import Precision, Tier

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class BuiltNetwork:
    """A network that is ready to run."""

    network: str
    key: str
    """Of its graph in the cache."""
    backend: str
    precision: Precision
    certificate: Certificate | None
    """None for the reference itself."""
    tier: Tier
    seconds: float
    """Of building, certifying and choosing; next to none when all of that was in the cache."""
    reason: str
    refused: tuple[str, ...]


def build_all(
    networks: Sequence[Network], place: Place, wanted: str, rows: int, progress: Progress = lambda *_: None
) -> Iterator[BuiltNetwork]:
    """Each network on the wanted backend, or on the fastest certified one for batches of ``rows`` when that is ``auto``.

    Raises BackendError where nothing that is allowed can run a network.
    """
    builder = place.builder(place.choosable(wanted), rows)
    for done, network in enumerate(networks):
        progress(done, len(networks), f"engines, {network.spec.name}")
        start = time.perf_counter()
        engine, choice = builder.build(network.module, network.spec, wanted, network.batches)
        engine.close()
        yield BuiltNetwork(
            network=network.spec.name,
            key=network.spec.key(),
            backend=choice.name,
            precision=engine.spec.precision,
            certificate=engine.certificate,
            tier="exact",  # a certified engine of the whole network saves nothing by computing less
            seconds=time.perf_counter() - start,
            reason=choice.reason,
            refused=choice.refused,
        )
    progress(len(networks), len(networks), "engines")
