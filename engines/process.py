"""How data become noise, and how a network that was trained on that is asked: diffusion with discrete timesteps, or a straight flow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from engines.conditioning import Conditioning
from engines.precondition import NoiseLevels, Prediction, TimestepNetwork, precondition, rowwise
from engines.protocols import ConditionalDenoiser

Latents = Float[Tensor, "n c h w"]

Velocity = Callable[[Tensor, Tensor, Conditioning], Tensor]
"""(x (n c h w), s (n) in [0, 1], n rows of conditioning) -> noise - clean (n c h w)."""


class Process(Protocol):
    """A way from data to noise, by level."""

    def denoiser(self, network: TimestepNetwork) -> ConditionalDenoiser:
        """The network as a denoiser over the levels of this process."""
        ...

    def noised(self, clean: Latents, noise: Latents, sigma: Float[Tensor, " n"]) -> Latents:
        """State at level sigma, one level a row."""
        ...

    def asked(self, x: Latents, sigma: Float[Tensor, " n"]) -> tuple[Latents, Float[Tensor, " n"]]:
        """What the network is given for a state: its input and its timestep."""
        ...

    def spread(self, count: int) -> list[float]:
        """Levels over the whole schedule, from pure noise down, at even timesteps."""
        ...


@dataclass(frozen=True, eq=False)
class Diffusing:
    """x = clean + sigma * noise; the network sees it at unit variance (``engines.precondition``)."""

    levels: NoiseLevels
    prediction: Prediction

    def denoiser(self, network: TimestepNetwork) -> ConditionalDenoiser:
        """By what the network predicts."""
        return precondition(network, self.levels, self.prediction)

    def noised(self, clean: Latents, noise: Latents, sigma: Float[Tensor, " n"]) -> Latents:
        """The variance grows."""
        return clean + rowwise(sigma, clean) * noise

    def asked(self, x: Latents, sigma: Float[Tensor, " n"]) -> tuple[Latents, Float[Tensor, " n"]]:
        """Scaled to unit variance, with the timestep of its level."""
        return x * (1 + rowwise(sigma, x) ** 2).rsqrt(), self.levels.timestep(sigma)

    def visiting(self, timesteps: Sequence[float], sigmas: Sequence[float]) -> "Diffusing":
        """The same for a scheduler that decrees timesteps for its levels; nothing decreed, nothing changed."""
        return replace(self, levels=self.levels.visiting(zip(timesteps, sigmas, strict=False))) if timesteps else self

    def spread(self, count: int) -> list[float]:
        """At whole timesteps."""
        table = self.levels.sigmas
        return [table[int(t)] for t in torch.linspace(len(table) - 1, 0, count).round()]


@dataclass(frozen=True)
class Flowing:
    """x = (1 - s) * clean + s * noise; the network predicts the velocity noise - clean (Esser et al. 2024, section 2)."""

    timesteps: int = 1000
    """The network is told s times this."""

    def denoiser(self, network: TimestepNetwork) -> ConditionalDenoiser:
        """D = x - s v, which is finite for pure noise as well."""
        velocity = self.velocity(network)
        return lambda x, s, conditioning: x - rowwise(s, x) * velocity(x, s, conditioning)

    def velocity(self, network: TimestepNetwork) -> Velocity:
        """dx/ds at x (n c h w) and s (n), for editing along differences of velocities."""
        return lambda x, s, conditioning: network(x, self.timesteps * s, conditioning)

    def noised(self, clean: Latents, noise: Latents, sigma: Float[Tensor, " n"]) -> Latents:
        """On the straight line between the two."""
        return torch.lerp(clean, noise, rowwise(sigma, clean))

    def asked(self, x: Latents, sigma: Float[Tensor, " n"]) -> tuple[Latents, Float[Tensor, " n"]]:
        """As it is."""
        return x, self.timesteps * sigma

    def spread(self, count: int) -> list[float]:
        """Never 0, where nothing is asked."""
        return torch.linspace(1, 1 / self.timesteps, count).tolist()
