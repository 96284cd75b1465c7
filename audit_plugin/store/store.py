"""Runs, findings, scores and the audit log in one SQL database: SQLite by default, PostgreSQL by URL.

A run is saved in one transaction after it has ended, so a killed run leaves nothing behind but the scores it has already paid for.
Everything shown elsewhere (metrics, alerts, report) is read back from here and therefore survives a restart.
"""

import datetime as dt
import gc
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Select, func, select, update
from sqlalchemy.orm import Session, aliased, defer

from audit_plugin.core.errors import StoreError
from audit_plugin.core.results import AuditResult, Finding, RunState, from_json, to_json
from audit_plugin.findings.history import RECENT, PastRun, assessed, evidence
from audit_plugin.findings.semantic import KIND as SEMANTIC
from audit_plugin.findings.semantic import untrustworthy
from audit_plugin.store import database
from audit_plugin.store.database import errors_as_ours
from audit_plugin.store.jobs import Jobs
from audit_plugin.store.leases import Leases
from audit_plugin.store.pages import Pages, finding_record, summary_json
from audit_plugin.store.records import ConceptPoint, Event, FindingRecord, RunRecord, moment, seconds
from audit_plugin.store.retention import Retention
from audit_plugin.store.scores import SqlScoreTable
from audit_plugin.store.tables import BreachRow, EventRow, FindingRow, RevisionRow, RunRow, SummaryRow

