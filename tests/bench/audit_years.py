"""Years of scheduled audits through the policy's own code, in milliseconds: what an audit finds by itself is asked once, its place in time each time.

:func:`audit_plugin.findings.findings.breaches` and :func:`~audit_plugin.findings.findings.over_time` are the two halves of ``find``;
:func:`alerts_of` goes the long way (conclude, metrics, the shipped conditions) and has to agree.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from audit_plugin.alerts.evaluate import firing
from audit_plugin.core.results import AuditResult, Finding, RunState, Verdict
from audit_plugin.findings.findings import breaches, conclude, over_time
from audit_plugin.findings.history import RECENT, PastRun, assessed
from audit_plugin.findings.policy import Policy, default_policy
from audit_plugin.metrics.samples import audit_samples
from tests.bench.audits_planted import on_rows

POLICIES = {"each": default_policy(), "spending": replace(default_policy(), over_time="spending")}
BETS = 1.0
"""Spread of the bets of the e-value, in standard errors of one audit."""
ALARM = math.log(20)
"""The e-value that errs at most once in twenty models, for ever."""
Subject = tuple[str, str]
"""Kind of a finding and concept."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When somebody is woken."""

    name: str
    policy: Literal["each", "spending"] = "each"
    runs: int = 2
    """1: by any finding; 2: as the shipped alerts, by a confirmed one."""

    def alarms(self, finding: Finding) -> bool:
        """Whether this finding wakes somebody."""
        return self.runs == 1 or finding.confirmed


SHIPPED = Rule(name="each, 2 runs")
RULES = (
    Rule(name="each, 1 run", runs=1),
    SHIPPED,
    Rule(name="spending, 1 run", policy="spending", runs=1),
    Rule(name="spending, 2 runs", policy="spending"),
)
E_VALUES = "e-values"


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """An audit of the population with what it finds by itself."""

    state: RunState
    found: Mapping[str, tuple[Finding, ...]]
    """By policy."""


@dataclass(kw_only=True)
class Chain:
    """One model version as its audits go on."""

    policy: Policy
    past: list[PastRun] = field(default_factory=list)
    """Newest last."""
    kept: int | None = RECENT

    def audit(self, state: RunState, found: Sequence[Finding], rows: str) -> tuple[Finding, ...]:
        """One more audit: its findings as the policy leaves them."""
        if not assessed(state):
            self.past.append(PastRun(run=str(len(self.past)), state=state, evidence=rows, breaches=frozenset(), version="1"))
            return ()
        history = self.past[::-1] if self.kept is None else self.past[: -self.kept - 1 : -1]
        left = over_time(found, self.policy, history, version="1", rows=rows) if found else ()
        breached = frozenset(one.id for one in left)
        self.past.append(PastRun(run=str(len(self.past)), state=state, evidence=rows, breaches=breached, version="1"))
        return left


def chain(rule: Rule) -> Chain:
    """An empty one, with as long a memory as the service gives it."""
    return Chain(policy=POLICIES[rule.policy], kept=None if rule.policy == "spending" else RECENT)


def drawn(audits: Sequence[AuditResult], only: Sequence[Subject] | None = None) -> list[Drawn]:
    """The population ready to be drawn from; with ``only`` other findings are left aside, which never touch one another."""

    def chosen(found: Sequence[Finding]) -> tuple[Finding, ...]:
        return tuple(one for one in found if one.kind != "audit_broken" and (only is None or (one.kind, one.concept) in only))

    return [
        Drawn(state=told.state, found={name: chosen(breaches(told, policy)) for name, policy in POLICIES.items()})
        for told in audits
    ]


def onsets(years: NDArray[np.int64], population: Sequence[Drawn], rule: Rule) -> list[int]:
    """``(Y, audits)`` numbers of the population, fresh rows each -> how often a year's alarms began, of all findings together."""
    if not any(one.found[rule.policy] for one in population):
        return [0] * len(years)
    return [sum(len(new) for new in _new(numbers, population, rule)) for numbers in years.tolist()]


