"""Directions of guidance whose length says nothing: unit vectors per image, and the cone that a robust model is projected onto.

Augustin, Boreiko, Croce, Hein, "Diffusion visual counterfactual explanations" (NeurIPS 2022), sections 3.2 and 3.3.  The cone lies around
the gradient of the explained model, so whatever the robust model says, the result ascends the explained one.  Followed where the released
code departs from a projection: inside the cone it takes the explained model's own direction.  Changed: nothing divides by zero.
"""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from engines.precondition import rowwise

Latents = Float[Tensor, "n c h w"]
Inside = Literal["target", "robust"]
"""Whose direction is taken where the two are no further apart than the cone's angle."""

TINY = 1e-22
"""Norm below which a gradient is none."""
STALLED = 1e-6
"""Sine below which two unit gradients are the same line in float32."""


def norms(x: Latents) -> Float[Tensor, " n"]:
    """Euclidean, over all pixels of an image."""
    length: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return length


def unit(x: Latents) -> Latents:
    """Of length 1 per image; an image of zeros stays one."""
    # by the largest entry first: the square of a gradient of 1e-20 is 0 in float32
    x = x / rowwise(x.abs().amax((1, 2, 3)).clamp(min=TINY), x)
    return x / rowwise(norms(x).clamp(min=TINY), x)


def angle(a: Latents, b: Latents) -> Float[Tensor, " n"]:
    """Between two gradients, in radians, image by image."""
    return (unit(a) * unit(b)).sum((1, 2, 3)).clamp(-1, 1).acos()


def cone(target: Latents, robust: Latents, radians: float, inside: Inside = "target") -> Latents:
    """The robust model's gradient brought onto the cone of half-angle ``radians`` around the explained model's.

    Of no particular length.  Where either gradient is zero the other one is taken, where both lie on one line the target's.
    """
    if not 0 <= radians < math.pi / 2 or inside not in get_args(Inside):
        raise ValueError(f"need a half-angle in [0, pi/2) and inside target or robust, got {radians} and {inside!r}")
    u, r = unit(target), unit(robust)
    cosine = (u * r).sum((1, 2, 3)).clamp(-1, 1)
    across = r - rowwise(cosine, u) * u
    outside = u + math.tan(radians) * unit(across)
    within = u if inside == "target" else r
    found = torch.where(rowwise(cosine.acos() <= radians, u), within, outside)
    found = torch.where(rowwise(norms(across) < STALLED, u), u, found)
    return torch.where(rowwise(norms(u) == 0, u), r, found)


def adaptive(
    length: Float[Tensor, " n"], towards: Latents, away: Latents, weights: tuple[Float[Tensor, " n"], Float[Tensor, " n"]]
) -> Latents:
    """What is added to a state per unit of its variance: length * (C_c towards / |towards| - C_d away / |away|)."""
    pull, push = (rowwise(length * weight, towards) for weight in weights)
    return pull * unit(towards) - push * unit(away)
