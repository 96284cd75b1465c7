"""What changed since the last run of the same model and label."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import AuditResult, Gate
from audit_plugin.report.ranking import find, suppressed
from audit_plugin.report.words import GATE_WORDS, STATE_WORDS, VERDICT_WORDS, interval


@dataclass(frozen=True, kw_only=True)
class Changes:
    """One model's run against the one before."""

    previous: AuditResult
    comparison: str
    """What the two runs share, and so how far they can be compared."""
    lines: tuple[str, ...]
    """Each change in words; empty when nothing changed that the report would show."""


def previous_run(result: AuditResult, history: Sequence[AuditResult]) -> AuditResult | None:
    """The latest earlier run of the same model and label, whatever its version."""
    earlier = [old for old in history if (old.model, old.label) == (result.model, result.label) and old.run < result.run]
    return max(earlier, key=lambda old: old.run, default=None)


def changes(result: AuditResult, history: Sequence[AuditResult]) -> Changes | None:
    """The changes since the last run, or None when there is no earlier run."""
    old = previous_run(result, history)
    if old is None:
        return None
    lines = [*_state(old, result), *_findings(old, result), *_concepts(old, result), *_gates(old, result)]
    return Changes(previous=old, comparison=_comparison(old, result), lines=tuple(lines))


def _comparison(old: AuditResult, new: AuditResult) -> str:
    then, now = old.provenance, new.provenance
    same_pictures = then.bank_digest == now.bank_digest
    same_rows = (then.rows_digest or then.bank_digest) == (now.rows_digest or now.bank_digest)
    same_model = old.version == new.version
    if same_rows and same_model:
        return "Same version, same rows: this is the same evidence again, not a confirmation."
    if same_pictures:
        return f"Version {old.version} then, {new.version} now, scored on the same pictures."
    model = "Same version" if same_model else f"Version {old.version} then, {new.version} now"
    return f"{model}, on {'other pictures of the same' if same_rows else 'other'} rows."


def _state(old: AuditResult, new: AuditResult) -> Iterator[str]:
    if old.state is not new.state:
        yield f"State: {STATE_WORDS[old.state][1]} → {STATE_WORDS[new.state][1]}."


def _findings(old: AuditResult, new: AuditResult) -> Iterator[str]:
    before, now = {f.id for f in old.findings}, {f.id for f in new.findings}
    yield from (f"New finding: {f.summary}" for f in new.findings if f.id not in before)
    yield from (f"No longer found: {f.summary}" for f in old.findings if f.id not in now)


def _concepts(old: AuditResult, new: AuditResult) -> Iterator[str]:
    if suppressed(old) or suppressed(new):
        return
    for concept in new.concepts:
        then = find(old, concept.concept)
        if then is None:
            yield f"{concept.concept}: tested for the first time."
        elif then.verdict is not concept.verdict:
            yield f"{concept.concept}: {VERDICT_WORDS[then.verdict]} → {VERDICT_WORDS[concept.verdict]}."
        elif _apart(then.importance, concept.importance):
            yield (
                f"{concept.concept}: importance {interval(then.importance)} → {interval(concept.importance)}; "
                "the intervals do not overlap."
            )
    yield from (f"{then.concept}: no longer tested." for then in old.concepts if find(new, then.concept) is None)


def _gates(old: AuditResult, new: AuditResult) -> Iterator[str]:
    before = {(gate.name, gate.subject): gate for gate in old.gates}
    for gate in new.gates:
        then = before.get((gate.name, gate.subject))
        if then is not None and then.status is not gate.status:
            yield f"Gate {_gate_name(gate)}: {GATE_WORDS[then.status][1]} → {GATE_WORDS[gate.status][1]}."


def _gate_name(gate: Gate) -> str:
    subject = f", {gate.subject}" if gate.subject else ""
    return f"{gate.name} ({gate.title}{subject})"


def _apart(one: Estimate, other: Estimate) -> bool:
    return one.high < other.low or other.high < one.low