_ASSESSED = [state.value for state in RunState if assessed(state)]
_CACHED_RESULTS = 256
_LARGE = 10_000_000
"""Characters of a document from which on its result is kept out of garbage collection."""
_CACHED_CHARACTERS = 200_000_000
"""Of the documents of results that are kept in memory; the objects take two to three times as much."""


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Store:
    """Open with :meth:`open`; safe to share between threads."""

    def __init__(self, engine: Engine, clock: Callable[[], dt.datetime] = _utc_now) -> None:
        self._engine = engine
        self._clock = clock
        self._results: dict[str, tuple[int, AuditResult]] = {}
        self._sizes: dict[str, int] = {}
        self._told: tuple[object, dict[str, Mapping[tuple[str, str], Any]]] = (None, {})
        self._cache_lock = threading.Lock()
        self.scores = SqlScoreTable(engine)
        """The score table (``core.protocols.ScoreTable``)."""
        self.jobs = Jobs(engine, clock)
        """Runs that were asked for."""
        self.leases = Leases(engine, clock)
        """What only one process may do at a time."""
        self.retention = Retention(engine, clock)
        """What is deleted, and what may not be."""
        self.pages = Pages(engine, clock)
        """Summaries and lists, as pages show them."""

    @classmethod
    def open(cls, url: str | Path, *, migrate: bool = False, clock: Callable[[], dt.datetime] = _utc_now) -> "Store":
        """Open a database by path or URL.  Only ``migrate=True`` changes its schema; else an outdated one is a StoreError."""
        engine = database.connect(database.parse_url(url))
        try:
            with errors_as_ours(engine):
                if migrate:
                    database.upgrade(engine)
                database.require_current(engine)
        except StoreError:
            engine.dispose()
            raise
        return cls(engine, clock)

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    def save(self, result: AuditResult, *, actor: str = "audit_plugin") -> None:
        """Commit a finished run with its findings and their life cycle, all or nothing.  A run id can be used once."""
        with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
            session.add(_run_row(result))
            session.flush()  # takes the write lock before anything is read
            session.add(SummaryRow(run=result.run, summary=summary_json(result)))
            _log_policy_change(session, result, actor, self._clock())
            for finding in result.findings:
                _see(session, finding, result, actor)
            session.flush()
            session.add_all(BreachRow(run=result.run, finding=finding.id) for finding in result.findings)
            _resolve_unseen(session, result, actor)

    def run(self, run: str) -> AuditResult:
        """The whole result of one run.  Raises StoreError when there is none."""
        result = self.lookup(run)
        if result is None:
            raise StoreError(f"there is no run {run!r} in the store")
        return result

    def lookup(self, run: str) -> AuditResult | None:
        """The whole result of one run, if there is one; the same object until somebody changes what is stored."""
        number = self._revision(run)
        if (cached := self._results.get(run)) and cached[0] == number:
            return cached[1]
        with self._cache_lock:  # a document may be large: nobody reads it while another does
            number = self._revision(run)  # before the document: one that changes meanwhile is read once more
            if (cached := self._results.get(run)) and cached[0] == number:
                return cached[1]
            with errors_as_ours(self._engine), Session(self._engine) as session:
                document = session.scalar(select(RunRow.document).where(RunRow.run == run))
            if document is None:
                return None
            result = from_json(document)
            if len(document) > _LARGE:
                gc.freeze()  # it has no cycles, and every full collection would walk through it for a second
            self._results[run], self._sizes[run] = (number, result), len(document)
            while len(self._results) > _CACHED_RESULTS or (
                len(self._results) > 1 and sum(self._sizes.values()) > _CACHED_CHARACTERS
            ):
                oldest = next(iter(self._results))
                del self._results[oldest], self._sizes[oldest]
        return result

    def changes(self) -> int:
        """How often stored documents were changed, or pictures deleted, since the store was made: what is kept in memory rests on it."""
        return self._revision("")

    def _revision(self, subject: str) -> int:
        with errors_as_ours(self._engine), Session(self._engine) as session:
            return session.scalar(select(RevisionRow.number).where(RevisionRow.subject == subject)) or 0

    def runs(
        self, *, model: str | None = None, label: str | None = None, limit: int = 50, before: str | None = None
    ) -> tuple[RunRecord, ...]:
        """Finished runs, newest first; those older than ``before`` for the next page."""
        query = select(RunRow).options(defer(RunRow.document)).order_by(RunRow.run.desc()).limit(limit)
        if before is not None:
            query = query.where(RunRow.run < before)
        if model is not None:
            query = query.where(RunRow.model == model)
        if label is not None:
            query = query.where(RunRow.label == label)
        with errors_as_ours(self._engine), Session(self._engine) as session:
            return tuple(map(_record, session.scalars(query)))

    def last_runs(self, *, only_assessed: bool = False) -> tuple[AuditResult, ...]:
        """The newest run of every (model, label); with ``only_assessed`` the newest that says something about bias."""
        return tuple(self.run(run) for run in self.newest(only_assessed=only_assessed).values())

    def newest(self, *, only_assessed: bool = False) -> Mapping[tuple[str, str], str]:
        """(model, label) -> id of the run that :meth:`last_runs` has, in its order; by the index alone, without any document."""
        pair = select(RunRow.model, RunRow.label).distinct().subquery()
        own = aliased(RunRow)
        last = select(own.run).where(own.model == pair.c.model, own.label == pair.c.label).order_by(own.run.desc()).limit(1)
        if only_assessed:
            last = last.where(own.state.in_(_ASSESSED))
        query = select(pair.c.model, pair.c.label, last.correlate(pair).scalar_subquery()).order_by(pair.c.model, pair.c.label)
        found: Mapping[tuple[str, str], str | None] = self._known_of_all("assessed" if only_assessed else "newest", query)
        return {about: run for about, run in found.items() if run is not None}

    def newest_records(self) -> tuple[RunRecord, ...]:
        """The newest run of every (model, label), without any document."""
        query = select(RunRow).options(defer(RunRow.document)).where(RunRow.run.in_(self.newest().values()))
        with errors_as_ours(self._engine), Session(self._engine) as session:
            return tuple(map(_record, session.scalars(query.order_by(RunRow.model, RunRow.label))))

    def queries(self) -> Mapping[tuple[str, str], int]:
        """(model, version) -> images that all recorded runs together have sent to the server."""
        total = select(RunRow.model, RunRow.version, func.sum(RunRow.queries)).group_by(RunRow.model, RunRow.version)
        return {pair: int(sent) for pair, sent in self._known_of_all("queries", total).items()}

    def _known_of_all(self, what: str, query: Select[*tuple[Any, ...]]) -> Mapping[tuple[str, str], Any]:
        """First two columns -> the third of a query about all runs, which is sent again only when runs have come or gone; rows never change."""
        state = select(func.max(RunRow.run), func.count(RunRow.label))  # by the index on model, label and run
        with errors_as_ours(self._engine), Session(self._engine) as session:
            now = tuple(session.execute(state).one())
            if self._told[0] != now:
                self._told = (now, {})
            told = self._told[1]
            if what not in told:
                told[what] = {(first, second): value for first, second, value in session.execute(query)}
            return told[what]

    def past(self, model: str, label: str, *, limit: int = RECENT) -> tuple[PastRun, ...]:
        """Earlier runs of one model and label, newest first, as :func:`audit_plugin.findings.findings.find` takes them."""
        query = select(RunRow.run, RunRow.state, RunRow.evidence, RunRow.version).where(
            RunRow.model == model, RunRow.label == label
        )
        with errors_as_ours(self._engine), Session(self._engine) as session:
            runs = session.execute(query.order_by(RunRow.run.desc()).limit(limit)).all()
            pairs = session.execute(
                select(BreachRow.run, BreachRow.finding).where(BreachRow.run.in_([row.run for row in runs]))
            ).all()
        breached: dict[str, list[str]] = {}
        for run, finding in pairs:
            breached.setdefault(run, []).append(finding)
        return tuple(
            PastRun(
                run=run,
                state=RunState(state),
                evidence=rows,
                breaches=frozenset(breached.get(run, ())),
                version=version,
            )
            for run, state, rows, version in runs
        )

    def history(self, model: str, concept: str, *, label: str | None = None, limit: int = 50) -> tuple[ConceptPoint, ...]:
        """How one concept's importance went over the last runs, oldest first; runs that broke leave no point."""
        records = [record for record in self.runs(model=model, label=label, limit=limit) if assessed(record.state)]
        return tuple(
            ConceptPoint(
                run=record.run,
                version=record.version,
                label=record.label,
                finished=record.finished,
                metric=one.metric,
                importance=one.importance,
                margin=one.margin,
                verdict=one.verdict,
            )
            for record in reversed(records)
            for one in self.run(record.run).concepts
            if one.concept == concept
        )

    def findings(self, *, model: str | None = None) -> tuple[FindingRecord, ...]:
        """Every finding ever made, the latest first, with where it stands now."""
        query = select(FindingRow).order_by(FindingRow.last_seen.desc(), FindingRow.finding)
        if model is not None:
            query = query.where(FindingRow.model == model)
        with errors_as_ours(self._engine), Session(self._engine) as session:
            return tuple(finding_record(row, self._clock()) for row in session.scalars(query))

    def finding(self, finding: str) -> FindingRecord | None:
        """One finding, if there is one."""
        with errors_as_ours(self._engine), Session(self._engine) as session:
            row = session.get(FindingRow, finding)
            return None if row is None else finding_record(row, self._clock())

    def acknowledge(self, finding: str, *, by: str, reason: str, until: dt.datetime) -> None:
        """Somebody answers for a finding until a date; on record for ever.  It resolves and reopens as any other."""
        if not by.strip() or not reason.strip() or until <= self._clock():
            raise StoreError("an acknowledgement needs who, why, and an end in the future")
        values = {
            "acknowledged_by": by,
            "acknowledged_reason": reason,
            "acknowledged_until": until.timestamp(),
        }
        with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
            known = session.scalars(
                update(FindingRow).where(FindingRow.finding == finding).values(values).returning(FindingRow.finding)
            ).all()
            if not known:
                raise StoreError(f"there is no finding {finding!r} in the store; `findings` lists their ids")
            _log(session, self._clock(), by, "finding_acknowledged", subject=finding, detail=f"until {until.isoformat()}: {reason}")

    def note(self, *, actor: str, action: str, subject: str, detail: str) -> None:
        """Add a line to the audit log; nothing in it is ever changed."""
        with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
            _log(session, self._clock(), actor, action, subject=subject, detail=detail)

    def events(self, *, limit: int = 100) -> Sequence[Event]:
        """The audit log, newest first."""
        with errors_as_ours(self._engine), Session(self._engine) as session:
            rows = session.scalars(select(EventRow).order_by(EventRow.id.desc()).limit(limit))
            return [
                Event(at=moment(row.at), actor=row.actor, action=row.action, subject=row.subject, detail=row.detail) for row in rows
            ]


