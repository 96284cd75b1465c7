import numpy as np
import pytest

from audit_plugin.statistics.likeness import agreement


def test_a_tie_is_the_first_class_on_both_sides():
    scores = np.full((3, 2), 0.5)
    assert (agreement(scores, scores).same, agreement(scores, scores).change) == (1.0, 0.0)


@pytest.mark.parametrize(("wrong", "passed"), [(0, True), (1, True), (2, False)])
def test_one_in_a_hundred_may_differ(wrong, passed):
    """In its class; scores hardly change."""
    drawn = np.tile([0.502, 0.498], (100, 1))
    twin = np.where(np.arange(100)[:, None] < wrong, drawn[:, ::-1], drawn)
    assert agreement(drawn, twin).passed is passed


@pytest.mark.parametrize(("change", "passed"), [(0.009, True), (0.011, False)])
def test_scores_may_change_by_a_hundredth(change, passed):
    drawn = np.tile([0.9, 0.1], (10, 1))
    assert agreement(drawn, drawn + np.array([-change, change])).passed is passed


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="as many pictures as twins"):
        agreement(np.ones((2, 2)), np.ones((3, 2)))
