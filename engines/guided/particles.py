"""Many noisy copies of each image on their way down: what every search without gradients is made of.

Levels are spaced evenly in time, steps are those of DDIM with a share eta of fresh noise (Song et al. 2021, eq. 12 and 16).
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from engines.conditioning import Conditioning
from engines.diffusion import Diffusion
from engines.guided.edits import Decode, Images, Latents, pixels, stored
from engines.noise import start_noise, step_noise

Particles = Float[Tensor, "n k c h w"]
Odds = Float64[Tensor, "n k"]


class Told(NamedTuple):
    """What the deployed classifier says of some images."""

    odds: Float64[Tensor, " m"]
    """Log-odds of the target.  Not floored: a search starts where p is 1e-5 or 1e-20, and a floor makes every particle a tie."""
    flipped: Bool[Tensor, " m"]
    """Whether the target is the likeliest class."""


Score = Callable[[Images, Int[Tensor, " m"], Int[Tensor, " m"]], Told]
"""(images as stored, target, row of the original) -> answers, one query each."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Editing:
    """Images to edit and everything that is asked about them; rows as in x."""

    diffusion: Diffusion
    x: Latents
    target: Int[Tensor, " n"]
    cond: Conditioning
    seeds: Sequence[int]
    score: Score
    rows: Int[Tensor, " n"]
    """What the score knows the originals as."""
    decode: Decode = pixels
    steps: int = 25
    eta: float = 1.0

    @property
    def original(self) -> Images:
        """As stored, in [0, 1]."""
        return stored(self.decode, self.x)

    def some(self, which: Sequence[int]) -> "Editing":
        """The same for some of the images."""
        at = torch.tensor(list(which), device=self.x.device)
        return Editing(
            diffusion=self.diffusion,
            x=self.x[at],
            target=self.target[at],
            cond=self.cond[at],
            seeds=[self.seeds[row] for row in which],
            score=self.score,
            rows=self.rows[at],
            decode=self.decode,
            steps=self.steps,
            eta=self.eta,
        )

    def cloud(self, signal: float, k: int) -> "Cloud":
        """K particles of each image, ready to go down from where alpha_bar is ``signal``."""
        return Cloud(self, signal, k)

    def asked(self, clean: Particles) -> tuple[Float[Tensor, "n k 3 H W"], Odds, Bool[Tensor, "n k"]]:
        """Images as they would be stored, and what is said of them: n * k queries."""
        n, k = clean.shape[:2]
        images = stored(self.decode, clean.flatten(0, 1))
        told = self.score(images, self.target.repeat_interleave(k), self.rows.repeat_interleave(k))
        odds = told.odds.double().to(clean.device).view(n, k)
        return images.view(n, k, *images.shape[1:]), odds, told.flipped.to(clean.device).view(n, k)


