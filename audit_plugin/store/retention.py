"""What is deleted from the store, and who may not have it deleted: holds, tombstones, reduced documents, scores of old versions.

A run is written once.  The one change that is made to it later takes away what it says of single rows and pictures: the row in ``runs`` keeps
its columns and its findings, its document is replaced by one with aggregates alone, and the log of events gets the SHA-256 of the document
before and after.  So whoever holds the earlier document (an exported bundle) can still show that it is the one that was stored.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from audit_plugin.core.errors import ConfigError, StoreError
from audit_plugin.core.results import AuditResult, from_json, to_json
from audit_plugin.store.database import errors_as_ours
from audit_plugin.store.pages import summary_json
from audit_plugin.store.records import moment
from audit_plugin.store.tables import Base, EventRow, HoldRow, RevisionRow, RunRow, ScoreRow, SummaryRow, TombstoneRow

_CHUNK = 500
_SHA = re.compile(r"[0-9a-f]{64}")
REDUCED = "run_reduced"
FORGOTTEN = "image_forgotten"
PRUNED = "pruned"


@dataclass(frozen=True, kw_only=True)
class RetentionOptions:
    """How long what is kept; `audit-plugin prune` deletes what is older.  0 keeps for ever."""

    pictures_days: int = 90
    """Pictures that no last run shows or rests on, nor any run on hold; they can be made again."""
    runs_days: int = 730
    """What a run says of single rows and pictures; its estimates, verdicts, gates and findings are kept for ever."""
    scores_days: int = 730
    """Answers of model versions that have not been audited since; without them, later versions cannot be compared row by row."""
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    def __post_init__(self) -> None:
        if min(self.pictures_days, self.runs_days, self.scores_days) < 0:
            raise ValueError("days are not negative; 0 keeps for ever")


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A run or model of which nothing may be pruned."""

    subject: str
    at: dt.datetime
    by: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Tombstone:
    """An image that was deleted on request and is never taken in again."""

    sha256: str
    at: dt.datetime
    by: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A run as far as retention asks."""

    run: str
    model: str
    label: str
    finished: dt.datetime
    bytes: int
    """Of its document."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """The run before, in a chain of digests; every document can be checked against the next link."""

    run: str
    sha256: str
    """Of the document as it is stored now."""
    sha256_before_reduction: str = ""
    """Of the document as it was first stored, where single rows and pictures were taken out since."""


def sha_of(text: str) -> str:
    """SHA-256 of a document's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


