"""The table of rows needed, and power by simulation."""

import numpy as np
import pytest

from audit_plugin.statistics.power import mean_square, minimal_detectable, minimal_detectable_effect, planned_rows, rows_needed
from audit_plugin.statistics.signflip import mcnemar_exact


@pytest.mark.parametrize(
    ("share", "drop", "rows", "bonferroni"),
    [
        (0.02, 0.01, 1_568, 2_850),
        (0.05, 0.01, 3_923, 7_130),
        (0.05, 0.02, 979, 1_780),
        (0.10, 0.05, 312, 568),
        (0.20, 0.10, 155, 283),
        (0.30, 0.01, 23_545, 42_790),
        (0.30, 0.10, 234, 425),
    ],
)
def test_rows_of_the_published_table(share, drop, rows, bonferroni):
    """80 % power, two-sided 5 %, and shared by 15 concepts."""
    assert rows_needed(share, drop) == pytest.approx(rows, abs=1)
    assert rows_needed(share, drop, level=1 - 0.05 / 15) == pytest.approx(bonferroni, abs=1)


@pytest.mark.parametrize(("n", "effect"), [(200, 0.063), (500, 0.040), (1_000, 0.028)])
def test_minimal_detectable_effects(n, effect):
    """At 10 % discordance; the same from a standard error."""
    assert minimal_detectable(n, 0.10) == pytest.approx(effect, abs=5e-4)
    assert minimal_detectable_effect(np.sqrt(0.10 / n)) == pytest.approx(minimal_detectable(n, 0.10))


def test_planned_rows_reach_their_power():
    """1,000 audits of the planned size find the drop in 76 to 84 %."""
    n, rng = planned_rows(0.20, 0.05), np.random.default_rng(0)
    b, c, _ = rng.multinomial(n, [0.125, 0.075, 0.8], size=1_000).T
    found = np.mean([mcnemar_exact(int(x), int(y)) <= 0.05 for x, y in zip(b, c, strict=True)])
    assert n == 626
    assert 0.74 <= found <= 0.84


def test_plans_are_clipped():
    """To [200, 2000], also when the pilot saw fewer changes than the drop it is to find."""
    assert planned_rows(0.5, 0.01) == 2_000
    assert planned_rows(0.001, 0.02) == planned_rows(0.02, 0.02)
    assert planned_rows(0.3, 0.3) == 200


def test_mean_square_takes_the_place_of_the_share():
    """For −1/0/1 contributions it is the discordance."""
    assert mean_square(np.array([1.0, -1.0, 0.0, 0.0])) == 0.5


def test_nonsense_is_refused():
    """A drop larger than the share of changed rows; no rows."""
    for call in (lambda: rows_needed(0.01, 0.02), lambda: minimal_detectable(0, 0.1)):
        with pytest.raises(ValueError, match="need"):
            call()
