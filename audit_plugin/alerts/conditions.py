"""What can make an alert fire: each condition is PromQL for Prometheus and a function of samples for local evaluation.

Gauges are wrapped in ``max_over_time`` because one failed scrape would otherwise hide the condition; the last value of a series is
therefore believed for ``WINDOW`` after it vanished, and no longer.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from audit_plugin.metrics.names import METRICS
from audit_plugin.metrics.sample import Sample

WINDOW = "15m"
PERIODS = 2
"""Full periods without an audit after which it is overdue."""
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {"==": operator.eq, ">=": operator.ge, ">": operator.gt}


@dataclass(frozen=True)
class Compare:
    """A series of the metric compares so with a number."""

    metric: str
    op: Literal["==", ">=", ">"]
    bound: float
    only: tuple[str, Literal["=", "!="], str] | None = None
    """Label, comparison and value of the series that count; all when absent."""

    def promql(self) -> str:
        """The condition as an instant vector of the series that meet it."""
        chosen = "" if self.only is None else '{{{}{}"{}"}}'.format(*self.only)
        return f"{_recent(self.metric, chosen)} {self.op} {self.bound:g}"

    def met_by(self, samples: Sequence[Sample], now: float) -> Iterator[Sample]:
        """The samples that meet it."""
        return (
            one for one in samples if one.metric == self.metric and self._counts(one) and _COMPARE[self.op](one.value, self.bound)
        )

    def _counts(self, sample: Sample) -> bool:
        if self.only is None:
            return True
        label, comparison, value = self.only
        return (sample.named_labels[label] == value) == (comparison == "=")


@dataclass(frozen=True)
class Overdue:
    """More than ``PERIODS`` periods, and the time a run takes, have passed since a timestamp; the two sides have equal labels."""

    since: str
    period: str
    run_time: str | None = None

    def promql(self) -> str:
        """The condition as an instant vector; its value is the age in seconds."""
        allowed = f"{PERIODS} * {_recent(self.period)}" + (f" + {_recent(self.run_time)}" if self.run_time else "")
        return f"time() - {_recent(self.since)} > {allowed}"

    def met_by(self, samples: Sequence[Sample], now: float) -> Iterator[Sample]:
        """Samples whose value is the age in seconds."""
        value = {(one.metric, one.labels): one.value for one in samples}
        for one in samples:
            period = value.get((self.period, one.labels))
            if one.metric != self.since or period is None:
                continue
            run_time = value.get((self.run_time, one.labels)) if self.run_time else 0.0
            if run_time is not None and now - one.value > PERIODS * period + run_time:
                yield Sample(one.metric, one.labels, now - one.value)


@dataclass(frozen=True)
class Absent:
    """Nobody exports the metric; only a Prometheus can notice that."""

    metric: str

    def promql(self) -> str:
        """One element when nothing is there."""
        return f"absent_over_time({METRICS[self.metric].name}[{WINDOW}])"

    def met_by(self, samples: Sequence[Sample], now: float) -> Iterator[Sample]:
        """Never: whoever evaluates locally is there."""
        return iter(())


Condition = Compare | Overdue | Absent


def _recent(metric: str, chosen: str = "") -> str:
    return f"max_over_time({METRICS[metric].name}{chosen}[{WINDOW}])"
