"""Looks at the audited servers now and then: whether they answer, and whether they serve something that was not audited yet.

In a thread of its own, so that neither scrapes nor probes nor pages ever wait for a server.
"""

import json
import threading
from collections.abc import Callable, Sequence

from structlog.typing import FilteringBoundLogger

from audit_plugin.core.results import AuditResult
from audit_plugin.service.backend import Backend, Seen
from audit_plugin.service.worker import PLUGIN, Worker


class Watch:
    """One per process; only the process that leads asks for runs, so that replicas do not ask twice."""

    def __init__(self, backend: Backend, worker: Worker, log: FilteringBoundLogger, *, seconds: float, trigger: bool) -> None:
        self._backend, self._worker, self._log = backend, worker, log
        self._seconds, self._trigger = seconds, trigger
        self._stop = threading.Event()
        self._seen: tuple[Seen, ...] = ()
        self._asked: dict[tuple[str, str], tuple[str, str]] = {}
        self._thread = threading.Thread(target=self._loop, name="audit-watch", daemon=True)

    @property
    def seen(self) -> tuple[Seen, ...]:
        """As of the last look; empty before the first."""
        return self._seen

    @property
    def up(self) -> bool | None:
        """Whether all audited models answered when last looked at; None before the first look."""
        return all(one.up for one in self._seen) if self._seen else None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """No further look; one under way is not waited for."""
        self._stop.set()

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                self._seen = tuple(self._backend.look())
                if self._trigger and not self._stop.is_set():
                    self._ask_for(self._seen)
            except Exception as error:  # noqa: BLE001  (the next look may find everything in order)
                self._log.error("watch_failed", error=type(error).__name__, message=str(error), exc_info=True)
            self._stop.wait(self._seconds)

    def _ask_for(self, seen: Sequence[Seen]) -> None:
        """Ask for a run of every model that shows something new, once; while a run of it waits or goes on, the next look decides."""
        if not self._worker.health.leader:
            return
        free = [
            one for one in seen if self._worker.going(one.model) is None
        ]  # before results are read: what ends meanwhile has its own there
        last = {(result.model, result.label): result for result in self._backend.store.last_runs()}
        for one in seen:
            if self._asked.get((one.model, one.label), ("", ""))[0] not in {"", one.version}:
                del self._asked[one.model, one.label]
        for one in unaudited(free, last.get):
            shown = (one.version, one.config_hash)
            if self._asked.get((one.model, one.label)) == shown or self._worker.going(one.model) is not None:
                continue
            self._asked[one.model, one.label] = shown  # once, whatever comes of it, until another one is shown
            before = last.get((one.model, one.label))
            key = json.dumps(["version", self._backend.audit, one.model, one.version, one.config_hash, before and before.run])
            cause = f"version {one.model}:{one.version}"
            job, new = self._worker.ask(model=one.model, cause=cause, by=PLUGIN, key=key)
            if new:
                self._log.info("new_version", model=one.model, version=one.version, job=job.id)


def unaudited(seen: Sequence[Seen], last: Callable[[tuple[str, str]], AuditResult | None]) -> tuple[Seen, ...]:
    """Those that answer with another version or configuration than their last run was of."""
    found = []
    for one in seen:
        before = last((one.model, one.label))
        known = before is not None and (before.version, before.provenance.model_config_hash) == (one.version, one.config_hash)
        if one.up and one.version and not known:
            found.append(one)
    return tuple(found)
