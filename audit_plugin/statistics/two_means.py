"""Difference of the means of two groups whose variances may differ (Welch 1947)."""

import math

import numpy as np
from jaxtyping import Float
from scipy.special import stdtr, stdtrit

from audit_plugin.statistics.intervals import Interval


def welch(one: Float[np.ndarray, "n"], other: Float[np.ndarray, "m"], *, level: float = 0.95) -> tuple[Interval, float]:
    """Mean of the first minus mean of the second with its interval, and the two-sided p-value of no difference.

    Degrees of freedom after Satterthwaite.  Raises ValueError below two values in a group.

    >>> interval, p = welch(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    >>> (interval.value, p)
    (0.0, 1.0)
    """
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, got {level}")
    if min(len(one), len(other)) < 2:
        raise ValueError(f"a difference of means needs two values in each group, got {len(one)} and {len(other)}")
    difference = float(one.mean() - other.mean())
    parts = float(one.var(ddof=1)) / len(one), float(other.var(ddof=1)) / len(other)
    se2 = sum(parts)
    if se2 == 0:
        return Interval(difference, difference, difference), 1.0 if difference == 0 else 0.0
    df = se2**2 / (parts[0] ** 2 / (len(one) - 1) + parts[1] ** 2 / (len(other) - 1))
    half = float(stdtrit(df, (1 + level) / 2)) * math.sqrt(se2)
    p = 2 * float(stdtr(df, -abs(difference) / math.sqrt(se2)))
    return Interval(difference, difference - half, difference + half), p
