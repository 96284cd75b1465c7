"""A comparison of two audits as one HTML page: a forest plot of the differences, what is new, what is gone; no script, nothing fetched."""

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from audit_plugin.core.comparison_results import Change, Comparison, Difference
from audit_plugin.report.chart import Axis
from audit_plugin.report.words import GATE_WORDS, number, signed

TITLES: Final = {
    "importance": ("Importance of concepts", "Drop of the metric when a concept is permuted. Larger is worse where the concept must not matter."),
    "performance": ("Performance", "The metric on the same images. Smaller is worse."),
    "fairness": ("Fairness gaps", "Further from zero is worse."),
    "effect": ("Effects of tree nodes", "Change of the class's log-odds. Further from zero is worse where the node must not matter."),
    "flip_rate": ("Decisions flipped by edits", "Shown for reading the importance; not judged better or worse."),
}  # fmt: skip
WORDS: Final = {
    Change.REGRESSED: ("▲", "regressed"),
    Change.IMPROVED: ("▼", "improved"),
    Change.CHANGED: ("◆", "changed"),
    Change.UNCHANGED: ("=", "unchanged"),
    Change.UNDECIDED: ("?", "undecided"),
    Change.NOT_ASSESSABLE: ("–", "not assessable"),
}
"""Sign and word of a verdict: never told by colour alone."""
_CLASSES: Final = {Change.REGRESSED: "alert", Change.IMPROVED: "good", Change.CHANGED: "hurts", Change.UNDECIDED: "inconclusive"}


@dataclass(frozen=True, kw_only=True)
class Whisker:
    """One difference with its places in per cent of the plot's width."""

    one: Difference
    mark: str
    sign: str
    word: str
    drawn: bool
    dot: float = 0.0
    low: float = 0.0
    high: float = 0.0
    band_low: float = 0.0
    band_high: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Forest:
    """The differences of one quantity on one axis."""

    quantity: str
    title: str
    lead: str
    rows: tuple[Whisker, ...]
    zero: float
    ticks: tuple[tuple[float, float], ...]


def render_comparison(comparison: Comparison) -> str:
    """The comparison as one HTML page."""
    style = files(__package__).joinpath("templates", "style.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=PackageLoader("audit_plugin.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "signed": signed}
    return environment.get_template("comparison.html.j2").render(
        style=Markup(style),  # noqa: S704  our own file, without any input
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        it=comparison,
        forests=forests(comparison),
        gate_words={status.value: word for status, (_, word) in GATE_WORDS.items()},
        counts=[(WORDS[change], len(comparison.of(change))) for change in Change],
    )


def forests(comparison: Comparison) -> tuple[Forest, ...]:
    """One plot a quantity, worst first."""
    found = []
    for quantity, (title, lead) in TITLES.items():
        rows = [one for one in comparison.differences if one.quantity == quantity]
        if rows:
            axis = _axis(rows)
            order = list(WORDS)
            whiskers = sorted((_whisker(one, axis) for one in rows), key=lambda row: order.index(row.one.verdict))
            found.append(
                Forest(
                    quantity=quantity,
                    title=title,
                    lead=lead,
                    rows=tuple(whiskers),
                    zero=axis.at(0.0),
                    ticks=tuple((axis.at(value), value) for value in (axis.low, 0.0, axis.high)),
                )
            )
    return tuple(found)


def _whisker(one: Difference, axis: Axis) -> Whisker:
    sign, word = WORDS[one.verdict]
    mark = _CLASSES.get(one.verdict, "negligible")
    if one.difference is None:
        return Whisker(one=one, mark=mark, sign=sign, word=word, drawn=False)
    return Whisker(
        one=one,
        mark=mark,
        sign=sign,
        word=word,
        drawn=True,
        dot=axis.at(one.difference.value),
        low=axis.at(one.difference.low),
        high=axis.at(one.difference.high),
        band_low=axis.at(-one.margin),
        band_high=axis.at(one.margin),
    )


def _axis(rows: Sequence[Difference]) -> Axis:
    """Symmetric around zero, so that better and worse look alike; wide enough for every interval and margin."""
    limits = [abs(value) for one in rows if one.difference for value in (one.difference.low, one.difference.high)]
    reach = max([*(value for value in limits if math.isfinite(value)), *(1.5 * one.margin for one in rows), 1e-9])
    step = 10.0 ** math.floor(math.log10(reach))
    wide = math.ceil(reach / step * 2) / 2 * step
    return Axis(low=-wide, high=wide)
