"""Exact inversion by two coupled states: EDICT (Wallace, Gokul and Naik, "Exact diffusion inversion via coupled transformations", 2023).

Followed: each of u and v steps by the noise that the network sees in the other, which leaves every step an affine coupling that can be
undone whatever the network is; steps alternate with a mixing of the two.  The order of a step is TIME's (Jeanneret et al. 2024); the paper's
swap of u and v at every other step is left out, as there.  Ours: states are kept in float64, since mixing backwards widens the
gap between u and v, and any rounding in it, by p^-2 a step; the network is shown float32.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from engines.conditioning import Conditioning
from engines.diffusion import Diffusion
from engines.schedules import spaced_timesteps

Latents = Float[Tensor, "n c h w"]
States = Float64[Tensor, "n c h w"]
Noise = Callable[[Latents, int], Latents]
"""(x of unit variance, timestep) -> the noise in it; the same answer for the same state, bit for bit."""
MIXING = 0.93
"""p of the paper."""
ROWS_A_STEP = 4
"""Network rows of one image and step with guidance: two states, two conditionings."""


class Coupled(NamedTuple):
    """The two states of each image."""

    u: States
    v: States


@dataclass(frozen=True)
class Step:
    """One step between two levels, in either direction; the network is always told the noisier one."""

    timestep: int
    cleaner: float
    """alpha_bar at the cleaner end."""
    noisier: float

    @property
    def affine(self) -> tuple[float, float]:
        """DDIM down is x -> a x + b eps (Song et al. 2021, eq. 12 with sigma = 0)."""
        a = math.sqrt(self.cleaner / self.noisier)
        return a, math.sqrt(1 - self.cleaner) - a * math.sqrt(1 - self.noisier)


def steps_of(diffusion: Diffusion, count: int) -> tuple[Step, ...]:
    """All steps from the data up, at evenly spaced timesteps ("leading", offset 1, as Stable Diffusion 1 was released)."""
    at = [int(t) for t in reversed(spaced_timesteps("leading", diffusion.timesteps, count, 1))]
    if at[-1] >= diffusion.timesteps:  # every timestep is visited, and there is no room for the offset
        at = [t - 1 for t in at]
    bars = [1.0, *diffusion.levels.alpha_bars[at].tolist()]
    return tuple(Step(t, low, high) for t, low, high in zip(at, bars[:-1], bars[1:], strict=True))


def between(diffusion: Diffusion, positive: Conditioning, negative: Conditioning, scale: float) -> Noise:
    """Guidance from one conditioning towards another: eps = eps(negative) + scale * (eps(positive) - eps(negative))."""
    both = Conditioning.cat([negative, positive])

    def noise(x: Latents, timestep: int) -> Latents:
        with torch.no_grad():
            away, towards = diffusion.eps(torch.cat([x, x]), timestep, both).chunk(2)
        mixed: Latents = away + scale * (towards - away)
        return mixed

    return noise


def coupled(x: Latents) -> Coupled:
    """Both states begin as the data."""
    return Coupled(x.double(), x.double())


def inverted(noise: Noise, pair: Coupled, steps: Sequence[Step], mixing: float = MIXING) -> Coupled:
    """Up along steps in order: the exact inverse of :func:`denoised` with the same noise."""
    u, v = pair
    for step in steps:
        a, b = step.affine
        v = (v - (1 - mixing) * u) / mixing
        u = (u - (1 - mixing) * v) / mixing
        v = (v - b * _seen(noise, u, step)) / a
        u = (u - b * _seen(noise, v, step)) / a
    return Coupled(u, v)


def denoised(noise: Noise, pair: Coupled, steps: Sequence[Step], mixing: float = MIXING) -> Coupled:
    """Down along the same steps, given in ascending order as well."""
    u, v = pair
    for step in reversed(steps):
        a, b = step.affine
        u = a * u + b * _seen(noise, v, step)
        v = a * v + b * _seen(noise, u, step)
        u = mixing * u + (1 - mixing) * v
        v = mixing * v + (1 - mixing) * u
    return Coupled(u, v)


def _seen(noise: Noise, state: States, step: Step) -> States:
    return noise(state.float(), step.timestep).double()
