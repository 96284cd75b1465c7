"""Sentences with words of our own: token embeddings that no vocabulary holds, put in where a text encoder looks words up.

The encoders, their tables of words and their tokenizers stay as they are: what is put in lasts for one call, in one thread.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import get_ident

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engines.conditioning import Conditioning
from engines.directory import Parts
from engines.errors import CaptionTooLongError, UnsupportedPipelineError
from engines.pipelines.prompts import constant_of, encoder_of, readers_of
from engines.text import EncodeTokens, Reader

Sentence = tuple[str | int, ...]
"""Words as they are, and numbers of our own ones, in order: ("a", 0, 1, "photo")."""
Rows = tuple[Float[Tensor, "k d"], ...]
"""Our own words as token embeddings, for each text encoder of the pipeline."""


@dataclass(frozen=True, eq=False)
class Wording:
    """A pipeline's text encoders, with gradients down to the embeddings of tokens.  Safe to use from several threads."""

    readers: tuple[Reader, ...]
    tables: tuple[nn.Embedding, ...]
    """Where each text encoder looks words up."""
    encode_tokens: EncodeTokens
    constant: Conditioning
    """One row that holds for every sentence."""

    @classmethod
    def of(cls, parts: Parts, image: tuple[int, int, int], strength: float) -> "Wording":
        """Of a directory that draws captions; as :func:`engines.pipelines.prompts.constant_of` for image and strength."""
        names = [name.replace("tokenizer", "text_encoder") for name in parts.tokenizers]
        tables = tuple(_table(parts.models[name]) for name in names)
        return cls(tuple(readers_of(parts)), tables, encoder_of(parts), constant_of(parts, image, strength))

    def encode(self, sentences: Sequence[Sentence], rows: Rows) -> Conditioning:
        """What the network is told, one row per sentence, on the CPU; differentiable in ``rows``.  Raises CaptionTooLongError."""
        with ExitStack() as held:
            tokens = []
            for reader, table, ours in zip(self.readers, self.tables, rows, strict=True):
                placed = [_placed(reader, sentence) for sentence in sentences]
                tokens.append(torch.stack([ids for ids, _ in placed]))
                held.enter_context(_put_in(table, torch.stack([which for _, which in placed]), ours))
            return self.encode_tokens(tokens).joined(self.constant)

    def words(self, text: str, count: int) -> Rows:
        """So many embeddings to begin with: each the mean of those that a text's tokens have."""
        found = []
        for reader, table in zip(self.readers, self.tables, strict=True):
            ids = _inner(reader, text)
            if not ids:
                raise ValueError(f"{text!r} has no token for this text encoder; begin with some other word")
            found.append(table.weight.detach()[ids].float().mean(0).repeat(count, 1))
        return tuple(found)


def wording_of(parts: Parts, image: tuple[int, int, int], strength: float) -> Wording | None:
    """None for a pipeline that is not asked in words."""
    return Wording.of(parts, image, strength) if parts.family.by_text else None


@contextmanager
def _put_in(table: nn.Embedding, which: Int[Tensor, "n l"], ours: Float[Tensor, "k d"]) -> Iterator[None]:
    """While it lasts, this thread reads our own words where ``which`` is not -1."""
    thread, used = get_ident(), [False]

    def swap(_module: nn.Module, _given: tuple[Tensor, ...], found: Tensor) -> Tensor | None:
        if get_ident() != thread:
            return None
        used[0] = True
        if not len(ours):
            return None
        own = ours[which.clamp(min=0)].to(found.dtype)
        return torch.where((which >= 0)[..., None], own, found)

    handle = table.register_forward_hook(swap)
    try:
        yield
        if not used[0]:
            raise UnsupportedPipelineError(
                "this pipeline's text encoder does not look words up in its table; use one of the CLIP class"
            )
    finally:
        handle.remove()


def _placed(reader: Reader, sentence: Sentence) -> tuple[Int[Tensor, " l"], Int[Tensor, " l"]]:
    """Token numbers, filled up, and which of our own words stands at each place, -1 for none."""
    body: list[int] = []
    own: list[int] = []
    filler, head, tail = _around(reader)
    for piece in sentence:
        ids = [filler] if isinstance(piece, int) else _inner(reader, piece)
        body += ids
        own += [piece] if isinstance(piece, int) else [-1] * len(ids)
    ids = [*head, *body, *tail]
    left = reader.length - len(ids)
    if left < 0:
        shown = " ".join(f"<{piece}>" if isinstance(piece, int) else piece for piece in sentence)
        raise CaptionTooLongError(shown, len(ids), reader.length)
    which = [-1] * len(head) + own + [-1] * (len(tail) + left)
    return torch.tensor(ids + [reader.tokenizer.pad_token_id] * left), torch.tensor(which)


def _around(reader: Reader) -> tuple[int, list[int], list[int]]:
    """An ordinary token that our own words stand in for, and what comes before and behind a caption."""
    inner, whole = _inner(reader, "a"), _ids(reader, "a", special=True)
    at = next((at for at in range(len(whole)) if whole[at : at + len(inner)] == inner), 0)
    return inner[0], whole[:at], whole[at + len(inner) :]


def _inner(reader: Reader, text: str) -> list[int]:
    return _ids(reader, text, special=False)


def _ids(reader: Reader, text: str, *, special: bool) -> list[int]:
    ids: list[int] = reader.tokenizer(text, add_special_tokens=special, padding=False, truncation=False, verbose=False)["input_ids"]
    return ids


def _table(encoder: nn.Module) -> nn.Embedding:
    table = encoder.get_input_embeddings()  # type: ignore[operator]  # every text encoder of transformers has it
    if not isinstance(table, nn.Embedding):
        raise UnsupportedPipelineError(f"{type(encoder).__name__} has no table of words; use a text encoder of the CLIP class")
    return table