class Cloud:
    """Particles of one attempt; noise depends on (seed of the image, particle, step) alone."""

    def __init__(self, editing: Editing, signal: float, k: int, noise: Particles | None = None) -> None:
        self.editing, self.k = editing, k
        self._bars = editing.diffusion.levels.alpha_bars
        start = int((self._bars - signal).abs().argmin())
        self.path: list[int] = sorted({*torch.linspace(0, start, editing.steps).round().long().tolist()}, reverse=True)
        """Timesteps that are visited."""
        self.seeds = [particle_seed(seed, at) for seed in editing.seeds for at in range(k)]
        self.shape = (len(editing.x), k, *editing.x.shape[1:])
        self.told = editing.cond[torch.arange(len(editing.x)).repeat_interleave(k).to(editing.x.device)]
        self.original = editing.x[:, None].expand(self.shape)
        kept = float(self._bars[start])
        noise = start_noise(self.seeds, self.shape[2:]).to(editing.x).view(self.shape) if noise is None else noise
        self.z = math.sqrt(kept) * self.original + math.sqrt(1 - kept) * noise

    def estimated(self, step: int) -> tuple[Particles, Particles]:
        """(noise, clean) that the network sees in the particles; pixels are clipped to their range."""
        diffusion, t = self.editing.diffusion, self.path[step]
        with torch.no_grad():
            eps = diffusion.eps(self.z.flatten(0, 1), t, self.told).view(self.shape)
        kept = float(self._bars[t])
        clean = (self.z - math.sqrt(1 - kept) * eps) / math.sqrt(kept)
        return eps, clean.clamp(-1, 1) if self.editing.decode is pixels else clean

    def move(self, step: int, eps: Particles, clean: Particles, push: Particles | float = 0.0) -> None:
        """One step down, ``push`` added in units of sqrt(alpha_bar alpha_bar'); after the last step particles are the clean ones."""
        if step + 1 == len(self.path):
            self.z = clean
            return
        a, after = float(self._bars[self.path[step]]), float(self._bars[self.path[step + 1]])
        fresh = self.editing.eta * math.sqrt((1 - a / after) * (1 - after) / (1 - a))
        self.z = math.sqrt(after) * clean + math.sqrt(max(1 - after - fresh**2, 0.0)) * eps + math.sqrt(a * after) * push
        if fresh:
            self.z = self.z + fresh * step_noise(self.seeds, step, self.shape[2:]).to(self.z).view(self.shape)

    def some(self, images: Sequence[int]) -> "Cloud":
        """All particles of some images, where they are now."""
        return self.part(images, torch.arange(self.k).expand(len(images), -1))

    def part(self, images: Sequence[int], particles: Int[Tensor, "m q"]) -> "Cloud":
        """Some particles of some images, where they are now."""
        at, few = list(images), copy.copy(self)
        few.editing, few.k = self.editing.some(at), particles.shape[1]
        few.seeds = [self.seeds[row * self.k + slot] for row, slots in zip(at, particles.tolist(), strict=True) for slot in slots]
        few.shape = (len(at), few.k, *self.shape[2:])
        few.told = few.editing.cond[torch.arange(len(at)).repeat_interleave(few.k).to(few.editing.x.device)]
        few.original = few.editing.x[:, None].expand(few.shape)
        few.z = torch.stack([self.z[row][slots.to(self.z.device)] for row, slots in zip(at, particles, strict=True)])
        return few

    def down(self) -> Particles:
        """All the way, with nobody to guide."""
        for step in range(len(self.path)):
            self.move(step, *self.estimated(step))
        return self.z

    def kept(self, step: int) -> float:
        """alpha_bar at a step."""
        return float(self._bars[self.path[step]])

    @property
    def network_rows(self) -> int:
        """Of one image, all the way down."""
        return self.k * len(self.path)


@dataclass(frozen=True, eq=False, kw_only=True)
class Found:
    """What a search without gradients found for one image."""

    image: Float[Tensor, "3 H W"]
    """The valid particle nearest to the original, else the most confident one; multiples of 1/255."""
    success: bool
    odds: float
    """Log-odds of the target."""
    valid: Float[Tensor, "m 3 H W"]
    """All valid particles of the attempt: different answers for nothing."""
    attempts: int
    queries: int
    network_rows: int
    agreement: float | None = None
    """Median cosine between the directions of two halves of the particles, where there are directions; near 0 they are noise."""


def nearest(
    images: Float[Tensor, "k 3 H W"],
    odds: Float64[Tensor, " k"],
    flipped: Bool[Tensor, " k"],
    original: Float[Tensor, "3 H W"],
    *,
    attempts: int,
    queries: int,
    network_rows: int,
    agreement: float | None = None,
) -> Found:
    """The particle to deliver, by mean absolute distance among those that flipped."""
    distance = (images - original).abs().mean((1, 2, 3)).masked_fill(~flipped, float("inf"))
    best = int(distance.argmin()) if bool(flipped.any()) else int(odds.argmax())
    return Found(
        image=images[best],
        success=bool(flipped[best]),
        odds=float(odds[best]),
        valid=images[flipped],
        attempts=attempts,
        queries=queries,
        network_rows=network_rows,
        agreement=agreement,
    )


def free_pass(editing: Editing, signals: Sequence[float] = (0.6, 0.35), k: int = 16) -> list[Found]:
    """Plausible variations that nobody guides, from little noise to more; one that flips is the closest and most honest answer there is.

    How many of them flip says how fragile a prediction is.  Costs k queries and k * steps network rows for each share of signal.
    """
    found: list[Found | None] = [None] * len(editing.x)
    for attempt, signal in enumerate(signals):
        left = [at for at, each in enumerate(found) if each is None or not each.success]
        if not left:
            break
        some = editing.some(left)
        cloud = some.cloud(signal, k)
        images, odds, flipped = some.asked(cloud.down())
        for place, at in enumerate(left):
            before = found[at]
            spent = {
                "queries": k + (before.queries if before else 0),
                "network_rows": cloud.network_rows + (before.network_rows if before else 0),
            }
            found[at] = nearest(images[place], odds[place], flipped[place], some.original[place], attempts=attempt + 1, **spent)
    return [each for each in found if each is not None]


def particle_seed(seed: int, at: int) -> int:
    """A seed of its own for every particle (the finaliser of SplitMix64, Steele et al. 2014)."""
    z = (seed + (at + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)
