"""What earlier runs of the same model and task found, as far as findings need it: confirmation and life cycle."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from audit_plugin.core.results import AuditResult, RunState


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """One earlier run of the same model and label column."""

    run: str
    state: RunState
    evidence: str
    """Which rows it rests on; runs of equal evidence never confirm one another."""
    breaches: frozenset[str]
    """Identities of its findings."""
    version: str = ""
    """Of the model."""


RECENT, ALL = 50, 10_000
"""Earlier runs that a policy is told of: those that a streak needs, or, where error is spent, those of a daily audit over decades."""
History = Sequence[PastRun]
"""Earlier runs, newest first."""


class LifeCycle(StrEnum):
    """Where a finding stands."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


def assessed(state: RunState) -> bool:
    """Whether a run in this state says anything about bias; broken and cancelled runs neither confirm nor resolve."""
    return state in {RunState.SUCCEEDED, RunState.SUCCEEDED_WITH_FINDINGS}


def evidence(result: AuditResult) -> str:
    """Identity of the rows that a run rests on."""
    return result.provenance.rows_digest or result.provenance.bank_digest


def breach_runs(finding: str, current_evidence: str, history: History) -> int:
    """Consecutive audits on different rows that had this finding, the current one included.

    >>> past = PastRun(run="1", state=RunState.SUCCEEDED, evidence="rows-a", breaches=frozenset({"f"}))
    >>> breach_runs("f", "rows-b", [past]), breach_runs("f", "rows-a", [past])
    (2, 1)
    """
    seen = {current_evidence}
    for past in history:
        if not assessed(past.state):
            continue
        if finding not in past.breaches:
            break
        seen.add(past.evidence)
    return len(seen)


def life_cycle(*, resolved: bool, acknowledged_until: dt.datetime | None, now: dt.datetime) -> LifeCycle:
    """Resolved by a working audit without it; acknowledged until a date, after which it is open again."""
    if resolved:
        return LifeCycle.RESOLVED
    if acknowledged_until is not None and now < acknowledged_until:
        return LifeCycle.ACKNOWLEDGED
    return LifeCycle.OPEN
