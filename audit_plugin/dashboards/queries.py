"""PromQL that cannot name a metric or a label that nobody exports: every query is built from the table of metric names.

A matcher's value is taken literally; one that starts with ``~`` is a regular expression, which Grafana fills in for a variable that may
hold several values (``~$concept``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from audit_plugin.alerts.catalogue import ALERTS
from audit_plugin.alerts.conditions import PERIODS, Compare, Overdue
from audit_plugin.metrics.names import METRICS

TARGET = ("job", "instance")
"""Labels that a scrape adds to every series."""
BUILT_IN: Mapping[str, tuple[str, ...]] = {
    "up": (),
    "scrape_duration_seconds": (),
    "scrape_samples_scraped": (),
    "ALERTS": ("alertname", "alertstate", "severity", "model", "task"),
    "nv_inference_count": ("model", "version"),
}
"""What Prometheus and Triton export themselves, with the labels that are used here."""
JOB = {"job": "~$job"}


@dataclass(frozen=True, kw_only=True)
class Query:
    """An instant vector."""

    text: str
    labels: frozenset[str]
    """Labels that its series may have."""
    metrics: tuple[str, ...]
    """Short names of our metrics in it, for descriptions."""

    def by(self, *labels: str, how: Literal["max", "min", "sum", "count"] = "max") -> "Query":
        """One series per combination of the labels; several instances of the service say the same, hence ``max``."""
        self.check(*labels)
        kept = f" by ({', '.join(labels)})" if labels else ""
        return Query(text=f"{how}{kept} ({self.text})", labels=frozenset(labels), metrics=self.metrics)

    def where(self, other: "Query", *labels: str) -> "Query":
        """Series for which the other has one with the same values of the labels."""
        self.check(*labels)
        other.check(*labels)
        return self._with(f"{self.text} and on ({', '.join(labels)}) {other.text}", other)

    def compares(self, comparison: str) -> "Query":
        """Series whose value compares so, e.g. ``== 1``."""
        return self._with(f"{self.text} {comparison}")

    def __sub__(self, other: "Query") -> "Query":
        return self._with(f"{self.text} - {other.text}", other)

    def __add__(self, other: "Query") -> "Query":
        return self._with(f"{self.text} + {other.text}", other)

    def __truediv__(self, other: "Query") -> "Query":
        return self._with(f"({self.text}) / ({other.text})", other)

    def or_zero(self, other: "Query") -> "Query":
        """Zero where the other is there and this is not; nothing where neither is, for no data is not a zero."""
        return self._with(f"{self.text} or 0 * {other.text}", other)

    def check(self, *labels: str) -> None:
        """Raise ``ValueError`` on a label that the series do not have."""
        if unknown := set(labels) - self.labels:
            raise ValueError(f"{self.text} has no label {', '.join(sorted(unknown))}; it has {', '.join(sorted(self.labels))}")

    def _with(self, text: str, other: "Query | None" = None) -> "Query":
        more = other.metrics if other else ()
        return Query(text=text, labels=self.labels, metrics=tuple(dict.fromkeys((*self.metrics, *more))))


def series(metric: str, only: Mapping[str, str] | None = None) -> Query:
    """The metric's series that match, by short name or as Prometheus or Triton call theirs."""
    name = metric if metric in BUILT_IN else METRICS[metric].name
    labels = frozenset((*TARGET, *(BUILT_IN[metric] if metric in BUILT_IN else METRICS[metric].labels)))
    chosen = dict(only or {})
    query = Query(text=name + _matchers(chosen), labels=labels, metrics=() if metric in BUILT_IN else (metric,))
    query.check(*chosen)
    return query


def exported(metric: str, only: Mapping[str, str] | None = None) -> Query:
    """Series of the audit services that the board is about."""
    return series(metric, {**JOB, **(only or {})})


def rate(query: Query, how: Literal["rate", "increase"] = "rate") -> Query:
    """Of a counter, over as long as a pixel of the panel asks for."""
    return Query(text=f"{how}({query.text}[$__rate_interval])", labels=query.labels, metrics=query.metrics)


def ago(since: Query) -> Query:
    """Seconds since a timestamp."""
    return Query(text=f"time() - {since.text}", labels=since.labels, metrics=since.metrics)


def until(moment: Query) -> Query:
    """Seconds until a timestamp; negative when it has passed."""
    return Query(text=f"{moment.text} - time()", labels=moment.labels, metrics=moment.metrics)


def lateness(only: Mapping[str, str], *labels: str) -> Query:
    """Age of the last audit over the age at which its alert fires: 1 is overdue."""
    overdue = next(one for alert in ALERTS for one in alert.any_of if isinstance(one, Overdue) and one.run_time)
    since, period, run_time = (exported(name, only).by(*labels) for name in (overdue.since, overdue.period, overdue.run_time or ""))
    allowed = Query(text=f"{PERIODS} * {period.text}", labels=period.labels, metrics=period.metrics) + run_time
    return ago(since) / allowed


def bound(metric: str) -> Compare:
    """The condition by which an alert fires on the metric, so that a panel turns red where the alert does."""
    found = next(
        (one for alert in ALERTS for one in alert.any_of if isinstance(one, Compare) and one.metric == metric),
        None,
    )
    if found is None:
        raise ValueError(f"no alert fires on {metric}; give the panel no threshold, or the alert a condition")
    return found


def _matchers(chosen: Mapping[str, str]) -> str:
    parts = [f'{label}{"=~" if value.startswith("~") else "="}"{value.removeprefix("~")}"' for label, value in chosen.items()]
    return "{" + ", ".join(parts) + "}" if parts else ""
