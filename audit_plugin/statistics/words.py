"""From pictures to words (specification 6.7): which phrases set captions of one group apart, and whether saying a word causes the class.

The first is a description, read off captions; the second an experiment on paired seeds, and the number that counts.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import gammaln

from audit_plugin.statistics.intervals import Interval, tango, wilson
from audit_plugin.statistics.multiplicity import benjamini_hochberg
from audit_plugin.statistics.signflip import mcnemar_exact


@dataclass(frozen=True, kw_only=True)
class PhraseLift:
    """How much more often a phrase is said of target pictures than of reference pictures."""

    phrase: str
    target: float
    """Share of target captions with the phrase, a."""
    reference: float
    """Share of reference captions with it, b."""
    lift: float
    """ln((a + 1/2n) / (b + 1/2m)), finite where a share is 0; above 0 where the target has it more often."""
    p: float
    """Fisher's exact test of equal shares, two-sided."""
    q: float
    """Benjamini-Hochberg over all phrases that were tested together."""
    margin: float | None
    """Mean similarity of picture and phrase, target minus reference; ``None`` without similarities."""

    def found(self, q: float = 0.05) -> bool:
        """Whether the target is told apart by this phrase's presence."""
        return self.lift > 0 and self.q < q


@dataclass(frozen=True, kw_only=True)
class WordEffect:
    """What a word in the prompt does to the share of pictures that the classifier takes for the class; same seeds with and without."""

    with_word: Interval
    without: Interval
    difference: Interval
    """With minus without, paired (Tango's score interval)."""
    p: float
    """Exact McNemar test, two-sided."""

    @property
    def causes(self) -> bool:
        """Whether the effect's lower limit is above 0; other words are no findings."""
        return self.difference.low > 0


def presence(captions: Sequence[str], phrases: Sequence[str]) -> Bool[np.ndarray, "n J"]:
    """Whether each caption holds each phrase: as whole words in this order, upper and lower case alike.

    >>> presence(["A cat on a Red Car.", "scarred"], ["red car", "car"]).tolist()
    [[True, True], [False, False]]
    """
    wanted = defaultdict[tuple[str, ...], list[int]](list)
    for column, phrase in enumerate(phrases):
        wanted[_words(phrase)].append(column)
    if () in wanted:
        raise ValueError(f"a phrase needs at least one word, got {phrases[wanted[()][0]]!r}")
    found, lengths = np.zeros((len(captions), len(phrases)), np.bool_), sorted({len(words) for words in wanted})
    for row, text in enumerate(map(_words, captions)):
        for length in lengths:
            for at in range(len(text) - length + 1):
                if columns := wanted.get(text[at : at + length]):
                    found[row, columns] = True
    return found


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[^\W_]+", text.casefold()))


def fisher_exact(hits_a: int, n_a: int, hits_b: int, n_b: int) -> float:
    """Fisher's exact test of equal proportions, two-sided: all tables with these margins that are no likelier than the observed one.

    >>> round(fisher_exact(8, 10, 2, 10), 4)
    0.023
    """
    if not (0 <= hits_a <= n_a and 0 <= hits_b <= n_b):
        raise ValueError(f"need 0 <= hits <= n in both groups, got {hits_a} of {n_a} and {hits_b} of {n_b}")
    hits = hits_a + hits_b
    a = np.arange(max(0, hits - n_b), min(hits, n_a) + 1)
    # P(a) is proportional to 1 / (a! (n_a - a)! (hits - a)! (n_b - hits + a)!)
    log_p = -gammaln(np.stack([a, n_a - a, hits - a, n_b - hits + a]) + 1.0).sum(axis=0)
    weights = np.exp(log_p - log_p.max())
    observed = weights[hits_a - a[0]]
    return float(min(1.0, weights[weights <= observed * (1 + 1e-7)].sum() / weights.sum()))


def margins(target: Float[np.ndarray, "n J"], reference: Float[np.ndarray, "m J"]) -> Float[np.ndarray, "J"]:
    """Mean picture-phrase similarity in the target minus that in the reference, per phrase."""
    if target.ndim != 2 or reference.ndim != 2 or target.shape[1] != reference.shape[1] or not (len(target) and len(reference)):
        raise ValueError(f"need similarities (pictures, phrases) of the same phrases, got {target.shape} and {reference.shape}")
    return np.asarray(target.mean(axis=0) - reference.mean(axis=0))


def phrase_lifts(
    phrases: Sequence[str],
    target: Bool[np.ndarray, "n J"],
    reference: Bool[np.ndarray, "m J"],
    *,
    margin: Float[np.ndarray, "J"] | None = None,
) -> tuple[PhraseLift, ...]:
    """Lift and test of every phrase, in the phrases' order; ``target`` and ``reference`` say which picture's caption holds which.

    The q-values are those of all phrases given: leave none out after looking.  Raises ValueError on shapes that disagree.
    """
    (n, m), count = (len(target), len(reference)), len(phrases)
    if (
        target.shape != (n, count)
        or reference.shape != (m, count)
        or not (n and m)
        or (margin is not None and len(margin) != count)
    ):
        raise ValueError(f"need presence (pictures, {count} phrases) of both groups, got {target.shape} and {reference.shape}")
    a, b = target.sum(axis=0), reference.sum(axis=0)
    lift = np.log((a + 0.5) / n) - np.log((b + 0.5) / m)
    p = np.array([fisher_exact(int(hits_a), n, int(hits_b), m) for hits_a, hits_b in zip(a, b, strict=True)])
    q = benjamini_hochberg(p)
    return tuple(
        PhraseLift(
            phrase=phrase,
            target=float(a[j] / n),
            reference=float(b[j] / m),
            lift=float(lift[j]),
            p=float(p[j]),
            q=float(q[j]),
            margin=None if margin is None else float(margin[j]),
        )
        for j, phrase in enumerate(phrases)
    )


def activation_score(hits: Bool[np.ndarray, "n"], *, level: float = 0.95) -> Interval:
    """Share of a prompt's pictures that the classifier takes for the class, with Wilson limits."""
    return wilson(int(hits.sum()), len(hits), level=level)


def word_effect(with_word: Bool[np.ndarray, "n"], without: Bool[np.ndarray, "n"], *, level: float = 0.95) -> WordEffect:
    """Causal word test: hits of the prompt with a word against the prompt without it, row for row under the same seed.

    Where several words are tested, raise ``level`` to 1 − 0.05 / words.  Raises ValueError on lists of different lengths.
    """
    if with_word.shape != without.shape or with_word.ndim != 1 or not len(with_word):
        raise ValueError(f"need two equally long lists of hits under the same seeds, got {with_word.shape} and {without.shape}")
    gained, lost = int((with_word & ~without).sum()), int((without & ~with_word).sum())
    return WordEffect(
        with_word=activation_score(with_word, level=level),
        without=activation_score(without, level=level),
        difference=tango(gained, lost, len(with_word), level=level),
        p=mcnemar_exact(gained, lost),
    )
