"""Counterfactuals as the report shows them: a gallery of flips and failures, figures with the images they are of, what changes along."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from audit_plugin.core.counterfactual_results import (
    LEAST_FLIPS,
    AttributeGap,
    Counterfactual,
    CounterfactualFigures,
    CounterfactualResult,
    DiversityFigure,
    SetFigure,
)
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import AuditResult
from audit_plugin.findings.counterfactuals import KIND, directions
from audit_plugin.report.differences import changed_mask, signed_difference
from audit_plugin.report.pictures import Album, data_uri
from audit_plugin.report.words import interval, number, p_value

EACH: Final = 4
"""Flips shown of the nearest, the middle and the farthest."""
FAILURES: Final = 3
WIDTH, HEIGHT = 260, 104
"""Of the drawing of a path, in its own units."""
SETS: Final = {
    "FID": "FID: flips against real images, lower is better",
    "sFID": "sFID: the same, each half against the other",
    "KID": "KID: the same by a kernel, for few images",
    "FVA": "FVA: faces that stay the same person's",
    "FS": "FS: mean cosine of faces",
    "S3": "S3: mean cosine of what pictures show",
}
"""Figures of sets in words."""
RUNGS: Final = {
    "twin": "of a copy of the file that the server runs",
    "endpoint": "from a gradient model beside it on the server",
    "surrogate": "of students that learned its answers",
    "gradient_free": "none, guided by its scores alone",
}
"""How the gradient was had, in words."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 26, 10, 8, 18


