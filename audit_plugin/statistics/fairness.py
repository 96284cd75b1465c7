"""Group fairness of a classifier's decisions: figures from flipped pictures (interventional) and from real ones (observational).

Never mix the two families.  Decisions are booleans (True: the favourable class at the deployed threshold).  Interventional arrays
hold the same rows at level a and at level b of the protected concept; observational ones hold a group number per row.
``weights`` are resamples from :func:`bootstrap.unit_weights`; :func:`parity_gap` takes the unit of every row.  Figures with neither (Wilson,
Newcombe, Katz, t) take rows as independent, so with several rows per patient or video their intervals are too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import stdtrit

from audit_plugin.statistics.bootstrap import bootstrap
from audit_plugin.statistics.intervals import Interval, katz, newcombe, tango, wilson
from audit_plugin.statistics.signflip import mcnemar_exact

MARGINS = {"flip_rate_excess": 0.02, "parity_gap": 0.05, "odds_gap": 0.05, "disparate_impact": 0.8}
"""Default levels of concern: above, but below for disparate impact."""


@dataclass(frozen=True, kw_only=True)
class DirectedFlips:
    """Shares of rows whose decision changes from level a to level b, by direction."""

    to_favourable: Interval
    to_unfavourable: Interval
    p_symmetric: float
    """Exact McNemar test of "both directions are equally common"."""


def _counts(a: Bool[np.ndarray, "n"], b: Bool[np.ndarray, "n"]) -> tuple[int, int, int]:
    """Rows favourable at a only, at b only, and all rows."""
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise ValueError(f"both levels need the same rows, got shapes {a.shape} and {b.shape}")
    return int((a & ~b).sum()), int((b & ~a).sum()), len(a)


def flip_rate(a: Bool[np.ndarray, "n"], b: Bool[np.ndarray, "n"], *, level: float = 0.95) -> Interval:
    """Share of rows whose decision differs between the levels; Wilson."""
    only_a, only_b, n = _counts(a, b)
    return wilson(only_a + only_b, n, level=level)


def flip_rate_excess(
    flipped: Bool[np.ndarray, "n"], placebo: Bool[np.ndarray, "n"], weights: Float[np.ndarray, "B n"], *, level: float = 0.95
) -> Interval:
    """Share of decisions changed by the concept minus share changed by the placebo edit, same rows; row bootstrap."""
    difference = flipped.astype(np.float64) - placebo
    return bootstrap(lambda w: np.asarray(w @ difference / w.sum(1)), weights).interval(level)


def directed_flips(a: Bool[np.ndarray, "n"], b: Bool[np.ndarray, "n"], *, level: float = 0.95) -> DirectedFlips:
    """Flips from level a to level b, by direction; Wilson each."""
    only_a, only_b, n = _counts(a, b)
    return DirectedFlips(
        to_favourable=wilson(only_b, n, level=level),
        to_unfavourable=wilson(only_a, n, level=level),
        p_symmetric=mcnemar_exact(only_a, only_b),
    )


def parity_gap(
    a: Bool[np.ndarray, "n"],
    b: Bool[np.ndarray, "n"],
    units: Int[np.ndarray, "n"] | None = None,
    *,
    pictures: Int[np.ndarray, "n 2"] | None = None,
    level: float = 0.95,
) -> Interval:
    """Counterfactual parity gap: favourable rate at a minus at b on the same rows; Tango, over units where they have several rows.

    ``pictures`` tells which ones were shown at a and at b: a picture that stands for several rows is one piece of evidence.
    """
    difference = a.astype(np.float64) - b
    designs = [1.0 if units is None else design_effect(difference, units)]
    designs += [] if pictures is None else [shared_effect(difference, pictures)]
    return tango(*_counts(a, b), level=level, design=max(designs))


def shared_effect(values: Float[np.ndarray, "n"], pictures: Int[np.ndarray, "n 2"]) -> float:
    """As :func:`design_effect`, of rows that may share a picture at either level: two-way clusters (Cameron, Gelbach and Miller 2011).

    >>> shared_effect(np.array([1.0, 1.0, 0.0, 0.0]), np.array([[0, 4], [0, 5], [1, 6], [1, 7]]))
    2.0
    """
    first, second = (np.unique(pictures[:, side], return_inverse=True)[1] for side in (0, 1))
    both = first * (int(second.max()) + 1) + second
    apart = values - values.mean()
    if not apart.any():
        return max(design_effect(values, first), design_effect(values, second))
    once, again, twice = ((np.bincount(each, apart) ** 2).sum() for each in (first, second, both))
    return max(1.0, float((once + again - twice) / (apart**2).sum()))


def design_effect(values: Float[np.ndarray, "n"], units: Int[np.ndarray, "n"]) -> float:
    """How many times the variance of the mean over rows is that of independent rows; 1 where every row is a unit of its own.

    Squared sums of the units' deviations over squared deviations of the rows (Liang and Zeger 1986, as a ratio), and at least 1.  Where all
    values agree there is nothing to estimate, and rows of one unit count as copies (Kish 1965).

    >>> design_effect(np.array([1.0, 1.0, 0.0, 0.0]), np.array([0, 0, 1, 1])), design_effect(np.array([1.0, 0.0]), np.array([0, 1]))
    (2.0, 1.0)
    """
    members = np.unique(units, return_inverse=True)[1]
    sizes = np.bincount(members)
    if sizes.max() == 1:
        return 1.0
    apart = values - values.mean()
    if not apart.any():
        return float((sizes**2).sum() / sizes.sum())
    return max(1.0, float((np.bincount(members, apart) ** 2).sum() / (apart**2).sum()))


def odds_gap(
    a: Bool[np.ndarray, "n"],
    b: Bool[np.ndarray, "n"],
    positive: Bool[np.ndarray, "n"],
    weights: Float[np.ndarray, "B n"],
    units: Int[np.ndarray, "n"] | None = None,
    *,
    level: float = 0.95,
) -> Interval:
    """Counterfactual odds gap: the larger |parity gap| of the positive and of the negative rows; row bootstrap.

    Where units have several rows they are fewer than a percentile interval of a maximum needs (chance alone lifts it): there the two gaps are
    bounded over units, with Bonferroni, and the limits are those of the larger.
    """
    if units is not None and len(np.unique(units)) < len(units):
        return _largest(
            [parity_gap(a[side], b[side], units[side], level=(1 + level) / 2) for side in (positive, ~positive) if side.any()]
        )
    difference = a.astype(np.float64) - b
    return bootstrap(lambda w: _largest_gap(difference, positive, w), weights).interval(level)


def _largest(gaps: Sequence[Interval]) -> Interval:
    """The largest absolute gap, from intervals that hold all at once."""
    return Interval(
        max(abs(gap.value) for gap in gaps),
        max(max(gap.low, -gap.high, 0.0) for gap in gaps),
        max(max(gap.high, -gap.low) for gap in gaps),
    )


def _largest_gap(
    difference: Float[np.ndarray, "n"], positive: Bool[np.ndarray, "n"], weights: Float[np.ndarray, "B n"]
) -> Float[np.ndarray, "B"]:
    gaps = group_rates(difference, positive.astype(np.int64), weights)
    known = np.isfinite(gaps)
    worst = np.where(known, np.abs(gaps), -np.inf).max(1)
    return np.asarray(np.where(known.any(1), worst, np.nan))


def score_shift(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"], *, level: float = 0.95) -> Interval:
    """Causal concept effect (Goyal et al. 2019): mean score at a minus at b, same rows; paired t."""
    difference = a - b
    if difference.ndim != 1 or len(difference) < 2:
        raise ValueError("a paired t interval needs at least two rows")
    half = float(stdtrit(len(difference) - 1, (1 + level) / 2) * difference.std(ddof=1) / np.sqrt(len(difference)))
    value = float(difference.mean())
    return Interval(value, value - half, value + half)


def fair_share(scores: Float[np.ndarray, "n K"], *, tolerance: float = 0.05, level: float = 0.95) -> Interval:
    """Share of rows whose score moves less than ``tolerance`` over all levels; Wilson."""
    return wilson(int((np.ptp(scores, axis=1) < tolerance).sum()), len(scores), level=level)


def group_rates(
    values: Float[np.ndarray, "n"] | Bool[np.ndarray, "n"], groups: Int[np.ndarray, "n"], weights: Float[np.ndarray, "B n"]
) -> Float[np.ndarray, "B G"]:
    """Weighted mean of values in each group (sorted group numbers), for every row of weights; nan in an empty group."""
    member = (groups[:, None] == np.unique(groups)).astype(np.float64)
    total = weights @ member
    return np.asarray(np.divide(weights @ (member * values[:, None]), total, out=np.full(total.shape, np.nan), where=total > 0))


def _spread(rates: Float[np.ndarray, "B G"]) -> Float[np.ndarray, "B"]:
    """Largest minus smallest rate over the groups that are not empty; nan with fewer than two."""
    known = np.isfinite(rates)
    spread = np.where(known, rates, -np.inf).max(1) - np.where(known, rates, np.inf).min(1)
    return np.asarray(np.where(known.sum(1) >= 2, spread, np.nan))


def statistical_parity(a: Bool[np.ndarray, "n"], b: Bool[np.ndarray, "m"], *, level: float = 0.95) -> Interval:
    """Favourable rate of group a's rows minus that of group b's (different rows); Newcombe."""
    return newcombe(int(a.sum()), len(a), int(b.sum()), len(b), level=level)


def disparate_impact(a: Bool[np.ndarray, "n"], b: Bool[np.ndarray, "m"], *, level: float = 0.95) -> Interval:
    """Smaller favourable rate over the larger one (different rows); Katz.  Below 0.8 is of concern."""
    less, more = sorted((a, b), key=lambda group: float(group.mean()))
    return katz(int(less.sum()), len(less), int(more.sum()), len(more), level=level)


def equal_opportunity(
    decisions: Bool[np.ndarray, "n"],
    positive: Bool[np.ndarray, "n"],
    groups: Int[np.ndarray, "n"],
    weights: Float[np.ndarray, "B n"],
    *,
    level: float = 0.95,
) -> Interval:
    """Largest minus smallest true-positive rate; Newcombe with two groups, row bootstrap with more."""
    names = np.unique(groups[positive])
    if len(names) < 2 or len(names) != len(np.unique(groups)):
        raise ValueError("every group, and at least two of them, must have positive rows")
    if len(names) > 2:
        return bootstrap(lambda w: _rate_spread(decisions, positive, groups, w), weights).interval(level)
    low, high = sorted((decisions[positive & (groups == name)] for name in names), key=lambda group: float(group.mean()))
    return statistical_parity(high, low, level=level)


def _rate_spread(
    decisions: Bool[np.ndarray, "n"], rows: Bool[np.ndarray, "n"], groups: Int[np.ndarray, "n"], weights: Float[np.ndarray, "B n"]
) -> Float[np.ndarray, "B"]:
    return _spread(group_rates(decisions[rows], groups[rows], weights[:, rows]))


def equalised_odds(
    decisions: Bool[np.ndarray, "n"],
    positive: Bool[np.ndarray, "n"],
    groups: Int[np.ndarray, "n"],
    weights: Float[np.ndarray, "B n"],
    *,
    mean: bool = False,
    level: float = 0.95,
) -> Interval:
    """Spread of true-positive and of false-positive rates over groups, the larger (or the ``mean``) of the two; row bootstrap."""

    def statistic(w: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B"]:
        spreads = [_rate_spread(decisions, rows, groups, w) for rows in (positive, ~positive)]
        return np.asarray((spreads[0] + spreads[1]) / 2 if mean else np.maximum(*spreads))

    return bootstrap(statistic, weights).interval(level)
