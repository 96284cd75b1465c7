"""One word per concept."""

import pytest

from audit_plugin.statistics.intervals import Interval
from audit_plugin.statistics.verdicts import agreed, effective_margin, verdict


def around(value, half):
    return Interval(value, value - half, value + half)


@pytest.mark.parametrize(
    ("value", "half", "p", "options", "word"),
    [
        (0.10, 0.05, 0.001, {}, "relies"),
        (0.10, 0.05, 0.060, {}, "inconclusive"),
        (0.06, 0.05, 0.001, {}, "inconclusive"),
        (0.10, 0.05, 0.001, {"valid": False}, "relies"),
        (-0.10, 0.05, 0.001, {}, "hurts"),
        (0.00, 0.01, 0.800, {}, "negligible"),
        (0.00, 0.01, 0.800, {"valid": False}, "inconclusive"),
        (0.00, 0.03, 0.800, {}, "inconclusive"),
        (0.10, 0.05, 0.001, {"assessable": False}, "not_assessable"),
    ],
)
def test_rules(value, half, p, options, word):
    """Each line of the table, margin 0.02."""
    found = verdict(around(value, half), around(value, 0.84 * half), margin=0.02, adjusted_p=p, **options)
    assert found == word


def test_equivalence_uses_the_narrow_interval():
    """95 % touches the margin, 90 % does not: negligible."""
    assert verdict(around(0, 0.021), around(0, 0.018), margin=0.02, adjusted_p=0.9) == "negligible"


def test_placebo_widens_the_margin_only():
    """On either side; a quiet placebo leaves it."""
    assert effective_margin(0.02) == 0.02
    assert effective_margin(0.02, Interval(0, -0.01, 0.01)) == 0.02
    assert effective_margin(0.02, Interval(-0.03, -0.05, 0.0)) == 0.05


def test_estimators_that_disagree_are_inconclusive():
    """Plain and adjusted."""
    assert agreed("relies", "relies") == "relies"
    assert agreed("relies", "negligible") == "inconclusive"


def test_nonsense_is_refused():
    """No margin, no verdicts."""
    with pytest.raises(ValueError, match="positive"):
        effective_margin(0.0)
    with pytest.raises(ValueError, match="at least one"):
        agreed()
