"""Captions to contexts: checked for length, encoded one by one, remembered."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from engines.errors import CaptionTooLongError


class ClipCaptions:
    """Contexts of captions.  Each is encoded alone, so that it cannot depend on its neighbours, and kept while memory allows."""

    def __init__(
        self, tokenizer: Any, encode_tokens: Callable[[Tensor], Tensor], limit: int, *, keep_bytes: int = 256 * 2**20
    ) -> None:
        self._tokenizer, self._encode_tokens, self._keep_bytes = tokenizer, encode_tokens, keep_bytes
        self.length = min(limit, tokenizer.model_max_length)
        self._known: OrderedDict[tuple[str, int], Tensor] = OrderedDict()
        self._bytes = 0

    def check(self, captions: Sequence[str]) -> None:
        """Raise CaptionTooLongError for the first caption that would be cut."""
        for caption in dict.fromkeys(captions):
            if (caption, self.length) not in self._known:
                tokens = len(self._tokens(caption, padding=False))
                if tokens > self.length:
                    raise CaptionTooLongError(caption, tokens, self.length)

    def encode(self, captions: Sequence[str]) -> Float[Tensor, "n l d"]:
        """One context per caption."""
        self.check(captions)
        fresh = {caption: self._known.get((caption, self.length)) for caption in dict.fromkeys(captions)}
        contexts = {caption: self._encode_one(caption) if known is None else known for caption, known in fresh.items()}
        return torch.stack([contexts[caption] for caption in captions])

    def _encode_one(self, caption: str) -> Float[Tensor, "l d"]:
        tokens = torch.tensor([self._tokens(caption, padding="max_length")])
        context = self._encode_tokens(tokens)[0]
        self._known[caption, self.length] = context
        self._bytes += context.nbytes
        while self._bytes > self._keep_bytes and len(self._known) > 1:
            self._bytes -= self._known.popitem(last=False)[1].nbytes
        return context

    def _tokens(self, caption: str, *, padding: str | bool) -> list[int]:
        ids: list[int] = self._tokenizer(caption, padding=padding, max_length=self.length, truncation=False, verbose=False)[
            "input_ids"
        ]
        return ids