def _run_row(result: AuditResult) -> RunRow:
    origin = result.provenance
    return RunRow(
        run=result.run,
        model=result.model,
        version=result.version,
        label=result.label,
        state=result.state.value,
        started=seconds(origin.started_at),
        finished=seconds(origin.finished_at),
        audit=origin.audit,
        config_hash=origin.config_hash,
        bank_digest=origin.bank_digest,
        evidence=evidence(result),
        policy_digest=origin.policy_digest,
        plugin_version=origin.plugin_version,
        queries=origin.classifier_queries,
        document=to_json(result),
    )


def _record(row: RunRow) -> RunRecord:
    return RunRecord(
        run=row.run,
        model=row.model,
        version=row.version,
        label=row.label,
        state=RunState(row.state),
        started=moment(row.started),
        finished=moment(row.finished),
        config_hash=row.config_hash,
        bank_digest=row.bank_digest,
        policy_digest=row.policy_digest,
    )


def _log(session: Session, at: dt.datetime, actor: str, action: str, *, subject: str, detail: str) -> None:
    session.add(EventRow(at=at.timestamp(), actor=actor, action=action, subject=subject, detail=detail))


def _log_policy_change(session: Session, result: AuditResult, actor: str, now: dt.datetime) -> None:
    earlier = select(RunRow.policy_digest).where(
        RunRow.model == result.model, RunRow.label == result.label, RunRow.run != result.run
    )
    before = session.scalar(earlier.order_by(RunRow.run.desc()).limit(1))
    if before is not None and before != result.provenance.policy_digest:
        detail = f"{before} -> {result.provenance.policy_digest}, first used by run {result.run}"
        _log(session, now, actor, "policy_changed", subject=f"{result.model}/{result.label}", detail=detail)


