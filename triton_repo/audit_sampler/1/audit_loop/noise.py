"""The noise of a seed: the twin of ``engines.noise`` that needs NumPy only."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def start_noise(seeds: NDArray[Any], shape: Sequence[int]) -> NDArray[np.float32]:
    """Standard normal noise (n *shape), row i from seed i alone: Philox keyed by (seed, 0)."""
    return np.stack([_normal(int(seed), shape) for seed in seeds.reshape(-1)])


def _normal(seed: int, shape: Sequence[int]) -> NDArray[np.float32]:
    bits = np.random.Philox(key=np.array([seed, 0], dtype=np.uint64))
    return np.random.Generator(bits).standard_normal(tuple(shape), dtype=np.float32)
