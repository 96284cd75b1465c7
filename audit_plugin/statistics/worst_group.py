"""Accuracy of the worst group (label × protected level), observational, and how far it lies below the average."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from audit_plugin.statistics.bootstrap import bootstrap
from audit_plugin.statistics.fairness import group_rates
from audit_plugin.statistics.intervals import Interval, wilson

MIN_ROWS = 30
"""Groups smaller than this are pooled before they are compared."""


@dataclass(frozen=True, kw_only=True)
class WorstGroup:
    """Accuracy of the group on which the model is worst."""

    group: int
    accuracy: Interval
    """Simultaneous Wilson limits at α/G; the plain minimum is biased low for small groups."""
    corrected: float
    """Minimum less its bootstrap bias, in [0, 1]."""
    n: int
    """Rows of that group."""
    groups: int


def pooled(groups: Int[np.ndarray, "n"], *, min_rows: int = MIN_ROWS) -> Int[np.ndarray, "n"]:
    """Group numbers with all groups of fewer than ``min_rows`` rows put together as group −1."""
    names, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(np.where(sizes < min_rows, -1, names)[codes])


def worst_group_accuracy(
    correct: Bool[np.ndarray, "n"], groups: Int[np.ndarray, "n"], weights: Float[np.ndarray, "B n"], *, level: float = 0.95
) -> WorstGroup:
    """The smallest accuracy over groups; its limits are the smallest of the simultaneous limits of all groups."""
    if correct.shape != groups.shape or len(correct) == 0:
        raise ValueError(f"every row needs a group, got shapes {correct.shape} and {groups.shape}")
    names, sizes = np.unique(groups, return_counts=True)
    inner = 1 - (1 - level) / len(names)
    each = [wilson(int(correct[groups == name].sum()), int(size), level=inner) for name, size in zip(names, sizes, strict=True)]
    worst = int(np.argmin([interval.value for interval in each]))
    value = each[worst].value
    draws = bootstrap(lambda w: _minimum(group_rates(correct, groups, w)), weights)
    return WorstGroup(
        group=int(names[worst]),
        accuracy=Interval(value, min(interval.low for interval in each), min(interval.high for interval in each)),
        corrected=float(np.clip(2 * value - draws.known.mean(), 0, 1)),
        n=int(sizes[worst]),
        groups=len(names),
    )


def gap_to_average(
    correct: Bool[np.ndarray, "n"], groups: Int[np.ndarray, "n"], weights: Float[np.ndarray, "B n"], *, level: float = 0.95
) -> Interval:
    """Mean accuracy minus worst-group accuracy; row bootstrap."""

    def statistic(w: Float[np.ndarray, "B n"]) -> Float[np.ndarray, "B"]:
        return np.asarray(w @ correct / w.sum(1) - _minimum(group_rates(correct, groups, w)))

    return bootstrap(statistic, weights).interval(level)


def _minimum(rates: Float[np.ndarray, "B G"]) -> Float[np.ndarray, "B"]:
    """Smallest rate over the groups that are not empty."""
    return np.asarray(np.where(np.isfinite(rates), rates, np.inf).min(1))
