"""Difference of two shares on the same images, where each image may count in part (several seeds, several placebos)."""

import math

import numpy as np
from jaxtyping import Float

from audit_plugin.statistics.intervals import Interval, wilson


def newcombe_paired(first: Float[np.ndarray, "n"], second: Float[np.ndarray, "n"], *, level: float = 0.95) -> Interval:
    """Hybrid score interval for the mean of first minus that of second (Newcombe 1998, paired data, method 10).

    Values in [0, 1]; a value between counts as so much of a hit, and the two are taken as independent within an image.
    Raises ValueError on anything else.

    >>> a, b = np.r_[np.ones(8), np.zeros(12)], np.r_[np.ones(1), np.zeros(19)]
    >>> interval = newcombe_paired(a, b)
    >>> round(interval.value, 2), interval.low > 0
    (0.35, True)
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"need two equally long lists of shares, got shapes {first.shape} and {second.shape}")
    if not ((first >= 0) & (first <= 1) & (second >= 0) & (second <= 1)).all():
        raise ValueError("shares must lie in [0, 1]")
    n = len(first)
    a, b = wilson(float(first.sum()), n, level=level), wilson(float(second.sum()), n, level=level)
    phi = _correlation(first, second)
    down, up = _spread(a.value - a.low, b.high - b.value, phi), _spread(a.high - a.value, b.value - b.low, phi)
    return Interval(a.value - b.value, max(-1.0, a.value - b.value - down), min(1.0, a.value - b.value + up))


def _spread(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


def _correlation(first: Float[np.ndarray, "n"], second: Float[np.ndarray, "n"]) -> float:
    """Continuity-corrected φ of the 2 x 2 table of pairs; 0 where a margin is empty."""
    n = len(first)
    both, neither = float((first * second).sum()), float(((1 - first) * (1 - second)).sum())
    only_a, only_b = float((first * (1 - second)).sum()), float(((1 - first) * second).sum())
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if margins <= 0:
        return 0.0
    product = both * neither - only_a * only_b
    if product > 0:
        product = max(product - n / 2, 0.0)
    return product / math.sqrt(margins)
