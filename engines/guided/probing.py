"""The slope of a score along the lowest frequencies, by asking about moves along each of them.

A search goes by what its particles differ in.  All of them may be as bright as the original, and a model that went by brightness alone would be a
riddle to them: so the few coarse directions that every image has (brightness, tint, coarse light and shade) are asked about one by one.
Central differences, with moves large enough to leave a plateau.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from engines.guided.edits import Latents
from engines.guided.handles import cosines
from engines.guided.particles import Editing


def coarse_basis(shape: torch.Size, side: int) -> Float[Tensor, "d c h w"]:
    """The side * side lowest cosines of every channel, orthonormal."""
    channels, height, width = shape
    rows, columns = cosines(min(side, height), height), cosines(min(side, width), width)
    planes = torch.einsum("ih,jw->ijhw", rows, columns).flatten(0, 1)
    return torch.einsum("ab,dhw->abdhw", torch.eye(channels), planes).permute(0, 2, 1, 3, 4).flatten(0, 1).float()


def coarse_slope(editing: Editing, centre: Latents, *, side: int, size: float, spread: float) -> tuple[Latents, int]:
    """Spread^2 times the slope of the log-odds at ``centre`` along the lowest frequencies, and what an image's answers cost.

    ``size`` and ``spread`` are root mean squares over the numbers of an image: of one move, and of how far plausible images differ along one
    direction.  The result is what Cov(X, l) would be if particles varied in these directions alone, so the two add up.
    """
    basis = coarse_basis(centre.shape[1:], side).to(centre)
    unit = math.sqrt(centre[0].numel())
    moves = torch.cat([basis, -basis]) * (size * unit)
    _, odds, _ = editing.asked(centre[:, None] + moves)
    up, down = odds.to(centre.dtype).chunk(2, dim=1)
    slope = torch.einsum("nd,dchw->nchw", (up - down) / (2 * size * unit), basis)
    return slope * (spread * unit) ** 2, len(moves)
