"""Charts of estimates as SVG: one line per estimate with its interval on a common axis, a hollow diamond where the truth is known."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROW, GAP, LEFT, WIDTH, PLOT = 22, 12, 330, 900, 470
COLOURS = ("#1f5fa8", "#c2571a", "#3d7f4f", "#7a4a9e", "#6b6b6b")
INK, FAINT = "#222", "#d9d9d9"


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One estimate."""

    name: str
    value: float
    low: float
    high: float
    series: int = 0
    """Which colour: of one model, say."""
    truth: float | None = None
    """Known by other means."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Estimates below one heading."""

    heading: str
    marks: tuple[Mark, ...]


def write_chart(path: Path, title: str, axis: str, groups: Sequence[Group], series: Sequence[str]) -> Path:
    """The chart; ``axis`` says what is measured, ``series`` what the colours are."""
    lines = [*_header(title, series)]
    marks = [mark for group in groups for mark in group.marks]
    ends = [0.0, *(end for mark in marks for end in (mark.low, mark.high)), *(m.truth for m in marks if m.truth is not None)]
    low, high = min(ends), max(ends)
    room = 0.05 * (high - low) or 1.0
    low, high = low - room * (low < 0), high + room

    def x(value: float) -> float:
        return LEFT + PLOT * (value - low) / (high - low)

    y, body = 70.0, list[str]()
    for group in groups:
        body.append(f'<text x="12" y="{y + 5:.0f}" font-weight="600">{escape(group.heading)}</text>')
        y += ROW
        for mark in group.marks:
            body += _drawn(mark, y, x)
            y += ROW
        y += GAP
    ticks = _ticks(low, high)
    grid = [
        f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="58" y2="{y - GAP:.0f}" stroke="{INK if at == 0 else FAINT}"/>'
        f'<text x="{x(at):.1f}" y="{y + 6:.0f}" text-anchor="middle" font-size="12">{at:g}</text>'
        for at in ticks
    ]
    foot = f'<text x="{LEFT + PLOT / 2:.0f}" y="{y + 26:.0f}" text-anchor="middle" font-size="12">{escape(axis)}</text>'
    height = y + 40
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}" '
        f'role="img" font-family="system-ui, sans-serif" font-size="13" fill="{INK}"><title>{escape(title)}</title>'
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fff"/>'
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *lines, *grid, *body, foot, "</svg>"]) + "\n", encoding="utf-8")
    return path


def _header(title: str, series: Sequence[str]) -> list[str]:
    made, at = [f'<text x="12" y="24" font-size="16" font-weight="600">{escape(title)}</text>'], 12.0
    for number, name in enumerate(series):
        made.append(f'<circle cx="{at + 5:.0f}" cy="43" r="5" fill="{COLOURS[number]}"/>')
        made.append(f'<text x="{at + 16:.0f}" y="47" font-size="12">{escape(name)}</text>')
        at += 34 + 6.6 * len(name)
    return made


def _drawn(mark: Mark, y: float, x: Callable[[float], float]) -> list[str]:
    colour = COLOURS[mark.series]
    made = [
        f'<text x="{LEFT - 10}" y="{y + 4:.0f}" text-anchor="end">{escape(mark.name)}</text>',
        f'<line x1="{x(mark.low):.1f}" x2="{x(mark.high):.1f}" y1="{y:.0f}" y2="{y:.0f}" stroke="{colour}" stroke-width="2"/>',
        f'<circle cx="{x(mark.value):.1f}" cy="{y:.0f}" r="4.5" fill="{colour}"/>',
        f'<text x="{WIDTH - 8}" y="{y + 4:.0f}" text-anchor="end" font-size="11">{mark.value:+.2f}</text>',
    ]
    if mark.truth is not None:
        at = x(mark.truth)
        made.append(
            f'<path d="M{at - 6:.1f} {y:.0f} L{at:.1f} {y - 6:.0f} L{at + 6:.1f} {y:.0f} L{at:.1f} {y + 6:.0f} Z" '
            f'fill="none" stroke="{INK}" stroke-width="1.3"/>'
        )
    return made


def _ticks(low: float, high: float) -> list[float]:
    raw = (high - low) / 6
    step = 10 ** math.floor(math.log10(raw))
    step *= min((1, 2, 5, 10), key=lambda times: abs(times * step - raw))
    return [round(step * at, 10) for at in range(math.ceil(low / step), math.floor(high / step) + 1)]