@dataclass(frozen=True, kw_only=True)
class PathChart:
    """Probability of the target (up) against the share of pixels moved (right)."""

    line: str
    start: tuple[float, float]
    end: tuple[float, float]
    words: str


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One counterfactual with its pictures; None where a picture is not available."""

    item: Counterfactual
    place: str
    """Why it is shown: nearest, middle, farthest or not flipped."""
    before: str | None
    after: str | None
    difference: str | None
    mask: str | None
    path: PathChart | None


@dataclass(frozen=True, kw_only=True)
class GapRow:
    """One attribute; bar positions in per cent of a scale from -1 to 1 or wider."""

    gap: AttributeGap
    found: str
    """The direction of it that is a finding; empty where none is."""
    left: float
    width: float
    dot: float


@dataclass(frozen=True, kw_only=True)
class CounterfactualView:
    """The counterfactuals of one model."""

    result: CounterfactualResult
    figures: tuple[tuple[str, str, str], ...]
    """What, its value, and the images that it is of."""
    rows: tuple[GapRow, ...]
    few: str
    """Why the rows are folded away; empty where they tell something."""
    scale: float
    flips: tuple[Shown, ...]
    failures: tuple[Shown, ...]


def counterfactuals(results: Sequence[AuditResult], album: Album) -> tuple[CounterfactualView | None, ...]:
    """Per model its counterfactuals; None where none were asked for."""
    return tuple(_view(result, album) for result in results)


def chosen(items: Sequence[Counterfactual]) -> tuple[tuple[str, Counterfactual], ...]:
    """At most 12 flips by distance, nearest first: the four nearest, four around the median, the four farthest."""
    flips = sorted((item for item in items if item.flipped), key=lambda item: (item.l1, item.image, item.target))
    n = len(flips)
    if n <= 3 * EACH:
        cut = -(-n // 3)
        places = ["nearest"] * cut + ["middle"] * max(0, n - 2 * cut) + ["farthest"] * min(cut, n - cut)
        return tuple(zip(places, flips, strict=True))
    middle = min(max(n // 2 - EACH // 2, EACH), n - 2 * EACH)
    parts = (("nearest", 0), ("middle", middle), ("farthest", n - EACH))
    return tuple((place, item) for place, start in parts for item in flips[start : start + EACH])


def failed(items: Sequence[Counterfactual]) -> tuple[Counterfactual, ...]:
    """At most three that did not flip: the one farthest from its target, the median one and the closest, by its probability."""
    missed = sorted((item for item in items if not item.flipped), key=lambda item: (item.after, item.image, item.target))
    if len(missed) <= FAILURES:
        return tuple(missed)
    return missed[0], missed[len(missed) // 2], missed[-1]


def path_chart(item: Counterfactual) -> PathChart | None:
    """The drawing of a path; None where it was not asked for."""
    if len(item.path) < 2:
        return None
    wide, high, last = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM, len(item.path) - 1
    points = [(round(_LEFT + wide * at / last, 1), round(_TOP + high * (1 - p), 1)) for at, p in enumerate(item.path)]
    half = next((at for at, p in enumerate(item.path) if p >= (item.path[0] + item.path[-1]) / 2), last)
    return PathChart(
        line=" ".join(f"{'L' if at else 'M'}{x} {y}" for at, (x, y) in enumerate(points)),
        start=points[0],
        end=points[-1],
        words=f"half of the way is gone once {half / last:.0%} of the pixels are moved, those that change most first",
    )


def _view(result: AuditResult, album: Album) -> CounterfactualView | None:
    told = result.counterfactuals
    if told is None:
        return None
    scale = max([1.0, *(abs(limit) for one in told.gaps for limit in (one.gap.low, one.gap.high))])
    found = {one.concept for one in result.findings if one.kind == KIND}
    return CounterfactualView(
        result=told,
        figures=tuple(_figures(told.figures, told)),
        rows=tuple(_row(gap, found, scale) for gap in told.gaps),
        few=_few(told),
        scale=scale,
        flips=tuple(_shown(item, place, album) for place, item in chosen(told.items)),
        failures=tuple(_shown(item, "not flipped", album) for item in failed(told.items)),
    )


def _few(told: CounterfactualResult) -> str:
    if told.turning >= LEAST_FLIPS:
        return ""
    return f"{len(told.gaps)} attributes over {told.turning} flips, too few to conclude from ({LEAST_FLIPS} are needed)"


def _figures(found: CounterfactualFigures, told: CounterfactualResult) -> Iterator[tuple[str, str, str]]:
    asked = f"all {found.images} images"
    flips = f"the {found.flips} flips"
    along = f"flips to or from {told.positive}" + (f" ({told.gaps[0].towards} to, {told.gaps[0].away} from)" if told.gaps else "")
    known: tuple[tuple[str, str | None, str], ...] = (
        ("Flip ratio (FR)", _interval(found.flip_ratio), asked),
        ("Flipped by variation that nobody guides", _interval(found.free_ratio), asked),
        ("Flips that survive a JPEG round trip", _interval(found.jpeg_ratio), flips),
        (
            f"Flips that an independent model{f' ({told.witness})' if told.witness else ''} sees: it at least doubles the target's odds",
            _interval(found.witness_ratio),
            f"{flips} that it was shown",
        ),
        (
            "Adversarial flips: neither JPEG nor that model keeps them",
            _interval(found.adversarial_ratio),
            f"{flips} that it was shown",
        ),
        ("Median distance (l1, of 1)", _number(found.median_l1, 4), flips),
        ("Median distance (l2, root of a sum over pixels and channels)", _number(found.median_l2, 2), flips),
        (f"Median perceptual distance ({found.perceptual})", _number(found.median_perceptual, 4), flips),
        ("Mean of 1 − p(target) (BKL)", _number(found.bounded_kl), asked),
        ("Concepts that change, the decision included (MNAC)", _number(found.changed_attributes, 2), flips),
        *_correlation(told, along),
        ("COUT, −1 to 1: few pixels carry the flip", _number(found.cout), "images whose path was followed"),
        ("Network rows an image", _number(found.network_rows, 0), asked),
        ("Queries an image", _number(found.queries, 0), asked),
        ("Seconds a flip", _number(found.seconds, 1), flips),
    )
    yield from ((what, value, of) for what, value, of in known if value is not None)
    yield from (_set_row(one) for one in told.sets)
    if told.diversity is not None:
        yield _diversity_row(told.diversity)


def _correlation(told: CounterfactualResult, along: str) -> tuple[tuple[str, str | None, str], ...]:
    """CD with what it is judged by; of too few flips their count alone."""
    what, found = "Correlation difference (CD)", told.figures
    if told.correlation_difference is None:
        few = f"too few flips: {told.turning}, {LEAST_FLIPS} are needed"
        return ((what, few if told.gaps else None, along),)
    return (
        (what, interval(told.correlation_difference), along),
        ("CD of edits without side changes", _number(found.no_side_change), "the reference images"),
        ("CD that chance alone makes, about", _number(found.noise_floor), along),
        ("Chance of a CD as large with unrelated side changes", None if found.chance is None else p_value(found.chance), along),
    )


def _set_row(one: SetFigure) -> tuple[str, str, str]:
    """A figure of all pictures together with the images, the subset and the network that it is of; or why there is none."""
    of = f"{one.real} real images, {one.counterfactual} counterfactuals ({one.subset}), features of {one.network}"
    if one.value is None:
        return SETS[one.name], f"– {one.refused}", of
    if one.low is not None and one.high is not None:
        return SETS[one.name], interval(Estimate(value=one.value, low=one.low, high=one.high)), of
    spread = "" if one.spread is None else f" (deviation over halvings {number(one.spread, 3)})"
    return SETS[one.name], f"{number(one.value, 3)}{spread}", of


def _diversity_row(found: DiversityFigure) -> tuple[str, str, str]:
    value = "–" if found.value is None else number(found.value, 4)
    left = f"; {found.left_out} that flip in some runs and not in others are left out" if found.left_out else ""
    return f"Diversity: distance between runs ({found.distance})", value, f"{found.images} images, {found.runs} runs each{left}"


def _interval(value: Estimate | None) -> str | None:
    return None if value is None else interval(value)


def _number(value: float | None, digits: int = 3) -> str | None:
    return None if value is None else number(value, digits)


def _row(gap: AttributeGap, found: set[str], scale: float) -> GapRow:
    left, dot, right = (50 + 50 * value / scale for value in (gap.gap.low, gap.gap.value, gap.gap.high))
    breach = next((way.attribute for way in directions(gap) if way.attribute in found), "")
    return GapRow(gap=gap, found=breach, left=round(left, 2), width=round(max(right - left, 0.6), 2), dot=round(dot, 2))


def _shown(item: Counterfactual, place: str, album: Album) -> Shown:
    before, after = album.pixels(item.before_sha256), album.pixels(item.after_sha256)
    pair = None if before is None or after is None or before.shape != after.shape else (before, after)
    return Shown(
        item=item,
        place=place,
        before=None if before is None else data_uri(before),
        after=None if after is None else data_uri(after),
        difference=None if pair is None else data_uri(signed_difference(*pair)),
        mask=None if pair is None else data_uri(changed_mask(*pair)),
        path=path_chart(item),
    )
