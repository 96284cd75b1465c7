"""From captioned images to a diffusers directory, resumable at every stage."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from engines.training.autoencoder import encode_moments, train_autoencoder
from engines.training.checkpoint import Spent
from engines.training.data import CaptionedImages
from engines.training.device import device_name, usable
from engines.training.diffusion import Latents, tokenise, train_diffusion
from engines.training.loop import Report, Stage
from engines.training.options import Recipe
from engines.training.tokenizer import build_tokenizer
from engines.training.vendor import quiet
from engines.training.write import Trained, check_writable, write_pipeline

_FREE = {
    "autoencoder_steps", "diffusion_steps", "autoencoder_seconds", "diffusion_seconds", "checkpoint_seconds", "sampling_steps", "guidance",
}  # fmt: skip
"""Settings that may change when a run is taken up again."""

_PASSES = 8
"""How often every picture is encoded when augmentation makes a different one of it each time."""


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """What a finished run has cost."""

    autoencoder: Spent
    diffusion: Spent
    device: str
    torch: str
    """Version of torch."""


def silent(done: int, total: int, what: str) -> None:
    """Report nothing."""


def train_pipeline(
    data: CaptionedImages,
    recipe: Recipe,
    out: Path,
    *,
    work: Path,
    device: str = "cpu",
    compiled: bool = False,
    report: Report = silent,
) -> TrainingReport:
    """Train autoencoder, text encoder and UNet on ``data`` and write them to ``out``.

    ``work`` keeps the checkpoints: run again after a kill and it goes on.  ``out`` appears whole or not at all.  On a CPU, equal
    arguments give equal weights when the budget is in steps.  Raises TrainingError, and CaptionTooLongError before any work is done.
    """
    data.check_size(recipe)
    check_writable(out)
    with quiet():
        tokenizer = build_tokenizer(data.different, vocabulary=recipe.vocabulary, max_tokens=recipe.max_tokens)
        tokenise(tokenizer, [data.different], recipe.max_tokens)
    run = _identity(data, recipe)
    images = torch.from_numpy(data.images).permute(0, 3, 1, 2).to(usable(device)).contiguous()
    stage = Stage(what="autoencoder", saved=work / "autoencoder.safetensors", run=run)
    autoencoder, on_pictures = train_autoencoder(images, recipe, stage=stage, report=report, compiled=compiled)
    draw = torch.Generator(device=images.device).manual_seed(recipe.seed + 4)
    passes = _PASSES if recipe.mirror or recipe.shift else 1
    moments = torch.cat([encode_moments(autoencoder, images, recipe, draw) for _ in range(passes)])
    scale = 1 / float(moments[:, : recipe.latent_channels].float().std())
    autoencoder.register_to_config(scaling_factor=scale)
    stage = Stage(
        what="diffusion", saved=work / "diffusion.safetensors", run=f"{run}-{on_pictures.steps}-{_words_digest(tokenizer)}"
    )
    text_encoder, unet, on_diffusion = train_diffusion(
        Latents(moments, scale), list(data.captions) * passes, tokenizer, recipe, stage=stage, report=report, compiled=compiled
    )
    spent = TrainingReport(
        autoencoder=on_pictures, diffusion=on_diffusion, device=device_name(device), torch=str(torch.__version__)
    )
    trained = Trained(autoencoder=autoencoder, text_encoder=text_encoder, unet=unet, tokenizer=tokenizer)
    with quiet():
        write_pipeline(out, recipe, trained, _card(data, recipe, spent), [variants[0] for variants in data.captions])
    return spent


def _identity(data: CaptionedImages, recipe: Recipe) -> str:
    """Digest of the pictures, their captions, and the settings that must not change between two sessions of a run."""
    settings = {name: value for name, value in asdict(recipe).items() if name not in _FREE}
    return hashlib.sha256(f"{data.digest}{json.dumps(settings, sort_keys=True)}".encode()).hexdigest()[:16]


def _words_digest(tokenizer: Any) -> str:
    return hashlib.sha256(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest()[:8]


def _card(data: CaptionedImages, recipe: Recipe, spent: TrainingReport) -> Mapping[str, Any]:
    """What was done, as plain JSON; a limit that is not set is null."""
    unlimited = {name: None if value == float("inf") else value for name, value in asdict(recipe).items()}
    return {
        "recipe": unlimited,
        "images": len(data),
        "captions": len(data.different),
        "data_digest": data.digest,
        "spent": asdict(spent),
    }
