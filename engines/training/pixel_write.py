"""A diffusion over pixels as a diffusers directory of the DDPM class, whole or not at all."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engines.training.checkpoint import Spent
from engines.training.pixel_options import PixelRecipe
from engines.training.write import check_writable, placed

SCHEDULE: Mapping[str, object] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "prediction_type": "epsilon",
    "variance_type": "fixed_small",
    "clip_sample": True,
}
"""Ho et al. 2020, section 4."""

_INDEX = {"_class_name": "DDPMPipeline", "scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DModel"]}


@dataclass(frozen=True, kw_only=True)
class PixelCard:
    """On what, how long and with what a network was trained."""

    pictures: int
    digest: str
    spent: Spent
    device: str
    torch: str
    """Version of torch."""
    about: str = ""
    """A paragraph for people: where the pictures are from, whose they are."""


def write_pixels(out: Path, recipe: PixelRecipe, network: Any, card: PixelCard) -> None:
    """Save in half precision, with fewer steps than a thousand in ``audit.json`` and the model card in ``training.json`` and ``README.md``."""
    from diffusers import DDPMScheduler

    check_writable(out)
    scheduler: Any = DDPMScheduler
    parameters = sum(value.numel() for value in network.parameters())
    sampling = {"steps": recipe.sampling_steps}
    with placed(out) as partial:
        network.to("cpu").half().save_pretrained(partial / "unet", safe_serialization=True)
        scheduler(**SCHEDULE).save_pretrained(partial / "scheduler")
        for name, content in (("model_index.json", _INDEX), ("audit.json", sampling), ("training.json", _plain(recipe, card))):
            (partial / name).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (partial / "README.md").write_text(_readme(recipe, card, parameters), encoding="utf-8")


def _settings(recipe: PixelRecipe) -> dict[str, Any]:
    """A limit that is not set is null."""
    return {name: None if value == float("inf") else value for name, value in asdict(recipe).items()}


def _plain(recipe: PixelRecipe, card: PixelCard) -> dict[str, Any]:
    spent = {"pixels": asdict(card.spent), "device": card.device, "torch": card.torch}
    return {"recipe": _settings(recipe), "images": card.pictures, "data_digest": card.digest, "spent": spent}


def _readme(recipe: PixelRecipe, card: PixelCard, parameters: int) -> str:
    settings = "\n".join(f"| `{name}` | {json.dumps(value)} |" for name, value in _settings(recipe).items())
    about = f"{card.about}\n\n" if card.about else ""
    return f"""# Miniature diffusion over pixels

A diffusers directory of the DDPM class (UNet2DModel, {parameters / 1e6:.2f} M parameters, float16), trained from nothing with
`engines.training pixels`.  It reads no words: it draws from noise what its training pictures show.  Linear schedule of 1000 timesteps,
noise prediction, fixed variance, pictures in [-1, 1]: what DiME, FastDiME and DVCE assume of the network that they guide.

{about}## Training

{card.spent.steps} steps of {recipe.batch} pictures in {card.spent.seconds:.0f} s on {card.device} with torch {card.torch}; weighted loss at the end
{card.spent.loss:.4f}.  {card.pictures} pictures (digest `{card.digest}`), seed {recipe.seed}.  The weights are the moving average.

| setting | value |
| --- | --- |
{settings}
"""
