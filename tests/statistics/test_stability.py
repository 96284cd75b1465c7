import numpy as np
import pytest
from scipy.stats import kendalltau

from audit_plugin.statistics.stability import icc, operator_agreement, split_half


def test_a_clear_order_is_stable():
    effects = np.arange(30.0)[:, None] + np.random.default_rng(0).normal(0, 0.1, (30, 20))
    found = split_half(effects, np.random.default_rng(1))
    assert (found.tau, found.jaccard, found.signs) == pytest.approx((1, 1, 1), abs=0.01)


def test_noise_is_not_stable():
    found = split_half(np.random.default_rng(2).normal(size=(40, 20)), np.random.default_rng(3), splits=50)
    assert abs(found.tau) < 0.3
    assert found.jaccard < 0.4
    assert found.splits == 50


def test_tau_is_that_of_scipy():
    """With ties, too; with every node marked all pairs count."""
    rng = np.random.default_rng(5)
    effects = rng.integers(0, 3, (12, 8)).astype(float)
    found = split_half(effects, np.random.default_rng(6), marked=np.ones(12, dtype=bool), splits=1)
    order = np.random.default_rng(6).permutation(8)
    expected = kendalltau(effects[:, order[:4]].mean(1), effects[:, order[4:]].mean(1)).statistic
    assert (found.tau, found.marked_tau) == pytest.approx((expected, expected))


def test_one_clear_effect_among_idle_nodes_has_a_sure_place():
    """Whose order is chance: tau over all pairs is near 0 however large the effect."""
    effects = np.random.default_rng(7).normal(0, 0.15, (21, 64))
    effects[3] += 2
    found = split_half(effects, np.random.default_rng(8), marked=np.arange(21) == 3)
    assert found.tau < 0.3
    assert found.marked_tau == 1
    assert split_half(effects, np.random.default_rng(8), marked=np.arange(21) == 4).marked_tau < 0.3
    assert np.isnan(split_half(effects, np.random.default_rng(8)).marked_tau)


def test_missing_values_are_left_out_of_a_half():
    effects = np.array([[1.0, np.nan, 1.0, 1.0], [2.0, 2.0, 2.0, np.nan], [3.0, 3.0, 3.0, 3.0]])
    assert split_half(effects, np.random.default_rng(0)).tau > 0


def test_icc_of_known_variances():
    """Variance 1 between images, 1 within: 0.5."""
    rng = np.random.default_rng(4)
    values = rng.normal(size=(5_000, 1)) + rng.normal(size=(5_000, 3))
    assert icc(values) == pytest.approx(0.5, abs=0.03)
    assert np.isnan(icc(values[:, :1]))
    assert np.isnan(icc(np.full((10, 2), np.nan)))


def test_operators_agree_by_rank():
    assert operator_agreement(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 90.0])) == pytest.approx(1)
    assert np.isnan(operator_agreement(np.ones(3), np.arange(3.0)))


def test_too_little_is_refused():
    with pytest.raises(ValueError, match="two nodes and four images"):
        split_half(np.ones((1, 9)), np.random.default_rng(0))
    with pytest.raises(ValueError, match="both sides"):
        operator_agreement(np.ones(3), np.ones(2))
