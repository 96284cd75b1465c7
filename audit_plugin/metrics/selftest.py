"""Samples of a self-test: what such an audit finds, by size of the effect, and how often it accuses without any."""

from collections.abc import Iterator

from audit_plugin.core.results import AuditResult
from audit_plugin.core.selftest_results import SelfTest
from audit_plugin.metrics.sample import Sample

MOST_CONCEPTS = 20
"""Concepts with series of their own; the rest is in the report."""


def selftest_samples(result: AuditResult, told: SelfTest) -> Iterator[Sample]:
    """Of the audit as a whole, and of every concept; sizes without effect, or without a run that worked, have no detection."""
    labels = (result.model, result.version, result.label)
    yield Sample("selftest_broken_runs", labels, told.broken)
    if told.false_runs:
        yield Sample("selftest_false_findings", labels, told.false_findings)
        yield Sample("selftest_runs", labels, told.false_runs)
    for one in told.concepts[:MOST_CONCEPTS]:
        curve = one.curve()
        if curve is None:
            continue
        for point in curve.points:
            if point.size and point.known:
                yield Sample("selftest_detection_ratio", (*labels, one.concept, f"{point.size:g}"), point.rate.value)
        if curve.size95 is not None:
            yield Sample("selftest_size95_logodds", (*labels, one.concept), curve.size95)