def _see(session: Session, finding: Finding, result: AuditResult, actor: str) -> None:
    """Open the finding, keep it open, or open it again (which voids an acknowledgement)."""
    at = moment(seconds(result.provenance.finished_at))
    row = session.get(FindingRow, finding.id)
    if row is None:
        row = FindingRow(
            finding=finding.id,
            kind=finding.kind,
            model=finding.model,
            label=result.label,
            concept=finding.concept,
            metric=finding.metric,
            first_seen=at.timestamp(),
            first_run=result.run,
        )
        session.add(row)
        _log(session, at, actor, "finding_opened", subject=finding.id, detail=finding.summary)
    elif row.resolved is not None:
        row.resolved = row.acknowledged_by = row.acknowledged_until = row.acknowledged_reason = None
        _log(session, at, actor, "finding_reopened", subject=finding.id, detail=finding.summary)
    row.severity, row.summary, row.last_seen, row.last_run = finding.severity, finding.summary, at.timestamp(), result.run


def _resolve_unseen(session: Session, result: AuditResult, actor: str) -> None:
    """A working audit resolves what it no longer sees; a broken or cancelled one resolves nothing."""
    if not assessed(result.state):
        return
    at = moment(seconds(result.provenance.finished_at))
    seen = [finding.id for finding in result.findings]
    gone = select(FindingRow).where(
        FindingRow.model == result.model,
        FindingRow.label == result.label,
        FindingRow.resolved.is_(None),
        FindingRow.finding.not_in(seen),
    )
    if result.diffex is None or untrustworthy(result.diffex):  # a tree that says nothing resolves nothing either
        gone = gone.where(FindingRow.kind != SEMANTIC)
    for row in session.scalars(gone):
        row.resolved = at.timestamp()
        _log(session, at, actor, "finding_resolved", subject=row.finding, detail=f"not seen by run {result.run}")
