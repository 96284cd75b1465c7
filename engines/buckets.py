"""Which batch size next?  Measured once per size; of all ways to serve the rows that wait, the one that takes the least time.

For n waiting rows and buckets b with times T(b) the least time is  C(n) = min over b of T(b) + C(n - b),  C(n <= 0) = 0:  then rows
per millisecond, n / C(n), are the most that these buckets can give.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray

from engines.cache import BuildCache
from engines.errors import OutOfMemoryError
from engines.memory import give_back, out_of_memory
from engines.protocols import Replay
from engines.spec import digest
from engines.timing import is_positive, least_seconds

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Batch sizes that are built, as far as memory goes."""

REPEATS = 20
PATIENCE_SECONDS = 0.3
"""Measuring one size ends after this many runs or seconds, whichever comes first."""

LONGEST_SECONDS = 1.0
"""Sizes above one that takes this long are left out: there is nothing to gain any more, and others would wait."""


@dataclass(frozen=True)
class BucketTimes:
    """How long a batch of each size takes, and what follows from it."""

    seconds: Mapping[int, float]
    """Size -> seconds."""
    exact: bool = False
    """Whether sizes between those measured can be run as they are; their times are interpolated."""

    def __post_init__(self) -> None:
        if not self.seconds or min(self.seconds) < 1 or min(self.seconds.values()) <= 0:
            raise ValueError(f"bucket times need sizes from 1 on and times above 0, got {dict(self.seconds)}")

    @property
    def largest(self) -> int:
        """Most rows of one batch."""
        return max(self.seconds)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Batch sizes that may be run, ascending."""
        return np.arange(min(self.seconds), self.largest + 1) if self.exact else np.array(sorted(self.seconds))

    def choose(self, waiting: int) -> int:
        """Size of the next batch when so many rows wait: the largest batch of the fastest way to serve them all.

        >>> BucketTimes({1: 4.0, 4: 6.0, 8: 11.0}).choose(5)  # 4 + 1 take 10, padded 8 takes 11
        4
        """
        if waiting < 1:
            raise ValueError(f"a batch is chosen for waiting rows, got {waiting}")
        return int(self._largest_of_best[min(waiting, len(self._largest_of_best) - 1)])

    def cover(self, rows: int) -> int:
        """The size that runs so many rows in one batch in the least time."""
        fits = self.sizes >= rows
        if not fits.any():
            raise ValueError(f"the largest batch has {self.largest} rows, got {rows}")
        return int(self.sizes[fits][self._times[fits].argmin()])

    @cached_property
    def _times(self) -> NDArray[np.float64]:
        known = sorted(self.seconds)
        return np.interp(self.sizes, known, [self.seconds[size] for size in known])

    @cached_property
    def _largest_of_best(self) -> Int[np.ndarray, " n"]:
        """For every number of rows up to twice the largest batch; with more rows the choice stays what it is there."""
        sizes, times = self.sizes[::-1], self._times[::-1]  # of equal ways, the one with larger batches
        cost, largest = np.zeros(2 * self.largest + 1), np.zeros(2 * self.largest + 1, np.int64)
        for rows in range(1, len(cost)):
            rest = np.maximum(rows - sizes, 0)
            best = int((times + cost[rest]).argmin())
            cost[rows] = times[best] + cost[rest[best]]
            largest[rows] = max(sizes[best], largest[rest[best]])
        return largest


def measure_times(replay_at: Callable[[int], Replay], sizes: Sequence[int], device: torch.device) -> dict[int, float]:
    """Seconds of each size, ascending, as far as memory goes.  Raises OutOfMemoryError when even the smallest does not fit."""
    seconds: dict[int, float] = {}
    for size in sorted(sizes):
        if seconds and max(seconds.values()) > LONGEST_SECONDS:
            break
        try:
            seconds[size] = least_seconds(device, replay_at(size), repeats=REPEATS, patience_seconds=PATIENCE_SECONDS)
        except Exception as error:  # every library has its own
            if not out_of_memory(error):
                raise
            if not seconds:
                raise OutOfMemoryError(f"no batch of {size} rows fits on {device}; free memory on it") from error
            give_back(device)
            break
    return seconds


def remembered_times(
    cache: BuildCache, key: str, where: Mapping[str, str], measure: Callable[[], Mapping[int, float]]
) -> dict[int, float]:
    """The times noted beside artifact ``key`` for this place (device, threads, versions); measured and noted when there are none."""
    name = f"buckets-{digest(dict(where))[:16]}"
    known = cache.read_note(key, name)
    if known is None or not known or not all(size.isdigit() and is_positive(seconds) for size, seconds in known.items()):
        known = {str(size): seconds for size, seconds in measure().items()}
        cache.write_note(key, name, known)
    return {int(size): float(str(seconds)) for size, seconds in known.items()}
