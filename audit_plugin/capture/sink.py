"""Between receiver and disk: a bounded queue and one writer.  Whatever the disk does, senders never wait and memory stays flat.

A full queue drops what comes; a disk that cannot be written drops what is taken from the queue, and is tried again after a pause that
doubles up to half a minute.  Every loss is counted by its reason, and a change of state is one line in the log.
"""

import contextlib
import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import structlog

from audit_plugin.capture.options import MEBIBYTE, CaptureOptions
from audit_plugin.capture.redact import Redactor, redacted, redactors
from audit_plugin.capture.reservoir import Reservoir
from audit_plugin.core.capture import DROPS, LOSSES, CaptureCounts
from audit_plugin.core.errors import CaptureError
from audit_plugin.sources.images import Pixels

LOG = structlog.get_logger()
_COMMIT_SECONDS = 1.0
_RETAIN_SECONDS = 60.0
_LONGEST_PAUSE = 30.0
_RECENT_SECONDS = 300.0
_OVERHEAD = 1024
_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One picture that a model was sent."""

    model: str
    id: str
    """As ``reservoir.picture_id`` makes it."""
    picture: Pixels
    version: str = ""

    @property
    def size(self) -> int:
        """Bytes that it takes while it waits."""
        return self.picture.nbytes + _OVERHEAD


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The class that a model answered about one picture."""

    model: str
    id: str
    predicted: str
    version: str = ""

    @property
    def size(self) -> int:
        """Bytes that it takes while it waits."""
        return _OVERHEAD


