"""A trained pipeline as a diffusers directory of the Stable Diffusion 1.x class, whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.pipelines.files import CAPTIONS
from engines.training.diffusion import build_schedule
from engines.training.errors import TrainingError
from engines.training.options import Recipe

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


@dataclass(frozen=True, eq=False, kw_only=True)
class Trained:
    """The networks of a pipeline and their tokenizer."""

    autoencoder: Any
    text_encoder: Any
    unet: Any
    tokenizer: Any


def check_writable(out: Path) -> None:
    """Raise TrainingError when something lies at ``out`` that no training run wrote: it would be replaced."""
    if out.exists() and not (out / "training.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise TrainingError(f"{out} exists and is not a pipeline that was trained here; choose a new directory")


MOST_CAPTIONS = 500
"""That are kept beside the weights."""


def write_pipeline(out: Path, recipe: Recipe, trained: Trained, card: Mapping[str, Any], captions: Sequence[str] = ()) -> None:
    """Save in half precision, with the sampler settings in ``audit.json`` and the model card in ``training.json`` and ``README.md``.

    Some of the captions go into ``captions.txt``, for whoever asks later what the generator understands.
    """
    check_writable(out)
    with placed(out) as partial:
        for name, module in (("vae", trained.autoencoder), ("text_encoder", trained.text_encoder), ("unet", trained.unet)):
            module.to("cpu").half().save_pretrained(partial / name, safe_serialization=True)
        trained.tokenizer.save_pretrained(partial / "tokenizer")
        build_schedule().save_pretrained(partial / "scheduler")
        sampling = {"steps": recipe.sampling_steps, "guidance": recipe.guidance}
        for name, content in (("model_index.json", _INDEX), ("audit.json", sampling), ("training.json", card)):
            (partial / name).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        if kept := sample_captions(captions):
            (partial / CAPTIONS).write_text("\n".join(kept) + "\n", encoding="utf-8")
        (partial / "README.md").write_text(_readme(recipe, card), encoding="utf-8")


def sample_captions(captions: Sequence[str], most: int = MOST_CAPTIONS) -> list[str]:
    """So many different ones, in alphabetical order; chosen by hash, since every n-th of an ordered list may miss a word."""
    every = {" ".join(caption.split()) for caption in captions} - {""}
    return sorted(sorted(every, key=lambda text: hashlib.sha256(text.encode()).hexdigest())[:most])


@contextmanager
def placed(out: Path) -> Iterator[Path]:
    """A directory to write into that takes the place of ``out`` when all went well."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    yield partial
    for path in partial.rglob("*.safetensors"):
        path.chmod(0o644)  # written as the owner's alone, but a server runs as somebody else
    shutil.rmtree(out, ignore_errors=True)
    os.replace(partial, out)  # noqa: PTH105  # atomic on one file system


def _readme(recipe: Recipe, card: Mapping[str, Any]) -> str:
    spent = card["spent"]
    stages = "\n".join(
        f"| {name} | {spent[name]['steps']} | {spent[name]['seconds']:.0f} | {spent[name]['loss']:.4f} |"
        for name in ("autoencoder", "diffusion")
    )
    settings = "\n".join(f"| `{name}` | {json.dumps(value)} |" for name, value in card["recipe"].items())
    return f"""# Miniature text-to-image pipeline

A diffusers directory of the Stable Diffusion 1.x class, {recipe.image_size}x{recipe.image_size} pixels, trained from nothing with
`engines.training` on {card["images"]} images with {card["captions"]} different captions (data digest `{card["data_digest"]}`), seed
{recipe.seed}.  It draws what those images show and knows no words but theirs.

Trained on {spent["device"]} with torch {spent["torch"]}:

| stage | steps | seconds | mean loss at the end |
| --- | --- | --- | --- |
{stages}

Draw with {recipe.sampling_steps} steps of a second-order sampler and guidance {recipe.guidance:g} (`audit.json`).

| setting | value |
| --- | --- |
{settings}
"""
