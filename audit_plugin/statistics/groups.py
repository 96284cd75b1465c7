"""Importance of several concepts together: joint flips to a donor row's values, and the interaction of two concepts."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from audit_plugin.statistics.metrics import Metric, check_scores


@dataclass(frozen=True, kw_only=True)
class GroupFlips:
    """Scores with a group of concepts replaced jointly by a donor row's values.

    The donor of a row is drawn once among the rows whose values differ (:func:`draw_donors`); a row without one keeps its baseline.
    """

    baseline: Float[np.ndarray, "n k"]
    donor: Float[np.ndarray, "n k"]
    cells: Int[np.ndarray, "n"]
    """Equal numbers for rows with equal values of the whole group (:func:`cells_of`)."""
    labels: Int[np.ndarray, "n"]

    def __post_init__(self) -> None:
        check_scores(self.baseline, self.labels)
        check_scores(self.donor, self.labels)
        if self.cells.shape != self.labels.shape:
            raise ValueError(f"{len(self.labels)} rows need as many cells, got shape {self.cells.shape}")


def cells_of(values: Int[np.ndarray, "n m"]) -> Int[np.ndarray, "n"]:
    """Number 0, 1, ... of each row's combination of values, combinations in sorted order.

    >>> cells_of(np.array([[0, 1], [1, 0], [0, 1]])).tolist()
    [0, 1, 0]
    """
    if values.shape[1] == 0:
        return np.zeros(len(values), dtype=np.int64)
    return np.asarray(np.unique(values, axis=0, return_inverse=True)[1]).reshape(-1)


def draw_donors(cells: Int[np.ndarray, "n"], rng: np.random.Generator) -> Int[np.ndarray, "n"]:
    """A donor row for each row, uniform among rows of other cells; the row itself where all rows share one cell."""
    donors = np.arange(len(cells))
    for cell in np.unique(cells):
        others = np.flatnonzero(cells != cell)
        if len(others):
            rows = np.flatnonzero(cells == cell)
            donors[rows] = rng.choice(others, size=len(rows))
    return donors


def donor_shares(cells: Int[np.ndarray, "n"], weights: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B n"]:
    """q: weighted share of rows whose values differ from this row's, for every row of weights."""
    own = np.eye(int(cells.max()) + 1)[cells]
    return np.asarray(1 - (weights @ own)[:, cells] / weights.sum(1, keepdims=True))


def group_importance(group: GroupFlips, metric: Metric) -> float:
    """Expected drop of the metric when the group's values are shuffled over rows together."""
    return float(group_importances(group, metric, np.ones((1, len(group.labels))))[0])


def group_importances(group: GroupFlips, metric: Metric, weights: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B"]:
    """The same for every row of weights: two records per row, baseline with weight 1 − q and donor flip with weight q."""
    q = donor_shares(group.cells, weights)
    scores = np.concatenate([group.baseline, group.donor])
    labels = np.concatenate([group.labels, group.labels])
    permuted = metric.function(scores, labels, np.concatenate([weights * (1 - q), weights * q], axis=1))
    return np.asarray(metric.function(group.baseline, group.labels, weights) - permuted)


def group_contributions(group: GroupFlips, metric: Metric) -> Float[np.ndarray, "n"]:
    """x_i = q_i (ℓ(donor flip) − ℓ(baseline)); their mean is the group's importance."""
    rise = metric.row_losses(group.donor, group.labels) - metric.row_losses(group.baseline, group.labels)
    return np.asarray(donor_shares(group.cells, np.ones((1, len(rise))))[0] * rise)


def interaction(joint: float, first: float, second: float) -> float:
    """I_jk = Δ_jk − Δ_j − Δ_k: what permuting both together costs beyond the two alone."""
    return joint - first - second
