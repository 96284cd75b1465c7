"""Populations that are bred for a classifier's score, one of its own for each image: what evolution over noise and over handles share.

Individuals are rendered without fresh noise, so one that is kept need not be asked about again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from engines.guided.particles import Editing, Found, Particles, nearest

Genes = Float[Tensor, "k ..."]
"""What individuals are made of, one a row."""
Render = Callable[[Editing, Float[Tensor, "n k ..."]], tuple[Particles, int]]
"""(images, genes of the individuals of each) -> the individuals, clean, and network rows per image."""
LIMIT = 1e6
"""Log-odds beyond which no two differ; infinite ones are brought to it."""


@dataclass(frozen=True, kw_only=True)
class EvolutionOptions:
    """How many individuals for how long, from how much noise, and how they vary."""

    population: int = 16
    """Individuals that each generation asks about."""
    generations: int = 8
    signals: tuple[float, ...] = (0.35, 0.20)
    """alpha_bar at the start; the second attempt starts noisier."""
    elites: int = 4
    """Individuals that have children, of noise."""
    mutation: float = 0.25
    """Share of fresh noise in a child, sigma: a child is sqrt(1 - sigma^2) of its parent, and so as likely a noise as any."""
    spread: float = 1.0
    """First standard deviation of a handle's coordinates."""
    box: float = 3.0
    """A handle's coordinates stay within plus and minus this."""
    closer: int = 2
    """Generations at most after the first flip, which bring it closer to the original."""
    noise: float = 0.0
    """Standard deviation of the server's log-odds for one image sent again; odds are told apart in steps of three of it."""

    def __post_init__(self) -> None:
        if not 1 <= self.elites <= self.population or self.population < 4:
            raise ValueError(f"need at least 4 individuals, and 1 to all of them as elites: {self.population}, {self.elites}")
        if self.generations < 1 or self.closer < 0:
            raise ValueError(f"need one generation, and none or more after a flip: {self.generations}, {self.closer}")
        if not self.signals or not all(0 < each < 1 for each in self.signals):
            raise ValueError(f"shares of signal lie between 0 and 1, got {self.signals}")
        if not 0 < self.mutation <= 1 or not 0 < self.spread <= self.box or self.noise < 0:
            raise ValueError(
                f"mutation lies in (0, 1], spread in (0, box], noise is not negative: {self.mutation}, {self.spread}, {self.noise}"
            )


class Breeder(Protocol):
    """Where the individuals of one image come from."""

    def ask(self, generation: int) -> Genes:
        """The next generation, from 0 on."""

    def tell(self, genes: Genes, worth: Float64[Tensor, " k"]) -> None:
        """What the generation that was asked for last is worth; more is better, equal worth tells nothing."""


@dataclass
class _Line:
    """What is kept of one image's generations: individuals that flipped, and the most confident of each generation."""

    left: int
    images: list[Float[Tensor, "m 3 H W"]] = field(default_factory=list)
    odds: list[Float64[Tensor, " m"]] = field(default_factory=list)
    flipped: list[Bool[Tensor, " m"]] = field(default_factory=list)
    queries: int = 0
    network_rows: int = 0

    def add(self, images: Float[Tensor, "k 3 H W"], odds: Float64[Tensor, " k"], flipped: Bool[Tensor, " k"], closer: int) -> None:
        first = bool(flipped.any()) and not any(bool(each.any()) for each in self.flipped)
        self.left = min(self.left - 1, closer) if first else self.left - 1
        kept = flipped.clone()
        kept[odds.argmax()] = True
        self.images.append(images[kept])
        self.odds.append(odds[kept])
        self.flipped.append(flipped[kept])
        self.queries += len(images)

    def found(self, original: Float[Tensor, "3 H W"]) -> Found:
        images, odds, flipped = (torch.cat(each) for each in (self.images, self.odds, self.flipped))
        return nearest(images, odds, flipped, original, attempts=1, queries=self.queries, network_rows=self.network_rows)


def bred(editing: Editing, breeders: Sequence[Breeder], render: Render, options: EvolutionOptions) -> list[Found]:
    """One attempt for each image by a breeder of its own.  Images whose generations are over leave the batch."""
    lines, original = [_Line(options.generations) for _ in breeders], editing.original
    for generation in range(options.generations):
        going = [at for at, line in enumerate(lines) if line.left > 0]
        if not going:
            break
        some, genes = editing.some(going), torch.stack([breeders[at].ask(generation) for at in going])
        clean, network_rows = render(some, genes)
        images, odds, flipped = some.asked(clean)
        distance = (images - original[going][:, None]).abs().mean((2, 3, 4)).to(odds)
        value = worth(odds, flipped, distance, options.noise)
        for place, at in enumerate(going):
            breeders[at].tell(genes[place], value[place])
            lines[at].add(images[place], odds[place], flipped[place], options.closer)
            lines[at].network_rows += network_rows
    return [line.found(each) for line, each in zip(lines, original, strict=True)]


def worth(
    odds: Float64[Tensor, "*n"], flipped: Bool[Tensor, "*n"], distance: Float64[Tensor, "*n"], noise: float = 0.0
) -> Float64[Tensor, "*n"]:
    """What is bred for: the target's odds until an individual flips, closeness to the original (distance in [0, 1]) from then on.

    Any individual that flipped is worth more than any that did not.

    >>> odds, flipped = torch.tensor([-9.0, -8.0, 5.0, 1.0]).double(), torch.tensor([False, False, True, True])
    >>> worth(odds, flipped, torch.tensor([0.0, 0.0, 0.2, 0.1]).double()).argsort().tolist()
    [0, 1, 2, 3]
    """
    told = odds.clamp(-LIMIT, LIMIT)
    told = (told / (3 * noise)).round() * (3 * noise) if noise else told
    return torch.where(flipped, -distance, told / (1 + told.abs()) - 2)  # in [-1, 0] and (-3, -1)
