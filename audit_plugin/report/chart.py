"""Geometry of the importance chart: one row per concept, one dot and whisker per model, all on one axis.

Horizontal positions are percentages of the plot's width, so that the drawing fits any screen without scaling its text.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from audit_plugin.core.results import AuditResult, ConceptResult, Verdict
from audit_plugin.core.values import Role
from audit_plugin.report.ranking import find, order, suppressed
from audit_plugin.report.selftest import found_words
from audit_plugin.report.words import is_weak, mark, short_name


@dataclass(frozen=True, kw_only=True)
class Line:
    """One model's estimate of one concept; positions in per cent of the plot's width."""

    model: str
    result: ConceptResult
    mark: str
    drawn: bool
    """False when there is no value to draw."""
    dot: float = 0.0
    low: float = 0.0
    high: float = 0.0
    band_low: float = 0.0
    band_high: float = 0.0
    truth: float | None = None
    """Position of the known importance."""
    truth_value: float | None = None
    at_least: bool = False
    tested: str = ""
    """What a self-test would have found, beside a concept of which nothing was found."""


@dataclass(frozen=True, kw_only=True)
class ChartRow:
    """One concept and what every model does with it."""

    concept: str
    role: Role
    ranked: bool
    lines: tuple[Line, ...]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """All rows, most important first, and the axis under them."""

    rows: tuple[ChartRow, ...]
    zero: float
    ticks: tuple[tuple[float, float], ...]
    """Position and value."""


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high`` laid out over 0-100 %."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Position of a value in per cent, kept inside the plot."""
        return round(100 * min(max((value - self.low) / (self.high - self.low), 0.0), 1.0), 2)


def chart(results: Sequence[AuditResult]) -> Chart:
    """The chart of all results whose ranking may be shown; rows are aligned by concept name."""
    shown = [result for result in results if not suppressed(result)]
    axis = _axis(_values(shown))
    names = order(shown)
    rows = (_row(name, name in names.ranked, shown, axis) for name in names.all)
    return Chart(rows=tuple(rows), zero=axis.at(0.0), ticks=tuple((axis.at(value), value) for value in _ticks(axis)))


def _row(name: str, ranked: bool, results: Sequence[AuditResult], axis: Axis) -> ChartRow:
    found = [(result, concept) for result in results if (concept := find(result, name)) is not None]
    lines = (
        replace(_line(short_name(result, results), concept, result.truth.get(name), axis), tested=found_words(result, concept))
        for result, concept in found
    )
    return ChartRow(concept=name, role=found[0][1].role, ranked=ranked, lines=tuple(lines))


def _line(model: str, concept: ConceptResult, truth: float | None, axis: Axis) -> Line:
    estimate = concept.importance
    drawn = concept.verdict is not Verdict.NOT_ASSESSABLE and math.isfinite(estimate.value)
    if not drawn:
        return Line(model=model, result=concept, mark=mark(concept), drawn=False, truth_value=truth)
    return Line(
        model=model,
        result=concept,
        mark=mark(concept),
        drawn=True,
        dot=axis.at(estimate.value),
        low=axis.at(estimate.low),
        high=axis.at(estimate.high),
        band_low=axis.at(-concept.margin),
        band_high=axis.at(concept.margin),
        truth=None if truth is None else axis.at(truth),
        truth_value=truth,
        at_least=is_weak(concept),
    )


def _values(results: Sequence[AuditResult]) -> Iterator[float]:
    for result in results:
        for concept in result.concepts:
            if concept.verdict is not Verdict.NOT_ASSESSABLE:
                yield from (concept.importance.low, concept.importance.high, -concept.margin, concept.margin)
                yield result.truth.get(concept.concept, 0.0)


def _axis(values: Iterable[float]) -> Axis:
    finite = [0.0, *(value for value in values if math.isfinite(value))]
    low, high = min(finite), max(finite)
    room = 0.04 * (high - low) or 0.05
    return Axis(low - room, high + room)


def _ticks(axis: Axis, most: int = 6) -> tuple[float, ...]:
    """Round values inside the axis, at most ``most`` of them, zero included."""
    span = axis.high - axis.low
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= most)
    first, last = math.ceil(axis.low / step), math.floor(axis.high / step)
    return tuple(round(step * index, 10) for index in range(first, last + 1))
