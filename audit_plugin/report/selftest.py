"""Self-tests in words, and the geometry of a concept's small detection curve: share of runs with a finding by size of the effect."""

from collections.abc import Sequence
from dataclasses import dataclass

from audit_plugin.core.results import AuditResult, ConceptResult, Verdict
from audit_plugin.core.selftest_results import ConceptSelfTest, Detection, DetectionCurve, Part, SelfTest
from audit_plugin.report.dose import HEIGHT, WIDTH, DoseMark
from audit_plugin.report.words import NOTHING, number

_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 10, 20
"""Room for the labels."""
_LIKELY = 0.95
PARTS = {
    Part.IMPORTANCE: "loss of performance when it is permuted",
    Part.FLIPS: "decisions that its flips change",
    Part.NODE: "its node of the concept tree",
    Part.ANY: "any of them",
    Part.SEEN: "not bounded by the policy: decisions that its flips change, interval above 0",
}
"""In words, as columns of a table say it."""
LIMIT = (
    "False findings are of noise alone: flips under test were severed from the model, so those that come of edits that leak into other concepts, on "
    "which the model relies, are not among them; gate G4 judges that"
)
"""What the count of false findings leaves out."""
NEVER = "no threshold of the policy could ever accuse it, so no effect of it would have been found"


@dataclass(frozen=True, kw_only=True)
class CurveChart:
    """The drawing, and what it says."""

    marks: tuple[DoseMark, ...]
    path: str
    levels: tuple[tuple[float, str], ...]
    """Height and label of none, and of all runs."""
    words: str


def found_words(result: AuditResult, concept: ConceptResult) -> str:
    """What would have been found, beside a concept of which nothing was; empty where something was, or nobody measured it."""
    told = None if result.selftest is None else result.selftest.concept(concept.concept)
    if told is None or concept.verdict not in {Verdict.NEGLIGIBLE, Verdict.INCONCLUSIVE}:
        return ""
    return tested_words(told)


def tested_words(told: ConceptSelfTest) -> str:
    """Of one concept, whatever the audit said of it."""
    if not told.accusable:
        return NEVER
    curve = told.curve()
    if curve is None:
        return ""
    return f"{detection_words(curve)}{f'; false findings {told.false_findings} of {told.runs}' if told.runs else ''}"


def detection_words(curve: DetectionCurve) -> str:
    """Runs that did not work; the smallest effect that is surely found, else the largest that was tried, and the next smaller one.

    >>> from audit_plugin.core.estimate import Estimate
    >>> points = [Detection(size=size, found=found, runs=50, rate=Estimate(value=found / 50, low=found / 50 - 0.1, high=1.0)) for size, found in ((0.3, 10), (1.0, 48))]
    >>> detection_words(DetectionCurve(part=Part.ANY, points=tuple(points)))
    'an effect of 1.0 log-odds would have been found in 96 % [86, 100] of 50 self-tests, of 0.3 in 20 %'
    """
    broken, runs = sum(point.broken for point in curve.points), sum(point.runs for point in curve.points)
    failed = f"{broken} of {runs} runs failed their own gates" if broken else ""
    points = [point for point in curve.points if point.size]
    if not points:
        return "; ".join([*([failed] if failed else []), "no effect was put in"])
    points = [point for point in points if point.known]
    if not points:
        return f"{failed}, none with an effect worked, so what would have been found is not known"
    at = next((at for at, point in enumerate(points) if point.rate.value >= _LIKELY), len(points) - 1)
    main = points[at]
    smaller = f", of {_size(points[at - 1])} in {points[at - 1].rate.value:.0%}".replace("%", " %") if at else ""
    interval = f"[{100 * main.rate.low:.0f}, {100 * main.rate.high:.0f}]"
    first = f"{failed} and count as not found; " if failed else ""
    return f"{first}an effect of {_size(main)} log-odds would have been found in {100 * main.rate.value:.0f} % {interval} of {main.runs} self-tests{smaller}"


def selftest_words(told: SelfTest) -> str:
    """The whole test in a sentence."""
    failed = f"{told.broken} of {told.runs} runs failed their own gates" if told.broken else ""
    if told.broken and told.broken == told.runs:
        return f"{failed}: none worked, so what this audit would find, or accuse falsely, is not known."
    images = f", and {told.images} real images of the concept tree" if told.images else ""
    false = (
        f" With no effect, concepts that must not matter were accused in {told.false_findings} of {told.false_runs} runs that worked. {LIMIT}."
        if told.false_runs
        else ""
    )
    return (
        f"{f'{failed} and count as not found. ' if failed else ''}"
        f"Known effects, in log-odds of {told.class_name}, were put into this model's own answers and judged by the real audit under the policy, "
        f"each time on {told.rows} rows drawn anew{images}.{false}"
    )


def curve_rows(told: ConceptSelfTest) -> list[tuple[str, list[str]]]:
    """(part, cells): detection at every size, and the sizes that are found 80 % and 95 % of the time."""
    return [
        (
            PARTS[curve.part],
            [
                *(
                    f"{100 * point.rate.value:.0f} % [{100 * point.rate.low:.0f}, {100 * point.rate.high:.0f}]"
                    if point.known
                    else NOTHING
                    for point in curve.points
                ),
                NOTHING if curve.size80 is None else number(curve.size80, 2),
                NOTHING if curve.size95 is None else number(curve.size95, 2),
            ],
        )
        for curve in told.curves
    ]


def curve_sizes(told: ConceptSelfTest) -> list[str]:
    """Heads of the columns of :func:`curve_rows`."""
    points = told.curves[0].points if told.curves else ()
    return ["none" if not point.size else _size(point) for point in points]


def curve_chart(told: ConceptSelfTest) -> CurveChart | None:
    """None where fewer than two sizes have runs that worked; sizes are spaced evenly, whatever lies between them."""
    curve = told.curve()
    points = () if curve is None else tuple(point for point in curve.points if point.known)
    if curve is None or len(points) < 2:
        return None
    step = (WIDTH - _LEFT - _RIGHT) / (len(points) - 1)
    marks = tuple(_mark(point, round(_LEFT + step * at, 1)) for at, point in enumerate(points))
    return CurveChart(
        marks=marks,
        path=" ".join(f"{'L' if at else 'M'}{mark.x} {mark.y}" for at, mark in enumerate(marks)),
        levels=((_height(1.0), "100 %"), (_height(0.0), "0 %")),
        words=detection_words(curve),
    )


def any_selftest(results: Sequence[AuditResult]) -> bool:
    """Whether there is one to show."""
    return any(result.selftest is not None for result in results)


def _mark(point: Detection, x: float) -> DoseMark:
    return DoseMark(
        x=x,
        y=_height(point.rate.value),
        low=_height(point.rate.low),
        high=_height(point.rate.high),
        label="none" if not point.size else _size(point),
    )


def _height(share: float) -> float:
    return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - share), 1)


def _size(point: Detection) -> str:
    """In log-odds, with as many digits as it has, one at least.

    >>> from audit_plugin.core.estimate import Estimate
    >>> [_size(Detection(size=size, found=0, runs=1, rate=Estimate(value=0.0, low=0.0, high=1.0))) for size in (1.0, 0.25)]
    ['1.0', '0.25']
    """
    return f"{point.size:.1f}" if round(point.size, 1) == point.size else f"{point.size:g}"
