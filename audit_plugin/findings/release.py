"""May this model version be released: an audit, and its comparison with a baseline, as test cases with a status each."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from audit_plugin.core.comparison_results import UNDECIDED, Change, Comparison, Difference
from audit_plugin.core.results import AuditResult, ConceptResult, Finding, Gate, GateStatus, Verdict


class FailOn(StrEnum):
    """What must not be there."""

    FINDINGS = "findings"
    """Any finding under the policy."""
    CONFIRMED = "confirmed"
    """Findings that alert: confirmed by a second audit, or strong."""
    NEW_FINDINGS = "new-findings"
    """Findings that the baseline did not have."""
    REGRESSION = "regression"
    """Anything that is worse than the baseline by more than its margin."""
    UNDECIDED = "undecided"
    """Concepts without a verdict, and differences from the baseline that are neither within nor beyond their margin."""
    GATES = "gates"
    """Validity checks of the audit that failed."""

    @property
    def needs_baseline(self) -> bool:
        """Whether there must be something to compare with."""
        return self in {FailOn.NEW_FINDINGS, FailOn.REGRESSION}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing that was asked, as a test case."""

    group: str
    """``audit``, ``concept``, ``fairness``, ``node``, ``finding``, ``gate`` or ``regression``."""
    name: str
    status: Literal["passed", "failed", "skipped", "error"]
    """``skipped``: nothing can be said; ``error``: the audit or the comparison did not work."""
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """All cases of one model version."""

    model: str
    version: str
    label: str
    run: str
    baseline: str
    """Run that it was compared with; empty when it was not."""
    baseline_of: str = ""
    """Its model and version, where that is another model."""
    cases: tuple[Case, ...]

    def of(self, status: str) -> tuple[Case, ...]:
        """The cases of one status."""
        return tuple(case for case in self.cases if case.status == status)


def judge(
    result: AuditResult, comparison: Comparison | None, fail_on: Collection[FailOn], *, why_no_baseline: str = ""
) -> Judgement:
    """The cases of one audit; without a comparison those that need one are errors."""
    return Judgement(
        model=result.model,
        version=result.version,
        label=result.label,
        run=result.run,
        baseline="" if comparison is None else comparison.old.run,
        baseline_of="" if comparison is None else _other_model(comparison),
        cases=tuple(_cases(result, comparison, fail_on, why_no_baseline)),
    )


def _cases(result: AuditResult, comparison: Comparison | None, fail_on: Collection[FailOn], why: str) -> Iterator[Case]:
    if result.state.broken:
        yield Case(group="audit", name="worked", status="error", message=f"{result.state}: {result.headline}")
        return
    yield Case(group="audit", name="worked", status="passed")
    yield from (_concept(concept, result.findings, fail_on) for concept in result.concepts)
    yield from _fairness(result, fail_on)
    yield from _nodes(result, fail_on)
    yield from _others(result, fail_on)
    yield from _nothing_found(result, fail_on)
    yield from (_gate(gate, fail_on) for gate in result.gates)
    if comparison is not None:
        yield from _compared(comparison, fail_on)
    elif any(one.needs_baseline for one in fail_on):
        yield Case(group="regression", name="baseline", status="error", message=why or "there is no earlier run to compare with")


def _fails(finding: Finding, fail_on: Collection[FailOn]) -> bool:
    return FailOn.FINDINGS in fail_on or (FailOn.CONFIRMED in fail_on and finding.confirmed)


def _found(group: str, name: str, findings: Sequence[Finding], fail_on: Collection[FailOn]) -> Case:
    """Passed without findings, or with those that are not asked about, which are told."""
    status: Literal["passed", "failed"] = "failed" if any(_fails(one, fail_on) for one in findings) else "passed"
    return Case(group=group, name=name, status=status, message="; ".join(one.summary for one in findings))


def _concept(concept: ConceptResult, findings: Sequence[Finding], fail_on: Collection[FailOn]) -> Case:
    about = [one for one in findings if one.kind == "reliance" and one.concept == concept.concept]
    open_verdict = concept.verdict in {Verdict.INCONCLUSIVE, Verdict.NOT_ASSESSABLE} and concept.role.alerts
    if about or not open_verdict:
        return _found("concept", concept.concept, about, fail_on)
    status: Literal["failed", "skipped"] = "failed" if FailOn.UNDECIDED in fail_on else "skipped"
    said = f"{concept.verdict.value.replace('_', ' ')}: {'; '.join(concept.notes) or 'too few rows to decide'}"
    return Case(group="concept", name=concept.concept, status=status, message=said)


def _fairness(result: AuditResult, fail_on: Collection[FailOn]) -> Iterator[Case]:
    for name in dict.fromkeys(figure.concept for figure in result.fairness):
        yield _found("fairness", name, [one for one in result.findings if (one.kind, one.concept) == ("fairness", name)], fail_on)


