import numpy as np
import pytest

from audit_plugin.statistics.separation import auroc, average_precision


def test_perfect_and_inverted_separation():
    high, low = np.array([3.0, 2.0]), np.array([1.0, 0.0])
    assert (auroc(high, low), average_precision(high, low)) == (1, 1)
    assert auroc(low, high) == 0


def test_equal_scores_are_a_coin_and_the_share_of_positives():
    assert auroc(np.zeros(3), np.zeros(5)) == 0.5
    assert average_precision(np.zeros(3), np.zeros(5)) == pytest.approx(3 / 8)


def test_average_precision_written_out():
    """Positives at ranks 1, 3 and 5: (1 + 2/3 + 3/5)/3."""
    found = average_precision(np.array([9.0, 7.0, 5.0]), np.array([8.0, 6.0, 4.0]))
    assert found == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_both_sides_are_needed():
    with pytest.raises(ValueError, match="both sides"):
        auroc(np.array([1.0]), np.array([]))
