"""Where an edit may act: FastDiME's mask, made from the edit itself (Weng et al., ECCV 2024, section 3.2)."""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

Latents = Float[Tensor, "n c h w"]
Mask = Bool[Tensor, "n 1 h w"]

EPSILON = 1e-8
"""Largest change below which nothing changed at all; the released code divides 0 by 0 there and frees the whole image."""


def changed(x: Latents, other: Latents, threshold: float, dilation: int) -> Mask:
    """True where the two differ: by at least ``threshold`` of the largest difference of their image, or within ``dilation`` of it.

    Differences are summed over channels.  ``dilation`` is the odd width of a square; an image without any change is False everywhere.
    """
    check_mask(threshold, dilation)
    d = ((x - other) / 2).abs().sum(1, keepdim=True)  # on the scale of [0, 1]
    largest = d.amax((2, 3), keepdim=True)
    spread = functional.max_pool2d(d / largest.clamp(min=EPSILON), dilation, stride=1, padding=dilation // 2)
    return (spread >= threshold) & (largest > EPSILON)


def check_mask(threshold: float, dilation: int) -> None:
    """ValueError for settings that make no mask."""
    if not 0 < threshold <= 1 or dilation < 1 or dilation % 2 == 0:
        raise ValueError(f"need a threshold in (0, 1] and an odd dilation, got {threshold} and {dilation}")
