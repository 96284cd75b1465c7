"""Geometry of the small chart of an effect by the strength of its edit: a line through the means, a whisker for each interval."""

from dataclasses import dataclass

from audit_plugin.core.diffex_results import DoseResponse
from audit_plugin.report.words import number, signed

WIDTH, HEIGHT = 220, 96
"""Of the drawing, in its own units."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 12, 10, 20
"""Room for the labels."""


@dataclass(frozen=True, kw_only=True)
class DoseMark:
    """One dose; positions in the drawing's units."""

    x: float
    y: float
    low: float
    high: float
    label: str


@dataclass(frozen=True, kw_only=True)
class DoseChart:
    """The drawing, and what it says."""

    marks: tuple[DoseMark, ...]
    path: str
    """Of the line through the means."""
    zero: float
    """Height of no effect."""
    scale: tuple[tuple[float, str], ...]
    """Height and label of the highest and the lowest value."""
    words: str


def dose_chart(dose: DoseResponse) -> DoseChart | None:
    """The chart; None where fewer than two doses have an effect."""
    known = [(point, point.effect) for point in dose.points if point.effect is not None]
    if len(known) < 2:
        return None
    limits = [0.0, *(limit for _, effect in known for limit in (effect.low, effect.high))]
    low, high = min(limits), max(limits)
    span = (high - low) or 1.0
    first, last = known[0][0].dose, known[-1][0].dose
    wide = (last - first) or 1.0

    def height(value: float) -> float:
        return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (high - value) / span, 1)

    def place(value: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (value - first) / wide, 1)

    marks = tuple(
        DoseMark(
            x=place(point.dose),
            y=height(effect.value),
            low=height(effect.low),
            high=height(effect.high),
            label=number(point.dose, 1),
        )
        for point, effect in known
    )
    return DoseChart(
        marks=marks,
        path=" ".join(f"{'L' if at else 'M'}{mark.x} {mark.y}" for at, mark in enumerate(marks)),
        zero=height(0.0),
        scale=((height(high), signed(high, 1)), (height(low), signed(low, 1))) if high > low else (),
        words=f"{'grows with the strength of the edit; ' if _grows(dose, known[-1][1].value) else ''}measured on {dose.images} images",
    )


def _grows(dose: DoseResponse, strongest: float) -> bool:
    """Whether the effect grows in size; a trend that is not seen on so few images is no verdict of its own."""
    return dose.monotone and dose.trend.value * strongest > 0
