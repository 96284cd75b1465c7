"""Performance metrics of a classifier, and their per-row losses.

Scores are class probabilities ``(n, k)``, labels class indices ``(n,)``.  Weights come as a matrix ``(B, n)``: one row per
resample, so that a bootstrap is one call; ``np.ones((1, n))`` is the plain data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

CLIP = 1e-6
"""Smallest probability that the log-loss believes; a row's loss is at most −ln CLIP."""

RowLoss = Callable[[Float[np.ndarray, "n k"], Int[np.ndarray, "n"]], Float[np.ndarray, "n"]]
Performance = Callable[[Float[np.ndarray, "n k"], Int[np.ndarray, "n"], Float[np.ndarray, "B n"]], Float[np.ndarray, "B"]]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A performance metric: a mean of per-row losses ("additive") or a function of the order of scores ("rank")."""

    name: str
    kind: Literal["additive", "rank"]
    function: Performance
    """Value for every row of weights, turned so that higher is better (Brier and log-loss come negated)."""
    loss: RowLoss | None
    """Per-row loss, lower is better; None for rank metrics."""
    loss_range: float
    """Largest possible loss of a row; nan for rank metrics."""
    higher_is_better: bool
    """Direction of the metric as people quote it."""

    def performance(self, scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> float:
        """Value on the plain data, higher is better."""
        return float(self.function(scores, labels, np.ones((1, len(labels))))[0])

    def row_losses(self, scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Per-row losses (n,).  ValueError for rank metrics, which have none."""
        if self.loss is None:
            raise ValueError(f"{self.name} is a rank metric: it has no per-row loss; use accuracy, brier or log_loss")
        return self.loss(scores, labels)


def check_scores(scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> None:
    """ValueError unless scores are finite (n, k >= 2) and labels are n indices into their columns."""
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(f"scores must be (n, k) with k >= 2 classes, got shape {scores.shape}")
    if labels.shape != scores.shape[:1] or len(labels) == 0:
        raise ValueError(f"{scores.shape[0]} rows of scores need as many labels, got shape {labels.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).any(1).sum())} rows of scores are not finite")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(f"labels must index {scores.shape[1]} score columns, got {labels.min()} to {labels.max()}")


def zero_one(scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """1 where the highest score is not the label's, else 0; equal scores decide for the first class."""
    return np.asarray(scores.argmax(1) != labels, dtype=np.float64)


def brier(scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Half the squared distance to the one-hot label, in [0, 1]; with two classes (s₁ − y)²."""
    hit = np.arange(scores.shape[1]) == labels[:, None]
    return np.asarray(((scores - hit) ** 2).sum(1) / 2)


def log_loss(scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """−ln of the label's score, clipped below at ``CLIP``."""
    return np.asarray(-np.log(np.clip(scores[np.arange(len(labels)), labels], CLIP, 1.0)))


def _mean_of(loss: RowLoss, offset: float) -> Performance:
    def value(
        scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], weights: Float[np.ndarray, "B n"]
    ) -> Float[np.ndarray, "B"]:
        return np.asarray(offset - weights @ loss(scores, labels) / weights.sum(1))

    return value


def weighted_aurocs(
    scores: Float[np.ndarray, "m"], positive: Bool[np.ndarray, "m"], weights: Float[np.ndarray, "B m"]
) -> Float[np.ndarray, "B"]:
    """Area under the ROC curve of weighted records, ties counted half, for every row of weights.

    Σ over distinct scores of P·(N_below + N_tie/2), over total positive × total negative weight; nan where one of them is 0.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    taken = weights[:, order]
    up = np.add.reduceat(taken * positive[order], starts, axis=1)
    down = np.add.reduceat(taken * ~positive[order], starts, axis=1)
    below = np.cumsum(down, axis=1)
    pairs = up.sum(1) * below[:, -1]
    wins = (up * (below - down / 2)).sum(1)
    return np.asarray(np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))


def weighted_auroc(scores: Float[np.ndarray, "m"], positive: Bool[np.ndarray, "m"], weights: Float[np.ndarray, "m"]) -> float:
    """The same for one set of weights.

    >>> weighted_auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]), np.ones(4))
    0.75
    """
    return float(weighted_aurocs(scores, positive, weights[None])[0])


def macro_aurocs(
    scores: Float[np.ndarray, "n k"], labels: Int[np.ndarray, "n"], weights: Float[np.ndarray, "B n"]
) -> Float[np.ndarray, "B"]:
    """One-vs-rest AUROC averaged over the classes that occur; with two classes the AUROC of class 1's score.

    A class without positive or negative weight in a resample drops out of that resample's average; nan if all do.
    """
    present = np.unique(labels)
    if len(present) < 2:
        raise ValueError(f"AUROC needs rows of at least two classes, all {len(labels)} labels are {present}")
    classes = [1] if scores.shape[1] == 2 else list(present)
    areas = np.stack([weighted_aurocs(scores[:, c], labels == c, weights) for c in classes])
    known = np.isfinite(areas)
    count = known.sum(0)
    return np.asarray(np.divide(np.where(known, areas, 0).sum(0), count, out=np.full(len(count), np.nan), where=count > 0))


METRICS: dict[str, Metric] = {
    "accuracy": Metric(
        name="accuracy",
        kind="additive",
        function=_mean_of(zero_one, 1.0),
        loss=zero_one,
        loss_range=1.0,
        higher_is_better=True,
    ),
    "brier": Metric(
        name="brier",
        kind="additive",
        function=_mean_of(brier, 0.0),
        loss=brier,
        loss_range=1.0,
        higher_is_better=False,
    ),
    "log_loss": Metric(
        name="log_loss",
        kind="additive",
        function=_mean_of(log_loss, 0.0),
        loss=log_loss,
        loss_range=float(-np.log(CLIP)),
        higher_is_better=False,
    ),
    "auroc": Metric(
        name="auroc",
        kind="rank",
        function=macro_aurocs,
        loss=None,
        loss_range=float("nan"),
        higher_is_better=True,
    ),
}
"""Every metric an audit can be asked for, by name."""


def chance(metric: Metric, labels: Int[np.ndarray, "n"], classes: int) -> float:
    """Performance (higher is better) of the best constant answer on these labels; 0.5 for AUROC."""
    if metric.kind == "rank":
        return 0.5
    shares = np.bincount(labels, minlength=classes) / len(labels)
    return metric.performance(np.tile(shares, (len(labels), 1)), labels)