def first_alarm(numbers: Sequence[int], population: Sequence[Drawn], rule: Rule, *, before: int = 0) -> int | None:
    """How many audits it takes until the first alarm, None when none comes; ``before`` clean audits went ahead of them."""
    told = chain(rule)
    for at in range(before):
        told.audit(RunState.SUCCEEDED, (), f"before-{at}")
    for at, number in enumerate(numbers, start=1):
        one = population[number]
        if any(rule.alarms(finding) for finding in told.audit(one.state, one.found[rule.policy], f"rows-{at}")):
            return at
    return None


def on_the_same_rows(number: int, population: Sequence[Drawn], rule: Rule, *, audits: int, counted_fresh: bool = False) -> bool:
    """Whether an audit that is repeated with nothing new ever alarms; ``counted_fresh``: if every repetition counted as new rows."""
    told, one = chain(rule), population[number]
    rows = (f"rows-{at}" if counted_fresh else "rows" for at in range(audits))
    return any(rule.alarms(finding) for name in rows for finding in told.audit(one.state, one.found[rule.policy], name))


def alerts_of(audits: Sequence[AuditResult], policy: Policy) -> list[frozenset[str]]:
    """What the shipped alerts fire for after each of these audits on fresh rows, by ``conclude``, the exporter's samples and the catalogue."""
    past: list[PastRun] = []
    fired = []
    for at, told in enumerate(audits):
        done = conclude(on_rows(told, f"rows-{at}"), policy, past)
        found = frozenset(one.id for one in done.findings)
        past.insert(0, PastRun(run=str(at), state=done.state, evidence=f"rows-{at}", breaches=found, version=done.version))
        alerts = firing(audit_samples([done], [done] if assessed(done.state) else []), now=0.0)
        about = [one for one in alerts if one.name in {"AuditPluginReliesOnSpuriousConcept", "AuditPluginFairnessGap"}]
        fired.append(frozenset(f"{one.labels['concept']} {one.labels['metric']}" for one in about))
    return fired


def fired_in_short(audits: Sequence[AuditResult], rule: Rule) -> list[frozenset[str]]:
    """The same by the short way."""
    told, population = chain(rule), drawn(audits)
    fired = []
    for at, one in enumerate(population):
        left = told.audit(one.state, one.found[rule.policy], f"rows-{at}")
        fired.append(frozenset(f"{finding.concept} {finding.metric}" for finding in left if rule.alarms(finding)))
    return fired


def distances(audits: Sequence[AuditResult], concept: str) -> NDArray[np.float64]:
    """``(n,)`` standard errors by which each audit's importance of a concept lies above its margin; 0 where nothing can be said."""
    found = []
    for told in audits:
        one = next(one for one in told.concepts if one.concept == concept)
        told_nothing = not assessed(told.state) or one.verdict is Verdict.NOT_ASSESSABLE or not one.se > 0
        found.append(0.0 if told_nothing else ((one.decided_by or one.importance).value - one.margin) / one.se)
    return np.array(found)


def log_e_values(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(Y, audits)`` distances, fresh rows each -> log of the e-value of "importance at most the margin" after each audit.

    Products of likelihood ratios of a normal estimate, mixed over bets from a half-normal: 2/sqrt(1+n r²)·exp(r²S²/(2(1+n r²)))·Φ(r S/sqrt(1+n r²)).
    """
    total, n = np.cumsum(z, axis=1), np.arange(1, z.shape[1] + 1)
    inside = 1 + n * BETS**2
    return np.asarray(
        math.log(2) - np.log(inside) / 2 + (BETS * total) ** 2 / (2 * inside) + log_ndtr(BETS * total / np.sqrt(inside))
    )


def _new(numbers: Sequence[int], population: Sequence[Drawn], rule: Rule) -> Iterator[frozenset[str]]:
    """After each audit the findings that alarm and did not before it; a broken audit leaves alarms as they are."""
    told, before = chain(rule), frozenset[str]()
    for at, number in enumerate(numbers):
        one = population[number]
        left = told.audit(one.state, one.found[rule.policy], f"rows-{at}")
        if assessed(one.state):
            now = frozenset(finding.id for finding in left if rule.alarms(finding))
            yield now - before
            before = now
