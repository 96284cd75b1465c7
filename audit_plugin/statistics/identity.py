"""Does the counterfactual still show the same thing?  Cosine statistics of features that the caller computes, one row per image.

The papers' features: FVA and FS take a ResNet-50 for faces (VGGFace2, fine-tuned; shorter side 224, BGR, means 91.4953, 103.8827,
131.0912), S³ the 2048 projector outputs of SimSiam's ResNet-50 (ImageNet-normalised, evaluation mode, without its predictor).
Which pairs enter differs: see ``counterfactuals.SUBSETS``.  Higher is better for all three.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from audit_plugin.statistics.counterfactuals import Share, share
from audit_plugin.statistics.intervals import Interval

SAME_FACE = 0.5
"""Two faces count as one person's when the cosine *similarity* of their features exceeds this; some code thresholds the distance."""


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """A mean cosine and its t-interval; nan limits for a single pair."""

    value: Interval
    n: int


def cosines(before: Float[np.ndarray, "n d"], after: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n"]:
    """Cosine similarity row by row, in [-1, 1].

    >>> cosines(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]])).tolist()
    [0.96]
    """
    if before.shape != after.shape or before.ndim != 2 or not before.size:
        raise ValueError(f"need one feature row per original and counterfactual, got {before.shape} and {after.shape}")
    lengths = [np.linalg.norm(rows.astype(np.float64), axis=1) for rows in (before, after)]
    if not all(np.isfinite(length).all() and (length > 0).all() for length in lengths):
        raise ValueError("features must be finite and no row all zeros: a zero row has no direction")
    return np.asarray(np.clip((before.astype(np.float64) * after).sum(1) / (lengths[0] * lengths[1]), -1, 1))


def verification(before: Float[np.ndarray, "n d"], after: Float[np.ndarray, "n d"], *, level: float = 0.95) -> Share:
    """FVA, face verification accuracy: share of pairs that count as one person."""
    return share(cosines(before, after) > SAME_FACE, level=level)


def similarity(before: Float[np.ndarray, "n d"], after: Float[np.ndarray, "n d"], *, level: float = 0.95) -> Similarity:
    """Mean cosine: FS on face features, S³ on self-supervised ones."""
    found = cosines(before, after)
    n, mean = len(found), float(found.mean())
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, got {level}")
    half = float(stdtrit(n - 1, (1 + level) / 2) * found.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return Similarity(value=Interval(mean, mean - half, mean + half), n=n)
