"""Importance over time as drawings: one small chart per concept, all on one scale; versions marked, intervals always drawn."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from audit_plugin.report.words import interval, number
from audit_plugin.service.rendering import VERDICTS, when
from audit_plugin.store.pages import Point, Summary

WIDTH: Final = 300
HEIGHT: Final = 116
SPARK_WIDTH: Final = 120
SPARK_HEIGHT: Final = 28
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 8, 14, 8
_INSET = 3


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One run in a chart."""

    x: float
    y: float
    low: float
    high: float
    """Of the interval, in the chart's units (down is larger)."""
    verdict: str
    run: str
    words: str
    change: str = ""
    """The version, where it is another than that of the run before."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One concept or node over runs, oldest on the left."""

    name: str
    class_name: str
    role: str
    must_not: bool
    metric: str
    dots: tuple[Dot, ...]
    ticks: tuple[tuple[float, str], ...]
    zero: float
    band: tuple[float, float] | None
    """Top and height of the margin, within which an effect is negligible."""
    last: Point
    before: Point | None
    """Of the run before."""

    @property
    def words(self) -> str:
        """What is to be seen, for whoever does not see it."""
        mark = VERDICTS.get(self.last.verdict, ("", self.last.verdict))[1]
        return f"{self.name}: {interval(self.last.estimate)}, {mark}, in the last of {len(self.dots)} runs"


@dataclass(frozen=True, kw_only=True)
class Spark:
    """The last runs of one concept, without an axis."""

    name: str
    line: str
    """Path of the values."""
    band: str
    """Path around the intervals."""
    end: tuple[float, float]
    zero: float
    words: str


def key(point: Point) -> tuple[str, str]:
    """What a chart is of."""
    return point.class_name, point.name


def charts(runs: Sequence[Summary], *, nodes: bool) -> tuple[Chart, ...]:
    """Those of the concepts, or of the nodes, of the newest run that has any; ``runs`` are newest first."""
    newest = next((found for run in runs if (found := _points(run, nodes=nodes))), ())
    series: dict[tuple[str, str], list[tuple[Summary, Point]]] = {key(point): [] for point in newest}
    for run in reversed(runs):
        for point in _points(run, nodes=nodes):
            if key(point) in series:
                series[key(point)].append((run, point))
    values = [value for found in series.values() for _, point in found for value in _extent(point)]
    scale = _scale(values)
    return tuple(_chart(series[key(point)], runs, scale) for point in newest)


def spark(runs: Sequence[Summary]) -> Spark | None:
    """Of the concept that must not matter and matters most in the newest run; of a node of the tree where no concept is there."""
    newest = next((run.points for run in runs if run.points), ())
    accused = [point for point in newest if point.must_not]
    concepts = [point for point in accused if not point.class_name]
    best = max(
        concepts or accused, key=lambda point: abs(point.estimate.value) if point.class_name else point.estimate.value, default=None
    )
    if best is None:
        return None
    found = [point for run in reversed(runs) for point in run.points if key(point) == key(best)]
    low, high = _range([0.0, *(value for point in found for value in _extent(point))])

    def y(value: float) -> float:
        return round(_INSET + (SPARK_HEIGHT - 2 * _INSET) * (high - value) / (high - low), 1)

    step = (SPARK_WIDTH - 2 * _INSET) / max(1, len(found) - 1)
    xs = [round(_INSET + step * at, 1) if len(found) > 1 else SPARK_WIDTH / 2 for at in range(len(found))]
    upper = [(x, y(point.estimate.high)) for x, point in zip(xs, found, strict=True)]
    lower = [(x, y(point.estimate.low)) for x, point in zip(xs, found, strict=True)]
    values = [(x, y(point.estimate.value)) for x, point in zip(xs, found, strict=True)]
    return Spark(
        name=best.name,
        line=_path(values),
        band=_path([*upper, *reversed(lower)]) + "Z" if len(found) > 1 else _path([upper[0], lower[0]]),
        end=values[-1],
        zero=y(0.0),
        words=f"{best.name} over the last {len(found)} runs, now {interval(best.estimate)}",
    )


def _points(run: Summary, *, nodes: bool) -> list[Point]:
    return [point for point in run.points if bool(point.class_name) == nodes and math.isfinite(point.estimate.value)]


def _chart(found: Sequence[tuple[Summary, Point]], runs: Sequence[Summary], scale: tuple[float, float]) -> Chart:
    low, high = scale
    places = {run.run: at for at, run in enumerate(reversed(runs))}
    step = (WIDTH - _LEFT - _RIGHT - 12) / max(1, len(runs) - 1)

    def y(value: float) -> float:
        return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (high - min(max(value, low), high)) / (high - low), 1)

    def x(run: Summary) -> float:
        return round(_LEFT + 6 + (step * places[run.run] if len(runs) > 1 else (WIDTH - _LEFT - _RIGHT) / 2), 1)

    versions = ["", *(run.version for run, _ in found)]
    dots = tuple(
        Dot(
            x=x(run),
            y=y(point.estimate.value),
            low=y(point.estimate.low),
            high=y(point.estimate.high),
            verdict=point.verdict,
            run=run.run,
            words=f"{when(run.finished)}, version {run.version}: {interval(point.estimate)}, "
            f"{VERDICTS.get(point.verdict, ('', point.verdict))[1]}",
            change=run.version if run.version != before else "",
        )
        for (run, point), before in zip(found, versions, strict=False)
    )
    last = found[-1][1]
    return Chart(
        name=last.name,
        class_name=last.class_name,
        role=last.role,
        must_not=last.must_not,
        metric=last.metric,
        dots=dots,
        ticks=tuple((y(value), number(value, 2)) for value in dict.fromkeys((low, 0.0, high))),
        zero=y(0.0),
        band=None if last.margin is None else (y(last.margin), round(y(-last.margin) - y(last.margin), 1)),
        last=last,
        before=found[-2][1] if len(found) > 1 else None,
    )


def _extent(point: Point) -> tuple[float, ...]:
    values = (point.estimate.low, point.estimate.value, point.estimate.high)
    return tuple(value for value in values if math.isfinite(value))


def _range(values: Iterable[float]) -> tuple[float, float]:
    known = list(values)
    low, high = min(known), max(known)
    return (low, high) if high > low else (low - 0.05, high + 0.05)


def _scale(values: Sequence[float]) -> tuple[float, float]:
    """Round limits around all values and zero."""
    low, high = _range([0.0, *values])
    unit = 10.0 ** math.floor(math.log10(high - low)) / 2
    return round(math.floor(low / unit) * unit, 10), round(math.ceil(high / unit) * unit, 10)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{'L' if at else 'M'}{x} {y}" for at, (x, y) in enumerate(points))
