import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_plugin.perception.quality import QualityFilter
from audit_plugin.perception.resizing import resize, weights

from .world import squares

PHOTO = squares(1)[0][0]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (PHOTO, ""),
        (np.where(np.arange(24) == 3, np.nan, PHOTO).astype(np.float32), "not finite"),
        (np.full((3, 24, 24), 0.4, np.float32), "blank"),
        (np.full((3, 24, 24), [[[0.9]], [[0.1]], [[0.1]]], np.float32), "blank"),
        (np.broadcast_to(np.arange(24) < 12, (3, 24, 24)).astype(np.float32), "saturated"),
    ],
)
def test_each_defect_has_its_reason(image, reason):
    """A picture passes; no picture does not."""
    assert QualityFilter().reasons(image[None]) == [reason]


def test_a_training_image_that_comes_back_is_found():
    """Bit for bit or slightly noisy, its number is named; a different picture passes."""
    references, fresh = squares(300)[0], squares(3, seed=9)[0]
    noisy = references[[290]] + np.random.default_rng(0).normal(0, 0.02, (1, 3, 24, 24)).astype(np.float32)
    reasons = QualityFilter(references).reasons(np.concatenate([references[[7]], noisy, fresh]))
    assert reasons == ["duplicate of reference image 7", "duplicate of reference image 290", "", "", ""]


def test_no_images_no_reasons():
    """An empty batch is no special case, nor are empty references."""
    assert QualityFilter(np.zeros((0, 3, 8, 8), np.float32)).reasons(np.zeros((0, 3, 8, 8), np.float32)) == []


@given(st.integers(1, 40), st.integers(1, 40))
def test_resizing_keeps_flat_images_flat(old, new):
    """Every new pixel is an average of old ones."""
    matrix = weights(old, new)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)
    assert (matrix >= 0).all()


def test_resizing_agrees_with_pillow():
    """An independent implementation of the same filter gives the same pixels."""
    from PIL import Image

    mine = resize(PHOTO[None], 10)[0, 0]
    theirs = np.asarray(Image.fromarray(PHOTO[0]).resize((10, 10), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(mine, theirs, atol=2e-3)
