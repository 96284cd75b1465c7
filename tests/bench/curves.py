"""Lines over a labelled plane as a small SVG file, in colours that can be read on white and on black."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 62, 178, 40, 52
INK = "#7d8590"
COLOURS = ("#2f81f7", "#d9822b", "#2da44e", "#bf5af2", "#e5534b", "#1b9e9e")
DASHES = ("", "7 4", "2 4", "10 3 2 3", "14 5", "4 2")
"""Lines differ by their dashes, too."""


@dataclass(frozen=True, kw_only=True)
class Plane:
    """What the axes say; x is laid out by its logarithm, y runs from 0 to 1 as per cent."""

    title: str
    x: str
    y: str
    most: int
    ticks: Sequence[int]
    """Of x, from 1 to ``most``."""

    def across(self, x: float) -> float:
        """Pixel of a number from 1 on."""
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(x) / math.log(self.most)

    def down(self, y: float) -> float:
        """Pixel of a share."""
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y


def drawing(plane: Plane, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """The file.  ``lines`` are steps: each point holds until the next."""
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(plane.title)}" '
            f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}">'
        ),
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="600">{escape(plane.title)}</text>',
    ]
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = plane.down(share)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{INK}" stroke-opacity="{1 if share == 0 else 0.25}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    for tick in plane.ticks:
        x = plane.across(tick)
        parts.append(
            f'<path d="M{x:.1f} {bottom}v5" stroke="{INK}"/><text x="{x:.1f}" y="{bottom + 19}" text-anchor="middle">{tick}</text>'
        )
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(plane.x)}</text>')
    middle = (TOP + bottom) / 2
    parts.append(f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">{escape(plane.y)}</text>')
    for at, (name, points) in enumerate(lines.items()):
        colour, dash = COLOURS[at % len(COLOURS)], DASHES[at % len(DASHES)]
        stroke = f'fill="none" stroke="{colour}" stroke-width="2.2"' + (f' stroke-dasharray="{dash}"' if dash else "")
        parts.append(f'<path d="{_steps(plane, points)}" {stroke}/>')
        y = TOP + 12 + 22 * at
        parts.append(f'<path d="M{right + 14} {y}h28" {stroke}/><text x="{right + 50}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _steps(plane: Plane, points: Sequence[tuple[float, float]]) -> str:
    (x, y), *rest = points
    path = [f"M{plane.across(x):.1f} {plane.down(y):.1f}"]
    path += [f"H{plane.across(x):.1f}V{plane.down(y):.1f}" for x, y in rest]
    return "".join(path)
