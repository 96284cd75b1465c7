"""What pages ask of the store: short summaries of runs instead of their documents, which may be large, and findings page by page.

A summary is written with its run.  Runs of earlier versions of this program have none; theirs is made when it is first asked for.
"""

import datetime as dt
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Engine, Select, and_, func, not_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from audit_plugin.core.diffex_results import NodeEffect
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import AuditResult, Gate, GateStatus, RunState, from_json
from audit_plugin.findings.history import LifeCycle, life_cycle
from audit_plugin.store.database import errors_as_ours
from audit_plugin.store.records import Event, FindingRecord, moment, seconds
from audit_plugin.store.tables import EventRow, FindingRow, RevisionRow, RunRow, SummaryRow

MOST_POINTS = 60
"""Concepts, and nodes of the tree, of which a summary tells the effect; those that matter most."""
MOST_GATES = 40
"""Gates that did not pass that a summary tells."""
_CACHED = 2_000
"""Summaries kept in memory."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One concept's importance, or one node's effect on a class, in one run."""

    name: str
    class_name: str = ""
    """Empty for concepts."""
    role: str
    """What it is to the task: a concept's role or a node's kind."""
    must_not: bool
    """Whether it must not matter."""
    metric: str
    estimate: Estimate
    margin: float | None = None
    verdict: str
    """``core.results.Verdict`` of a concept, ``core.diffex_results.EffectState`` of a node."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One run, as lists show it."""

    run: str
    model: str
    version: str
    label: str
    state: RunState
    finished_at: float
    """Seconds since the epoch."""
    headline: str
    n_rows: int
    findings: int
    worst: str
    """Gravest severity among them; empty without any."""
    gates: Mapping[str, int]
    """``core.results.GateStatus`` -> how many."""
    not_passed: tuple[Gate, ...]
    """The first of those that did not pass, failures first."""
    points: tuple[Point, ...]
    pictures: bool
    """Whether there are pictures to look at."""

    @property
    def finished(self) -> dt.datetime:
        """When it ended."""
        return moment(self.finished_at)


@cache
def _adapter() -> TypeAdapter[Summary]:
    return TypeAdapter(Summary)


def summary_json(result: AuditResult) -> str:
    """The summary of a run, as it is stored."""
    return _adapter().dump_json(summarised(result)).decode()


def summarised(result: AuditResult) -> Summary:
    """The summary of a run."""
    order = {GateStatus.FAIL: 0, GateStatus.WARN: 1, GateStatus.NOT_RUN: 2}
    not_passed = sorted((gate for gate in result.gates if gate.status in order), key=lambda gate: order[gate.status])
    severities = {finding.severity for finding in result.findings}
    return Summary(
        run=result.run,
        model=result.model,
        version=result.version,
        label=result.label,
        state=result.state,
        finished_at=seconds(result.provenance.finished_at),
        headline=result.headline,
        n_rows=result.n_rows,
        findings=len(result.findings),
        worst="critical" if "critical" in severities else min(severities, default=""),
        gates=Counter(gate.status.value for gate in result.gates),
        not_passed=tuple(not_passed[:MOST_GATES]),
        points=(*_concepts(result), *_nodes(result)),
        pictures=bool(result.pairs or result.diffex or result.counterfactuals or result.shortcuts or result.discovery),
    )


def _concepts(result: AuditResult) -> Iterator[Point]:
    for one in sorted(result.concepts, key=lambda one: (not one.role.alerts, -abs(one.importance.value)))[:MOST_POINTS]:
        yield Point(
            name=one.concept,
            role=one.role.value,
            must_not=one.role.alerts,
            metric=one.metric,
            estimate=one.importance,
            margin=one.margin,
            verdict=one.verdict.value,
        )


def _nodes(result: AuditResult) -> Iterator[Point]:
    if result.diffex is None:
        return
    found = [node for told in result.diffex.classes for node in told.nodes if node.effect is not None]
    found.sort(key=lambda node: (not node.kind.must_not, -node.bound))
    yield from (_node(node, node.effect) for node in found[:MOST_POINTS] if node.effect is not None)


def _node(node: NodeEffect, effect: Estimate) -> Point:
    return Point(
        name=node.node,
        class_name=node.class_name,
        role=node.kind.value,
        must_not=node.kind.must_not,
        metric="log-odds",
        estimate=effect,
        verdict=node.state.value,
    )


