"""Word search (specification 7.2): one pass over the bank for all subjects at once, the best words again, then compositions by beam.

Every word is put into the same contexts under the same seeds, so that the picture's chance cancels between words.  Words are chosen and
estimated on different seeds: the best of many is always a little lucky.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from audit_plugin.concepts.phrasing import Phrasing
from audit_plugin.core.seeds import digest, seed
from audit_plugin.methods.diffexplainer.asking import Answers, Ask
from audit_plugin.methods.diffexplainer.options import DiscoveryOptions
from audit_plugin.methods.diffexplainer.word_bank import BankWord

TRIES = 8
"""Contexts that a word is offered before it counts as one that fits nowhere."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A prompt and the seed that it is drawn under."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class Contexts:
    """Which context is drawn under which seed: by hash, other ones for every purpose."""

    phrasing: Phrasing
    name: str
    """Of the audit: all seeds follow from it."""

    def draws(self, words: Sequence[str], count: int, purpose: str) -> list[Drawn | None]:
        """So many prompts that say the words; None where they fit none of the contexts that are tried."""
        return [self._one(words, at, purpose) for at in range(count)]

    def plain(self, count: int, purpose: str) -> list[Drawn]:
        """So many contexts as they are."""
        return [Drawn(prompt=self._context(at, 0, purpose), seed=self._seed(at, purpose)) for at in range(count)]

    def pairs(self, word: str, count: int, purpose: str) -> list[tuple[Drawn, Drawn]]:
        """Without and with the word, the same seed and the same context."""
        found = []
        for at in range(count):
            for attempt in range(TRIES):
                without = self.phrasing.remove(self._context(at, attempt, purpose), word)
                said = self.phrasing.add(without, [word])
                if said is not None and said != without:
                    one = self._seed(at, purpose)
                    found.append((Drawn(prompt=without, seed=one), Drawn(prompt=said, seed=one)))
                    break
        return found

    def _one(self, words: Sequence[str], at: int, purpose: str) -> Drawn | None:
        for attempt in range(TRIES):
            if (said := self.phrasing.add(self._context(at, attempt, purpose), words)) is not None:
                return Drawn(prompt=said, seed=self._seed(at, purpose))
        return None

    def _context(self, at: int, attempt: int, purpose: str) -> str:
        contexts = self.phrasing.contexts
        return contexts[int(digest("context", self.name, purpose, str(at), str(attempt))[:8], 16) % len(contexts)]

    def _seed(self, at: int, purpose: str) -> int:
        return seed(self.name, f"discovery {purpose}", at)


@dataclass(frozen=True, eq=False, kw_only=True)
class Screened:
    """Every word of the bank, and how subjects respond to it."""

    words: tuple[BankWord, ...]
    """Those that fit some context."""
    score: Float[np.ndarray, "W S"]
    """Mean score, less the mean over all words under the same seeds."""
    draws: tuple[Drawn, ...] = ()
    """What was drawn for that …"""
    told: Answers | None = None
    """… and what the model said of it, row for row."""


def screen(ask: Ask, contexts: Contexts, bank: Sequence[BankWord], options: DiscoveryOptions) -> Screened:
    """The first pass: serves every subject."""
    count = options.seeds_of(len(bank))
    draws = [contexts.draws([word.word], count, "screen") for word in bank]
    fitting = [at for at, mine in enumerate(draws) if all(one is not None for one in mine)]
    if not fitting:
        return Screened(words=(), score=np.zeros((0, 0)))
    flat = tuple(one for at in fitting for one in draws[at] if one is not None)
    told = ask([one.prompt for one in flat], [one.seed for one in flat], f"words on {count} seeds each")
    mean = told.score.reshape(len(fitting), count, -1).mean(1)
    return Screened(words=tuple(bank[at] for at in fitting), score=mean - mean.mean(0), draws=flat, told=told)


