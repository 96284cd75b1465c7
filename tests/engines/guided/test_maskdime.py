"""MaskDiME: what its masks select, what they keep, what a pass costs."""

import pytest
import torch

from engines.guided.fastdime import fastdime
from engines.guided.maskdime import MaskDimeOptions, maskdime, strongest
from engines.guided.options import FastDimeOptions
from tests.engines.guided.vectors import NOTHING, SHAPE, TARGET, X, gaussian, judge, unlike

SMALL = MaskDimeOptions(dilation=1, share=0.4, clean_share=0.5, kept=100, depth=30)


def test_masks_are_the_pixels_of_the_largest_gradient():
    """By share of the pixels, one within the other, widened by the dilation, none where there is no gradient."""
    gradient = torch.zeros(1, 3, 10, 10)
    gradient[0, 1].view(-1)[:50] = torch.arange(50, 0, -1).float()
    wide, narrow = strongest(gradient, MaskDimeOptions(share=0.2, clean_share=0.25, dilation=1))
    assert wide.flatten().nonzero()[:, 0].tolist() == list(range(20))
    assert narrow.flatten().nonzero()[:, 0].tolist() == list(range(5))
    spread, _ = strongest(gradient, MaskDimeOptions(share=0.01, clean_share=1.0, dilation=3))
    assert spread.sum() == 4  # a corner and its neighbours
    assert not strongest(torch.zeros(1, 3, 10, 10), MaskDimeOptions())[0].any()


def test_it_flips_with_fewer_pixels_than_fastdime():
    found = maskdime(gaussian(), X, TARGET, NOTHING, judge, seeds=[1, 2], unlike=unlike, options=SMALL)
    plain = fastdime(
        gaussian(), X, TARGET, NOTHING, judge, seeds=[1, 2], unlike=unlike,
        options=FastDimeOptions(passes="plain", push="log_odds", kept=100, depth=30),
    )  # fmt: skip
    assert found.success.all()
    assert plain.success.all()
    original = (X / 2 + 0.5).clamp(0, 1)
    assert float((found.images - original).abs().mean()) < float((plain.images - original).abs().mean())
    outside = ~found.mask.expand_as(X)
    assert outside.any()
    torch.testing.assert_close(found.latents[outside], X[outside])
    assert found.network_rows == int(found.attempts.sum()) * 30


def test_an_image_does_not_depend_on_its_batch():
    both = maskdime(gaussian(), X, TARGET, NOTHING, judge, seeds=[1, 2], options=SMALL)
    alone = maskdime(gaussian(), X[1:], TARGET[1:], NOTHING[torch.tensor([1])], judge, seeds=[2], options=SMALL)
    torch.testing.assert_close(alone.images, both.images[1:], atol=1.1 / 255, rtol=0)
    assert X.shape[1:] == SHAPE


@pytest.mark.parametrize("options", [{"depth": 0}, {"strengths": ()}, {"share": 0}, {"clean_share": 2}, {"dilation": 2}])
def test_settings_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError):
        MaskDimeOptions(**options)
