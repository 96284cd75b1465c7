"""From captioned images to a diffusers directory, resumable at every stage."""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from engines.training.autoencoder import encode_moments, train_autoencoder
from engines.training.data import CaptionedImages
from engines.training.diffusion import Latents, build_schedule, train_diffusion
from engines.training.loop import Report
from engines.training.options import Recipe
from engines.training.tokenizer import build_tokenizer

_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def train_pipeline(
    data: CaptionedImages,
    recipe: Recipe,
    out: Path,
    *,
    work: Path,
    device: str = "cpu",
    compiled: bool = False,
    report: Report = print,
) -> dict[str, Any]:
    """Train autoencoder, text encoder and UNet on ``data`` and write them to ``out``.

    ``work`` keeps the checkpoints: run again after a kill and it goes on.  ``out`` appears whole or not at all.  Returns what was spent.
    """
    images = torch.from_numpy(data.images).permute(0, 3, 1, 2).to(device).contiguous()
    autoencoder, spent_pictures = train_autoencoder(
        images, recipe, saved=work / "autoencoder.safetensors", report=report, compiled=compiled
    )
    draw = torch.Generator(device=images.device).manual_seed(recipe.seed + 4)
    passes = 8 if recipe.mirror or recipe.shift else 1
    moments = torch.cat([encode_moments(autoencoder, images, recipe, draw) for _ in range(passes)])
    captions = list(data.captions) * passes
    scale = 1 / float(moments[:, : recipe.latent_channels].float().std())
    tokenizer = build_tokenizer(
        sorted({c for variants in data.captions for c in variants}), vocabulary=recipe.vocabulary, max_tokens=recipe.max_tokens
    )
    text_encoder, unet, spent_diffusion = train_diffusion(
        Latents(moments, scale), captions, tokenizer, recipe, saved=work / "diffusion.safetensors", report=report, compiled=compiled
    )
    autoencoder.register_to_config(scaling_factor=scale)
    spent = {
        "autoencoder": spent_pictures,
        "diffusion": spent_diffusion,
        "device": _device_name(device),
        "torch": torch.__version__,
    }
    trained = Trained(autoencoder=autoencoder, text_encoder=text_encoder, unet=unet, tokenizer=tokenizer)
    write_pipeline(out, recipe, trained, {"recipe": asdict(recipe), "images": len(data), "spent": spent})
    return spent


@dataclass(frozen=True, eq=False, kw_only=True)
class Trained:
    """The networks of a pipeline and their tokenizer."""

    autoencoder: Any
    text_encoder: Any
    unet: Any
    tokenizer: Any


def write_pipeline(out: Path, recipe: Recipe, trained: Trained, card: dict[str, Any]) -> None:
    """Save a directory of the Stable Diffusion 1.x class in half precision, with the sampler settings in ``audit.json``."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name, module in (("vae", trained.autoencoder), ("text_encoder", trained.text_encoder), ("unet", trained.unet)):
        module.to("cpu").half().save_pretrained(partial / name, safe_serialization=True)
    trained.tokenizer.save_pretrained(partial / "tokenizer")
    build_schedule().save_pretrained(partial / "scheduler")
    sampling = {"steps": recipe.sampling_steps, "guidance": recipe.guidance}
    for name, content in (("model_index.json", _INDEX), ("audit.json", sampling), ("training.json", card)):
        (partial / name).write_text(json.dumps(content, indent=2) + "\n")
    shutil.rmtree(out, ignore_errors=True)
    os.replace(partial, out)  # noqa: PTH105  # atomic on one file system


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(0) if device.startswith("cuda") else device
