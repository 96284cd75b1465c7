import numpy as np
import pytest

from audit_plugin.statistics.intervals import newcombe
from audit_plugin.statistics.paired_shares import newcombe_paired


def pairs(both, only_a, only_b, neither):
    a = np.r_[np.ones(both + only_a), np.zeros(only_b + neither)]
    b = np.r_[np.ones(both), np.zeros(only_a), np.ones(only_b), np.zeros(neither)]
    return a, b


def test_unrelated_shares_have_the_interval_of_independent_groups():
    """φ = 0: nothing is gained by the pairing."""
    found, wanted = newcombe_paired(*pairs(20, 20, 20, 20)), newcombe(40, 80, 40, 80)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_pairing_narrows_the_interval():
    found, apart = newcombe_paired(*pairs(35, 8, 2, 35)), newcombe(43, 80, 37, 80)
    assert found.high - found.low < 0.7 * (apart.high - apart.low)


def test_coverage_over_simulated_tables():
    rng, truth, hits = np.random.default_rng(0), 0.2, 0
    for _ in range(400):
        a = rng.random(50) < 0.3
        b = a & (rng.random(50) < 1 / 3)
        found = newcombe_paired(a.astype(float), b.astype(float))
        hits += found.low <= truth <= found.high
    assert hits / 400 > 0.93


def test_no_changes_still_leave_doubt():
    found = newcombe_paired(np.zeros(40), np.zeros(40))
    assert found.low == -found.high
    assert 0.05 < found.high < 0.1


def test_parts_of_images_count_in_part():
    found = newcombe_paired(np.full(30, 0.5), np.full(30, 1 / 3))
    assert found.value == pytest.approx(1 / 6)


@pytest.mark.parametrize(("a", "b"), [([0.5], [0.5, 1]), ([], []), ([1.2], [0.0])])
def test_nonsense_is_refused(a, b):
    with pytest.raises(ValueError, match="shares"):
        newcombe_paired(np.array(a), np.array(b))
