"""Checks of edits, against closed forms and at their limits."""

import numpy as np
import pytest

from audit_plugin.core.tree import Node, NodeKind
from audit_plugin.perception.edit_checks import (
    Validity,
    attribute_failed,
    changed_too_much,
    class_kept,
    dissimilarity,
    is_global,
    outside_psnr,
    protected_changed,
)
from audit_plugin.sources.images import to_float
from audit_plugin.sources.scenes import render

LIMITS = Validity()
LOCAL, GLOBAL = Node(path="local", name="x", threshold=0.75), Node(path="global", name="x", threshold=0.5)


def flat(*levels, size=32):
    return np.stack([np.full((3, size, size), level, np.float32) for level in levels])


@pytest.mark.parametrize(("a", "b"), [(0.2, 0.2), (0.2, 0.8), (0.0, 1.0), (0.5, 0.4)])
def test_flat_images_differ_by_their_means_alone(a, b):
    """SSIM is (2ab + c1) / (a² + b² + c1) where nothing varies."""
    c1 = 0.01**2
    similarity = (2 * a * b + c1) / (a * a + b * b + c1)
    assert dissimilarity(flat(a), flat(b))[0] == pytest.approx((1 - similarity) / 2, abs=1e-5)


@pytest.mark.parametrize("contrast", [0.02, 0.1, 0.3])
def test_an_inverted_pattern_is_less_like_than_none(contrast):
    """SSIM is (c2 - 2s²) / (c2 + 2s²) for a fine pattern and its negative, but for the rim."""
    fine = np.indices((192, 192)).sum(0) % 2 * 2 - 1
    first, second = (np.broadcast_to(0.5 + sign * contrast * fine, (1, 3, 192, 192)).astype(np.float32) for sign in (1, -1))
    c2, s2 = 0.03**2, contrast**2
    assert dissimilarity(first, second)[0] == pytest.approx((1 - (c2 - 2 * s2) / (c2 + 2 * s2)) / 2, abs=0.01)


def test_dissimilarity_is_a_distance_in_bounds():
    """Zero to itself, the same both ways, in [0, 1]; an image's value does not depend on the batch."""
    scenes = to_float([render(at, (at % 3, 0, 1, at % 4, at % 2, 0, 0)) for at in range(6)])
    other = scenes[::-1].copy()
    found = dissimilarity(scenes, other)
    np.testing.assert_allclose(dissimilarity(scenes, scenes), 0, atol=1e-6)
    np.testing.assert_allclose(found, dissimilarity(other, scenes), atol=1e-12)
    np.testing.assert_allclose(found[2], dissimilarity(scenes[2:3], other[2:3])[0], atol=1e-12)
    assert ((found > 0.1) & (found < 1)).all()


@pytest.mark.parametrize(("step", "decibel"), [(0.1, 20.0), (0.01, 40.0), (1.0, 0.0), (0.0, 100.0)])
def test_psnr_is_the_mean_square_in_decibel(step, decibel):
    """-10 log10(d²); equal images have the cap."""
    assert outside_psnr(flat(0.0), flat(step), np.zeros((1, 32, 32), np.float32)) == [pytest.approx(decibel, abs=0.01)]


def test_psnr_counts_the_outside_alone():
    """Half of the image has one error, the mask hides the other half's; each image has its own mask."""
    before, after, masks = flat(0.0, 0.0, 0.0), flat(0.1, 0.1, 0.1), np.zeros((3, 32, 32), np.float32)
    after[:, :, :, 16:] = 0.9
    masks[1] = 1
    masks[2, :, 17:] = 0.3
    plain, none, hidden = outside_psnr(before, after, masks)
    assert plain == pytest.approx(-10 * np.log10((0.01 + 0.81) / 2), abs=0.01)
    assert none is None
    assert hidden == pytest.approx(20, abs=0.01)


