"""From data back to the noise that deterministic sampling would have drawn them from."""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from engines.precondition import rowwise
from engines.protocols import Denoiser


def invert_ddim(
    denoise: Denoiser, x: Float[Tensor, "n c h w"], sigmas: Sequence[float], refine: int = 0
) -> Float[Tensor, "n c h w"]:
    """Take x, at level sigmas[-1], up to sigmas[0]: DDIM (Song et al. 2021) run backwards over levels given as for sampling, descending.

    DDIM goes down by the noise estimate at the noisier end, which is not known on the way up; it is taken at the cleaner end, at the
    timestep of the noisier one.  With ``refine`` the estimate is taken again, so many times, at the state it led to: a fixed-point
    iteration whose limit is the exact inverse (Pan et al., "Effective real image editing with accelerated iterative diffusion inversion",
    2023).  Costs 1 + refine evaluations a step.
    """
    for low, high in pairwise(reversed(sigmas)):
        # the same picture of unit variance, as it would look at the noisier level
        state = x * ((1 + high**2) / (1 + low**2)) ** 0.5
        level = x.new_full([len(x)], high)
        for _ in range(1 + refine):
            noise = (state - denoise(state, level)) / rowwise(level, state)
            state = x + (high - low) * noise
        x = state
    return x
