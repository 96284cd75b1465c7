"""Joint flips."""

import numpy as np
import pytest

from audit_plugin.statistics.flip_table import importance
from audit_plugin.statistics.groups import (
    GroupFlips,
    cells_of,
    donor_shares,
    draw_donors,
    group_contributions,
    group_importance,
    group_importances,
    interaction,
)
from audit_plugin.statistics.metrics import METRICS


@pytest.mark.parametrize("name", list(METRICS))
def test_a_group_of_one_binary_concept_is_that_concept(name, random_table):
    """The donor flip of a binary concept is its only flip."""
    table = random_table(60)
    donor = table.flips[np.arange(60), 1 - table.values]
    group = GroupFlips(baseline=table.baseline, donor=donor, cells=table.values, labels=table.labels)
    assert group_importance(group, METRICS[name]) == pytest.approx(importance(table, METRICS[name]))


def test_group_importance_is_right_on_average_over_donors(random_table):
    """Drawing donors anew and averaging gives the mean over all ordered pairs."""
    table, metric, rng = random_table(60, levels=4), METRICS["brier"], np.random.default_rng(0)
    found = []
    for _ in range(2_000):
        donors = draw_donors(table.values, rng)
        donor = table.flips[np.arange(60), table.values[donors]]
        group = GroupFlips(baseline=table.baseline, donor=donor, cells=table.values, labels=table.labels)
        found.append(group_importance(group, metric))
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - importance(table, metric)) < 4 * error


def test_donors_differ_and_everyone_can_be_one():
    """A donor is of another cell; only a set without other cells donates to itself."""
    cells = np.array([0, 0, 1, 2])
    donors = np.array([draw_donors(cells, np.random.default_rng(seed)) for seed in range(50)])
    assert (cells[donors] != cells).all()
    assert set(donors[:, 0]) == {2, 3}
    assert draw_donors(np.zeros(3, int), np.random.default_rng(0)).tolist() == [0, 1, 2]


def test_shares_are_those_of_rows_that_differ():
    """Plain and weighted."""
    weights = np.array([[1.0, 1, 1, 1], [2.0, 0, 1, 1]])
    shares = donor_shares(np.array([0, 0, 1, 2]), weights)
    np.testing.assert_allclose(shares, [[0.5, 0.5, 0.75, 0.75], [0.5, 0.5, 0.75, 0.75]])


def test_contributions_average_to_the_importance(random_table):
    """As for single concepts; weights of one are the plain data."""
    table = random_table(40, levels=3)
    donor = table.flips[np.arange(40), (table.values + 1) % 3]
    group = GroupFlips(baseline=table.baseline, donor=donor, cells=table.values, labels=table.labels)
    mean = group_contributions(group, METRICS["log_loss"]).mean()
    assert group_importances(group, METRICS["log_loss"], np.ones((2, 40))) == pytest.approx([mean, mean])


def test_cells_and_interaction():
    """Equal rows share a cell; no columns, one cell; the interaction is what exceeds the sum."""
    assert cells_of(np.array([[1, 1], [0, 2], [1, 1]])).tolist() == [1, 0, 1]
    assert cells_of(np.empty((3, 0), int)).tolist() == [0, 0, 0]
    assert interaction(0.5, 0.2, 0.1) == pytest.approx(0.2)
