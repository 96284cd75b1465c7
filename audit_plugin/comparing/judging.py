"""From two estimates of one quantity to its difference, judged under a margin: paired by resamples, or unpaired by their limits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from audit_plugin.core.comparison_results import Change, Difference, Quantity
from audit_plugin.core.estimate import Estimate
from audit_plugin.statistics.bootstrap import Bootstrap
from audit_plugin.statistics.change import Side, narrowed, normal_outside_p, outside_p, side, unpaired_difference
from audit_plugin.statistics.intervals import Interval
from audit_plugin.statistics.multiplicity import holm
from audit_plugin.statistics.unseen import NONE, Reach


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A difference before it is compared with others of its kind."""

    old: float
    new: float
    wide: Interval
    narrow: Interval
    p: float
    margin: float
    n: int
    paired: bool
    notes: tuple[str, ...] = ()


def measured(
    change: Bootstrap,
    *,
    old: float,
    new: float,
    margin: float,
    n: int,
    notes: tuple[str, ...] = (),
    reach: Reach = NONE,
    limits: tuple[Interval, Interval] | None = None,
) -> Judged:
    """A paired difference from its joint resamples, whose intervals have at least the ``reach``; ``limits`` are 95 % and 90 % intervals
    that take their place.
    """
    wide, narrow = limits or reach.limits(change)
    own = change.interval()
    replaced = limits is not None or wide.low < own.low or wide.high > own.high
    p = normal_outside_p(wide, margin) if replaced else outside_p(change.samples, margin)
    return Judged(old=old, new=new, wide=wide, narrow=narrow, p=p, margin=margin, n=n, paired=True, notes=notes)


def combined(old: Estimate, new: Estimate, *, margin: float, n: int, notes: tuple[str, ...] = ()) -> Judged:
    """An unpaired difference of two independent estimates, from their limits (Zou and Donner 2008)."""
    wide = unpaired_difference(*(Interval(one.value, one.low, one.high) for one in (old, new)))
    p = normal_outside_p(wide, margin)
    return Judged(
        old=old.value, new=new.value, wide=wide, narrow=narrowed(wide), p=p, margin=margin, n=n, paired=False, notes=notes
    )


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is compared, and which direction is worse."""

    quantity: Quantity
    subject: str
    about: str = ""
    judged: Judged | None = None
    worse: str = ""
    """``up``: larger is worse; ``down``: smaller is; ``away``: further from zero is; empty: neither."""
    margin: float = 0.0
    notes: tuple[str, ...] = ()


def decided(rows: Sequence[Row]) -> tuple[Difference, ...]:
    """Verdicts of rows that are tested together: Holm over those with a test."""
    tested = [row.judged for row in rows if row.judged is not None]
    adjusted = iter(holm(np.array([one.p for one in tested])).tolist() if tested else [])
    return tuple(_unknown(row) if row.judged is None else _told(row, row.judged, next(adjusted)) for row in rows)


def _unknown(row: Row) -> Difference:
    return Difference(
        quantity=row.quantity,
        subject=row.subject,
        about=row.about,
        old=None,
        new=None,
        difference=None,
        paired=False,
        margin=row.margin,
        verdict=Change.NOT_ASSESSABLE,
        matters=bool(row.worse),
        notes=row.notes,
    )


def _told(row: Row, one: Judged, adjusted: float) -> Difference:
    if not np.isfinite([one.wide.low, one.wide.high]).all():
        return replace(_unknown(row), old=one.old, new=one.new, n=one.n, margin=one.margin)
    lies = side(one.wide, one.narrow, margin=one.margin, adjusted_p=adjusted)
    return Difference(
        quantity=row.quantity,
        subject=row.subject,
        about=row.about,
        old=one.old,
        new=one.new,
        difference=Estimate(value=one.wide.value, low=one.wide.low, high=one.wide.high),
        paired=one.paired,
        n=one.n,
        margin=one.margin,
        p=one.p,
        p_adjusted=adjusted,
        verdict=verdict_of(lies, row.worse, old=one.old, new=one.new, margin=one.margin),
        matters=bool(row.worse),
        notes=(*one.notes, *row.notes),
    )


def verdict_of(lies: Side, worse: str, *, old: float, new: float, margin: float) -> Change:
    """The word for where a difference lies; one that only changed sides of zero is neither better nor worse.

    >>> verdict_of("below", "away", old=-0.1, new=-0.4, margin=0.05)
    <Change.REGRESSED: 'regressed'>
    """
    if lies == "within":
        return Change.UNCHANGED
    if lies == "open":
        return Change.UNDECIDED
    if not worse:
        return Change.CHANGED
    if worse == "away":
        if abs(abs(new) - abs(old)) <= margin:
            return Change.CHANGED
        return Change.REGRESSED if abs(new) > abs(old) else Change.IMPROVED
    return Change.REGRESSED if (lies == "above") == (worse == "up") else Change.IMPROVED
