"""The score of a class: log-odds, whatever a model answers (specification 2.2); probability and decision beside it.

Arrays are ``(n, C)``: n answers, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from audit_plugin.core.diffex_results import ScoreKind

CLIP = 1e-6
"""Probabilities are kept this far from 0 and 1."""
SATURATED = 0.05
"""Share of clipped values above which a result says so."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassScores:
    """Answers on the scales that effects are measured on."""

    log_odds: Float[np.ndarray, "n C"]
    """Of labels: 1 where the class is the first, else 0."""
    probability: Float[np.ndarray, "n C"]
    decisions: Int[np.ndarray, "n D"]
    """First class (D = 1); of sigmoid scores whether each class is decided for (D = C)."""
    clipped: Bool[np.ndarray, "n C"]


def class_scores(scores: Sequence[Sequence[float]] | Float[np.ndarray, "n C"], kind: ScoreKind) -> ClassScores:
    """Answers as the server gave them, on the log-odds scale.

    logits: l_c = z_c - logsumexp_{j != c} z_j, the log-odds of the softmax.  Raises ValueError on scores that the kind cannot have.

    >>> class_scores([[0.8, 0.2]], ScoreKind.PROBS).log_odds.round(3).tolist()
    [[1.386, -1.386]]
    """
    values = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if not np.isfinite(values).all() or values.ndim != 2:
        raise ValueError(f"class scores must be finite numbers, one row per answer, got shape {values.shape}")
    first = values.argmax(1)[:, None]
    if kind is ScoreKind.LOGITS:
        return _of_logits(values, first)
    if kind is ScoreKind.LABELS:
        hits = (np.arange(values.shape[1]) == first).astype(np.float64)
        return ClassScores(log_odds=hits, probability=hits, decisions=first, clipped=np.zeros(values.shape, dtype=np.bool_))
    if values.min(initial=0) < -CLIP or values.max(initial=0) > 1 + CLIP:
        raise ValueError(
            f"{kind.value} lie in [0, 1], got {values.min():.3g} to {values.max():.3g}; set the kind of score to logits"
        )
    kept = np.clip(values, CLIP, 1 - CLIP)
    decisions = (values >= 0.5).astype(np.int64) if kind is ScoreKind.SIGMOID else first
    return ClassScores(log_odds=np.log(kept) - np.log1p(-kept), probability=values, decisions=decisions, clipped=kept != values)


def _of_logits(logits: Float[np.ndarray, "n C"], first: Int[np.ndarray, "n 1"]) -> ClassScores:
    n, classes = logits.shape
    if classes < 2:
        raise ValueError("logits of one class have no log-odds; set the kind of score to sigmoid and send probabilities")
    # Σ over the others is the whole minus the class itself, except for the largest, where the difference would cancel.
    top = logits.max(1, keepdims=True)
    powers = np.exp(logits - top)
    total = powers.sum(1, keepdims=True)
    others = np.log(np.maximum(total - powers, np.finfo(np.float64).tiny)) + top
    rows = np.arange(n)
    rest = logits.copy()
    rest[rows, first[:, 0]] = -np.inf
    second = rest.max(1, keepdims=True)
    others[rows, first[:, 0]] = np.log(np.exp(rest - second).sum(1)) + second[:, 0]
    return ClassScores(
        log_odds=logits - others, probability=powers / total, decisions=first, clipped=np.zeros(logits.shape, dtype=np.bool_)
    )
