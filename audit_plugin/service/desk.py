"""What pages and API do alike: each answers a question, or does something and writes down who asked for it."""

import datetime as dt
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from audit_plugin.alerts.evaluate import FiringAlert, firing
from audit_plugin.core.errors import StoreError
from audit_plugin.core.results import AuditResult
from audit_plugin.findings.history import LifeCycle
from audit_plugin.metrics.collector import AuditCollector
from audit_plugin.service.backend import Audited, Backend, Seen
from audit_plugin.service.problems import ProblemError
from audit_plugin.service.refusals import Refusals
from audit_plugin.service.tokens import Principal, Role, Tokens
from audit_plugin.service.watch import Watch
from audit_plugin.service.worker import Worker
from audit_plugin.store.jobs import Job
from audit_plugin.store.records import FindingRecord

LONGEST = dt.timedelta(days=366)
"""Of an acknowledgement."""
_IDS = 64
"""Characters of a run's or finding's id at most."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where one configured model stands."""

    audited: Audited
    seen: Seen | None
    last: AuditResult | None
    findings: tuple[FindingRecord, ...]
    """Those that are not resolved."""


@dataclass(frozen=True, kw_only=True)
class Desk:
    """One per service; raises ProblemError for what cannot be had, StoreError where the store is away."""

    backend: Backend
    worker: Worker
    watch: Watch
    collector: AuditCollector
    refusals: Refusals
    queued: int
    """Most jobs that wait."""
    tokens: Tokens | None = None
    """Where they are asked for."""

    def standings(self) -> tuple[Standing, ...]:
        """All configured models, in their order."""
        store = self.backend.store
        last = {(result.model, result.label): result for result in store.last_runs()}
        seen = {(one.model, one.label): one for one in self.watch.seen}
        unresolved = [record for record in store.findings() if record.state is not LifeCycle.RESOLVED]
        return tuple(
            Standing(
                audited=one,
                seen=seen.get((one.model, one.label)),
                last=last.get((one.model, one.label)),
                findings=tuple(record for record in unresolved if (record.model, record.label) == (one.model, one.label)),
            )
            for one in self.backend.audited
        )

    def alerts(self) -> tuple[FiringAlert, ...]:
        """What fires by the last stored runs, without Prometheus' waiting times."""
        return firing(self.collector.samples(), now=time.time())

    def ask(self, model: str, *, cause: str, who: Principal, key: str | None = None) -> Job:
        """Queue a run of one model, or of all (empty); with a key that was used before, the run of then."""
        if model and model not in self.backend.names:
            self.refusals.count("invalid")
            names = ", ".join(self.backend.names)
            raise ProblemError(HTTPStatus.NOT_FOUND, "unknown-model", f"model {model!r} is not configured; there is {names}")
        jobs, own = self.backend.store.jobs, key and json.dumps([who.name, key])
        if (known := own and jobs.keyed(own)) and known.model == model:
            return known
        if jobs.waiting() >= self.queued:
            self.refusals.count("busy")
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "queue-full",
                f"{self.queued} runs wait already; cancel some, or come back when they are done",
                headers={"Retry-After": "60"},
            )
        job, new = self.worker.ask(model=model, cause=cause, by=who.name, key=own)
        if not new and job.model != model:
            self.refusals.count("invalid")
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "key-reused",
                "this Idempotency-Key was used for a run of another model; take a new one",
            )
        if new:
            self.backend.store.note(
                actor=who.name, action="run_asked", subject=job.id, detail=f"{model or 'all models'}, by {cause}"
            )
        return job

    def job(self, job: str) -> Job:
        """One run."""
        found = self.backend.store.jobs.job(job) if len(job) <= _IDS else None
        if found is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, "unknown-run", "there is no such run; /v1/runs lists them")
        return found

    def cancel(self, job: str, *, who: Principal) -> Job:
        """End a run: one that waits at once, one under way as soon as it notices."""
        before = self.job(job)
        if before.state.ended:
            raise ProblemError(HTTPStatus.CONFLICT, "run-ended", f"the run has ended already: {before.state}")
        cancelled = self.backend.store.jobs.cancel(job, who.name)
        self.backend.store.note(actor=who.name, action="run_cancelled", subject=job, detail=before.state.value)
        return cancelled or before

    def result(self, run: str) -> AuditResult:
        """One stored result."""
        found = self.backend.store.lookup(run) if len(run) <= _IDS else None
        if found is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, "unknown-result", "there is no such result; /v1/results lists them")
        return found

    def finding(self, finding: str) -> FindingRecord:
        """One finding."""
        found = self.backend.store.finding(finding) if len(finding) <= _IDS else None
        if found is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, "unknown-finding", "there is no such finding; /v1/findings lists them")
        return found

    def acknowledge(self, finding: str, *, who: Principal, reason: str, until: dt.datetime) -> FindingRecord:
        """Somebody answers for a finding until a date; on record for ever."""
        self.finding(finding)
        now = dt.datetime.now(dt.UTC)
        if not reason.strip() or not now < until <= now + LONGEST:
            detail = "an acknowledgement needs a reason, and an end in the future that is at most a year away"
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail)
        self.backend.store.acknowledge(finding, by=who.name, reason=reason, until=until)
        return self.finding(finding)

    def allowed(self, who: Principal, wanted: Role) -> None:
        """Raises ProblemError unless that role is enough."""
        if not who.role.allows(wanted):
            self.refusals.count("forbidden")
            detail = f"this needs a token of role {wanted}; yours is {who.role}"
            raise ProblemError(HTTPStatus.FORBIDDEN, "forbidden", detail)

    def readable(self) -> Sequence[tuple[str, str]]:
        """What readiness says: check -> state."""
        worker = self.worker.trouble or "ok" if self.worker.alive else "no more runs are begun"
        checks = [("worker", worker), ("store", "ok")]
        if self.tokens is not None:
            checks.append(("tokens", self.tokens.trouble or "ok"))
        try:
            self.backend.store.runs(limit=1)
        except StoreError as error:
            checks[1] = ("store", str(error))
        return checks
