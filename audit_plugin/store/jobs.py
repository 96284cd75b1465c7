"""Jobs: runs that somebody asked for, from the question to their end, on record so that a restart forgets none.

A job is written down before anything is done.  One that was under way when its process was killed is queued again by the next process; what
was answered until then is in the score table, so it goes on from there.
"""

import datetime as dt
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Engine, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from audit_plugin.core.results import RunState
from audit_plugin.store.database import errors_as_ours
from audit_plugin.store.records import moment, new_run_id
from audit_plugin.store.tables import JobLineRow, JobRow

MOST_STARTS = 3
"""How often a job is begun before it is given up: one that kills its process would do so for ever."""
_SHOWN = 500
"""Lines of a log that are kept for readers; the first and the last matter."""


class JobState(StrEnum):
    """Where a job stands; it ends in the state of the gravest of its runs."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    SUCCEEDED_WITH_FINDINGS = "succeeded_with_findings"
    INSUFFICIENT_DATA = "insufficient_data"
    INVALID_GENERATOR = "invalid_generator"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self not in {JobState.QUEUED, JobState.RUNNING}


_GRAVITY = (
    RunState.SUCCEEDED,
    RunState.SUCCEEDED_WITH_FINDINGS,
    RunState.INSUFFICIENT_DATA,
    RunState.INVALID_GENERATOR,
    RunState.CANCELLED,
    RunState.FAILED,
)


def gravest(states: Sequence[RunState]) -> JobState:
    """State of a job whose runs ended like this.

    >>> gravest([RunState.SUCCEEDED_WITH_FINDINGS, RunState.SUCCEEDED])
    <JobState.SUCCEEDED_WITH_FINDINGS: 'succeeded_with_findings'>
    """
    return JobState(max(states, key=_GRAVITY.index, default=RunState.FAILED).value)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job as it stands."""

    id: str
    model: str
    """Audited model; empty: all that are configured."""
    cause: str
    """``api``, ``page``, ``webhook``, ``interval``, ``schedule NAME``, ``version MODEL:VERSION`` or ``start``."""
    asked_by: str
    asked: dt.datetime
    started: dt.datetime | None
    finished: dt.datetime | None
    state: JobState
    cancelled_by: str | None
    starts: int
    done: int
    total: int
    doing: str
    message: str
    runs: tuple[str, ...]
    """Ids of the results it left."""


@dataclass(frozen=True, kw_only=True)
class JobLine:
    """One line of a job's log."""

    id: int
    at: dt.datetime
    level: str
    text: str


