"""Where an edit acts: the strongest positions of a prediction's change, and those a prompt's tokens attend to (LEDITS++, eq. 5 and 6)."""

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, pad

_BLUR = 0.5

Map = Float[Tensor, "n h w"]


class AttentionMaps(Protocol):
    """Cross-attention of the network's last call."""

    def __call__(self) -> Float[Tensor, "rows tokens h w"]:
        """How much each position attends to each token, for the rows of that call; coarser than the latents."""
        ...


def strongest(strength: Map, threshold: float) -> Map:
    """1 at the positions of each image that reach its ``threshold`` quantile, else 0; a threshold of 0 keeps all."""
    limit = torch.quantile(strength.flatten(1), threshold, dim=1)
    return (strength >= limit.view(-1, 1, 1)).to(strength)


def change_mask(change: Float[Tensor, "n c h w"], threshold: float) -> Map:
    """M2: where the change, summed over channels without sign, is among the strongest."""
    return strongest(change.abs().sum(1), threshold)


def token_mask(maps: Float[Tensor, "n tokens h w"], tokens: int | None, threshold: float, size: tuple[int, int]) -> Map:
    """M1: where the prompt's own ``tokens`` (the ones after the first, which only marks the start; all of them when None) are attended to."""
    own = maps[:, 1:] if tokens is None else maps[:, 1 : 1 + tokens]
    mask = strongest(smoothed(own.sum(1)), threshold)
    return interpolate(mask[:, None], size, mode="nearest")[:, 0]


def smoothed(maps: Map) -> Map:
    """A Gaussian blur over 3 x 3 positions, borders reflected; maps of a single row or column are left as they are."""
    if min(maps.shape[-2:]) < 2:
        return maps
    line = torch.exp(-((torch.arange(-1, 2).to(maps) / (2 * _BLUR)) ** 2))
    kernel = torch.outer(line, line) / line.sum() ** 2
    return torch.nn.functional.conv2d(pad(maps[:, None], (1, 1, 1, 1), mode="reflect"), kernel[None, None])[:, 0]