def drawn_for(contexts: Contexts, bank: Sequence[BankWord], count: int) -> list[tuple[BankWord, list[Drawn]]]:
    """What the first pass draws of every word that fits some context."""
    draws = ((word, [one for one in contexts.draws([word.word], count, "screen") if one is not None]) for word in bank)
    return [(word, mine) for word, mine in draws if len(mine) == count]


@dataclass(frozen=True, eq=False, kw_only=True)
class Kept:
    """The best words of one subject."""

    words: tuple[BankWord, ...]
    """Highest score first."""
    score: tuple[float, ...]
    """On seeds that did not choose the shortlist."""


def best_words(
    ask: Ask, contexts: Contexts, screened: Screened, subject: int, *, options: DiscoveryOptions, further: Sequence[BankWord] = ()
) -> Kept:
    """Estimate the shortlist again; ``further`` words come from elsewhere and are kept whatever their score."""
    order = _best(screened.words, screened.score[:, subject] if screened.words else [])[: options.shortlist]
    have = {screened.words[at].word for at in order}
    short = [screened.words[at] for at in order] + [word for word in further if word.word not in have]
    draws = [contexts.draws([word.word], options.again_seeds, "again") for word in short]
    fitting = [at for at, mine in enumerate(draws) if all(one is not None for one in mine)]
    short, draws = [short[at] for at in fitting], [draws[at] for at in fitting]
    if not short:
        return Kept(words=(), score=())
    scores = _scores(ask, draws, "best words again")[:, :, subject]
    mean = scores.mean(1) - scores.mean()
    told = {word.word for word in further}
    kept = [at for place, at in enumerate(_best(short, mean)) if place < options.keep or short[at].word in told]
    return Kept(words=tuple(short[at] for at in kept), score=tuple(float(mean[at]) for at in kept))


def compose(ask: Ask, contexts: Contexts, kept: Kept, subject: int, options: DiscoveryOptions) -> list[tuple[str, ...]]:
    """Sets of words, best first: a beam of growing sets; of each size those are drawn whose words promise most one by one."""
    promise = {word.word: score for word, score in zip(kept.words, kept.score, strict=True)}
    beam: list[tuple[str, ...]] = [(word,) for word in list(promise)[: options.beam]]
    found: dict[tuple[str, ...], float] = {}
    for depth in range(1, options.depth + 1):
        if depth > 1:
            grown = {tuple(sorted({*some, word})) for some in beam for word in promise if word not in some}
            beam = sorted(grown, key=lambda some: (-sum(promise[word] for word in some), some))[: 2 * options.beam]
        draws = {some: contexts.draws(some, options.compose_seeds, "compose") for some in beam}
        fitting = [some for some in beam if all(one is not None for one in draws[some])]
        if not fitting:
            break
        scores = _scores(ask, [draws[some] for some in fitting], f"prompts of {depth} words")[:, :, subject].mean(1)
        found |= dict(zip(fitting, scores.tolist(), strict=True))
        beam = [fitting[at] for at in np.argsort(-scores, kind="stable")[: options.beam]]
    return sorted(found, key=lambda some: (-found[some], len(some), some))


def _best(words: Sequence[BankWord], scores: Sequence[float] | Float[np.ndarray, "W"]) -> list[int]:
    """Where the words stand, highest score first; equal ones by name, whatever the bank's order."""
    return sorted(range(len(words)), key=lambda at: (-scores[at], words[at].word))


def _scores(ask: Ask, draws: Sequence[Sequence[Drawn | None]], what: str) -> Float[np.ndarray, "W K S"]:
    flat = [one for mine in draws for one in mine if one is not None]
    told = ask([one.prompt for one in flat], [one.seed for one in flat], what).score
    return np.asarray(told.reshape(len(draws), -1, told.shape[1]))


def jaccard(sets: Iterable[set[Any]]) -> float:
    """Size of the intersection over that of the union, mean over pairs; 1 for a single set.

    >>> round(jaccard([{1, 2}, {2, 3}]), 3)
    0.333
    """
    pairs = list(combinations(list(sets), 2))
    return float(np.mean([len(a & b) / len(a | b) if a | b else 1.0 for a, b in pairs])) if pairs else 1.0
