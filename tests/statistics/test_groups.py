"""Joint flips."""

import numpy as np
import pytest

from audit_plugin.statistics.flip_table import importance
from audit_plugin.statistics.groups import (
    GroupFlips,
    cells_of,
    group_contributions,
    group_importance,
    group_importances,
    interaction,
)
from audit_plugin.statistics.metrics import METRICS


@pytest.mark.parametrize("name", list(METRICS))
def test_group_importance_is_that_of_permutations(name, random_table):
    """A group of one concept, donors among all other rows, also those of equal values: on average the importance of the concept."""
    table, metric, rng = random_table(60, levels=3), METRICS[name], np.random.default_rng(0)
    found = []
    for _ in range(1_500):
        donors = (np.arange(60) + rng.integers(1, 60, size=60)) % 60
        donor = np.where(
            (table.values[donors] == table.values)[:, None], table.baseline, table.flips[np.arange(60), table.values[donors]]
        )
        found.append(group_importance(GroupFlips(baseline=table.baseline, donor=donor, labels=table.labels), metric))
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - importance(table, metric) * 60 / 59) < 4 * error + (0 if metric.kind == "additive" else 2e-3)


def test_contributions_average_to_the_importance(random_table):
    """As for single concepts; weights of one are the plain data."""
    table = random_table(40, levels=3)
    donor = table.flips[np.arange(40), (table.values + 1) % 3]
    group = GroupFlips(baseline=table.baseline, donor=donor, labels=table.labels)
    mean = group_contributions(group, METRICS["log_loss"]).mean()
    assert group_importances(group, METRICS["log_loss"], np.ones((2, 40))) == pytest.approx([mean, mean])


def test_cells_and_interaction():
    """Equal rows share a cell; no columns, one cell; the interaction is what exceeds the sum."""
    assert cells_of(np.array([[1, 1], [0, 2], [1, 1]])).tolist() == [1, 0, 1]
    assert cells_of(np.empty((3, 0), int)).tolist() == [0, 0, 0]
    assert interaction(0.5, 0.2, 0.1) == pytest.approx(0.2)