class Sink:
    """Takes pictures and answers from any thread; a thread of its own writes them.  Use as a context manager."""

    def __init__(
        self,
        options: CaptureOptions,
        models: Sequence[str],
        *,
        seed: str,
        clock: Callable[[], float] = time.time,
        first_pause: float = 1.0,
    ) -> None:
        """``models`` are captured; nothing is read or written before the start.  Raises ConfigError for a hook that cannot be loaded."""
        self.options, self.models, self._seed, self._clock, self._first_pause = options, tuple(models), seed, clock, first_pause
        self._hooks: Sequence[Redactor] = redactors(options)
        self._queue: deque[Shown | Answered] = deque()
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._received = self._sampled = self._kept = 0
        self._dropped = dict.fromkeys(DROPS, 0)
        self._images = dict.fromkeys(self.models, 0)
        self._last_loss: float | None = None
        self._reservoirs: dict[str, Reservoir] = {}
        self._pause, self._not_before, self._trouble, self._failing = first_pause, 0.0, "", ""
        self._hook_failed = False
        self._thread = threading.Thread(target=self._work, name="audit-capture", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """What waits is written, for a few seconds at most: a dead disk must not keep the process."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout=5.0)

    @property
    def counts(self) -> CaptureCounts:
        """A snapshot."""
        with self._changed:
            recent = self._last_loss is not None and time.monotonic() - self._last_loss < _RECENT_SECONDS
            return CaptureCounts(
                received=self._received,
                sampled=self._sampled,
                kept=self._kept,
                dropped=dict(self._dropped),
                images=dict(self._images),
                dropping=recent,
            )

    @property
    def waiting(self) -> int:
        """Pictures and answers in the queue."""
        return len(self._queue)

    def received(self, *, sampled: bool = False) -> None:
        """Count an event that came, or one that the share chose."""
        with self._changed:
            if sampled:
                self._sampled += 1
            else:
                self._received += 1

    def drop(self, reason: str, number: int = 1) -> None:
        """Count what is not captured, by a reason of ``DROPS``."""
        with self._changed:
            self._dropped[reason] += number
            if reason in LOSSES:
                self._last_loss = time.monotonic()

    def offer(self, items: Sequence[Shown | Answered]) -> bool:
        """Queue all of them, or none; whether they were taken.  Never waits for the disk."""
        size = sum(one.size for one in items)
        with self._changed:
            room = len(self._queue) + len(items) <= self.options.queue
            taken = room and self._queued_bytes + size <= self.options.queue_mb * MEBIBYTE
            if taken:
                self._queue.extend(items)
                self._queued_bytes += size
                self._changed.notify()
        if not taken:
            self.drop("queue_full", len(items))
        return taken

    def _work(self) -> None:
        committed = retained = time.monotonic()
        self._tend(retain=True)
        while True:
            item = self._next()
            if item is not None:
                self._take(item)
            elif self._stopping:
                break
            now = time.monotonic()
            if now - committed >= _COMMIT_SECONDS:
                retain = now - retained >= _RETAIN_SECONDS
                self._tend(retain=retain)
                committed, retained = now, now if retain else retained
        self._tend(retain=False)
        for reservoir in self._reservoirs.values():
            reservoir.close()

    def _next(self) -> Shown | Answered | None:
        with self._changed:
            if not self._queue and not self._stopping:
                self._changed.wait(_COMMIT_SECONDS)
            if not self._queue:
                return None
            item = self._queue.popleft()
            self._queued_bytes -= item.size
            return item

    def _take(self, item: Shown | Answered) -> None:
        """One item, with whatever may happen to it counted."""
        if time.monotonic() < self._not_before:
            self.drop(self._trouble)
            return
        try:
            if self._put(item):
                self._worked("a picture")
        except CaptureError as error:
            self.drop(error.reason)
            if error.reason == "redaction_failed" and not self._hook_failed:
                LOG.warning("captured pictures cannot be redacted and are dropped", why=str(error))
            self._hook_failed |= error.reason == "redaction_failed"
        except Exception as error:  # noqa: BLE001  (whatever it is, the writer must live)
            self._failed("a picture", error)
            self.drop(self._trouble)

    def _put(self, item: Shown | Answered) -> bool:
        """Whether a picture was written."""
        reservoir = self._reservoir(item.model)
        if isinstance(item, Answered):
            reservoir.answer(item.id, item.predicted, version=item.version)
            return False
        if item.id in reservoir:
            raise CaptureError("duplicate", f"request {item.id} is in the sample already", status=422)
        if not reservoir.chosen(item.id):
            return False
        picture = redacted(item.picture, self._hooks)
        if self._hook_failed:
            LOG.info("captured pictures are redacted again")
        self._hook_failed = False
        reservoir.keep(item.id, picture, version=item.version)
        with self._changed:
            self._kept += 1
            self._images[item.model] = len(reservoir.rows)
        return True

    def _reservoir(self, model: str) -> Reservoir:
        if model not in self._reservoirs:
            options = self.options
            self._reservoirs[model] = Reservoir(
                Path(options.path),
                model,
                size=options.size,
                days=options.days,
                max_bytes=options.max_bytes,
                seed=f"{self._seed}/{model}",
                clock=self._clock,
            )
        return self._reservoirs[model]

    def _tend(self, *, retain: bool) -> None:
        """Commit the tables; now and then delete what is too old or too much."""
        if not self._stopping and self._failing == "a table" and time.monotonic() < self._not_before:
            return
        reservoir: Reservoir | None = None
        try:
            for model in self.models:
                reservoir = self._reservoir(model)
                if retain:
                    reservoir.retain()
                reservoir.commit()
                with self._changed:
                    self._images[model] = len(reservoir.rows)
        except Exception as error:  # noqa: BLE001  (whatever it is, the writer must live)
            self._failed("a table", error)
            if self._trouble == "disk_full" and reservoir is not None:
                with contextlib.suppress(OSError):
                    reservoir.give_way()
        else:
            self._worked("a table")

    def _failed(self, what: str, error: Exception) -> None:
        trouble = "disk_full" if isinstance(error, OSError) and error.errno in _FULL else "disk_error"
        if trouble != self._trouble:
            LOG.warning(
                "captured pictures cannot be written and are dropped", path=self.options.path, reason=trouble, why=repr(error)
            )
        self._trouble, self._failing = trouble, what
        self._not_before = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _worked(self, what: str) -> None:
        """Of what failed last: a full disk may still take a table."""
        if self._trouble and what == self._failing:
            LOG.info("captured pictures are written again", path=self.options.path)
            self._trouble, self._failing, self._pause, self._not_before = "", "", self._first_pause, 0.0
