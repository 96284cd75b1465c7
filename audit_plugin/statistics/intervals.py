"""Confidence intervals for proportions, their differences and ratios.  Two-sided, ``level`` 0.95 unless said otherwise."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.special import betaincinv, ndtri


@dataclass(frozen=True)
class Interval:
    """A number with its confidence limits."""

    value: float
    low: float
    high: float

    def inside(self, margin: float) -> bool:
        """Whether both limits lie strictly within ±margin."""
        return -margin < self.low and self.high < margin

    def reaching(self, least: float) -> "Interval":
        """Limits that lie at least ``least`` >= 0 from the value, each on its side; those further off, and undefined ones, stay.

        >>> Interval(0.1, 0.0, 0.125).reaching(0.0625)
        Interval(value=0.1, low=0.0, high=0.1625)
        """
        if not least >= 0:
            raise ValueError(f"an interval reaches a number >= 0 to either side, got {least}")
        if least == 0 or not math.isfinite(self.low + self.high):  # where nothing is asked, percentile limits may exclude the value
            return self
        return Interval(self.value, min(self.low, self.value - least), max(self.high, self.value + least))

    def holding(self, other: "Interval") -> "Interval":
        """With limits that hold those of ``other`` as well; the value stays."""
        return Interval(self.value, min(self.low, other.low), max(self.high, other.high))

    def __neg__(self) -> "Interval":
        return Interval(-self.value, -self.high, -self.low)


def z_value(level: float) -> float:
    """Two-sided normal quantile of a confidence level.

    >>> round(z_value(0.95), 3)
    1.96
    """
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, got {level}")
    return float(ndtri((1 + level) / 2))


def _check(hits: float, n: float) -> None:
    if n <= 0 or not 0 <= hits <= n:
        raise ValueError(f"need 0 <= hits <= n and n > 0, got hits={hits}, n={n}")


def normal(value: float, se: float, *, level: float = 0.95) -> Interval:
    """Wald interval: value ± z·se."""
    if not se >= 0:
        raise ValueError(f"a standard error is not negative, got {se}")
    half = z_value(level) * se
    return Interval(value, value - half, value + half)


def wilson(hits: float, n: float, *, level: float = 0.95) -> Interval:
    """Wilson (1927) score interval for a proportion.

    >>> [round(v, 3) for v in (wilson(8, 10).low, wilson(8, 10).high)]
    [0.49, 0.943]
    """
    _check(hits, n)
    p, z = hits / n, z_value(level)
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, 0.0 if hits == 0 else max(0.0, middle - half), 1.0 if hits == n else min(1.0, middle + half))


def clopper_pearson(hits: int, n: int, *, level: float = 0.95) -> Interval:
    """Clopper and Pearson (1934) exact interval for a proportion; covers at least ``level`` for every n.

    >>> [round(v, 4) for v in (clopper_pearson(0, 10).low, clopper_pearson(0, 10).high)]
    [0.0, 0.3085]
    """
    _check(hits, n)
    z_value(level)
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits == n else float(betaincinv(hits + 1, n - hits, 1 - tail))
    return Interval(hits / n, low, high)


def newcombe(hits_a: int, n_a: int, hits_b: int, n_b: int, *, level: float = 0.95) -> Interval:
    """Hybrid score interval for p_a − p_b of independent groups (Newcombe 1998, method 10).

    >>> newcombe(56, 70, 48, 80).low > 0
    True
    """
    a, b = wilson(hits_a, n_a, level=level), wilson(hits_b, n_b, level=level)
    difference = a.value - b.value
    down = math.hypot(a.value - a.low, b.high - b.value)
    up = math.hypot(a.high - a.value, b.value - b.low)
    return Interval(difference, difference - down, difference + up)


def katz(hits_a: float, n_a: float, hits_b: float, n_b: float, *, level: float = 0.95) -> Interval:
    """Log interval for the ratio p_a / p_b of independent groups (Katz et al. 1978).

    When one of the four cells (hit or miss, either group) is empty, 0.5 is added to all four, for the value as well.
    """
    _check(hits_a, n_a)
    _check(hits_b, n_b)
    if 0 in {hits_a, hits_b, n_a - hits_a, n_b - hits_b}:
        hits_a, n_a, hits_b, n_b = hits_a + 0.5, n_a + 1, hits_b + 0.5, n_b + 1
    p_a, p_b = hits_a / n_a, hits_b / n_b
    half = z_value(level) * math.sqrt((1 - p_a) / (n_a * p_a) + (1 - p_b) / (n_b * p_b))
    ratio = p_a / p_b
    return Interval(ratio, ratio * math.exp(-half), ratio * math.exp(half))


def _check_pairs(only_a: int, only_b: int, n: int) -> None:
    if n <= 0 or min(only_a, only_b) < 0 or only_a + only_b > n:
        raise ValueError(f"need only_a, only_b >= 0 and only_a + only_b <= n, got {only_a}, {only_b}, n={n}")


def paired_difference(only_a: int, only_b: int, n: int, *, level: float = 0.95) -> Interval:
    """Wald interval for p_a − p_b on the same n rows, from the two discordant counts.

    SE² = (b + c − (b − c)²/n) / n²; zero width without discordant rows, so prefer :func:`tango` when they are few.
    """
    _check_pairs(only_a, only_b, n)
    difference = (only_a - only_b) / n
    variance = (only_a + only_b - (only_a - only_b) ** 2 / n) / n**2
    return normal(difference, math.sqrt(max(0.0, variance)), level=level)


def tango(only_a: int, only_b: int, n: int, *, level: float = 0.95, design: float = 1.0) -> Interval:
    """Score interval for p_a − p_b on the same n rows (Tango 1998), from the two discordant counts.

    ``design`` is the design effect of rows that are no independent units: how many times the variance of the difference is that of as many
    independent rows.  It widens the score's variance, as if there were n/design rows with the same shares.

    >>> interval = tango(1, 7, 21)
    >>> [round(v, 3) for v in (interval.low, interval.high)]
    [-0.517, -0.026]
    """
    _check_pairs(only_a, only_b, n)
    z, difference = z_value(level) * math.sqrt(design), (only_a - only_b) / n
    low = -1.0 if only_b == n else _root(lambda d: _tango_score(only_a, only_b, n, d) - z, -1.0, difference)
    high = 1.0 if only_a == n else _root(lambda d: _tango_score(only_a, only_b, n, d) + z, difference, 1.0)
    return Interval(difference, low, high)


def _tango_score(b: int, c: int, n: int, delta: float) -> float:
    """Standardised distance of the observed difference from delta, variance at the constrained optimum.  Falls in delta."""
    linear = -b - c + (2 * n - b + c) * delta
    constant = -c * delta * (1 - delta)
    q = (math.sqrt(max(0.0, linear * linear - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    return (b - c - n * delta) / math.sqrt(max(variance, 1e-300))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses zero strictly inside (low, high)."""
    from scipy.optimize import brentq

    edge = 1e-12
    return float(brentq(function, low + edge, high - edge, xtol=1e-13))
