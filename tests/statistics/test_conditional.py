"""Strata, support, and what conditioning does to a correlated concept."""

import numpy as np
import pytest
from scipy.special import softmax

from audit_plugin.statistics.conditional import (
    conditional_strata,
    fit_softmax,
    merged_cells,
    off_support,
    support,
    tree_strata,
)
from audit_plugin.statistics.flip_table import FlipTable, importance
from audit_plugin.statistics.metrics import METRICS


def concepts(n, rng, columns=4):
    return (rng.random((n, columns)) < 0.4).astype(np.int64)


@pytest.mark.parametrize("strata", [merged_cells, lambda others: tree_strata(others, others[:, 0] ^ others[:, 1])])
def test_every_stratum_has_enough_rows(strata):
    """Cells of six concepts at 300 rows are mostly small; after merging none is."""
    found = strata(concepts(300, np.random.default_rng(0), 6))
    sizes = np.bincount(found)
    assert sizes.min() >= 30
    assert sizes.sum() == 300


def test_small_cells_join_their_neighbour():
    """Ten rows that differ in one concept from one large cell and in three from the other."""
    others = np.repeat([[0, 0, 0], [1, 1, 1], [0, 0, 1]], [60, 60, 10], axis=0)
    found = merged_cells(others)
    assert len(np.unique(found)) == 2
    assert set(found[120:]) == {found[0]}


def test_the_tree_splits_on_what_predicts_the_concept():
    """A three-level neighbour that decides the concept is split off; an unrelated one is not."""
    rng = np.random.default_rng(0)
    others = np.column_stack([rng.integers(0, 3, 600), np.tile([0, 1], 300)])
    found = tree_strata(others, (others[:, 0] == 2).astype(int))
    np.testing.assert_array_equal(found == found[others[:, 0] == 2][0], others[:, 0] == 2)
    assert len(np.unique(found)) == 2


def test_leaves_are_limited():
    """At most eight, however many splits would help."""
    rng = np.random.default_rng(0)
    others = concepts(5_000, rng, 6)
    values = (others @ rng.normal(size=6) + rng.normal(size=5_000) > 0).astype(int)
    assert len(np.unique(tree_strata(others, values))) == 8


def test_large_cells_are_kept():
    """Strata are the cells themselves when each is large; without other concepts there is one."""
    others = np.repeat([[0, 0], [0, 1], [1, 0]], 40, axis=0)
    assert conditional_strata(others, np.tile([0, 1], 60)).tolist() == np.repeat([0, 1, 2], 40).tolist()
    assert set(conditional_strata(np.empty((50, 0), int), np.tile([0, 1], 25))) == {0}
    assert set(merged_cells(others[:20])) == {0}


def test_small_cells_fall_back_to_the_tree():
    """The automatic choice equals the tree then."""
    rng = np.random.default_rng(0)
    others, values = concepts(300, rng, 6), rng.integers(0, 2, 300)
    np.testing.assert_array_equal(conditional_strata(others, values), tree_strata(others, values))


def test_conditioning_removes_what_the_neighbour_explains():
    """The label is A, the model reads its near-copy B: given A, B tells nothing more about the label."""
    rng, n = np.random.default_rng(0), 4_000
    a = rng.integers(0, 2, n)
    b = np.where(rng.random(n) < 0.95, a, 1 - a)
    flips = np.zeros((n, 2, 2)) + np.array([[0.8, 0.2], [0.2, 0.8]])
    table = FlipTable(baseline=flips[np.arange(n), b], flips=flips, values=b, labels=a)
    free = importance(table, METRICS["accuracy"])
    within = importance(table, METRICS["accuracy"], strata=conditional_strata(a[:, None], b))
    assert free == pytest.approx(0.45, abs=0.01)
    assert within == pytest.approx(0, abs=1e-12)


def test_saturated_regression_reproduces_cell_shares():
    """Three levels, two cells, hardly any penalty: fitted probabilities are the observed shares."""
    cell = np.repeat([0, 1], 100)
    values = np.concatenate([np.repeat([0, 1, 2], [50, 30, 20]), np.repeat([0, 1, 2], [10, 20, 70])])
    design = np.column_stack([np.ones(200), cell]).astype(float)
    fitted = softmax(design @ fit_softmax(design, values, 3, penalty=1e-4), axis=1)
    np.testing.assert_allclose(fitted[[0, -1]], [[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], atol=2e-3)


def test_support_is_close_to_the_truth():
    """A logistic law with known probabilities, cross-fitted on 4,000 rows."""
    rng = np.random.default_rng(0)
    others = concepts(4_000, rng)
    truth = 1 / (1 + np.exp(-(others @ np.array([2.0, -1.0, 0.5, 0.0]) - 0.5)))
    found = support(others, (rng.random(4_000) < truth).astype(int), 2, rng)
    np.testing.assert_allclose(found.sum(1), 1)
    assert np.abs(found[:, 1] - truth).mean() < 0.02


def test_flips_to_impossible_combinations_are_excluded():
    """A concept that never occurs with another: exactly those flips go, and are counted."""
    rng = np.random.default_rng(0)
    other = np.repeat([0, 1], [1_000, 3_000])
    values = np.where(other == 1, 0, rng.integers(0, 2, 4_000))
    found = off_support(support(other[:, None], values, 2, rng), values)
    assert found.excluded == 3_000
    assert found.share == 0.75
    np.testing.assert_array_equal(found.allowed[:, 1], other == 0)
    assert found.allowed[:, 0].all()


def test_too_many_folds_are_refused():
    """More folds than rows cannot be."""
    with pytest.raises(ValueError, match="folds"):
        support(np.zeros((3, 1), int), np.array([0, 1, 0]), 2, np.random.default_rng(0))
