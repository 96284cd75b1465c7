"""Preprocessing makes what a client would send."""

import numpy as np
import pytest
from PIL import Image

from audit_plugin.target.options import PreprocessOptions, TargetOptions, TlsOptions
from audit_plugin.target.preprocess import quantise, to_input

IMAGES = np.random.default_rng(1).random((3, 3, 10, 14), np.float32)


def test_pixels_are_rounded_to_eight_bits():
    """The model sees 8-bit pictures, whatever the audit holds."""
    np.testing.assert_allclose(to_input(IMAGES, PreprocessOptions()), np.rint(IMAGES * 255) / 255, rtol=1e-6)


def test_eight_bit_images_pass_through_unchanged():
    """PNG -> float -> PNG loses nothing."""
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    np.testing.assert_array_equal(quantise(pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)), pixels)


def test_normalisation_is_per_colour():
    """(pixel * scale - mean) / std, red first, also when blue is sent first."""
    options = PreprocessOptions(mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.4), channels="BGR", layout="NHWC")
    want = (np.rint(IMAGES * 255) / 255 - np.reshape(options.mean, (3, 1, 1))) / np.reshape(options.std, (3, 1, 1))
    np.testing.assert_allclose(to_input(IMAGES, options)[..., ::-1].transpose(0, 3, 1, 2), want, atol=1e-5)


def test_grey_is_pillows():
    """One channel, as a client that opens the picture in mode L sends it, normalised by one mean and std."""
    options = PreprocessOptions(channels="GREY", scale=1.0, mean=(5.0,) * 3, std=(2.0,) * 3)
    pillow = np.stack([np.asarray(Image.fromarray(each).convert("L"), np.float32) for each in quantise(IMAGES)])[:, None]
    np.testing.assert_array_equal(to_input(IMAGES, options), (pillow - 5) / 2)
    assert to_input(IMAGES, PreprocessOptions(channels="GREY", layout="NHWC", dtype="UINT8")).shape == (3, 10, 14, 1)
    with pytest.raises(ValueError, match="one mean and one std"):
        PreprocessOptions(channels="GREY", mean=(0.5, 0.4, 0.3))


@pytest.mark.parametrize(("dtype", "kind"), [("FP32", np.float32), ("FP16", np.float16), ("UINT8", np.uint8)])
def test_types(dtype, kind):
    """The array has the type that the model declares; UINT8 keeps 0..255."""
    sent = to_input(IMAGES, PreprocessOptions(dtype=dtype))
    assert sent.dtype == kind
    assert sent.max() == (quantise(IMAGES).max() if dtype == "UINT8" else pytest.approx(quantise(IMAGES).max() / 255, rel=1e-3))


def test_resize_and_crop_as_torchvision_does():
    """Shorter side to 8 (10x14 -> 8x11), then the middle 6x6: the rule of "resize 256, crop 224"."""
    options = PreprocessOptions(size=(6, 6), fit="center_crop", shorter_px=8, resize="bilinear", dtype="UINT8", layout="NHWC")
    picture = Image.fromarray(quantise(IMAGES)[0]).resize((11, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(to_input(IMAGES, options)[0], np.asarray(picture)[1:7, 2:8])


def test_stretch_changes_the_aspect():
    """Without cropping the whole picture is squeezed into the size."""
    assert to_input(IMAGES, PreprocessOptions(size=(4, 5))).shape == (3, 3, 4, 5)


def test_nothing_in_nothing_out():
    """An empty batch has the shape of the model's input."""
    assert to_input(IMAGES[:0], PreprocessOptions(size=(4, 5), layout="NHWC")).shape == (0, 4, 5, 3)


@pytest.mark.parametrize("images", [IMAGES[0], np.full((1, 3, 2, 2), np.nan, np.float32), IMAGES[:, :1]])
def test_what_is_no_image_is_refused(images):
    """Wrong axes and NaN never become pixels."""
    with pytest.raises(ValueError, match="images must be"):
        to_input(images, PreprocessOptions())


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (PreprocessOptions, {"dtype": "UINT8", "mean": (0.5, 0.5, 0.5)}, "takes pixels as they are"),
        (PreprocessOptions, {"std": (0.0, 1.0, 1.0)}, "must not be zero"),
        (PreprocessOptions, {"shorter_px": 256}, "center_crop"),
        (PreprocessOptions, {"size": (0, 4)}, "height, width"),
        (TlsOptions, {"cert": "client.pem"}, "both `tls.cert` and `tls.key`"),
        (TargetOptions, {"model": "m", "url": "http://triton:8001"}, "host:port"),
        (TargetOptions, {"model": "m", "url": "169.254.169.254:80"}, "link-local"),
        (TargetOptions, {"model": "m", "concurrency": 0}, "at least 1"),
        (TargetOptions, {"model": "m", "deadline_seconds": 0}, "positive"),
        (TargetOptions, {"model": "m", "labels": ("a", "a")}, "twice"),
        (TargetOptions, {"model": "m", "restricted_key": "k"}, "belong together"),
    ],
)
def test_impossible_options_say_what_is_wrong(kind, options, message):
    """Nonsense is refused where it is written."""
    with pytest.raises(ValueError, match=message):
        kind(**options)
