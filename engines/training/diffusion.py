"""Text encoder and UNet, trained together from nothing on v-prediction (Salimans & Ho 2022) under a cosine schedule."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from engines.errors import CaptionTooLongError
from engines.training.checkpoint import Spent
from engines.training.loop import Budget, Report, Stage, StepRandomness, fit, seeded
from engines.training.options import Recipe


def build_text_encoder(recipe: Recipe, vocabulary: int, *, start: int, end: int) -> Any:
    """An untrained ``transformers.CLIPTextModel`` of the recipe's size."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.text_width,
        intermediate_size=4 * recipe.text_width,
        projection_dim=recipe.text_width,
        num_hidden_layers=recipe.text_layers,
        num_attention_heads=4,
        max_position_embeddings=recipe.max_tokens,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
    )
    return CLIPTextModel(config)


def build_unet(recipe: Recipe) -> Any:
    """An untrained ``diffusers.UNet2DConditionModel`` of the recipe's size."""
    from diffusers import UNet2DConditionModel

    levels = len(recipe.unet_channels)
    factory: Any = UNet2DConditionModel
    return factory(
        sample_size=recipe.image_size // recipe.shrinking,
        in_channels=recipe.latent_channels,
        out_channels=recipe.latent_channels,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (levels - 1),
        up_block_types=("CrossAttnUpBlock2D",) * (levels - 1) + ("UpBlock2D",),
        block_out_channels=recipe.unet_channels,
        layers_per_block=recipe.unet_layers,
        cross_attention_dim=recipe.text_width,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_schedule() -> Any:
    """The noise schedule, as the scheduler that the pipeline is saved with."""
    from diffusers import DDIMScheduler

    factory: Any = DDIMScheduler
    return factory(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


class _Objective(nn.Module):
    """Mean squared error of the velocity, given noised latents and caption tokens."""

    def __init__(self, text_encoder: Any, unet: Any) -> None:
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor, velocity: Tensor) -> Tensor:
        words = self.text_encoder(tokens)[0]
        return nn.functional.mse_loss(self.unet(x, t, words, return_dict=False)[0].float(), velocity)


def tokenise(tokenizer: Any, captions: Sequence[Sequence[str]], max_tokens: int) -> tuple[Tensor, Tensor]:
    """All captions as token rows ``(m, max_tokens)``, and for each image its row numbers ``(n, most)``, repeated to fill.

    Raises CaptionTooLongError for a caption that does not fit: cut, it would teach that its end means nothing.
    """
    rows: dict[str, int] = {}
    most = max(len(variants) for variants in captions)
    table = [[rows.setdefault(v, len(rows)) for v in (list(variants) * most)[:most]] for variants in captions]
    words = tokenizer(list(rows), padding=False, truncation=False, verbose=False).input_ids
    for caption, row in zip(rows, words, strict=True):
        if len(row) > max_tokens:
            raise CaptionTooLongError(caption, len(row), max_tokens)
    tokens = tokenizer.pad({"input_ids": words}, padding="max_length", max_length=max_tokens, return_tensors="pt").input_ids
    return tokens, torch.tensor(table)


class Latents:
    """Latents of the training images, sampled from their posterior, in units of their own standard deviation."""

    def __init__(self, moments: Tensor, scale: float) -> None:
        self.moments, self.scale = moments, scale

    def sample(self, pick: Tensor, draw: torch.Generator) -> Tensor:
        """Float latents ``(b, c, h, w)`` of the picked images."""
        mean, logvar = self.moments[pick].float().chunk(2, dim=1)
        noise = torch.randn(mean.shape, device=mean.device, generator=draw)
        return (mean + torch.exp(0.5 * logvar.clamp(-30, 20)) * noise) * self.scale


def train_diffusion(
    latents: Latents,
    captions: Sequence[Sequence[str]],
    tokenizer: Any,
    recipe: Recipe,
    *,
    stage: Stage,
    report: Report,
    compiled: bool,
) -> tuple[Any, Any, Spent]:
    """Fit text encoder and UNet; returns their averages (text encoder, UNet) and what was spent."""
    device = latents.moments.device
    with seeded(recipe.seed + 2):
        text_encoder = build_text_encoder(recipe, len(tokenizer), start=tokenizer.bos_token_id, end=tokenizer.eos_token_id)
        network = _Objective(text_encoder, build_unet(recipe).to(memory_format=torch.channels_last)).to(device)
    average = copy.deepcopy(network).eval()
    forward = torch.compile(network) if compiled else network
    alphas = build_schedule().alphas_cumprod.to(device)
    tokens, table = (part.to(device) for part in tokenise(tokenizer, captions, recipe.max_tokens))
    empty = tokenizer([""], padding="max_length", max_length=recipe.max_tokens, return_tensors="pt").input_ids.to(device)
    randomness = StepRandomness(recipe.seed + 3, device)
    batch = recipe.diffusion_batch

    def loss(step: int) -> Tensor:
        draw = randomness.at(step)
        pick = torch.randint(len(table), (batch,), device=device, generator=draw)
        variant = torch.randint(table.shape[1], (batch,), device=device, generator=draw)
        drop = torch.rand(batch, device=device, generator=draw) < recipe.caption_dropout
        words = torch.where(drop[:, None], empty, tokens[table[pick, variant]])
        # One stratum per item: every batch covers the whole schedule.
        u = (torch.arange(batch, device=device) + torch.rand(batch, device=device, generator=draw)) / batch
        t = (u * len(alphas)).long().clamp(max=len(alphas) - 1)
        x0 = latents.sample(pick, draw)
        noise = torch.randn(x0.shape, device=device, generator=draw)
        alpha, sigma = alphas[t].sqrt()[:, None, None, None], (1 - alphas[t]).sqrt()[:, None, None, None]
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            value: Tensor = forward(alpha * x0 + sigma * noise, t, words, alpha * noise - sigma * x0)
            return value

    budget = Budget(steps=recipe.diffusion_steps, seconds=recipe.diffusion_seconds, checkpoint_seconds=recipe.checkpoint_seconds)
    spent = fit(
        network,
        loss,
        average=average,
        budget=budget,
        peak_rate=recipe.diffusion_rate,
        ema_decay=recipe.ema_decay,
        stage=stage,
        report=report,
    )
    return average.text_encoder, average.unet, spent
