"""From noise to data: pure functions over a denoiser, deterministic, one evaluation a step.

Both integrate the probability-flow ODE of Karras et al. 2022 (eq. 4 with s = 1, sigma(t) = t):  dx/dsigma = (x - D(x; sigma)) / sigma.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from engines.protocols import Denoiser

Latents = Float[Tensor, "n c h w"]

OnStep = Callable[[int, float, Tensor], None]
"""Told after each evaluation: number of the step, its sigma, the clean estimate."""

Sampler = Callable[[Denoiser, Tensor, Sequence[float], OnStep | None], Tensor]


def sample_ddim(denoise: Denoiser, x: Latents, sigmas: Sequence[float], on_step: OnStep | None = None) -> Latents:
    """Take x, noisy at sigmas[0], down to sigmas[-1].

    DDIM with eta = 0 (Song et al. 2021, eq. 12) divided by sqrt(alpha bar) is Euler's method in sigma:
    x' = x + (sigma' - sigma) (x - D) / sigma, written below as a mixture of D and x, exact also for sigma' = 0.
    """
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        clean = denoise(x, x.new_full([len(x)], sigma))
        _tell(on_step, step, sigma, clean)
        x = torch.lerp(clean, x, sigma_next / sigma)
    return x


def sample_dpmpp_2m(denoise: Denoiser, x: Latents, sigmas: Sequence[float], on_step: OnStep | None = None) -> Latents:
    """Take x, noisy at sigmas[0], down to sigmas[-1].  DPM-Solver++(2M), Lu et al. 2022, algorithm 2, with alpha = 1.

    lambda = -log sigma.  The first step has no past and the step to 0 no finite lambda: both are first order, that is, DDIM.
    """
    before: tuple[float, Tensor] | None = None
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        clean = denoise(x, x.new_full([len(x)], sigma))
        _tell(on_step, step, sigma, clean)
        ahead = clean
        if before is not None and sigma_next > 0:
            h, h_before = math.log(sigma / sigma_next), math.log(before[0] / sigma)
            ahead = clean + (h / (2 * h_before)) * (clean - before[1])  # D_i = (1 + 1/(2r)) D - 1/(2r) D_before, r = h_before / h
        x = torch.lerp(ahead, x, sigma_next / sigma)  # x' = (sigma'/sigma) x - (exp(-h) - 1) D_i, exp(-h) = sigma'/sigma
        before = (sigma, clean)
    return x


SAMPLERS: dict[str, Sampler] = {"ddim": sample_ddim, "dpmpp_2m": sample_dpmpp_2m}


def _tell(on_step: OnStep | None, step: int, sigma: float, clean: Tensor) -> None:
    if on_step is not None:
        on_step(step, sigma, clean)
