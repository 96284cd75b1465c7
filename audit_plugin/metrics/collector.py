"""The Prometheus collector: reads the store's last committed runs at every scrape, keeps no metric objects and no state."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

import audit_plugin
from audit_plugin.core.errors import StoreError
from audit_plugin.core.results import AuditResult
from audit_plugin.metrics.names import METRICS, MetricSpec
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.metrics.sample import Sample
from audit_plugin.metrics.samples import MAX_SERIES, MAX_SERIES_PER_AUDIT, audit_samples, process_samples


class LastRuns(Protocol):
    """What the collector asks of the store."""

    def last_runs(self, *, only_assessed: bool = False) -> tuple[AuditResult, ...]:
        """Newest run of every (model, label)."""
        ...

    def queries(self) -> Mapping[tuple[str, str], int]:
        """(model, version) -> images sent so far."""
        ...


@dataclass(frozen=True, kw_only=True)
class AuditCollector:
    """Implements ``prometheus_client``'s collector interface; values survive a restart because they are the store's."""

    store: LastRuns
    health: Callable[[], ProcessHealth] = ProcessHealth
    """Called at every scrape."""
    audits: Callable[[], Collection[tuple[str, str]] | None] = lambda: None
    """The (model, label) pairs that are configured now; a vanished model leaves no stale series.  ``None`` means all."""
    per_audit: int = MAX_SERIES_PER_AUDIT
    total: int = MAX_SERIES

    def samples(self) -> list[Sample]:
        """All samples of one scrape.  An unreadable store is a sample, too, never an exception."""
        health = self.health()
        try:
            last, working, queries = self.store.last_runs(), self.store.last_runs(only_assessed=True), self.store.queries()
        except StoreError:
            last, working, queries, readable = (), (), {}, False
        else:
            readable = True
        own = [
            *process_samples(health, version=audit_plugin.__version__, queries=queries),
            Sample("store_up", (), readable),
        ]
        return own + audit_samples(
            self._configured(last),
            self._configured(working),
            interval_seconds=health.interval_seconds,
            per_audit=self.per_audit,
            total=self.total - len(own),
        )

    def _configured(self, runs: Sequence[AuditResult]) -> list[AuditResult]:
        wanted = self.audits()
        return [run for run in runs if wanted is None or (run.model, run.label) in wanted]

    def collect(self) -> Iterator[Metric]:
        """One family per metric that has samples, in the order of the table."""
        by_metric: dict[str, list[Sample]] = {}
        for sample in self.samples():
            by_metric.setdefault(sample.metric, []).append(sample)
        for name, spec in METRICS.items():
            if name in by_metric:
                yield _family(spec, by_metric[name])


def registry(collector: AuditCollector) -> CollectorRegistry:
    """A registry of its own; the process-wide default is left alone."""
    own = CollectorRegistry(auto_describe=False)
    own.register(collector)
    return own


def _family(spec: MetricSpec, samples: list[Sample]) -> Metric:
    if spec.kind == "info":
        info = InfoMetricFamily(spec.name.removesuffix("_info"), spec.help)
        for sample in samples:
            info.add_metric([], dict(sample.named_labels))
        return info
    family: GaugeMetricFamily | CounterMetricFamily
    if spec.kind == "counter":
        family = CounterMetricFamily(spec.name.removesuffix("_total"), spec.help, labels=spec.labels)
    else:
        family = GaugeMetricFamily(spec.name, spec.help, labels=spec.labels, unit=spec.unit)
    for sample in samples:
        family.add_metric(sample.labels, float(sample.value))
    return family
