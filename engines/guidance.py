"""Classifier-free guidance (Ho and Salimans 2022) inside a noise interval (Kynkäänniemi et al. 2024), as a wrapper.

D = D(x; null) + scale (D(x; told) - D(x; null)) where low <= sigma <= high, else D(x; told).  A clean estimate is affine in the
network's output, so this is the usual combination of noise estimates.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.conditioning import Conditioning
from engines.protocols import ConditionalDenoiser, Denoiser


@dataclass(frozen=True)
class Guidance:
    """How strongly what was asked for is followed, and where."""

    scale: float = 1.0
    low: float = 0.0
    high: float = math.inf

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(f"a guidance interval needs 0 <= low <= high, got {self.low}, {self.high}")

    def at(self, sigma: float) -> bool:
        """Whether a step at sigma costs a second evaluation."""
        return self.scale != 1.0 and self.low <= sigma <= self.high

    def evaluations(self, sigmas: Sequence[float]) -> int:
        """Rows evaluated per image by a sampler that visits sigmas, the last of which is not evaluated.

        >>> Guidance(3.0, 1.0, 10.0).evaluations([14.0, 5.0, 0.5, 0.0])
        4
        """
        return sum(1 + self.at(sigma) for sigma in sigmas[:-1])


def guide(denoise: ConditionalDenoiser, conditioning: Conditioning, null: Conditioning | None, guidance: Guidance) -> Denoiser:
    """Fix the conditioning and guide towards it; one call to the network per step, rows for null only where they are needed.

    ``null`` is one row, and is None only where the scale is 1.
    """
    if null is None and guidance.scale != 1.0:
        raise ValueError(f"guidance of {guidance.scale} needs a null condition to start from, and this model has none; use 1")

    def guided(x: Tensor, sigma: Tensor, /) -> Tensor:
        inside = (sigma >= guidance.low) & (sigma <= guidance.high) & (guidance.scale != 1.0)
        if null is None or not inside.any():
            return denoise(x, sigma, conditioning)
        both = Conditioning.cat([conditioning, null.expand(int(inside.sum()))])
        clean = denoise(torch.cat([x, x[inside]]), torch.cat([sigma, sigma[inside]]), both)
        result = clean[: len(x)].clone()
        result[inside] = torch.lerp(clean[len(x) :], result[inside], guidance.scale)
        return result

    return guided
