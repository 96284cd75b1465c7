import numpy as np
import pytest

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
