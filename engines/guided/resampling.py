"""Particles that carry little weight give way to copies of others (systematic resampling; Douc, Cappé and Moulines 2005)."""

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from engines.noise import step_noise

_RESAMPLING = 1 << 20
"""Streams of noise above those of steps."""


def resampled(log_weight: Float64[Tensor, " k"], seed: int, step: int) -> Int[Tensor, " k"]:
    """Which particle each slot goes on with; all stay while the effective sample size is at least half of them.

    Every particle gets its weight's share of slots, rounded up or down; which way depends on (seed, step) alone.
    """
    k, weight = len(log_weight), log_weight.softmax(0)
    if float(1 / weight.square().sum()) >= k / 2:
        return torch.arange(k, device=log_weight.device)
    u = float(torch.special.ndtr(step_noise([seed], _RESAMPLING + step, (1,))))  # uniform in (0, 1)
    places = (torch.arange(k, device=log_weight.device) + u) / k
    return torch.searchsorted(weight.cumsum(0), places.to(weight)).clamp(max=k - 1)
