"""What all parts of an audit share: the arrays, the metric, the decision rule and one set of resamples.

All concepts, gates and placebo effects use the *same* resamples of whole units, so that differences and ranks are paired.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from audit_plugin.core.errors import ConfigError, TableError
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.methods.depict.assemble import Array, AuditArrays, FlipArrays, Ints, Mask, check_positive
from audit_plugin.statistics.bootstrap import Bootstrap, bootstrap, unit_weights
from audit_plugin.statistics.flip_table import FlipTable
from audit_plugin.statistics.intervals import Interval
from audit_plugin.statistics.metrics import METRICS, Metric


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """One audit, ready to compute.  Binary studies have two columns, the favourable class second."""

    arrays: AuditArrays
    metric: Metric
    threshold: float
    weights: Array
    """``(B, n)`` how often each row is in each resample."""
    seed: str

    @property
    def row_metric(self) -> Metric:
        """The mean loss behind D-, D+ and the sign-flip test: the metric's own, and Brier for AUROC, which has none."""
        return METRICS["brier"] if self.metric.loss is None else self.metric

    @property
    def binary(self) -> bool:
        """Whether there is one favourable class."""
        return len(self.arrays.classes) == 2

    def rng(self, what: str) -> np.random.Generator:
        """Randomness for one purpose, independent of the order in which purposes come."""
        return np.random.default_rng(seed_of(self.seed, what))

    def decide(self, scores: Array) -> Ints:
        """``(..., k)`` -> ``(...)`` index of the decided class, at the deployed threshold."""
        return decide(scores, self.threshold)

    def favourable(self, scores: Array, rows: Mask | None = None) -> Array:
        """``(n, ..., k)`` -> ``(n, ...)``: the favourable class's score, or that of the row's own label when none is favourable."""
        if self.binary:
            return np.asarray(scores[..., 1])
        labels = self.arrays.labels if rows is None else self.arrays.labels[rows]
        places = labels.reshape(-1, *[1] * (scores.ndim - 1))
        return np.asarray(np.take_along_axis(scores, np.broadcast_to(places, (*scores.shape[:-1], 1)), -1)[..., 0])

    def boot(self, statistic: Callable[[Array], Array], rows: Mask | None = None) -> Bootstrap:
        """A statistic of weights ``(B, rows)``, on the data and on every resample."""
        return bootstrap(statistic, self.weights if rows is None else self.weights[:, rows])

    def ratio(self, part: Array, whole: Array) -> Bootstrap:
        """Sum of ``part`` over sum of ``whole``, both per row ``(n,)``: a share or mean over the cells that rows carry."""
        return self.boot(lambda weights: ratios(part, whole, weights))

    def table(self, flip: FlipArrays) -> FlipTable:
        """The concept's flip table over its usable rows; levels that were not drawn hold the baseline."""
        rows = flip.usable
        baseline = self.arrays.baseline[rows]
        scores = np.where(flip.drawn[rows][:, :, None], flip.scores[rows], baseline[:, None, :])
        return FlipTable(baseline=baseline, flips=scores, values=flip.own[rows], labels=self.arrays.labels[rows])


def make_study(arrays: AuditArrays, *, metric: str, positive: str | None, threshold: float, resamples: int, seed: str) -> Study:
    """Check that the metric can be computed, turn the scores to the favourable class, and draw the resamples."""
    if metric not in METRICS:
        raise ConfigError(f"metric {metric!r} is unknown; choose one of {', '.join(METRICS)}")
    focused = _focus(arrays, positive)
    if len(np.unique(focused.labels[focused.usable])) < 2:
        raise TableError("all audited rows have the same label, so performance cannot be judged; add rows of another class")
    rng = np.random.default_rng(seed_of(seed, "resamples"))
    weights = unit_weights(focused.units, resamples, rng)
    chosen = METRICS[metric]
    if metric == "accuracy" and threshold != 0.5:
        chosen = _accuracy_at(threshold)
    return Study(arrays=focused, metric=chosen, threshold=threshold, weights=weights, seed=seed)


def decide(scores: Array, threshold: float) -> Ints:
    """Two columns: 1 from the threshold on; more: the largest score."""
    chosen = scores[..., 1] >= threshold if scores.shape[-1] == 2 else scores.argmax(-1)
    return np.asarray(chosen, np.int64)


def known(vectors: Array) -> Mask:
    """``(..., k)`` -> ``(...)``: where there is a score or a reading at all."""
    return np.asarray(np.isfinite(vectors).all(-1))


def ratios(part: Array, whole: Array, weights: Array) -> Array:
    """Weighted sum of ``part`` over weighted sum of ``whole`` for every row of weights; nan where there is nothing."""
    below = weights @ whole
    return np.asarray(np.divide(weights @ part, below, out=np.full(len(weights), np.nan), where=below > 0))


def minus(first: Bootstrap, second: Bootstrap) -> Bootstrap:
    """Difference of two statistics on the same resamples."""
    return Bootstrap(value=first.value - second.value, samples=first.samples - second.samples)


def over(first: Bootstrap, second: Bootstrap, *, least: float = 1e-9) -> Bootstrap:
    """Quotient on the same resamples; nan where the divisor is below ``least``."""
    enough = second.samples >= least
    samples = np.divide(first.samples, second.samples, out=np.full(len(enough), np.nan), where=enough)
    return Bootstrap(value=first.value / second.value if second.value >= least else float("nan"), samples=samples)


def estimate(boot: Bootstrap) -> Estimate | None:
    """With its 95 % percentile interval; None when it is not defined on the data or on any resample."""
    return from_interval(boot.interval()) if np.isfinite(boot.value) and len(boot.known) else None


def from_interval(interval: Interval) -> Estimate:
    """The same numbers as a result."""
    return Estimate(value=interval.value, low=interval.low, high=interval.high)


def _focus(arrays: AuditArrays, positive: str | None) -> AuditArrays:
    """Two columns (rest, favourable) when one class is favourable; two classes make the second one favourable by default."""
    classes = arrays.classes
    check_positive(positive, classes)
    if positive is None and len(classes) > 2:
        return arrays
    at = len(classes) - 1 if positive is None else classes.index(positive)

    def turn(scores: Array) -> Array:
        return np.stack([1 - scores[..., at], scores[..., at]], -1)

    def turned(scores: Array | None) -> Array | None:
        return None if scores is None else turn(scores)

    return replace(
        arrays,
        classes=(_rest(classes, at), classes[at]),
        labels=(arrays.labels == at).astype(np.int64),
        baseline=turn(arrays.baseline),
        flips={name: replace(flip, scores=turn(flip.scores)) for name, flip in arrays.flips.items()},
        groups={name: replace(group, scores=turn(group.scores)) for name, group in arrays.groups.items()},
        placebo=turned(arrays.placebo),
        replicates=turned(arrays.replicates),
        real=turned(arrays.real),
    )


def _rest(classes: Sequence[str], at: int) -> str:
    return classes[1 - at] if len(classes) == 2 else f"not {classes[at]}"


def _accuracy_at(threshold: float) -> Metric:
    def loss(scores: Array, labels: Ints) -> Array:
        return np.asarray(decide(scores, threshold) != labels, np.float64)

    def accuracy(scores: Array, labels: Ints, weights: Array) -> Array:
        return np.asarray(1 - weights @ loss(scores, labels) / weights.sum(1))

    return replace(METRICS["accuracy"], function=accuracy, loss=loss)
