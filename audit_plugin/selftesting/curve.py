"""From outcomes to detection by size: exact intervals, and the sizes that are found 80 % and 95 % of the time."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.selftest_results import ConceptSelfTest, Detection, DetectionCurve, Part
from audit_plugin.core.values import Concept
from audit_plugin.selftesting.planted import Outcome
from audit_plugin.statistics.intervals import clopper_pearson

_FINDINGS = frozenset({Part.IMPORTANCE, Part.FLIPS, Part.NODE})


def concept_test(
    concept: Concept, level: int, outcomes: Iterable[Outcome], parts: Collection[Part], *, accusable: bool = True
) -> ConceptSelfTest:
    """What the outcomes say of one concept; ``parts`` are those that the audits had."""
    own = [one for one in outcomes if one.cell.concept in {"", concept.name}]
    by_size: dict[float, list[Outcome]] = {}
    for one in own:
        by_size.setdefault(one.cell.size, []).append(one)
    wanted = [part for part in Part if part in parts]
    none = [one for one in by_size.get(0.0, []) if not one.broken]
    return ConceptSelfTest(
        concept=concept.name,
        role=concept.role,
        level=concept.levels[level],
        curves=tuple(
            detection_curve(
                part,
                {size: _hits(some, concept.name, part) for size, some in by_size.items()},
                broken={size: sum(one.broken for one in some) for size, some in by_size.items()},
            )
            for part in wanted
        ),
        false_findings=sum(_hits(none, concept.name, Part.ANY)),
        runs=len(none),
        accusable=accusable,
    )


def any_finding(outcome: Outcome) -> bool:
    """Whether any concept was accused."""
    return any(_FINDINGS & set(parts) for parts in outcome.found.values())


def detection_curve(
    part: Part, hits: Mapping[float, Sequence[bool]], *, broken: Mapping[float, int] | None = None
) -> DetectionCurve:
    """Size -> whether each run made the finding, and how many of them did not work."""
    points = tuple(
        Detection(
            size=size,
            found=sum(hits[size]),
            runs=len(hits[size]),
            rate=_rate(sum(hits[size]), len(hits[size])),
            broken=(broken or {}).get(size, 0),
        )
        for size in sorted(hits)
    )
    return DetectionCurve(part=part, points=points, size80=size_found(points, 0.80), size95=size_found(points, 0.95))


def size_found(points: Sequence[Detection], share: float) -> float | None:
    """Smallest size that is found with this share, on the line between pooled neighbours; a size may not be found less often than a smaller one."""
    shares = pooled([one.rate.value for one in points], [one.runs for one in points])
    for at, value in enumerate(shares):
        if value >= share:
            if at == 0 or value == shares[at - 1]:
                return points[at].size
            before, here = points[at - 1].size, points[at].size
            return before + (here - before) * (share - shares[at - 1]) / (value - shares[at - 1])
    return None


def pooled(values: Sequence[float], weights: Sequence[float]) -> tuple[float, ...]:
    """The nearest sequence that never falls, by weighted squares (pool adjacent violators, Ayer et al. 1955).

    >>> pooled([0.0, 0.6, 0.4, 1.0], [1, 1, 1, 1])
    (0.0, 0.5, 0.5, 1.0)
    """
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        mean, total, count = value, float(weight), 1
        while blocks and blocks[-1][0] >= mean:
            before, heavy, several = blocks.pop()
            mean, total, count = (before * heavy + mean * total) / (heavy + total), heavy + total, several + count
        blocks.append((mean, total, count))
    return tuple(mean for mean, _, count in blocks for _ in range(count))


def _hits(outcomes: Iterable[Outcome], concept: str, part: Part) -> list[bool]:
    found = [set(one.found.get(concept, ())) for one in outcomes]
    return [bool(parts & _FINDINGS) if part is Part.ANY else part in parts for parts in found]


def _rate(hits: int, runs: int) -> Estimate:
    told = clopper_pearson(hits, runs)
    return Estimate(value=told.value, low=told.low, high=told.high)
