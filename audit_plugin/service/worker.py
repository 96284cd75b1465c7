"""The thread that audits: leads where no other process does, begins what was asked for, one job at a time, and resumes what was left behind.

Every process answers questions about jobs and takes them in; the one that holds the lease ``lead AUDIT`` runs the clockwork and the jobs.  While
a job is under way the lease ``audit AUDIT`` is held too, which keeps `audit-plugin run` by hand from the same pictures.
"""

import datetime as dt
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from structlog.typing import FilteringBoundLogger

from audit_plugin.core.errors import AuditError, StoppedError, StoreError
from audit_plugin.core.results import AuditResult
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.service.backend import Backend
from audit_plugin.service.schedule import Clockwork, Due, after, longest_gap, missed_since, timetable
from audit_plugin.service.under_way import UnderWay, under_way
from audit_plugin.service_options import ServeOptions
from audit_plugin.store.jobs import Job, JobState, gravest
from audit_plugin.store.leases import audit_lease, this_process

PLUGIN = "audit_plugin"
"""Who asks for what is due."""
_TURN = 0.5
"""Seconds between two looks for jobs that another process has taken in."""
_STANDBY = 2.0
"""Seconds between two tries to lead."""


def lead_lease(audit: str) -> str:
    """Name of the lease of whoever runs the jobs."""
    return f"lead {audit}"


