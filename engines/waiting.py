"""Where requests wait until a worker takes their rows: a fair queue that many threads fill and one empties."""

import time
from collections.abc import Callable, Sequence
from threading import Condition

from engines.errors import ClosedEngineError, EngineError
from engines.queues import FairQueue, Slice
from engines.requests import Request


class WaitingRoom:
    """Thread safe; rows are taken by one thread."""

    def __init__(self, engine: str, max_wait_seconds: float) -> None:
        self._engine, self._max_wait = engine, max_wait_seconds
        self._queue: FairQueue[Request] = FairQueue()
        self._running: Sequence[Slice[Request]] = ()
        self._changed = Condition()
        self._closing = False
        self._why: EngineError | None = None

    @property
    def rows(self) -> int:
        """That wait."""
        with self._changed:
            return self._queue.rows

    def join(self, client: str, weight: float) -> None:
        """A new client."""
        with self._changed:
            self._queue.join(client, weight)

    def leave(self, client: str) -> list[Request]:
        """Forget a client; returns what it still waited for."""
        with self._changed:
            requests = self._queue.leave(client)
            self._changed.notify_all()
            return requests

    def add(self, request: Request) -> None:
        """Wait.  Raises ClosedEngineError when nobody will come."""
        with self._changed:
            if self._closing or request.client not in self._queue:
                raise ClosedEngineError(self._engine) from self._why
            self._queue.add(request.client, request, len(request))
            self._changed.notify_all()

    def forget(self, request: Request) -> None:
        """Take what is left of a request out of the queue."""
        with self._changed:
            self._queue.remove(request.client, request)
            self._changed.notify_all()

    def come(self, enough: int) -> bool:
        """Block until rows should be taken: so many wait, or everyone does, or one has waited for long.  False once closing."""
        with self._changed:
            while not self._closing:
                hold = self._hold(enough)
                if hold == 0:
                    return True
                self._changed.wait(hold)
            return False

    def take(self, choose: Callable[[int], int]) -> Sequence[Slice[Request]]:
        """Rows for a batch of the size chosen for so many waiting rows; they count as running until :meth:`done`."""
        with self._changed:
            rows = self._queue.rows
            taken = self._queue.take(choose(rows)) if rows else []
            self._running = [each for each in taken if each.item.begin()]
            return self._running

    def done(self) -> None:
        """What was taken has been served."""
        with self._changed:
            self._running = ()
            self._changed.notify_all()

    def idle(self, timeout: float | None) -> bool:
        """Block until nothing waits or runs; whether that came true in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue.rows and not self._running, timeout)

    def clear(self) -> list[Request]:
        """Take all that waits away."""
        with self._changed:
            requests = self._queue.drain()
            self._changed.notify_all()
            return requests

    def shut(self) -> None:
        """Nothing is added or handed out any more."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def bury(self, why: EngineError) -> list[Request]:
        """Shut because the taker has ended; returns everything that waits or runs."""
        with self._changed:
            self._closing, self._why = True, why
            requests = [*(each.item for each in self._running), *self._queue.drain()]
            self._running = ()
            self._changed.notify_all()
            return requests

    def _hold(self, enough: int) -> float | None:
        """Seconds that the rows may still wait for company; None when there are no rows."""
        if not self._queue.rows:
            return None
        if self._queue.everyone or self._queue.rows >= enough:
            return 0.0
        return max(min(request.submitted for request in self._queue.heads) + self._max_wait - time.monotonic(), 0.0)
