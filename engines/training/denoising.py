"""What a UNet is trained to predict, and how much each timestep counts."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engines.precondition import NoiseLevels, Prediction

_Rows = Float[Tensor, "n c h w"]


@dataclass(frozen=True, eq=False)
class Noising:
    """The forward process x_t = alpha_t x_0 + sigma_t noise, by timestep."""

    alpha: Float[Tensor, " t"]
    sigma: Float[Tensor, " t"]
    prediction: Prediction

    @property
    def snr(self) -> Float[Tensor, " t"]:
        """Signal-to-noise ratio (alpha / sigma)^2."""
        return (self.alpha / self.sigma).square()

    def noised(self, x0: _Rows, noise: _Rows, t: Int[Tensor, " n"]) -> tuple[_Rows, _Rows]:
        """x_t, and what the network should answer at it."""
        alpha, sigma = (table[t].view(-1, 1, 1, 1) for table in (self.alpha, self.sigma))
        targets: dict[Prediction, Callable[[], Tensor]] = {
            "epsilon": lambda: noise,
            "v_prediction": lambda: alpha * noise - sigma * x0,
            "sample": lambda: x0,
        }
        return alpha * x0 + sigma * noise, targets[self.prediction]()


def noising_of(levels: NoiseLevels, prediction: Prediction, device: torch.device) -> Noising:
    """The variance-preserving process with these levels, in float32: alpha^2 + sigma^2 = 1."""
    levels_squared = (2 * levels.log_sigmas).exp()
    alpha, sigma = (1 + levels_squared).rsqrt(), (levels_squared / (1 + levels_squared)).sqrt()
    return Noising(alpha.float().to(device), sigma.float().to(device), prediction)


def min_snr_weight(noising: Noising, gamma: float | None) -> Float[Tensor, " t"]:
    """Min-SNR-gamma weights of the squared error of the prediction (Hang et al. 2023, section 3.4); ones without a gamma.

    In terms of x_0 every timestep weighs min(SNR, gamma).  An error of epsilon is SNR times the error of x_0, one of v SNR + 1 times.
    """
    snr = noising.snr
    if gamma is None:
        return torch.ones_like(snr)
    if noising.prediction == "epsilon":
        return (gamma / snr).clamp(max=1)
    wanted = snr.clamp(max=gamma)
    return wanted / (snr + 1) if noising.prediction == "v_prediction" else wanted


def stratified(batch: int, timesteps: int, draw: torch.Generator) -> Int[Tensor, " n"]:
    """One timestep per item, each from its own stratum, so that every batch covers the whole schedule."""
    u = (torch.arange(batch, device=draw.device) + torch.rand(batch, device=draw.device, generator=draw)) / batch
    return (u * timesteps).long().clamp(max=timesteps - 1)
