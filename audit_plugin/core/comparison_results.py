"""What changed between two audits, frozen: differences with intervals, findings and gates; written as one JSON document.

A difference is always the second run (``new``) minus the first (``old``).
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from audit_plugin.core.errors import StoreError
from audit_plugin.core.estimate import Estimate

COMPARISON_VERSION = 1
UNDECIDED = "all that may regress is not assessable or not in both audits, so that nothing is known about a regression"

Quantity = Literal["importance", "flip_rate", "performance", "fairness", "effect"]


class Change(StrEnum):
    """What a difference amounts to under its margin of practical relevance."""

    REGRESSED = "regressed"
    """Worse, by more than the margin."""
    IMPROVED = "improved"
    """Better, by more than the margin."""
    CHANGED = "changed"
    """Beyond the margin, in a quantity of which neither direction is worse."""
    UNCHANGED = "unchanged"
    """Within the margin: the 90 % interval lies inside it (two one-sided tests)."""
    UNDECIDED = "undecided"
    """The interval crosses the margin; more rows would decide."""
    NOT_ASSESSABLE = "not_assessable"
    """One of the two audits says nothing about it."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two audits."""

    run: str
    model: str
    version: str
    label: str
    finished_at: str
    n_rows: int
    state: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One number in both audits, and how far they are apart."""

    quantity: Quantity
    subject: str
    """Concept, path of a node, or which pictures a performance is on."""
    about: str = ""
    """Role of the concept; name, family and levels of a fairness figure; class of a node's effect."""
    old: float | None
    new: float | None
    difference: Estimate | None
    """``new - old`` with its 95 % interval; None where one of them is not known."""
    paired: bool
    """Whether both were computed from the same rows, resampled together."""
    n: int = 0
    """Rows, or images of a node, that the difference rests on."""
    margin: float
    """Margin of practical relevance, in units of the quantity."""
    p: float | None = None
    """Of "the difference is no larger than the margin", two-sided."""
    p_adjusted: float | None = None
    """Holm over all differences of this quantity (nodes paired by drift: Benjamini-Hochberg, of "no difference")."""
    verdict: Change
    matters: bool = False
    """Whether one direction of it is worse, so that it can regress."""
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Names the row within a comparison."""
        return "/".join(part for part in (self.quantity, self.subject, self.about) if part)


@dataclass(frozen=True, kw_only=True)
class FindingChange:
    """A finding of one of the two audits, or of both."""

    status: Literal["new", "persisting", "unseen", "resolved"]
    """``unseen``: found before, and the new audit did not look for it, so that nothing is known about it now."""
    kind: str
    concept: str
    metric: str
    severity: str
    summary: str
    confirmed: bool


@dataclass(frozen=True, kw_only=True)
class GateChange:
    """A validity check that came out otherwise."""

    name: str
    title: str
    subject: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two audits held against each other."""

    old: Side
    new: Side
    metric: str
    paired: bool
    """Whether concepts were compared on the same pictures and rows."""
    why_not: str
    """Why they were not; empty when they were."""
    differences: tuple[Difference, ...]
    findings: tuple[FindingChange, ...]
    gates: tuple[GateChange, ...]
    resamples: int
    """Joint resamples of units behind a paired interval."""
    notes: tuple[str, ...] = ()
    plugin_version: str = ""
    schema_version: int = COMPARISON_VERSION

    def of(self, *verdicts: Change) -> tuple[Difference, ...]:
        """The differences of these verdicts."""
        return tuple(one for one in self.differences if one.verdict in verdicts)

    @property
    def new_findings(self) -> tuple[FindingChange, ...]:
        """Findings that the first audit did not have."""
        return tuple(one for one in self.findings if one.status == "new")

    @property
    def decided(self) -> bool:
        """Whether anything can be said: of what must not matter where that was asked about, else of what may regress, else at all."""
        judged = [one for one in self.differences if one.matters]
        bias = [one for one in judged if one.quantity != "performance"]
        return any(one.verdict is not Change.NOT_ASSESSABLE for one in bias or judged or self.differences)

    @property
    def headline(self) -> str:
        """The verdict first."""
        worse, better = self.of(Change.REGRESSED), self.of(Change.IMPROVED)
        named = ", ".join(dict.fromkeys(f"{one.subject} ({one.quantity})" for one in worse[:4]))
        rest = f"{len(better)} improved, {len(self.of(Change.UNCHANGED))} unchanged, {len(self.of(Change.UNDECIDED))} undecided"
        found = f"; {len(self.new_findings)} new findings" if self.new_findings else ""
        if not worse and not self.decided:
            return f"Could not be decided: {UNDECIDED}{found}."
        return f"Regressed: {named}; {rest}{found}." if worse else f"Nothing regressed; {rest}{found}."


@cache
def _adapter() -> TypeAdapter[Comparison]:
    return TypeAdapter(Comparison)


def comparison_to_json(comparison: Comparison) -> str:
    """The comparison as a JSON document, keys in the order of the fields."""
    return _adapter().dump_json(comparison, indent=2).decode()


def comparison_from_json(text: str) -> Comparison:
    """Read back what :func:`comparison_to_json` wrote.  Raises StoreError on anything else."""
    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        raise StoreError(f"not a comparison of schema {COMPARISON_VERSION}: {error.errors()[0]['msg']}") from error
