"""The validity gates as the report shows them: a summary per model, what did not pass, and the detectors' table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.pictured import LOOKED_UP
from audit_plugin.core.results import AuditResult, Gate, GateStatus
from audit_plugin.report.words import SEVERITY_OF_GATE, limits, number, thousands

OF_DETECTORS: Final = ("G2", "G3a", "G3b", "G5")
"""Gates that tell, concept by concept, whether generator and detector can be trusted."""

COUNTS: Final = ("G0",)
"""Gates whose value is a number of rows."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How one gate came out for one model."""

    worst: GateStatus
    counts: tuple[tuple[GateStatus, int], ...]
    """Worst first; only statuses that occur."""


@dataclass(frozen=True, kw_only=True)
class GateRow:
    """One gate over all models."""

    name: str
    title: str
    bound: str
    tallies: tuple[Tally | None, ...]
    """In the order of the results; None where the gate was not evaluated."""


def summary(results: Sequence[AuditResult]) -> tuple[GateRow, ...]:
    """One row per gate, in the order G0, G1, ..."""
    first = {gate.name: gate for result in reversed(results) for gate in reversed(result.gates)}
    rows = (
        GateRow(
            name=name,
            title=first[name].title,
            bound=first[name].bound,
            tallies=tuple(_tally([gate for gate in result.gates if gate.name == name]) for result in results),
        )
        for name in sorted(first)
    )
    return tuple(rows)


def of_table(results: Sequence[AuditResult]) -> bool:
    """Whether gates hold a table against itself, because its own pictures were looked up (and it may have said what they show)."""
    return any(result.gates and result.provenance.backend == LOOKED_UP for result in results)


def not_passed(results: Sequence[AuditResult]) -> tuple[tuple[Gate, tuple[int, ...]], ...]:
    """Every gate that did not pass with the positions of the models it holds for, worst first."""
    found: dict[Gate, list[int]] = {}
    for index, result in enumerate(results):
        for gate in result.gates:
            if gate.status is not GateStatus.PASS:
                found.setdefault(gate, []).append(index)
    ordered = sorted(found, key=lambda gate: (-SEVERITY_OF_GATE[gate.status], gate.name, gate.subject))
    return tuple((gate, tuple(found[gate])) for gate in ordered)


def figure(gate: Gate) -> str:
    """A gate's value with its interval where it has one; a count as a whole number."""
    if gate.name in COUNTS and gate.value is not None:
        return thousands(gate.value)
    if gate.value is None or gate.low is None or gate.high is None:
        return number(gate.value)
    return f"{number(gate.value)} {limits(Estimate(value=gate.value, low=gate.low, high=gate.high))}"


def detectors(result: AuditResult) -> tuple[tuple[str, ...], dict[str, dict[str, Gate]]]:
    """Names of the detectors' gates that were evaluated, and concept -> gate name -> gate."""
    table: dict[str, dict[str, Gate]] = {}
    for gate in result.gates:
        if gate.name in OF_DETECTORS and gate.subject:
            table.setdefault(gate.subject, {})[gate.name] = gate
    return tuple(name for name in OF_DETECTORS if any(name in row for row in table.values())), table


def leakage_status(result: AuditResult) -> dict[tuple[str, str], GateStatus]:
    """(Flipped concept, detected concept) -> status of the independence gate."""
    subjects = ((gate.subject.partition("->"), gate.status) for gate in result.gates if gate.name == "G4")
    return {(flipped.strip(), seen.strip()): status for (flipped, arrow, seen), status in subjects if arrow}


def _tally(gates: Sequence[Gate]) -> Tally | None:
    if not gates:
        return None
    by_severity = sorted(GateStatus, key=lambda status: -SEVERITY_OF_GATE[status])
    counts = [(status, sum(gate.status is status for gate in gates)) for status in by_severity]
    present = tuple((status, count) for status, count in counts if count)
    return Tally(worst=present[0][0], counts=present)
