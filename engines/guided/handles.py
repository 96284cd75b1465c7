"""Evolution over a handle: a few numbers that move an edit, found by covariance matrix adaptation from scores alone.

CMA-ES is Hansen and Ostermeier (2001), by Hansen's own package, with bounds on every coordinate.  A handle says what the numbers do: to the
noise that a particle starts from, to what is noised, or to what the network is told.  Beyond a hundred dimensions the covariance is not
learned within a budget of queries: breed the noise itself there (:func:`engines.guided.evolution`).
"""

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from engines.guided.breeding import EvolutionOptions, bred
from engines.guided.edits import Latents
from engines.guided.ladder import climbed
from engines.guided.particles import Cloud, Editing, Found, Particles
from engines.noise import start_noise

Of = Literal["noise", "latents"]
"""What low frequencies are set in: the noise at the start, or what is noised."""
Coordinates = Float[Tensor, "n d"]
MOST = 100
"""Dimensions of a handle."""


class Handle(Protocol):
    """What a few numbers do to an edit; 0 is its middle, about 1 an ordinary move."""

    @property
    def dim(self) -> int:
        """How many numbers, at most MOST."""

    def start(self, editing: Editing, coordinates: Coordinates) -> tuple[Editing, Latents]:
        """The images, moved each by its own coordinates (in x, or in conditioning), and the noise that each starts from."""


@dataclass(frozen=True, kw_only=True)
class LowFrequency:
    """The lowest frequencies of a discrete cosine transform, side * side of every channel: brightness, colour and coarse shape.

    Of the noise: they take the place of the noise's own, so that standard normal coordinates make standard normal noise.  Of latents: they
    are added, each coordinate with root mean square ``amplitude``, and every individual has the image's own noise.
    """

    channels: int
    """Of what is denoised."""
    side: int = 4
    of: Of = "noise"
    amplitude: float = 0.1

    def __post_init__(self) -> None:
        if self.channels < 1 or self.side < 1 or self.dim > MOST or self.amplitude <= 0:
            raise ValueError(
                f"need 1 to {MOST} coefficients and an amplitude, got {self.channels} * {self.side}**2 and {self.amplitude}"
            )
        if self.of not in get_args(Of):
            raise ValueError(f"low frequencies of {self.of!r} are unknown; use {' or '.join(get_args(Of))}")

    @property
    def dim(self) -> int:
        """Coefficients of all channels."""
        return self.channels * self.side**2

    def start(self, editing: Editing, coordinates: Coordinates) -> tuple[Editing, Latents]:
        """See :class:`Handle`.  ValueError where images have other channels or are smaller than the frequencies ask for."""
        channels, height, width = editing.x.shape[1:]
        if channels != self.channels or self.side > min(height, width):
            raise ValueError(
                f"a handle of {self.channels} channels and {self.side} frequencies does not fit x of {(channels, height, width)}"
            )
        noise = start_noise(editing.seeds, editing.x.shape[1:]).to(editing.x)
        rows, columns = (cosines(self.side, length).to(editing.x) for length in (height, width))
        set_to = coordinates.to(editing.x).view(-1, channels, self.side, self.side)
        if self.of == "latents":
            return replace(editing, x=editing.x + self.amplitude * math.sqrt(height * width) * rows.T @ set_to @ columns), noise
        own = rows @ noise @ columns.T
        return editing, noise + rows.T @ (set_to - own) @ columns


def handle_evolution(
    editing: Editing, handle: Handle, options: EvolutionOptions | None = None, attempts: int | None = None
) -> list[Found]:
    """Edit each image until the classifier calls it its target: the valid individual of all generations that is nearest to the original.

    As :func:`engines.guided.evolution`, over the coordinates of a handle; of the options, ``elites`` and ``mutation`` have no part in it.
    """
    options = options or EvolutionOptions()
    if not 1 <= handle.dim <= MOST:
        raise ValueError(f"a handle has 1 to {MOST} dimensions, got {handle.dim}; breed the noise itself where there are more")

    def attempt(some: Editing, signal: float) -> list[Found]:
        def render(few: Editing, coordinates: Float[Tensor, "n k d"]) -> tuple[Particles, int]:
            n, k = coordinates.shape[:2]
            each = few.some([row for row in range(n) for _ in range(k)])
            moved, noise = handle.start(each, coordinates.flatten(0, 1))
            cloud = Cloud(moved, signal, 1, noise[:, None])
            return cloud.down().view(n, k, *few.x.shape[1:]), k * len(cloud.path)

        return bred(some, [Adapting(seed, handle.dim, some.x, options) for seed in some.seeds], render, options)

    return climbed(replace(editing, eta=0.0), options.signals[:attempts], attempt)


class Adapting:
    """A normal distribution in a box that moves to where individuals are worth more, for one image."""

    def __init__(self, seed: int, dim: int, like: Tensor, options: EvolutionOptions) -> None:
        self.like, self._asked = like, np.zeros((0, dim))
        self._strategy = _strategy(seed, dim, options)

    def ask(self, generation: int) -> Float[Tensor, "k d"]:
        """Coordinates, all within the box."""
        self._asked = np.asarray(self._strategy.ask())
        return torch.from_numpy(self._asked).to(self.like)

    def tell(self, genes: Float[Tensor, "k d"], worth: Float64[Tensor, " k"]) -> None:
        """Move and stretch; a generation of ties leaves the distribution as it is."""
        if bool((worth != worth[0]).any()):
            self._strategy.tell(list(self._asked), (-worth).tolist())


def cosines(count: int, length: int) -> Float[Tensor, "k l"]:
    """The first rows of the orthonormal discrete cosine transform (type II; Ahmed, Natarajan and Rao 1974)."""
    k, at = torch.arange(count, dtype=torch.float64)[:, None], torch.arange(length, dtype=torch.float64)
    rows = (math.pi / length * (at + 0.5) * k).cos() * math.sqrt(2 / length)
    rows[0] /= math.sqrt(2)
    return rows


def _strategy(seed: int, dim: int, options: EvolutionOptions) -> Any:
    """The package's strategy on random numbers of ours: left alone it seeds numpy's and writes files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing can be plotted
        from cma import CMAEvolutionStrategy
    rng = np.random.default_rng(seed)
    settings = {
        "popsize": options.population,
        "bounds": [-options.box, options.box],
        "seed": np.nan,
        "randn": lambda *shape: rng.standard_normal(shape),
        "verbose": -10,
        "verb_log": 0,
    }
    return CMAEvolutionStrategy(np.zeros(dim), options.spread, settings)
