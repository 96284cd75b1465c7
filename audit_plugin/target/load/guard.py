"""Lets inference requests through to a production server: as many as the budget allows, at the times it names, and none while others wait.

One guard serves all connections to a server.  It has no thread: whoever wants to ask looks at the queues when the last look is old, and waits
here.  After :meth:`LoadGuard.stop` nobody is let through any more.
"""

import datetime as dt
import threading
import time
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace

import structlog

from audit_plugin.core.errors import StoppedError, TargetError
from audit_plugin.core.load import LoadCounts, LoadTotals
from audit_plugin.target.load.budget import TokenBucket
from audit_plugin.target.load.company import Company
from audit_plugin.target.load.options import LoadOptions
from audit_plugin.target.load.pressure import Queues
from audit_plugin.target.load.windows import opens_in
from engines.pressure import QueueCounts

LOG = structlog.get_logger(__name__)
HALF = 0.5
SLOWEST = 1 / 16
"""Of the budget's pace, however often queues grew."""
RECOVERY_SECONDS = 60.0
"""Until the pace is the budget's again."""
_TURN = 0.005
"""Until somebody else's answer is looked for again."""
_PATIENCE = 1.0
"""Longest nap between two looks at whether the audit was stopped."""


class LoadGuard:
    """Thread safe."""

    def __init__(
        self,
        options: LoadOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], dt.datetime] | None = None,
        nap: Callable[[float], object] | None = None,
    ) -> None:
        self.options = options
        self._clock, self._nap = clock, nap or self._rest
        zone = zoneinfo.ZoneInfo(options.timezone)
        self._today = today or (lambda: dt.datetime.now(zone))
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._requests, self._images = TokenBucket(options.requests_per_second), TokenBucket(options.images_per_second)
        self._queues = Queues(most_seconds=options.most_queue_ms / 1000, most_pending=options.most_pending)
        self._counts, self._under_way = LoadCounts(), 0
        self._looked = self._calm = float("-inf")
        self._pace, self._paced = 1.0, float("-inf")
        self._why = ""
        self._blind = False
        self._closed = False
        self._company, self._answered = Company(options.calm_seconds), 0
        self._turn = float("-inf")
        """When the audit may ask again, while others do."""

    @property
    def counts(self) -> LoadCounts:
        """Snapshot."""
        return self._counts

    @property
    def paused(self) -> str:
        """Why nothing is asked now; empty while requests go through."""
        return self._why

    def stop(self) -> None:
        """Let nobody through any more; whoever waits is told at once."""
        with self._lock:  # whoever is being let through is counted as under way by then
            self._stopped.set()
            self._why = ""

    def resume(self) -> None:
        """Let requests through again."""
        self._stopped.clear()

    @contextmanager
    def admitted(self, images: int, look: Callable[[], QueueCounts] | None = None) -> Iterator[None]:
        """Wait until a request of so many images may be sent, which is under way until the context ends.

        ``look`` reads the server's queues.  Raises StoppedError.
        """
        while (wait := self._wait(images, look)) is not None:
            kind, seconds = wait
            begun = self._clock()
            self._nap(min(seconds, _PATIENCE))
            with self._lock:
                self._counts = replace(self._counts, **{kind: getattr(self._counts, kind) + self._clock() - begun})
        begun = self._clock()
        try:
            yield
        finally:
            with self._lock:
                now = self._clock()
                self._under_way -= 1
                self._answered += 1
                self._turn = now + (now - begun) * (1 / self.options.busy_share - 1)

    def _wait(self, images: int, look: Callable[[], QueueCounts] | None) -> tuple[str, float] | None:
        """What to wait for and how long; None: the request is the caller's to send."""
        self._check_stopped()
        if (closed := opens_in(self.options.open, self._today())) > 0:
            return self._shut(closed)
        self._glance(look)
        with self._lock:
            self._check_stopped()  # it may have been while the queues were looked at
            now, self._closed = self._clock(), False
            if self._why:
                return "paused_seconds", self.options.look_seconds
            if (turn := self._no_turn(now)) is not None:
                return turn
            costs, pace = ((self._requests, 1), (self._images, images)), self._paced_now(now)
            if (seconds := max(bucket.wait(cost, now, pace=pace) for bucket, cost in costs)) > 0:
                return "throttled_seconds", seconds
            for bucket, cost in costs:
                bucket.spend(cost)
            self._under_way += 1
            self._counts = replace(self._counts, requests=self._counts.requests + 1, images=self._counts.images + images)
            return None

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise StoppedError(
                "the audit was stopped before this request was sent; what was answered is kept, and the next run goes on from it"
            )

    def _no_turn(self, now: float) -> tuple[str, float] | None:
        """Too many are under way; or others ask, too, and the audit has had its share of the server's time."""
        if self._under_way >= self.options.in_flight:
            return "throttled_seconds", _TURN
        if self.options.busy_share == 1 or not self._company.others(now):
            return None
        if self._under_way:
            return "yielded_seconds", _TURN
        return ("yielded_seconds", self._turn - now) if now < self._turn else None

    def _shut(self, closed: float) -> tuple[str, float]:
        with self._lock:
            first, self._closed = not self._closed, True
        if first:
            LOG.info("outside the windows of time", windows=", ".join(self.options.windows), opens_in_minutes=round(closed / 60))
        return "closed_seconds", closed

    def _glance(self, look: Callable[[], QueueCounts] | None) -> None:
        """Look at the queues when the last look is old; meanwhile others go by what was seen last."""
        if look is None or not self.options.back_off:
            return
        with self._lock:
            now = self._clock()
            if now - self._looked < self.options.look_seconds:
                return
            self._looked = now
        try:
            seen = look()
        except (OSError, TargetError) as error:
            with self._lock:
                self._counts = replace(self._counts, blind=self._counts.blind + 1)
                first, self._blind = not self._blind, True
            if first:
                LOG.warning("the server's queues cannot be read; the budget alone limits the audit", why=str(error))
            return
        with self._lock:
            self._blind = False
            self._company.look(seen.answered, self._answered, self._under_way, self._clock())
            self._judge(self._queues.pressed(seen), self._clock())

    def _judge(self, why: str, now: float) -> None:
        """Pause, or go on once queues have been short for long enough."""
        if why:
            self._calm = now + self.options.calm_seconds
            if not self._why:
                self._pace, self._paced = max(SLOWEST, self._paced_now(now) * HALF), now
                self._counts = replace(self._counts, pauses=self._counts.pauses + 1)
                LOG.warning("paused: production waits", why=why)
            self._why = why
        elif self._why and now >= self._calm:
            self._why, self._paced = "", now
            LOG.info("going on", pace=round(self._pace, 3))

    def _paced_now(self, now: float) -> float:
        """Share of the budget: halved by every pause, whole again a minute after the last one."""
        if self._paced == float("-inf"):
            return 1.0
        return min(1.0, self._pace + (1 - self._pace) * (now - self._paced) / RECOVERY_SECONDS)

    def _rest(self, seconds: float) -> None:
        self._stopped.wait(seconds)


_GUARDS: dict[tuple[str, LoadOptions], LoadGuard] = {}
_REGISTRY = threading.Lock()


def guard_of(url: str, options: LoadOptions) -> LoadGuard:
    """The guard of a server: one for all connections of this process that ask it under the same options."""
    with _REGISTRY:
        return _GUARDS.setdefault((url, options), LoadGuard(options))


def totals() -> LoadTotals:
    """What all guards of this process did so far, and whether one of them pauses now."""
    with _REGISTRY:
        guards = list(_GUARDS.values())
    summed = {each.name: sum(getattr(guard.counts, each.name) for guard in guards) for each in fields(LoadCounts)}
    return LoadTotals(counts=LoadCounts(**summed), paused=any(guard.paused for guard in guards))


def stop_all() -> None:
    """No guard of this process lets anything through any more."""
    with _REGISTRY:
        for guard in _GUARDS.values():
            guard.stop()


def resume_all() -> None:
    """All guards of this process let requests through again."""
    with _REGISTRY:
        for guard in _GUARDS.values():
            guard.resume()
