"""What the store answers besides whole results: small frozen rows."""

import datetime as dt
import secrets
from dataclasses import dataclass

from audit_plugin.core.errors import StoreError
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import RunState, Verdict
from audit_plugin.findings.history import LifeCycle


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One finished run, without its document."""

    run: str
    model: str
    version: str
    label: str
    state: RunState
    started: dt.datetime
    finished: dt.datetime
    config_hash: str
    bank_digest: str
    policy_digest: str


@dataclass(frozen=True, kw_only=True)
class ConceptPoint:
    """One concept in one run: a point of a trend."""

    run: str
    version: str
    label: str
    finished: dt.datetime
    metric: str
    importance: Estimate
    margin: float
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class FindingRecord:
    """One finding with its life so far."""

    finding: str
    kind: str
    model: str
    label: str
    concept: str
    metric: str
    severity: str
    summary: str
    first_seen: dt.datetime
    last_seen: dt.datetime
    last_run: str
    state: LifeCycle
    acknowledged_by: str | None = None
    acknowledged_until: dt.datetime | None = None
    acknowledged_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of the audit log."""

    at: dt.datetime
    actor: str
    action: str
    subject: str
    detail: str


def new_run_id(now: dt.datetime | None = None) -> str:
    """Unique run id that sorts by time as text, e.g. ``20261122T081500.000000Z-9f2c1a7b``."""
    moment = now or dt.datetime.now(dt.UTC)
    return f"{moment.astimezone(dt.UTC):%Y%m%dT%H%M%S.%f}Z-{secrets.token_hex(4)}"


def seconds(moment: str) -> float:
    """Epoch seconds of an RFC 3339 time.  Raises StoreError where there is no time zone.

    >>> seconds("1970-01-01T00:01:00Z")
    60.0
    """
    try:
        parsed = dt.datetime.fromisoformat(moment)
    except ValueError as error:
        raise StoreError(f"{moment!r} is not an RFC 3339 time: {error}") from error
    if parsed.tzinfo is None:
        raise StoreError(f"{moment!r} has no time zone; results carry UTC times such as 2026-11-22T08:15:00Z")
    return parsed.timestamp()


def moment(epoch: float) -> dt.datetime:
    """UTC time of epoch seconds."""
    return dt.datetime.fromtimestamp(epoch, dt.UTC)
