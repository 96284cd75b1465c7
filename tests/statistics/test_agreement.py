"""Agreement figures by hand."""

import numpy as np
import pytest

from audit_plugin.statistics.agreement import agreement, coverage, ranks, top_overlap


def test_a_perfect_estimate():
    """All figures at their best."""
    truth = np.array([0.3, 0.1, 0.05, 0.0, 0.01, 0.0])
    found = agreement(truth, truth)
    best = (found.pearson, found.spearman, found.kendall, found.overlap_3, found.overlap_5, found.used_auroc)
    assert best == pytest.approx((1,) * 6)
    assert (found.first_right, found.rmse) == (True, 0.0)


def test_a_reversed_estimate():
    """All figures at their worst."""
    truth = np.array([0.4, 0.3, 0.2, 0.1, 0.0])
    found = agreement(truth[::-1], truth, margin=0.15)
    assert (found.spearman, found.kendall, found.used_auroc) == pytest.approx((-1, -1, 0))
    assert not found.first_right
    assert (found.overlap_3, found.overlap_5) == pytest.approx((1 / 3, 1))


def test_a_constant_has_no_correlation():
    """Nan, not a warning."""
    assert np.isnan(agreement(np.zeros(4), np.arange(4.0)).spearman)


def test_small_helpers():
    """Coverage, ranks, and top lists shorter than k."""
    assert coverage(np.array([0.0, 0.5]), np.array([1.0, 0.6]), np.array([0.5, 0.7])) == 0.5
    assert ranks(np.array([0.1, 0.3, 0.1])).tolist() == [2.5, 1, 2.5]
    assert top_overlap(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 5) == 1
    with pytest.raises(ValueError, match="equally long"):
        agreement(np.zeros(3), np.zeros(4))