def _nodes(result: AuditResult, fail_on: Collection[FailOn]) -> Iterator[Case]:
    nodes = [] if result.diffex is None else [node for one in result.diffex.classes for node in one.nodes]
    for node in (node for node in nodes if node.kind.alerts):
        about = [
            one
            for one in result.findings
            if (one.kind, one.concept) == ("semantic", node.node) and one.metric.endswith(f":{node.class_name}")
        ]
        yield _found("node", f"{node.node} ({node.class_name})", about, fail_on)


def _others(result: AuditResult, fail_on: Collection[FailOn]) -> Iterator[Case]:
    """Findings that belong to nothing above."""
    for one in result.findings:
        if one.kind not in {"reliance", "fairness", "semantic"}:
            yield _found("finding", f"{one.kind} {one.concept} {one.metric}".strip(), [one], fail_on)


def _nothing_found(result: AuditResult, fail_on: Collection[FailOn]) -> Iterator[Case]:
    """That an audit without findings could not have made any, where they are asked about."""
    asked = any(one in fail_on for one in (FailOn.FINDINGS, FailOn.CONFIRMED, FailOn.NEW_FINDINGS))
    suspects = [concept for concept in result.concepts if concept.role.alerts]
    other = result.findings or result.fairness or result.diffex or result.counterfactuals or result.discovery or result.shortcuts
    if asked and suspects and not other and all(one.verdict is Verdict.NOT_ASSESSABLE for one in suspects):
        said = "could not be decided: every concept that must not matter is not assessable, so that nothing could be found"
        yield Case(group="finding", name="could be found", status=_undecided(fail_on), message=said)


def _undecided(fail_on: Collection[FailOn]) -> Literal["failed", "error"]:
    """An error is for whoever did not say that it is a failure."""
    return "failed" if FailOn.UNDECIDED in fail_on else "error"


def _other_model(comparison: Comparison) -> str:
    old = comparison.old
    return f"{old.model}:{old.version}" if old.model != comparison.new.model else ""


def _gate(gate: Gate, fail_on: Collection[FailOn]) -> Case:
    name = f"{gate.name} {gate.title}{f' ({gate.subject})' if gate.subject else ''}"
    if gate.status is GateStatus.FAIL:
        status: Literal["failed", "skipped", "passed"] = "failed" if FailOn.GATES in fail_on else "skipped"
        return Case(group="gate", name=name, status=status, message=gate.consequence or "failed")
    return Case(
        group="gate", name=name, status="skipped" if gate.status is GateStatus.NOT_RUN else "passed", message=gate.consequence
    )


def _compared(comparison: Comparison, fail_on: Collection[FailOn]) -> Iterator[Case]:
    if other := _other_model(comparison):
        said = f"compared with another model, {other} (run {comparison.old.run}), judged against {comparison.old.label}"
        yield Case(group="regression", name="baseline is another model", status="passed", message=said)
    judged = [one for one in comparison.differences if one.matters]
    if FailOn.REGRESSION in fail_on and not (judged and comparison.decided):
        yield Case(group="regression", name="baseline", status=_undecided(fail_on), message=f"could not be decided: {UNDECIDED}")
    yield from (_difference(one, fail_on) for one in judged)
    for finding in (one for one in comparison.findings if one.status == "unseen"):
        status: Literal["error", "skipped"] = "error" if any(one.needs_baseline for one in fail_on) else "skipped"
        message = f"found before, and not looked for in this audit: {finding.summary}"
        yield Case(
            group="regression", name=f"finding: {finding.kind} {finding.concept} {finding.metric}", status=status, message=message
        )
    for finding in comparison.new_findings:
        failed = FailOn.NEW_FINDINGS in fail_on
        name = f"new finding: {finding.kind} {finding.concept} {finding.metric}"
        yield Case(group="regression", name=name, status="failed" if failed else "passed", message=finding.summary)


def _difference(one: Difference, fail_on: Collection[FailOn]) -> Case:
    said = told(one)
    if one.verdict is Change.REGRESSED:
        return Case(group="regression", name=one.key, status="failed" if FailOn.REGRESSION in fail_on else "passed", message=said)
    if one.verdict is Change.UNDECIDED:
        return Case(group="regression", name=one.key, status="failed" if FailOn.UNDECIDED in fail_on else "skipped", message=said)
    if one.verdict is Change.NOT_ASSESSABLE:
        return Case(group="regression", name=one.key, status="skipped", message="; ".join(one.notes) or "not assessable")
    return Case(group="regression", name=one.key, status="passed", message=said)


def told(one: Difference) -> str:
    """A difference in one sentence."""
    if one.difference is None or one.old is None or one.new is None:
        return one.verdict.value.replace("_", " ")
    found = one.difference
    how = "paired" if one.paired else "not paired"
    return (
        f"{one.verdict.value}: {one.old:.4g} -> {one.new:.4g}, difference {found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}] "
        f"({how}, n = {one.n}, margin {one.margin:g})"
    )
