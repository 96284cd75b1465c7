"""Selection among particles, with nothing that pushes them: baselines for guidance that does.

Feynman-Kac steering (Singhal et al., "A general framework for inference-time scaling and steering of diffusion models", 2025) resamples by
how well clean estimates score; greedy choice goes on with the best of several next states (SVDD, Li et al. 2024; stochastic control guidance,
Huang et al. 2024).  Neither leaves what the diffusion makes of the original anyway.  Ours: of the particles at the end, the valid one nearest
to the original is taken, where the papers draw one by weight.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from engines.guided.ladder import climbed
from engines.guided.particles import Cloud, Editing, Found, Odds, nearest
from engines.guided.resampling import resampled

Potential = Literal["max", "difference", "add"]
"""What a particle is weighed by: the best score on its way so far, its gain since it was last weighed, or the sum of its scores."""
TIE = 1e-9
Chosen = Callable[[int, Odds], Int[Tensor, "n k"]]
"""(step, log-odds) -> which particle each slot goes on with."""


@dataclass(frozen=True, kw_only=True)
class SteeringOptions:
    """How many particles, from how much noise, chosen how hard."""

    particles: int = 16
    signals: tuple[float, ...] = (0.35, 0.20)
    """alpha_bar at the start; the second attempt starts noisier."""
    strength: float = 2.0
    """Exponent of the odds in resampling."""
    every: int = 3
    """Steps between resamplings."""
    potential: Potential = "max"
    free: float = 0.25
    """Share of the steps before the greedy choice begins."""
    noise: float = 0.0
    """Standard deviation of the server's log-odds for one image sent again; spreads below three of it are ties."""

    def __post_init__(self) -> None:
        if self.particles < 2 or self.every < 1:
            raise ValueError(f"need two particles and a step between resamplings, got {self.particles}, {self.every}")
        if not self.signals or not all(0 < each < 1 for each in self.signals):
            raise ValueError(f"shares of signal lie between 0 and 1, got {self.signals}")
        if self.potential not in get_args(Potential):
            raise ValueError(f"potential {self.potential!r} is unknown; use {', '.join(get_args(Potential))}")
        if min(self.strength, self.noise) < 0 or not 0 <= self.free < 1:
            raise ValueError(f"weights are not negative, and free lies in [0, 1): {self.strength}, {self.noise}, {self.free}")


def feynman_kac(editing: Editing, options: SteeringOptions | None = None, attempts: int | None = None) -> list[Found]:
    """Particles that score badly give way to copies of others, every few steps and only where few of them carry the weight.

    As :func:`engines.guided.ensemble`.  An attempt costs particles * (1 + (steps - 1) // every) queries, and particles * steps network rows.
    """
    options = options or SteeringOptions()

    def attempt(some: Editing, signal: float) -> list[Found]:
        weights = _Weights(some, options)
        return _attempt(some, signal, options, lambda step: step % options.every == options.every - 1, weights.chosen)

    return climbed(editing, options.signals[:attempts], attempt)


def greedy(editing: Editing, options: SteeringOptions | None = None, attempts: int | None = None) -> list[Found]:
    """All particles go on as copies of the best one; the fresh noise of a step sets them apart again.  Needs ``editing.eta`` above 0.

    As :func:`engines.guided.ensemble`.  An attempt costs a query for every network row, but none in the free steps.
    """
    options = options or SteeringOptions()
    if not editing.eta:
        raise ValueError("a greedy choice needs fresh noise to choose from; set `eta` above 0")
    unasked = int(options.free * editing.steps)
    attempt = partial(_attempt, options=options, asks=lambda step: step >= unasked, chosen=partial(_best, options))
    return climbed(editing, options.signals[:attempts], attempt)


def _attempt(editing: Editing, signal: float, options: SteeringOptions, asks: Callable[[int], bool], chosen: Chosen) -> list[Found]:
    k, queries = options.particles, options.particles
    cloud: Cloud = editing.cloud(signal, k)
    for step in range(len(cloud.path)):
        eps, clean = cloud.estimated(step)
        if asks(step) and step + 1 < len(cloud.path):
            _, odds, _ = editing.asked(clean)
            queries += k
            kept = chosen(step, odds)
            eps, clean = (torch.stack([a[b] for a, b in zip(each, kept, strict=True)]) for each in (eps, clean))
        cloud.move(step, eps, clean)
    images, odds, flipped = editing.asked(cloud.z)
    return [
        nearest(*each, attempts=1, queries=queries, network_rows=cloud.network_rows)
        for each in zip(images, odds, flipped, editing.original, strict=True)
    ]


def _best(options: SteeringOptions, _step: int, odds: Odds) -> Int[Tensor, "n k"]:
    tied = (odds.amax(1) - odds.amin(1)) <= max(3 * options.noise, TIE)
    stay = torch.arange(odds.shape[1], device=odds.device).expand(odds.shape)
    return torch.where(tied[:, None], stay, odds.argmax(1, keepdim=True))


class _Weights:
    """Log-weights since the last resampling, and what a potential remembers of each particle's ancestors."""

    def __init__(self, editing: Editing, options: SteeringOptions) -> None:
        self.seeds, self.options = editing.seeds, options
        self.log_weight = self.memory = torch.zeros(len(editing.seeds), options.particles, dtype=torch.float64)
        self.asked = False

    def chosen(self, step: int, odds: Odds) -> Int[Tensor, "n k"]:
        tied = odds.amax(1, keepdim=True) - odds.amin(1, keepdim=True) <= max(3 * self.options.noise, TIE)
        odds = torch.where(tied, odds.mean(1, keepdim=True), odds)
        self.log_weight = self.log_weight.to(odds) + self.options.strength * self._potential(odds)
        kept = torch.stack([resampled(row, seed, step) for row, seed in zip(self.log_weight, self.seeds, strict=True)])
        moved = (kept != torch.arange(kept.shape[1], device=kept.device)).any(1, keepdim=True)
        self.log_weight = self.log_weight.masked_fill(moved, 0.0)
        self.memory = self.memory.gather(1, kept)
        return kept

    def _potential(self, odds: Odds) -> Odds:
        """Logarithm of G_t (section 3 of the paper), and the memory for the next one."""
        before, first = self.memory.to(odds), not self.asked
        self.asked = True
        if self.options.potential == "difference":
            self.memory = odds
            return odds - before if not first else odds
        self.memory = before + odds if self.options.potential == "add" else odds if first else torch.maximum(before, odds)
        return self.memory
