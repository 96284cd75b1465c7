"""Estimates and a policy in, findings out: a pure function.

The rule is that of the DEPICT output contract: a finding is the verdict ``relies`` on a concept of an alerting role.  It is confirmed,
and alerts, once two consecutive audits on different rows agree or one bound lies over twice the margin.  An audit that did not work
yields one finding of kind ``audit_broken`` and never a finding about bias.  Of a concept that nothing can separate from another one, or from
the label, nothing is found that rests on changing it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from audit_plugin.core.results import (
    AuditResult,
    ConceptResult,
    FairnessFigure,
    Finding,
    Gate,
    GateStatus,
    RunState,
    Verdict,
)
from audit_plugin.core.seeds import digest
from audit_plugin.core.values import Role
from audit_plugin.findings.counterfactuals import counterfactual_findings
from audit_plugin.findings.discovery import discovery_findings
from audit_plugin.findings.history import History, assessed, breach_runs, evidence
from audit_plugin.findings.policy import Policy, Quantity, Threshold
from audit_plugin.findings.semantic import semantic_findings
from audit_plugin.findings.spending import affordable, audit_number

RUNBOOKS = {
    "reliance": "auditpluginreliesonspuriousconcept.md",
    "fairness": "auditpluginfairnessgap.md",
    "audit_broken": "auditpluginauditbroken.md",
}
_EDIT_GATES = {"G0", "G3a", "G4", "G5"}


def find(result: AuditResult, policy: Policy, history: History = ()) -> tuple[Finding, ...]:
    """All breaches of the policy in one result; ``history`` holds earlier runs of this model and label, newest first.

    The result's own ``findings`` and ``SUCCEEDED``/``SUCCEEDED_WITH_FINDINGS`` are not read, so it may be called before they are set.
    """
    found = breaches(result, policy)
    return over_time(found, policy, history, version=result.version, rows=evidence(result)) if assessed(result.state) else found


def breaches(result: AuditResult, policy: Policy) -> tuple[Finding, ...]:
    """What one audit finds by itself, as if it were the first."""
    if result.state.broken:
        return (_broken(result),)
    if not assessed(result.state):
        return ()
    return (
        *_reliance(result, policy),
        *_fairness(result, policy),
        *semantic_findings(result, policy),
        *counterfactual_findings(result, policy),
        *discovery_findings(result, policy),
    )


def over_time(found: Sequence[Finding], policy: Policy, history: History, *, version: str, rows: str) -> tuple[Finding, ...]:
    """What is left of a working audit's own findings after the audits before it, and for how many audits in a row each has been there."""
    if found and policy.over_time == "spending":
        number = audit_number(version, rows, history)
        found = [left for one in found if (left := affordable(one, number)) is not None]
    return tuple(replace(one, breach_runs=breach_runs(one.id, rows, history)) for one in found)


def conclude(result: AuditResult, policy: Policy, history: History = ()) -> AuditResult:
    """The result with its findings, the state that follows from them, and the policy's digest."""
    found = find(result, policy, history)
    state = result.state
    if assessed(state):
        state = RunState.SUCCEEDED_WITH_FINDINGS if found else RunState.SUCCEEDED
    return replace(result, findings=found, state=state, provenance=replace(result.provenance, policy_digest=policy.digest))


def identity(kind: str, model: str, label: str, concept: str, metric: str) -> str:
    """Stays the same from run to run and from version to version."""
    return digest("finding", kind, model, label, concept, metric)


def _broken(result: AuditResult) -> Finding:
    failed = [gate for gate in result.gates if gate.status is GateStatus.FAIL]
    why = (
        "; ".join(f"{gate.name} {gate.title}" + (f" ({gate.subject})" if gate.subject else "") for gate in failed)
        or result.headline
    )
    return Finding(
        id=identity("audit_broken", result.model, result.label, "", "state"),
        kind="audit_broken",
        model=result.model,
        version=result.version,
        label=result.label,
        concept="",
        metric="state",
        value=1.0,
        low=1.0,
        high=1.0,
        threshold=0.0,
        severity="warning",
        summary=f"the audit of {result.model!r} did not work ({result.state}): {why}",
        owner="audit_plugin",
        reason="a broken audit says nothing about bias, in either direction",
        date=result.provenance.finished_at[:10],
        runbook=RUNBOOKS["audit_broken"],
        rule="audit-broken",
        n=result.n_rows,
    )


def _reliance(result: AuditResult, policy: Policy) -> Iterator[Finding]:
    for concept in result.concepts:
        decided: set[Quantity] = set()
        for threshold in policy.thresholds:
            if (
                threshold.metric not in {"importance", "flip_rate_excess"}
                or threshold.metric in decided
                or not threshold.covers(concept.concept, concept.role)
            ):
                continue
            decided.add(threshold.metric)
            if finding := _concept_breach(result, concept, threshold):
                yield finding


