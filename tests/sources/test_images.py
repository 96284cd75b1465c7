import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from audit_plugin.core.errors import ImageError
from audit_plugin.sources.images import (
    ImageLimits,
    encode_png,
    is_marked_synthetic,
    read_image,
    read_images,
    square,
    to_float,
    to_uint8,
)

PIXELS = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))
SMALL = ImageLimits(max_bytes=10_000, max_pixels=64 * 64)


def as_file(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format=file_format, **options)
    return file.getvalue()


@given(PIXELS, st.booleans())
def test_png_round_trip_is_lossless(pixels, synthetic):
    """What is stored is read back bit for bit, marked or not; encoding twice gives the same bytes."""
    data = encode_png(pixels, synthetic=synthetic)
    assert np.array_equal(read_image(data), pixels)
    assert data == encode_png(pixels, synthetic=synthetic)
    assert is_marked_synthetic(data) == synthetic


@given(arrays(np.uint8, (2, 3, 4, 3)))
def test_float_round_trip_is_lossless(pixels):
    """Every 8-bit value survives the way to [0, 1] and back."""
    floats = to_float(pixels)
    assert floats.shape == (2, 3, 3, 4)
    assert floats.dtype == np.float32
    assert np.array_equal(to_uint8(floats), pixels)


def test_values_outside_the_range_are_clipped_and_nan_refused():
    """A generator may overshoot; it may not return nonsense."""
    assert to_uint8(np.full((1, 3, 1, 1), 1.7, np.float32)).max() == 255
    with pytest.raises(ValueError, match="NaN"):
        to_uint8(np.full((1, 3, 1, 1), np.nan, np.float32))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"not an image", "not a readable"),
        (as_file(Image.new("RGB", (8, 8)), "GIF"), "not a readable"),
        (as_file(Image.new("RGB", (65, 64))), "65 x 64 pixels"),
        (bytes(10_001), "larger than 10,000 bytes"),
        (as_file(Image.effect_noise((64, 64), 50))[:2000], "truncated or corrupt"),
        (as_file(Image.new("I;16", (8, 8))), "more than 8 bits"),
        (as_file(Image.new("L", (8, 8)), save_all=True, append_images=[Image.new("L", (8, 8), 9)]), "animation"),
        (as_file(Image.new("1", (20_000, 20_000)), compress_level=9), "larger than|bomb|pixels"),
    ],
)
def test_what_is_not_an_acceptable_image_is_refused(data, why):
    """The error names the file, the reason and the cure."""
    with pytest.raises(ImageError, match=f"'leaf.jpg': .*({why}).*replace or remove"):
        read_image(data, name="leaf.jpg", limits=SMALL)


def test_a_decompression_bomb_is_an_error_whatever_the_limit():
    """Pillow only warns below twice its own limit."""
    bomb = as_file(Image.new("1", (10_000, 10_000)))
    with pytest.raises(ImageError, match="bomb"):
        read_image(bomb)


def test_orientation_is_applied_and_metadata_dropped():
    """A photo taken upright but stored lying is turned; nothing else of EXIF matters."""
    lying = Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(read_image(as_file(lying, exif=exif)), np.rot90(np.asarray(lying), -1))


def test_transparency_is_laid_on_white():
    """Colours hidden under transparency do not come back."""
    assert (read_image(as_file(Image.new("RGBA", (2, 2), (255, 0, 0, 0)))) == 255).all()


def test_images_are_read_from_zip_by_url(tmp_path):
    """Any fsspec URL will do, a member of an archive too."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/leaf.png", as_file(Image.new("RGB", (8, 4), (255, 0, 0))))
    batch = read_images([f"zip://in/leaf.png::{tmp_path}/a.zip"], 2)
    assert np.array_equal(batch[0, :, 0, 0], [1, 0, 0])
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image(f"zip://in/none.png::{tmp_path}/a.zip")


def test_square_leaves_the_right_size_alone():
    """An image that fits is not resampled; any other becomes its centre square."""
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = 255
    assert (square(pixels, 4) == 255).all()
    fits = pixels[:, :4]
    assert square(fits, 4) is fits
