"""Samples of suspected shortcuts: the change by flips, and what of it is beyond both controls."""

from collections.abc import Iterator

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import AuditResult
from audit_plugin.metrics.sample import Sample


def shortcut_samples(result: AuditResult) -> Iterator[Sample]:
    """Of every suspected concept; what was not measured has no series."""
    for told in result.shortcuts:
        labels = (result.model, result.version, result.label, told.concept)
        yield Sample("shortcut_verdict", (*labels, told.verdict.value), 1)
        yield Sample("shortcut_flips", labels, told.counts.used)
        effects = told.effects
        known: dict[str, Estimate | None] = {
            "shortcut_change_ratio": effects.mad,
            "shortcut_floor_ratio": effects.mad_floor,
            "shortcut_flip_ratio": told.flip_rate_oracle,
        }
        for name, value in known.items():
            if value is not None:
                yield Sample(name, labels, value.value)
        for name, value in (("shortcut_over_floor", effects.over_floor), ("shortcut_over_control", effects.over_irrelevant)):
            if value is not None:
                yield Sample(f"{name}_ratio", labels, value.value)
                yield Sample(f"{name}_low_ratio", labels, value.low)
