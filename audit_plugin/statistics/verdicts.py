"""From interval, margin and gates to one word per concept."""

from typing import Literal

from audit_plugin.statistics.intervals import Interval

Word = Literal["relies", "hurts", "negligible", "inconclusive", "not_assessable"]

DEFAULT_MARGINS = {"accuracy": 0.02, "auroc": 0.02, "brier": 0.01, "log_loss": 0.03}
"""Practical margin δ₀ by metric: irrelevant concepts of the published demonstration lie within −0.016 and +0.006 AUROC."""


def effective_margin(margin: float, placebo: Interval | None = None) -> float:
    """max(δ₀, upper 95 % limit of |placebo effect|): an effect that nonsense also has is none.

    >>> effective_margin(0.02, Interval(0.01, -0.03, 0.025))
    0.03
    """
    if not margin > 0:
        raise ValueError(f"a margin is positive, got {margin}")
    return margin if placebo is None else max(margin, abs(placebo.low), abs(placebo.high))


def verdict(
    wide: Interval,
    narrow: Interval,
    *,
    margin: float,
    adjusted_p: float,
    assessable: bool = True,
    valid: bool = True,
    alpha: float = 0.05,
) -> Word:
    """One word from the 95 % interval ``wide``, the 90 % interval ``narrow`` (equivalence) and the gates.

    ``assessable`` is false when a gate forbids any statement; ``valid`` is false when the edit was weak or leaked (gates G2 to
    G4), which forbids "negligible" but not "relies".
    """
    if not assessable:
        return "not_assessable"
    if wide.low > margin and adjusted_p < alpha:
        return "relies"
    if wide.high < -margin:
        return "hurts"
    if valid and narrow.inside(margin):
        return "negligible"
    return "inconclusive"


def agreed(*words: Word) -> Word:
    """The common verdict of several estimators, or "inconclusive" when they differ."""
    if not words:
        raise ValueError("at least one verdict is needed")
    return words[0] if len(set(words)) == 1 else "inconclusive"
