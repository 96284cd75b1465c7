"""A job under way: what it reports is noted, and whoever stops it is heard."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from audit_plugin.core.errors import StoppedError, StoreError
from audit_plugin.service.backend import Backend
from audit_plugin.store.jobs import Job

_LOOK = 0.5
"""Seconds between two looks whether the job was cancelled."""
_SPEAK = 0.5
"""Least seconds between two notes of how far it is."""


class UnderWay:
    """``progress`` goes to whoever audits; ``stop`` may be called from any thread."""

    def __init__(self, job: Job, backend: Backend) -> None:
        self._job, self._jobs = job, backend.store.jobs
        self._lock = threading.Lock()
        self._spoke, self._doing = 0.0, ""
        self.why = ""
        """Why it was stopped; empty while it was not."""

    def stop(self, why: str) -> None:
        """At the next report."""
        self.why = self.why or why

    def progress(self, done: int, total: int, what: str) -> None:
        """As ``core.protocols.Progress``.  Raises StoppedError."""
        if self.why:
            raise StoppedError(self.why)
        with self._lock:
            now, new = time.monotonic(), what != self._doing
            if not new and done < total and now - self._spoke < _SPEAK:
                return
            self._spoke, self._doing = now, what
        if new:
            self._jobs.line(self._job.id, "info", what)
        if cancelled := self._jobs.report(self._job.id, done=done, total=total, doing=what):
            self.stop(f"cancelled by {cancelled}")
            raise StoppedError(self.why)


@contextmanager
def under_way(job: Job, backend: Backend) -> Iterator[UnderWay]:
    """With a thread that sees a cancellation while nothing else is heard of the job, and then closes the guards."""
    going, over = UnderWay(job, backend), threading.Event()

    def look() -> None:
        while not over.wait(_LOOK):
            try:
                now = backend.store.jobs.job(job.id)
            except StoreError:
                continue
            if now is not None and now.cancelled_by is not None and not going.why:
                going.stop(f"cancelled by {now.cancelled_by}")
                backend.halt()

    watcher = threading.Thread(target=look, name="audit-cancellations", daemon=True)
    watcher.start()
    try:
        yield going
    finally:
        over.set()
        watcher.join()
