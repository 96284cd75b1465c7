"""The sampling loop on plain arrays, NumPy's or torch's: the twin of ``engines.samplers`` that needs neither torch nor this package.

A request is one batch with one plan, so the noise level of a step is one number.  Levels, preconditioning, guidance and samplers are
those of ``engines``, in the same order of operations.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from .plan import Plan

Array = Any
Denoise = Callable[[Array, float], Array]
"""(x (n c h w), sigma) -> clean estimate (n c h w)."""
Told = Mapping[str, Array]
"""What the network is told besides: tensors by name, one row per image."""
Conditional = Callable[[Array, float, Told], Array]
Network = Callable[[Array, float, Told], Array]
"""(x (n c h w) of unit scale, timestep, what it is told) -> prediction (n c h w)."""
Gradient = Callable[[Array], Array]
"""Clean estimate (n c h w) -> gradient of the wanted score in it."""
OnStep = Callable[[float, Array], None]
"""Told after each evaluation: sigma, clean estimate."""

SNAP = 1e-4
"""A timestep this near to a whole one is that one, as in ``engines.precondition``."""


def timestep(log_levels: Sequence[float], sigma: float) -> float:
    """The (fractional) timestep whose level is sigma; levels outside the table belong to its ends."""
    wanted = math.log(sigma)
    high = min(max(bisect_left(log_levels, wanted), 1), len(log_levels) - 1)
    low = high - 1
    t = low + min(max((wanted - log_levels[low]) / (log_levels[high] - log_levels[low]), 0.0), 1.0)
    return float(round(t)) if abs(t - round(t)) < SNAP else t


def denoiser(network: Network, plan: Plan, log_levels: Sequence[float], prediction: str) -> Conditional:
    """The network as a denoiser over noise levels, after ``engines.precondition``."""
    decreed = dict(zip(plan.sigmas, plan.timesteps, strict=False))

    def denoise(x: Array, sigma: float, told: Told) -> Array:
        c_in = (1 + sigma**2) ** -0.5
        out = network(c_in * x, decreed[sigma] if decreed else timestep(log_levels, sigma), told)
        if prediction == "epsilon":
            return x - sigma * out
        if prediction == "v_prediction":  # v = alpha noise - sigma_vp clean, with alpha = c_in and sigma_vp = sigma c_in
            return c_in * (c_in * x - sigma * out)
        return out

    return denoise


def guided(denoise: Conditional, told: Told, null: Told, plan: Plan, join: Callable[[list[Array]], Array]) -> Denoise:
    """Classifier-free guidance where the plan has it: D = D(x; null) + scale (D(x; told) - D(x; null)), one call for both."""
    both_told = {name: join([value, null[name]]) for name, value in told.items()} if null else told

    def estimate(x: Array, sigma: float) -> Array:
        if not plan.guided(sigma):
            return denoise(x, sigma, told)
        both = denoise(join([x, x]), sigma, both_told)
        with_it, without = both[: len(x)], both[len(x) :]
        return without + plan.guidance * (with_it - without)

    return estimate


def bounded(denoise: Denoise, limit: float | None) -> Denoise:
    """Clean estimates within the range of the data, where the scheduler clips them."""
    return denoise if limit is None else lambda x, sigma: denoise(x, sigma).clip(-limit, limit)


def steered(denoise: Denoise, gradient: Gradient, plan: Plan) -> Denoise:
    """The pull of a classifier: eps' = eps - C |eps| g / |g| per image, which for D = x - sigma eps is D' = D + C |x - D| g / |g|.

    That the pull is a share of the predicted noise's length is the adaptive parameterisation of DVCE (Augustin et al. 2022).  Ours: in a
    deterministic sampler, and g is taken at the clean estimate and not through the UNet, so that a step costs its forward passes only.
    """

    def estimate(x: Array, sigma: float) -> Array:
        clean = denoise(x, sigma)
        if not plan.steered(sigma):
            return clean
        pull = gradient(clean)
        return clean + plan.classifier_guidance * (_norm(x - clean) / (_norm(pull) + 1e-22)) * pull

    return estimate


def sample_ddim(denoise: Denoise, x: Array, sigmas: Sequence[float], on_step: OnStep) -> Array:
    """DDIM with eta = 0, that is, Euler's method in sigma."""
    for sigma, sigma_next in pairwise(sigmas):
        clean = denoise(x, sigma)
        on_step(sigma, clean)
        x = clean + (sigma_next / sigma) * (x - clean)
    return x


def sample_dpmpp_2m(denoise: Denoise, x: Array, sigmas: Sequence[float], on_step: OnStep) -> Array:
    """DPM-Solver++(2M), Lu et al. 2022, algorithm 2; the first step and the step to 0 are of first order."""
    before: tuple[float, Array] | None = None
    for sigma, sigma_next in pairwise(sigmas):
        clean = denoise(x, sigma)
        on_step(sigma, clean)
        ahead = clean
        if before is not None and sigma_next > 0:
            h, h_before = math.log(sigma / sigma_next), math.log(before[0] / sigma)
            ahead = clean + (h / (2 * h_before)) * (clean - before[1])
        x = ahead + (sigma_next / sigma) * (x - ahead)
        before = (sigma, clean)
    return x


SAMPLERS: dict[str, Callable[[Denoise, Array, Sequence[float], OnStep], Array]] = {
    "ddim": sample_ddim,
    "dpmpp_2m": sample_dpmpp_2m,
    "euler": sample_ddim,
}
"""Euler's method in sigma and DDIM are one step in two notations."""


def rms(x: Array) -> Array:
    """Root mean square of every row, (n)."""
    return (x * x).reshape(len(x), -1).mean(1) ** 0.5


def _norm(x: Array) -> Array:
    """Length of every row, as (n 1 1 1)."""
    return ((x * x).reshape(len(x), -1).sum(1) ** 0.5).reshape(-1, 1, 1, 1)
