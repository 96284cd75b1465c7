"""What backends are compared on: rough samples of the reference, noised to levels spread over the schedule."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from engines.conditioning import Conditioning
from engines.noise import start_noise
from engines.parity import ROWS, Feeds
from engines.precondition import TimestepNetwork
from engines.process import Process
from engines.samplers import sample_ddim

PROBE_SIZES = (ROWS, 1, 3, ROWS, 1, 3, 1, 2)
"""Batches: full, single and ragged."""

_SEEDS = 1000
"""Seeds of the noise from here on; the clean samples have those below."""


@dataclass(frozen=True, eq=False)
class Probes:
    """Inputs like those that engines will meet."""

    reference: TimestepNetwork
    told: Conditioning
    """ROWS rows."""
    process: Process
    shape: tuple[int, int, int]

    @cached_property
    def clean(self) -> Float[Tensor, "n c h w"]:
        """Rough samples of the reference itself: two steps suffice to be on the distribution's scale."""
        denoise = self.process.denoiser(self.reference)
        levels = [self.process.spread(3)[0], self.process.spread(3)[1], 0.0]
        noise = start_noise(range(ROWS), self.shape)
        start = self.process.noised(torch.zeros_like(noise), noise, torch.full((ROWS,), levels[0]))
        return sample_ddim(lambda x, sigma: denoise(x, sigma, self.told), start, levels)

    def denoiser(self) -> list[Feeds]:
        """Every row at another level, in an order that mixes them."""
        total = sum(PROBE_SIZES)
        order = torch.randperm(total, generator=torch.Generator().manual_seed(0))
        levels = torch.tensor(self.process.spread(total))[order]
        return [self._batch(rows, levels[rows]) for rows in torch.split(torch.arange(total), list(PROBE_SIZES))]

    def decoder(self) -> list[Feeds]:
        """Clean latents."""
        return [{"latents": self.clean[:size]} for size in (ROWS, 3, 1)]

    def _batch(self, rows: Tensor, levels: Tensor) -> Feeds:
        noise = start_noise((_SEEDS + rows).tolist(), self.shape)
        x, t = self.process.asked(self.process.noised(self.clean[rows % ROWS], noise, levels), levels)
        return {"sample": x, "t": t, **self.told[rows % ROWS].tensors}
