"""Each concept can be set alone, and a picture is a function of its seed and its values."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from audit_plugin.sources.scenes import CONCEPTS, SIZE, render, render_many
from audit_plugin.sources.scenes.render import _DIM

SEEDS = range(12)
SHAPES = ("circle", "square", "triangle")
GOLDEN = Path(__file__).parent / "golden.png"


def grown(mask, pixels):
    return ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=pixels)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_colour_flip_changes_the_object_and_nothing_else(scene, behind, differ, seed, shape):
    """What changes is opaque, and only the outline of the opaque region stays."""
    changed = differ(scene(seed, shape=shape, colour="red"), scene(seed, shape=shape, colour="blue"))
    whole = behind(seed, shape=shape)
    assert changed.any()
    assert not (changed & ~whole).any()
    assert not (whole & ~grown(changed, 3)).any()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("flip", [{"shape": "square"}, {"shape": "triangle"}, {"size": "small"}])
def test_shape_and_size_flips_stay_within_both_objects(scene, behind, differ, seed, flip):
    """A soft edge, longest at the triangle's corners, around the two opaque regions is all that may change besides them."""
    changed = differ(scene(seed), scene(seed, **flip))
    assert changed.any()
    assert not (changed & ~grown(behind(seed) | behind(seed, **flip), 3)).any()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("wall", ["water", "sand", "brick"])
def test_a_background_flip_leaves_everything_in_front_alone(scene, differ, seed, wall):
    """Found by the flips of what is in front, not by the renderer's own masks."""
    full = {"ruler": "present", "snowman": "present"}
    changed = differ(scene(seed, **full), scene(seed, **full, background=wall))
    interior = ndimage.binary_erosion
    body = differ(scene(seed, **full), scene(seed, **full, colour="blue"))
    strip = differ(scene(seed, **full), scene(seed, snowman="present"))
    second = differ(scene(seed, **full), scene(seed, ruler="present"))
    assert not (changed & body).any()
    assert not (changed & interior(strip, np.ones((3, 3)))).any()
    assert not (changed & interior(second, np.ones((3, 3)), iterations=2)).any()
    free = ~grown(body, 4) & ~grown(strip, 1) & ~grown(second, 1)
    assert changed[free].mean() > 0.99


@pytest.mark.parametrize("seed", SEEDS)
def test_a_ruler_flip_changes_its_strip_only(scene, differ, seed):
    """Seven rows along one edge, whatever else the scene shows."""
    for others in ({}, {"background": "brick", "shape": "square", "size": "small"}, {"snowman": "present", "lighting": "dim"}):
        rows = np.flatnonzero(differ(scene(seed, **others), scene(seed, **others, ruler="present")).any(axis=1))
        assert set(rows.tolist()) in ({*range(7)}, {*range(SIZE - 7, SIZE)})


@pytest.mark.parametrize("seed", SEEDS)
def test_a_snowman_flip_stays_behind_the_object(scene, behind, differ, seed):
    """The object hides it, and it is opaque but for its edge."""
    changed = differ(scene(seed), scene(seed, snowman="present"))
    assert changed.sum() > 60
    assert not (changed & behind(seed)).any()
    assert not (changed & ~grown(behind(seed, snowman="present"), 1)).any()


def test_lighting_is_one_multiplicative_map(scene):
    """Dim = bright times a colour, the same in every scene, up to rounding and where bright is not clipped."""
    rng = np.random.default_rng(3)
    for seed in SEEDS:
        levels = {concept.name: concept.levels[rng.integers(len(concept.levels))] for concept in CONCEPTS[:-1]}
        bright, dim = scene(seed, **levels).astype(float), scene(seed, **levels, lighting="dim").astype(float)
        assert np.abs(dim - bright * _DIM)[bright < 255].max() <= 1.0


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_are_soft(scene, shape):
    """What a colour flip changes is the fill's share of each pixel: all inside, and in between along the edge."""
    change = np.abs(scene(1, shape=shape, colour="red").astype(float) - scene(1, shape=shape, colour="blue")).sum(axis=-1)
    cover = change / change.max()
    between = (cover > 0.1) & (cover < 0.9)
    inside = ndimage.binary_fill_holes(cover > 0.05)
    assert between.sum() > 20
    assert not (between & ndimage.binary_erosion(inside, np.ones((3, 3)), iterations=2)).any()


def test_same_seed_same_bytes_in_any_order_and_process():
    """One by one, backwards, and spread over processes."""
    values = np.random.default_rng(0).integers(0, 2, (12, len(CONCEPTS)))
    seeds = list(range(100, 112))
    together = render_many(seeds, values)
    np.testing.assert_array_equal(together, np.stack([render(s, v) for s, v in zip(seeds, values.tolist(), strict=True)]))
    np.testing.assert_array_equal(together, render_many(seeds[::-1], values[::-1])[::-1])
    np.testing.assert_array_equal(together, render_many(seeds, values, workers=2))


def test_same_seed_same_bytes_in_another_interpreter():
    """Nothing hangs on the interpreter's hash seed."""
    code = "from audit_plugin.sources.scenes import render; import sys; sys.stdout.buffer.write(render(7, [0] * 7).tobytes())"
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env={"PYTHONHASHSEED": "12"})
    assert hashlib.sha256(there.stdout).digest() == hashlib.sha256(render(7, [0] * 7).tobytes()).digest()


def test_pictures_are_those_the_shipped_generator_was_trained_on():
    """A change of the renderer needs new weights; one grey level of room is left for other processors."""
    values = np.stack([np.arange(12) % len(concept.levels) for concept in CONCEPTS], axis=1)
    kept = np.asarray(Image.open(GOLDEN)).reshape(SIZE, 12, SIZE, 3).swapaxes(0, 1)
    assert np.abs(render_many(list(range(12)), values).astype(int) - kept).max() <= 1


def test_no_scenes_are_an_empty_array():
    """Zero is a number of scenes, too."""
    assert render_many([], np.zeros((0, len(CONCEPTS)), np.int64)).shape == (0, SIZE, SIZE, 3)


def test_values_of_the_wrong_length_are_refused():
    """A missing concept is not silently the first level."""
    with pytest.raises(ValueError, match="shorter"):
        render(0, [0, 0])