class Retention:
    """Everything is one transaction a call, with its line in the log of events."""

    def __init__(self, engine: Engine, clock: Callable[[], dt.datetime]) -> None:
        self._engine = engine
        self._clock = clock

    def hold(self, subject: str, *, by: str, reason: str) -> None:
        """Keep everything of a run, or of all runs of a model, until it is released.  Raises StoreError for what is not there."""
        if not reason.strip():
            raise ConfigError("a hold needs a reason")
        with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
            there = select(func.count()).select_from(RunRow).where((RunRow.run == subject) | (RunRow.model == subject))
            if not session.scalar(there):
                raise StoreError(f"there is no run or model {subject!r} in the store to hold")
            session.merge(HoldRow(subject=subject, at=self._now, by=by, reason=reason))
            self._log(session, by, "held", subject, reason)

    def release(self, subject: str, *, by: str, reason: str) -> None:
        """End a hold.  Raises StoreError where there is none."""
        with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
            row = session.get(HoldRow, subject)
            if row is None:
                raise StoreError(f"{subject!r} is not on hold")
            session.delete(row)
            self._log(session, by, "released", subject, reason)

    def holds(self) -> tuple[Hold, ...]:
        """All holds, by subject."""
        with errors_as_ours(self._engine), Session(self._engine) as session:
            rows = session.scalars(select(HoldRow).order_by(HoldRow.subject))
            return tuple(Hold(subject=row.subject, at=moment(row.at), by=row.by, reason=row.reason) for row in rows)

    def bury(self, sha256: str, *, by: str, reason: str) -> bool:
        """Note that an image was deleted and is never taken in again; False where that is on record already."""
        if not _SHA.fullmatch(sha256):
            raise ConfigError(f"{sha256!r} is no SHA-256 of an image; it has 64 hex digits")
        if not reason.strip():
            raise ConfigError("deleting an image needs a reason")
        row = {"sha256": sha256, "at": self._now, "by": by, "reason": reason}
        with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
            added = session.scalars(
                self._insert(TombstoneRow).values(row).on_conflict_do_nothing().returning(TombstoneRow.sha256)
            ).all()
            if added:
                self._log(session, by, FORGOTTEN, sha256, reason)
        return bool(added)

    def tombstones(self) -> tuple[Tombstone, ...]:
        """All of them, oldest first."""
        with errors_as_ours(self._engine), Session(self._engine) as session:
            rows = session.scalars(select(TombstoneRow).order_by(TombstoneRow.at))
            return tuple(Tombstone(sha256=row.sha256, at=moment(row.at), by=row.by, reason=row.reason) for row in rows)

    def runs(self) -> tuple[StoredRun, ...]:
        """All runs, oldest first."""
        query = select(RunRow.run, RunRow.model, RunRow.label, RunRow.finished, func.length(RunRow.document)).order_by(RunRow.run)
        with errors_as_ours(self._engine), Session(self._engine) as session:
            return tuple(
                StoredRun(run=run, model=model, label=label, finished=moment(finished), bytes=size)
                for run, model, label, finished, size in session.execute(query)
            )

    def held_runs(self) -> frozenset[str]:
        """Runs that are on hold themselves, or whose model is."""
        subjects = {hold.subject for hold in self.holds()}
        return frozenset(run.run for run in self.runs() if subjects & {run.run, run.model})

    def document(self, run: str) -> str:
        """A run's document, byte for byte.  Raises StoreError where there is none."""
        with errors_as_ours(self._engine), Session(self._engine) as session:
            text = session.scalar(select(RunRow.document).where(RunRow.run == run))
        if text is None:
            raise StoreError(f"there is no run {run!r} in the store")
        return text

    def replace_document(self, run: str, changed: Callable[[AuditResult], AuditResult], *, by: str, why: str) -> int:
        """Take parts out of a run's document and log its digests; the bytes that were saved, 0 where nothing changed."""
        with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
            before = session.scalar(select(RunRow.document).where(RunRow.run == run))
            if before is None:
                raise StoreError(f"there is no run {run!r} in the store")
            result = from_json(before)
            bare = changed(result)
            if bare == result:
                return 0
            after = to_json(bare)
            session.execute(update(RunRow).where(RunRow.run == run).values(document=after))
            told = {"run": run, "summary": summary_json(bare)}
            session.execute(self._insert(SummaryRow).values(told).on_conflict_do_update(index_elements=["run"], set_=told))
            self._raise(session, run, "")
            self._log(session, by, REDUCED, run, f"{sha_of(before)} -> {sha_of(after)}: {why}")
        return len(before) - len(after)

    def link_before(self, result: AuditResult) -> Link | None:
        """The preceding run of the same model and label, with the digest of its document; None for the first one."""
        earlier = select(RunRow.run, RunRow.document).where(
            RunRow.model == result.model, RunRow.label == result.label, RunRow.run < result.run
        )
        with errors_as_ours(self._engine), Session(self._engine) as session:
            found = session.execute(earlier.order_by(RunRow.run.desc()).limit(1)).first()
            if found is None:
                return None
            run, text = found
            logged = (
                select(EventRow.detail).where(EventRow.action == REDUCED, EventRow.subject == run).order_by(EventRow.id).limit(1)
            )
            first = session.scalar(logged) or ""
        return Link(run=run, sha256=sha_of(text), sha256_before_reduction=first.split(" -> ")[0] if first else "")

    def drop_scores(self, shas: Iterable[str]) -> int:
        """Delete what every model version said of these images; how many answers that were."""
        every, gone = sorted(set(shas)), 0
        with errors_as_ours(self._engine), self._engine.begin() as connection:
            for start in range(0, len(every), _CHUNK):
                done = connection.execute(delete(ScoreRow).where(ScoreRow.sha256.in_(every[start : start + _CHUNK])))
                gone += done.rowcount
        return gone

    def count_scores(self, targets: Iterable[str]) -> tuple[int, int]:
        """Answers of these model versions, and their bytes."""
        size = func.coalesce(func.sum(func.length(ScoreRow.vector)), 0)
        query = select(func.count(), size).select_from(ScoreRow).where(ScoreRow.target.in_(sorted(targets)))
        with errors_as_ours(self._engine), self._engine.connect() as connection:
            count, total = connection.execute(query).one()
        return int(count), int(total)

    def drop_targets(self, targets: Iterable[str], *, by: str, why: str) -> None:
        """Delete all answers of these model versions."""
        for target in sorted(targets):
            with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
                if session.execute(delete(ScoreRow).where(ScoreRow.target == target)).rowcount:  # type: ignore[attr-defined]
                    self._log(session, by, PRUNED, f"scores of {target}", why)

    def note(self, actor: str, action: str, subject: str, detail: str) -> None:
        """A line in the log of events about what was deleted, also outside the store; whoever keeps something of it in memory notices."""
        with errors_as_ours(self._engine), Session(self._engine) as session, session.begin():
            self._raise(session, "")
            self._log(session, actor, action, subject, detail)

    def _insert(self, table: type[Base]) -> postgresql.Insert | sqlite.Insert:
        return postgresql.insert(table) if self._engine.dialect.name == "postgresql" else sqlite.insert(table)

    def _raise(self, session: Session, *subjects: str) -> None:
        """Count a change of each."""
        for subject in subjects:
            first = self._insert(RevisionRow).values(subject=subject, number=1)
            session.execute(first.on_conflict_do_update(index_elements=["subject"], set_={"number": RevisionRow.number + 1}))

    @property
    def _now(self) -> float:
        return self._clock().timestamp()

    def _log(self, session: Session, actor: str, action: str, subject: str, detail: str) -> None:
        session.add(EventRow(at=self._now, actor=actor, action=action, subject=subject, detail=detail))
