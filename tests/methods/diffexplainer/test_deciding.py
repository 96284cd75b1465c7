"""Whether a response comes from the object, on pictures where that is known."""

import numpy as np
import pytest

from audit_plugin.core.discovery_results import WordPart
from audit_plugin.core.estimate import Estimate
from audit_plugin.methods.diffexplainer.deciding import covered, drawn_masks, heat_share, occlusion_share, part_of

SIDE = 16


def scenes(count=24, seed=0):
    """Grey noise with a bright square somewhere, and the same without it."""
    rng = np.random.default_rng(seed)
    without = (0.3 + 0.02 * rng.random((count, 3, SIDE, SIDE))).astype(np.float32)
    pictures, masks = without.copy(), np.zeros((count, SIDE, SIDE), bool)
    for row in range(count):
        y, x = rng.integers(1, SIDE - 6, 2)
        masks[row, y : y + 5, x : x + 5] = True
        pictures[row][:, masks[row]] = 0.9
    return pictures, without, masks


def share(score):
    """Of the response of a model ``score``, by covering what differs between a picture with the object and without."""
    pictures, without, _ = scenes()
    masks = drawn_masks(pictures, without)
    lost = [score(pictures) - score(covered(pictures, some)) for some in (masks, ~masks)]
    return occlusion_share(*lost, masks.mean((1, 2)), seed=0)


def test_where_a_word_was_drawn_is_where_the_pictures_differ():
    """But for a rim of one pixel, which the blur takes or gives."""
    pictures, without, masks = scenes()
    found = drawn_masks(pictures, without)
    inner = masks & np.roll(masks, 1, 1) & np.roll(masks, -1, 1) & np.roll(masks, 1, 2) & np.roll(masks, -1, 2)
    outer = masks | np.roll(masks, 1, 1) | np.roll(masks, -1, 1) | np.roll(masks, 1, 2) | np.roll(masks, -1, 2)
    assert (inner <= found).all()
    assert (found & ~np.roll(outer, 1, 2) & ~np.roll(outer, -1, 2) & ~outer).sum() == 0
    assert not drawn_masks(pictures, pictures).any()


def test_a_model_of_the_object_is_core():
    """It sees the brightest spot."""
    inside = share(lambda images: images.max((1, 2, 3)).astype(float))
    assert part_of(inside) is WordPart.CORE


def test_a_model_of_the_surroundings_is_spurious():
    """It sees how much the grey of the corners varies, wherever the object is."""

    def score(images):
        return 100 * images[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].std((1, 2)).astype(float)

    assert part_of(share(score)) is WordPart.SPURIOUS


@pytest.mark.parametrize("area", [0.1, 0.6])
def test_what_any_place_would_give_is_no_share(area):
    """Losses as large as the covered area: nothing is left when chance is taken off; all of it inside is 1."""
    n = 24
    areas = np.full(n, area)
    assert occlusion_share(areas, 1 - areas, areas, seed=0).value == pytest.approx(0)
    assert occlusion_share(np.ones(n), np.zeros(n), areas, seed=0).value == pytest.approx(1)
    assert occlusion_share(np.zeros(n), np.ones(n), areas, seed=0).value == pytest.approx(-area / (1 - area))


def test_nothing_lost_is_nothing_known():
    """Nor is a single picture; gains count as no loss, and answers that are no numbers are left out."""
    none, some = np.zeros(8), np.full(8, 0.1)
    assert occlusion_share(none, none, some, seed=0) is None
    assert occlusion_share(-some, -some, some, seed=0) is None
    assert occlusion_share(some[:1], some[:1], some[:1], seed=0) is None
    lost = np.array([0.5, 0.5, np.nan, 0.5])
    assert occlusion_share(lost, np.zeros(4), np.full(4, 0.1), seed=0).value == pytest.approx(1)


def test_the_interval_holds_the_truth():
    """Each picture loses its own amount, a share 0.4 above chance of it inside; in 93 of 100 draws at least."""
    rng, held, area, truth = np.random.default_rng(0), 0, 0.1, 0.4
    for _ in range(100):
        lost = rng.gamma(4.0, 1.0, 40)
        inside = lost * np.clip(area + truth * (1 - area) + 0.15 * rng.standard_normal(40), 0, 1)
        found = occlusion_share(inside, lost - inside, np.full(40, area), seed=0)
        held += found.low <= truth <= found.high
    assert held >= 93


def test_share_of_heat_inside_a_mask():
    """1 inside, 0 where it is even, unknown without heat and for a mask of everything."""
    mask = np.zeros((1, 4, 4), bool)
    mask[0, :2, :2] = True
    assert heat_share(mask.astype(float), mask) == pytest.approx(1)
    assert heat_share(np.ones((1, 4, 4)), mask) == pytest.approx(0)
    assert np.isnan(heat_share(np.zeros((1, 4, 4)), mask)).all()
    assert np.isnan(heat_share(np.ones((1, 4, 4)), np.ones((1, 4, 4), bool))).all()


def test_covering_leaves_all_else_alone():
    """What is covered takes the mean colour of the rest; a mask of everything that of the picture."""
    pictures, _, masks = scenes(2)
    masks[1] = True
    before = pictures.copy()
    filled = covered(pictures, masks)
    assert (pictures == before).all()
    assert (filled[0][:, ~masks[0]] == before[0][:, ~masks[0]]).all()
    assert filled[0][:, masks[0]] == pytest.approx(np.repeat(before[0][:, ~masks[0]].mean(1)[:, None], masks[0].sum(), 1), abs=1e-6)
    assert filled[1] == pytest.approx(np.broadcast_to(before[1].mean((1, 2))[:, None, None], filled[1].shape), abs=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "part"),
    [
        (-0.5, 0.2, WordPart.SPURIOUS),
        (0.6, 0.9, WordPart.CORE),
        (0.1, 0.3, WordPart.MIXED),
        (0.3, 0.6, WordPart.MIXED),
        (0.0, 1.0, WordPart.MIXED),
    ],
)
def test_limits_decide(low, high, part):
    assert part_of(Estimate(value=(low + high) / 2, low=low, high=high)) is part
