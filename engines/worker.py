"""One thread that runs one network for all audits: rows of different audits, timesteps and prompts share a batch.

Clients submit rows and wait for theirs.  The next batch is filled from all clients' queues by deficit round robin; its size is the
one that serves the waiting rows fastest.  A result does not depend on who shared the batch, within the engine's certificate.
"""

import atexit
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event, Thread
from typing import Self
from weakref import WeakSet

import torch

from engines.bucketed import Buckets, Ran
from engines.duty import Sharing
from engines.errors import ClosedEngineError, EngineError, ProductionBusyError, WorkerDiedError
from engines.queues import Slice
from engines.requests import Request, checked
from engines.rows import Rows
from engines.streams import FIRST, LAST, on, stream_on
from engines.tally import Tally, WorkerStats
from engines.timing import Elapsed, timed
from engines.waiting import WaitingRoom

LOG = logging.getLogger(__name__)

MAX_WAIT_MS = {"cuda": 2.0, "cpu": 0.0}
"""So long may rows wait for company, by type of device."""

AHEAD = 1
"""Batches that a GPU is given before the one before has ended, where it is not shared with production."""


class EngineWorker:
    """Runs ``buckets``, which it owns and closes, in a thread of its own.  Thread safe.  Close it, or use it as a context."""

    def __init__(self, buckets: Buckets, *, max_wait_ms: float | None = None, sharing: Sharing | None = None) -> None:
        self.buckets, self._sharing = buckets, sharing
        wait_ms = MAX_WAIT_MS.get(buckets.device.type, 0.0) if max_wait_ms is None else max_wait_ms
        self._room = WaitingRoom(buckets.spec.name, wait_ms / 1e3)
        self._stream = stream_on(buckets.device, FIRST if sharing is None else LAST)
        self._ahead = AHEAD if self._stream is not None and sharing is None else 0
        self._stop = Event()
        self._unread: deque[Elapsed] = deque()
        self._tally = Tally()
        self._thread = Thread(target=self._live, name=f"engine-{buckets.spec.name}", daemon=True)
        _ALIVE.add(self)
        self._thread.start()

    def client(self, name: str, weight: float = 1.0) -> "WorkerClient":
        """One who submits rows.  Names are unique at a time; of two that have work, the one of weight 2 gets twice the rows."""
        self._room.join(name, weight)
        return WorkerClient(self, name)

    def stats(self) -> WorkerStats:
        """What was done so far."""
        return self._tally.stats(
            halvings=self.buckets.halvings,
            waiting=self._room.rows,
            share=1.0 if self._sharing is None else self._sharing.share,
            achieved=None if self._sharing is None else self._sharing.achieved,
        )

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until nothing is waiting or running; whether that came true in time."""
        return self._room.idle(timeout)

    def close(self) -> None:
        """Finish the batch that runs, refuse the requests that wait, give memory back.  Closing twice is fine."""
        self._stop.set()
        self._room.shut()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, client: str, feeds: Rows, out: Rows | None = None) -> Request:
        """For :class:`WorkerClient`."""
        whole = checked(self.buckets.spec, feeds, out, self.buckets.device)
        request = Request(client, whole, self.buckets.device, self._room.forget)
        self._room.add(request)
        return request

    def leave(self, client: str) -> None:
        """For :class:`WorkerClient`."""
        self._refuse(self._room.leave(client), ClosedEngineError(self.buckets.spec.name))
        self._tally.left(client)

    def _live(self) -> None:
        why: EngineError = ClosedEngineError(self.buckets.spec.name)
        try:
            with torch.no_grad(), on(self._stream):
                self._serve()
        except BaseException as error:  # also what ends a thread from outside: no request may be left without an answer
            LOG.exception("the worker of engine %r ended", self.buckets.spec.name)
            why = WorkerDiedError(self.buckets.spec.name, error)
        finally:
            self._refuse(self._room.bury(why), why)
            self.buckets.close()

    def _serve(self) -> None:
        while self._rows_come():
            if self._turn_comes():
                seconds = 0.0
                try:
                    self._run(self._taken())
                    seconds = self._read(self._ahead)
                finally:
                    if self._sharing is not None:
                        self._sharing.end(seconds)

    def _rows_come(self) -> bool:
        """Wait for the rows of a batch; False when the worker is closed."""
        if not self._room.rows:
            self._read(0)
        return self._room.come(self.buckets.times.largest)

    def _turn_comes(self) -> bool:
        """Wait until a shared device may be used; False when the worker is closed, or when patience ends and requests are refused."""
        if self._sharing is None:
            return True
        start = time.monotonic()
        waited = 0.0
        while (pause := self._sharing.begin()) > 0:
            if self._stop.wait(pause):
                break
            waited = time.monotonic() - start
            if waited > self._sharing.patience_seconds:
                self._refuse(self._room.clear(), ProductionBusyError(self.buckets.spec.name, waited))
                break
        self._tally.paused(waited)
        return pause == 0

    def _taken(self) -> Sequence[Slice[Request]]:
        """The rows of the next batch."""
        slices = self._room.take(self.buckets.times.choose)
        now = time.monotonic()
        for each in slices:
            if each.start == 0:
                self._tally.began(now - each.item.submitted)
        return slices

    def _run(self, slices: Sequence[Slice[Request]]) -> None:
        """Compute a batch.  When it fails its requests are computed one by one, so that only those that fail alone get an error."""
        error = self._compute(slices)
        if error is not None and len(slices) > 1:
            for each in slices:
                self._settle([each], self._compute([each]))
        else:
            self._settle(slices, error)
        self._room.done()

    def _compute(self, slices: Sequence[Slice[Request]]) -> Exception | None:
        """Enqueue a batch and time it; returns what went wrong."""
        failures: list[Exception] = []
        ran: list[Ran] = []

        def work() -> None:
            try:
                ran.extend(self.buckets.run([each.item.part(each.start, each.stop, self._stream) for each in slices]))
            except Exception as error:  # noqa: BLE001  # whatever the engine raises belongs to who asked
                failures.append(error)

        if slices:
            self._unread.append(timed(self.buckets.device, work))
        self._tally.ran(ran)
        return failures[0] if failures else None

    def _settle(self, slices: Sequence[Slice[Request]], failure: Exception | None) -> None:
        for each in slices:
            if failure is None:
                self._tally.served(each.item.client, len(each))
                each.item.served(len(each))
            else:
                self._room.forget(each.item)
                self._refuse([each.item], failure)

    def _refuse(self, requests: Sequence[Request], error: Exception) -> None:
        for request in requests:
            if request.fail(error):
                self._tally.failed()

    def _read(self, keep: int) -> float:
        """Device time of batches that have ended; waits until at most ``keep`` have not."""
        total = 0.0
        while len(self._unread) > keep:
            seconds = self._unread.popleft()()
            self._tally.took(seconds)
            total += seconds
        return total


@dataclass(frozen=True, eq=False)
class WorkerClient:
    """One audit's access to a worker."""

    worker: EngineWorker
    name: str

    def submit(self, feeds: Rows, out: Rows | None = None) -> Request:
        """Ask for the results of n rows, any n.  Leave feeds as they are until the results are there.

        Raises FeedError for rows that the engine does not take or that are not finite, ClosedEngineError after closing.
        """
        return self.worker.submit(self.name, feeds, out)

    def close(self) -> None:
        """Give up what waits, and the name.  Closing twice is fine."""
        self.worker.leave(self.name)


_ALIVE: "WeakSet[EngineWorker]" = WeakSet()


@atexit.register
def _close_all() -> None:
    """Threads inside a vendor's code must not outlive the interpreter."""
    for worker in list(_ALIVE):
        worker.close()
