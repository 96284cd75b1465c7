"""Which timesteps an edit visits, for any number of timesteps of training.

LEDITS++ (Brack et al. 2024) visits the lower part of an even grid, so that ``skip`` decides how noisy an image gets.  Latent consistency
models (Luo et al. 2023) visit a few of the timesteps they were distilled at, TurboEdit (Deutch et al. 2024) even ones between 4/5 and 1/5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from engines.precondition import NoiseLevels


@dataclass(frozen=True)
class TimeGrid:
    """Timesteps to visit, descending, and how much of the data's variance is left at each."""

    times: tuple[int, ...]
    alpha_bars: tuple[float, ...]
    """Of all times, then 1: that of x_0 itself."""
    timesteps: int
    """Of training."""

    def __post_init__(self) -> None:
        if not self.times or any(early <= late for early, late in pairwise(self.times)):
            raise ValueError(f"a grid needs descending timesteps, got {self.times}")
        if self.times[0] >= self.timesteps or self.times[-1] < 0:
            raise ValueError(f"timesteps go from 0 to {self.timesteps - 1}, got {self.times[0]} to {self.times[-1]}")
        if len(self.alpha_bars) != len(self.times) + 1 or self.alpha_bars[-1] != 1.0:
            raise ValueError(f"a grid of {len(self.times)} timesteps needs as many alpha bars, then 1, got {self.alpha_bars}")

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.times)


def grid_at(times: Sequence[int], levels: NoiseLevels) -> TimeGrid:
    """The grid of a network's own noise levels."""
    table = levels.alpha_bars.tolist()
    if not times or not 0 <= min(times) <= max(times) < len(table):
        raise ValueError(f"timesteps go from 0 to {len(table) - 1}, got {tuple(times)}")
    return TimeGrid(tuple(times), (*(table[t] for t in times), 1.0), len(table))


def skipping_times(steps: int, skip: float, timesteps: int = 1000) -> tuple[int, ...]:
    """LEDITS++: the lowest ``steps`` of int(steps * (1 + skip)) even timesteps; a larger skip starts later and changes less.

    >>> skipping_times(20, 0.15)[:2], skipping_times(50, 0.10)[0], skipping_times(20, 0.25)[-1]
    ((818, 775), 883, 1)
    """
    if steps < 1 or skip < 0:
        raise ValueError(f"need at least one step and skip >= 0, got {steps} and {skip}")
    ratio = timesteps // int(steps * (1 + skip))
    times = tuple(k * ratio + 1 for k in reversed(range(steps)))
    if ratio < 1 or times[0] >= timesteps:
        raise ValueError(
            f"{steps} steps with skip {skip} do not fit into {timesteps} timesteps of training; use fewer steps or another skip"
        )
    return times


def consistency_times(steps: int, timesteps: int = 1000, distilled: int = 50) -> tuple[int, ...]:
    """Latent consistency models: so many of the ``distilled`` even timesteps that the network was taught at.

    >>> consistency_times(4)
    (999, 759, 499, 259)
    """
    if not 1 <= steps <= distilled <= timesteps:
        raise ValueError(
            f"{steps} steps out of {distilled} distilled ones do not fit into {timesteps} timesteps of training; use fewer steps"
        )
    apart = timesteps // distilled
    return tuple((distilled - i * distilled // steps) * apart - 1 for i in range(steps))


def turbo_times(steps: int, timesteps: int = 1000) -> tuple[int, ...]:
    """TurboEdit: evenly from 4/5 to 1/5 of the timesteps; one step stands at 4/5.

    >>> turbo_times(3), turbo_times(4)
    ((799, 499, 199), (799, 599, 399, 199))
    """
    high, low = timesteps * 4 // 5 - 1, timesteps // 5 - 1
    if steps < 1 or low < 0 or steps > high - low + 1:
        raise ValueError(f"{steps} steps do not fit between 4/5 and 1/5 of {timesteps} timesteps of training; use fewer steps")
    return tuple(int(t) for t in np.linspace(high, low, steps).round())
