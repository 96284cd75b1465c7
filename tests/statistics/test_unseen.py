"""What rows unlike all those drawn might add: at most what the rarest class, and its heaviest rows, leave unseen."""

import numpy as np
import pytest

from audit_plugin.statistics.bootstrap import Bootstrap
from audit_plugin.statistics.intervals import clopper_pearson
from audit_plugin.statistics.unseen import Reach, unseen_drop, unseen_share

LABELS = np.repeat([0, 1], [160, 40])
ROWS = np.arange(200)


def test_the_rarest_class_says_how_much():
    assert unseen_drop(LABELS, ROWS, 0.5).wide == pytest.approx(0.25 * clopper_pearson(0, 40).high)
    assert unseen_drop(LABELS, ROWS, 0.5).narrow == pytest.approx(0.25 * clopper_pearson(0, 40, level=0.90).high)
    assert unseen_drop(LABELS, ROWS // 4, 0.5).wide == pytest.approx(0.25 * clopper_pearson(0, 10).high)
    assert unseen_drop(ROWS % 4, ROWS, 1.0).wide == pytest.approx(0.5 / 3 * clopper_pearson(0, 50).high)


def test_heavy_rows_of_a_class_may_hide_more():
    """And nothing hides more than all."""
    weights = np.where(ROWS % 10 == 0, 5.0, 5 / 9)
    weighed = unseen_drop(LABELS, ROWS, 0.5, weights)
    assert weighed.wide == pytest.approx(5 * unseen_drop(LABELS, ROWS, 0.5).wide)
    assert unseen_drop(LABELS, ROWS, 1.0, np.where(ROWS % 40 == 0, 100.0, 0.01)).wide == 0.5
    assert unseen_drop(LABELS, ROWS, 0.5, np.full(200, 3.0)) == unseen_drop(LABELS, ROWS, 0.5)


def test_one_class_has_no_auroc():
    with pytest.raises(ValueError, match="at least two classes"):
        unseen_drop(np.zeros(5, int), np.arange(5), 0.5)


def test_shares_of_units():
    assert unseen_share(ROWS // 4) == Reach(clopper_pearson(0, 50).high, clopper_pearson(0, 50, level=0.90).high)


def test_limits_of_a_figure_without_spread_are_the_reach():
    wide, narrow = Reach(0.02, 0.01).limits(Bootstrap(value=0.5, samples=np.full(9, 0.5)))
    assert (wide.low, wide.high, narrow.low, narrow.high) == pytest.approx((0.48, 0.52, 0.49, 0.51))
