"""The worst group, pooled, bounded and corrected."""

import numpy as np
import pytest

from audit_plugin.statistics.bootstrap import unit_weights
from audit_plugin.statistics.intervals import wilson
from audit_plugin.statistics.worst_group import gap_to_average, pooled, worst_group_accuracy


def split(counts):
    """(right, wrong) per group -> correct, groups."""
    correct = np.concatenate([np.repeat([True, False], pair) for pair in counts])
    return correct, np.repeat(np.arange(len(counts)), [sum(pair) for pair in counts])


def test_worst_group_by_hand():
    """60 of 100 right in group 1: Wilson at 0.05/3."""
    correct, groups = split([(90, 10), (60, 40), (80, 20)])
    found = worst_group_accuracy(correct, groups, unit_weights(np.arange(300), 200, np.random.default_rng(0)))
    assert (found.group, found.n, found.groups, found.accuracy.value) == (1, 100, 3, 0.6)
    assert found.accuracy.low == wilson(60, 100, level=1 - 0.05 / 3).low


def test_bias_correction_raises_a_minimum_over_equal_groups():
    """Eight groups of 40 at 80 %: corrected minima are nearer the truth on average."""
    rng, plain, corrected = np.random.default_rng(0), [], []
    groups = np.repeat(np.arange(8), 40)
    for _ in range(40):
        found = worst_group_accuracy(rng.random(320) < 0.8, groups, unit_weights(np.arange(320), 200, rng))
        plain.append(found.accuracy.value)
        corrected.append(found.corrected)
    assert np.mean(plain) < np.mean(corrected) < 0.83


def test_simultaneous_interval_covers_the_worst_group():
    """300 audits with true accuracies 0.9, 0.8, 0.7: at least 95 %."""
    rng, hits = np.random.default_rng(0), 0
    groups, weights = np.repeat(np.arange(3), 60), unit_weights(np.arange(180), 2, rng)
    for _ in range(300):
        found = worst_group_accuracy(rng.random(180) < np.array([0.9, 0.8, 0.7])[groups], groups, weights).accuracy
        hits += found.low <= 0.7 <= found.high
    assert hits >= 285


def test_gap_to_average():
    """Mean 230/300 minus 0.6."""
    correct, groups = split([(90, 10), (60, 40), (80, 20)])
    found = gap_to_average(correct, groups, unit_weights(np.arange(300), 300, np.random.default_rng(0)))
    assert found.value == pytest.approx(230 / 300 - 0.6)
    assert 0 < found.low < found.value < found.high


def test_small_groups_are_pooled():
    """29 rows are too few, 30 are not."""
    assert np.unique(pooled(np.repeat([4, 5, 6], [29, 30, 3])), return_counts=True)[1].tolist() == [32, 30]


def test_rows_without_a_group_are_refused():
    """Lengths must agree."""
    with pytest.raises(ValueError, match="needs a group"):
        worst_group_accuracy(np.ones(3, bool), np.zeros(2, int), np.ones((1, 3)))
