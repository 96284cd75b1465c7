"""A variance-preserving network with discrete timesteps, seen as a denoiser over noise levels sigma.

After Karras et al., "Elucidating the design space of diffusion models" (2022), section 5 and table 1: with
x = clean + sigma * noise the network sees c_in x, c_in = 1 / sqrt(1 + sigma^2), at the timestep whose level is sigma, interpolated in
log sigma.  Betas are those of diffusers' schedulers; zero terminal SNR is Lin et al., "Common diffusion noise schedules and sample
steps are flawed" (2023), algorithm 1.  There sigma would be infinite: we stop at TERMINAL_ALPHA_BAR, sigma 4096 (or twice the level
before, where that is higher still), at which the network's input holds next to nothing of the data.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from engines.conditioning import Conditioning
from engines.errors import UnsupportedPipelineError
from engines.protocols import ConditionalDenoiser, Denoiser

Prediction = Literal["epsilon", "v_prediction", "sample"]
TERMINAL_ALPHA_BAR = 2.0**-24
SNAP = 1e-4
"""A timestep this near to a whole one is that one; float32 cannot tell levels apart more finely."""
SAME = 1e-6
"""Levels whose logarithms differ by less are one level, rounded to float32."""

SIGMA_DATA = 0.5
"""Spread of the data that consistency models assume."""

TimestepNetwork = Callable[[Tensor, Tensor, Conditioning], Tensor]
"""(x (n c h w) of unit scale, t (n) float, n rows of conditioning) -> prediction (n c h w)."""


@dataclass(frozen=True, eq=False)
class NoiseLevels:
    """The noise level of each timestep of training, ascending."""

    log_sigmas: Float64[Tensor, " t"]
    visited: tuple[tuple[float, float], ...] = ()
    """(timestep, sigma) pairs that a scheduler decrees although the table says otherwise."""

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Level of every timestep, from 0 on."""
        return tuple(self.log_sigmas.exp().tolist())

    @property
    def alpha_bars(self) -> Float64[Tensor, " t"]:
        """Share of the data's variance at every timestep: 1 / (1 + sigma^2)."""
        return 1 / (1 + (2 * self.log_sigmas).exp())

    def timestep(self, sigma: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The (fractional) timestep whose level is sigma, interpolated in log sigma; levels outside the table belong to its ends."""
        table = self.log_sigmas.to(sigma.device)
        wanted = sigma.double().log()
        high = torch.searchsorted(table, wanted).clamp(1, len(table) - 1)
        low = high - 1
        weight = ((wanted - table[low]) / (table[high] - table[low])).clamp(0, 1)
        t = low + weight
        whole = t.round()
        return self._decreed(wanted, torch.where((t - whole).abs() < SNAP, whole, t)).float()

    def visiting(self, pairs: Iterable[tuple[float, float]]) -> "NoiseLevels":
        """The same levels for a scheduler that tells the network timestep t at sigma; pairs that the table has are not kept."""
        asked = [(float(t), float(sigma)) for t, sigma in pairs]
        known = self.timestep(torch.tensor([sigma for _, sigma in asked], dtype=torch.float64)).tolist()
        return replace(self, visited=tuple(pair for pair, t in zip(asked, known, strict=True) if abs(pair[0] - t) >= SNAP))

    def _decreed(self, wanted: Float64[Tensor, " n"], t: Float64[Tensor, " n"]) -> Float64[Tensor, " n"]:
        if not self.visited:
            return t
        pairs = torch.tensor(self.visited, dtype=torch.float64, device=t.device)
        gap, nearest = (wanted[:, None] - pairs[:, 1].log()).abs().min(1)
        return torch.where(gap < SAME, pairs[nearest, 0], t)


def noise_levels(scheduler: Mapping[str, object]) -> NoiseLevels:
    """Levels of a diffusers scheduler configuration."""
    alpha_bar = torch.cumprod(1 - _betas(scheduler), 0)
    if scheduler.get("rescale_betas_zero_snr"):
        root = alpha_bar.sqrt()
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        alpha_bar = root.square()
        alpha_bar[-1] = min(TERMINAL_ALPHA_BAR, float(alpha_bar[-2]) / 4)  # below the level before, so that levels ascend
    return NoiseLevels(((1 - alpha_bar) / alpha_bar).log() / 2)


def prediction_of(scheduler: Mapping[str, object]) -> Prediction:
    """What the network was trained to predict."""
    prediction = scheduler.get("prediction_type", "epsilon")
    if prediction not in get_args(Prediction):
        raise UnsupportedPipelineError(f"prediction_type {prediction!r} is unknown; use epsilon, v_prediction or sample")
    if prediction == "epsilon" and scheduler.get("rescale_betas_zero_snr"):
        raise UnsupportedPipelineError(
            "a network that predicts epsilon says nothing about pure noise, yet the scheduler sets rescale_betas_zero_snr; "
            "use v_prediction or sample, or leave the betas as they are"
        )
    return cast("Prediction", prediction)


def precondition(network: TimestepNetwork, levels: NoiseLevels, prediction: Prediction) -> ConditionalDenoiser:
    """The network as a denoiser."""

    def denoise(x: Tensor, sigma: Tensor, conditioning: Conditioning, /) -> Tensor:
        s = rowwise(sigma, x)
        c_in = (1 + s**2).rsqrt()
        out = network(c_in * x, levels.timestep(sigma), conditioning)
        if prediction == "epsilon":
            return x - s * out
        if prediction == "v_prediction":  # v = alpha noise - sigma_vp clean, with alpha = c_in and sigma_vp = s c_in
            return c_in * (c_in * x - s * out)
        return out

    return denoise


def estimates(prediction: Prediction, x: Tensor, out: Tensor, alpha_bar: Float[Tensor, " n"]) -> tuple[Tensor, Tensor]:
    """(noise, clean) that a network's output means for x of unit variance: x = sqrt(alpha_bar) clean + sqrt(1 - alpha_bar) noise."""
    alpha, sigma = rowwise(alpha_bar.sqrt(), x), rowwise((1 - alpha_bar).sqrt(), x)
    if prediction == "epsilon":
        return out, (x - sigma * out) / alpha
    if prediction == "v_prediction":
        return alpha * out + sigma * x, alpha * x - sigma * out
    return (x - alpha * out) / sigma, out


def clipped(denoise: Denoiser, limit: float) -> Denoiser:
    """Clean estimates kept within the range of the data.  Wraps a guided denoiser: what is clipped is what a step uses."""
    return lambda x, sigma: denoise(x, sigma).clamp(-limit, limit)


def consistent(denoise: Denoiser, levels: NoiseLevels, scaling: float) -> Denoiser:
    """A latent consistency model: the denoiser, made to be the identity at no noise.

    Luo et al., "Latent consistency models" (2023), eq. 9: f = c_skip(t) z + c_out(t) D, with z of unit scale and
    c_skip = s^2 / (s^2 + (k t)^2), c_out = k t / sqrt(s^2 + (k t)^2), s = SIGMA_DATA, k the scheduler's ``timestep_scaling``.
    """

    def mapped(x: Tensor, sigma: Tensor, /) -> Tensor:
        t = rowwise(scaling * levels.timestep(sigma), x)
        norm = t**2 + SIGMA_DATA**2
        z = x * (1 + rowwise(sigma, x) ** 2).rsqrt()
        return SIGMA_DATA**2 / norm * z + t * norm.rsqrt() * denoise(x, sigma)

    return mapped


def rowwise(value: Float[Tensor, " n"], x: Tensor) -> Tensor:
    """One number a row, shaped to multiply x (n ...)."""
    return value.view(-1, *[1] * (x.ndim - 1))


def _betas(scheduler: Mapping[str, object]) -> Float64[Tensor, " t"]:
    steps = int(cast("int", scheduler.get("num_train_timesteps", 1000)))
    if scheduler.get("trained_betas") is not None:
        return torch.tensor(scheduler["trained_betas"], dtype=torch.float64)
    first, last = (float(cast("float", scheduler.get(key, other))) for key, other in (("beta_start", 1e-4), ("beta_end", 0.02)))
    schedule = scheduler.get("beta_schedule", "linear")
    if schedule == "linear":
        return torch.linspace(first, last, steps, dtype=torch.float64)
    if schedule == "scaled_linear":
        return torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64) ** 2
    if schedule == "squaredcos_cap_v2":  # Nichol and Dhariwal 2021, eq. 17
        u = torch.arange(steps + 1, dtype=torch.float64) / steps
        f = ((u + 0.008) / 1.008 * torch.pi / 2).cos() ** 2
        return (1 - f[1:] / f[:-1]).clamp(max=0.999)
    if schedule == "sigmoid":
        return torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid() * (last - first) + first
    raise UnsupportedPipelineError(
        f"beta_schedule {schedule!r} is unknown; use linear, scaled_linear, squaredcos_cap_v2 or sigmoid"
    )
