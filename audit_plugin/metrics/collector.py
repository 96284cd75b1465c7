"""The Prometheus collector: asks the store for the last committed runs at every scrape, keeps no metric objects and no state but their samples."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

import audit_plugin
from audit_plugin.core.errors import StoreError
from audit_plugin.core.results import AuditResult
from audit_plugin.metrics.kept import Kept
from audit_plugin.metrics.names import METRICS, MetricSpec
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.metrics.sample import Sample
from audit_plugin.metrics.samples import MAX_SERIES, MAX_SERIES_PER_AUDIT, audit_samples, process_samples

_STEP = 100


class LastRuns(Protocol):
    """What the collector asks of the store."""

    def newest(self, *, only_assessed: bool = False) -> Mapping[tuple[str, str], str]:
        """(model, label) -> id of its newest run."""
        ...

    def run(self, run: str) -> AuditResult:
        """The whole result of one run."""
        ...

    def changes(self) -> int:
        """How often stored results were changed."""
        ...

    def queries(self) -> Mapping[tuple[str, str], int]:
        """(model, version) -> images sent so far."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Series:
    """What is exported of the audits; a metric is either theirs or the process's."""

    samples: Sequence[Sample] = ()
    families: Mapping[str, Metric] = field(default_factory=dict)


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
    kept: Kept[_Series] = field(default_factory=lambda: Kept(_Series()))
    """Samples are made anew when a run is new, or one was changed."""

    def samples(self) -> list[Sample]:
        """All samples of one scrape.  An unreadable store is a sample, too, never an exception."""
        own, audits = self._scraped()
        return [*own, *audits.samples]

    def _scraped(self) -> tuple[list[Sample], _Series]:
        """Of the process, made anew, and of the audits."""
        health = self.health()
        try:
            queries = self.store.queries()
            own = [*process_samples(health, version=audit_plugin.__version__, queries=queries), Sample("store_up", (), True)]
            return own, self._audits(health.interval_seconds, room=self.total - len(own))
        except StoreError:
            own = process_samples(health, version=audit_plugin.__version__, queries={})
            return [*own, Sample("store_up", (), False)], _Series()

    def _audits(self, interval_seconds: float | None, *, room: int) -> _Series:
        changes = self.store.changes()
        last, working = self._configured(self.store.newest()), self._configured(self.store.newest(only_assessed=True))
        room -= room % _STEP  # one series more of the process is no other set of the audits'

        def make() -> _Series:
            read = {run: self.store.run(run) for run in dict.fromkeys((*last, *working))}
            samples = audit_samples(
                [read[run] for run in last],
                [read[run] for run in working],
                interval_seconds=interval_seconds,
                per_audit=self.per_audit,
                total=room,
            )
            return _Series(samples=samples, families=_families(samples))

        return self.kept.get((last, working, changes, interval_seconds, self.per_audit, room), make)

    def _configured(self, runs: Mapping[tuple[str, str], str]) -> tuple[str, ...]:
        wanted = self.audits()
        return tuple(run for pair, run in runs.items() if wanted is None or pair in wanted)

    def collect(self) -> Iterator[Metric]:
        """One family per metric that has samples, in the order of the table."""
        own, audits = self._scraped()
        families = {**audits.families, **_families(own)}
        yield from (families[name] for name in METRICS if name in families)


def registry(collector: AuditCollector) -> CollectorRegistry:
    """A registry of its own; the process-wide default is left alone."""
    own = CollectorRegistry(auto_describe=False)
    own.register(collector)
    return own


def _families(samples: Sequence[Sample]) -> dict[str, Metric]:
    by_metric: dict[str, list[Sample]] = {}
    for sample in samples:
        by_metric.setdefault(sample.metric, []).append(sample)
    return {name: _family(METRICS[name], found) for name, found in by_metric.items()}


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
