"""Deterministic operators: exact where a closed form is known, and safe on any image."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from audit_plugin.concepts.default_tree import default_tree
from audit_plugin.concepts.operators import OPERATORS, apply, apply_all, parameter_refusal, refusal
from audit_plugin.concepts.operators_tone import LUMA
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.tree import Node

NODES = {node.path: node for node in default_tree("x").editable if node.operator == "deterministic"}


def scene(height, width):
    """Smooth colours with an off-centre disc and some grain: no symmetry, no flat colour."""
    y, x = np.mgrid[:height, :width]
    disc = (y / height - 0.4) ** 2 + (x / width - 0.6) ** 2 < 0.04
    channels = [60 + 120 * x / width, 70 + 90 * y / height, np.where(disc, 200, 50)]
    grain = np.random.default_rng(0).integers(0, 12, (height, width, 3))
    return (np.stack(channels, -1) + grain).astype(np.uint8)


def disc(height, width):
    y, x = np.mgrid[:height, :width]
    return (y / height - 0.5) ** 2 + (x / width - 0.5) ** 2 < 0.09


def node(op, **params):
    return Node(path=op, name=op, operator="deterministic", params={"op": op, **params})


def done(image, op, **params):
    return apply(node(op, **params), image, 0)


@pytest.mark.parametrize("path", NODES)
def test_every_node_keeps_shape_and_type_and_leaves_its_image_alone(path):
    """From 8 px on, square or not; and gives the same pixels every time."""
    for size in ((8, 8), (8, 31), (40, 9), (64, 64), (123, 77)):
        image, mask = scene(*size), disc(*size)
        before = image.copy()
        edited = apply(NODES[path], image, 3, mask)
        assert (edited.dtype, edited.shape) == (np.uint8, image.shape)
        np.testing.assert_array_equal(image, before)
        np.testing.assert_array_equal(apply(NODES[path], image.copy(), 3, mask), edited)


@pytest.mark.parametrize("path", NODES)
@pytest.mark.parametrize("size", [64, 224])
def test_every_node_changes_a_picture_to_be_seen(path, size):
    """By at least a third of a grey level on average, and by several somewhere."""
    image = scene(size, size)
    change = np.abs(apply(NODES[path], image, 0, disc(size, size)).astype(float) - image)
    assert change.mean() > 0.3
    assert change.max() >= 6


def test_brightness_contrast_and_saturation_by_their_formulas():
    image = scene(50, 60)
    inner = image.astype(float)
    grey = (inner @ LUMA)[..., None]
    np.testing.assert_array_equal(done(image, "brightness", change=-0.3), np.rint(inner * 0.7))
    np.testing.assert_array_equal(done(image, "contrast", change=-0.4), np.rint(grey.mean() + (inner - grey.mean()) * 0.6))
    flat = done(image, "saturation", change=-1.0)
    assert (flat.max(2) == flat.min(2)).all()
    assert np.abs(flat[..., 0] - grey[..., 0]).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("cast", ["warm", "cool", "green"])
def test_a_colour_cast_keeps_the_brightness_of_grey(cast):
    flat = np.full((16, 16, 3), 128, np.uint8)
    edited = done(flat, "hue_cast", cast=cast)
    assert abs((edited @ LUMA).mean() - 128) < 0.6
    assert np.ptp(edited[0, 0]) > 20


def test_negatives_and_faded_blacks_by_their_formulas():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert (done(ramp, "invert") == 255 - ramp).all()
    assert (done(ramp, "raised_black", least=100) == np.maximum(ramp, 100)).all()


def test_gamma_and_posterise_by_their_formulas():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    np.testing.assert_array_equal(done(ramp, "gamma", gamma=0.6), np.rint(255 * (ramp / 255) ** 0.6))
    posterised = done(ramp, "posterise", bits=4)
    assert set(np.unique(posterised)) == set(range(0, 256, 17))
    assert np.abs(posterised.astype(int) - ramp).max() <= 8


def test_vignette_and_gradient_reach_their_stated_ends():
    flat = np.full((33, 65, 3), 100, np.uint8)
    dark = done(flat, "vignette", strength=0.6)
    assert (dark[0, 0, 0], dark[16, 32, 0], dark[-1, -1, 0]) == (40, 100, 40)
    light = done(flat, "light_gradient", side="left", strength=0.4)
    assert (light[5, 0, 0], light[5, 32, 0], light[5, -1, 0]) == (140, 100, 60)
    assert done(flat, "light_gradient", side="bottom", strength=0.4)[-1, 5, 0] == 140


@pytest.mark.parametrize("size", [112, 224, 448])
def test_blurs_have_their_width_at_any_size(size):
    """The spread of a bright line, in pixels of 224: sigma for the normal kernel, length / sqrt 12 for the stroke."""
    line = np.zeros((size, size, 3), np.uint8)
    line[:, size // 2] = 255
    at = np.arange(size) - size // 2
    for op, params, spread in (("gaussian_blur", {"sigma_px": 4.0}, 4), ("motion_blur", {"length_px": 17.0}, 17 / np.sqrt(12))):
        profile = done(line, op, **params)[size // 2, :, 0].astype(float)
        assert profile.sum() == pytest.approx(255, rel=0.1)
        assert np.sqrt((profile * at**2).sum() / profile.sum()) / (size / 224) == pytest.approx(spread, rel=0.06)


def test_noise_has_its_size_and_is_shared_by_the_nodes_of_an_image():
    """Strengths differ by their factor alone; another seed or another image has other noise."""
    image = np.full((64, 64, 3), 128, np.uint8)
    weak, strong = (apply(NODES[f"quality/noise/sd_{sd}"], image, 0).astype(float) - 128 for sd in (8, 32))
    assert weak.std() == pytest.approx(8, rel=0.05)
    assert np.corrcoef(weak.ravel(), strong.ravel())[0, 1] > 0.99
    for other in (apply(NODES["quality/noise/sd_8"], image, 1), apply(NODES["quality/noise/sd_8"], image + np.uint8(1), 0)):
        assert abs(np.corrcoef(weak.ravel(), other.ravel())[0, 1]) < 0.1


def test_noise_is_keyed_by_the_image_and_never_by_the_node():
    """The same operator under another path, name and kind draws the same pixels."""
    one = NODES["quality/noise/sd_16"]
    image = scene(32, 32)
    np.testing.assert_array_equal(apply(one, image, 5), apply(replace(one, path="other/place", name="grain"), image, 5))


def test_jpeg_is_what_an_encoder_of_that_quality_writes():
    image, file = scene(48, 64), io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=20)
    np.testing.assert_array_equal(done(image, "jpeg", quality=20), np.asarray(Image.open(file)))


def test_flips_and_quarter_turns_are_exact_and_undo_themselves():
    image = scene(40, 40)
    for op, params, times in (("hflip", {}, 2), ("vflip", {}, 2), ("rotate", {"degrees": 90.0}, 4)):
        out = image
        for _ in range(times):
            out = done(out, op, **params)
        np.testing.assert_array_equal(out, image)
    np.testing.assert_array_equal(done(image, "rotate", degrees=90.0), np.rot90(image))


def test_rotation_turns_anticlockwise_about_the_centre():
    """A dot right of the middle goes up; the middle stays."""
    image = np.zeros((101, 101, 3), np.uint8)
    image[48:53, 78:83], image[49:52, 49:52] = 255, 255
    turned = done(image, "rotate", degrees=30.0)[..., 0]
    x, y = 30 * np.cos(np.pi / 6), 30 * np.sin(np.pi / 6)
    assert turned[round(50 - y), round(50 + x)] > 200
    assert turned[50, 50] > 200


def test_zoom_and_translation_move_things_by_what_they_say():
    """A square in the middle grows and shrinks by its factor; a shift by a tenth of the width is ten pixels of a hundred."""
    image = np.zeros((100, 100, 3), np.uint8)
    image[40:60, 40:60] = 255
    for op, factor in (("zoom", 1.5), ("zoom_out", 0.7)):
        assert (done(image, op, factor=factor)[..., 0] > 127).sum() == pytest.approx(400 * factor**2, rel=0.1)
    moved = done(image, "translate", dx=0.1, dy=0.0)
    np.testing.assert_array_equal(moved[:, 10:], image[:, :-10])
    corner = done(image, "crop_corner", corner="top_left", keep=0.8)[..., 0]
    assert (corner[47, 47], corner[60, 60], corner[78, 78]) == (0, 255, 0)


def test_patches_cover_their_share_where_they_say():
    image = scene(100, 150)
    for place, (y, x) in {"top_left": (0, 0), "bottom_right": (-1, -1), "centre": (50, 75)}.items():
        grey = (done(image, "grey_patch", place=place, area=0.2) == 128).all(2)
        assert grey.mean() == pytest.approx(0.2, abs=0.01)
        assert grey[y, x]


def test_masked_operators_share_the_picture_between_them():
    """And are refused, with the reason, where nobody knows what the object is."""
    image, mask = scene(40, 30), disc(40, 30)
    background, thing = (apply(node(op), image, 0, mask) for op in ("background_grey", "object_grey"))
    np.testing.assert_array_equal(np.where(mask[..., None], background, thing), image)
    assert (background[~mask] == 128).all()
    assert refusal(node("object_grey"), mask=True) is None
    with pytest.raises(ConfigError, match="'background_grey' needs a mask of the object; give one, or set `editable: false`"):
        apply(node("background_grey"), image, 0)


def test_a_joint_edit_does_not_depend_on_the_order_of_its_nodes():
    """Operators have an order of their own, and the noise is that of the unedited image."""
    image = scene(64, 64)
    nodes = [NODES[path] for path in ("quality/jpeg/q_20", "geometry/hflip", "quality/noise/sd_8", "artefact/logo_box")]
    joint = apply_all(nodes, image, 7)
    np.testing.assert_array_equal(joint, apply_all(nodes[::-1], image, 7))
    noise = apply(NODES["quality/noise/sd_8"], np.full((64, 64, 3), 128, np.uint8), 7)
    assert noise.shape == joint.shape
    flipped_first = apply_all([NODES["geometry/hflip"], NODES["quality/noise/sd_8"]], image, 7).astype(float) - image[:, ::-1]
    alone = apply(NODES["quality/noise/sd_8"], image, 7).astype(float) - image
    assert np.corrcoef(flipped_first.ravel(), alone.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    "path", [path for path in NODES if path.startswith("artefact/") and not OPERATORS[NODES[path].params["op"]].seeded]
)
def test_artefacts_cover_the_same_share_at_every_size(path):
    """Those that the seed does not place."""
    shares = [np.abs(apply(NODES[path], np.full((n, n, 3), 90, np.uint8), 0).astype(float) - 90).mean() for n in (64, 224, 500)]
    assert min(shares) > 0.55 * max(shares)


@pytest.mark.parametrize("path", NODES)
def test_nothing_but_8_bit_colour_images_is_taken(path):
    for wrong in (
        np.zeros((16, 16, 3), np.float32),
        np.zeros((16, 16), np.uint8),
        np.zeros((16, 16, 4), np.uint8),
        np.zeros((7, 99, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match="need"):
            apply(NODES[path], wrong, 0)


def test_a_wrong_mask_and_a_node_of_another_operator_are_refused():
    with pytest.raises(ValueError, match="boolean mask"):
        apply(node("hflip"), scene(16, 16), 0, np.ones((8, 8), bool))
    with pytest.raises(ConfigError, match="'diffusion', not by a deterministic one"):
        apply(Node(path="a", name="a", prompt_add="x"), scene(16, 16), 0)


@pytest.mark.parametrize("name", OPERATORS)
def test_parameters_are_all_asked_for_and_bounded(name):
    """A missing one, an unknown one and a wrong one are each refused; values that would change nothing too."""
    operator = OPERATORS[name]
    assert "no parameter 'nonsense'" in parameter_refusal({"op": name, "nonsense": 1})
    assert (parameter_refusal({"op": name}) is None) == (not operator.parameters)
    for parameter in operator.parameters.values():
        for value in (True, "nonsense", float("nan"), 1e9, None):
            assert parameter.refusal(value) is not None
    if name in {"brightness", "contrast", "saturation"}:
        assert "but not 0" in parameter_refusal({"op": name, "change": 0})


def test_very_long_pictures_do_not_exhaust_memory():
    """The sheet that artefacts are drawn on is bounded."""
    image = scene(8, 6000)
    assert apply(NODES["artefact/ruler_strip"], image, 0).shape == image.shape
