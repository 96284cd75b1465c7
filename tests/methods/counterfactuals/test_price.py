"""What explaining would take at most."""

import pytest

from audit_plugin.methods.counterfactuals.price import COMPARED, PATH, most_counterfactuals, targets_at_most


@pytest.mark.parametrize(
    ("policy", "classes", "most"),
    [("runner_up", 9, 1), ("all", 9, 8), ("all", 2, 1), ({"cat": "dog"}, 9, 1), ({"cat": ("dog", "fox"), "dog": "cat"}, 9, 2)],
)
def test_targets_of_an_image(policy, classes, most):
    assert targets_at_most(policy, classes) == most


def test_everything_is_counted():
    """Ten images, two targets, three runs at 5 queries and 100 rows; the images, stored pictures, JPEGs, comparison, two paths and a start."""
    found = most_counterfactuals(images=10, targets=2, runs=3, paths=2, each=(5, 100), before=[(7, 70)])
    assert found.pictures == 60
    assert found.network_rows == 60 * 100 + 70
    assert found.queries == 10 + 2 * COMPARED + 60 * 6 + 20 + 2 * PATH + 7
