"""What the REST API takes and gives, as pydantic models; names are snake_case, times RFC 3339 in UTC, unknown fields are refused."""

import datetime as dt
from typing import Annotated, Generic, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from audit_plugin.alerts.evaluate import FiringAlert
from audit_plugin.core.results import AuditResult, RunState
from audit_plugin.findings.history import LifeCycle
from audit_plugin.service.backend import Seen
from audit_plugin.store.jobs import Job, JobState
from audit_plugin.store.records import Event, FindingRecord, RunRecord

T = TypeVar("T")
MOST_ITEMS = 200
Text = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class Page(_Strict, Generic[T]):
    """Some items, newest first, and where the next ones begin."""

    items: list[T]
    next_cursor: str | None = Field(default=None, description="Pass it as `cursor` for the next page; absent on the last one.")


class RunRequest(_Strict):
    """What to audit."""

    model: Text | None = Field(default=None, description="Name of a configured model; all of them when absent.")


class Progress(_Strict):
    """How far a run is."""

    done: int
    total: int
    doing: str = Field(description="Stage that it is at.")


class ResultLink(_Strict):
    """A result that a run left."""

    result: str
    href: str
    report: str


class Run(_Strict):
    """A run that was asked for."""

    id: str
    model: str | None = Field(description="Audited model; null: all that are configured.")
    state: JobState
    cause: str = Field(
        description="What asked for it: `api`, `page`, `webhook`, `interval`, `schedule CRON` or `version MODEL:VERSION`."
    )
    asked_by: str
    asked_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    starts: int = Field(description="How often it was begun; more than once after its process was killed.")
    progress: Progress
    cancelled_by: str | None
    message: str
    results: list[ResultLink]
    links: dict[str, str]


class Result(_Strict):
    """One finished audit of one model version."""

    id: str
    model: str
    version: str
    label: str
    state: RunState
    started_at: dt.datetime
    finished_at: dt.datetime
    links: dict[str, str]


class AuditedModel(_Strict):
    """A configured model: as its server shows it, and as it was audited last."""

    model: str
    label: str
    up: bool | None = Field(description="Whether it answered when last looked at; null before the first look.")
    detail: str
    version: str
    last_result: Result | None
    headline: str
    open_findings: int


class Finding(_Strict):
    """A cause of concern and its life so far."""

    id: str
    kind: str
    model: str
    label: str
    concept: str
    metric: str
    severity: str
    summary: str
    state: LifeCycle
    first_seen_at: dt.datetime
    last_seen_at: dt.datetime
    last_result: str
    acknowledged_by: str | None
    acknowledged_until: dt.datetime | None
    acknowledged_reason: str | None


class Acknowledgement(_Strict):
    """Somebody answers for a finding."""

    reason: Text
    until: AwareDatetime = Field(description="When it counts as open again; at most a year ahead.")


class Alert(_Strict):
    """An alert that fires now, by the last stored runs and without Prometheus' waiting times."""

    name: str
    severity: str
    labels: dict[str, str]
    summary: str
    description: str
    runbook: str
    value: float


class LogLine(_Strict):
    """One line of a run's log."""

    id: int
    at: dt.datetime
    level: str
    text: str


class AuditEvent(_Strict):
    """One line of the append-only audit log."""

    at: dt.datetime
    actor: str
    action: str
    subject: str
    detail: str


class NewVersion(_Strict):
    """What a model registry says: there is a new version of a model."""

    model: Text
    version: Text | None = Field(default=None, description="For the record; what is audited is what the server serves.")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="`urn:audit-plugin:problem:` and a stable code.")
    title: str
    status: int
    detail: str = Field(description="What was wrong and what to do.")


def run_of(job: Job) -> Run:
    """A job as the API shows it."""
    href = f"/v1/runs/{job.id}"
    return Run(
        id=job.id,
        model=job.model or None,
        state=job.state,
        cause=job.cause,
        asked_by=job.asked_by,
        asked_at=job.asked,
        started_at=job.started,
        finished_at=job.finished,
        starts=job.starts,
        progress=Progress(done=job.done, total=job.total, doing=job.doing),
        cancelled_by=job.cancelled_by,
        message=job.message,
        results=[ResultLink(result=run, href=f"/v1/results/{run}", report=f"/reports/{run}") for run in job.runs],
        links={"self": href, "log": f"{href}/log", "stream": f"{href}/stream", "page": f"/runs/{job.id}"},
    )


def result_of(record: RunRecord | AuditResult) -> Result:
    """A stored result without its document."""
    if isinstance(record, AuditResult):
        started, finished = (
            dt.datetime.fromisoformat(time) for time in (record.provenance.started_at, record.provenance.finished_at)
        )
    else:
        started, finished = record.started, record.finished
    href = f"/v1/results/{record.run}"
    return Result(
        id=record.run,
        model=record.model,
        version=record.version,
        label=record.label,
        state=record.state,
        started_at=started,
        finished_at=finished,
        links={"self": href, "report": f"/reports/{record.run}"},
    )


def model_of(seen: Seen | None, last: AuditResult | None, *, model: str, label: str, findings: int) -> AuditedModel:
    """A configured model."""
    return AuditedModel(
        model=model,
        label=label,
        up=seen.up if seen else None,
        detail=seen.detail if seen else "not looked at yet",
        version=seen.version if seen else "",
        last_result=result_of(last) if last else None,
        headline=last.headline if last else "",
        open_findings=findings,
    )


def finding_of(record: FindingRecord) -> Finding:
    """A finding."""
    return Finding(
        id=record.finding,
        kind=record.kind,
        model=record.model,
        label=record.label,
        concept=record.concept,
        metric=record.metric,
        severity=record.severity,
        summary=record.summary,
        state=record.state,
        first_seen_at=record.first_seen,
        last_seen_at=record.last_seen,
        last_result=record.last_run,
        acknowledged_by=record.acknowledged_by,
        acknowledged_until=record.acknowledged_until,
        acknowledged_reason=record.acknowledged_reason,
    )


def alert_of(alert: FiringAlert) -> Alert:
    """An alert."""
    return Alert(
        name=alert.name,
        severity=alert.severity,
        labels=dict(alert.labels),
        summary=alert.summary,
        description=alert.description,
        runbook=alert.runbook,
        value=alert.value,
    )


def event_of(event: Event) -> AuditEvent:
    """A line of the audit log."""
    return AuditEvent(at=event.at, actor=event.actor, action=event.action, subject=event.subject, detail=event.detail)
