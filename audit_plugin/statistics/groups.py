"""Importance of several concepts together: joint flips to a donor row's values, and the interaction of two concepts."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from audit_plugin.statistics.metrics import Metric, check_scores


@dataclass(frozen=True, kw_only=True)
class GroupFlips:
    """Scores with a group of concepts replaced jointly by a donor row's values.

    The donor of a row is drawn once among all other rows, also those of equal values, which leave it as it is: the donors are one permutation.
    """

    baseline: Float[np.ndarray, "n k"]
    donor: Float[np.ndarray, "n k"]
    labels: Int[np.ndarray, "n"]

    def __post_init__(self) -> None:
        check_scores(self.baseline, self.labels)
        check_scores(self.donor, self.labels)


def cells_of(values: Int[np.ndarray, "n m"]) -> Int[np.ndarray, "n"]:
    """Number 0, 1, ... of each row's combination of values, combinations in sorted order.

    >>> cells_of(np.array([[0, 1], [1, 0], [0, 1]])).tolist()
    [0, 1, 0]
    """
    if values.shape[1] == 0:
        return np.zeros(len(values), dtype=np.int64)
    return np.asarray(np.unique(values, axis=0, return_inverse=True)[1]).reshape(-1)


def group_importance(group: GroupFlips, metric: Metric) -> float:
    """Drop of the metric when the group's values are shuffled over rows together."""
    return float(group_importances(group, metric, np.ones((1, len(group.labels))))[0])


def group_importances(group: GroupFlips, metric: Metric, weights: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B"]:
    """The same for every row of weights."""
    before, after = (metric.function(scores, group.labels, weights) for scores in (group.baseline, group.donor))
    return np.asarray(before - after)


def group_contributions(group: GroupFlips, metric: Metric) -> Float[np.ndarray, "n"]:
    """x_i = ℓ(donor flip) − ℓ(baseline); their mean is the group's importance."""
    return np.asarray(metric.row_losses(group.donor, group.labels) - metric.row_losses(group.baseline, group.labels))


def interaction(joint: float, first: float, second: float) -> float:
    """I_jk = Δ_jk − Δ_j − Δ_k: what permuting both together costs beyond the two alone."""
    return joint - first - second
