"""What the UNet is told about a picture besides its noise: contexts of captions, computed once, or anew by an adapted text encoder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from engines.directory import Parts
from engines.networks import TextForward
from engines.training.diffusion import tokenise

Told = Mapping[str, Tensor]
"""Tensors with one row per picture: context (n l d)."""

TEXT_ENCODERS = ("text_encoder",)
"""Parts that read captions."""

_AT_ONCE = 32
"""Captions encoded at once."""


@dataclass(frozen=True, eq=False)
class Words:
    """All different captions as tokens, and which of them belong to which picture."""

    tokens: Int[Tensor, "m l"]
    rows: Int[Tensor, "n v"]
    """Of each picture its captions' rows, repeated to fill."""
    empty: int
    """Row of the empty caption."""

    def pick(self, pictures: Int[Tensor, " b"], dropout: float, draw: torch.Generator) -> Int[Tensor, " b"]:
        """For each picture the row of one of its captions, or of the empty one."""
        variant = torch.randint(self.rows.shape[1], pictures.shape, device=draw.device, generator=draw)
        drop = torch.rand(pictures.shape, device=draw.device, generator=draw) < dropout
        return self.rows[pictures, variant].masked_fill(drop, self.empty)


def words_of(parts: Parts, captions: Sequence[Sequence[str]], device: torch.device) -> Words:
    """Raises CaptionTooLongError for a caption that the text encoder would cut."""
    length = min(int(parts.text_encoder.config.max_position_embeddings), parts.tokenizer.model_max_length)
    tokens, rows = tokenise(parts.tokenizer, [*captions, [""]], length)
    return Words(tokens.to(device), rows[:-1].to(device), int(rows[-1, 0]))


def teller(parts: Parts) -> Callable[[Tensor], Told]:
    """Rows of tokens to what the UNet is told, by the pipeline's text encoder."""
    text = TextForward(parts.text_encoder)
    return lambda tokens: {"context": text(tokens)}


@torch.no_grad()
def told_once(tell: Callable[[Tensor], Told], tokens: Tensor) -> Told:
    """All rows together, without gradients."""
    chunks = [tell(tokens[start : start + _AT_ONCE]) for start in range(0, len(tokens), _AT_ONCE)]
    return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}


def predict(unet: Any, noised: Tensor, t: Tensor, told: Told) -> Tensor:
    """The UNet's answer, ``(n, c, h, w)``."""
    answer: Tensor = unet(noised, t, told["context"], return_dict=False)[0]
    return answer