def _concept_breach(result: AuditResult, concept: ConceptResult, threshold: Threshold) -> Finding | None:
    quantity = (concept.decided_by or concept.importance) if threshold.metric == "importance" else concept.flip_rate_excess
    if concept.verdict is Verdict.NOT_ASSESSABLE or concept.inseparable:
        return None
    if concept.n_rows < threshold.least or quantity.low <= threshold.threshold:
        return None
    tolerance = threshold.threshold
    if threshold.metric == "importance":
        tolerance = max(concept.margin, threshold.threshold)
        if concept.verdict is not Verdict.RELIES or not _survives_leakage(concept):
            return None
    metric = concept.metric if threshold.metric == "importance" else threshold.metric
    return Finding(
        id=identity("reliance", result.model, result.label, concept.concept, metric),
        kind="reliance",
        model=result.model,
        version=result.version,
        label=result.label,
        concept=concept.concept,
        metric=metric,
        value=quantity.value,
        low=quantity.low,
        high=quantity.high,
        threshold=tolerance,
        severity=threshold.severity,
        summary=(
            f"{result.model!r} version {result.version} relies on the {concept.role} concept {concept.concept!r}: "
            f"{metric} {_words(threshold.metric, within=quantity is concept.decided_by)} {quantity.value:.3f} (95 % interval {quantity.low:.3f} to {quantity.high:.3f}, "
            f"bound {tolerance:.3f}, {concept.n_rows} rows)"
        ),
        owner=threshold.owner,
        reason=threshold.reason,
        date=threshold.date.isoformat(),
        runbook=RUNBOOKS["reliance"],
        rule=threshold.name,
        n=concept.n_rows,
        strong=tolerance > 0 and quantity.low > 2 * tolerance,
    )


def _words(metric: Quantity, *, within: bool) -> str:
    if metric != "importance":
        return "is"
    where = " within the combinations of concepts that occur" if within else ""
    return f"drops when the concept is permuted{where} by"


def _survives_leakage(concept: ConceptResult) -> bool:
    """Gate G4: where the edit also changes another concept, the leak-adjusted interval has to clear the margin, too."""
    leaks = "leaks_into=" in concept.validity
    return not leaks or (concept.leak_adjusted is not None and concept.leak_adjusted.low > concept.margin)


def _fairness(result: AuditResult, policy: Policy) -> Iterator[Finding]:
    roles = {concept.concept: concept.role for concept in result.concepts}
    inseparable = {concept.concept for concept in result.concepts if concept.inseparable}
    for figure in result.fairness:
        if figure.family == "interventional" and figure.concept in inseparable:
            continue
        role = roles.get(figure.concept, Role.PROTECTED)
        covering = (one for one in policy.thresholds if one.covers_figure(figure) and one.covers(figure.concept, role))
        threshold = next(covering, None)
        if threshold and not _edit_failed(figure, result.gates) and (finding := _fairness_breach(result, figure, threshold)):
            yield finding


def _fairness_breach(result: AuditResult, figure: FairnessFigure, threshold: Threshold) -> Finding | None:
    estimate = figure.estimate
    if estimate is None or figure.n < threshold.least:
        return None
    if threshold.side == "below":
        breach, strong = estimate.high < threshold.threshold, estimate.high < threshold.threshold / 2
    else:
        least = max(estimate.low, -estimate.high, 0.0)  # smallest distance from zero that the interval allows
        breach, strong = least > threshold.threshold, 0 < 2 * threshold.threshold < least
    if not breach:
        return None
    metric = fairness_metric(figure)
    return Finding(
        id=identity("fairness", result.model, result.label, figure.concept, metric),
        kind="fairness",
        model=result.model,
        version=result.version,
        label=result.label,
        concept=figure.concept,
        metric=metric,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        threshold=threshold.threshold,
        severity=threshold.severity,
        summary=(
            f"{result.model!r} version {result.version} treats {figure.concept!r} {figure.levels[0]!r} and {figure.levels[1]!r} "
            f"differently: {figure.figure} ({figure.family}) {estimate.value:.3f} (95 % interval {estimate.low:.3f} to "
            f"{estimate.high:.3f}, bound {threshold.threshold:.3f}, {figure.n} rows)"
        ),
        owner=threshold.owner,
        reason=threshold.reason,
        date=threshold.date.isoformat(),
        runbook=RUNBOOKS["fairness"],
        rule=threshold.name,
        n=figure.n,
        strong=strong,
    )


def fairness_metric(figure: FairnessFigure) -> str:
    """Name of one figure between two levels, as findings and metrics use it.

    >>> fairness_metric(FairnessFigure(concept="skin", family="interventional", figure="counterfactual_parity_gap", levels=("dark", "light"),
    ...     estimate=None, n=0, concern="beyond ±0.05", of_concern=False))
    'interventional_counterfactual_parity_gap:dark-light'
    """
    return f"{figure.family}_{figure.figure}:{figure.levels[0]}-{figure.levels[1]}"


def _edit_failed(figure: FairnessFigure, gates: tuple[Gate, ...]) -> bool:
    """Too few rows, an edit not carried out or leaking, a blind detector: the interventional figure cannot accuse anyone."""
    if figure.family != "interventional":
        return False
    own = (gate for gate in gates if gate.subject.split("->")[0] == figure.concept)
    return any(gate.name in _EDIT_GATES and gate.status is GateStatus.FAIL for gate in own)
