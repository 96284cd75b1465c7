"""The alerts' conditions on the samples of one scrape, for when there is no Prometheus.

Same catalogue, same samples; what is missing is time: no ``for``, no history of scrapes, no absence.  Alerts found here say so.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audit_plugin.alerts.catalogue import ALERTS
from audit_plugin.metrics.sample import Sample


@dataclass(frozen=True, kw_only=True)
class FiringAlert:
    """An alert whose condition holds now."""

    name: str
    severity: str
    labels: Mapping[str, str]
    summary: str
    description: str
    runbook: str
    value: float
    evaluated_by: str = "local"
    """"local": from the store's samples, without waiting times; Prometheus may take longer to agree."""


def firing(samples: Sequence[Sample], *, now: float) -> tuple[FiringAlert, ...]:
    """All alerts that fire, in the order of the catalogue, one per label set.  ``now`` is in seconds since the epoch."""
    found: dict[tuple[str, tuple[str, ...]], FiringAlert] = {}
    for alert in ALERTS:
        for condition in alert.any_of:
            for sample in condition.met_by(samples, now):
                words = defaultdict(str, sample.named_labels)
                one = FiringAlert(
                    name=alert.name,
                    severity=alert.severity,
                    labels=sample.named_labels,
                    summary=alert.summary.format_map(words),
                    description=alert.description.format_map(words),
                    runbook=alert.runbook,
                    value=sample.value,
                )
                found.setdefault((alert.name, sample.labels), one)
    return tuple(found.values())