class Jobs:
    """The jobs of a store; shared by threads and processes."""

    def __init__(self, engine: Engine, clock: Callable[[], dt.datetime]) -> None:
        self._engine = engine
        self._clock = clock

    def ask(self, *, model: str = "", cause: str, by: str, key: str | None = None) -> tuple[Job, bool]:
        """Queue a job; with a ``key`` that was used before, the job of then.  Second: whether it is a new one."""
        now = self._clock()
        values: dict[str, Any] = {
            "job": new_run_id(now),
            "model": model,
            "cause": cause,
            "asked_by": by,
            "asked": now.timestamp(),
            "state": JobState.QUEUED.value,
            "key": key,
            "starts": 0,
            "done": 0,
            "total": 0,
            "doing": "",
            "message": "",
            "runs": "[]",
        }
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        made = insert(JobRow).values(values).on_conflict_do_nothing(index_elements=[JobRow.key]).returning(JobRow.job)
        with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
            new = session.scalar(made) is not None
            row = session.scalars(select(JobRow).where(JobRow.job == values["job"] if new else JobRow.key == key)).one()
            return _job(row), new

    def keyed(self, key: str) -> Job | None:
        """The job that was asked for by this key, if there is one."""
        with errors_as_ours(self._engine), Session(self._engine) as session:
            row = session.scalar(select(JobRow).where(JobRow.key == key))
            return None if row is None else _job(row)

    def job(self, job: str) -> Job | None:
        """One job, if there is one."""
        with errors_as_ours(self._engine), Session(self._engine) as session:
            row = session.get(JobRow, job)
            return None if row is None else _job(row)

    def jobs(
        self, *, model: str | None = None, state: JobState | None = None, before: str | None = None, limit: int = 50
    ) -> tuple[Job, ...]:
        """Jobs, newest first; of a model those of all models too; those older than ``before`` for the next page."""
        query = select(JobRow).order_by(JobRow.job.desc()).limit(limit)
        for wanted, condition in (
            (model, JobRow.model.in_(("", model or ""))),
            (state, JobRow.state == state),
            (before, JobRow.job < (before or "")),
        ):
            if wanted is not None:
                query = query.where(condition)
        with errors_as_ours(self._engine), Session(self._engine) as session:
            return tuple(map(_job, session.scalars(query)))

    def last_asked(self, cause: str) -> dt.datetime | None:
        """When a job of this cause was asked for last."""
        with errors_as_ours(self._engine), Session(self._engine) as session:
            asked = session.scalar(select(func.max(JobRow.asked)).where(JobRow.cause == cause))
        return None if asked is None else moment(asked)

    def waiting(self) -> int:
        """How many are queued."""
        with errors_as_ours(self._engine), Session(self._engine) as session:
            return session.scalar(select(func.count()).where(JobRow.state == JobState.QUEUED.value)) or 0

    def begin(self) -> Job | None:
        """Start the oldest that waits; None when there is none.  To be called by the holder of the lease only."""
        oldest = select(func.min(JobRow.job)).where(JobRow.state == JobState.QUEUED.value).scalar_subquery()
        begun = (
            update(JobRow)
            .where(JobRow.job == oldest, JobRow.state == JobState.QUEUED.value)
            .values(
                state=JobState.RUNNING.value,
                starts=JobRow.starts + 1,
                message="",
                started=func.coalesce(JobRow.started, self._clock().timestamp()),
            )
        )
        with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
            job = session.scalar(begun.returning(JobRow.job))
            return None if job is None else _job(session.get_one(JobRow, job))

    def queue_again(self, job: Job, why: str, *, at_fault: bool = True) -> JobState:
        """A job under way goes back to the queue, to be resumed; one that was cancelled meanwhile ends, as does one that was begun too often.

        ``job`` is what :meth:`begin` or :meth:`left_behind` gave: where another process has begun it since, or it has ended, nothing is changed.
        ``at_fault``: whether its end may have been its own doing, so that this start counts.
        """
        with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
            mine = update(JobRow).where(*_this_start(job)).values(starts=JobRow.starts - (not at_fault))  # takes the write lock
            if session.scalar(mine.returning(JobRow.job)) is None:
                return JobState(session.get_one(JobRow, job.id).state)
            row = session.get_one(JobRow, job.id)
            if row.cancelled_by is not None:
                row.state, row.message = JobState.CANCELLED.value, f"cancelled by {row.cancelled_by}"
            elif row.starts >= MOST_STARTS:
                row.state, row.message = JobState.FAILED.value, f"given up after {row.starts} starts: {why}"
            else:
                row.state, row.message = JobState.QUEUED.value, why
            if row.state != JobState.QUEUED.value:
                row.finished = self._clock().timestamp()
            session.add(JobLineRow(job=job.id, at=self._clock().timestamp(), level="warning", text=row.message))
            return JobState(row.state)

    def left_behind(self) -> tuple[Job, ...]:
        """Jobs that a process which is gone had begun; to be asked by the new holder of the lease, before it begins one."""
        return self.jobs(state=JobState.RUNNING, limit=1000)

    def report(self, job: str, *, done: int, total: int, doing: str) -> str | None:
        """Note how far a job is; returns who cancelled it, if anybody did."""
        noted = update(JobRow).where(JobRow.job == job).values(done=done, total=total, doing=doing)
        with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
            return session.scalar(noted.returning(JobRow.cancelled_by))

    def line(self, job: str, level: str, text: str) -> None:
        """Add a line to a job's log."""
        with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
            session.add(JobLineRow(job=job, at=self._clock().timestamp(), level=level, text=text))

    def lines(self, job: str, *, after: int = 0) -> tuple[JobLine, ...]:
        """The log from a line on."""
        query = select(JobLineRow).where(JobLineRow.job == job, JobLineRow.id > after).order_by(JobLineRow.id).limit(_SHOWN)
        with errors_as_ours(self._engine), Session(self._engine) as session:
            return tuple(JobLine(id=row.id, at=moment(row.at), level=row.level, text=row.text) for row in session.scalars(query))

    def end(self, job: Job, state: JobState, message: str = "", runs: Sequence[str] = ()) -> None:
        """A job is over; one that has ended already, or that another process has begun since, stays as it is."""
        values = {"state": state.value, "message": message, "runs": json.dumps(list(runs)), "finished": self._clock().timestamp()}
        ended = update(JobRow).where(*_this_start(job)).values(values)
        with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
            session.execute(ended)

    def cancel(self, job: str, by: str) -> Job | None:
        """Ask for a job's end: one that waits ends at once, one under way as soon as its process sees it.  None: no such job."""
        now = self._clock().timestamp()
        with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
            waiting = (
                update(JobRow)
                .where(JobRow.job == job, JobRow.state == JobState.QUEUED.value)
                .values(state=JobState.CANCELLED.value, cancelled_by=by, finished=now, message=f"cancelled by {by}")
            )
            ended = session.execute(waiting)
            if isinstance(ended, CursorResult) and ended.rowcount == 0:
                session.execute(
                    update(JobRow)
                    .where(JobRow.job == job, JobRow.state == JobState.RUNNING.value, JobRow.cancelled_by.is_(None))
                    .values(cancelled_by=by)
                )
            row = session.get(JobRow, job)
            return None if row is None else _job(row)


def _this_start(job: Job) -> tuple[ColumnElement[bool], ...]:
    """The job as long as it is under way by the start that ``job`` is of."""
    return JobRow.job == job.id, JobRow.state == JobState.RUNNING.value, JobRow.starts == job.starts


def _job(row: JobRow) -> Job:
    return Job(
        id=row.job,
        model=row.model,
        cause=row.cause,
        asked_by=row.asked_by,
        asked=moment(row.asked),
        started=None if row.started is None else moment(row.started),
        finished=None if row.finished is None else moment(row.finished),
        state=JobState(row.state),
        cancelled_by=row.cancelled_by,
        starts=row.starts,
        done=row.done,
        total=row.total,
        doing=row.doing,
        message=row.message,
        runs=tuple(json.loads(row.runs)),
    )
