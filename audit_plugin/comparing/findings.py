"""Findings and gates of two audits, matched by what they are about: the ids of findings hold the model's name, which may differ."""

from typing import Literal

from audit_plugin.core.comparison_results import FindingChange, GateChange
from audit_plugin.core.results import AuditResult, Finding


def finding_changes(old: AuditResult, new: AuditResult) -> tuple[FindingChange, ...]:
    """New ones first, then those that persist, then those that are gone."""
    before, after = ({_key(one): one for one in result.findings} for result in (old, new))
    return (
        *(_told(one, "new") for key, one in after.items() if key not in before),
        *(_told(one, "persisting") for key, one in after.items() if key in before),
        *(_told(one, "resolved") for key, one in before.items() if key not in after),
    )


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


def _told(finding: Finding, status: Literal["new", "resolved", "persisting"]) -> FindingChange:
    return FindingChange(
        status=status,
        kind=finding.kind,
        concept=finding.concept,
        metric=finding.metric,
        severity=finding.severity,
        summary=finding.summary,
        confirmed=finding.confirmed,
    )
