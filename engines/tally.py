"""What a worker has done, in the numbers that metrics are made of."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock

from engines.bucketed import Ran

SECONDS_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the histogram of device time; what takes longer counts under infinity."""


@dataclass(frozen=True, kw_only=True)
class WorkerStats:
    """State of a worker at one moment; counts are since it was made."""

    calls: int = 0
    """Batches."""
    rows: int = 0
    """That were asked for and computed."""
    padded: int = 0
    """That were computed besides, to fill batches."""
    requests: int = 0
    """That were begun."""
    failures: int = 0
    """Requests that ended with an error."""
    wait_seconds: float = 0.0
    """Sum over requests, from submission until the first of their rows was taken."""
    device_seconds: float = 0.0
    """By events on a GPU, wall time on a CPU."""
    paused_seconds: float = 0.0
    """While rows waited, because the device was left to production."""
    halvings: int = 0
    """How often memory was short."""
    waiting: int = 0
    """Rows in the queues now."""
    share: float = 1.0
    """Setting: most of the device's time that may be used."""
    achieved: float | None = None
    """Share used in the last minute, by all workers of the device; None where it is not shared."""
    batch_rows: Mapping[int, int] = field(default_factory=dict)
    """Rows of a batch, padded ones not counted -> batches."""
    batch_seconds: Mapping[float, int] = field(default_factory=dict)
    """Upper bound of SECONDS_BOUNDS or infinity -> batches with such a device time, each counted once."""
    client_rows: Mapping[str, int] = field(default_factory=dict)
    """Rows computed for each client that has not left."""

    @property
    def padded_share(self) -> float:
        """Of all rows that were computed."""
        return self.padded / max(self.rows + self.padded, 1)


class Tally:
    """Counts; thread safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._calls = self._padded = self._requests = self._failures = 0
        self._wait = self._device = self._paused = 0.0
        self._batch_rows: Counter[int] = Counter()
        self._batch_seconds: Counter[float] = Counter()
        self._clients: Counter[str] = Counter()

    def began(self, wait_seconds: float) -> None:
        """The first row of a request was taken."""
        with self._lock:
            self._requests += 1
            self._wait += wait_seconds

    def ran(self, batches: Iterable[Ran]) -> None:
        """Batches were computed."""
        with self._lock:
            for batch in batches:
                self._calls += 1
                self._padded += batch.padded
                self._batch_rows[batch.rows] += 1

    def served(self, client: str, rows: int) -> None:
        """Rows of a client were computed."""
        with self._lock:
            self._clients[client] += rows

    def took(self, seconds: float) -> None:
        """Device time of what was run at once."""
        bound = bisect_left(SECONDS_BOUNDS, seconds)
        with self._lock:
            self._device += seconds
            self._batch_seconds[SECONDS_BOUNDS[bound] if bound < len(SECONDS_BOUNDS) else float("inf")] += 1

    def paused(self, seconds: float) -> None:
        """Rows waited for production."""
        with self._lock:
            self._paused += seconds

    def failed(self) -> None:
        """A request ended with an error."""
        with self._lock:
            self._failures += 1

    def left(self, client: str) -> None:
        """A client is not counted any more; its rows stay in the sum."""
        with self._lock:
            self._clients.pop(client, None)

    def stats(self, *, halvings: int, waiting: int, share: float, achieved: float | None) -> WorkerStats:
        """All counts, with what the worker knows."""
        with self._lock:
            return WorkerStats(
                calls=self._calls,
                rows=sum(rows * batches for rows, batches in self._batch_rows.items()),
                padded=self._padded,
                requests=self._requests,
                failures=self._failures,
                wait_seconds=self._wait,
                device_seconds=self._device,
                paused_seconds=self._paused,
                halvings=halvings,
                waiting=waiting,
                share=share,
                achieved=achieved,
                batch_rows=dict(self._batch_rows),
                batch_seconds=dict(self._batch_seconds),
                client_rows=dict(self._clients),
            )
