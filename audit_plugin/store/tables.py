"""The tables.  Facts that are queried are columns; the audit result itself is one JSON document, byte for byte as it was written.

Times are seconds since the epoch, UTC.  Columns change only together with a migration in ``migrations/versions``; a test compares the two.
"""

from sqlalchemy import BigInteger, Double, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMES = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)


class Base(DeclarativeBase):
    """All tables of the store."""

    metadata = NAMES


class RunRow(Base):
    """One finished audit of one (model version, label); written once, and only ever reduced (see ``revisions``)."""

    __tablename__ = "runs"
    __table_args__ = (Index(None, "model", "label", "run"),)

    run: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(Text)
    version: Mapped[str] = mapped_column(Text)
    label: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(32))
    started: Mapped[float] = mapped_column(Double)
    finished: Mapped[float] = mapped_column(Double)
    audit: Mapped[str] = mapped_column(Text)
    config_hash: Mapped[str] = mapped_column(Text)
    bank_digest: Mapped[str] = mapped_column(Text)
    evidence: Mapped[str] = mapped_column(Text)
    policy_digest: Mapped[str] = mapped_column(Text)
    plugin_version: Mapped[str] = mapped_column(Text)
    queries: Mapped[int] = mapped_column(BigInteger)
    document: Mapped[str] = mapped_column(Text)


class SummaryRow(Base):
    """The little of a run that lists show, so that they need not read its document; gone with its run."""

    __tablename__ = "summaries"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run", ondelete="CASCADE"), primary_key=True)
    summary: Mapped[str] = mapped_column(Text)


class RevisionRow(Base):
    """How often a run's document was changed since it was written; of the empty subject, how often anything was deleted."""

    __tablename__ = "revisions"

    subject: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(Integer)


class FindingRow(Base):
    """One cause of concern and its life, over all runs that saw it."""

    __tablename__ = "findings"
    __table_args__ = (Index(None, "model", "label"),)

    finding: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    model: Mapped[str] = mapped_column(Text)
    label: Mapped[str] = mapped_column(Text)
    concept: Mapped[str] = mapped_column(Text)
    metric: Mapped[str] = mapped_column(Text)
    severity: Mapped[str] = mapped_column(String(16))
    summary: Mapped[str] = mapped_column(Text)
    first_seen: Mapped[float] = mapped_column(Double)
    last_seen: Mapped[float] = mapped_column(Double)
    first_run: Mapped[str] = mapped_column(String(64))
    last_run: Mapped[str] = mapped_column(String(64))
    resolved: Mapped[float | None] = mapped_column(Double)
    acknowledged_by: Mapped[str | None] = mapped_column(Text)
    acknowledged_until: Mapped[float | None] = mapped_column(Double)
    acknowledged_reason: Mapped[str | None] = mapped_column(Text)


class BreachRow(Base):
    """Which run had which finding."""

    __tablename__ = "breaches"

    run: Mapped[str] = mapped_column(ForeignKey("runs.run"), primary_key=True)
    finding: Mapped[str] = mapped_column(ForeignKey("findings.finding"), primary_key=True)


class ScoreRow(Base):
    """Scores of one image by one model version: little-endian float64, one number per class."""

    __tablename__ = "scores"
    __table_args__ = ({"sqlite_with_rowid": False},)

    target: Mapped[str] = mapped_column(String(64), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)


class EventRow(Base):
    """Who did what: append-only (SQLite refuses changes by trigger; on PostgreSQL grant INSERT and SELECT only)."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[float] = mapped_column(Double)
    actor: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)


class JobRow(Base):
    """A run that somebody or something asked for, and how far it is; the results it leaves are rows of ``runs``."""

    __tablename__ = "jobs"
    __table_args__ = (Index(None, "state", "job"), Index(None, "model", "job"))

    job: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(Text)
    cause: Mapped[str] = mapped_column(Text)
    asked_by: Mapped[str] = mapped_column(Text)
    asked: Mapped[float] = mapped_column(Double)
    started: Mapped[float | None] = mapped_column(Double)
    finished: Mapped[float | None] = mapped_column(Double)
    state: Mapped[str] = mapped_column(String(32))
    cancelled_by: Mapped[str | None] = mapped_column(Text)
    key: Mapped[str | None] = mapped_column(Text, unique=True)
    starts: Mapped[int] = mapped_column(Integer)
    done: Mapped[int] = mapped_column(BigInteger)
    total: Mapped[int] = mapped_column(BigInteger)
    doing: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
    runs: Mapped[str] = mapped_column(Text)


class JobLineRow(Base):
    """One line of a job's log."""

    __tablename__ = "job_lines"
    __table_args__ = (Index(None, "job", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job: Mapped[str] = mapped_column(ForeignKey("jobs.job"))
    at: Mapped[float] = mapped_column(Double)
    level: Mapped[str] = mapped_column(String(16))
    text: Mapped[str] = mapped_column(Text)


class LeaseRow(Base):
    """Who may do what only one may do, and until when."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    holder: Mapped[str] = mapped_column(Text)
    until: Mapped[float] = mapped_column(Double)


class TombstoneRow(Base):
    """An image that was deleted on request and is never taken in again."""

    __tablename__ = "tombstones"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[float] = mapped_column(Double)
    by: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)


class HoldRow(Base):
    """A run or model of which nothing may be pruned."""

    __tablename__ = "holds"

    subject: Mapped[str] = mapped_column(String(128), primary_key=True)
    at: Mapped[float] = mapped_column(Double)
    by: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
