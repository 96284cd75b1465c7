"""Data and recipes that cannot work are refused in words."""

import numpy as np
import pytest

from engines.training import CaptionedImages, TrainingDataError, TrainingError

PIXELS = np.zeros((2, 16, 16, 3), np.uint8)


@pytest.mark.parametrize(
    ("images", "captions", "said"),
    [
        (PIXELS.astype(np.float32), [["a"], ["b"]], "must be uint8 .*, got float32"),
        (PIXELS.transpose(0, 3, 1, 2), [["a"], ["b"]], r"got uint8 \(2, 3, 16, 16\)"),
        (PIXELS, [["a"]], "2 images but captions for 1"),
        (PIXELS[:0], [], "0 images"),
        (PIXELS, [["a"], []], "image 1 has no caption"),
        (PIXELS, ["a", "b"], "are the text 'a'; give a list"),
    ],
)
def test_bad_data_is_refused(images, captions, said):
    """With the shape or the place."""
    with pytest.raises(TrainingDataError, match=said):
        CaptionedImages(images, captions)


def test_an_empty_caption_is_allowed():
    """It says that nothing worth a word is shown."""
    assert CaptionedImages(PIXELS, [[""], ["a"]]).different == ["", "a"]


def test_the_digest_knows_pixels_captions_and_where_one_ends():
    """Each of three changes gives another digest."""
    several = [
        CaptionedImages(PIXELS, [["a", "b"], ["c"]]),
        CaptionedImages(PIXELS, [["a"], ["b", "c"]]),
        CaptionedImages(PIXELS, [["ab"], ["c"]]),
        CaptionedImages(PIXELS + np.uint8(1), [["a", "b"], ["c"]]),
    ]
    assert len({data.digest for data in several}) == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_size": 18}, "image_size 18 is not a positive multiple of 4"),
        ({"image_size": 0}, "image_size 0"),
        ({"unet_channels": (16, 20)}, "multiples of 16"),
        ({"unet_channels": (32,)}, "at least two resolutions"),
        ({"text_width": 18}, "text_width 18"),
        ({"max_tokens": 2}, "max_tokens 2"),
        ({"diffusion_steps": 0}, "must be positive"),
        ({"autoencoder_seconds": 0.0}, "must be positive"),
        ({"caption_dropout": 1.0}, "caption_dropout 1.0"),
        ({"shift": 16}, "shift 16"),
    ],
)
def test_impossible_recipes_are_refused(recipe, change, said):
    """When they are made, not an hour later."""
    with pytest.raises(TrainingError, match=said):
        recipe(**change)
