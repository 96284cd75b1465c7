"""Row bootstrap: units (patients, videos, products) are resampled, a resampled row carries its baseline and all its flips.

A resample is a row of integer weights, so that a statistic which accepts a weight matrix ``(B, n)`` is bootstrapped in one call,
and several concepts use the same resamples (which rank intervals need).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from audit_plugin.statistics.intervals import Interval, z_value

CHUNK_CELLS = 1_000_000
"""Weights handed to a statistic at a time; bounds its memory."""

Statistic = Callable[[Float[np.ndarray, "B n"]], Float[np.ndarray, "B"]]


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """A statistic on the data and on its resamples; draws where it is undefined are nan and left out of every summary."""

    value: float
    samples: Float[np.ndarray, "B"]

    @property
    def known(self) -> Float[np.ndarray, "b"]:
        """The draws in which the statistic is defined."""
        return np.asarray(self.samples[np.isfinite(self.samples)])

    @property
    def se(self) -> float:
        """Standard deviation over the resamples; nan with fewer than two."""
        return float(self.known.std(ddof=1)) if len(self.known) > 1 else float("nan")

    def interval(self, level: float = 0.95) -> Interval:
        """Percentile interval around the value on the data."""
        return percentile_interval(self.value, self.samples, level=level)


@dataclass(frozen=True)
class RankInterval:
    """Where a concept stands among the others; 1 is the largest importance."""

    low: int
    high: int
    p_first: float
    """Share of resamples in which it ranks first, in [0, 1]."""


def unit_weights(units: Int[np.ndarray, "n"], draws: int, rng: np.random.Generator) -> Float[np.ndarray, "B n"]:
    """How often each row occurs in each of ``draws`` resamples of whole units; ``np.arange(n)`` resamples rows.

    Integer counts as floats; a row of the result sums to n when all units have one size.
    """
    codes = np.unique(units, return_inverse=True)[1]
    count = int(codes.max()) + 1
    if draws < 1 or count < 2:
        raise ValueError(f"a bootstrap needs at least one draw and two units, got draws={draws}, units={count}")
    counts = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    return np.asarray(counts[:, codes], dtype=np.float64)


def bootstrap(statistic: Statistic, weights: Float[np.ndarray, "B n"]) -> Bootstrap:
    """The statistic on the data (all weights 1) and on every resample, a few resamples at a time."""
    draws, n = weights.shape
    step = max(1, CHUNK_CELLS // n)
    samples = [statistic(weights[start : start + step]) for start in range(0, draws, step)]
    return Bootstrap(value=float(statistic(np.ones((1, n)))[0]), samples=np.concatenate(samples))


def percentile_interval(value: float, samples: Float[np.ndarray, "B"], *, level: float = 0.95) -> Interval:
    """Percentile interval over the finite samples; nan limits when there is none."""
    z_value(level)
    known = samples[np.isfinite(samples)]
    if not len(known):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def margin_p(samples: Float[np.ndarray, "B"], margin: float) -> float:
    """One-sided bootstrap p-value of "the statistic is at most margin": (1 + #{sample <= margin}) / (B + 1)."""
    known = samples[np.isfinite(samples)]
    return float((1 + (known <= margin).sum()) / (len(known) + 1))


def rank_intervals(samples: Float[np.ndarray, "B J"], *, level: float = 0.95) -> tuple[RankInterval, ...]:
    """Rank interval and P(rank = 1) of J concepts from their importances on the same resamples.

    Ties share their mean rank, and first place equally; limits are rounded outwards.
    """
    if samples.ndim != 2 or not np.isfinite(samples).all():
        raise ValueError("rank intervals need a finite (B, J) matrix of resampled importances")
    above = (samples[:, None, :] > samples[:, :, None]).sum(2)
    ties = (samples[:, None, :] == samples[:, :, None]).sum(2)
    ranks = above + (ties + 1) / 2
    lows, highs = np.quantile(ranks, [(1 - level) / 2, (1 + level) / 2], axis=0)
    first = ((above == 0) / ties).mean(0)
    return tuple(
        RankInterval(int(np.floor(low)), int(np.ceil(high)), float(p)) for low, high, p in zip(lows, highs, first, strict=True)
    )
