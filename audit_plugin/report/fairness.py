"""Fairness as the report shows it: two families that are never mixed, and one 2×2 reading of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from audit_plugin.core.results import AuditResult, FairnessFigure
from audit_plugin.report.ranking import suppressed
from audit_plugin.report.words import short_name

READINGS: Final = {
    (True, True): "It reacts to the attribute itself, and its decisions differ between groups.",
    (True, False): "It reacts to the attribute itself, yet groups fare alike: a shortcut that other differences hide.",
    (False, True): "Groups fare differently for other reasons: the data, or features that go with the attribute.",
    (False, False): "Nothing of concern at these thresholds.",
}
"""(Interventional, observational) of concern -> what that says of the model."""

FAMILIES: Final = (
    ("interventional", "Interventional: the same generated row, drawn at every level of the attribute"),
    ("observational", "Observational: real labelled images, compared by group"),
)


@dataclass(frozen=True, kw_only=True)
class Square:
    """One protected concept: which model falls into which cell."""

    concept: str
    cells: dict[tuple[bool, bool], tuple[str, ...]]
    """(Interventional, observational) of concern -> models."""


def squares(results: Sequence[AuditResult]) -> tuple[Square, ...]:
    """One square per protected concept for which a model has figures of both families."""
    made = []
    for concept in dict.fromkeys(figure.concept for result in results for figure in result.fairness):
        cells: dict[tuple[bool, bool], list[str]] = {key: [] for key in READINGS}
        for result in results:
            place = _place(result, concept)
            if place is not None:
                cells[place].append(short_name(result, results))
        if any(cells.values()):
            made.append(Square(concept=concept, cells={key: tuple(models) for key, models in cells.items()}))
    return tuple(made)


def figures(results: Sequence[AuditResult], family: str) -> tuple[tuple[str, FairnessFigure], ...]:
    """(Model, figure) of one family; interventional figures need a valid generator."""
    hidden = family == "interventional"
    return tuple(
        (short_name(result, results), figure)
        for result in results
        if not (hidden and suppressed(result))
        for figure in result.fairness
        if figure.family == family
    )


def _place(result: AuditResult, concept: str) -> tuple[bool, bool] | None:
    if suppressed(result):
        return None
    by_family = {
        family: [figure.of_concern for figure in result.fairness if (figure.concept, figure.family) == (concept, family)]
        for family, _ in FAMILIES
    }
    if not all(by_family.values()):
        return None
    return any(by_family["interventional"]), any(by_family["observational"])
