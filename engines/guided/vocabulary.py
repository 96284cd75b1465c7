"""Words that a pipeline's text encoders each read as one token: what a soft prompt can be turned into.

Pieces of words are left out, since a text made of them would be read in other pieces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engines.pipelines.wording import Sentence, Wording
from engines.text import Reader

Table = Float[Tensor, "v d"]
_PART = 4096
"""Words that a tokenizer is asked about at a time."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Whole words, and what stands for each at the level of token embeddings."""

    words: tuple[str, ...]
    table: Table
    """One row a word; of several text encoders side by side, in the order of the pipeline's."""

    def __post_init__(self) -> None:
        if len(self.words) != len(self.table):
            raise ValueError(f"need one row for each of {len(self.words)} words, got {len(self.table)}")

    @cached_property
    def places(self) -> dict[str, int]:
        """The row of each word."""
        return {word: at for at, word in enumerate(self.words)}

    def without(self, words: Sequence[str]) -> "Vocabulary":
        """The same, less some words, upper and lower case alike."""
        unwanted = {word.lower() for word in words}
        return self._some([at for at, word in enumerate(self.words) if word.lower() not in unwanted])

    def only(self, words: Sequence[str]) -> "Vocabulary":
        """Those of the words that are known, such as what a small generator was taught."""
        wanted = set(words)
        return self._some([at for at, word in enumerate(self.words) if word in wanted])

    def _some(self, kept: list[int]) -> "Vocabulary":
        return Vocabulary(tuple(self.words[at] for at in kept), self.table[kept])


def vocabulary_of(wording: Wording) -> Vocabulary:
    """Words of two letters or more that are one token of every text encoder; in order of the first one's tokens."""
    found = [_whole(reader) for reader in wording.readers]
    words = tuple(word for word in found[0] if all(word in others for others in found[1:]))
    tables = [
        table.weight.detach().float()[[ids[word] for word in words]] for table, ids in zip(wording.tables, found, strict=True)
    ]
    return Vocabulary(words, torch.cat(tables, 1))


def _whole(reader: Reader) -> dict[str, int]:
    """Words that are read as the one token that spells them."""
    tokenizer, found = reader.tokenizer, dict[str, int]()
    for start in range(0, len(tokenizer), _PART):
        ids = range(start, min(start + _PART, len(tokenizer)))
        texts = [tokenizer.decode([at]).strip() for at in ids]
        read = tokenizer(texts, add_special_tokens=False, padding=False, truncation=False, verbose=False)["input_ids"]
        for at, text, back in zip(ids, texts, read, strict=True):
            if list(back) == [at] and text.isalpha() and len(text) > 1:
                found.setdefault(text, at)
    return found


def spoken(sentence: Sentence, words: Sequence[str]) -> str:
    """The sentence with words in the places of its own ones."""
    slots = len({piece for piece in sentence if isinstance(piece, int)})
    if len(words) != slots:
        raise ValueError(f"the sentence has {slots} places for words, got {len(words)}")
    return " ".join(piece if isinstance(piece, str) else words[piece] for piece in sentence)


def token_ids(wording: Wording, word: str) -> tuple[Int[Tensor, " k"], ...]:
    """A text's tokens, without a start and an end, for each text encoder."""
    return tuple(
        torch.tensor(
            reader.tokenizer(word, add_special_tokens=False, padding=False, truncation=False, verbose=False)["input_ids"],
            dtype=torch.int64,
        )
        for reader in wording.readers
    )
