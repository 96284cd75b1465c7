"""The picture autoencoder: a small AutoencoderKL (Rombach et al. 2022) trained on mean absolute error, edges and a light divergence."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from engines.training.checkpoint import Spent
from engines.training.loop import Budget, Report, Stage, StepRandomness, fit, seeded
from engines.training.options import Recipe


def build_autoencoder(recipe: Recipe) -> Any:
    """An untrained ``diffusers.AutoencoderKL`` of the recipe's size, float32."""
    from diffusers import AutoencoderKL

    levels = len(recipe.autoencoder_channels)
    factory: Any = AutoencoderKL
    return factory(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=recipe.autoencoder_channels,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=16,
        sample_size=recipe.image_size,
        mid_block_add_attention=False,
    )


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences between neighbouring pixels, along width and height."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


class _Objective(nn.Module):
    """Mean absolute error of pixels and of edges, plus the divergence of the latent from a standard normal."""

    def __init__(self, autoencoder: Any, kl_weight: float) -> None:
        super().__init__()
        self.autoencoder, self.kl_weight = autoencoder, kl_weight

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        moments = self.autoencoder.quant_conv(self.autoencoder.encoder(x))
        mean, logvar = moments.chunk(2, dim=1)
        logvar = logvar.clamp(-30, 20)
        z = mean + torch.exp(0.5 * logvar) * noise
        y = self.autoencoder.decoder(self.autoencoder.post_quant_conv(z))
        (across, down), (across_y, down_y) = edges(x), edges(y)
        sides = (across - across_y).abs().mean() + (down - down_y).abs().mean()
        divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        total: Tensor = (x - y).abs().mean() + (x - y).square().mean() + sides + self.kl_weight * divergence
        return total


def train_autoencoder(images: Tensor, recipe: Recipe, *, stage: Stage, report: Report, compiled: bool) -> tuple[Any, Spent]:
    """Fit on uint8 images ``(n, 3, h, w)`` that already lie on the training device; returns the averaged network and what was spent."""
    device = images.device
    with seeded(recipe.seed):
        network = build_autoencoder(recipe).to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    objective = _Objective(network, recipe.kl_weight)
    forward = torch.compile(objective) if compiled else objective
    randomness = StepRandomness(recipe.seed + 1, device)
    side = recipe.image_size // recipe.shrinking

    def loss(step: int) -> Tensor:
        draw = randomness.at(step)
        pick = torch.randint(len(images), (recipe.autoencoder_batch,), device=device, generator=draw)
        x = augment(images[pick], recipe, draw).contiguous(memory_format=torch.channels_last)
        noise = torch.randn(len(pick), recipe.latent_channels, side, side, device=device, generator=draw)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            value: Tensor = forward(x, noise)
            return value

    budget = Budget(
        steps=recipe.autoencoder_steps, seconds=recipe.autoencoder_seconds, checkpoint_seconds=recipe.checkpoint_seconds
    )
    spent = fit(
        network,
        loss,
        average=average,
        budget=budget,
        peak_rate=recipe.autoencoder_rate,
        ema_decay=0.999,
        stage=stage,
        report=report,
    )
    return average, spent


def augment(images: Tensor, recipe: Recipe, draw: torch.Generator) -> Tensor:
    """uint8 ``(n, 3, h, w)`` -> float in [-1, 1], mirrored and shifted as the recipe says (one shift for the whole batch)."""
    x = images.float() / 127.5 - 1
    if recipe.mirror:
        flip = torch.rand(len(x), device=x.device, generator=draw) < 0.5
        x = torch.where(flip[:, None, None, None], x.flip(-1), x)
    if recipe.shift:
        dy, dx = torch.randint(0, 2 * recipe.shift + 1, (2,), device=x.device, generator=draw).tolist()
        x = nn.functional.pad(x, (recipe.shift,) * 4, mode="reflect")[..., dy : dy + images.shape[-2], dx : dx + images.shape[-1]]
    return x


@torch.no_grad()
def encode_moments(autoencoder: Any, images: Tensor, recipe: Recipe, draw: torch.Generator, *, batch: int = 256) -> Tensor:
    """Means and log-variances of the latents ``(n, 2 c, h, w)`` of augmented images."""
    parts = []
    for start in range(0, len(images), batch):
        x = augment(images[start : start + batch], recipe, draw)
        parts.append(autoencoder.quant_conv(autoencoder.encoder(x)).to(torch.bfloat16 if x.is_cuda else torch.float32))
    return torch.cat(parts)
