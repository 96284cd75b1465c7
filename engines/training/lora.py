"""Fine-tune a pipeline on captioned pictures with low-rank adapters (Hu et al. 2021): every weight of the base stays what it is.

What goes out is the adapter, in diffusers' form, and a copy of the base with the adapter merged in, which every loader of diffusers
directories reads without knowing of adapters.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import torch

from engines.directory import Parts, read_parts
from engines.errors import UnsupportedPipelineError
from engines.networks import latent_affine, network_shape
from engines.pipelines.families import STABLE_DIFFUSION, STABLE_DIFFUSION_XL
from engines.pipelines.schedulers import read_scheduler
from engines.training.device import device_name, usable
from engines.training.diffusion import Latents
from engines.training.errors import TrainingError
from engines.training.latents import Pictures, kept_moments
from engines.training.loop import Report, Stage
from engines.training.lora_card import LoraReport, card_of, readme_of
from engines.training.lora_file import folded
from engines.training.lora_fit import adapted, fit_adapters
from engines.training.lora_options import LoraRecipe
from engines.training.merge import check_apart, check_room, layout_of, write_merged
from engines.training.train import silent
from engines.training.vendor import quiet
from engines.training.words import words_of
from engines.training.write import check_writable

CHECKPOINT, LATENTS = "lora.safetensors", "latents.safetensors"
"""Within the work directory."""

_FREE = {"steps", "seconds", "checkpoint_seconds", "gradient_checkpointing"}
"""Settings that may change when a run is taken up again."""


class Captioned(Pictures, Protocol):
    """Pictures with captions: ``CaptionedFolder`` or ``CaptionedImages``."""

    @property
    def captions(self) -> Sequence[Sequence[str]]:
        """Of each picture, one or more."""
        ...

    @property
    def digest(self) -> str:
        """Of pictures and captions."""
        ...


def train_lora(
    data: Captioned,
    base: Path,
    recipe: LoraRecipe,
    out: Path,
    *,
    work: Path,
    device: str = "cpu",
    report: Report = silent,
) -> LoraReport:
    """Fit adapters to ``data`` and write ``out``: the base with the adapter merged in, and the adapter itself in ``out/adapter``.

    The base is only read.  ``work`` keeps latents and checkpoints: run again after a kill and it goes on.  ``out`` appears whole or not
    at all.  On a CPU, equal arguments give equal weights when the budget is in steps.  Raises PipelineError when the base cannot be used,
    CaptionTooLongError, TrainingDataError for pictures that cannot be read, and TrainingError for the rest: settings, memory, a full disk,
    a loss that is not finite.
    """
    where = usable(device)
    check_writable(out)
    check_apart(out, base)
    layout = layout_of(base)
    check_room(out, layout)
    with quiet():
        parts = read_parts(base)
        _check_family(parts)
        size = _size(parts, recipe)
        words = words_of(parts, data.captions, where)
        adapters = adapted(parts, recipe)
    of_latents = _digest(base=parts.digest, data=data.digest, size=size, mirror=recipe.mirror)
    kept = {name: value for name, value in asdict(recipe).items() if name not in _FREE}
    stage = Stage(what="lora", saved=work / CHECKPOINT, run=_digest(latents=of_latents, recipe=kept))
    with _memory(recipe):
        moments = kept_moments(
            work / LATENTS,
            data,
            parts.vae,
            size=size,
            mirror=recipe.mirror,
            device=where,
            run=of_latents,
            report=report,
        )
        trained, spent = fit_adapters(
            parts,
            adapters,
            Latents(moments, latent_affine(parts.vae)[0]),
            words,
            size=size,
            recipe=recipe,
            stage=stage,
            report=report,
        )
    done = LoraReport(
        spent=spent,
        trained_numbers=adapters.size,
        image_size=size,
        device=device_name(device),
        torch=str(torch.__version__),
        peft=version("peft"),
    )
    card = card_of(base.resolve().name, parts.digest, recipe, done, data)
    texts = {"training.json": json.dumps(card, indent=2, allow_nan=False) + "\n", "README.md": readme_of(card)}
    write_merged(out, layout, folded(trained.tensors, recipe.factor), texts)
    return done


def _check_family(parts: Parts) -> None:
    """Refuse what the objective does not fit."""
    if parts.family not in (STABLE_DIFFUSION, STABLE_DIFFUSION_XL):  # families have no hash
        raise UnsupportedPipelineError(
            f"a {parts.family.name} pipeline cannot be fine-tuned here; use one of the Stable Diffusion 1.x, 2.x or XL class"
        )
    if parts.unet.config.time_cond_proj_dim is not None or read_scheduler(parts.scheduler).name == "LCMScheduler":
        raise UnsupportedPipelineError(
            "a latent consistency model would forget how to draw in few steps; fine-tune the model that it was distilled from"
        )


def _size(parts: Parts, recipe: LoraRecipe) -> int:
    """Pixels per side, checked against the networks."""
    shrinking = 2 ** (len(parts.vae.config.block_out_channels) - 1)
    size = recipe.image_size or shrinking * max(network_shape(parts.unet)[1:])
    multiple = shrinking * 2 ** (len(parts.unet.config.block_out_channels) - 1)
    if size % multiple:
        raise TrainingError(
            f"recipe: image_size {size} is not a multiple of {multiple}, by which autoencoder and UNet shrink pictures"
        )
    return size


@contextmanager
def _memory(recipe: LoraRecipe) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"the device has too little memory for batches of {recipe.batch} ({str(error).splitlines()[0]}); lower the batch, the "
            "image size or the rank, or use precision bf16 with gradient checkpointing"
        ) from error


def _digest(**what: object) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
