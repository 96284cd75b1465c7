"""Tests of "no effect" on paired rows: sign flips, exact McNemar, the one-sided margin test, and an interval for few changes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import bdtr, ndtr

from audit_plugin.statistics.intervals import Interval, clopper_pearson

EXACT_UP_TO = 20
"""Non-zero observations up to which all sign patterns are enumerated."""
FEW_DISCORDANT = 20
"""Below this many changed rows :func:`sparse_interval` takes the place of the normal or bootstrap interval, or holds it; see :func:`few_changed`."""
CHUNK_SIGNS = 2_000_000


@dataclass(frozen=True, kw_only=True)
class SignFlip:
    """Outcome of a sign-flip test."""

    p: float
    """Two-sided p-value."""
    statistic: float
    """Mean contribution over all rows."""
    exact: bool
    """Whether all sign patterns were enumerated."""
    nonzero: int
    """Observations (units) that are not zero; the test rests on these alone."""


def sign_flip(
    contributions: Float[np.ndarray, "n"],
    rng: np.random.Generator,
    *,
    rounds: int = 9_999,
    units: Int[np.ndarray, "n"] | None = None,
) -> SignFlip:
    """Two-sided sign-flip (paired permutation) test of mean 0.

    p = (1 + #{|T*| >= |T|})/(rounds + 1), or the share over all patterns when at most 20 observations are non-zero.
    Rows of one unit keep a common sign.  Valid because under "no effect" both arms are exchangeable within a row.
    """
    if not np.isfinite(contributions).all() or len(contributions) == 0:
        raise ValueError("contributions must be finite and not empty")
    sums = contributions if units is None else np.bincount(np.unique(units, return_inverse=True)[1], weights=contributions)
    x = sums[sums != 0]
    exact = len(x) <= EXACT_UP_TO
    p = _exact_p(x) if exact else _random_p(x, rng, rounds)
    return SignFlip(p=p, statistic=float(contributions.mean()), exact=exact, nonzero=len(x))


def _at_least(totals: Float[np.ndarray, "r"], x: Float[np.ndarray, "m"]) -> int:
    """How many totals are as far from 0 as the observed one, up to rounding."""
    return int((np.abs(totals) >= abs(x.sum()) - 1e-12 * np.abs(x).sum()).sum())


def _exact_p(x: Float[np.ndarray, "m"]) -> float:
    totals = np.zeros(1)
    for value in x:
        totals = np.concatenate([totals + value, totals - value])
    return _at_least(totals, x) / len(totals)


def _random_p(x: Float[np.ndarray, "m"], rng: np.random.Generator, rounds: int) -> float:
    step = max(1, CHUNK_SIGNS // len(x))
    hits = 0
    for start in range(0, rounds, step):
        signs = rng.integers(0, 2, size=(min(step, rounds - start), len(x)), dtype=np.int8)
        hits += _at_least(2 * (signs @ x) - x.sum(), x)
    return (1 + hits) / (rounds + 1)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact McNemar test from the discordant counts: binomial with p = 1/2; 1 without discordant rows.

    >>> round(mcnemar_exact(1, 7), 4)
    0.0703
    """
    if min(only_a, only_b) < 0:
        raise ValueError(f"counts are not negative, got {only_a} and {only_b}")
    return float(min(1.0, 2 * bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def margin_test(value: float, se: float, margin: float) -> float:
    """One-sided p-value of "the effect is at most margin", normal approximation.

    >>> round(margin_test(0.05, 0.01, 0.02), 4)
    0.0013
    """
    if not se >= 0:
        raise ValueError(f"a standard error is not negative, got {se}")
    if se == 0:
        return 0.0 if value > margin else 1.0
    return float(ndtr((margin - value) / se))


def few_changed(contributions: Float[np.ndarray, "n"], units: Int[np.ndarray, "n"] | None = None) -> bool:
    """Whether so few rows contribute anything that a normal or bootstrap interval is too narrow; or so few units, by the sums of their rows,
    and at most half of all: where most of a dozen units change, how they differ is what matters, and a sparse interval knows nothing of it.
    """
    rows = int((contributions != 0).sum())
    if units is None or rows < FEW_DISCORDANT:
        return rows < FEW_DISCORDANT
    sums = _unit_sums(contributions, units)
    few = int((sums != 0).sum())
    return few < FEW_DISCORDANT and 2 * few <= len(sums)


def few_said(contributions: Float[np.ndarray, "n"], units: Int[np.ndarray, "n"]) -> str:
    """In words, how few."""
    rows = int((contributions != 0).sum())
    if rows < FEW_DISCORDANT:
        return f"only {rows} rows"
    return f"only {int((_unit_sums(contributions, units) != 0).sum())} units, by the sums of their rows,"


def _unit_sums(contributions: Float[np.ndarray, "n"], units: Int[np.ndarray, "n"]) -> Float[np.ndarray, "u"]:
    """What cancels but for rounding is none."""
    number = np.unique(units, return_inverse=True)[1]
    sums, sizes = (np.bincount(number, weights=x) for x in (contributions, np.abs(contributions)))
    return np.where(np.abs(sums) > 1e-12 * sizes, sums, 0.0)


def sparse_interval(
    contributions: Float[np.ndarray, "n"], *, bound: float, level: float = 0.95, units: Int[np.ndarray, "n"] | None = None
) -> Interval:
    """Interval for the mean contribution when few rows changed, from exact intervals of the shares that rose and fell.

    Rows of one unit count as one observation, of their sum; outwards a unit counts no less than one of average size of which all rows move.

    Mean = π₊m₊ − π₋m₋.  Each share gets a Clopper-Pearson interval at half the error (Bonferroni); the mean sizes m of rises and
    falls are taken as observed, and as ``bound`` (the largest possible) where none was seen.  Exact when all sizes are equal.
    """
    n, inner = len(contributions), 1 - (1 - level) / 2
    if n == 0 or not (np.abs(contributions) <= bound * (1 + 1e-9)).all():
        raise ValueError(f"contributions must be {n} > 0 values within ±{bound}")
    largest = [float(side.mean()) if len(side) else 0.0 for side in _sides(contributions)]
    if units is not None:
        rows = np.unique(units, return_counts=True)[1]
        n, bound = len(rows), bound * float(rows.max()) * len(rows) / n
        contributions = _unit_sums(contributions, units) * n / len(contributions)
    rises, falls = _sides(contributions)
    up, down = (clopper_pearson(len(side), n, level=inner) for side in (rises, falls))
    (up_least, up_most), (down_least, down_most) = (
        (float(side.mean()), max(float(side.mean()), alone)) if len(side) else (bound, bound)
        for side, alone in zip((rises, falls), largest, strict=True)
    )
    return Interval(
        float(contributions.mean()), up.low * up_least - down.high * down_most, up.high * up_most - down.low * down_least
    )


def sparse_limits(
    contributions: Float[np.ndarray, "n"], units: Int[np.ndarray, "n"], ordinary: tuple[Interval, Interval], *, bound: float
) -> tuple[Interval, Interval]:
    """95 % and 90 % :func:`sparse_interval` in place of the ``ordinary`` ones; of units with several rows they hold those as well, for what
    changes in a unit differs from one to the next.
    """
    sparse = [sparse_interval(contributions, bound=bound, level=level, units=units) for level in (0.95, 0.90)]
    wide, narrow = (Interval(usual.value, one.low, one.high) for one, usual in zip(sparse, ordinary, strict=True))
    return (wide, narrow) if len(np.unique(units)) == len(units) else (wide.holding(ordinary[0]), narrow.holding(ordinary[1]))


def _sides(x: Float[np.ndarray, "n"]) -> tuple[Float[np.ndarray, "r"], Float[np.ndarray, "f"]]:
    """By how much what rose rose, and what fell fell."""
    return x[x > 0], -x[x < 0]
