"""Captions to conditioning: checked for length, encoded one by one, remembered."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from engines.conditioning import Conditioning
from engines.errors import CaptionTooLongError

EncodeTokens = Callable[[Sequence[Int[Tensor, "n l"]]], Conditioning]
"""Token numbers for each text encoder, the same captions for all, to one row each."""

PROBE_CAPTIONS = ("", "a", "photo", "a photo")
"""What backends are compared on."""


@dataclass(frozen=True, eq=False)
class Reader:
    """A tokenizer, and how many tokens its text encoder reads; the tokenizer's own settings say what fills the rest."""

    tokenizer: Any
    length: int

    def count(self, caption: str) -> int:
        """Tokens of a caption, its start and end included."""
        return len(self._ids(caption, padding=False))

    def tokens(self, caption: str) -> Int[Tensor, "1 l"]:
        """A caption, filled up."""
        return torch.tensor([self._ids(caption, padding="max_length")])

    def _ids(self, caption: str, *, padding: str | bool) -> list[int]:
        ids: list[int] = self.tokenizer(caption, padding=padding, max_length=self.length, truncation=False, verbose=False)[
            "input_ids"
        ]
        return ids


class Captions:
    """What captions tell a network.  Each is encoded alone, so that it cannot depend on its neighbours, and kept while memory allows."""

    def __init__(
        self,
        readers: Sequence[Reader],
        encode_tokens: EncodeTokens,
        *,
        constant: Conditioning | None = None,
        zero_null: bool = False,
        keep_bytes: int = 256 * 2**20,
    ) -> None:
        """``constant`` is one row that holds for every caption; with ``zero_null`` guidance starts from zeros, not from the empty caption."""
        self._readers, self._encode_tokens, self._keep_bytes = readers, encode_tokens, keep_bytes
        self._constant, self._zero_null = constant or Conditioning(rows=1), zero_null
        self._known: OrderedDict[str, Conditioning] = OrderedDict()
        self._bytes = 0

    @property
    def null(self) -> Conditioning:
        """What guidance starts from."""
        empty = self._told("")
        if self._zero_null:
            empty = Conditioning({name: torch.zeros_like(value) for name, value in empty.tensors.items()})
        return empty.joined(self._constant)

    def check(self, wanted: Sequence[str] | Sequence[int] | None) -> None:
        """Raise CaptionTooLongError for the first caption that would be cut."""
        for caption in dict.fromkeys(_captions(wanted)):
            for reader in self._readers if caption not in self._known else ():
                tokens = reader.count(caption)
                if tokens > reader.length:
                    raise CaptionTooLongError(caption, tokens, reader.length)

    def encode(self, wanted: Sequence[str] | Sequence[int] | None, rows: int) -> Conditioning:
        """One row per caption."""
        self.check(wanted)
        told = {caption: self._told(caption) for caption in dict.fromkeys(_captions(wanted))}
        return Conditioning.cat([told[caption] for caption in _captions(wanted)]).joined(self._constant)

    def examples(self, rows: int) -> Conditioning:
        """Rows to compare backends on."""
        return self.encode([PROBE_CAPTIONS[i % len(PROBE_CAPTIONS)] for i in range(rows)], rows)

    def _told(self, caption: str) -> Conditioning:
        known = self._known.get(caption)
        if known is None:
            known = self._encode_tokens([reader.tokens(caption) for reader in self._readers])
            self._known[caption] = known
            self._bytes += known.nbytes
            while self._bytes > self._keep_bytes and len(self._known) > 1:
                self._bytes -= self._known.popitem(last=False)[1].nbytes
        return known


def _captions(wanted: Sequence[str] | Sequence[int] | None) -> Sequence[str]:
    captions = [each for each in wanted or () if isinstance(each, str)]
    if wanted is None or len(captions) != len(wanted):
        raise ValueError(f"this pipeline draws captions, got {wanted!r}")
    return captions
