"""Shares of a hidden unit's response inside an object."""

import numpy as np
import pytest

from audit_plugin.methods.diffexplainer.object_masks import heat_inside


@pytest.fixture
def masks():
    """The left half of eight pictures, and nothing in two more."""
    found = np.zeros((10, 8, 8), bool)
    found[:8, :, :4] = True
    return found


def lit(left, right, side=4):
    """Maps of ten pictures with their mean brightness on either side, each a little different, and darkness below."""
    maps = np.full((10, side, side), -3.0)
    maps[:, :2, : side // 2], maps[:, :2, side // 2 :] = left, right
    return maps * np.linspace(0.9, 1.1, 10)[:, None, None]


@pytest.mark.parametrize(("left", "right", "share"), [(1, 0, 0.87), (0, 1, -0.87), (1, 1, 0.0)])
def test_the_share_is_that_of_light_inside_beyond_chance(masks, left, right, share):
    """Maps are smaller than pictures, so that a little of either side spills over; pictures without the object do not count."""
    found = heat_inside(lit(left, right), masks)
    assert found.value == pytest.approx(share, abs=0.02)
    assert found.low <= found.value <= found.high
    other = lit(left, right)
    other[8:] = 100
    assert heat_inside(other, masks) == found


def test_dark_maps_and_pictures_without_the_object_say_nothing(masks):
    assert heat_inside(np.zeros((10, 4, 4)), masks) is None
    assert heat_inside(lit(1, 0), np.zeros_like(masks)) is None


def test_maps_of_the_middle_are_laid_on_the_middle():
    """The model sees half of the side: the object fills the left half of that."""
    masks = np.zeros((4, 16, 16), bool)
    masks[:, :, :8] = True
    masks[:, :, :4] = False
    masks[:, :, 12:] = True
    whole, middle = heat_inside(lit(1, 0)[:4], masks), heat_inside(lit(1, 0)[:4], masks, seen=0.5)
    assert middle.value > 0.8 > whole.value
