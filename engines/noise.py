"""Gaussian noise from one seed per image: independent of the batch, of the device and of what was drawn before.

Counter-based streams (Philox, Salmon et al. 2011) keyed by (seed, step).  Not ``torch.Generator``: on a CPU it reads only the low
32 bits of its seed, so that two of a hundred thousand hashed seeds would give the same picture more often than not.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def start_noise(seeds: Sequence[int], shape: Sequence[int]) -> Float[Tensor, "n ..."]:
    """Standard normal noise that image i starts from; depends on ``seeds[i]`` and the shape alone."""
    return torch.stack([torch.from_numpy(_normal(seed, 0, shape)) for seed in seeds])


def step_noise(seeds: Sequence[int], step: int, shape: Sequence[int]) -> Float[Tensor, "n ..."]:
    """Standard normal noise for step 0, 1, … of a stochastic sampler; never shared with the start or another step."""
    if step < 0:
        raise ValueError(f"steps count from 0, got {step}")
    return torch.stack([torch.from_numpy(_normal(seed, step + 1, shape)) for seed in seeds])


def _normal(seed: int, stream: int, shape: Sequence[int]) -> Float[np.ndarray, "..."]:
    if not 0 <= seed < 2**64:
        raise ValueError(f"a seed is an unsigned 64-bit number, got {seed}")
    bits = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
    return np.random.Generator(bits).standard_normal(tuple(shape), dtype=np.float32)
