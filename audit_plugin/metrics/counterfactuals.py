"""Samples of counterfactuals: how often decisions flip and how far away, and what changes along."""

from collections.abc import Iterator

from audit_plugin.core.counterfactual_results import AttributeGap, CounterfactualResult
from audit_plugin.core.results import AuditResult, Finding
from audit_plugin.findings.counterfactuals import KIND, directions, finding_metric
from audit_plugin.metrics.sample import Sample

Rank = tuple[bool, bool, float, str]
"""Breach first, then roles that may alert, then the largest lower limit; the name decides ties."""
DISTANCES = frozenset({"FID", "sFID", "KID"})
"""Of sets of pictures; the other figures of sets are shares or cosines."""


def counterfactual_samples(result: AuditResult) -> Iterator[Sample]:
    """What holds of all counterfactuals together; what is not known has no series."""
    told = result.counterfactuals
    if told is None:
        return
    labels, found = _labels(result, told), told.figures
    shares = {
        "counterfactual_free_flip_ratio": found.free_ratio,
        "counterfactual_jpeg_ratio": found.jpeg_ratio,
        "counterfactual_witness_ratio": found.witness_ratio,
        "counterfactual_adversarial_ratio": found.adversarial_ratio,
    }
    single = {
        **{name: None if share is None else share.value for name, share in shares.items()},
        "counterfactual_median_distance_ratio": found.median_l1,
        "counterfactual_network_rows": found.network_rows,
        "counterfactual_queries": found.queries,
    }
    for name, value in single.items():
        if value is not None:
            yield Sample(name, labels, value)
    yield Sample("counterfactual_images", labels, found.images)
    yield Sample("counterfactual_flips", labels, found.flips)
    yield from _sets(told, labels)
    intervals = {"counterfactual_flip": found.flip_ratio, "counterfactual_correlation_difference": told.correlation_difference}
    for stem, estimate in intervals.items():
        if estimate is not None:
            yield Sample(f"{stem}_ratio", labels, estimate.value)
            yield Sample(f"{stem}_low_ratio", labels, estimate.low)
            yield Sample(f"{stem}_high_ratio", labels, estimate.high)


def _sets(told: CounterfactualResult, labels: tuple[str, ...]) -> Iterator[Sample]:
    """Figures of all pictures together, each with the number of counterfactuals behind it."""
    for one in told.sets:
        if one.value is not None:
            name = "distance" if one.name in DISTANCES else "likeness_ratio"
            yield Sample(f"counterfactual_{name}", (*labels, one.name), one.value)
            yield Sample("counterfactual_set_images", (*labels, one.name), one.counterfactual)
    if told.diversity is not None and told.diversity.value is not None:
        yield Sample("counterfactual_diversity", (*labels, told.diversity.distance), told.diversity.value)


def counterfactual_bundles(result: AuditResult) -> Iterator[tuple[Rank, tuple[Sample, ...]]]:
    """The series of one attribute together: exported together or not at all."""
    told = result.counterfactuals
    if told is None:
        return
    found = {one.concept: one for one in result.findings if one.kind == KIND and one.metric == finding_metric(told)}
    for gap in (way for one in told.gaps for way in directions(one)):
        finding = found.get(gap.attribute)
        rank = (finding is None, not gap.role.alerts, -gap.gap.low, f"{told.positive} {gap.attribute}")
        yield rank, tuple(_attribute(result, told, gap, finding))


def _labels(result: AuditResult, told: CounterfactualResult) -> tuple[str, ...]:
    return result.model, result.version, result.label, told.method, told.rung


def _attribute(result: AuditResult, told: CounterfactualResult, gap: AttributeGap, finding: Finding | None) -> Iterator[Sample]:
    labels = (*_labels(result, told), told.positive, gap.attribute, gap.role.value)
    yield Sample("counterfactual_attribute_gap_ratio", labels, gap.gap.value)
    yield Sample("counterfactual_attribute_gap_low_ratio", labels, gap.gap.low)
    if gap.role.alerts:
        yield Sample("counterfactual_breach", labels, finding is not None)
        yield Sample("counterfactual_breach_runs", labels, finding.breach_runs if finding else 0)
        yield Sample("counterfactual_breach_strong", labels, bool(finding and finding.strong))