class Worker:
    """One per process."""

    def __init__(self, backend: Backend, options: ServeOptions, log: FilteringBoundLogger) -> None:
        self._backend, self._options, self._log = backend, options, log
        self._jobs, self._leases = backend.store.jobs, backend.store.leases
        self._holder = this_process()
        self._stop, self._lost, self._wake = threading.Event(), threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._health = ProcessHealth(interval_seconds=options.every, leader=False)
        self._clockwork: Clockwork | None = None
        self.trouble = ""
        """What keeps runs from being begun; empty while nothing does."""
        self._running: UnderWay | None = None
        self._thread = threading.Thread(target=self._loop, name="audit-worker", daemon=True)

    @property
    def health(self) -> ProcessHealth:
        """Counts so far and when something is due next."""
        clockwork = self._clockwork
        due = clockwork.next_time if clockwork else None
        with self._lock:
            return replace(self._health, next_run_timestamp_seconds=due.timestamp() if due else None)

    @property
    def alive(self) -> bool:
        """Whether jobs are still begun."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int | None:
        """Jobs in the queue; None while the store is away."""
        try:
            return self._jobs.waiting()
        except StoreError:
            return None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, grace_seconds: float) -> bool:
        """End the job under way, which is queued again, and begin no other.  False when it did not end in time."""
        self._stop.set()
        self._wake.set()
        if (running := self._running) is not None:
            running.stop("the service is being stopped")
        self._backend.halt()
        self._thread.join(grace_seconds)
        return not self._thread.is_alive()

    def ask(self, *, model: str, cause: str, by: str, key: str | None = None) -> tuple[Job, bool]:
        """Queue a job.  Raises StoreError."""
        job, new = self._jobs.ask(model=model, cause=cause, by=by, key=key)
        self._wake.set()
        return job, new

    def going(self, model: str) -> Job | None:
        """A job that audits this model and waits or is under way; an empty name is all of them."""
        jobs = [*self._jobs.left_behind(), *self._jobs.jobs(state=JobState.QUEUED, limit=1000)]
        return next((job for job in jobs if job.model in {"", model}), None)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                name = lead_lease(self._backend.audit)
                if self._leases.take(name, self._holder):
                    self._lost.clear()
                    with self._leases.held(name, self._holder, lost=self._on_lost):
                        self._lead()
                else:
                    self._stop.wait(_STANDBY)
            except Exception as error:  # noqa: BLE001  (whatever goes wrong, audits must go on once it is mended)
                self._log.error("worker_failed", error=type(error).__name__, message=str(error), exc_info=_trace(error))
                self.trouble = str(error)
                self._count(failures=1)
                self._stop.wait(_STANDBY)
            finally:
                self._set(leader=False)

    def _on_lost(self) -> None:
        """Another process leads now: this one was silent for too long."""
        self._lost.set()
        self._log.warning("lease_lost", effect="the job under way ends here; the process that leads now goes on with it")
        if (running := self._running) is not None:
            running.stop("another process leads now")
            self._backend.halt()

    def _lead(self) -> None:
        """Run the clockwork and the jobs until the process is stopped or another one leads."""
        for job in self._jobs.left_behind():
            state = self._jobs.queue_again(job, "its process ended before it did; it goes on from the scores that it has")
            self._log.warning("run_left_behind", job=job.id, state=state.value)
        with self._clock_running():
            self._set(leader=True)  # from now on, so that whoever sees a new version finds the audit that is due anyway
            while not self._stop.is_set() and not self._lost.is_set():
                self._wake.clear()
                self.trouble = ""
                if not self._work():
                    self._wake.wait(_TURN)

    @contextmanager
    def _clock_running(self) -> Iterator[None]:
        now = dt.datetime.now(dt.UTC)
        newest = self._backend.store.runs(limit=1)
        dues = timetable(self._options, newest[0].finished if newest else None, now)
        self._set(interval_seconds=longest_gap(dues, now))
        self._catch_up(dues, now)
        for due in dues:
            if due.first is not None and due.first <= now:
                self._due(due.cause, "")
        self._clockwork = Clockwork([after(due, now) for due in dues], self._due)
        self._clockwork.start()
        try:
            yield
        finally:
            clockwork, self._clockwork = self._clockwork, None
            clockwork.stop()

    def _catch_up(self, dues: tuple[Due, ...], now: dt.datetime) -> None:
        """What was due by the clock while nobody was there is counted, and made up for once."""
        for due in dues:
            asked = self._jobs.last_asked(due.cause)
            if asked is None or due.cause == "interval":
                continue  # an interval counts from the last audit, so it is due again by itself
            if missed := missed_since(due.trigger, asked, now):
                self._count(missed=missed)
                self._log.warning("runs_missed", cause=due.cause, missed=missed, effect="one run makes up for them")
                for model in due.models:
                    self._due(due.cause, model)

    def _due(self, cause: str, model: str) -> None:
        """Called by the clockwork."""
        try:
            if self.going(model) is not None:
                self._count(missed=1)
                self._log.warning("run_missed", cause=cause, model=model, why="the one before it is not over")
            else:
                self.ask(model=model, cause=cause, by=PLUGIN)
        except StoreError as error:
            self._count(missed=1)
            self._log.error("run_missed", cause=cause, model=model, why=str(error))

    def _work(self) -> bool:
        """Do the oldest job, if there is one and nobody audits by hand."""
        name = audit_lease(self._backend.audit)
        if not self._jobs.waiting() or not self._leases.take(name, self._holder):
            return False
        with self._leases.held(name, self._holder, lost=self._on_lost):
            job = self._jobs.begin()
            if job is None:
                return False
            self._do(job)
            return True

    def _do(self, job: Job) -> None:
        self._count(attempts=1)
        self._log.info("run_started", job=job.id, model=job.model or "all", cause=job.cause, by=job.asked_by)
        started = time.monotonic()
        with self._under_way(job) as running:
            try:
                results, errors = self._backend.run(job.model, running.progress)
            except StoppedError as stopped:
                self._stopped(job, running.why or str(stopped))
            except Exception as error:  # noqa: BLE001  (a failed run must not keep the next one from being begun)
                self._failed(job, error)
            else:
                self._ended(job, results, errors, time.monotonic() - started)

    @contextmanager
    def _under_way(self, job: Job) -> Iterator[UnderWay]:
        with under_way(job, self._backend) as going:
            self._running = going
            if self._stop.is_set() or self._lost.is_set():
                going.stop("the service is being stopped")
            try:
                yield going
            finally:
                self._running = None
        if not self._stop.is_set():
            self._backend.go_on()

    def _stopped(self, job: Job, why: str) -> None:
        state = self._jobs.queue_again(job, f"{why}; what was answered is kept", at_fault=False)
        self._log.info("run_stopped", job=job.id, why=why, state=state.value, effect="what was answered is kept")

    def _failed(self, job: Job, error: Exception) -> None:
        self._count(failures=1, last_round_failed=True)
        told = str(error) if isinstance(error, AuditError) else f"{type(error).__name__}: {error}"
        self._log.error("run_failed", job=job.id, error=type(error).__name__, message=str(error), exc_info=_trace(error))
        self._jobs.line(job.id, "error", told)
        self._jobs.end(job, JobState.FAILED, told)

    def _ended(self, job: Job, told: Sequence[AuditResult], failed: Sequence[AuditError], seconds: float) -> None:
        for result in told:
            self._jobs.line(job.id, "info", f"{result.model}:{result.version} {result.state.value}: {result.headline}")
        for error in failed:
            self._jobs.line(job.id, "error", str(error))
        state = JobState.FAILED if failed else gravest([result.state for result in told])
        self._jobs.end(job, state, "; ".join(map(str, failed)), [result.run for result in told])
        self._count(failures=bool(failed), last_round_failed=bool(failed))
        self._log.info("run_finished", job=job.id, state=state.value, seconds=round(seconds, 3))

    def _count(self, *, attempts: int = 0, failures: int = 0, missed: int = 0, last_round_failed: bool | None = None) -> None:
        with self._lock:
            before = self._health
            self._health = replace(
                before,
                attempts=before.attempts + attempts,
                failures=before.failures + failures,
                missed=before.missed + missed,
                last_round_failed=before.last_round_failed if last_round_failed is None else last_round_failed,
            )

    def _set(self, **known: float | bool | None) -> None:
        with self._lock:
            self._health = replace(self._health, **known)  # type: ignore[arg-type]


def _trace(error: Exception) -> bool:
    """Expected errors are one line, unexpected ones come with their traceback."""
    return not isinstance(error, AuditError)
