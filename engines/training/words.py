"""What a network is told about a training picture besides its noise: captions, encoded once, or anew by text encoders that are trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from engines.conditioning import Conditioning
from engines.directory import Parts
from engines.errors import CaptionTooLongError
from engines.pipelines.prompts import constant_of, encoder_of, readers_of, zero_null
from engines.text import Reader

Tell = Callable[[Int[Tensor, " b"]], Conditioning]
"""Rows of the table of captions to what the network is told."""

_AT_ONCE = 32
"""Captions encoded at once."""


@dataclass(frozen=True, eq=False)
class Words:
    """All different captions as tokens, and which of them belong to which picture."""

    tokens: tuple[Int[Tensor, "m l"], ...]
    """For each text encoder; the last row is the empty caption."""
    rows: Int[Tensor, "n v"]
    """Of each picture its captions' rows, repeated to fill."""

    @property
    def null(self) -> int:
        """Row of what guidance starts from."""
        return len(self.tokens[0]) - 1

    def pick(self, pictures: Int[Tensor, " b"], dropout: float, draw: torch.Generator) -> Int[Tensor, " b"]:
        """For each picture the row of one of its captions, or of what guidance starts from."""
        variant = torch.randint(self.rows.shape[1], pictures.shape, device=draw.device, generator=draw)
        drop = torch.rand(pictures.shape, device=draw.device, generator=draw) < dropout
        return self.rows[pictures, variant].masked_fill(drop, self.null)


def words_of(parts: Parts, captions: Sequence[Sequence[str]], device: torch.device) -> Words:
    """Raises CaptionTooLongError for a caption that a text encoder would cut: its end would be taught to mean nothing."""
    place = {caption: row for row, caption in enumerate(dict.fromkeys(each for variants in captions for each in variants))}
    most = max(len(variants) for variants in captions)
    rows = [[place[each] for each in (list(variants) * most)[:most]] for variants in captions]
    tokens = [torch.cat([_tokens(reader, caption) for caption in (*place, "")]) for reader in readers_of(parts)]
    return Words(tuple(each.to(device) for each in tokens), torch.tensor(rows, device=device))


def teller(parts: Parts, words: Words, size: int, device: torch.device) -> Tell:
    """By the pipeline's text encoders, with gradients; pictures are ``size`` pixels high and wide."""
    encode, constant = encoder_of(parts), constant_of(parts, (3, size, size), 1.0).to(device)
    zeros = zero_null(parts)

    def tell(rows: Int[Tensor, " b"]) -> Conditioning:
        told = encode([tokens[rows] for tokens in words.tokens])
        if zeros:
            null = rows == words.null
            told = Conditioning({name: value.masked_fill(_beside(null, value), 0) for name, value in told.tensors.items()})
        return told.joined(constant)

    return tell


@torch.no_grad()
def told_once(tell: Tell, words: Words) -> Tell:
    """The same without gradients, from a table of all rows."""
    every = torch.arange(words.null + 1, device=words.rows.device)
    table = Conditioning.cat([tell(rows) for rows in every.tensor_split(list(range(_AT_ONCE, len(every), _AT_ONCE)))])
    return lambda rows: table[rows]


def _tokens(reader: Reader, caption: str) -> Int[Tensor, "1 l"]:
    if (count := reader.count(caption)) > reader.length:
        raise CaptionTooLongError(caption, count, reader.length)
    return reader.tokens(caption)


def _beside(mask: Tensor, value: Tensor) -> Tensor:
    return mask.view(-1, *[1] * (value.ndim - 1))
