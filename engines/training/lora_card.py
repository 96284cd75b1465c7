"""The record of a LoRA fine-tune: for programs in training.json, for people in README.md."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from engines.training.checkpoint import Spent
from engines.training.lora_options import LoraRecipe


@dataclass(frozen=True, kw_only=True)
class LoraReport:
    """What a finished fine-tune was and has cost."""

    spent: Spent
    trained_numbers: int
    """Parameters of the adapters."""
    image_size: int
    """Pixels per side that were trained on."""
    device: str
    torch: str
    """Version of torch."""
    peft: str
    """Version of peft."""


class Described(Protocol):
    """Captioned pictures, as far as a record names them."""

    @property
    def captions(self) -> Sequence[Sequence[str]]:
        """Of each picture."""
        ...

    @property
    def digest(self) -> str:
        """Of pictures and captions."""
        ...


def card_of(base: str, base_digest: str, recipe: LoraRecipe, done: LoraReport, data: Described) -> Mapping[str, Any]:
    """What was done, as plain JSON; a limit that is not set is null."""
    return {
        "method": "lora",
        "base": {"name": base, "digest": base_digest},
        "recipe": {name: None if value == float("inf") else value for name, value in asdict(recipe).items()},
        "images": len(data.captions),
        "captions": len({caption for variants in data.captions for caption in variants}),
        "data_digest": data.digest,
        **asdict(done),
    }


def readme_of(card: Mapping[str, Any]) -> str:
    """The record in words."""
    spent, base = card["spent"], card["base"]
    settings = "\n".join(f"| `{name}` | {json.dumps(value)} |" for name, value in card["recipe"].items())
    return f"""# {base["name"]}, fine-tuned

The diffusers directory `{base["name"]}` (digest `{base["digest"][:16]}`) with a low-rank adapter merged into it, trained with
`engines.training` on {card["images"]} images with {card["captions"]} different captions (data digest `{card["data_digest"]}`) at
{card["image_size"]}x{card["image_size"]} pixels.  Weights without an adapter are the base's own, and so are its licence and its
limits.  `adapter/` holds the adapter alone, for `load_lora_weights` of diffusers.

Trained on {card["device"]} with torch {card["torch"]} and peft {card["peft"]}: {card["trained_numbers"]:,} parameters,
{spent["steps"]} steps, {spent["seconds"]:.0f} seconds, mean loss at the end {spent["loss"]:.4f}.

| setting | value |
| --- | --- |
{settings}
"""
