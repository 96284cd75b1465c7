"""Evolution over the noise that an edit starts from: the prior's own variations, bred for a score, where nothing but scores is told.

After evolutionary search over initial noise (He et al., "Scaling image and video generation via test-time evolutionary search", 2025):
elites have children, a child keeps sqrt(1 - sigma^2) of its parent's noise, so that every child is standard normal noise again.  Ours: all
of it for edits of real images, only the first noise is bred (the way down is without noise), parents compete with their children, and from
the first flip on what is bred for is closeness.  What it reaches is what the diffusion makes of the original anyway, only rarely so: it
suits networks of few steps, :func:`engines.guided.ensemble` others.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from engines.guided.breeding import EvolutionOptions, bred
from engines.guided.ladder import climbed
from engines.guided.particles import Cloud, Editing, Found, Particles, particle_seed
from engines.noise import start_noise, step_noise

Noises = Float[Tensor, "k c h w"]
_MUTATIONS = 1 << 21
"""Streams of noise above those of steps and of resampling."""


def evolution(editing: Editing, options: EvolutionOptions | None = None, attempts: int | None = None) -> list[Found]:
    """Edit each image until the classifier calls it its target: the valid individual of all generations that is nearest to the original.

    As :func:`engines.guided.ensemble`, ``editing.eta`` set aside.  The first generation are unguided draws.  A row's result depends on its
    own x, target, conditioning and seed.  An attempt costs population * generations queries at most, and ``steps`` network rows for each.
    """
    options = options or EvolutionOptions()
    still = replace(editing, eta=0.0)

    def attempt(some: Editing, signal: float) -> list[Found]:
        def render(few: Editing, noise: Particles) -> tuple[Particles, int]:
            cloud = Cloud(few, signal, options.population, noise)
            return cloud.down(), cloud.network_rows

        return bred(some, [Mutating(seed, some.x[0], options) for seed in some.seeds], render, options)

    return climbed(still, options.signals[:attempts], attempt)


class Elite(NamedTuple):
    """Noise that has children, best first."""

    noise: Noises
    worth: Float64[Tensor, " k"]


class Mutating:
    """Elites and their mutated children, for one image; noise depends on (seed of the image, individual, generation) alone."""

    def __init__(self, seed: int, like: Float[Tensor, "c h w"], options: EvolutionOptions) -> None:
        self.options, self.like = options, like
        self.seeds = [particle_seed(seed, at) for at in range(options.population)]
        self.elite: Elite | None = None

    def ask(self, generation: int) -> Noises:
        """Fresh noise at first, then children of the elites in turn."""
        if self.elite is None:
            return start_noise(self.seeds, self.like.shape).to(self.like)
        sigma, parents = self.options.mutation, self.elite.noise
        fresh = step_noise(self.seeds, _MUTATIONS + generation, self.like.shape).to(self.like)
        inherited = parents[torch.arange(len(fresh), device=parents.device) % len(parents)]
        return math.sqrt(1 - sigma**2) * inherited + sigma * fresh

    def tell(self, genes: Noises, worth: Float64[Tensor, " k"]) -> None:
        """The best of elites and children go on; a child that is only as good as an elite does not replace it."""
        noise = genes if self.elite is None else torch.cat([self.elite.noise, genes])
        value = worth if self.elite is None else torch.cat([self.elite.worth, worth])
        best = value.argsort(descending=True, stable=True)[: self.options.elites]
        self.elite = Elite(noise[best], value[best])
