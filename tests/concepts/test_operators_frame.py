"""Operators of the frame and of marks: they change their pixels and no other."""

import numpy as np
import pytest

from audit_plugin.concepts.operators import apply
from audit_plugin.core.tree import Node

GRAIN = np.random.default_rng(0).integers(0, 250, (28, 40, 3)).astype(np.uint8)


def done(op, image=GRAIN, **params):
    return apply(Node(path=op, name=op, operator="deterministic", params={"op": op, **params}), image, 0)


@pytest.mark.parametrize("op", ["mirror_border", "flat_border"])
@pytest.mark.parametrize(("width_px", "wide"), [(1, 1), (16, 2), (24, 3)])
def test_a_frame_is_replaced_and_nothing_else(op, width_px, wide):
    """Of 28 px a side eight of 224 are one."""
    made = done(op, width_px=width_px)
    np.testing.assert_array_equal(made[wide:-wide, wide:-wide], GRAIN[wide:-wide, wide:-wide])
    frame = np.ones(GRAIN.shape[:2], bool)
    frame[wide:-wide, wide:-wide] = False
    assert (made[frame] != GRAIN[frame]).any(-1).mean() > 0.9


@pytest.mark.parametrize("op", ["mirror_border", "flat_border"])
def test_what_the_frame_was_leaves_no_trace(op):
    """Two pictures that differ in their frames alone become the same picture, so that a model can only answer to what is inside."""
    other = 255 - GRAIN
    other[2:-2, 2:-2] = GRAIN[2:-2, 2:-2]
    np.testing.assert_array_equal(done(op, other, width_px=16), done(op, width_px=16))


def test_a_mirrored_frame_continues_what_is_inside():
    made = done("mirror_border", width_px=16)
    np.testing.assert_array_equal(made[1, 2:-2], GRAIN[2, 2:-2])
    np.testing.assert_array_equal(made[0, 2:-2], GRAIN[3, 2:-2])


@pytest.mark.parametrize(("corner", "rows", "columns"), [("top_right", (1, 5), (35, 39)), ("bottom_left", (23, 27), (1, 5))])
def test_a_mark_is_a_white_square_in_its_corner(corner, rows, columns):
    made = done("corner_mark", corner=corner, side_px=32)
    marked = (made != GRAIN).any(-1)
    expected = np.zeros_like(marked)
    expected[slice(*rows), slice(*columns)] = True
    np.testing.assert_array_equal(marked, expected)
    assert (made[expected] == 255).all()


def test_the_widest_frame_and_mark_fit_the_smallest_picture():
    small = GRAIN[:8, :9]
    assert done("mirror_border", small, width_px=50).shape == small.shape
    assert done("corner_mark", small, corner="bottom_right", side_px=100).shape == small.shape
