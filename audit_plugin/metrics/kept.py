"""Samples of stored runs, made once: a pure function of which runs are the newest and of the caps, so a scrape that finds the same runs repeats them.

The first scrapes after a start may find large documents that have yet to be read.  One thread reads them; who comes meanwhile waits a while, so that
no scrape runs into Prometheus' time limit, and then answers without the audits' series, as a process that is not up yet would.
"""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

WAIT_SECONDS = 5.0
"""Prometheus gives up on a scrape after 10 s, unless told otherwise."""

T = TypeVar("T")


class Kept(Generic[T]):
    """What was made last, with what it was made of; safe to share between threads."""

    def __init__(self, nothing: T, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._wait_seconds = wait_seconds
        self._maker = ThreadPoolExecutor(1, "audit-samples")
        self._lock = threading.Lock()
        self._job: Future[None] | None = None
        self._kept: tuple[Hashable, T] = (None, nothing)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made for an equal key, else what ``make`` says; what was there before, while that takes long.  Raises what ``make`` raises."""
        with self._lock:
            if self._kept[0] == key:
                return self._kept[1]
            if self._job is None or self._job.done():
                self._job = self._maker.submit(self._make, key, make)
            job = self._job
        with suppress(TimeoutError):
            job.result(self._wait_seconds)
        return self._kept[1]

    def _make(self, key: Hashable, make: Callable[[], T]) -> None:
        self._kept = (key, make())
