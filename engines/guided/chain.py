"""A chain of fewer steps between the timesteps of training, and the posterior of one of its steps.

Respacing is Nichol and Dhariwal 2021, section 4: original timesteps are kept, betas follow from what they leave of the data.  Index 0 of the
chain already is one step of noise.  Tables are float64.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from engines.diffusion import Diffusion

Latents = Float[Tensor, "n c h w"]
Variance = Literal["small", "middle", "large"]
"""Of the posterior: its own (``small``), the forward step's (``large``), or their geometric mean, a learned variance at 0 (``middle``)."""

PAPER_SIGNAL = 0.62585
"""sqrt(alpha_bar) at which DiME and FastDiME start: index 60 of 200 kept steps of a linear schedule of 500."""


def kept_steps(timesteps: int, kept: int) -> tuple[int, ...]:
    """Original timesteps of a chain of ``kept`` steps, ascending, ends included; halves are rounded to even.

    >>> kept_steps(500, 200)[:5], kept_steps(500, 200)[59:61]
    ((0, 3, 5, 8, 10), (148, 150))
    """
    if not 2 <= kept <= timesteps:
        raise ValueError(f"keep between 2 and {timesteps} steps, got {kept}")
    return tuple(round(k * (timesteps - 1) / (kept - 1)) for k in range(kept))


@dataclass(frozen=True, eq=False, kw_only=True)
class Chain:
    """Kept timesteps and the posterior q(z_{t-1} | z_t, x_0) of each; all tables by index of the chain."""

    at: tuple[int, ...]
    """Original timesteps, ascending."""
    alpha_bars: Float64[Tensor, " s"]
    weight_clean: Float64[Tensor, " s"]
    weight_noisy: Float64[Tensor, " s"]
    """Posterior mean = weight_clean * x_0 + weight_noisy * z_t (Ho et al. 2020, eq. 7)."""
    variance: Float64[Tensor, " s"]

    @classmethod
    def of(cls, diffusion: Diffusion, kept: int, variance: Variance = "middle") -> "Chain":
        """The chain over a diffusion's own levels."""
        if variance not in get_args(Variance):
            raise ValueError(f"variance {variance!r} is unknown; use {', '.join(get_args(Variance))}")
        at = kept_steps(diffusion.timesteps, kept)
        bars = diffusion.levels.alpha_bars[list(at)].double()
        before = torch.cat([torch.ones(1, dtype=torch.float64), bars[:-1]])
        beta = 1 - bars / before
        small = beta * (1 - before) / (1 - bars)
        small[0] = small[1]  # as in improved-diffusion: the last step's own variance would be 0
        found = {"small": small, "middle": (small * beta).sqrt(), "large": beta}
        return cls(
            at=at,
            alpha_bars=bars,
            weight_clean=beta * before.sqrt() / (1 - bars),
            weight_noisy=(1 - before) * (1 - beta).sqrt() / (1 - bars),
            variance=found[variance],
        )

    def noised(self, x: Latents, index: int, noise: Latents) -> Latents:
        """The state at one index of the chain, of unit variance; at index -1 x itself."""
        if index < 0:
            return x
        kept = float(self.alpha_bars[index])
        mixed: Latents = math.sqrt(kept) * x + math.sqrt(1 - kept) * noise
        return mixed

    def mean(self, clean: Latents, z: Latents, index: int) -> Latents:
        """Posterior mean one index down, for a clean estimate at z."""
        return float(self.weight_clean[index]) * clean + float(self.weight_noisy[index]) * z


def depth_at(diffusion: Diffusion, kept: int, signal: float = PAPER_SIGNAL) -> int:
    """How many steps of a chain to go down so that sqrt(alpha_bar) at the start is nearest to ``signal``.

    Schedules differ: 60 of 200 steps leave 0.63 of the data under the paper's linear schedule, 0.89 under a cosine one.
    """
    if not 0 < signal < 1:
        raise ValueError(f"the share of signal lies between 0 and 1, got {signal}")
    bars = diffusion.levels.alpha_bars[list(kept_steps(diffusion.timesteps, kept))]
    return max(1, int((bars.sqrt() - signal).abs().argmin()))
