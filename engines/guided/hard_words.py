"""From soft tokens to words: the nearest whole words by cosine, as PEZ projects (Wen et al. 2023, arXiv 2302.03668).

Ours: only whole words are projected to, so that the words, written as a text, are read as the tokens that were found.  A search that
is projected in every step is an option of :mod:`engines.guided.softprompt`.
"""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from engines.guided.prompt_terms import cosines_of
from engines.guided.prompted import Prompted
from engines.guided.vocabulary import Vocabulary

Prompt = Float[Tensor, "n d"]


@dataclass(frozen=True)
class Near:
    """A word near a soft token."""

    word: str
    cosine: float
    """Between their directions; 1 is the word itself, up to length."""

    @property
    def distance(self) -> float:
        """Between the two as unit vectors, in [0, 2]."""
        return math.sqrt(max(2 - 2 * self.cosine, 0.0))


@dataclass(frozen=True, eq=False)
class HardPrompt:
    """A soft prompt as words."""

    text: str
    """The sentence with the nearest word in the place of each token."""
    near: tuple[tuple[Near, ...], ...]
    """Of each token, the nearest first."""
    embeddings: Prompt
    """Of the nearest words."""

    @property
    def words(self) -> tuple[str, ...]:
        """The nearest word of each token."""
        return tuple(each[0].word for each in self.near)


def hard_prompt(told: Prompted, prompt: Prompt, *, near: int = 5, vocabulary: Vocabulary | None = None) -> HardPrompt:
    """What a soft prompt says in words of the vocabulary (the generator's unless given), and so many near words of every token."""
    vocabulary = vocabulary or told.vocabulary
    found = nearest(prompt, vocabulary, near)
    places = [vocabulary.places[each[0].word] for each in found]
    return HardPrompt(told.text([each[0].word for each in found]), found, vocabulary.table[places])


def nearest(prompt: Prompt, vocabulary: Vocabulary, count: int = 1) -> tuple[tuple[Near, ...], ...]:
    """The nearest words of each token, nearest first."""
    if not vocabulary.words or count < 1:
        raise ValueError(f"need words to choose from and at least one for each token, got {len(vocabulary.words)} and {count}")
    cosines = cosines_of(prompt.detach(), vocabulary.table.to(prompt)).topk(min(count, len(vocabulary.words)), dim=1)
    return tuple(
        tuple(Near(vocabulary.words[at], value) for at, value in zip(places, values, strict=True))
        for places, values in zip(cosines.indices.tolist(), cosines.values.tolist(), strict=True)
    )
