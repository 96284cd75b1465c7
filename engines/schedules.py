"""Which noise levels a sampler visits, and at which scale it starts and ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Spacing = Literal["trailing", "leading", "linspace"]


@dataclass(frozen=True)
class Trajectory:
    """Levels to visit, descending; all but the last are evaluated."""

    sigmas: tuple[float, ...]
    start: float
    """Standard deviation of the noise that sampling starts from."""
    end: float = 1.0
    """What the last state is multiplied by to be a latent: not 1 only where the last level is not 0."""
    timesteps: tuple[float, ...] = ()
    """What a scheduler tells the network at each evaluated level; empty where its own table decides."""


def variance_preserving(sigmas: Sequence[float]) -> Trajectory:
    """Start from the marginal of data with unit variance, N(0, 1 + sigma^2).

    >>> round(variance_preserving([3.0, 0.0]).start, 3)
    3.162
    """
    return Trajectory(tuple(sigmas), start=float(np.hypot(1.0, sigmas[0])))


def trailing_sigmas(levels: Sequence[float], steps: int) -> list[float]:
    """Levels at evenly spaced timesteps that end with the last one (Lin et al. 2023, table 2, "trailing").

    >>> trailing_sigmas([0.1, 0.2, 0.3, 0.4], 2)
    [0.4, 0.2, 0.0]
    """
    count = len(levels)
    if not 1 <= steps <= count:
        raise ValueError(f"need 1 to {count} steps, got {steps}")
    return [levels[round(count - i * count / steps) - 1] for i in range(steps)] + [0.0]


def karras_sigmas(sigma_min: float, sigma_max: float, steps: int, rho: float = 7.0) -> list[float]:
    """Levels evenly spaced in sigma^(1/rho) (Karras et al. 2022, eq. 5).

    >>> [round(sigma, 3) for sigma in karras_sigmas(0.01, 10.0, 3)]
    [10.0, 0.718, 0.01, 0.0]
    """
    if steps < 1 or not 0 < sigma_min < sigma_max:
        raise ValueError(f"need steps >= 1 and 0 < sigma_min < sigma_max, got {steps}, {sigma_min}, {sigma_max}")
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [(high + i / max(steps - 1, 1) * (low - high)) ** rho for i in range(steps)] + [0.0]


def exponential_sigmas(sigma_min: float, sigma_max: float, steps: int) -> list[float]:
    """Levels evenly spaced in log sigma.

    >>> [round(sigma, 3) for sigma in exponential_sigmas(0.1, 10.0, 3)]
    [10.0, 1.0, 0.1, 0.0]
    """
    return [*np.geomspace(sigma_max, sigma_min, steps).tolist(), 0.0]


def spaced_timesteps(spacing: Spacing, count: int, steps: int, offset: int = 0) -> list[float]:
    """Descending timesteps out of 0 … count - 1 (Lin et al. 2023, table 2), as diffusers' schedulers space them.

    ``linspace`` gives fractions where steps - 1 does not divide count - 1; ``offset`` shifts ``leading`` only.

    >>> spaced_timesteps("leading", 1000, 4, 1), spaced_timesteps("trailing", 1000, 4), spaced_timesteps("linspace", 1000, 4)
    ([751.0, 501.0, 251.0, 1.0], [999.0, 749.0, 499.0, 249.0], [999.0, 666.0, 333.0, 0.0])
    """
    if not 1 <= steps <= count:
        raise ValueError(f"need 1 to {count} steps, got {steps}")
    if spacing == "linspace":
        return [float(t) for t in np.linspace(0, count - 1, steps)[::-1]]
    if spacing == "leading":
        return [float(t) for t in (np.arange(steps) * (count // steps))[::-1] + offset]
    return [float(t) for t in np.round(count - np.arange(steps) * count / steps) - 1]