@pytest.mark.parametrize(("size", "reach"), [(512, 8), (256, 4), (64, 1), (16, 1)])
def test_the_mask_grows_with_the_image(size, reach):
    """An error that far from the mask is forgiven, one pixel further it counts."""
    before = np.zeros((1, 3, size, size), np.float32)
    mask = np.zeros((1, size, size), np.float32)
    mask[0, 2, 2] = 1
    near, far = before.copy(), before.copy()
    near[0, :, 2, 2 + reach] = far[0, :, 2, 3 + reach] = 1
    assert outside_psnr(before, near, mask) == [100.0]
    assert outside_psnr(before, far, mask)[0] < 100


@pytest.mark.parametrize(
    ("before", "after", "sign", "failed"),
    [
        (0.1, 0.9, 1, False),
        (0.3, 0.65, 1, False),
        (0.5, 0.7, 1, True),  # rises too little
        (0.1, 0.55, 1, True),  # does not get there
        (0.9, 0.1, 1, True),  # the other way
        (0.9, 0.1, -1, False),
        (0.9, 0.45, -1, True),
        (0.5, 0.3, -1, True),
        (0.1, 0.9, -1, True),
        (None, 0.9, 1, True),  # no judge
        (0.1, None, 1, True),
    ],
)
def test_v1_asks_for_a_change_and_for_where_it_ends(before, after, sign, failed):
    assert attribute_failed(before, after, sign, LIMITS) is failed


@pytest.mark.parametrize(
    ("nodes", "distance", "outside", "failed"),
    [
        ([LOCAL], 0.2, 30.0, False),
        ([LOCAL], 0.3, 30.0, True),
        ([GLOBAL], 0.3, 30.0, False),
        ([GLOBAL], 0.5, 30.0, True),
        ([LOCAL, GLOBAL], 0.3, 30.0, False),  # one global node may change all
        ([LOCAL], 0.2, 27.0, True),
        ([GLOBAL], 0.2, 27.0, True),
        ([LOCAL], None, None, False),  # nothing was measured
    ],
)
def test_v2_has_a_limit_for_parts_and_one_for_wholes(nodes, distance, outside, failed):
    assert changed_too_much(nodes, distance, outside, LIMITS) is failed


@pytest.mark.parametrize("perceptual", [False, True])
@pytest.mark.parametrize(("distance", "outside"), [(np.nan, None), (np.nan, 40.0), (None, np.nan), (0.1, np.nan)])
def test_what_is_not_a_number_is_taken_for_too_much(perceptual, distance, outside):
    """A network that overflows has shown nothing; comparisons with NaN are all false."""
    assert changed_too_much([GLOBAL], distance, outside, LIMITS, perceptual=perceptual)


def test_a_node_that_leaves_half_alone_is_global():
    assert (is_global(LOCAL), is_global(GLOBAL)) == (False, True)


def test_the_class_is_what_core_concepts_read():
    """Probabilities may move, the likeliest level may not; other concepts have no say, and one that was not read neither."""
    kinds = {"shape": NodeKind.CORE, "ruler": NodeKind.ARTEFACT}
    before = {"shape": [0.9, 0.1], "ruler": [1.0, 0.0]}
    assert class_kept(kinds, before, {"shape": [0.6, 0.4], "ruler": [0.0, 1.0]})
    assert not class_kept(kinds, before, {"shape": [0.4, 0.6], "ruler": [1.0, 0.0]})
    assert class_kept(kinds, before, {"ruler": [0.0, 1.0]})
    assert class_kept({}, before, {"shape": [0.0, 1.0]})


@pytest.mark.parametrize(("after", "changed"), [(0.31, False), (0.5, True), (0.05, True), (0.3, False)])
def test_v4_watches_protected_concepts(after, changed):
    """By a fifth either way, unless it was the one that was edited."""
    kinds, before = {"skin": NodeKind.PROTECTED, "hat": NodeKind.NUISANCE}, {"skin": [0.3, 0.7], "hat": [1.0, 0.0]}
    reading = {"skin": [after, 1 - after], "hat": [0.0, 1.0]}
    assert protected_changed(kinds, ["hat"], before, reading, LIMITS) is changed
    assert not protected_changed(kinds, ["skin"], before, reading, LIMITS)
    assert not protected_changed(kinds, [], before, {}, LIMITS)
