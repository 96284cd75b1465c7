"""Findings and gates of two audits, matched by what they are about: the ids of findings hold the model's name, which may differ."""

from collections.abc import Callable, Mapping
from typing import Literal

from audit_plugin.core.comparison_results import FindingChange, GateChange
from audit_plugin.core.results import AuditResult, Finding, Verdict
from audit_plugin.findings.counterfactuals import KIND as COUNTERFACTUAL
from audit_plugin.findings.discovery import CUE, OBJECT_ABSENT
from audit_plugin.findings.history import assessed
from audit_plugin.findings.semantic import KIND as SEMANTIC
from audit_plugin.findings.semantic import untrustworthy


def finding_changes(old: AuditResult, new: AuditResult) -> tuple[FindingChange, ...]:
    """New ones first, then those that persist, then those that were not looked for any more, then those that are gone."""
    before, after = ({_key(one): one for one in result.findings} for result in (old, new))
    missing = [one for key, one in before.items() if key not in after]
    return (
        *(_told(one, "new") for key, one in after.items() if key not in before),
        *(_told(one, "persisting") for key, one in after.items() if key in before),
        *(_told(one, "unseen") for one in missing if not looked_for(one, new)),
        *(_told(one, "resolved") for one in missing if looked_for(one, new)),
    )


def looked_for(finding: Finding, result: AuditResult) -> bool:
    """Whether an audit would have made such a finding if it were still there; one without a tree says nothing about nodes."""
    looks = _LOOKS.get(finding.kind)
    return assessed(result.state) and (looks is None or looks(finding, result))


def _tree(finding: Finding, result: AuditResult) -> bool:
    told = result.diffex
    return (
        told is not None
        and not untrustworthy(told)
        and any(finding.concept == node.node for one in told.classes for node in one.nodes)
    )


def _reliance(finding: Finding, result: AuditResult) -> bool:
    about = [concept for concept in result.concepts if concept.concept == finding.concept]
    return any(concept.verdict is not Verdict.NOT_ASSESSABLE for concept in about)


_LOOKS: Mapping[str, Callable[[Finding, AuditResult], bool]] = {
    SEMANTIC: _tree,
    COUNTERFACTUAL: lambda _, result: result.counterfactuals is not None,
    CUE: lambda _, result: result.discovery is not None,
    OBJECT_ABSENT: lambda _, result: result.discovery is not None,
    "fairness": lambda finding, result: any(figure.concept == finding.concept for figure in result.fairness),
    "reliance": _reliance,
}
"""Kind of finding -> whether an audit looked for one about the same."""


def gate_changes(old: AuditResult, new: AuditResult) -> tuple[GateChange, ...]:
    """Checks that came out otherwise, and those that only one of the two has."""
    before, after = ({(gate.name, gate.subject): gate for gate in result.gates} for result in (old, new))
    found = []
    for key in {**before, **after}:
        then, now = before.get(key), after.get(key)
        words = [("absent" if gate is None else gate.status.value) for gate in (then, now)]
        title = next(gate.title for gate in (now, then) if gate is not None)
        if words[0] != words[1]:
            found.append(GateChange(name=key[0], title=title, subject=key[1], old=words[0], new=words[1]))
    return tuple(found)


def _key(finding: Finding) -> tuple[str, str, str]:
    return finding.kind, finding.concept, finding.metric


def _told(finding: Finding, status: Literal["new", "persisting", "unseen", "resolved"]) -> FindingChange:
    return FindingChange(
        status=status,
        kind=finding.kind,
        concept=finding.concept,
        metric=finding.metric,
        severity=finding.severity,
        summary=finding.summary,
        confirmed=finding.confirmed,
    )
