"""How well one score tells two sets of images apart."""

import numpy as np
from jaxtyping import Float

from audit_plugin.statistics.metrics import weighted_auroc


def auroc(positive: Float[np.ndarray, "n"], negative: Float[np.ndarray, "m"]) -> float:
    """P(score of a positive > score of a negative), ties counted half.

    >>> auroc(np.array([0.9, 0.4]), np.array([0.4, 0.1]))
    0.875
    """
    scores, truth = _joined(positive, negative)
    return weighted_auroc(scores, truth, np.ones(len(scores)))


def average_precision(positive: Float[np.ndarray, "n"], negative: Float[np.ndarray, "m"]) -> float:
    """Σ over falling thresholds of (recall_k - recall_{k-1}) precision_k; equal scores share one threshold.

    >>> round(average_precision(np.array([0.9, 0.4]), np.array([0.6, 0.1])), 4)
    0.8333
    """
    scores, truth = _joined(positive, negative)
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=np.inf))
    hits = np.cumsum(truth[order])[last]
    return float((np.diff(hits, prepend=0) / len(positive) * hits / (last + 1)).sum())


def _joined(positive: Float[np.ndarray, "n"], negative: Float[np.ndarray, "m"]) -> tuple[np.ndarray, np.ndarray]:
    if not len(positive) or not len(negative):
        raise ValueError(f"need scores on both sides, got {len(positive)} positive and {len(negative)} negative")
    truth = np.r_[np.ones(len(positive), dtype=np.bool_), np.zeros(len(negative), dtype=np.bool_)]
    return np.concatenate([positive, negative]), truth
