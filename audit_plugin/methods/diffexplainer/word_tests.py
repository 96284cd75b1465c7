"""The test that decides (specification 6.7, 5): the same seeds without a word and with it, and what the model says of both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from audit_plugin.core.discovery_results import WordPair
from audit_plugin.core.estimate import Estimate
from audit_plugin.methods.diffexplainer.asking import Ask
from audit_plugin.methods.diffexplainer.options import DiscoveryOptions
from audit_plugin.methods.diffexplainer.word_bank import BankWord
from audit_plugin.methods.diffexplainer.word_search import Contexts, Drawn, jaccard
from audit_plugin.statistics.intervals import Interval
from audit_plugin.statistics.multiplicity import benjamini_hochberg
from audit_plugin.statistics.paired_mean import student_interval
from audit_plugin.statistics.signflip import sign_flip
from audit_plugin.statistics.words import WordEffect, word_effect


@dataclass(frozen=True, kw_only=True, eq=False)
class Tested:
    """One word of one subject, tested."""

    word: BankWord
    effect: WordEffect
    shift: Interval | None
    p: float
    q: float
    causes: bool
    pairs: tuple[tuple[Drawn, Drawn], ...]
    """Without and with it."""
    shas: tuple[tuple[str, str], ...]
    change: Float[np.ndarray, "n"]
    """Of the score, pair by pair."""
    shown: Float[np.ndarray, "n 2"]
    """What the model said without and with it, as people read it."""
    taken: Bool[np.ndarray, "n"]
    """With the word."""
    taken_without: Bool[np.ndarray, "n"]

    def examples(self, most: int) -> tuple[WordPair, ...]:
        """The pairs of largest change, each a picture of its own."""
        order = np.argsort(-self.change, kind="stable")[:most].tolist()
        return tuple(
            WordPair(
                without_sha256=self.shas[at][0],
                with_sha256=self.shas[at][1],
                without_prompt=self.pairs[at][0].prompt,
                with_prompt=self.pairs[at][1].prompt,
                before=float(self.shown[at, 0]),
                after=float(self.shown[at, 1]),
            )
            for at in order
        )


def check_words(
    ask: Ask,
    contexts: Contexts,
    words: Sequence[BankWord],
    subject: int,
    options: DiscoveryOptions,
    *,
    graded: bool,
    by_score: bool = False,
) -> tuple[Tested, ...]:
    """Every word that has enough contexts, largest effect first; all of them are one family of tests.

    ``graded``: whether scores say more than labels do.  A class is decided for or not, and the share of decisions is tested.  A hidden unit
    (``by_score``) decides nothing: the mean change of its activation is tested, by Student's interval and sign flips.
    """
    drawn = {word: contexts.pairs(word.word, options.pairs, "test") for word in words}
    words = [word for word in words if len(drawn[word]) >= min(10, options.pairs)]
    if not words:
        return ()
    flat = [one for word in words for pair in drawn[word] for one in pair]
    told = ask([one.prompt for one in flat], [one.seed for one in flat], "pictures with and without words")
    level, found, start = 1 - 0.05 / len(words), list[Tested](), 0
    for word in words:
        pairs = drawn[word]
        mine = told.rows(slice(start, start + 2 * len(pairs)))
        start += 2 * len(pairs)
        taken, score = mine.taken[:, subject].reshape(-1, 2), mine.score[:, subject].reshape(-1, 2)
        change, effect = score[:, 1] - score[:, 0], word_effect(taken[:, 1], taken[:, 0], level=level)
        found.append(
            Tested(
                word=word,
                effect=effect,
                shift=student_interval(change) if graded else None,
                p=sign_flip(change, np.random.default_rng(start)).p if by_score else effect.p,
                q=1.0,
                causes=student_interval(change, level=level).low > 0 if by_score else effect.causes,
                pairs=tuple(pairs),
                shas=tuple(zip(mine.shas[::2], mine.shas[1::2], strict=True)),
                change=change,
                shown=mine.shown[:, subject].reshape(-1, 2),
                taken=taken[:, 1],
                taken_without=taken[:, 0],
            )
        )
    q = benjamini_hochberg(np.array([one.p for one in found]))
    judged = [_judged(one, float(value), options.q) for one, value in zip(found, q, strict=True)]

    def rank(one: Tested) -> tuple[float, float, str]:
        share, change = -one.effect.difference.value, -float(one.change.mean())
        return (change, share, one.word.word) if by_score else (share, change, one.word.word)

    return tuple(sorted(judged, key=rank))


def stability(tested: Sequence[Tested], level: float) -> float | None:
    """Jaccard index of the words that act in either half of the seeds; None where none does in either.  Seeds are apart, words the same."""
    halves: list[set[str]] = []
    for half in (0, 1):
        acting = set[str]()
        for one in tested:
            with_word, without = one.taken[half::2], one.taken_without[half::2]
            if len(with_word) > 1 and word_effect(with_word, without, level=1 - level / len(tested)).causes:
                acting.add(one.word.word)
        halves.append(acting)
    return jaccard(halves) if any(halves) else None


def estimate(interval: Interval) -> Estimate:
    """The same value."""
    return Estimate(value=interval.value, low=interval.low, high=interval.high)


def _judged(tested: Tested, q: float, alpha: float) -> Tested:
    return replace(tested, q=q, causes=tested.causes and q < alpha)
