"""From two estimates of one quantity to their difference, its test against a margin, and one word."""

import math
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from audit_plugin.statistics.intervals import Interval, z_value

Side = Literal["above", "below", "within", "open"]


def unpaired_difference(first: Interval, second: Interval) -> Interval:
    """Second minus first from two independent 95 % intervals (Zou and Donner 2008: recovered variances; Newcombe's method 10 in general).

    >>> found = unpaired_difference(Interval(0.1, 0.07, 0.13), Interval(0.2, 0.16, 0.24))
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.1, 0.05, 0.15)
    """
    value = second.value - first.value
    down = math.hypot(second.value - second.low, first.high - first.value)
    up = math.hypot(second.high - second.value, first.value - first.low)
    return Interval(value, value - down, value + up)


def narrowed(wide: Interval, *, level: float = 0.90) -> Interval:
    """The interval of a lower level from a 95 % one, as if each side were normal."""
    share = z_value(level) / z_value(0.95)
    return Interval(wide.value, wide.value - share * (wide.value - wide.low), wide.value + share * (wide.high - wide.value))


def normal_outside_p(wide: Interval, margin: float) -> float:
    """Two-sided p of "the difference is within ±margin", the standard error taken from a 95 % interval's side towards zero.

    >>> normal_outside_p(Interval(0.05, 0.03, 0.07), 0.02) < 0.01
    True
    """
    towards_zero = wide.value - wide.low if wide.value > 0 else wide.high - wide.value
    beyond = abs(wide.value) - margin
    if towards_zero <= 0:
        return 0.0 if beyond > 0 else 1.0
    return float(min(1.0, 2 * ndtr(-beyond / (towards_zero / z_value(0.95)))))


def outside_p(samples: Float[np.ndarray, "B"], margin: float) -> float:
    """The same from resamples of the difference: twice the smaller share on the near side of +margin or beyond -margin, plus one.

    1 where nothing is known.
    """
    known = samples[np.isfinite(samples)]
    if not len(known):
        return 1.0
    up, down = (known <= margin).sum(), (known >= -margin).sum()
    return float(min(1.0, 2 * (1 + min(up, down)) / (len(known) + 1)))


def side(wide: Interval, narrow: Interval, *, margin: float, adjusted_p: float, alpha: float = 0.05) -> Side:
    """Where a difference lies: its 95 % interval beyond the margin (and significant), its 90 % interval within, or neither.

    >>> side(Interval(0.05, 0.03, 0.07), Interval(0.05, 0.035, 0.065), margin=0.02, adjusted_p=0.01)
    'above'
    """
    if adjusted_p < alpha and wide.low > margin:
        return "above"
    if adjusted_p < alpha and wide.high < -margin:
        return "below"
    return "within" if narrow.inside(margin) else "open"
