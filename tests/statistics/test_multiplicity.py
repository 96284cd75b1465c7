"""Adjusted p-values and e-values against hand-worked vectors and statsmodels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from audit_plugin.statistics.multiplicity import (
    alpha_spent,
    benjamini_hochberg,
    benjamini_yekutieli,
    e_benjamini_hochberg,
    holm,
)

P = np.array([0.01, 0.04, 0.03, 0.005])


def test_hand_worked_vectors():
    """Sorted 0.005, 0.01, 0.03, 0.04: Holm ×4, ×3, ×2, ×1; BH ×4, ×2, ×4/3, ×1; BY another 25/12."""
    np.testing.assert_allclose(holm(P), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(benjamini_hochberg(P), [0.02, 0.04, 0.04, 0.02])
    np.testing.assert_allclose(benjamini_yekutieli(P), np.array([0.02, 0.04, 0.04, 0.02]) * 25 / 12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_agrees_with_statsmodels(values):
    """All three, with ties and extremes."""
    p = np.array(values)
    for ours, name in ((holm, "holm"), (benjamini_hochberg, "fdr_bh"), (benjamini_yekutieli, "fdr_by")):
        np.testing.assert_allclose(ours(p), multipletests(p, method=name)[1], atol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(0, 1000))
def test_names_follow_their_values(values, seed):
    """Adjusting shuffled p-values shuffles the adjusted ones; none falls below its raw value."""
    p, order = np.array(values), np.random.default_rng(seed).permutation(len(values))
    for adjust in (holm, benjamini_hochberg, benjamini_yekutieli):
        np.testing.assert_allclose(adjust(p[order]), adjust(p)[order])
        assert (adjust(p) >= p - 1e-15).all()


def test_spent_error_sums_to_alpha():
    """Over 100,000 audits, from below."""
    spent = sum(alpha_spent(k) for k in range(1, 100_000))
    assert 0.0499 < spent < 0.05


def test_e_values_by_hand():
    """Four tests at q = 0.05 need 80, 40, 26.7, 20: the third largest carries the first three."""
    assert e_benjamini_hochberg(np.array([30.0, 1.0, 90.0, 28.0])).tolist() == [True, False, True, True]
    assert e_benjamini_hochberg(np.array([79.0, 39.0, 26.0, 19.0])).tolist() == [False] * 4


def test_holm_holds_the_familywise_error():
    """Ten correlated null tests, 4,000 times: at most 5 % with any alarm (plus Monte-Carlo error)."""
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    z = 0.7 * rng.normal(size=(4_000, 1)) + np.sqrt(0.51) * rng.normal(size=(4_000, 10))
    alarms = [holm(2 * norm.sf(np.abs(row))).min() < 0.05 for row in z]
    assert np.mean(alarms) < 0.06


def test_nonsense_is_refused():
    """Values that are no p-values or e-values, audits counted from 0."""
    for call in (
        lambda: holm(np.array([1.2])),
        lambda: benjamini_hochberg(np.array([np.nan])),
        lambda: e_benjamini_hochberg(np.array([-1.0])),
        lambda: alpha_spent(0),
    ):
        with pytest.raises(ValueError):
            call()
