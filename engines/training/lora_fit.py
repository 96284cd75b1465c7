"""Adapters on a pipeline's networks, and their training on its own objective."""

import copy

import torch
from torch import Tensor, nn

from engines.directory import Parts
from engines.pipelines.denoisers import denoiser_module
from engines.pipelines.schedulers import read_scheduler
from engines.precondition import noise_levels, prediction_of
from engines.training.adapters import Adapters, inject
from engines.training.checkpoint import Spent
from engines.training.denoising import min_snr_weight, noising_of, stratified
from engines.training.diffusion import Latents
from engines.training.loop import Budget, Report, Stage, StepRandomness, fit, seeded
from engines.training.lora_options import LoraRecipe
from engines.training.words import Tell, Words, teller, told_once

TEXT = "text_encoder"
"""Names of the parts that read captions begin so."""


def adapted(parts: Parts, recipe: LoraRecipe) -> Adapters:
    """Adapters on the networks that the recipe names, drawn by its seed."""
    texts = [part for part in parts.models if part.startswith(TEXT)] if recipe.text_encoder else []
    wanted = {"unet": recipe.targets, **dict.fromkeys(texts, recipe.text_targets)}
    parameters: dict[str, nn.Parameter] = {}
    with seeded(recipe.seed):
        for part, targets in wanted.items():
            parameters |= inject(part, parts.models[part], rank=recipe.rank, alpha=recipe.factor * recipe.rank, targets=targets)
    return Adapters(parameters)


def fit_adapters(
    parts: Parts, adapters: Adapters, latents: Latents, words: Words, *, size: int, recipe: LoraRecipe, stage: Stage, report: Report
) -> tuple[Adapters, Spent]:
    """Minimise the error of the UNet's prediction at pictures of ``size`` pixels; returns the adapters' moving average."""
    where = latents.moments.device
    dtype = _dtype(recipe, where)
    tell = _teller(parts, words, size, recipe, dtype)
    network = denoiser_module(parts.family, parts.unet)
    _settle(network, where, dtype)
    if recipe.gradient_checkpointing if recipe.gradient_checkpointing is not None else where.type == "cuda":
        parts.unet.enable_gradient_checkpointing()
    settings = read_scheduler(parts.scheduler).settings
    noising = noising_of(noise_levels(settings), prediction_of(settings), where)
    weights = min_snr_weight(noising, recipe.min_snr_gamma)
    randomness = StepRandomness(recipe.seed + 1, where)

    def loss(step: int) -> Tensor:
        draw = randomness.at(step)
        pick = torch.randint(len(latents.moments), (recipe.batch,), device=where, generator=draw)
        rows = words.pick(pick % len(words.rows), recipe.caption_dropout, draw)
        t = stratified(recipe.batch, len(weights), draw)
        x0 = latents.sample(pick, draw)
        noised, target = noising.noised(x0, torch.randn(x0.shape, device=where, generator=draw), t)
        with torch.autocast(where.type, dtype, enabled=dtype != torch.float32):
            prediction: Tensor = network(noised, t.float(), *tell(rows).tensors.values())
        errors: Tensor = (prediction.float() - target).square().mean(dim=(1, 2, 3))
        return (weights[t] * errors).mean()

    average = copy.deepcopy(adapters)
    spent = fit(
        adapters,
        loss,
        average=average,
        budget=Budget(steps=recipe.steps, seconds=recipe.seconds, checkpoint_seconds=recipe.checkpoint_seconds),
        peak_rate=recipe.learning_rate,
        ema_decay=recipe.ema_decay,
        stage=stage,
        report=report,
    )
    return average, spent


def _teller(parts: Parts, words: Words, size: int, recipe: LoraRecipe, dtype: torch.dtype) -> Tell:
    """By lookup, unless text encoders are trained."""
    where = words.rows.device
    encoders = [model for part, model in parts.models.items() if part.startswith(TEXT)]
    for encoder in encoders:
        _settle(encoder, where, dtype if recipe.text_encoder else torch.float32)
    tell = teller(parts, words, size, where)
    if recipe.text_encoder:
        return tell
    told = told_once(tell, words)
    for encoder in encoders:
        encoder.to("cpu")
    return told


def _settle(network: nn.Module, where: torch.device, dtype: torch.dtype) -> None:
    """To the device; what is frozen also to the precision of arithmetic.  Parameters stay the same objects."""
    network.to(where)
    for value in network.parameters():
        if not value.requires_grad:
            value.data = value.data.to(dtype)


def _dtype(recipe: LoraRecipe, where: torch.device) -> torch.dtype:
    fits = where.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if recipe.precision == "bf16" or (recipe.precision == "auto" and fits) else torch.float32
