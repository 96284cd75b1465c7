"""Whether a stand-in answers like the deployed model: measured before it is used, refused below a bound."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.errors import GradientError

Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of two classifiers on the same pictures."""

    images: int
    top1: float
    """Share of pictures whose likeliest class is one of the other's likeliest."""
    worst: float
    """Largest absolute difference of a probability."""
    correlation: float
    """Least, over classes, of the Spearman correlation of log-odds; nan where a class never varies."""

    def __str__(self) -> str:
        return f"same class on {self.top1:.1%} of {self.images} images, probabilities within {self.worst:.2g}"


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Least agreement with which a stand-in is used."""

    top1: float
    worst: float
    """Largest difference of a probability that is still called the same model."""

    def check(self, found: Agreement, what: str) -> None:
        """Raise GradientError, saying both numbers, for a stand-in that is another model."""
        if found.images == 0:
            raise GradientError(f"the {what} was compared on no image; give images")
        if found.top1 < self.top1 or not found.worst <= self.worst:
            raise GradientError(
                f"the {what} is not the deployed model: {found} (needed: {self.top1:.1%} and {self.worst:.2g}); give the file that the "
                "server runs, and the same `preprocess` and `activation` as its clients use"
            )


SAME = Bound(top1=0.995, worst=1e-3)
"""A float32 engine against a float32 copy."""
QUANTISED = Bound(top1=0.995, worst=2e-2)
"""An FP16 or INT8 engine against a float32 copy."""


def agreement(ours: Scores, theirs: Scores) -> Agreement:
    """Of probabilities (n, k), row by row."""
    if ours.shape != theirs.shape:
        raise GradientError(
            f"the stand-in answers {ours.shape[1:]} scores per image, the server {theirs.shape[1:]}; they are different models"
        )
    if not len(ours):
        return Agreement(images=0, top1=0.0, worst=float("inf"), correlation=float("nan"))
    first = theirs[np.arange(len(ours)), ours.argmax(1)] == theirs.max(1)  # rounding makes ties of the likeliest two
    same = float(first.mean())
    return Agreement(images=len(ours), top1=same, worst=float(np.abs(ours - theirs).max()), correlation=_correlation(ours, theirs))


def _correlation(ours: Scores, theirs: Scores) -> float:
    from scipy.stats import spearmanr

    found = [float(spearmanr(a, b).statistic) for a, b in zip(ours.T, theirs.T, strict=True) if np.ptp(a) > 0 and np.ptp(b) > 0]
    return min(found, default=float("nan"))
