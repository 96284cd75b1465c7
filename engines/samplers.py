"""From noise to data: pure functions over a denoiser, one evaluation a step.

Deterministic ones integrate the probability-flow ODE of Karras et al. 2022 (eq. 4 with s = 1, sigma(t) = t):
dx/dsigma = (x - D(x; sigma)) / sigma.  A flow's ODE is the same in its own levels (``sample_flow_euler``).  Stochastic ones add noise that
is given to them, one draw a step, so that a picture depends neither on its batch nor on a generator's state.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from engines.protocols import Denoiser

Latents = Float[Tensor, "n c h w"]

OnStep = Callable[[int, float, Tensor], None]
"""Told after each evaluation: number of the step, its sigma, the clean estimate."""

StepNoise = Callable[[int], Tensor]
"""Standard normal noise (n c h w) of step 0, 1, …: :func:`engines.noise.step_noise` for the rows' seeds."""

Sampler = Callable[[Denoiser, Tensor, Sequence[float], OnStep | None], Tensor]
StochasticSampler = Callable[[Denoiser, Tensor, Sequence[float], StepNoise, OnStep | None], Tensor]
Variance = Literal["small", "large"]


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


def sample_euler(denoise: Denoiser, x: Latents, sigmas: Sequence[float], on_step: OnStep | None = None) -> Latents:
    """Take x, noisy at sigmas[0], down to sigmas[-1].

    Karras et al. 2022, algorithm 1 without the correction, in the form of k-diffusion: along the slope (x - D) / sigma.  The same curve as
    DDIM's, which is written without a slope.
    """
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        clean = denoise(x, x.new_full([len(x)], sigma))
        _tell(on_step, step, sigma, clean)
        x = x + (x - clean) * ((sigma_next - sigma) / sigma)
    return x


def sample_flow_euler(denoise: Denoiser, x: Latents, levels: Sequence[float], on_step: OnStep | None = None) -> Latents:
    """Take x = (1 - s) clean + s noise, at s = levels[0], down to levels[-1], within [0, 1].

    The flow's velocity is v = noise - clean = (x - D) / s, and dx/ds = v (Lipman et al. 2023; Esser et al. 2024, eq. 13): Euler's method
    above, in the flow's own levels.
    """
    return sample_euler(denoise, x, levels, on_step)


def sample_euler_ancestral(
    denoise: Denoiser, x: Latents, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep | None = None
) -> Latents:
    """Take x, noisy at sigmas[0], down to sigmas[-1], in steps that overshoot and add noise again (k-diffusion, eta = 1).

    sigma_up^2 = sigma'^2 (sigma^2 - sigma'^2) / sigma^2 and sigma_down^2 = sigma'^2 - sigma_up^2, so that sigma_down = sigma'^2 / sigma.
    """
    return _ancestral(denoise, x, sigmas, (noise, _posterior_spread), on_step)


def sample_ddpm(
    denoise: Denoiser,
    x: Latents,
    sigmas: Sequence[float],
    noise: StepNoise,
    on_step: OnStep | None = None,
    *,
    variance: Variance = "small",
) -> Latents:
    """Take x, noisy at sigmas[0], down to sigmas[-1], by the posterior of the forward process.

    Ho et al. 2020, eq. 7, divided by sqrt(alpha bar): the mean is (sigma'/sigma)^2 x + (1 - (sigma'/sigma)^2) D.  The variance is that of the
    posterior (``small``), which makes this Euler ancestral, or beta (``large``).  A step to 0 adds no noise.
    """
    return _ancestral(denoise, x, sigmas, (noise, _posterior_spread if variance == "small" else _beta_spread), on_step)


def sample_consistency(
    denoise: Denoiser, x: Latents, sigmas: Sequence[float], noise: StepNoise, on_step: OnStep | None = None
) -> Latents:
    """Jump to the clean estimate and noise it to the next level (Song et al. 2023, algorithm 1; Luo et al. 2023, algorithm 3).

    ``denoise`` is a consistency function: :func:`engines.precondition.consistent`.
    """
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x = denoise(x, x.new_full([len(x)], sigma))
        _tell(on_step, step, sigma, x)
        if sigma_next > 0:
            x = x + sigma_next * noise(step).to(x)
    return x


SAMPLERS: dict[str, Sampler] = {
    "ddim": sample_ddim,
    "dpmpp_2m": sample_dpmpp_2m,
    "euler": sample_euler,
    "flow_euler": sample_flow_euler,
}
STOCHASTIC_SAMPLERS: dict[str, StochasticSampler] = {
    "euler_ancestral": sample_euler_ancestral,
    "ddpm": sample_ddpm,
    "lcm": sample_consistency,
}


def _ancestral(
    denoise: Denoiser,
    x: Latents,
    sigmas: Sequence[float],
    added: tuple[StepNoise, Callable[[float, float], float]],
    on_step: OnStep | None,
) -> Latents:
    noise, spread = added
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        clean = denoise(x, x.new_full([len(x)], sigma))
        _tell(on_step, step, sigma, clean)
        x = torch.lerp(clean, x, (sigma_next / sigma) ** 2)
        if sigma_next > 0:
            x = x + spread(sigma, sigma_next) * noise(step).to(x)
    return x


def _posterior_spread(sigma: float, sigma_next: float) -> float:
    return sigma_next * math.sqrt(1 - (sigma_next / sigma) ** 2)


def _beta_spread(sigma: float, sigma_next: float) -> float:
    """With beta = 1 - alpha_bar / alpha_bar', with alpha_bar = 1 / (1 + sigma^2), seen at the scale 1 / sqrt(alpha_bar')."""
    return math.sqrt((1 + sigma_next**2) * (sigma**2 - sigma_next**2) / (1 + sigma**2))


def _tell(on_step: OnStep | None, step: int, sigma: float, clean: Tensor) -> None:
    if on_step is not None:
        on_step(step, sigma, clean)
