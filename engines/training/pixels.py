"""A diffusion over pixels, drawn from noise alone (DDPM, Ho et al. 2020), trained from nothing on pictures without captions.

Linear schedule of 1000 timesteps, noise prediction, pictures in [-1, 1]: what DiME, FastDiME and DVCE assume of the network they guide.
Timesteps are weighted by min-SNR (Hang et al. 2023).
"""

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from engines.precondition import noise_levels
from engines.training.checkpoint import Spent
from engines.training.denoising import min_snr_weight, noising_of, stratified
from engines.training.device import device_name, usable
from engines.training.errors import TrainingError
from engines.training.loop import Budget, Report, Stage, StepRandomness, fit, seeded
from engines.training.pixel_data import Pictures, check_pictures, digest_of
from engines.training.pixel_options import HEADS, PixelRecipe
from engines.training.pixel_write import SCHEDULE, PixelCard, write_pixels
from engines.training.train import silent
from engines.training.vendor import quiet
from engines.training.write import check_writable

CHECKPOINT = "pixels.safetensors"

_NOTHING = 1e-6
"""Seconds that any run that left a checkpoint has spent."""


def build_pixel_unet(recipe: PixelRecipe, *, size: int, colours: int) -> Any:
    """An untrained ``diffusers.UNet2DModel``, attending at its lowest resolution only."""
    from diffusers import UNet2DModel

    levels = len(recipe.channels)
    factory: Any = UNet2DModel
    return factory(
        sample_size=size,
        in_channels=colours,
        out_channels=colours,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        block_out_channels=recipe.channels,
        layers_per_block=recipe.layers,
        attention_head_dim=recipe.channels[-1] // HEADS,
        norm_num_groups=recipe.groups,
    )


def train_pixels(
    pictures: Pictures,
    recipe: PixelRecipe,
    out: Path,
    *,
    work: Path,
    device: str = "cpu",
    compiled: bool = False,
    snapshot: bool = False,
    about: str = "",
    report: Report = silent,
) -> Spent:
    """Train on ``pictures`` (uint8, square, RGB or grey) and write the network's moving average to ``out``.

    ``work`` keeps the checkpoint: run again after a kill and it goes on; with more steps or seconds a finished run goes on too.  With
    ``snapshot`` nothing is trained: what the last checkpoint holds is written, also while another process trains on.  ``out`` appears
    whole or not at all; ``about`` is a paragraph of its README.  On a CPU, equal arguments give equal weights when the budget is in steps.
    Raises TrainingError.
    """
    check_pictures(pictures, recipe.shrinking)
    check_writable(out)
    digest = digest_of(pictures)
    run = hashlib.sha256(f"{digest}{json.dumps(recipe.identity, sort_keys=True)}".encode()).hexdigest()[:16]
    where, saved = usable(device), work / CHECKPOINT
    if snapshot and not saved.is_file():
        raise TrainingError(f"{saved} is not there, so there is nothing to write yet; train first")
    budget = Budget(
        steps=recipe.steps, seconds=_NOTHING if snapshot else recipe.seconds, checkpoint_seconds=recipe.checkpoint_seconds
    )
    network, spent = _fit(
        torch.from_numpy(np.require(pictures, requirements=["C", "W"])).to(where),
        recipe,
        budget=budget,
        stage=Stage(what="pixels", saved=saved, run=run),
        report=report,
        compiled=compiled,
    )
    card = PixelCard(
        pictures=len(pictures), digest=digest, spent=spent, device=device_name(device), torch=str(torch.__version__), about=about
    )
    with quiet():
        write_pixels(out, recipe, network, card)
    return spent


def _fit(
    pictures: UInt8[Tensor, "n h w c"], recipe: PixelRecipe, *, budget: Budget, stage: Stage, report: Report, compiled: bool
) -> tuple[Any, Spent]:
    where = pictures.device
    with seeded(recipe.seed):
        network = build_pixel_unet(recipe, size=pictures.shape[1], colours=pictures.shape[-1])
    network = network.to(where, memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    forward = torch.compile(network) if compiled else network
    noising = noising_of(noise_levels(SCHEDULE), "epsilon", where)
    weights = min_snr_weight(noising, recipe.min_snr_gamma)
    randomness = StepRandomness(recipe.seed + 1, where)

    def loss(step: int) -> Tensor:
        draw = randomness.at(step)
        pick = torch.randint(len(pictures), (recipe.batch,), device=where, generator=draw)
        x0 = pictures[pick].permute(0, 3, 1, 2).float() / 127.5 - 1
        if recipe.mirror:
            turned = torch.rand(recipe.batch, 1, 1, 1, device=where, generator=draw) < 0.5
            x0 = torch.where(turned, x0.flip(-1), x0)
        t = stratified(recipe.batch, len(weights), draw)
        noised, target = noising.noised(x0, torch.randn(x0.shape, device=where, generator=draw), t)
        with torch.autocast(where.type, torch.bfloat16, enabled=where.type == "cuda"):
            prediction: Tensor = forward(noised, t).sample
        errors: Tensor = (prediction.float() - target).square().mean(dim=(1, 2, 3))
        return (weights[t] * errors).mean()

    spent = fit(
        network,
        loss,
        average=average,
        budget=budget,
        peak_rate=recipe.learning_rate,
        ema_decay=recipe.ema_decay,
        stage=stage,
        report=report,
    )
    return average, spent
