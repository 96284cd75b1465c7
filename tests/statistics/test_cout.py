"""COUT against the published implementation's numbers, and what its definition promises."""

import numpy as np
import pytest

from audit_plugin.statistics.cout import composites, cout, moves, pixels_per_move


def areas(before, after, model):
    """COUT of one pair under ``model``, which answers the probability of the second of two classes."""
    p = model(composites(before, after))
    original = p if p[0] > 0.5 else 1 - p
    return cout(original, 1 - original, pixels=before[0].size)


def test_conformance_numbers():
    """Two 4 by 4 images against their negatives, one pixel per move, 17 points."""
    i = np.arange(48)
    images = (np.stack([0.8 * np.sin(0.7 * i), 0.8 * np.cos(0.3 * i)]).reshape(2, 3, 4, 4) + 1) / 2

    def model(x):
        return 1 / (1 + np.exp(-((2 * x.reshape(-1, 48) - 1) @ (0.3 * np.cos(1.3 * i)) + 0.2)))

    found = [areas(x, 1 - x, model) for x in images]
    assert [one.value for one in found] == pytest.approx([-0.029345, -0.058683], abs=1e-6)
    assert [one.published for one in found] == pytest.approx([-0.029345, -0.058683], abs=1e-6)
    assert [one.queries for one in found] == [17, 17]


def test_most_changed_pixels_move_first_with_all_channels():
    """Changes by pixel, over channels: 2, 7, 0, 7; equal ones in reading order."""
    before = np.zeros((2, 2, 2), np.uint8)
    after = np.array([[[2, 3], [0, 7]], [[0, 4], [0, 0]]], np.uint8)
    steps = composites(before, after)
    assert steps.dtype == np.uint8
    assert [np.flatnonzero((step != before).any(0)).tolist() for step in steps] == [[], [1], [1, 3], [0, 1, 3], [0, 1, 3]]
    np.testing.assert_array_equal(steps[-1], after)


@pytest.mark.parametrize("side", [3, 7, 8, 16, 33])
def test_every_pixel_moves_once(side):
    """From the original to the counterfactual; each move but the last has the same number of pixels."""
    before, after = np.random.default_rng(side).random((2, 3, side, side), dtype=np.float32)
    steps = composites(before, after)
    moved = (steps != before).any(1).sum((1, 2))
    assert len(steps) == moves(side * side) + 1
    np.testing.assert_array_equal(moved, np.minimum(np.arange(len(steps)) * pixels_per_move(side * side), side * side))


def test_published_form_overruns_its_span():
    """51 moves of 327 are 16,677 of 16,384 pixels, so that areas come out 1.018 times too large; a flip at the first move costs half a move."""
    target = np.r_[0.0, np.ones(51)]
    found = cout(1 - target, target, pixels=128 * 128)
    assert found.value == pytest.approx(1 - 1 / 51)
    assert found.published == pytest.approx(327 / 16384 * 50)
    assert found.span == pytest.approx(1.0178833)


def test_equal_images_score_what_the_model_says():
    """No move, one query, p_y - p_c."""
    image = np.full((3, 4, 4), 0.5)
    steps = composites(image, image)
    found = cout(np.full(len(steps), 0.7), np.full(len(steps), 0.2), pixels=16)
    assert len(steps) == 1
    assert (found.value, found.published) == (pytest.approx(-0.5), pytest.approx(-0.5))


def test_well_placed_changes_beat_spread_ones():
    """A model that reads one pixel: the edit that changes this pixel most scores high, the one that changes it least scores low."""
    before, seen = np.zeros((1, 8, 8)), np.linspace(0.1, 0.9, 64).reshape(1, 8, 8)

    def last(x):
        return np.where(x[:, 0, 7, 7] > 0, 0.05, 0.95)

    assert areas(before, seen, last).value == pytest.approx(0.9 * (1 - 1 / 64))
    assert areas(before, 1 - seen, last).value == pytest.approx(-0.9 * (1 - 1 / 64))


def test_classes_exchanged_change_the_sign():
    first, second = np.random.default_rng(0).random((2, 17))
    assert cout(first, second, pixels=16).value == -cout(second, first, pixels=16).value


def test_nonsense_is_refused():
    image = np.zeros((3, 4, 4))
    with pytest.raises(ValueError, match="one shape and type"):
        composites(image, np.zeros((3, 4, 5)))
    with pytest.raises(ValueError, match="one shape and type"):
        composites(image, image.astype(np.uint8))
    with pytest.raises(ValueError, match="finite"):
        composites(image, np.full((3, 4, 4), np.nan))
    with pytest.raises(ValueError, match="17 answers"):
        cout(np.zeros(16), np.zeros(16), pixels=16)
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        cout(np.full(17, 1.5), np.zeros(17), pixels=16)
    with pytest.raises(ValueError, match="at least one pixel"):
        moves(0)
