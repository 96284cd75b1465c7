"""Mean of one number per image: studentised bootstrap, Student's interval, sign flips of many means at once, equivalence.

The image is the sampling unit: whoever has several seeds per image averages them first.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from audit_plugin.statistics.bootstrap import unit_weights
from audit_plugin.statistics.intervals import Interval
from audit_plugin.statistics.signflip import CHUNK_SIGNS, sign_flip

FEWEST_FOR_BOOTSTRAP = 32
"""Images from which on the studentised bootstrap takes the place of Student's interval."""
SE_FLOOR = 0.25
"""Smallest standard error of a resample, in those of the data: where few images respond, a resample without any would have none."""


@dataclass(frozen=True, kw_only=True)
class MeanIntervals:
    """A mean with its interval, and the narrower one that a test of equivalence reads (two one-sided tests)."""

    interval: Interval
    equivalence: Interval
    """Of level 1 - 2 alpha."""
    low_n: bool
    """Too few images for the bootstrap; never alert on it."""


def student_interval(values: Float[np.ndarray, "n"], *, level: float = 0.95) -> Interval:
    """Mean ± t·sd/√n.  Raises ValueError below two values.

    >>> interval = student_interval(np.array([1.0, 2.0, 3.0]))
    >>> round(interval.low, 3), round(interval.high, 3)
    (-0.484, 4.484)
    """
    _check(level)
    if len(values) < 2:
        raise ValueError(f"an interval of a mean needs two values, got {len(values)}")
    half = float(stdtrit(len(values) - 1, (1 + level) / 2)) * _se(values)
    return Interval(float(values.mean()), float(values.mean()) - half, float(values.mean()) + half)


def studentised(values: Float[np.ndarray, "n"], weights: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B"]:
    """t* = (mean* - mean)/se* of every resample, se* at least :data:`SE_FLOOR` of the data's; zeros where values do not vary."""
    n, se = len(values), _se(values)
    if se == 0:
        return np.zeros(len(weights))
    centred = values - values.mean()
    means = weights @ centred / n
    variances = (weights @ (centred * centred) / n - means**2) * n / (n - 1)
    return np.asarray(means / np.maximum(np.sqrt(np.maximum(variances, 0) / n), SE_FLOOR * se))


def bootstrap_t(values: Float[np.ndarray, "n"], weights: Float[np.ndarray, "B n"], *, level: float = 0.95) -> Interval:
    """Studentised bootstrap interval of a mean (Efron and Tibshirani 1993, 12.5): mean - t*_high·se to mean - t*_low·se."""
    _check(level)
    low, high = np.quantile(studentised(values, weights), [(1 - level) / 2, (1 + level) / 2])
    mean, se = float(values.mean()), _se(values)
    return Interval(mean, mean - float(high) * se, mean - float(low) * se)


def mean_intervals(
    values: Float[np.ndarray, "n"], rng: np.random.Generator, *, draws: int = 2_000, alpha: float = 0.05
) -> MeanIntervals:
    """Interval of level 1 - alpha and of 1 - 2 alpha: bootstrap-t from 32 images on, Student's below, flagged ``low_n``."""
    levels = (1 - alpha, 1 - 2 * alpha)
    if len(values) < FEWEST_FOR_BOOTSTRAP:
        wide, narrow = (student_interval(values, level=level) for level in levels)
        return MeanIntervals(interval=wide, equivalence=narrow, low_n=True)
    weights = unit_weights(np.arange(len(values)), draws, rng)
    wide, narrow = (bootstrap_t(values, weights, level=level) for level in levels)
    return MeanIntervals(interval=wide, equivalence=narrow, low_n=False)


def sign_flips(
    values: Float[np.ndarray, "K n"], rng: np.random.Generator, *, rounds: int = 9_999, exact_up_to: int = 14
) -> Float[np.ndarray, "K"]:
    """Two-sided sign-flip p-value of "mean 0" for every row; nan is missing, and a row without values has p = 1.

    All rows share the random signs, which leaves each p-value valid; rows of at most ``exact_up_to`` values are enumerated.
    """
    known = np.isfinite(values)
    x = np.where(known, values, 0.0)
    few = (x != 0).sum(1) <= exact_up_to
    p = np.ones(len(x))
    p[few] = [sign_flip(row, rng).p for row in x[few]]
    if not few.all():
        p[~few] = _random_p(x[~few], rng, rounds)
    return p


def _random_p(x: Float[np.ndarray, "K n"], rng: np.random.Generator, rounds: int) -> Float[np.ndarray, "K"]:
    edge = np.abs(x.sum(1)) - 1e-12 * np.abs(x).sum(1)
    hits, step = np.zeros(len(x)), max(1, CHUNK_SIGNS // max(x.shape))
    for start in range(0, rounds, step):
        signs = 2.0 * rng.integers(0, 2, size=(min(step, rounds - start), x.shape[1]), dtype=np.int8) - 1
        hits += (np.abs(signs @ x.T) >= edge).sum(0)
    return np.asarray((1 + hits) / (rounds + 1))


def _check(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, got {level}")


def _se(values: Float[np.ndarray, "n"]) -> float:
    """Of the mean; exactly 0 where the values do not vary beyond rounding."""
    spread = float(values.std(ddof=1))
    return 0.0 if spread <= 1e-12 * float(np.abs(values).max()) else spread / float(np.sqrt(len(values)))