class Pages:
    """Shared by threads."""

    def __init__(self, engine: Engine, clock: Callable[[], dt.datetime]) -> None:
        self._engine, self._clock = engine, clock
        self._kept: dict[str, tuple[int, Summary]] = {}
        self._lock = threading.Lock()

    def last(self) -> tuple[Summary, ...]:
        """The newest run of every model and label."""
        newest = select(func.max(RunRow.run)).group_by(RunRow.model, RunRow.label).order_by(RunRow.model, RunRow.label)
        return self._of(newest)

    def trend(self, model: str, label: str, *, limit: int, before: str | None = None) -> tuple[Summary, ...]:
        """The newest runs of one model and label, newest first; those older than ``before`` for the next page."""
        runs = select(RunRow.run).where(RunRow.model == model, RunRow.label == label).order_by(RunRow.run.desc()).limit(limit)
        return self._of(runs if before is None else runs.where(RunRow.run < before))

    def summaries(self, runs: Sequence[str]) -> tuple[Summary, ...]:
        """Of these runs, in order; those that are not there (any more) are left out."""
        numbers = self._revisions(runs)  # before what they count the changes of
        kept = {run: self._kept.get(run) for run in runs}
        known = {run: one[1] for run, one in kept.items() if one is not None and one[0] == numbers.get(run, 0)}
        if wanted := [run for run in runs if run not in known]:
            with errors_as_ours(self._engine), Session(self._engine) as session:
                found = session.execute(select(SummaryRow.run, SummaryRow.summary).where(SummaryRow.run.in_(wanted)))
                read = {run: _adapter().validate_json(text) for run, text in found}
            read |= {run: made for run in wanted if run not in read and (made := self._made(run)) is not None}
            self._keep({run: (numbers.get(run, 0), summary) for run, summary in read.items()})
            known |= read
        return tuple(known[run] for run in runs if run in known)

    def labels(self, model: str) -> tuple[str, ...]:
        """Label columns that a model was ever audited against."""
        with errors_as_ours(self._engine), Session(self._engine) as session:
            return tuple(session.scalars(select(RunRow.label).where(RunRow.model == model).distinct().order_by(RunRow.label)))

    def findings(
        self, *, model: str | None = None, label: str | None = None, state: LifeCycle | None = None, limit: int, offset: int = 0
    ) -> tuple[FindingRecord, ...]:
        """Findings, the last seen first."""
        query = select(FindingRow).where(*self._conditions(model, label, state))
        query = query.order_by(FindingRow.last_seen.desc(), FindingRow.finding).limit(limit).offset(offset)
        with errors_as_ours(self._engine), Session(self._engine) as session:
            return tuple(finding_record(row, self._clock()) for row in session.scalars(query))

    def counts(self, *, model: str | None = None, label: str | None = None) -> Mapping[LifeCycle, int]:
        """How many findings there are in each state."""
        with errors_as_ours(self._engine), Session(self._engine) as session:
            count = select(func.count()).select_from(FindingRow)
            return {state: session.scalar(count.where(*self._conditions(model, label, state))) or 0 for state in LifeCycle}

    def open_by_model(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """(Model, label) -> severity -> open findings."""
        kinds = (FindingRow.model, FindingRow.label, FindingRow.severity)
        query = select(*kinds, func.count()).where(*self._conditions(None, None, LifeCycle.OPEN)).group_by(*kinds)
        found: dict[tuple[str, str], dict[str, int]] = {}
        with errors_as_ours(self._engine), Session(self._engine) as session:
            for model, label, severity, n in session.execute(query):
                found.setdefault((model, label), {})[severity] = n
        return found

    def events(self, subject: str, *, limit: int = 50) -> tuple[Event, ...]:
        """What was done about something, newest first."""
        query = select(EventRow).where(EventRow.subject == subject).order_by(EventRow.id.desc()).limit(limit)
        with errors_as_ours(self._engine), Session(self._engine) as session:
            rows = session.scalars(query)
            return tuple(
                Event(at=moment(row.at), actor=row.actor, action=row.action, subject=row.subject, detail=row.detail) for row in rows
            )

    def _of(self, runs: Select[str]) -> tuple[Summary, ...]:
        with errors_as_ours(self._engine), Session(self._engine) as session:
            ids = session.scalars(runs).all()
        return self.summaries(ids)

    def _revisions(self, runs: Sequence[str]) -> Mapping[str, int]:
        """Run -> how often its document was changed, of those where it was."""
        query = select(RevisionRow.subject, RevisionRow.number).where(RevisionRow.subject.in_(runs))
        with errors_as_ours(self._engine), Session(self._engine) as session:
            return {row.subject: row.number for row in session.execute(query)}

    def _keep(self, read: Mapping[str, tuple[int, Summary]]) -> None:
        with self._lock:
            self._kept.update(read)
            while len(self._kept) > _CACHED:
                del self._kept[next(iter(self._kept))]

    def _made(self, run: str) -> Summary | None:
        """The summary of a run that has none yet."""
        with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
            document = session.scalar(select(RunRow.document).where(RunRow.run == run))
            if document is None:
                return None
            result = from_json(document)
            insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
            session.execute(insert(SummaryRow).values(run=run, summary=summary_json(result)).on_conflict_do_nothing())
            return summarised(result)

    def _conditions(self, model: str | None, label: str | None, state: LifeCycle | None) -> Iterator[ColumnElement[bool]]:
        if model is not None:
            yield FindingRow.model == model
        if label is not None:
            yield FindingRow.label == label
        held = and_(FindingRow.acknowledged_until.is_not(None), FindingRow.acknowledged_until > self._clock().timestamp())
        if state is LifeCycle.RESOLVED:
            yield FindingRow.resolved.is_not(None)
        elif state is not None:
            yield FindingRow.resolved.is_(None)
            yield held if state is LifeCycle.ACKNOWLEDGED else not_(held)


def finding_record(row: FindingRow, now: dt.datetime) -> FindingRecord:
    """A finding with where it stands at a time."""
    until = None if row.acknowledged_until is None else moment(row.acknowledged_until)
    return FindingRecord(
        finding=row.finding,
        kind=row.kind,
        model=row.model,
        label=row.label,
        concept=row.concept,
        metric=row.metric,
        severity=row.severity,
        summary=row.summary,
        first_seen=moment(row.first_seen),
        last_seen=moment(row.last_seen),
        last_run=row.last_run,
        state=life_cycle(resolved=row.resolved is not None, acknowledged_until=until, now=now),
        acknowledged_by=row.acknowledged_by,
        acknowledged_until=until,
        acknowledged_reason=row.acknowledged_reason,
    )
